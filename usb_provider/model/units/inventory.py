"""The inventory of a provider of several units: how many there are, and how many of them no consumer may get. Pure.

lifecycle.py's table says which kind of inventory a provider gets; this module gives the numbers. A provider of one
device is one of one unit.
"""

from dataclasses import dataclass

from placement_traits import STATE_SHORT
from usb_provider.model.lifecycle import Intention, Presence, ProviderState, Units


@dataclass(frozen=True, slots=True)
class UnitNumbers:
    """The numbers of one inventory.

    ``total`` is the units that can be had or those that are held, whichever are more, so a claim is never larger than
    the provider. ``reserved`` are, without an operator's doing, those that are held and cannot be had: when they are
    released, no consumer gets them.
    """

    total: int
    reserved: int = 0


def unit_numbers(state: ProviderState, units: int, used: int, had: UnitNumbers | None) -> UnitNumbers | None:
    """The numbers of the inventory in *state*; None where there is none.

    :param units: how many units can be had.
    :param used: how many units consumers hold.
    :param had: the numbers that Placement has now.
    """
    if state.units is Units.NONE:
        return None
    total = max(units, used) or (had.total if had is not None else 1)
    lacking = total - units
    if state.units is Units.OPEN:
        return UnitNumbers(total, lacking)
    if state.circumstances.intention is Intention.RESERVED and had is not None:
        return UnitNumbers(total, min(total, max(had.reserved, lacking)))
    return UnitNumbers(total, total)


def shortage_marks(state: ProviderState, now: UnitNumbers | None, units: int) -> frozenset[str]:
    """The state trait that says that the agent reserves a part of *now*, beyond those of *state*'s row.

    A drained pool has it too: its units are all reserved, and the command that ends the drain then leaves the
    reservation to the agent. What an operator reserved stays the operator's, also where the agent had to reserve more.

    :param units: how many units can be had.
    """
    known = state.circumstances
    is_short = now is not None and known.presence is Presence.OFFERED and now.total > units
    return frozenset({STATE_SHORT}) if is_short and known.intention is not Intention.RESERVED else frozenset()
