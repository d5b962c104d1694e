"""Whether each device is offered, and the one sentence that says why: guards first, then the first rule that matches.

A device that no rule names is never offered, so an empty configuration offers nothing. This module knows neither
Placement nor identity: provider.py leaves out a device that identity.py cannot identify as its rule demands.
"""

import dataclasses
import enum
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from usb_provider.model.devices import management
from usb_provider.model.devices.device import EXPORTED, GUESSES, UsbDevice, UseKind
from usb_provider.model.devices.spec import DeviceSpec


class OfferReason(enum.Enum):
    """Why a device is offered or not, for programs. People read the sentence in :class:`Offer`."""

    OFFERED = "a rule offers it"
    HUB = "it is a hub, or a controller's root hub"
    UNAUTHORIZED = "the host has not authorised it"
    UNSETTLED = "udev is still processing it"
    UNCONFIGURED = "it has no configuration"
    NO_MAKER = "its vendor id is 0000"
    MANAGEMENT = "it belongs to the host's management controller"
    HOST_USE = "the host uses it"
    NO_RULE = "no rule matches it"
    EXCLUDED = "a rule excludes it"
    WITHHELD = "it is where a device was that a consumer holds"
    INCOMPLETE = "its bundle lacks a device"
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
    """One verdict for each device, in the order of *devices*.

    It depends on that device, the hubs above it and the rules alone: what hangs on a hub of the host's management
    controller belongs to that controller as well.
    """
    there = tuple(devices)
    hubs = tuple(f"{device.sys_path}/" for device in there if device.is_hub and management.is_management(device))
    return tuple(_offer(device, specs, hubs) for device in there)


def _offer(device: UsbDevice, specs: Sequence[DeviceSpec], managed_hubs: tuple[str, ...] = ()) -> Offer:
    spec = next((spec for spec in specs if spec.matches(device)), None)
    refusal = guard(device, spec.override if spec is not None else ())
    if device.sys_path.startswith(managed_hubs) and (refusal is None or refusal[0] is not OfferReason.HUB):
        refusal = OfferReason.MANAGEMENT, "Never offered: it hangs on a hub of the host's management controller."
    if refusal is not None:
        return Offer(device, None, *refusal, spec)
    return _by_rule(device, spec, specs)


def without_marks(made: Offer, specs: Sequence[DeviceSpec], marks: Collection[str]) -> Offer:
    """*made*, but as if those signatures were not on its medium: a guest wrote them, and the host ignores them."""
    device = made.device
    uses = tuple(use for use in device.uses if use.mark not in marks)
    if made.verdict is not OfferReason.HOST_USE or len(uses) == len(device.uses):
        return made
    return dataclasses.replace(_offer(dataclasses.replace(device, uses=uses), specs), device=device)


def while_held(made: Offer, specs: Sequence[DeviceSpec]) -> Offer:
    """*made*, but for a device that an instance holds: what may be its own doing, or is a guess, takes nothing from it.

    The instance may have written the signature on the medium and unset the configuration; the program that has the
    device open may be QEMU. A list that a new version of the agent brings takes no device from a running server.
    """
    if made.verdict is OfferReason.UNCONFIGURED and made.rule is None:
        return made  # its rule may be about an interface, and it has none now
    if made.verdict in (OfferReason.MANAGEMENT, OfferReason.NO_MAKER, OfferReason.UNCONFIGURED) or (
        made.verdict is OfferReason.HOST_USE and not any(use.certain for use in made.device.uses)
    ):
        return _by_rule(made.device, made.rule, specs)
    return made


def _by_rule(device: UsbDevice, spec: DeviceSpec | None, specs: Sequence[DeviceSpec]) -> Offer:
    if spec is None:
        why = f"none of the {len(specs)} device_spec rules matches it" if specs else "no [usb]device_spec rule is set"
        return Offer(device, None, OfferReason.NO_RULE, f"Not offered: {why}.")
    if spec.exclude:
        text = f"Not offered: device_spec rule {spec.number} excludes it."
        return Offer(device, None, OfferReason.EXCLUDED, text, spec)
    drained = ", which drains it: only a server that has it keeps it" if spec.drain else ""
    return Offer(device, spec, OfferReason.OFFERED, f"Offered by device_spec rule {spec.number}{drained}.", spec)


def guard(device: UsbDevice, overridden: Collection[UseKind] = ()) -> tuple[OfferReason, str] | None:
    """Why no rule may offer *device*, for programs and as a sentence; None when no guard forbids it.

    *overridden* are guesses that the rule says are wrong for this model.
    """
    checks = (
        (device.is_root_hub, OfferReason.HUB, "Never offered: it is a controller's root hub."),
        (device.is_hub, OfferReason.HUB, "Never offered: it is a hub."),
        (
            management.is_management(device),
            OfferReason.MANAGEMENT,
            "Never offered: it belongs to the host's management controller.",
        ),
        (
            device.vendor_id == "0000",
            OfferReason.NO_MAKER,
            "Not offered: its vendor id is 0000, which no maker has.",
        ),
        (
            not device.authorized,
            OfferReason.UNAUTHORIZED,
            "Not offered: the host has not authorised it (sysfs authorized is 0).",
        ),
        (not device.settled, OfferReason.UNSETTLED, "Not offered yet: udev is still processing it."),
        (
            not device.configured,
            OfferReason.UNCONFIGURED,
            "Not offered: it has no configuration (sysfs bConfigurationValue is empty).",
        ),
    )
    refused = next(((verdict, text) for applies, verdict, text in checks if applies), None)
    return refused or _refusal_of_use(device, overridden)


def _refusal_of_use(device: UsbDevice, overridden: Collection[UseKind]) -> tuple[OfferReason, str] | None:
    certain = next((use for use in device.uses if use.kind not in GUESSES), None)
    if certain is not None:
        return OfferReason.HOST_USE, f"Never offered while the host uses it: {certain.what}."
    if EXPORTED in device.drivers:
        what = f"the host exports it to another machine (driver {EXPORTED}; usbip unbind ends that)"
        return OfferReason.HOST_USE, f"Never offered while the host uses it: {what}."
    if "usbfs" in device.drivers:
        node = f"/dev/bus/usb/{device.busnum or 0:03}/{device.devnum or 0:03}"
        what = f"a program that is no guest of ours has it ({node} is open; fuser shows which)"
        return OfferReason.HOST_USE, f"Never offered while the host uses it: {what}."
    for use in device.uses:
        if use.kind not in overridden:
            text = (
                f"Never offered while the host uses it: {use.what}. If that is wrong, a rule with vendor_id, "
                f'product_id and "override": ["{GUESSES[use.kind]}"] offers it.'
            )
            return OfferReason.HOST_USE, text
    return None
