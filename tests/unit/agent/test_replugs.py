"""A device that comes back with its old number: libvirt shows its hostdev as before, and the guest has nothing.

A device that the host has no driver for (a reader, a token) looks the same to udev and libvirt after xhci_hcd was
unbound and bound again; only the number of the plug is another.
"""

import dataclasses
import logging
from collections.abc import Sequence

import pytest

from tests.fixtures.binder import audited, host, lines
from tests.fixtures.fake_host import FakeHost, a_uuid
from usb_provider.model.binding.attachments import Attachments

__all__ = ["host"]


@pytest.fixture
def attached(host: FakeHost) -> FakeHost:
    """Two guests with a device each."""
    for port, serial, name in (("1-2", "A1", "vm"), ("1-3", "A2", "other")):
        host.plug(port, serial=serial)
        host.start(name)
        host.hold(port, name)
    host.binder.run()
    assert (host.has("vm"), host.has("other")) == ({"1-2"}, {"1-3"})
    host.history.clear()
    return host


def states(host: FakeHost) -> Sequence[object]:
    return [device["state"] for guest in host.status() for device in guest["devices"]]


def test_a_device_that_is_back_at_its_old_number_is_attached_again(attached: FakeHost) -> None:
    numbers = [(device.busnum, device.devnum) for device in attached.devices.values()]
    attached.reset_controller()
    assert attached.has("vm") == set()
    assert [(device.busnum, device.devnum) for device in attached.devices.values()] == numbers
    attached.binder.run()
    assert (attached.has("vm"), attached.has("other")) == ({"1-2"}, {"1-3"})
    assert states(attached) == ["attached", "attached"]


def test_the_audit_trail_tells_of_the_unplug_and_names_the_reason_of_the_detach(
    attached: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    attached.stop("other")
    attached.binder.run()
    caplog.set_level(logging.INFO, "usb_provider.audit")
    attached.reset_controller()
    attached.binder.run()
    of_the_guest = [line for line in audited(caplog) if line.get("guest") == "vm"]
    assert [line["event"] for line in of_the_guest] == ["unplug", "replug", "detach", "attach"]
    assert of_the_guest[2]["reason"] == "the device was plugged in again, or its controller was reset"


def test_a_device_that_comes_back_while_the_agent_is_down_is_attached_again(attached: FakeHost) -> None:
    attached.reset_controller()
    attached.restart_agent()
    attached.binder.run()
    assert attached.has("vm") == {"1-2"}


def test_a_restart_of_the_agent_alone_touches_no_device(attached: FakeHost) -> None:
    attached.restart_agent()
    attached.binder.run()
    assert attached.history == []


def test_what_an_earlier_release_attached_counts_as_attached_and_a_later_reset_is_noticed(attached: FakeHost) -> None:
    attached.attachments = Attachments()
    attached.restart_agent()
    attached.binder.run()
    assert attached.history == []
    attached.reset_controller()
    attached.binder.run()
    assert attached.has("vm") == {"1-2"}


def test_where_plugs_cannot_be_told_apart_no_device_is_detached_for_it(host: FakeHost) -> None:
    host.plug("1-2")
    host.devices["1-2"] = dataclasses.replace(host.devices["1-2"], plug_number=None)
    host.start("vm")
    host.hold("1-2", "vm")
    host.binder.run()
    host.devices["1-2"] = dataclasses.replace(host.devices["1-2"], plug_number=77)
    host.binder.run()
    host.devices["1-2"] = dataclasses.replace(host.devices["1-2"], plug_number=None)
    host.binder.run()
    assert [what for what, _, _ in host.history] == ["attach"]


def test_a_reset_between_the_look_and_the_attach_never_counts_as_the_later_plug(
    host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    host.plug("1-2", serial="A1")
    host.start("vm")
    host.hold("1-2", "vm")
    host.before_attach.append(host.reset_controller)
    host.binder.run()
    host.binder.run()
    assert host.has("vm") == {"1-2"}
    assert any("was plugged in again while the agent attached it" in line for line in lines(caplog, logging.WARNING))
    assert [plug.plug_number for plug in host.attachments.plugs.values()] == [host.devices["1-2"].plug_number]


def test_a_crash_right_after_an_attach_leaves_the_plug_that_was_looked_up(host: FakeHost) -> None:
    looked_up = host.plug("1-2", serial="A1").plug_number
    host.start("vm")
    host.hold("1-2", "vm")
    kept: list[Attachments] = []
    host.before_attach.append(lambda: kept.append(host.attachments))
    host.binder.run()
    assert [plug.plug_number for plug in kept[0].plugs.values()] == [looked_up]


def test_what_ends_is_forgotten(attached: FakeHost) -> None:
    attached.stop("other")
    attached.binder.run()
    assert [guest for guest, _ in attached.attachments.plugs] == [a_uuid("vm")]


def test_after_a_reboot_of_the_host_each_guest_gets_its_device_once(attached: FakeHost) -> None:
    """Every number is another one, and each guest starts anew."""
    for name in ("vm", "other"):
        attached.stop(name)
    attached.reset_controller()
    attached.restart_agent()
    for name in ("vm", "other"):
        attached.start(name)
    attached.binder.run()
    attached.binder.run()
    assert sorted(what for what, _, _ in attached.history) == ["attach", "attach"]
    assert (attached.has("vm"), attached.has("other")) == ({"1-2"}, {"1-3"})


@pytest.mark.parametrize("hook", [True, False])
def test_a_reset_while_a_guest_is_saved_is_no_second_cause_to_detach(attached: FakeHost, hook: bool) -> None:
    attached.save_and_restore("vm", hook=hook)
    attached.reset_controller()
    attached.binder.run()
    assert attached.has("vm") == {"1-2"}
    assert [(what, name) for what, name, _ in attached.history if name == "vm"] == [("detach", "vm"), ("attach", "vm")]


def test_a_device_that_a_guest_gave_no_configuration_stays_with_it(attached: FakeHost) -> None:
    attached.devices["1-2"] = dataclasses.replace(attached.devices["1-2"], configured=False, interfaces=())
    attached.binder.run()
    assert (attached.has("vm"), attached.history) == ({"1-2"}, [])
