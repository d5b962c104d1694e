"""Which devices a server holds beyond those that its flavor asks for. Pure.

Placement does not say for which line of the flavor a server holds a device. So the devices are matched with the lines:
first where class and traits fit, since Nova chose by both; then by the class alone, since traits may have changed.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from usb_provider.osc.model.flavor import NO_SUFFIX, RequestGroup, is_usb, parse_extra_specs
from usb_provider.osc.model.fleet import Device


@dataclass(frozen=True, slots=True)
class HeldDevice:
    """A device, or a pool, and how many units of *resource_class* a server holds of it."""

    device: Device
    resource_class: str
    units: int


@dataclass(frozen=True, slots=True)
class _Line:
    """One unit that a flavor asks for."""

    resource_class: str
    group: RequestGroup

    def takes(self, held: HeldDevice, *, exactly: bool) -> bool:
        if held.resource_class != self.resource_class:
            return False
        if not exactly:
            return True
        traits = held.device.traits
        # The traits of the group without a suffix may be those of another provider of the host.
        required = self.group.required if self.group.suffix != NO_SUFFIX else frozenset()
        return required <= traits and not self.group.forbidden & traits


@dataclass(frozen=True, slots=True)
class Surplus:
    """How many units of one device the flavor does not need: *certain* whatever counts as the flavor's, *possible* when
    this device counts as the flavor's last of all. Between them are those in whose place another device would do.
    """

    held: HeldDevice
    certain: int
    possible: int


def surpluses(
    held: Sequence[HeldDevice], extra_specs: Mapping[str, str], usb_classes: Collection[str] = ()
) -> tuple[Surplus, ...]:
    """The surplus of each of *held* over the flavor with *extra_specs*, by the name of the device."""
    lines = _lines(extra_specs, usb_classes)
    by_name = sorted(held, key=lambda each: each.device.name)
    return tuple(
        Surplus(
            each,
            each.units - _matched(each, [each, *_others(each, by_name)], lines),
            each.units - _matched(each, [*_others(each, by_name), each], lines),
        )
        for each in by_name
    )


def units_beyond(held: Sequence[HeldDevice], extra_specs: Mapping[str, str], usb_classes: Collection[str] = ()) -> int:
    """How many units of all of *held* together the flavor does not need."""
    matching = _Matching(held, _lines(extra_specs, usb_classes))
    return sum(each.units for each in held) - len(matching.line_of)


def _others(this: HeldDevice, held: Sequence[HeldDevice]) -> list[HeldDevice]:
    return [each for each in held if each is not this]


def _matched(this: HeldDevice, held: Sequence[HeldDevice], lines: Sequence[_Line]) -> int:
    """How many units of *this* the flavor needs where *held* count as the flavor's in this order."""
    matching = _Matching(held, lines)
    return sum(matching.units[number] is this for number in matching.line_of)


def _lines(extra_specs: Mapping[str, str], usb_classes: Collection[str]) -> list[_Line]:
    return [
        _Line(name, group)
        for group in parse_extra_specs(extra_specs).groups
        for name, amount in sorted(group.resources.items())
        if is_usb(name, usb_classes)
        for _ in range(amount)
    ]


class _Matching:
    """The units of *held* and the lines, each with one partner at most. A unit that has a line never loses it again, so
    those that come first have one before those that come later.
    """

    def __init__(self, held: Sequence[HeldDevice], lines: Sequence[_Line]) -> None:
        self.units = [each for each in held for _ in range(each.units)]
        self.line_of: dict[int, int] = {}
        self._lines = lines
        self._unit_of: dict[int, int] = {}
        for exactly in (True, False):
            for number in range(len(self.units)):
                if number not in self.line_of:
                    self._find(number, set(), exactly=exactly)

    def _find(self, unit: int, tried: set[int], *, exactly: bool) -> bool:
        """Find a line for *unit*; other units may change theirs."""
        for number, line in enumerate(self._lines):
            if number in tried or not line.takes(self.units[unit], exactly=exactly):
                continue
            tried.add(number)
            other = self._unit_of.get(number)
            if other is None or self._find(other, tried, exactly=exactly):
                self.line_of[unit], self._unit_of[number] = number, unit
                return True
        return False
