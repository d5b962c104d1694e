"""The drains of members: which devices a command drained, and a drain of a member that the host does not know. Pure.

Placement has the drain as a trait of the pool's provider. The trait tells the member by a part of a hash of its key, so
only the host can say which member it is. pools.py says what a drain changes.
"""

import dataclasses
from collections.abc import Collection, Iterator, Sequence

from placement_traits import MEMBER_DRAINED_PREFIX
from usb_provider.model.reporting.plan import Note
from usb_provider.model.reporting.provider import Assessment, provider_uuid
from usb_provider.model.reporting.tree import ObservedTree
from usb_provider.model.text import printable
from usb_provider.model.units.names import member_id
from usb_provider.model.units.pools import Pool, pools_of

UNKNOWN_DRAIN = "drain"
"""How the topic of a note on a drain begins that is of no member."""

_MOST_NAMED = 16


def with_drains(tree: ObservedTree, devices: Sequence[Assessment]) -> tuple[Assessment, ...]:
    """*devices*, where each member that a command drained is ``drained``, and its reason says so."""
    drained = {each.key for pool in pools_of(tree, devices) for each in pool.members if each.drained}

    def told(each: Assessment) -> Assessment:
        if each.drained or each.identity.key not in drained:
            return each
        said = f"{each.reason.removesuffix('.')}, but an operator drained it: only a server that has it keeps it."
        return dataclasses.replace(each, drained=True, reason=said if each.offered else each.reason)

    return tuple(map(told, devices))


def drain_notes(tree: ObservedTree, devices: Sequence[Assessment], known: Collection[str]) -> tuple[Note, ...]:
    """A note on each drain of a member that this host does not know: its key may have been mistyped.

    :param known: the keys of all devices that the host remembers; those of *devices* count as well.
    """
    ids = {member_id(provider_uuid(tree.root.uuid, key)) for key in {*known, *(each.identity.key for each in devices)}}
    return tuple(note for pool in pools_of(tree, devices) for note in _unknown(pool, ids))


def _unknown(pool: Pool, ids: Collection[str]) -> Iterator[Note]:
    provider = pool.provider
    if provider is None or not provider.managed:
        return
    keys = [printable(each.key, 60) for each in pool.members]
    more = f" and {len(keys) - _MOST_NAMED} more" if len(keys) > _MOST_NAMED else ""
    here = f"the members here are {', '.join(keys[:_MOST_NAMED])}{more}" if keys else "the pool has no member here now"
    for name in sorted(provider.traits):
        digits = name.removeprefix(MEMBER_DRAINED_PREFIX).lower()
        if not name.startswith(MEMBER_DRAINED_PREFIX) or digits in ids:
            continue
        yield Note(
            f"{UNKNOWN_DRAIN}:{provider.uuid}:{digits}",
            f"{provider.name} has the drain of a member that this host does not know ({digits}), so the drain has no "
            f"effect; {here}. If the key was wrong, end the drain: openstack usb device set --undrain --member "
            f"{digits} {provider.name}",
        )
