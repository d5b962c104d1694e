"""The check of authorisation: whether the kernel lets newly plugged devices in (its usb/authorization.rst)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from usb_provider.diagnosis.check import Check, Finding, some
from usb_provider.diagnosis.context import Context, Maybe, Unknown
from usb_provider.diagnosis.udev import DEVICES

# Wired controllers authorise everything at both (-1 is the kernel's own default).
_OPEN = ("1", "-1")


@dataclass(frozen=True, slots=True)
class AuthorizationFacts:
    """``authorized_default`` of each root hub, and the devices that are not authorised now."""

    defaults: Mapping[str, str]
    unauthorized: tuple[str, ...] = ()


class AuthorizationCheck(Check[AuthorizationFacts]):
    """Whether the kernel authorises devices."""

    name = "authorized_default"

    def read(self, context: Context) -> Maybe[AuthorizationFacts]:
        """From /sys, and from the devices as udev shows them."""
        devices = context.get(DEVICES)
        if isinstance(devices, Unknown):
            return devices
        unauthorized = tuple(each.sys_name for each in devices if not each.authorized)
        return AuthorizationFacts(_defaults(context.places.sys), unauthorized)

    def judge(self, facts: AuthorizationFacts) -> Finding:
        """First the devices that are not authorised, then what happens to the next one."""
        if facts.unauthorized:
            return self.warning(
                f"The host has not authorised {some(facts.unauthorized)}, so they are not offered.",
                "Authorise those that you want: usbguard allow-device, or echo 1 > "
                "/sys/bus/usb/devices/PORT/authorized.",
            )
        if not facts.defaults:
            return self.not_checked("No USB controller is in /sys/bus/usb/devices.")
        closed = sorted(hub for hub, value in facts.defaults.items() if value not in _OPEN)
        if closed:
            return self.ok(
                f"The kernel does not use a newly plugged device until the operator authorises it ({some(closed)}); "
                f"all that are plugged in are authorised."
            )
        return self.ok("The kernel authorises every device that is plugged in.")


def _defaults(sys: Path) -> dict[str, str]:
    found = {}
    for file in sorted((sys / "bus/usb/devices").glob("usb*/authorized_default")):
        try:
            found[file.parent.name] = file.read_text().strip()
        except OSError:
            continue  # the controller is gone
    return found
