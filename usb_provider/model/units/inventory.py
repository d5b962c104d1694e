"""The inventory of a provider of several units: how many there are, and how many of them no consumer may get. Pure.

lifecycle.py's table says which kind of inventory a provider gets; this module gives the numbers. A provider of one
device is one of one unit.
"""

from dataclasses import dataclass

from placement_traits import STATE_RESERVED, STATE_SHORT
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


def shortage_marks(
    state: ProviderState, now: UnitNumbers | None, units: int, had: UnitNumbers | None
) -> frozenset[str]:
    """The state traits that say that the agent reserves what *now* reserves, beyond those of *state*'s row.

    :param units: how many units can be had.
    :param had: the numbers that Placement has now.
    """
    known = state.circumstances
    if now is None or known.presence is not Presence.OFFERED or now.total <= units:
        return frozenset()
    match known.intention:
        case Intention.NONE:
            return frozenset({STATE_SHORT})
        case Intention.RESERVED if had is None or now.reserved > had.reserved:
            return frozenset({STATE_SHORT, STATE_RESERVED})
        case _:
            return frozenset()
