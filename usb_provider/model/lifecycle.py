"""The one table of states: what is known of a device, and the state that its provider in Placement then gets. Pure.

:data:`TABLE` has a row for every combination of circumstances. The planner writes what a row says, in its order; the
census, the metrics, the ``openstack usb`` commands and docs/placement.md take their words from it. This module reads no
provider: its callers give it the traits, and whether something is reserved.
"""

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from placement_traits import (
    MEMBER_DRAINED_PREFIX,
    STATE_ABSENT,
    STATE_DRAINED,
    STATE_RESERVED,
    STATE_SHORT,
    STATE_WITHDRAWN,
)


class Presence(enum.Enum):
    """Whether the device can be allocated, as the end of a sentence about it."""

    OFFERED = "is plugged in and offered"
    WITHDRAWN = "is no longer offered"
    ABSENT = "is not plugged in"


class Intention(enum.Enum):
    """What an operator has decided about the device. A drain outweighs a ``reserved`` that was set by hand."""

    NONE = "none"
    RESERVED = "reserved"
    DRAINED = "drained"


class Units(enum.Enum):
    """The inventory of the provider."""

    OPEN = "total 1, reserved 0"
    RESERVED = "total 1, reserved 1"
    NONE = "none"


class Order(enum.Enum):
    """In which order a provider is written, so that an interrupted pass does no harm.

    A device is never schedulable without its traits. What the agent reserves always has the state trait that says so:
    without the trait, the next pass would take it for an operator's reservation.
    """

    MARK_LAST = "traits, inventory, state trait"
    INVENTORY_FIRST = "inventory, traits"
    TRAITS_FIRST = "traits, inventory"


class DeviceState(enum.StrEnum):
    """What the scheduler can do with a device, and whether it is plugged in: the words of ``usb_provider_devices``."""

    FREE = "free"
    HELD = "held"
    KEPT_BACK = "kept_back"
    WITHDRAWN_HELD = "withdrawn_held"
    ABSENT = "absent"
    ABSENT_HELD = "absent_held"
    NOT_OFFERED = "not_offered"


class FleetState(enum.StrEnum):
    """The state in ``openstack usb device list``, the first that is true: absent and drained is absent.

    No row of the table has WAITING: it is what an allocated device is while its provider has STATE_WAITING. A bundle is
    incomplete in the place of absent, since some of its devices may be plugged in.
    """

    ABSENT = "absent"
    INCOMPLETE = "incomplete"
    WITHDRAWN = "withdrawn"
    DRAINED = "drained"
    WAITING = "waiting"
    ALLOCATED = "allocated"
    RESERVED = "reserved"
    FREE = "free"


_SENTENCES: Final[Mapping[FleetState, str]] = {
    FleetState.ABSENT: "It is not plugged in.",
    FleetState.INCOMPLETE: "Not all of its devices are plugged in.",
    FleetState.WITHDRAWN: "It is plugged in, but no rule offers it or the host keeps it for itself.",
    FleetState.DRAINED: "An operator drained it.",
    FleetState.ALLOCATED: "A consumer holds it.",
    FleetState.RESERVED: "An operator reserved it: reserved equals total, and no trait says why.",
    FleetState.FREE: "No consumer holds it.",
}
WAITS: Final = "A running guest holds it and has not had it for a minute or longer."
"""The sentence on a provider with STATE_WAITING, beside the one on its state."""

