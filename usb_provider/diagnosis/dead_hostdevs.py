"""The check of QEMU's side of each hostdev of ours: whether the guest's QEMU really has the device open.

libvirt shows a hostdev until the agent detaches it, also when QEMU has lost the device. While QEMU has one, it keeps
the device's node in /dev/bus/usb open; when it loses the device, it closes that (QEMU: usb_host_nodev in
hw/usb/host-libusb.c).
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from usb_provider.diagnosis.check import Check, Finding, count, sentences
from usb_provider.diagnosis.context import Context, Maybe, Unknown
from usb_provider.diagnosis.libvirt import LIBVIRT
from usb_provider.diagnosis.trouble import Trouble
from usb_provider.model.binding.guests import RunningGuest
from usb_provider.model.binding.hostdev import Hostdev

_USB_MAJOR = 189
"""The kernel's major number of USB device nodes (its Documentation/admin-guide/devices.txt)."""


@dataclass(frozen=True, slots=True)
class QemuFacts:
    """The guests, and by guest UUID the bus and device numbers that its QEMU has open; a guest whose QEMU cannot be
    seen is not among them.
    """

    guests: tuple[RunningGuest, ...]
    open: dict[str, frozenset[tuple[int, int]]]


class DeadHostdevsCheck(Check[QemuFacts]):
    """Whether QEMU has each device that the agent attached."""

    name = "dead hostdevs"
    of_guests = True

    def read(self, context: Context) -> Maybe[QemuFacts]:
        """From libvirt, and from the processes."""
        hypervisor = context.get(LIBVIRT)
        if isinstance(hypervisor, Unknown):
            return hypervisor
        if isinstance(hypervisor, Trouble):
            return Unknown("libvirt could not be asked for its guests.")
        guests = tuple(each for each in hypervisor.running if each.guest.ours and not each.busy)
        wanted = frozenset(each.guest.uuid for each in guests)
        return QemuFacts(guests, dict(open_devices(context.places.proc, wanted)) if wanted else {})

    def judge(self, facts: QemuFacts) -> Finding:
        """A placeholder of a restore is not one: the agent detaches it within moments."""
        said = []
        seen = 0
        for each in facts.guests:
            has = facts.open.get(each.guest.uuid)
            if has is None:
                continue
            for hostdev in each.guest.ours:
                if hostdev.missing or _address(hostdev) is None:
                    continue
                seen += 1
                if _address(hostdev) not in has:
                    said.append(
                        f"Guest {each.guest.name} has {hostdev.alias} at bus {hostdev.bus} device {hostdev.device}, "
                        f"but its QEMU does not have that device open."
                    )
        if said:
            return self.wrong(
                sentences(said),
                "Unplug the device and plug it in again: the agent then attaches it anew. Without hands on the host, "
                "virsh detach-device-alias GUEST ALIAS --live, and the agent attaches it again.",
            )
        hidden = len(facts.guests) - len(facts.open)
        if hidden:
            return self.not_checked(f"QEMU of {count(hidden, 'guest')} cannot be seen: run this as root, on the host.")
        return self.ok(f"QEMU has {count(seen, 'device')} of the agent's open, as libvirt says.")


def open_devices(proc: Path, guests: frozenset[str]) -> Iterator[tuple[str, frozenset[tuple[int, int]]]]:
    """Each of *guests*, by UUID, whose QEMU this process may look into, with the USB devices that QEMU has open."""
    for directory in proc.iterdir():
        if not directory.name.isdecimal():
            continue
        try:
            words = (directory / "cmdline").read_bytes().decode(errors="replace").split("\0")
            uuid = words[words.index("-uuid") + 1].lower() if "-uuid" in words[:-1] else ""
            if uuid in guests:
                yield uuid, frozenset(_open_devices(directory / "fd"))
        except OSError:
            continue  # it has ended meanwhile, or is another user's


def _open_devices(directory: Path) -> Iterator[tuple[int, int]]:
    for link in directory.iterdir():
        try:
            node = link.stat()
        except OSError:
            continue  # it was closed meanwhile
        if stat.S_ISCHR(node.st_mode) and os.major(node.st_rdev) == _USB_MAJOR:
            bus, device = divmod(os.minor(node.st_rdev), 128)
            yield bus + 1, device + 1


def _address(hostdev: Hostdev) -> tuple[int, int] | None:
    return None if hostdev.bus is None or hostdev.device is None else (hostdev.bus, hostdev.device)
