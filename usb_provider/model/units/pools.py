"""The pools of a host: the members of each, who holds how many units, and the provider that each should have. Pure.

sharing.py decides which consumer has which member.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from placement_traits import NOT_LIVE_MIGRATABLE, member_drained_trait
from usb_provider.model.reporting.provider import NAME_MARK, Assessment, DesiredProvider, provider_uuid
from usb_provider.model.reporting.tree import ObservedProvider, ObservedTree
from usb_provider.model.units.names import POOL_PREFIX, member_id, pool_key
from usb_provider.model.units.sharing import PoolMemory, Share, Shares, shared


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
    """One pool: its provider as Placement has it, if it does, and the members that are plugged in, by their place."""

    name: str
    provider: ObservedProvider | None
    members: tuple[PoolMember, ...] = ()

    @property
    def claims(self) -> Mapping[str, int]:
        """How many units each consumer holds."""
        if self.provider is None:
            return {}
        held = {consumer: sum(has.values()) for consumer, has in self.provider.allocations.items()}
        return {consumer: amount for consumer, amount in held.items() if amount}

    def shared(
        self,
        before: Shares,
        *,
        claims: Mapping[str, int] | None = None,
        others: Sequence[str] = (),
        attached: Mapping[str, str] = MappingProxyType({}),
        known: frozenset[str] | None = None,
    ) -> dict[str, str]:
        """The consumer of each member, by key, as sharing.py decides.

        :param claims: in place of those in Placement.
        :param others: keys of devices that were members, in case that there are too few.
        """
        return shared(
            self.claims if claims is None else claims,
            [*(each.key for each in self.members if each.assessment.offered), *others],
            closed=[each.key for each in self.members if not each.is_counted],
            before={key: each.consumer for key, each in before.items() if each.pool == self.name},
            attached=attached,
            known=known,
        )


def pools_of(tree: ObservedTree, devices: Sequence[Assessment]) -> tuple[Pool, ...]:
    """Every pool that has a member in *devices* or a provider in *tree*, by name."""
    found: dict[str, list[Assessment]] = {}
    for each in devices:
        if each.pool is not None:
            found.setdefault(each.pool, []).append(each)
    for provider in tree.providers.values():
        name = provider.name.partition(f"{NAME_MARK}{POOL_PREFIX}")[2]
        # Its name may be another pool's that begins alike, or cut; the UUID is certain.
        if name and provider.uuid == provider_uuid(tree.root.uuid, pool_key(name)):
            found.setdefault(name, [])
    return tuple(_pool(name, tree, members) for name, members in sorted(found.items()))


def _pool(name: str, tree: ObservedTree, devices: Sequence[Assessment]) -> Pool:
    provider = tree.providers.get(provider_uuid(tree.root.uuid, pool_key(name)))
    traits = frozenset() if provider is None else provider.traits

    def is_drained(each: Assessment) -> bool:
        return member_drained_trait(member_id(provider_uuid(tree.root.uuid, each.identity.key))) in traits

    return Pool(name, provider, tuple(PoolMember(each, is_drained(each)) for each in devices))


def remembered(tree: ObservedTree, devices: Sequence[Assessment], before: PoolMemory) -> PoolMemory:
    """What to remember after a look at *devices*, as far as the host knows without its guests."""
    former = {
        each.identity.key: before.members[each.identity.key]
        for each in devices
        if before.members.get(each.identity.key) not in (None, each.pool) and not _is_open(each, tree)
    }
    offered = {each.identity.key for each in devices if each.offered}
    shares = {}
    for pool in pools_of(tree, devices):
        others = [key for key, name in former.items() if name == pool.name and key in offered]
        for key, consumer in sorted(pool.shared(before.shares, others=others).items()):
            shares[key] = Share(pool.name, consumer)
    members = {each.identity.key: each.pool for each in devices if each.pool is not None and not each.stays}
    return PoolMemory(shares, members | former)


def _is_open(each: Assessment, tree: ObservedTree) -> bool:
    """Whether a consumer can have the device in the place that the rules give it, or has it there."""
    provider = tree.providers.get(each.provider_uuid or "")
    return provider is not None and (provider.free or provider.allocated)


def desired_providers(tree: ObservedTree, devices: Sequence[Assessment]) -> list[DesiredProvider]:
    """What the rules want of each device's own provider, and of each pool's that has a unit to give.

    A pool has as many units as members, and the traits that all of them share.
    """
    made = [each.desired for each in devices if each.desired is not None]
    for pool in pools_of(tree, devices):
        counted = [each.assessment for each in pool.members if each.is_counted]
        first = next(iter(counted), None)
        if first is None or first.provider_uuid is None or first.provider_name is None or first.resource_class is None:
            continue
        # A guest may have unset the configuration of its member, and with it the interfaces.
        telling = [each for each in counted if each.device.configured] or counted
        traits = frozenset.intersection(*(each.traits for each in telling))
        traits |= {NOT_LIVE_MIGRATABLE} & frozenset.union(*(each.traits for each in counted))
        made.append(
            DesiredProvider(first.provider_uuid, first.provider_name, first.resource_class, traits, len(counted))
        )
    return made