_UNFINISHED = "It has no inventory (yet)."


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What decides the state of a provider: its device's presence, an operator's intention, whether it is held."""

    presence: Presence
    intention: Intention = Intention.NONE
    held: bool = False


@dataclass(frozen=True, slots=True)
class ProviderState:
    """One row of the table: the provider's inventory and traits, the order of the writes, and the state's names.

    ``marks`` are the state traits that the agent sets; it removes its other ones (:data:`MARKS`). The trait of a drain
    is the operator's, and the agent neither sets nor removes it.
    """

    circumstances: Circumstances
    units: Units
    marks: frozenset[str]
    order: Order
    device_state: DeviceState
    fleet_state: FleetState

    @property
    def purgeable(self) -> bool:
        """Whether the provider can be deleted, since the agent can write everything in it again.

        An operator who drained an absent device wants it to be drained when it is back.
        """
        return self.circumstances == Circumstances(Presence.ABSENT)

    def sentence(self, drain_reason: str | None = None, *, unfinished: bool = False) -> str:
        """Why the device is in its state, for an operator: short sentences, with the reason of a drain if known.

        A provider is *unfinished* while it has neither an inventory nor a state trait that says why.
        """
        said = {self.fleet_state: _UNFINISHED if unfinished else _SENTENCES[self.fleet_state]}
        if self.circumstances.intention is Intention.DRAINED:
            drained = _SENTENCES[FleetState.DRAINED]
            said[FleetState.DRAINED] = f"{drained.removesuffix('.')}: {drain_reason}." if drain_reason else drained
        if self.circumstances.held:
            said[FleetState.ALLOCATED] = _SENTENCES[FleetState.ALLOCATED]
        return " ".join(said.values())


MARKS: Final = frozenset({STATE_ABSENT, STATE_WITHDRAWN, STATE_RESERVED, STATE_SHORT})
"""The state traits that are the agent's to set and to remove. A pool that lacks members has STATE_SHORT besides those
of its row (units/inventory.py)."""

_Row = tuple[Presence, Intention, bool, Units, frozenset[str], Order, DeviceState, FleetState]


def _table() -> dict[Circumstances, ProviderState]:
    offered, withdrawn, absent = Presence
    none, reserved, drained = Intention
    free, held = False, True
    open_, kept, empty = Units
    mark_last, inventory_first, traits_first = Order
    d, f = DeviceState, FleetState
    is_absent, is_withdrawn = frozenset({STATE_ABSENT}), frozenset({STATE_WITHDRAWN})
    # The inventory no longer shows that the operator reserved the device, so this trait remembers it.
    no_mark, was_reserved = frozenset[str](), frozenset({STATE_RESERVED})
    rows: tuple[_Row, ...] = (
        # device, operator, consumer: inventory, state traits, order of writes, state in the metrics, in the commands
        (offered, none, free, open_, no_mark, mark_last, d.FREE, f.FREE),
        (offered, none, held, open_, no_mark, mark_last, d.HELD, f.ALLOCATED),
        (offered, reserved, free, kept, no_mark, mark_last, d.KEPT_BACK, f.RESERVED),
        (offered, reserved, held, kept, no_mark, mark_last, d.HELD, f.ALLOCATED),
        (offered, drained, free, kept, no_mark, mark_last, d.KEPT_BACK, f.DRAINED),
        (offered, drained, held, kept, no_mark, mark_last, d.HELD, f.DRAINED),
        (withdrawn, none, free, empty, is_withdrawn, inventory_first, d.NOT_OFFERED, f.WITHDRAWN),
        (withdrawn, none, held, kept, is_withdrawn, traits_first, d.WITHDRAWN_HELD, f.WITHDRAWN),
        (withdrawn, reserved, free, kept, is_withdrawn | was_reserved, inventory_first, d.KEPT_BACK, f.WITHDRAWN),
        (withdrawn, reserved, held, kept, is_withdrawn | was_reserved, traits_first, d.WITHDRAWN_HELD, f.WITHDRAWN),
        (withdrawn, drained, free, kept, is_withdrawn, inventory_first, d.KEPT_BACK, f.WITHDRAWN),
        (withdrawn, drained, held, kept, is_withdrawn, traits_first, d.WITHDRAWN_HELD, f.WITHDRAWN),
        (absent, none, free, empty, is_absent, inventory_first, d.ABSENT, f.ABSENT),
        (absent, none, held, kept, is_absent, traits_first, d.ABSENT_HELD, f.ABSENT),
        (absent, reserved, free, kept, is_absent | was_reserved, inventory_first, d.ABSENT, f.ABSENT),
        (absent, reserved, held, kept, is_absent | was_reserved, traits_first, d.ABSENT_HELD, f.ABSENT),
        (absent, drained, free, kept, is_absent, inventory_first, d.ABSENT, f.ABSENT),
        (absent, drained, held, kept, is_absent, traits_first, d.ABSENT_HELD, f.ABSENT),
    )
    states = (ProviderState(Circumstances(*row[:3]), *row[3:]) for row in rows)
    return {state.circumstances: state for state in states}


TABLE: Final[Mapping[Circumstances, ProviderState]] = _table()
"""The state of a provider in every combination of circumstances."""


def has_drained_member(traits: Collection[str]) -> bool:
    """Whether an operator drained a member of the pool: only the traits of its provider say so."""
    return any(name.startswith(MEMBER_DRAINED_PREFIX) for name in traits)


def presence(traits: Collection[str], *, has_inventory: bool) -> Presence:
    """Whether the device is there, by its provider. One without an inventory counts as WITHDRAWN."""
    if STATE_ABSENT in traits:
        return Presence.ABSENT
    return Presence.OFFERED if has_inventory and STATE_WITHDRAWN not in traits else Presence.WITHDRAWN


def intention(traits: Collection[str], *, reserved: bool) -> Intention:
    """What an operator has decided about the device, from its provider's *traits* and whether anything is *reserved*.

    What the agent reserves has a state trait, ABSENT, WITHDRAWN or SHORT. STATE_RESERVED in addition means that
    the operator had reserved the device before.
    """
    if STATE_DRAINED in traits:
        return Intention.DRAINED
    is_ours = (
        any(mark in traits for mark in (STATE_ABSENT, STATE_WITHDRAWN, STATE_SHORT)) and STATE_RESERVED not in traits
    )
    return Intention.RESERVED if reserved and not is_ours else Intention.NONE
