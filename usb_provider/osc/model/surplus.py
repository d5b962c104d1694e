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


def units_beyond(
    held: Sequence[HeldDevice],
    extra_specs: Mapping[str, str],
    usb_classes: Collection[str] = (),
    *,
    spare: str | None = None,
) -> dict[str, int]:
    """How many units of each of *held* the flavor does not need, by the UUID of the device; none is left out.

    Where several suit the flavor equally, those that come first by name count as the flavor's.

    :param spare: the UUID of a device that counts as the flavor's last of all: whether it may go.
    """
    lines = _lines(extra_specs, usb_classes)
    units = [each for each in sorted(held, key=lambda each: _order(each, spare)) for _ in range(each.units)]
    matching = _Matching(units, lines)
    for exactly in (True, False):
        for number in range(len(units)):
            matching.extend(number, exactly=exactly)
    beyond = {each.device.uuid: 0 for each in held}
    for number in range(len(units)):
        beyond[units[number].device.uuid] += number not in matching.line_of
    return beyond


def _order(each: HeldDevice, spare: str | None) -> tuple[bool, str]:
    return each.device.uuid == spare, each.device.name


def _lines(extra_specs: Mapping[str, str], usb_classes: Collection[str]) -> list[_Line]:
    return [
        _Line(name, group)
        for group in parse_extra_specs(extra_specs).groups
        for name, amount in sorted(group.resources.items())
        if is_usb(name, usb_classes)
        for _ in range(amount)
    ]


class _Matching:
    """Units and lines, each with one partner at most; a unit that has a line never loses it again."""

    def __init__(self, units: Sequence[HeldDevice], lines: Sequence[_Line]) -> None:
        self._units = units
        self._lines = lines
        self.line_of: dict[int, int] = {}
        self._unit_of: dict[int, int] = {}

    def extend(self, unit: int, *, exactly: bool) -> None:
        """Find a line for *unit*, if it has none; other units may change theirs."""
        if unit not in self.line_of:
            self._find(unit, set(), exactly=exactly)

    def _find(self, unit: int, tried: set[int], *, exactly: bool) -> bool:
        for number, line in enumerate(self._lines):
            if number in tried or not line.takes(self._units[unit], exactly=exactly):
                continue
            tried.add(number)
            other = self._unit_of.get(number)
            if other is None or self._find(other, tried, exactly=exactly):
                self.line_of[unit], self._unit_of[number] = number, unit
                return True
        return False
