"""The bundles of a host: the devices of each, who holds it, and the provider that it should have. Pure.

completeness.py says whether a bundle can be had; its devices are offered only then.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from usb_provider.model.reporting.provider import Assessment, DesiredProvider
from usb_provider.model.reporting.tree import ObservedProvider, ObservedTree
from usb_provider.model.units.names import BUNDLE_PREFIX
from usb_provider.model.units.pools import members_by_group
from usb_provider.model.units.sharing import Shares


@dataclass(frozen=True, slots=True)
class Bundle:
    """One bundle: its key, its provider as Placement has it, if it does, and its devices that are plugged in."""

    key: str
    provider: ObservedProvider | None
    members: tuple[Assessment, ...] = ()

    @property
    def consumers(self) -> frozenset[str]:
        """The consumers that hold it: one, but for what people do by hand."""
        held = {} if self.provider is None else self.provider.allocations
        return frozenset(consumer for consumer, has in held.items() if any(has.values()))

    def gives_more_than(self, settled: Collection[str]) -> bool:
        """Whether a consumer can hold it although it cannot be had with only the devices with the keys *settled*."""
        is_whole = self.desired() is not None and all(each.identity.key in settled for each in self.members)
        return self.provider is not None and self.provider.schedulable and not is_whole

    def shared(self, before: Shares, also: Sequence[str] = ()) -> dict[str, str]:
        """The consumer of each device, by its key; nothing while no consumer holds the bundle.

        A device that is missing stays among them until others in its place make the bundle complete: it may come back.

        :param also: keys of devices that were its members at the last look.
        """
        if not self.consumers:
            return {}
        had = {key for key, each in before.items() if each.group == self.key} | set(also)
        # One that Placement still offers elsewhere may be another consumer's.
        plugged = [key for each in self.members if (key := each.identity.key) in had or each.promised is None]
        is_whole = len(plugged) >= len(had) and all(each.offered for each in self.members)
        return dict.fromkeys(plugged if is_whole or not had else sorted(had), min(self.consumers))

    def desired(self) -> DesiredProvider | None:
        """Its provider: one unit, with the traits of all its devices; None while it cannot be had."""
        first = next(iter(self.members), None)
        if first is None or not all(each.offered and not each.stays for each in self.members):
            return None
        if first.provider_uuid is None or first.provider_name is None or first.resource_class is None:
            return None
        traits = frozenset.union(*(each.traits for each in self.members))
        return DesiredProvider(first.provider_uuid, first.provider_name, first.resource_class, traits)


def bundles_of(tree: ObservedTree, devices: Sequence[Assessment]) -> tuple[Bundle, ...]:
    """Every bundle that has a device in *devices* or a provider in *tree*, by key."""
    return tuple(Bundle(*group) for group in members_by_group(tree, devices, BUNDLE_PREFIX))
