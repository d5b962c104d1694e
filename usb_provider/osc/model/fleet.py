"""The fleet: every USB device of a cloud as Placement has it, with one word for its state and a sentence for why.

Pure: from what was read it makes what to show, to drain and to purge; osc/fleet.py reads. The states are those of
lifecycle.py's table; tree.py has the agent's own view of its host.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import placement_traits
from placement_traits import (
    MEMBER_DRAINED_PREFIX,
    STATE_ABSENT,
    STATE_DRAINED,
    STATE_RESERVED,
    STATE_SHORT,
    STATE_WAITING,
    STATE_WITHDRAWN,
)
from placement_traits.usb import (
    CLASS_PREFIX,
    DRAIN_REASON_PREFIX,
    PRODUCT_PREFIX,
    SERIAL_PREFIX,
    SPEED_PREFIX,
    VENDOR_PREFIX,
)
from usb_provider.model import lifecycle
from usb_provider.model.lifecycle import TABLE, Circumstances, FleetState, Intention, Presence, ProviderState
from usb_provider.model.reporting.provider import NAME_MARK
from usb_provider.model.reporting.tree import Amount, Inventory, ObservedProvider
from usb_provider.model.units.names import BUNDLE_PREFIX, POOL_PREFIX


@dataclass(frozen=True, slots=True)
class Device:
    """One provider that bears our mark, and the compute node provider above it.

    ``host`` is that one's name, empty where it is gone. ``amounts`` are by resource class: one, or none for a free
    device that is absent.
    """

    uuid: str
    name: str
    host: str
    host_uuid: str
    traits: frozenset[str] = frozenset()
    amounts: Mapping[str, Amount] = field(default_factory=dict)

    @property
    def resource_class(self) -> str | None:
        """Its class; None while it has no inventory, as when it is absent and free."""
        return next(iter(sorted(self.amounts)), None)

    @property
    def key(self) -> str:
        """Its name without the host's: ``1050:0407:Y1``."""
        # In a name that would be too long, the host's part is cut.
        cut = self.name.removeprefix(f"{self.host[:100]}{NAME_MARK}")
        return self.name.removeprefix(f"{self.host}{NAME_MARK}") if cut == self.name else cut

    @property
    def is_pool(self) -> bool:
        """Whether it is the provider of a pool."""
        return self.key.startswith(POOL_PREFIX)

    @property
    def is_bundle(self) -> bool:
        """Whether it is the provider of a bundle."""
        return self.key.startswith(BUNDLE_PREFIX)

    @property
    def held(self) -> bool:
        """Whether a consumer holds it."""
        return any(amount.used for amount in self.amounts.values())

    @property
    def units(self) -> int:
        """How many units can be had, held or not: 1 of a device that can be had, and of a pool as many as members."""
        return max(0, sum(amount.capacity for amount in self.amounts.values()))

    @property
    def units_held(self) -> int:
        """How many units consumers hold."""
        return sum(amount.used for amount in self.amounts.values())

    @property
    def units_free(self) -> int:
        """How many more units can be had now."""
        return max(0, self.units - self.units_held) if self.offered else 0

    @property
    def counted(self) -> int:
        """As how many devices it counts: a pool as its units, or as one while none can be had and none is held."""
        return max(1, self.units, self.units_held)

    @property
    def offered(self) -> bool:
        """Whether it is plugged in and a rule offers it."""
        return self._row.circumstances.presence is Presence.OFFERED

    @property
    def state(self) -> FleetState:
        """One word for it; a pool is allocated when all of its units are, and until then free."""
        state = self._row.fleet_state
        if state is not FleetState.ALLOCATED:
            return state
        return FleetState.FREE if self.units_free else FleetState.WAITING if self.waits else state

    @property
    def waits(self) -> bool:
        """Whether a running guest holds it and has not had it for a minute or longer."""
        return STATE_WAITING in self.traits and self.held

    def is_in(self, state: FleetState) -> bool:
        """Whether ``--state`` finds it: an absent device that is held is also allocated; the same for drained. A bundle
        that is not complete is also absent.
        """
        match state:
            case FleetState.ABSENT:
                return self._row.circumstances.presence is Presence.ABSENT
            case FleetState.ALLOCATED:
                return self.held
            case FleetState.WAITING:
                return self.waits
            case FleetState.DRAINED:
                return self._row.circumstances.intention is Intention.DRAINED
            case _:
                return self.state is state

    @property
    def reason(self) -> str:
        """Why it is in its state, as one or more short sentences."""
        number = len(drained_members(self.traits))
        drained = f" An operator drained {number} of its members." if number else ""
        return f"{self._why}{drained}{f' {lifecycle.WAITS}' if self.waits else ''}"

    @property
    def _why(self) -> str:
        if self.held and self.state is FleetState.FREE:
            return f"Consumers hold {self.units_held} of its {self.units} units."
        unfinished = not self.amounts and not self.traits & {STATE_ABSENT, STATE_WITHDRAWN}
        said = self._row.sentence(placement_traits.drain_reason(self.traits), unfinished=unfinished)
        is_short = STATE_SHORT in self.traits and self.units < self.units_held
        return f"{said} Of its {self.units_held} held units, {self.units} can be had." if is_short else said

    @property
    def purgeable(self) -> bool:
        """Whether its provider may be deleted: the device is absent, free, not drained and not reserved."""
        return self._row.purgeable and not self.amounts and not lifecycle.has_drained_member(self.traits)

    @property
    def set_aside(self) -> bool:
        """Whether a purge has begun to delete its provider, and has not ended."""
        return placement_traits.PURGED in self.traits and not self.amounts

    @property
    def _row(self) -> ProviderState:
        nothing_left = bool(self.amounts) and all(amount.capacity <= 0 for amount in self.amounts.values())
        there = lifecycle.presence(self.traits, has_inventory=bool(self.amounts))
        wanted = lifecycle.intention(self.traits, reserved=nothing_left)
        row = TABLE[Circumstances(there, wanted, self.held)]
        # To the agent, a bundle that lacks a device is as absent as that device. The others may be plugged in.
        is_incomplete = row.fleet_state is FleetState.ABSENT and self.is_bundle
        return dataclasses.replace(row, fleet_state=FleetState.INCOMPLETE) if is_incomplete else row


