"""What consumers hold on this host: each provider joined with its device. Pure.

It joins Placement's tree with the assessments of the devices. decision.py says what to do about it.
"""

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass

from placement_traits import NOT_LIVE_MIGRATABLE
from usb_provider.model.devices.device import UsbDevice
from usb_provider.model.devices.offer import OfferReason
from usb_provider.model.reporting.host_state import HostView
from usb_provider.model.reporting.provider import Assessment


@dataclass(frozen=True, slots=True)
class Holding:
    """One provider of this host, the consumers that hold it, and the device that it stands for.

    ``assessment`` is that of its device, None when no device is plugged in. ``stays``: a rule says that a live
    migration must not exchange the device for another one.
    """

    provider_uuid: str
    name: str
    consumers: frozenset[str]
    assessment: Assessment | None = None
    stays: bool = False

    @property
    def present(self) -> UsbDevice | None:
        """The device that is plugged in, offered or not."""
        return None if self.assessment is None else self.assessment.device

    @property
    def device(self) -> UsbDevice | None:
        """The device to attach: plugged in and offered."""
        return self.assessment.device if self.assessment is not None and self.assessment.offered else None

    @property
    def offer(self) -> OfferReason | None:
        """Why the device that is plugged in is offered or not; None where none is."""
        return None if self.assessment is None else self.assessment.verdict

    @property
    def why_not(self) -> str | None:
        """The end of a sentence that says why no guest can have the device, or None when one can."""
        if self.assessment is None:
            return "it is not plugged in"
        if self.assessment.offered:
            return None
        return f"it may not be attached: {self.assessment.reason.rstrip('.')}"


def holdings(view: HostView) -> list[Holding]:
    """Every provider of ours in *view*, held or not."""
    plugged = {each.provider_uuid: each for each in view.devices}
    return [
        Holding(
            provider.uuid,
            provider.name,
            frozenset(consumer for consumer, has in provider.allocations.items() if any(has.values())),
            plugged.get(provider.uuid),
            NOT_LIVE_MIGRATABLE in provider.traits,
        )
        for provider in view.tree.providers.values()
        if provider.managed
    ]


def held_by(guest_uuid: str, held: Collection[str], view: HostView) -> list[Holding]:
    """The providers in *held* that are on this host, with *guest_uuid* as their only consumer, whatever *view* says."""
    mine = frozenset({guest_uuid})
    return [dataclasses.replace(each, consumers=mine) for each in holdings(view) if each.provider_uuid in held]
