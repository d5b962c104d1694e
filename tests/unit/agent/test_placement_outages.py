"""Starts and live migrations while Placement does not answer: which wait, for how long, and what ends the wait."""

import time

import pytest

from tests.fixtures.binder import host, waiting_starts
from tests.fixtures.domain_xml import a_domain_xml, a_hostdev_xml, an_alias
from tests.fixtures.fake_host import FakeHost, Never, a_uuid
from usb_provider.exception import AccessRefused

__all__ = ["host"]

XML = a_domain_xml("vm", a_uuid("vm"), extra_specs={"resources:CUSTOM_USB_KEY": "1"})
SAID = "The agent cannot ask Placement what this instance holds."


@pytest.fixture(autouse=True)
def away(host: FakeHost) -> None:
    """The guest "vm" holds a device that is there; Placement is away since the agent has read it."""
    host.plug("1-2")
    host.hold("1-2", "vm")
    host.placement_up = False


def back_at(host: FakeHost, question: int) -> None:
    """Let Placement be back when an answer asks it for the *question*-th time."""

    def when_asked() -> None:
        host.placement_up = host.questions >= question

    host.when_asked = when_asked


def test_a_start_waits_until_placement_is_back(host: FakeHost) -> None:
    back_at(host, 3)
    assert host.ask("prepare", XML, seconds=20.0) == {}
    assert host.questions == 3


def test_a_start_of_a_guest_that_held_a_device_before_waits_likewise(host: FakeHost) -> None:
    back_at(host, 2)
    assert host.ask("prepare", a_domain_xml("vm", a_uuid("vm")), seconds=20.0) == {}
    assert host.questions == 2


def test_a_live_migration_waits_likewise(host: FakeHost) -> None:
    back_at(host, 2)
    arriving = a_domain_xml("vm", a_uuid("vm"), devices=[a_hostdev_xml(an_alias())])
    assert "xml" in host.ask("migrate", arriving, seconds=20.0)


def test_a_start_is_refused_shortly_before_the_hook_gives_up(host: FakeHost) -> None:
    began = time.monotonic()
    assert host.ask("prepare", XML, seconds=1.0) == {"refuse": SAID}
    assert 0.5 <= time.monotonic() - began < 1.0


def test_a_placement_that_hangs_is_asked_again_and_the_hook_is_answered_in_time(host: FakeHost) -> None:
    host.askers = Never()
    host.restart_agent()
    began = time.monotonic()
    assert host.ask("prepare", XML, seconds=1.0) == {"refuse": SAID}
    assert 0.5 <= time.monotonic() - began < 1.0


def test_a_hook_that_does_not_say_how_long_it_waits_is_answered_at_once(host: FakeHost) -> None:
    assert host.ask("prepare", XML) == {"refuse": SAID}
    assert host.questions == 1


def test_credentials_that_placement_does_not_accept_are_waited_for_by_no_start(host: FakeHost) -> None:
    def when_asked() -> None:
        raise AccessRefused("Keystone does not accept the credentials.")

    host.when_asked = when_asked
    assert host.ask("prepare", XML, seconds=20.0) == {"refuse": SAID}
    assert host.questions == 1


@pytest.mark.parametrize("operation", ["prepare", "started", "migrate", "restore"])
def test_a_guest_without_usb_waits_for_nothing(host: FakeHost, operation: str) -> None:
    assert host.ask(operation, a_domain_xml("other", a_uuid("other")), seconds=20.0) == {}
    assert host.questions <= 1


def test_starts_that_wait_leave_turns_to_others(host: FakeHost) -> None:
    with waiting_starts(host, XML, lambda: host.questions):
        began = time.monotonic()
        try:
            assert host.ask("prepare", XML, seconds=30.0) == {"refuse": SAID}
            assert time.monotonic() - began < 5.0
        finally:
            host.placement_up = True
