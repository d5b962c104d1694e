"""The check of udev: whether it runs and shows devices."""

from dataclasses import dataclass

from usb_provider.diagnosis.check import Check, Finding, count, some
from usb_provider.diagnosis.context import Context, Maybe, Reading, Unknown
from usb_provider.host.udev import UdevHost

DEVICES = Reading("devices", lambda context: tuple(UdevHost().devices()))


@dataclass(frozen=True, slots=True)
class UdevFacts:
    """Whether sysfs knows USB and udev runs, how many devices there are, and those that udev still processes."""

    has_usb: bool
    runs: bool
    devices: int
    unsettled: tuple[str, ...] = ()


class UdevCheck(Check[UdevFacts]):
    """Whether udev runs, and shows every device."""

    name = "udev"

    def read(self, context: Context) -> Maybe[UdevFacts]:
        """Every device, and what tells whether udev can show all of them."""
        devices = context.get(DEVICES)
        if isinstance(devices, Unknown):
            return devices
        return UdevFacts(
            has_usb=(context.places.sys / "bus/usb").is_dir(),
            runs=(context.places.run / "udev/control").exists(),
            devices=len(devices),
            unsettled=tuple(each.sys_name for each in devices if not each.settled),
        )

    def judge(self, facts: UdevFacts) -> Finding:
        """The kernel first, then udev, then the devices."""
        if not facts.has_usb:
            return self.wrong(
                "/sys/bus/usb is not there, so no USB device can be seen.",
                "In a container mount the host's /sys; else load the kernel's usbcore.",
            )
        if not facts.runs:
            return self.wrong(
                "/run/udev/control is not there, so udev does not run, or this process cannot see it.",
                "In a container mount the host's /run/udev and share its network namespace; else start systemd-udevd.",
            )
        if facts.unsettled:
            return self.warning(
                f"udev is still processing {some(facts.unsettled)}, so the agent does not offer them yet.",
                "Run this again in some seconds; if it stays so, udevadm settle and udevadm info tell more.",
            )
        if not facts.devices:
            return self.warning(
                "There is no USB device, not even a controller's root hub.",
                "lsusb should show none either; in a container /sys must be the host's.",
            )
        return self.ok(f"udev runs and shows {count(facts.devices, 'USB device')}, hubs included.")
