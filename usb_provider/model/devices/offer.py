"""Whether each device is offered, and the one sentence that says why: guards first, then the first rule that matches.

Nothing is offered that no rule names, so an empty configuration offers nothing. This module knows neither Placement
nor identity: a device that cannot be told apart is left out by identity.py's word, in provider.py.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from usb_provider.model.devices.device import UsbDevice
from usb_provider.model.devices.spec import DeviceSpec


@dataclass(frozen=True, slots=True)
class Offer:
    """The verdict on one device: the rule that takes it, if one does, and the *reason* either way.

    ``spec`` is set exactly when the device is offered; ``rule`` is the first that matches, also where a guard decides.
    """

    device: UsbDevice
    spec: DeviceSpec | None
    reason: str
    rule: DeviceSpec | None = None


def decide(devices: Iterable[UsbDevice], specs: Sequence[DeviceSpec]) -> tuple[Offer, ...]:
    """One verdict a device, in the order of *devices*; each verdict depends on its device and the rules alone."""
    return tuple(_decide(device, specs) for device in devices)


def _decide(device: UsbDevice, specs: Sequence[DeviceSpec]) -> Offer:
    spec = next((spec for spec in specs if spec.matches(device)), None)
    refusal = guard(device)
    if refusal is not None:
        return Offer(device, None, refusal, spec)
    if spec is None:
        why = f"none of the {len(specs)} device_spec rules matches it" if specs else "no [usb]device_spec rule is set"
        return Offer(device, None, f"Not offered: {why}.")
    if spec.exclude:
        return Offer(device, None, f"Not offered: device_spec rule {spec.number} excludes it.", spec)
    return Offer(device, spec, f"Offered by device_spec rule {spec.number}.", spec)


def guard(device: UsbDevice) -> str | None:
    """Why no rule may ever offer *device*, or None when no guard stands in the way."""
    if device.is_root_hub:
        return "Never offered: it is a controller's root hub."
    if device.is_hub:
        return "Never offered: it is a hub."
    if not device.authorized:
        return "Not offered: the host has not authorised it (sysfs authorized is 0)."
    if not device.settled:
        return "Not offered yet: udev is not through with it."
    if device.uses:
        return f"Never offered while the host uses it: {device.uses[0].what}."
    return None
