"""Pools, bundles and single devices together: the provider that each should have, and what to remember of them. Pure.

pools.py and bundles.py know each for itself; plan.py makes the writes.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence

from usb_provider.model.reporting.provider import Assessment, DesiredProvider, provider_uuid
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
    shares = {}
    for pool in pools_of(tree, devices):
        for key, consumer in sorted(pool.shared(before.shares, also=devices).items()):
            shares[key] = Share(pool.key, consumer)
    plugged = {each.identity.key for each in devices}
    for bundle in bundles_of(tree, devices):
        also = [each.identity.key for each in devices if each.promised == bundle.key]
        if all(each.group != bundle.key for each in before.shares.values()):
            # What went before the agent noticed the claim is missing.
            there = {each.identity.key for each in bundle.members}
            was = [key for key, name in before.members.items() if name == bundle.key]
            also += [key for key in was if key in there or key not in plugged]
        for key, consumer in sorted(bundle.shared(before.shares, also).items()):
            shares.setdefault(key, Share(bundle.key, consumer))
    members = {each.identity.key: each.group for each in devices if each.group is not None and not each.stays}
    groups = {group.key for group in groups_of(tree, devices)}
    former = {each.identity.key: each.promised for each in devices if each.promised in groups}
    return PoolMemory(shares, members | former)


def with_promises(
    tree: ObservedTree, devices: Sequence[Assessment], members: Mapping[str, str]
) -> tuple[Assessment, ...]:
    """*devices*, each with the place in which Placement still offers it although the rules have another one for it.

    :param members: of which group each device was a member before the look, by the device's key.
    """
    groups = {group.key: group for group in groups_of(tree, devices)}
    alone = {each.identity.key for each in devices if each.group is not None and _is_free_alone(each, tree)}

    def is_settled(each: Assessment) -> bool:
        former = groups.get(members.get(each.identity.key, each.group or ""))
        if each.identity.key in alone or former is None or former.provider is None:
            return each.identity.key not in alone
        return former.key == each.group or not former.provider.schedulable

    leavers = Counter(
        members[each.identity.key] for each in devices if members.get(each.identity.key, each.group) != each.group
    )
    settled = {each.identity.key for each in devices if is_settled(each)}

    def promised(each: Assessment) -> str | None:
        key = each.identity.key
        group = groups.get(members.get(key, ""))
        if key in alone:
            return key
        if group is None or group.key == each.group or not group.gives_more_than(settled):
            return None
        return None if _is_open(each, tree, groups, leavers) else group.key

    return tuple(dataclasses.replace(each, promised=promised(each)) for each in devices)


def _is_free_alone(each: Assessment, tree: ObservedTree) -> bool:
    provider = tree.providers.get(provider_uuid(tree.root.uuid, each.identity.key))
    return provider is not None and provider.free


def _is_open(
    each: Assessment, tree: ObservedTree, groups: Mapping[str, Pool | Bundle], leavers: Mapping[str, int]
) -> bool:
    """Whether a consumer can have the device in the place that the rules give it, or has it there, for certain.

    :param leavers: how many devices were members of each group before the look and are no longer.
    """
    group = groups.get(each.group or "")
    if group is None:
        provider = tree.providers.get(each.provider_uuid or "")
        return provider is not None and (provider.free or provider.allocated)
    return isinstance(group, Pool) and group.gives_all(leavers.get(group.key, 0))
