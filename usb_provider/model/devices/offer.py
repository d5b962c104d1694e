"""Whether each device is offered, and the one sentence that says why: guards first, then the first rule that matches.

A device that no rule names is never offered, so an empty configuration offers nothing. This module knows neither
Placement nor identity: provider.py leaves out a device that identity.py cannot identify as its rule demands.
"""

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from usb_provider.model.devices.device import UsbDevice
from usb_provider.model.devices.spec import DeviceSpec


class OfferReason(enum.Enum):
    """Why a device is offered or not, for programs. People read the sentence in :class:`Offer`."""

    OFFERED = "a rule offers it"
    HUB = "it is a hub, or a controller's root hub"
    UNAUTHORIZED = "the host has not authorised it"
    UNSETTLED = "udev is still processing it"
    UNCONFIGURED = "it has no configuration"
    HOST_USE = "the host uses it"
    NO_RULE = "no rule matches it"
    EXCLUDED = "a rule excludes it"
    WITHHELD = "it is where a device was that a consumer holds"
    NOT_IDENTIFIED = "it cannot be told apart in the way that its rule demands"


@dataclass(frozen=True, slots=True)
class Offer:
    """The verdict on one device: the rule that takes it, if one does, and the *reason* either way.

    ``spec`` is set exactly when the device is offered; ``rule`` is the first that matches, also where a guard decides.
    """

    device: UsbDevice
    spec: DeviceSpec | None
    verdict: OfferReason
    reason: str
    rule: DeviceSpec | None = None


def offers(devices: Iterable[UsbDevice], specs: Sequence[DeviceSpec]) -> tuple[Offer, ...]:
    """One verdict for each device, in the order of *devices*; it depends on that device and the rules alone."""
    return tuple(_offer(device, specs) for device in devices)


def _offer(device: UsbDevice, specs: Sequence[DeviceSpec]) -> Offer:
    spec = next((spec for spec in specs if spec.matches(device)), None)
    refusal = guard(device)
    if refusal is not None:
        return Offer(device, None, *refusal, spec)
    if spec is None:
        why = f"none of the {len(specs)} device_spec rules matches it" if specs else "no [usb]device_spec rule is set"
        return Offer(device, None, OfferReason.NO_RULE, f"Not offered: {why}.")
    if spec.exclude:
        text = f"Not offered: device_spec rule {spec.number} excludes it."
        return Offer(device, None, OfferReason.EXCLUDED, text, spec)
    return Offer(device, spec, OfferReason.OFFERED, f"Offered by device_spec rule {spec.number}.", spec)


def guard(device: UsbDevice) -> tuple[OfferReason, str] | None:
    """Why no rule may offer *device*, for programs and as a sentence; None when no guard forbids it."""
    if device.is_hub:
        said = "Never offered: it is a controller's root hub." if device.is_root_hub else "Never offered: it is a hub."
        return OfferReason.HUB, said
    if not device.authorized:
        return OfferReason.UNAUTHORIZED, "Not offered: the host has not authorised it (sysfs authorized is 0)."
    if not device.settled:
        return OfferReason.UNSETTLED, "Not offered yet: udev is still processing it."
    if not device.configured:
        return OfferReason.UNCONFIGURED, "Not offered: it has no configuration (sysfs bConfigurationValue is empty)."
    if device.uses:
        return OfferReason.HOST_USE, f"Never offered while the host uses it: {device.uses[0].what}."
    return None