def drained_members(traits: Iterable[str]) -> tuple[str, ...]:
    """The members that a command drained, by *traits* of a pool: the 16 digits that tell each from the others."""
    found = (name.removeprefix(MEMBER_DRAINED_PREFIX) for name in traits if name.startswith(MEMBER_DRAINED_PREFIX))
    return tuple(sorted(digits.lower() for digits in found))


@dataclass(frozen=True, slots=True)
class Facts:
    """What a device's traits say of it; what they do not say is None or empty. ``others`` are a rule's or yours."""

    vendor_id: str | None
    product_id: str | None
    classes: tuple[str, ...]
    speed: str | None
    serial: str | None
    others: tuple[str, ...]


def facts(traits: Iterable[str]) -> Facts:
    """The device's descriptor as far as *traits* have it: ids of four hexadecimal digits, the rest as words."""
    found: dict[str, list[str]] = {}
    others = []
    for name in sorted(traits):
        prefix = next((each for each in _FACT_PREFIXES if name.startswith(each)), None)
        if prefix is not None:
            found.setdefault(prefix, []).append(name.removeprefix(prefix))
        elif not placement_traits.is_owned(name) and not name.startswith(DRAIN_REASON_PREFIX):
            others.append(name)

    def word(prefix: str) -> str | None:
        return next((each.lower().replace("_", "-") for each in found.get(prefix, ())), None)

    return Facts(
        vendor_id=word(VENDOR_PREFIX),
        product_id=next((each.partition("_")[2].lower() for each in found.get(PRODUCT_PREFIX, ())), None),
        classes=tuple(each.lower().replace("_", "-") for each in found.get(CLASS_PREFIX, ())),
        speed=word(SPEED_PREFIX),
        serial=next(iter(found.get(SERIAL_PREFIX, ())), None),
        others=tuple(others),
    )


_FACT_PREFIXES = (VENDOR_PREFIX, PRODUCT_PREFIX, CLASS_PREFIX, SPEED_PREFIX, SERIAL_PREFIX)


@dataclass(frozen=True, slots=True)
class HostCount:
    """The devices of one host, counted: each unit of a pool is one.

    ``states`` has each state's number; ``held`` counts across them.
    """

    host: str
    host_uuid: str
    states: Mapping[FleetState, int]
    offered: int
    held: int


def count_by_host(devices: Iterable[Device]) -> tuple[HostCount, ...]:
    """One line for each host that has a device, by name."""
    hosts: dict[tuple[str, str], list[Device]] = {}
    for device in devices:
        hosts.setdefault((device.host, device.host_uuid), []).append(device)
    return tuple(
        HostCount(
            host,
            uuid,
            _count_by_state(found),
            offered=sum(max(1, each.units) for each in found if each.offered),
            held=sum(each.units_held for each in found),
        )
        for (host, uuid), found in sorted(hosts.items())
    )


def _count_by_state(devices: Iterable[Device]) -> Counter[FleetState]:
    states: Counter[FleetState] = Counter()
    for each in devices:
        states[each.state] += each.units_free if each.state is FleetState.FREE else each.counted
    return states


@dataclass(frozen=True, slots=True)
class Write:
    """One write while draining: the traits, or the inventories, that a provider should have next; the other is None."""

    traits: frozenset[str] | None = None
    inventories: Mapping[str, Inventory] | None = None


def drain(have: ObservedProvider, reason: str | None = None) -> Write | None:
    """The next step that drains *have*, or None when it is drained; without *reason*, a trait, an older one stays.

    The trait goes first: a ``reserved`` without it would look like one that an operator set by hand.
    """
    kept = have.traits if reason is None else _without_reasons(have.traits) | {reason}
    traits = kept | {STATE_DRAINED}
    if traits != have.traits:
        return Write(traits=traits)
    reserved = {name: dataclasses.replace(each, reserved=each.total) for name, each in have.inventories.items()}
    return Write(inventories=reserved) if reserved != dict(have.inventories) else None


def undrain(have: ObservedProvider) -> Write | None:
    """The next step that undrains *have*, or None when it is not drained.

    The inventory goes first: after an interruption between the two writes, the device is still drained and shows it.
    What is absent, withdrawn or a pool that lacks members stays reserved: the agent ends that. Only the agent knows how
    many units can be had.
    """
    if STATE_DRAINED not in have.traits:
        return None
    free = {name: dataclasses.replace(each, reserved=0) for name, each in have.inventories.items()}
    if not have.traits & {STATE_ABSENT, STATE_WITHDRAWN, STATE_SHORT} and free != dict(have.inventories):
        return Write(inventories=free)
    return Write(traits=_without_reasons(have.traits) - {STATE_DRAINED, STATE_RESERVED})


def _without_reasons(traits: frozenset[str]) -> frozenset[str]:
    return frozenset(name for name in traits if not name.startswith(DRAIN_REASON_PREFIX))
