"""One unit that a consumer holds, or that is free: its provider joined with its device. Pure.

holding.py makes them from Placement's tree; decision.py says what to do about them.
"""

from dataclasses import dataclass

from usb_provider.model.devices.device import UsbDevice
from usb_provider.model.devices.offer import OfferReason
from usb_provider.model.reporting.provider import Assessment


@dataclass(frozen=True, slots=True)
class Holding:
    """One unit of a provider of this host, the consumers that hold it, and the device that it stands for.

    ``assessment`` is that of its device, None when no device is plugged in. ``stays``: a rule says that a live
    migration must not exchange the device for another one. Of a pool or a bundle, ``member`` tells the device from the
    others, ``key`` is its key, and ``missing`` is the end of a sentence that says why there is none. ``is_bundled``
    where it is a part of a unit, which a consumer gets as a whole. ``leaving`` are consumers of the provider that a
    user wants a unit back from; of that unit they are not ``consumers``.
    """

    provider_uuid: str
    name: str
    consumers: frozenset[str]
    assessment: Assessment | None = None
    stays: bool = False
    member: str | None = None
    key: str | None = None
    missing: str | None = None
    is_bundled: bool = False
    leaving: frozenset[str] = frozenset()

    @property
    def label(self) -> str:
        """What a sentence calls its device: the name of the provider, and of one of a group its key as well."""
        return self.name if self.key is None else f"{self.name} ({self.key})"

    @property
    def unit(self) -> str:
        """What follows the prefix in the alias of its hostdev."""
        return self.provider_uuid if self.member is None else f"{self.provider_uuid}-{self.member}"

    @property
    def present(self) -> UsbDevice | None:
        """The device that is plugged in, offered or not."""
        return None if self.assessment is None else self.assessment.device

    @property
    def device(self) -> UsbDevice | None:
        """The device to attach: plugged in and offered."""
        return self.assessment.device if self.assessment is not None and self.assessment.offered else None

    @property
    def guest_reset(self) -> str | None:
        """What is to happen when a guest resets the device; None where the rule leaves that to libvirt."""
        return None if self.assessment is None else self.assessment.guest_reset

    @property
    def offer(self) -> OfferReason | None:
        """Why the device that is plugged in is offered or not; None where none is."""
        return None if self.assessment is None else self.assessment.verdict

    @property
    def why_not(self) -> str | None:
        """The end of a sentence that says why no guest can have the device, or None when one can."""
        if self.assessment is None:
            return self.missing or "it is not plugged in"
        if self.assessment.offered:
            return None
        return f"it may not be attached: {self.assessment.reason.rstrip('.')}"
