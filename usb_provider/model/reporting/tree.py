"""What Placement held below one root when it was read: a frozen picture with generations."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import placement_traits
from usb_provider.model import lifecycle
from usb_provider.model.lifecycle import TABLE, Circumstances, Intention, Presence
from usb_provider.model.reporting.provider import DesiredProvider, Root, distinct_name, folded

Allocations = Mapping[str, Mapping[str, int]]
"""What each consumer, by its UUID, has of one provider: ``{class: amount}``."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """One class's inventory in Placement's own words; the defaults are those of one exclusive device."""

    total: int = 1
    reserved: int = 0
    min_unit: int = 1
    max_unit: int = 1
    step_size: int = 1
    allocation_ratio: float = 1.0

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """From an element of Placement's ``inventories``; fields that Placement may add are left out."""
        return cls(
            total=record["total"],
            reserved=record["reserved"],
            min_unit=record["min_unit"],
            max_unit=record["max_unit"],
            step_size=record["step_size"],
            allocation_ratio=record["allocation_ratio"],
        )

    def to_json(self) -> dict[str, int | float]:
        """As Placement takes it."""
        return {
            "total": self.total,
            "reserved": self.reserved,
            "min_unit": self.min_unit,
            "max_unit": self.max_unit,
            "step_size": self.step_size,
            "allocation_ratio": self.allocation_ratio,
        }

    @property
    def schedulable(self) -> bool:
        """Whether a unit can be given away, if no consumer has it yet."""
        return self.reserved < self.total


@dataclass(frozen=True, slots=True)
class ProviderRecord:
    """One line of a listing of the tree: enough to see whether anything about the provider changed."""

    uuid: str
    name: str
    generation: int
    parent_uuid: str | None


