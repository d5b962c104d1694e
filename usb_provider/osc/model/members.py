"""The members of a pool as far as Placement has them: those that an operator drained, and how to drain one. Pure.

Placement does not have the keys of members, only what all of them share; the agent on the host knows the keys.
"""

import dataclasses
import re

from placement_traits import STATE_ABSENT, STATE_SHORT, STATE_WITHDRAWN, member_drained_trait
from usb_provider.exception import UnknownArgument
from usb_provider.model.lifecycle import Intention
from usb_provider.model.reporting.provider import provider_uuid
from usb_provider.model.reporting.tree import ObservedProvider
from usb_provider.model.units.names import member_id
from usb_provider.osc.model.fleet import Write, drained_members, facts

_KEY = re.compile(r"([0-9a-f]{4}):([0-9a-f]{4})[:@].")
_ID = re.compile(r"[0-9a-f]{16}")
_CLOSED = frozenset({STATE_ABSENT, STATE_WITHDRAWN})


def drain_trait(have: ObservedProvider, member: str, root_uuid: str, *, drained: bool) -> str:
    """The trait that drains *member* of the pool *have*: its key, or, to end a drain, also the 16 digits of the trait.

    :raises UnknownArgument: when the pool has no such member, as far as Placement tells, or none that is drained.
    """
    if not drained and _ID.fullmatch(member):
        mark = member_drained_trait(member)
    elif key := _KEY.match(member):
        mark = member_drained_trait(member_id(provider_uuid(root_uuid, member)))
        if drained and (shared := _other_than(key[1], key[2], have)):
            raise UnknownArgument(
                f"{have.name} has no member {member}, since its members are {shared}; "
                f'"usb-provider devices --json" shows their keys on the host.'
            )
    else:
        raise UnknownArgument(
            f"{member} is not the key of a device, such as 0529:0001:A1 or 0529:0001@0000:00:14.0-1; "
            f'"usb-provider devices --json" shows the keys on the host.'
        )
    if not drained and mark not in have.traits:
        others = drained_members(have.traits)
        which = f"; drained are {', '.join(others)}" if others else ""
        raise UnknownArgument(f"The member {member} of {have.name} is not drained{which}.")
    return mark


def drain_member(have: ObservedProvider, mark: str) -> tuple[Write, ...]:
    """The writes that give the pool *have* the trait *mark*, in their order; none when it has it.

    The agent sees the trait at its next pass, and no longer counts the member. Until then, one unit is reserved, so
    that Nova sends no server to the member; STATE_SHORT tells the agent that this is no operator's reservation. Where
    an operator reserved units, or none can be had, only the trait is written.
    """
    if mark in have.traits:
        return ()
    is_open = have.traits.isdisjoint(_CLOSED) and have.intention is Intention.NONE
    fewer = {name: dataclasses.replace(each, reserved=each.reserved + 1) for name, each in have.inventories.items()}
    if not is_open or not fewer or any(each.reserved > each.total for each in fewer.values()):
        return (Write(traits=have.traits | {mark}),)
    return Write(traits=have.traits | {mark, STATE_SHORT}), Write(inventories=fewer)


def undrain_member(have: ObservedProvider, mark: str) -> tuple[Write, ...]:
    """The write that takes *mark* from the pool *have*; none when it does not have it. The agent counts the member."""
    return (Write(traits=have.traits - {mark}),) if mark in have.traits else ()


def _other_than(vendor_id: str, product_id: str, have: ObservedProvider) -> str | None:
    """What all members of *have* are, where a device with these ids is not; None where it may be one of them."""
    shared = facts(have.traits)
    if shared.vendor_id is None:
        return None
    if shared.vendor_id != vendor_id:
        return f"devices of vendor {shared.vendor_id}"
    if shared.product_id is not None and shared.product_id != product_id:
        return f"devices {shared.vendor_id}:{shared.product_id}"
    return None
