"""What one provider should be next: its inventories and traits, and what decides them. Pure.

plan.py makes the writes that lead there, in their order; lifecycle.py has the states, units/inventory.py the
numbers.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import placement_traits
from usb_provider.model.lifecycle import ProviderState
from usb_provider.model.reporting.provider import DesiredProvider
from usb_provider.model.reporting.tree import Inventory, ObservedProvider
from usb_provider.model.units import inventory
from usb_provider.model.units.inventory import UnitNumbers


@dataclass(frozen=True, slots=True)
class Target:
    """What a provider should have."""

    inventories: Mapping[str, Inventory]
    traits: frozenset[str]


def only_takes_units(target: Target, now: ObservedProvider) -> bool:
    """Whether members of a pool went, and the agent reserves nothing: then no consumer must be sent to them first."""
    return bool(now.inventories) and all(
        name in target.inventories
        and target.inventories[name].total < each.total
        and target.inventories[name].reserved == each.reserved
        for name, each in now.inventories.items()
    )


def lacking_units(want: DesiredProvider, have: ObservedProvider) -> int:
    """How many more units consumers hold than there are."""
    return max(0, max((have.used(name) for name in have.used_classes), default=0) - want.units)


def inventories_of(
    classes: Collection[str], state: ProviderState, have: ObservedProvider, units: int
) -> tuple[dict[str, Inventory], frozenset[str]]:
    """The inventories of *classes*, of which *units* can be had, and the traits that say what the agent reserves."""
    found: dict[str, Inventory] = {}
    marks: frozenset[str] = frozenset()
    for name in classes:
        was = have.inventories.get(name)
        had = None if was is None else UnitNumbers(was.total, was.reserved)
        now = inventory.unit_numbers(state, units, have.used(name), had)
        if now is not None:
            found[name] = Inventory(total=now.total, reserved=now.reserved, max_unit=now.total)
            marks |= inventory.shortage_marks(state, now, units)
    return found, marks


def kept_classes(want: DesiredProvider, have: ObservedProvider) -> frozenset[str]:
    """Classes that the provider keeps, since consumers hold them, although its device now has another class."""
    return have.used_classes - {want.resource_class}


def others(traits: frozenset[str], retired: frozenset[str]) -> frozenset[str]:
    """Traits that are not ours to set or to remove."""
    return frozenset(name for name in traits if not placement_traits.is_owned(name)) - retired
