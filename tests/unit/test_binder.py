"""The binder on a host of plain values: what a guest holds it has, and nothing else, whatever happens between."""

import logging

import pytest

from tests.fixtures.fake_host import FakeHost, a_uuid
from usb_provider import binder as binder_module
from usb_provider.exception import AttachRefused, Unavailable
from usb_provider.model.device import HostUse, UseKind
from usb_provider.model.hostdev import Hostdev


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed is tried again at the next pass; how long it waits has a test of its own."""
    monkeypatch.setattr(binder_module, "_FIRST_RETRY", 0.0)
    monkeypatch.setattr(binder_module, "_SUSPECT_SECONDS", 0.0)


def test_a_guest_that_holds_a_device_has_it_after_one_pass(host: FakeHost) -> None:
    host.plug("1-2", serial="A1")
    host.start("vm")
    host.hold("1-2", "vm")
    host.binder.run()
    assert host.has("vm") == {"1-2"}


def test_two_like_devices_each_go_to_the_guest_that_holds_them(host: FakeHost) -> None:
    for port, serial, name in (("1-2", "A1", "left"), ("1-3", "A2", "right")):
        host.plug(port, serial=serial)
        host.start(name)
        host.hold(port, name)
    host.start("bystander")
    host.binder.run()
    assert (host.has("left"), host.has("right"), host.has("bystander")) == ({"1-2"}, {"1-3"}, set())


def test_a_pass_with_nothing_to_do_touches_nothing(host: FakeHost) -> None:
    host.plug("1-2")
    host.start("vm")
    host.hold("1-2", "vm")
    host.binder.run()
    before = list(host.history)
    assert host.binder.run() is None
    assert host.history == before


def test_an_unplugged_device_is_detached_at_once_and_is_back_when_it_is_plugged_in_again(host: FakeHost) -> None:
    host.plug("1-2", serial="A1")
    host.start("vm")
    host.hold("1-2", "vm")
    host.binder.run()
    host.unplug("1-2")
    host.binder.run()
    assert host.domains["vm"].hostdevs == []
    host.plug("1-2", serial="A1")
    host.binder.run()
    assert host.has("vm") == {"1-2"}


def test_a_device_with_a_serial_is_back_from_another_port(host: FakeHost) -> None:
    host.plug("1-2", serial="A1")
    host.start("vm")
    host.hold("1-2", "vm")
    host.binder.run()
    host.unplug("1-2")
    host.plug("1-4", serial="A1")
    host.binder.run()
    assert host.has("vm") == {"1-4"}


def test_another_device_in_the_old_port_is_never_attached(host: FakeHost) -> None:
    host.plug("1-2", serial="A1")
    host.start("vm")
    host.hold("1-2", "vm")
    host.binder.run()
    host.unplug("1-2")
    host.plug("1-2", serial="B2")
    host.binder.run()
    host.binder.run()
    assert host.has("vm") == set()
    assert host.domains["vm"].hostdevs == []


def test_a_device_that_resets_itself_between_two_looks_is_attached_anew(host: FakeHost) -> None:
    host.plug("1-2", serial="A1")
    host.start("vm")
    host.hold("1-2", "vm")
    host.binder.run()
    host.unplug("1-2")
    host.plug("1-2", serial="A1")
    host.binder.run()
    assert host.has("vm") == {"1-2"}
    assert len(host.domains["vm"].hostdevs) == 1


def test_a_number_that_changes_between_look_up_and_attach_never_gives_the_wrong_device(host: FakeHost) -> None:
    first = host.plug("1-2", serial="A1")
    host.start("vm")
    host.hold("1-2", "vm")

    def swap() -> None:
        host.unplug("1-2")
        # A twin takes the very number that was looked up; the right one comes back with another.
        host.devices["1-3"] = type(first)(**{**_fields(first), "sys_name": "1-3", "port_path": "3", "serial": "B2"})
        host.plug("1-2", serial="A1")

    host.before_attach.append(swap)
    host.binder.run()
    host.binder.run()
    assert host.has("vm") == {"1-2"}
    assert len(host.domains["vm"].hostdevs) == 1


def test_an_allocation_that_is_removed_takes_the_device_with_it(
    host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    host.plug("1-2")
    host.start("vm")
    provider = host.hold("1-2", "vm")
    host.binder.run()
    del host.allocations[provider]
    with caplog.at_level(logging.INFO, "usb_provider.audit"):
        host.binder.run()
    assert host.domains["vm"].hostdevs == []
    assert "no longer holds its allocation" in caplog.text


def test_an_allocation_that_moves_to_a_migration_leaves_the_device_where_it_is(host: FakeHost) -> None:
    host.plug("1-2")
    host.start("vm")
    provider = host.hold("1-2", "vm")
    host.binder.run()
    host.allocations[provider] = a_uuid("a migration, which is no guest here")
    host.binder.run()
    assert host.has("vm") == {"1-2"}


def test_an_allocation_that_moves_to_another_guest_here_takes_the_device_along(host: FakeHost) -> None:
    host.plug("1-2")
    host.start("vm")
    host.start("heir")
    host.hold("1-2", "vm")
    host.binder.run()
    host.hold("1-2", "heir")
    host.binder.run()
    assert (host.has("vm"), host.has("heir")) == (set(), {"1-2"})


@pytest.mark.parametrize("hook", [True, False])
def test_a_restored_guest_has_a_live_device_again(host: FakeHost, hook: bool) -> None:
    host.plug("1-2", serial="A1")
    host.plug("1-3", serial="A2")
    host.start("vm")
    host.hold("1-2", "vm")
    host.hold("1-3", "vm")
    host.binder.run()
    host.save_and_restore("vm", hook=hook)
    host.binder.run()
    assert host.has("vm") == {"1-2", "1-3"}


def test_placeholders_all_go_before_anything_is_attached(host: FakeHost) -> None:
    for port in ("1-2", "1-3"):
        host.plug(port, serial=port)
        host.start("vm")
        host.hold(port, "vm")
    host.binder.run()
    host.save_and_restore("vm")
    host.history.clear()
    host.binder.run()
    assert [what for what, _, _ in host.history] == ["detach", "detach", "attach", "attach"]


def test_a_guest_that_is_on_its_way_in_is_left_alone_until_it_has_arrived(host: FakeHost) -> None:
    host.plug("1-2")
    host.start("vm").busy = True
    host.hold("1-2", "vm")
    assert host.binder.run() is not None, "somebody has to look again"
    assert host.history == []
    host.domains["vm"].busy = False
    host.binder.run()
    assert host.has("vm") == {"1-2"}


def test_a_crash_of_the_agent_forgets_nothing_that_matters(host: FakeHost) -> None:
    host.plug("1-2")
    host.start("vm")
    host.hold("1-2", "vm")
    host.binder.run()
    host.restart_agent()
    before = list(host.history)
    host.binder.run()
    assert host.history == before


def test_hostdevs_that_are_not_ours_are_left_alone(host: FakeHost) -> None:
    device = host.plug("1-2")
    theirs = Hostdev("hostdev0", device.vendor_id, device.product_id, device.busnum, device.devnum)
    host.start("theirs").hostdevs.append(theirs)
    host.start("vm")
    host.hold("1-2", "vm")
    host.binder.run()
    assert host.domains["theirs"].hostdevs == [theirs]
    assert host.binder.status()[0]["devices"][0]["reason"] == "guest theirs has it"


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"interfaces": (("09", "00", "00"),)}, "hub"),
        ({"uses": (HostUse(UseKind.MOUNTED, "sdb1 is mounted on /mnt"),)}, "mounted"),
        ({"vendor_id": "dead"}, "none of the 1 device_spec rules"),
    ],
)
def test_what_is_not_offered_is_never_attached_even_with_a_forged_allocation(
    host: FakeHost, facts: dict[str, object], why: str
) -> None:
    host.plug("1-2", **facts)
    uuid = host.uuid_of("1-2")
    host.providers.add(uuid)
    host.start("vm")
    host.hold("1-2", "vm")
    host.binder.run()
    assert host.history == []
    assert why in host.binder.status()[0]["devices"][0]["reason"]


def test_a_failing_attach_is_tried_again_and_said_once(host: FakeHost, caplog: pytest.LogCaptureFixture) -> None:
    host.plug("1-2")
    host.start("vm")
    host.hold("1-2", "vm")
    for _ in range(2):
        host.before_attach.append(lambda: host.faults.append(AttachRefused("libvirt says: no.")))
        host.binder.run()
    assert caplog.text.count("libvirt says: no.") == 1
    host.binder.run()
    assert host.has("vm") == {"1-2"}


def test_a_failure_is_not_tried_again_at_once(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binder_module, "_FIRST_RETRY", 30.0)
    host.plug("1-2")
    host.start("vm")
    host.hold("1-2", "vm")
    host.before_attach.append(lambda: host.faults.append(AttachRefused("libvirt says: no.")))
    again = host.binder.run()
    assert again is not None and 20 < again <= 30
    host.binder.run()
    assert host.history == []


def test_libvirt_being_away_is_told_to_the_caller(host: FakeHost) -> None:
    host.faults.append(Unavailable("libvirt does not answer."))
    with pytest.raises(Unavailable):
        host.binder.run()


def test_status_says_what_each_guest_should_have_and_has(host: FakeHost) -> None:
    host.plug("1-2", serial="A1")
    host.start("vm")
    host.hold("1-2", "vm")
    host.binder.run()
    (guest,) = host.binder.status()
    (device,) = guest["devices"]
    assert (guest["name"], device["state"], device["reason"]) == ("vm", "attached", None)
    since = device["since"]
    host.binder.run()
    assert host.binder.status()[0]["devices"][0]["since"] == since
    host.unplug("1-2")
    host.binder.run()
    assert host.binder.status()[0]["devices"][0]["reason"] == "it is not plugged in"


def _fields(device: object) -> dict[str, object]:
    import dataclasses

    return {field.name: getattr(device, field.name) for field in dataclasses.fields(device)}  # type: ignore[arg-type]