@dataclass(frozen=True, slots=True)
class Amount:
    """The units of one class: those that are not reserved (times the allocation ratio), and those that are in use."""

    capacity: int
    used: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What a listing of candidates says of one provider: all traits, but of its inventories only the amounts."""

    traits: frozenset[str]
    amounts: Mapping[str, Amount]


@dataclass(frozen=True, slots=True)
class ObservedProvider:
    """One provider in full, consistent at *generation*."""

    uuid: str
    name: str
    generation: int
    inventories: Mapping[str, Inventory] = field(default_factory=dict)
    traits: frozenset[str] = frozenset()
    allocations: Allocations = field(default_factory=dict)

    @property
    def managed(self) -> bool:
        """Whether it carries our owner mark; one that does not is never written."""
        return placement_traits.MANAGED in self.traits

    @property
    def blank(self) -> bool:
        """Whether it is empty, as when the agent ends right after creating it, or during a purge."""
        return not self.inventories and self.traits <= {placement_traits.PURGED} and not self.allocations

    @property
    def absent(self) -> bool:
        """Whether it is marked as belonging to a device that is not plugged in."""
        return placement_traits.STATE_ABSENT in self.traits

    @property
    def half_purged(self) -> bool:
        """Whether a purge ended right before it would have taken the provider out of the tree."""
        return self.blank and placement_traits.PURGED in self.traits

    @property
    def purgeable(self) -> bool:
        """Whether a purge may take it: of an absent device, without inventory, kept by no consumer and no operator.

        The drain of a pool's member is in the provider alone.
        """
        state = TABLE[Circumstances(Presence.ABSENT, self.intention, self.allocated)]
        says_more = bool(self.inventories) or lifecycle.has_drained_member(self.traits)
        return self.managed and self.absent and state.purgeable and not says_more

    @property
    def used_classes(self) -> frozenset[str]:
        """Classes of which some consumer has a unit."""
        return frozenset(name for has in self.allocations.values() for name, amount in has.items() if amount)

    def used(self, resource_class: str) -> int:
        """How many units of *resource_class* consumers have."""
        return sum(has.get(resource_class, 0) for has in self.allocations.values())

    @property
    def held(self) -> dict[str, int]:
        """How many units of all classes each consumer holds."""
        return {consumer: sum(has.values()) for consumer, has in self.allocations.items()}

    @property
    def entitled(self) -> dict[str, int]:
        """How many units each consumer is to have: those that it holds, but no more than users want to leave to it."""
        stay = placement_traits.detach_requests(self.traits)
        entitled = {consumer: min(units, stay.get(consumer, units)) for consumer, units in self.held.items()}
        return {consumer: units for consumer, units in entitled.items() if units}

    @property
    def leaving(self) -> dict[str, int]:
        """By consumer, how many units a user wants to leave to it, where it holds more."""
        stay, held = placement_traits.detach_requests(self.traits), self.held
        return {each: units for each, units in stay.items() if held.get(each, 0) > units}

    @property
    def free(self) -> bool:
        """Whether the scheduler can give a unit of it to a consumer now."""
        return any(self.used(name) < each.total - each.reserved for name, each in self.inventories.items())

    @property
    def schedulable(self) -> bool:
        """Whether the scheduler could give a unit of it to a consumer, if none had one."""
        return any(each.schedulable for each in self.inventories.values())

    @property
    def allocated(self) -> bool:
        """Whether any consumer holds it."""
        return bool(self.used_classes)

    @property
    def reserved(self) -> bool:
        """Whether any of it is reserved, by an operator or by us."""
        return any(inventory.reserved for inventory in self.inventories.values())

    @property
    def intention(self) -> Intention:
        """What an operator has said about the device."""
        return lifecycle.intention(self.traits, reserved=self.reserved)


def from_summary(record: ProviderRecord, summary: Summary) -> ObservedProvider | None:
    """The provider of *record* if it is free and *summary* looks like what the agent writes; None for any other.

    A summary has no other field of an inventory than the capacity. So an inventory here is the one that the agent
    writes for that capacity, and ``total``, ``reserved``, the units and the ratio in Placement may be different.
    """
    inventories = {}
    for name, amount in summary.amounts.items():
        if amount == Amount(1, 0):
            inventories[name] = Inventory()
        elif amount == Amount(0, 0) and placement_traits.STATE_DRAINED in summary.traits:
            inventories[name] = Inventory(reserved=1)
        else:
            return None
    return ObservedProvider(record.uuid, record.name, record.generation, inventories, summary.traits)


@dataclass(frozen=True, slots=True)
class ObservedTree:
    """The root and those providers below it that are, or could be, ours; *parents* are UUIDs that have children."""

    root: Root
    providers: Mapping[str, ObservedProvider] = field(default_factory=dict)
    parents: frozenset[str] = frozenset()


def with_holders(tree: ObservedTree, holders: Mapping[str, tuple[int, Allocations]]) -> ObservedTree:
    """*tree* with the allocations in *holders*, ``{provider UUID: (generation, allocations)}``, where they are newer.

    Allocations in *holders* count only where the generation is still the one in *tree*: a provider with another
    generation is read in full at the next look.
    """
    changed = {
        uuid: dataclasses.replace(provider, allocations=allocations)
        for uuid, (generation, allocations) in holders.items()
        if (provider := tree.providers.get(uuid)) is not None
        and provider.generation == generation
        and provider.allocations != allocations
    }
    return dataclasses.replace(tree, providers={**tree.providers, **changed}) if changed else tree


def with_distinct_names(desired: Sequence[DesiredProvider], tree: ObservedTree) -> list[DesiredProvider]:
    """*desired*, where each provider that is not in *tree* yet has a name that no other one has for the database."""
    taken = {folded(have.name): uuid for uuid, have in tree.providers.items()}
    return [
        dataclasses.replace(want, name=distinct_name(want.name, want.uuid))
        if want.uuid not in tree.providers and taken.setdefault(folded(want.name), want.uuid) != want.uuid
        else want
        for want in desired
    ]
