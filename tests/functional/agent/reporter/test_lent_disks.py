"""A guest's writing takes no disk from the pool, and udev is told which disks the host must leave alone."""

import dataclasses

import pytest

from tests.fixtures.reporting import consumer, yubikey
from usb_provider.model.devices import lent
from usb_provider.model.devices.device import HostUse, UseKind
from usb_provider.model.devices.offer import OfferReason

STICK = yubikey("Y1", "1", interfaces=(("08", "06", "50"),), has_disk=True)
MARK = HostUse(UseKind.MEMBER, "sdb1 is marked as LVM2_member", "LVM2_member one")
WRITTEN = dataclasses.replace(STICK, uses=(MARK,))
BY_QEMU = dataclasses.replace(STICK, has_disk=False, drivers=("usbfs",))


def verdict(done):
    (each,) = done.devices
    return each.verdict


@pytest.fixture
def returned(placement, host, root):
    """An instance had the stick, and is gone; the host has not looked since."""
    host.plug(STICK)
    (each,) = host.run().devices
    server = consumer()
    placement.allocate(server, {each.provider_uuid: {"CUSTOM_USB_KEY": 1}})
    host.plug(BY_QEMU)
    assert verdict(host.run()) is OfferReason.OFFERED
    placement.release(server)
    return host


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_what_an_instance_wrote_is_its_own_after_it_is_gone(returned, restarted):
    if restarted:
        returned.restart()
    returned.plug(WRITTEN)
    assert verdict(returned.run()) is OfferReason.OFFERED
    returned.restart()
    assert verdict(returned.run()) is OfferReason.OFFERED


def test_a_volume_group_that_the_host_makes_on_a_free_disk_withdraws_it(host, root):
    host.plug(STICK)
    assert verdict(host.run()) is OfferReason.OFFERED
    host.plug(WRITTEN)
    assert verdict(host.run()) is OfferReason.HOST_USE


def test_what_comes_long_after_the_disk_is_back_is_the_hosts(returned, monkeypatch):
    returned.plug(STICK)
    returned.run()
    monkeypatch.setattr(lent, "BACK_SECONDS", 0.0)
    returned.plug(WRITTEN)
    assert verdict(returned.run()) is OfferReason.HOST_USE


def test_udev_is_told_of_each_disk_that_is_for_guests(host, root):
    marks = host.directory / "state" / "disks"
    host.plug(STICK)
    host.run()
    assert [path.name for path in marks.iterdir()] == ["1050:0407:Y1"]
    host.unplug(STICK)
    host.run()
    assert [path.name for path in marks.iterdir()] == ["1050:0407:Y1"]
    host.plug(STICK)
    host.rules({"vendor_id": "1050", "exclude": True})
    host.run()
    assert list(marks.iterdir()) == []


def test_udev_leaves_the_hosts_own_disk_to_the_host_though_it_has_the_serial_number_of_one_for_guests(host, root):
    marks = host.directory / "state" / "disks"
    own = dataclasses.replace(STICK, sys_path=STICK.sys_path.replace("1-1", "1-2"), sys_name="1-2", port_path="2")
    host.rules({"vendor_id": "1050", "port": "2", "exclude": True}, {"vendor_id": "1050"})
    host.plug(STICK)
    host.run()
    assert [path.name for path in marks.iterdir()] == ["1050:0407:Y1"]
    host.plug(own)
    host.run()
    assert [path.name for path in marks.iterdir()] == ["1050:0407@1-1"]
    host.unplug(own)
    host.run()
    assert [path.name for path in marks.iterdir()] == ["1050:0407:Y1"]


def test_udev_knows_a_disk_by_its_port_where_each_of_its_model_has_its_serial_number(host, root):
    host.plug(dataclasses.replace(STICK, serial="0123456789ABCDEF"))
    host.run()
    assert [path.name for path in (host.directory / "state" / "disks").iterdir()] == ["1050:0407@1-1"]
