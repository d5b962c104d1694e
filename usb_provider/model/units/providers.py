"""Pools, bundles and single devices together: the provider that each should have, and what to remember of them. Pure.

pools.py and bundles.py know each for itself; plan.py makes the writes.
"""

from collections.abc import Sequence

from usb_provider.model.reporting.provider import Assessment, DesiredProvider
from usb_provider.model.reporting.tree import ObservedTree
from usb_provider.model.units.bundles import Bundle, bundles_of
from usb_provider.model.units.pools import Pool, pools_of
from usb_provider.model.units.sharing import PoolMemory, Share


def groups_of(tree: ObservedTree, devices: Sequence[Assessment]) -> tuple[Pool | Bundle, ...]:
    """Every pool and every bundle that has a device in *devices* or a provider in *tree*."""
    return (*pools_of(tree, devices), *bundles_of(tree, devices))


def desired_providers(tree: ObservedTree, devices: Sequence[Assessment]) -> list[DesiredProvider]:
    """What the rules want of each device's own provider, and of each group's that can be had."""
    made = [each.desired for each in devices if each.desired is not None]
    return made + [wanted for group in groups_of(tree, devices) if (wanted := group.desired()) is not None]


def remembered(tree: ObservedTree, devices: Sequence[Assessment], before: PoolMemory) -> PoolMemory:
    """What to remember after a look at *devices*, as far as the host knows without its guests."""
    former = {
        each.identity.key: before.members[each.identity.key]
        for each in devices
        if before.members.get(each.identity.key) not in (None, each.group) and not _is_open(each, tree)
    }
    offered = {each.identity.key for each in devices if each.offered}
    shares = {}
    for pool in pools_of(tree, devices):
        others = [key for key, name in former.items() if name == pool.key and key in offered]
        for key, consumer in sorted(pool.shared(before.shares, others=others).items()):
            shares[key] = Share(pool.key, consumer)
    for bundle in bundles_of(tree, devices):
        also = [key for key, name in former.items() if name == bundle.key]
        for key, consumer in sorted(bundle.shared(before.shares, also).items()):
            shares.setdefault(key, Share(bundle.key, consumer))
    members = {each.identity.key: each.group for each in devices if each.group is not None and not each.stays}
    return PoolMemory(shares, members | former)


def _is_open(each: Assessment, tree: ObservedTree) -> bool:
    """Whether a consumer can have the device in the place that the rules give it, or has it there."""
    provider = tree.providers.get(each.provider_uuid or "")
    return provider is not None and (provider.free or provider.allocated)
