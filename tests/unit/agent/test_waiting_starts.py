"""Starts before the agent has read Placement: which wait, for how long, and what ends the wait."""

import time

import pytest

from tests.fixtures.binder import host, waiting_starts
from tests.fixtures.domain_xml import a_domain_xml, a_hostdev_xml, an_alias
from tests.fixtures.fake_host import FakeHost, a_uuid

__all__ = ["host"]

ASKS = {"resources:CUSTOM_USB_KEY": "1"}
XML = a_domain_xml("vm", a_uuid("vm"), extra_specs=ASKS)
SAID = "The agent has not read this host's devices from Placement yet."


@pytest.fixture(autouse=True)
def unread(host: FakeHost) -> None:
    """The guest "vm" holds a device that is there, and the agent has not read Placement yet."""
    host.plug("1-2")
    host.hold("1-2", "vm")
    host.is_unread = True


def read_at(host: FakeHost, look: int) -> None:
    """Let Placement be read when an answer wants it for the *look*-th time."""

    def when_looking() -> None:
        host.is_unread = host.looks < look

    host.when_looking = when_looking


def test_a_start_waits_until_placement_has_been_read(host: FakeHost) -> None:
    read_at(host, 3)
    assert host.ask("prepare", XML, seconds=20.0) == {}
    assert host.looks == 3, "it has asked for a pass each time"


def test_below_nova_32_a_start_waits_too_where_the_guest_holds_more_than_its_compute_nodes_resources(
    host: FakeHost,
) -> None:
    host.claimed_by_nova.add(a_uuid("vm"))
    read_at(host, 3)
    assert host.ask("prepare", a_domain_xml("vm", a_uuid("vm"), nova="31.3.1"), seconds=20.0) == {}
    assert host.looks == 3


def test_a_live_migration_waits_likewise(host: FakeHost) -> None:
    read_at(host, 2)
    xml = a_domain_xml("vm", a_uuid("vm"), extra_specs=ASKS, devices=[a_hostdev_xml(an_alias())])
    assert "xml" in host.ask("migrate", xml, seconds=20.0)


def test_a_start_is_refused_shortly_before_the_hook_gives_up(host: FakeHost) -> None:
    began = time.monotonic()
    assert host.ask("prepare", XML, seconds=1.0) == {"refuse": SAID}
    assert 0.5 <= time.monotonic() - began < 1.0


def test_a_hook_that_does_not_say_how_long_it_waits_is_answered_at_once(host: FakeHost) -> None:
    assert host.ask("prepare", XML) == {"refuse": SAID}
    assert host.looks == 0


@pytest.mark.parametrize("operation", ["prepare", "started", "migrate", "restore"])
def test_a_guest_without_usb_waits_for_nothing(host: FakeHost, operation: str) -> None:
    assert host.ask(operation, a_domain_xml("other", a_uuid("other")), seconds=20.0) == {}
    assert host.looks == 0


def test_a_guest_from_a_save_file_waits_for_nothing(host: FakeHost) -> None:
    restored = host.ask("restore", XML, seconds=20.0)["xml"]
    assert host.ask("prepare", restored, seconds=20.0) == {}
    assert host.looks == 0


def test_starts_that_wait_leave_turns_to_others(host: FakeHost) -> None:
    with waiting_starts(host, XML, lambda: host.looks):
        began = time.monotonic()
        try:
            assert host.ask("prepare", XML, seconds=30.0) == {"refuse": SAID}
            assert time.monotonic() - began < 5.0
        finally:
            host.is_unread = False


# What was refused only since it came too early


def test_a_start_that_came_too_early_is_named_with_the_command_that_repeats_it(host: FakeHost) -> None:
    host.ask("prepare", XML)
    host.is_unread = False
    host.unplug("1-2")
    (row,) = host.status()
    command = f"openstack server reboot --hard {a_uuid('vm')}"
    assert (row["refused"]["reason"], row["refused"]["command"]) == (SAID, command)
    host.ask("prepare", XML)
    (row,) = host.status()
    assert "not plugged in" in row["refused"]["reason"]
    assert row["refused"]["command"] == command
    host.plug("1-2")
    assert host.ask("prepare", XML) == {}
    assert host.status() == []


def test_a_server_that_nova_has_built_elsewhere_since_is_not_to_be_started(host: FakeHost) -> None:
    host.ask("prepare", XML)
    host.is_unread = False
    host.allocations.clear()
    (row,) = host.status()
    assert "command" not in row["refused"]


@pytest.mark.parametrize("why", ["controller", "live migration"])
def test_a_refusal_that_time_does_not_mend_has_no_such_command(host: FakeHost, why: str) -> None:
    host.is_unread = why != "controller"
    bare = a_domain_xml("vm", a_uuid("vm"), usb_model="none", extra_specs=ASKS)
    arriving = a_domain_xml("vm", a_uuid("vm"), extra_specs=ASKS, devices=[a_hostdev_xml(an_alias())])
    said = host.ask("prepare", bare) if why == "controller" else host.ask("migrate", arriving)
    assert "refuse" in said
    host.is_unread = False
    (row,) = host.status()
    assert "command" not in row["refused"]
