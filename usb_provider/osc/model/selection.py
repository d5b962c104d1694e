"""Which devices a command wants, and how much of that Placement can choose. Pure.

Placement chooses by traits, and by a unit that is free. It does not know who holds a device or reserved it, nor the
class of a device whose units are all taken. So its answer may have more than is wanted, and never less:
:meth:`Selection.takes` has the last word.
"""

from collections.abc import Collection
from dataclasses import dataclass

from placement_traits import MANAGED, STATE_ABSENT, STATE_DRAINED, STATE_WAITING, STATE_WITHDRAWN
from usb_provider.model.lifecycle import FleetState
from usb_provider.osc.model.fleet import Device

_TRAITS = {
    FleetState.ABSENT: STATE_ABSENT,
    FleetState.INCOMPLETE: STATE_ABSENT,
    FleetState.DRAINED: STATE_DRAINED,
    FleetState.WAITING: STATE_WAITING,
}
_EARLIER_STATES = frozenset({STATE_ABSENT, STATE_WITHDRAWN, STATE_DRAINED})


@dataclass(frozen=True, slots=True)
class Filter:
    """What Placement can choose by in one listing: traits, and a class of which a unit is free."""

    required: frozenset[str] = frozenset({MANAGED})
    forbidden: frozenset[str] = frozenset()
    resource_class: str | None = None

    @property
    def traits(self) -> frozenset[str]:
        """All traits that it names; Placement refuses a listing by a trait that does not exist."""
        return self.required | self.forbidden

    def query(self) -> list[tuple[str, str]]:
        """The parameters of ``GET /resource_providers``."""
        traits = ",".join([*sorted(self.required), *(f"!{name}" for name in sorted(self.forbidden))])
        return [("required", traits)] + ([("resources", f"{self.resource_class}:1")] if self.resource_class else [])

    def among(self, traits: Collection[str], classes: Collection[str]) -> "Filter | None":
        """The same where only these traits and classes exist; None where nothing can match then."""
        if not self.required <= set(traits) or (self.resource_class is not None and self.resource_class not in classes):
            return None
        return Filter(self.required, self.forbidden & set(traits), self.resource_class)


EVERY_DEVICE = Filter()
"""Chooses what has our mark."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The devices that a command wants; nothing said means all. A device must be in one of *states*."""

    traits: frozenset[str] = frozenset()
    resource_class: str | None = None
    states: frozenset[FleetState] = frozenset()

    def takes(self, device: Device) -> bool:
        """Whether *device* is wanted, if it has the traits, which Placement chooses by exactly."""
        if self.resource_class is not None and self.resource_class not in device.amounts:
            return False
        return not self.states or any(device.is_in(state) for state in self.states)

    def filters(self) -> tuple[Filter, ...]:
        """Listings that together have every device that is wanted."""
        required = self.traits | {MANAGED}
        found = {self._filter(state, required) for state in self.states} or {Filter(required)}
        if Filter(required) in found:
            return (Filter(required),)
        return tuple(sorted(found, key=Filter.query))

    def _filter(self, state: FleetState, required: frozenset[str]) -> Filter:
        match state:
            case FleetState.ABSENT | FleetState.INCOMPLETE | FleetState.DRAINED | FleetState.WAITING:
                return Filter(required | {_TRAITS[state]})
            case FleetState.FREE:
                return Filter(required, _EARLIER_STATES, self.resource_class)
            case FleetState.RESERVED:
                return Filter(required, _EARLIER_STATES)
            case FleetState.WITHDRAWN:
                # One that has no inventory yet has no state trait either.
                return Filter(required, frozenset({STATE_ABSENT}))
            case FleetState.ALLOCATED:
                return Filter(required)
