"""The host leaves disks alone that are for guests, whatever guests write on them. Real udev with LVM, md and bcache."""

import json
import time
from pathlib import Path

import pytest

from tests.integration.lab import domains
from tests.integration.lab.agent import QUICK, STICKS
from tests.integration.lab.cloud import Cloud
from tests.integration.lab.report import eventually
from tests.integration.lab.vm import Vm

WRITTEN = {
    "LVM": "pvcreate -q {0} && vgcreate -q guests {0} && lvcreate -q --activate n --extents 1 --name data guests",
    "MD": "yes | mdadm --create /dev/md/guests --level=1 --force --raid-devices=1 {0} && mdadm --stop /dev/md/guests",
    "BCACHE": "make-bcache -B {0}",
}
"""What the host takes into service by itself, and how to write it on a disk."""

LET_GO = (
    "dmsetup remove_all --force; mdadm --stop --scan; rm -f /run/lvm/*_online/* /run/lvm/pvs_lookup/*; "
    "for each in /sys/block/bcache*/bcache/stop; do [ ! -e $each ] || echo 1 > $each; done"
)
"""Has the host forget a disk that is gone; LVM does not activate a volume group again that it knows as activated."""


def disk(vm: Vm, serial: str) -> str:
    """The name of the block device of the stick with *serial*, once udev is ready with it and with what follows it."""
    link = f"/dev/disk/by-id/usb-*_{serial}-0:0"
    name = vm.wait_for(f"[ -b {link} ] && basename $(readlink {link})").strip()
    vm.ssh("udevadm settle")
    return name


def holders(vm: Vm, serial: str) -> list[str]:
    """What the host has made of the stick with *serial*: names of volumes and arrays."""
    return vm.ssh(f"ls /sys/block/{disk(vm, serial)}/holders").split()


def stays_unheld(vm: Vm, *serials: str, seconds: float = 10) -> None:
    """Pass when the host makes nothing of any of these sticks for *seconds*: systemd activates volumes later."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert {serial: holders(vm, serial) for serial in serials} == {serial: [] for serial in serials}
        time.sleep(1)


def image(vm: Vm, id: str) -> Path:
    """The content of the stick that is, or was, plugged in as *id*."""
    return vm.directory / f"{id}.img"


def written(vm: Vm, command: str) -> bytes:
    """The content of a stick that is not for guests after *command*, ``{0}`` being its disk; it is unplugged again."""
    vm.plug("MAKER", serial="MAKER", port="8")
    vm.ssh(command.format(f"/dev/{disk(vm, 'MAKER')}"))
    vm.ssh("sync")
    vm.unplug("MAKER")
    vm.ssh(LET_GO, check=False)
    return image(vm, "MAKER").read_bytes()


def doctor(cloud: Cloud) -> dict[str, str]:
    """What "usb-provider doctor" says of the disks."""
    rows: list[dict[str, str]] = json.loads(cloud.vm.ssh("usb-provider doctor --json", check=False))
    return next(row for row in rows if row["check"] == "disks of guests")


@pytest.fixture
def guests(cloud: Cloud) -> Cloud:
    """A compute node on which all sticks are for guests, except the one with the serial number MAKER."""
    cloud.agent.configure([{"serial": "MAKER", "exclude": True}, STICKS], options=QUICK)
    cloud.agent.reload()
    return cloud


def test_the_host_activates_nothing_that_a_guest_wrote(guests: Cloud) -> None:
    vm = guests.vm
    contents = {}
    for serial, command in WRITTEN.items():
        contents[serial] = written(vm, command)
        vm.plug("MAKER", serial="MAKER", port="8")
        eventually(lambda: len(holders(vm, "MAKER")), 1, 30)  # the host does so with a disk of its own
        vm.unplug("MAKER")
        vm.ssh(LET_GO, check=False)
        image(vm, "MAKER").unlink()

    sticks = [guests.stick(serial) for serial in WRITTEN]
    for serial in WRITTEN:
        disk(vm, serial)
    assert doctor(guests)["result"] == "not checked", "udev saw the sticks before they were for guests"
    guests.claim("vm", *sticks)
    guests.boot("vm", extra_specs={"resources:CUSTOM_USB_STORAGE": "3", "hw:usb_model": "qemu-xhci"})
    guests.comes_to_have("vm", *WRITTEN)
    for serial, content in contents.items():
        image(vm, serial).write_bytes(content)
    domains.destroy(vm, "vm")
    stays_unheld(vm, *WRITTEN)

    for serial in WRITTEN:
        vm.unplug(serial)
        vm.plug(serial, serial=serial)
    stays_unheld(vm, *WRITTEN)
    guests.release("vm")
    for serial in WRITTEN:
        eventually(lambda serial=serial: guests.schedulable(serial), True)
    assert doctor(guests)["found"] == "udev keeps the host away from 3 disks that the agent offers."

    # A rule that goes does not have the host activate it either, until the disk is wiped.
    guests.agent.configure([{"vendor_id": "46f4", "exclude": True}], options=QUICK)
    guests.agent.reload()
    vm.ssh("udevadm trigger --action=add --subsystem-match=block && udevadm settle")
    stays_unheld(vm, *WRITTEN)
    for serial in WRITTEN:
        vm.ssh(f"wipefs --quiet --all /dev/{disk(vm, serial)}")
    vm.wait_for('[ -z "$(ls /var/lib/usb-provider/disks)" ]', 150)


def test_a_guests_file_system_takes_no_name_of_the_hosts(guests: Cloud) -> None:
    """The guest copies the UUID of the host's root, as a cloud image that is on both does."""
    vm = guests.vm
    content = written(vm, "dd if=/dev/vda of={0} bs=64k count=1 conv=fsync")
    provider = guests.stick("STICK")
    disk(vm, "STICK")
    guests.claim("vm", provider)
    guests.boot("vm")
    guests.comes_to_have("vm", "STICK")
    image(vm, "STICK").write_bytes(content)
    domains.destroy(vm, "vm")
    name = disk(vm, "STICK")
    uuid = vm.ssh("blkid -o value -s UUID /dev/vda").strip()
    assert vm.ssh(f"blkid -p -o value -s UUID /dev/{name}").strip() == uuid
    for _ in range(3):
        assert vm.ssh(f"basename $(readlink /dev/disk/by-uuid/{uuid})").strip() == "vda"
        vm.unplug("STICK")
        vm.plug("STICK", serial="STICK")
        disk(vm, "STICK")
    # A look at the host's own disk that comes later changes nothing either.
    vm.ssh("udevadm trigger --action=change /sys/block/vda && udevadm settle")
    assert vm.ssh(f"basename $(readlink /dev/disk/by-uuid/{uuid})").strip() == "vda"
