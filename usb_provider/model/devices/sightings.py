"""What was plugged in where when the agent last looked, by the key that each device had. Pure.

A claim in Placement names a key. Which of two devices with one serial number that claim is about, only the last look
tells. What follows from it is identity.py's; what is kept on disk is agent/store.py's.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from usb_provider.model.devices.device import UsbDevice
from usb_provider.model.devices.identity import possible_keys


@dataclass(frozen=True, slots=True)
class Sighting:
    """A device as it was seen: its sysfs path, its ``vid:pid``, and its serial number if it has one.

    Two boots may number the buses differently. The path then names no device, or the same place; never another one.
    """

    sys_path: str
    usb_id: str
    serial: str | None

    @classmethod
    def of(cls, device: UsbDevice) -> Self:
        """*device* as it is plugged in now."""
        return cls(device.sys_path, device.usb_id, device.serial)


@dataclass(frozen=True, slots=True)
class Move:
    """A device that was seen under *key* while Placement may still offer it under a key in *old_keys*."""

    key: str
    sighting: Sighting
    old_keys: frozenset[str]


@dataclass(frozen=True, slots=True)
class Sightings:
    """The last sighting of each key, and the moves that Placement does not show yet."""

    by_key: Mapping[str, Sighting] = field(default_factory=dict)
    moves: tuple[Move, ...] = ()

    def after(self, looked: Iterable[tuple[str, UsbDevice]], is_offered: Callable[[str], bool]) -> "Sightings":
        """These sightings once each device of *looked* was seen under its key. *is_offered* as in :meth:`moved`."""
        seen = list(looked)
        taken = {key for key, _ in seen}
        moves = tuple(Move(key, Sighting.of(device), possible_keys(device) - taken) for key, device in seen)
        return Sightings(self.by_key, moves).moved(is_offered)

    def moved(self, is_offered: Callable[[str], bool]) -> "Sightings":
        """These sightings with each move done that Placement bears out.

        A device leaves its old provider before its new one is written. Until it has, which takes another pass where
        Placement fails, a claim on the new one is not about it but about the device that was known by it before.

        :param is_offered: whether Placement offers a device under a key, be it held or free.
        """
        by_key = dict(self.by_key)
        waiting = []
        for move in self.moves:
            left = {key for key in move.old_keys if by_key.get(key) in (None, move.sighting)}
            if any(is_offered(key) for key in left):
                waiting.append(move)
                continue
            # What it was known by before says nothing any more of who will be in that place later.
            for key in left:
                by_key.pop(key, None)
            by_key[move.key] = move.sighting
        return Sightings(by_key, tuple(waiting))
