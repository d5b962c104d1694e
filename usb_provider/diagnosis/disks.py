"""The check of the disks for guests: whether udev keeps the host away from what guests write on them."""

import os
from dataclasses import dataclass

from usb_provider.diagnosis.check import Check, Finding, count, some
from usb_provider.diagnosis.context import Context, Maybe, Unknown
from usb_provider.diagnosis.udev import DEVICES
from usb_provider.host.storage import UdevDisk, udev_disks
from usb_provider.model.devices.lent import OFFERED_DISKS, mark_names

RULE = "61-usb-provider.rules"
_DELAY_SECONDS = 5.0
"""How much later udev may process a disk than the kernel found it."""


@dataclass(frozen=True, slots=True)
class MarkedDisk:
    """A disk of which the agent told udev at *marked_at*, in seconds of the wall clock."""

    disk: UdevDisk
    marked_at: float


class DisksCheck(Check[tuple[MarkedDisk, ...]]):
    """Whether udev applies the project's rule to each disk that came after the agent had told udev of it."""

    name = "disks of guests"

    def read(self, context: Context) -> Maybe[tuple[MarkedDisk, ...]]:
        """Disks that are for guests, as udev and the agent's state directory have them."""
        devices = context.get(DEVICES)
        if isinstance(devices, Unknown):
            return devices
        marks = context.options.agent.state_dir / OFFERED_DISKS
        names = mark_names(devices, context.options.usb.junk_serials)
        found = []
        for device in devices:
            if device.sys_name not in names or not device.has_disk:
                continue
            try:
                marked_at = os.stat(marks / names[device.sys_name]).st_mtime
            except (FileNotFoundError, NotADirectoryError):
                continue
            found += [MarkedDisk(disk, marked_at) for disk in udev_disks(device.sys_path, context.places.run)]
        return tuple(found)

    def judge(self, facts: tuple[MarkedDisk, ...]) -> Finding:
        """First what udev does not keep the host away from; then what no event has shown yet."""
        bare = [each for each in facts if not each.disk.is_left_alone]
        seen_since = [each.disk.name for each in bare if each.disk.seen_at > each.marked_at + _DELAY_SECONDS]
        if seen_since:
            return self.warning(
                f"udev does not keep the host away from {some(seen_since)}, which the agent offers, so the host may "
                f"activate what a guest writes there.",
                f"Install {RULE} in /etc/udev/rules.d, with the path of [agent]state_dir in it, and plug the disk in "
                f"again; docs/security.md.",
            )
        if bare:
            names = some([each.disk.name for each in bare])
            return self.not_checked(f"udev will show whether it knows {RULE} when {names} is plugged in again.")
        if not facts:
            return self.ok("No disk is plugged in that the agent offers.")
        return self.ok(f"udev keeps the host away from {count(len(facts), 'disk')} that the agent offers.")
