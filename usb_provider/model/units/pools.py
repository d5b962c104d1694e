"""The pools of a host: the members of each, who holds how many units, and the provider that each should have. Pure.

sharing.py decides which consumer has which member.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from placement_traits import NOT_LIVE_MIGRATABLE, member_drained_trait
from usb_provider.model.reporting.provider import Assessment, DesiredProvider, group_key, provider_uuid
from usb_provider.model.reporting.tree import ObservedProvider, ObservedTree
from usb_provider.model.units.names import POOL_PREFIX, member_id
from usb_provider.model.units.sharing import Shares, shared


@dataclass(frozen=True, slots=True)
class PoolMember:
    """A device that is a member of a pool now, offered or not; ``drained``: no further consumer is to get it."""

    assessment: Assessment
    drained: bool = False

    @property
    def key(self) -> str:
        """The key of the device."""
        return self.assessment.identity.key

    @property
    def is_counted(self) -> bool:
        """Whether it is a unit that any consumer can have."""
        return self.assessment.offered and not self.drained and not self.assessment.stays


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool: its key, its provider as Placement has it, if it does, and the plugged members, by place."""

    key: str
    provider: ObservedProvider | None
    members: tuple[PoolMember, ...] = ()

    @property
    def claims(self) -> Mapping[str, int]:
        """How many units each consumer is to have."""
        return {} if self.provider is None else self.provider.entitled

    def gives_more_than(self, settled: Collection[str]) -> bool:
        """Whether consumers can hold more units than there are members with the keys *settled*."""
        return self._given > sum(each.is_counted and each.key in settled for each in self.members)

    def gives_all(self, leavers: int) -> bool:
        """Whether its provider has a unit for each member already, besides those of so many *leavers*."""
        return self._given >= sum(each.is_counted for each in self.members) + leavers

    @property
    def _given(self) -> int:
        held = {} if self.provider is None else self.provider.inventories
        return sum(each.total - each.reserved for each in held.values())

    def desired(self) -> DesiredProvider | None:
        """Its provider: as many units as members, and the traits that all share; None where it has no unit to give."""
        counted = [each.assessment for each in self.members if each.is_counted]
        first = next(iter(counted), None)
        if first is None or first.provider_uuid is None or first.provider_name is None or first.resource_class is None:
            return None
        # A guest may have unset the configuration of its member, and with it the interfaces.
        telling = [each for each in counted if each.device.configured] or counted
        traits = frozenset.intersection(*(each.traits for each in telling))
        traits |= {NOT_LIVE_MIGRATABLE} & frozenset.union(*(each.traits for each in counted))
        return DesiredProvider(first.provider_uuid, first.provider_name, first.resource_class, traits, len(counted))

    def shared(
        self,
        before: Shares,
        *,
        also: Sequence[Assessment] = (),
        attached: Mapping[str, str] = MappingProxyType({}),
        known: frozenset[str] | None = None,
    ) -> dict[str, str]:
        """The consumer of each member, by key, as sharing.py decides.

        :param also: the devices of the host: those that Placement still offers as members are given away last.
        """
        mine = {key: each.consumer for key, each in before.items() if each.group == self.key}
        members = [each for each in self.members if each.assessment.offered]
        # One that Placement still offers elsewhere may be another consumer's.
        there = [each.key for each in members if each.assessment.promised is None or each.key in mine]
        others = [each.identity.key for each in also if each.promised == self.key and each.able]
        return shared(
            self.claims,
            [*there, *others],
            closed=[each.key for each in self.members if each.drained],
            leaving=[each.key for each in self.members if each.assessment.stays],
            before=mine,
            attached=attached,
            known=known,
            asked=() if self.provider is None else self.provider.leaving,
        )


def members_by_group(
    tree: ObservedTree, devices: Sequence[Assessment], prefix: str
) -> list[tuple[str, ObservedProvider | None, tuple[Assessment, ...]]]:
    """Each group whose key begins with *prefix*: its key, its provider in *tree*, if any, and its devices, by key."""
    found: dict[str, list[Assessment]] = {}
    for each in devices:
        if each.group is not None and each.group.startswith(prefix):
            found.setdefault(each.group, []).append(each)
    for provider in tree.providers.values():
        if (key := group_key(tree.root.uuid, provider.uuid, provider.name, prefix)) is not None:
            found.setdefault(key, [])
    providers: Mapping[str, ObservedProvider] = tree.providers
    return [
        (key, providers.get(provider_uuid(tree.root.uuid, key)), tuple(members))
        for key, members in sorted(found.items())
    ]


def pools_of(tree: ObservedTree, devices: Sequence[Assessment]) -> tuple[Pool, ...]:
    """Every pool that has a member in *devices* or a provider in *tree*, by key."""
    return tuple(_pool(tree, *group) for group in members_by_group(tree, devices, POOL_PREFIX))


def _pool(tree: ObservedTree, key: str, provider: ObservedProvider | None, devices: Sequence[Assessment]) -> Pool:
    traits = frozenset() if provider is None else provider.traits

    def is_drained(each: Assessment) -> bool:
        return (
            each.drained or member_drained_trait(member_id(provider_uuid(tree.root.uuid, each.identity.key))) in traits
        )

    return Pool(key, provider, tuple(PoolMember(each, is_drained(each)) for each in devices))
