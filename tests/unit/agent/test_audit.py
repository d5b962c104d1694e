"""The audit trail on a host of plain values: what hands did, what the agent did, and nothing else."""

import dataclasses
import json
import logging

import pytest

from tests.fixtures.binder import audited, host, lines
from tests.fixtures.builders import a_device
from tests.fixtures.fake_host import FakeHost, a_uuid

__all__ = ["host"]


def test_the_audit_trail_says_what_hands_did_and_whose_device_it_was(
    host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "usb_provider.audit")
    host.plug("1-2", serial="A1")
    host.start("vm")
    provider = host.hold("1-2", "vm")
    host.binder.run()
    assert [each["event"] for each in audited(caplog)] == ["attach"]  # nobody knows when it was plugged in
    host.unplug("1-2")
    host.binder.run()
    host.plug("1-2", serial="A1")
    host.binder.run()
    host.plug("1-3", serial="A2")
    host.binder.run()
    events = audited(caplog)
    assert [each["event"] for each in events] == ["attach", "unplug", "detach", "replug", "attach", "plug"]
    unplug = events[1]
    assert (unplug["guest"], unplug["guest_uuid"], unplug["provider_uuid"]) == ("vm", a_uuid("vm"), provider)
    assert (unplug["port"], unplug["usb_id"]) == ("1-2", "1050:0407")
    assert "guest" not in events[-1]


def test_a_device_that_came_back_before_anybody_looked_is_audited_as_unplugged_and_replugged(
    host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "usb_provider.audit")
    host.plug("1-2", serial="A1")
    host.binder.run()
    host.unplug("1-2")
    host.plug("1-5", serial="A1")
    host.binder.run()
    assert [(each["event"], each["port"]) for each in audited(caplog)] == [("unplug", "1-2"), ("replug", "1-5")]


def test_a_rule_that_comes_to_offer_a_device_that_was_there_all_along_is_no_plug_in_the_audit_trail(
    host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "usb_provider.audit")
    rules, host.specs = host.specs, ()
    host.plug("1-2", serial="A1")
    host.binder.run()
    host.specs = rules
    host.plug("1-3", serial="A2")
    host.binder.run()
    assert [(each["event"], each["port"]) for each in audited(caplog)] == [("plug", "1-3")]
    host.unplug("1-2")
    host.binder.run()
    assert [(each["event"], each["port"]) for each in audited(caplog)[1:]] == [("unplug", "1-2")]


def test_a_provider_that_was_deleted_and_is_made_anew_is_no_plug_in_the_audit_trail(
    host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "usb_provider.audit")
    host.plug("1-2", serial="A1")
    host.binder.run()
    made, host.providers = host.providers, set()
    host.binder.run()
    host.providers = made
    host.binder.run()
    assert audited(caplog) == []


def test_a_quiet_pass_audits_nothing(host: FakeHost, caplog: pytest.LogCaptureFixture) -> None:
    host.plug("1-2", serial="A1")
    host.binder.run()
    caplog.set_level(logging.INFO, "usb_provider.audit")
    host.binder.run()
    assert audited(caplog) == []


def test_each_attach_and_detach_is_one_line_and_a_quiet_pass_none(
    host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    host.plug("1-2", serial="A1")
    host.start("vm")
    host.hold("1-2", "vm")
    host.binder.run()
    assert len(lines(caplog)) == 1
    caplog.clear()
    host.binder.run()
    assert lines(caplog) == []
    host.unplug("1-2")
    host.binder.run()
    assert [json.loads(line)["event"] for line in lines(caplog)] == ["unplug", "detach"]


def test_a_controller_that_was_reset_is_not_said_to_be_an_unplug(
    host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "usb_provider.audit")
    root_hub = a_device("usb1", vendor_id="1d6b", product_id="0002", device_class="09", busnum=1, devnum=1)
    host.devices["usb1"] = root_hub
    host.plug("1-2", serial="A1")
    host.plug("1-3", serial="A2")
    host.start("vm")
    host.hold("1-2", "vm")
    host.binder.run()
    for port in ("1-2", "1-3", "usb1"):
        host.unplug(port)
    host.binder.run()
    why = "the device's USB controller is gone: it was reset, unbound or removed"
    lost = [(each["event"], each.get("reason")) for each in audited(caplog)[1:]]
    assert lost == [("unplug", why), ("unplug", why), ("detach", why)]
    host.devices["usb1"] = root_hub
    host.plug("1-2", serial="A1")
    host.binder.run()
    host.unplug("1-2")
    host.binder.run()
    lost = [(each["event"], each.get("reason")) for each in audited(caplog)[4:]]
    assert lost == [("replug", None), ("attach", None), ("unplug", None), ("detach", "the device was unplugged")]


def test_a_device_that_the_host_does_not_authorise_any_more_was_not_unplugged(
    host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "usb_provider.audit")
    host.plug("1-2", serial="A1")
    host.start("vm")
    host.hold("1-2", "vm")
    host.binder.run()
    host.devices["1-2"] = dataclasses.replace(host.devices["1-2"], authorized=False)
    host.binder.run()
    (line,) = audited(caplog)[1:]
    assert (line["event"], line["reason"]) == ("detach", "the host does not authorise the device any more")


def test_a_device_that_a_driver_of_the_host_has_taken_was_not_lost_at_a_restore(
    host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "usb_provider.audit")
    host.plug("1-2", serial="A1")
    host.start("vm")
    host.hold("1-2", "vm")
    host.binder.run()
    host.devices["1-2"] = dataclasses.replace(host.devices["1-2"], drivers=("usbhid",))
    host.binder.run()
    assert audited(caplog)[1]["reason"] == "a driver of the host has taken the device"


def test_a_device_that_was_lost_at_a_restore_is_said_to_be(host: FakeHost, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "usb_provider.audit")
    host.plug("1-2", serial="A1")
    host.start("vm")
    host.hold("1-2", "vm")
    host.binder.run()
    host.save_and_restore("vm", hook=False)
    host.binder.run()
    assert audited(caplog)[1]["reason"] == "the guest lost the device when it was restored or migrated"
