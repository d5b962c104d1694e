"""Guests that come from a save file: whatever has happened meanwhile, none is refused."""

import logging
import time

import pytest

from tests.fixtures.binder import host, lines
from tests.fixtures.domain_xml import a_domain_xml, a_hostdev_xml
from tests.fixtures.fake_host import FakeHost, a_uuid

__all__ = ["host"]

ASKS = {"resources:CUSTOM_USB_KEY": "1"}


def saved(provider: str | None) -> str:
    """The domain "vm" as it is in its save file, with the device of *provider*, or with none that it had at the end."""
    devices = [] if provider is None else [a_hostdev_xml(f"ua-usb-{provider}")]
    return a_domain_xml("vm", a_uuid("vm"), extra_specs=ASKS, devices=devices)


@pytest.fixture
def provider(host: FakeHost) -> str:
    """What the guest "vm" holds; its device was unplugged."""
    host.plug("1-2")
    provider = host.hold("1-2", "vm")
    host.unplug("1-2")
    return provider


@pytest.mark.parametrize("has_hostdev", [True, False])
@pytest.mark.parametrize("between", ["nothing", "agent restarted", "placement away"])
def test_a_guest_from_a_save_file_goes_on_without_the_device_that_was_unplugged(
    host: FakeHost, provider: str, between: str, has_hostdev: bool, caplog: pytest.LogCaptureFixture
) -> None:
    answer = host.ask("restore", saved(provider if has_hostdev else None))
    if between == "agent restarted":
        host.restart_agent()
    host.placement_up = between != "placement away"
    assert host.ask("prepare", answer["xml"]) == {}
    (said,) = lines(caplog, logging.WARNING)
    assert said.startswith("Guest vm comes from a save file and goes on without a device: USB device ")


def test_a_guest_whose_flavor_says_nothing_is_known_by_the_restore_before(host: FakeHost, provider: str) -> None:
    xml = a_domain_xml("vm", a_uuid("vm"))
    assert host.ask("restore", xml) == {}, "there is nothing to change"
    assert host.ask("prepare", xml) == {}
    assert "not plugged in" in host.ask("prepare", xml)["refuse"], "the next is a start"


def test_a_restore_that_was_given_up_long_ago_lets_no_start_pass(
    host: FakeHost, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.ask("restore", saved(provider))
    later = time.monotonic() + 3600.0
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert "not plugged in" in host.ask("prepare", saved(None))["refuse"]


def test_a_guest_that_arrives_live_for_a_device_that_is_gone_is_refused_though_it_was_once_restored(
    host: FakeHost, provider: str
) -> None:
    restored = host.ask("restore", saved(provider))["xml"]
    host.ask("prepare", restored)
    arriving = host.ask("migrate", restored)["xml"]
    assert "not plugged in" in host.ask("prepare", arriving)["refuse"]


def test_a_domain_in_a_save_file_that_is_not_understood_is_let_pass(
    host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    assert host.ask("restore", "<not-closed>") == {}
    assert "The agent cannot read the domain of guest instance-1: " in caplog.text


def test_a_refusal_of_a_start_is_over_when_the_guest_is_restored(host: FakeHost, provider: str) -> None:
    assert "refuse" in host.ask("prepare", saved(None))
    host.ask("prepare", host.ask("restore", saved(provider))["xml"])
    assert host.status() == []
