"""Which device was plugged in where when the agent last looked, by the key that each device had. Pure.

A claim in Placement names a key. When two devices have the same serial number, only the last look tells which of them
the claim is about. identity.py decides what follows from it; agent/store.py keeps it on disk.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from usb_provider.model.devices.device import UsbDevice
from usb_provider.model.devices.held import Sighting
from usb_provider.model.devices.keys import possible_keys
from usb_provider.model.devices.place import Place

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Move:
    """A device that was seen under *key* while Placement may still offer it under a key in *old_keys*."""

    key: str
    sighting: Sighting
    old_keys: frozenset[str]


@dataclass(frozen=True, slots=True)
class Sightings:
    """The last sighting of each key, the oldest first, and the moves that Placement does not show yet."""

    by_key: Mapping[str, Sighting] = field(default_factory=dict)
    moves: tuple[Move, ...] = ()

    def without_oldest(self, limit: int, kept: Collection[str]) -> "Sightings":
        """These sightings without the oldest ones above *limit*; those of keys in *kept* always stay."""
        others = [key for key in self.by_key if key not in kept]
        dropped = frozenset(others[: max(0, len(self.by_key) - limit)])
        if not dropped:
            return self
        return Sightings({key: seen for key, seen in self.by_key.items() if key not in dropped}, self.moves)

    def after(
        self,
        looked: Iterable[tuple[str, UsbDevice]],
        is_offered: Callable[[str], bool],
        *,
        has_serial: Callable[[str, UsbDevice], bool] = lambda key, device: True,
    ) -> "Sightings":
        """These sightings after each device of *looked* was seen under its key. *is_offered* as in :meth:`moved`.

        :param has_serial: whether the serial number that a device shows is to be remembered; otherwise, the one that it
            had under this key before stays, since it tells the device from one that takes its place.
        """
        seen = list(looked)
        taken = {key for key, _ in seen}
        places = Counter(device.place for _, device in seen)
        moves = []
        for key, device in seen:
            sighting = Sighting.of(device, is_one_of_two=places[device.place] > 1)
            before = self.by_key.get(key)
            if before is not None and before.half is not None and before.is_where(device):
                sighting = dataclasses.replace(sighting, half=before.half)
            if before is not None and not has_serial(key, device):
                sighting = dataclasses.replace(sighting, serial=before.serial)
            moves.append(Move(key, sighting, (possible_keys(device) | possible_keys(device, key[:9])) - taken))
        return Sightings(self.by_key, self._numbered(moves)).moved(is_offered)

    def _numbered(self, moves: Sequence[Move]) -> tuple[Move, ...]:
        """*moves* with the number of the look that they are from: the last one, unless they show something new."""
        last = max((seen.look for seen in self.by_key.values()), default=0)
        known = {**self.by_key, **{move.key: move.sighting for move in self.moves}}
        now = [dataclasses.replace(move, sighting=dataclasses.replace(move.sighting, look=last)) for move in moves]
        if all(known.get(move.key) == move.sighting for move in now):
            return tuple(now)
        return tuple(
            dataclasses.replace(move, sighting=dataclasses.replace(move.sighting, look=last + 1)) for move in moves
        )

    def moved(self, is_offered: Callable[[str], bool]) -> "Sightings":
        """These sightings with each move done that Placement shows.

        The agent closes the old provider of a device before it writes the new one. Until the old one is closed, which
        takes another pass when Placement fails, a claim on the new one is about the device that had its key before.

        :param is_offered: whether Placement offers a device under a key, held or free.
        """
        by_key = dict(self.by_key)
        waiting = []
        for move in self.moves:
            left = {key for key in move.old_keys if key not in by_key or by_key[key].is_as(move.sighting)}
            if any(is_offered(key) for key in left):
                waiting.append(move)
                continue
            # Its old key says nothing about the device that will be in that place later.
            for key in (*left, move.key):
                by_key.pop(key, None)
            by_key[move.key] = move.sighting
        return Sightings(by_key, tuple(waiting))

    def to_json(self) -> dict[str, object]:
        """As it is stored; :meth:`from_json` reads it."""
        return {
            "version": _VERSION,
            "sightings": {key: _record(seen) for key, seen in self.by_key.items()},
            "moves": [
                {"key": move.key, "old_keys": sorted(move.old_keys), **_record(move.sighting)} for move in self.moves
            ],
        }

    @classmethod
    def from_json(cls, stored: object) -> Self:
        """From what :meth:`to_json` gave; members that a later version may add are ignored.

        :raises ValueError: when it is of another form or version.
        """
        document = _object(stored)
        if document.get("version") != _VERSION:
            raise ValueError(f"it is not of version {_VERSION}")
        return cls(
            {key: _sighting(record) for key, record in _object(document.get("sightings")).items()},
            tuple(_move(record) for record in _list(document.get("moves"))),
        )


def _record(seen: Sighting) -> dict[str, object]:
    place = seen.place and {
        "controller": seen.place.controller,
        "port": seen.place.port,
        "is_usb3": seen.place.is_usb3,
    }
    return {
        "sys_path": seen.sys_path,
        "usb_id": seen.usb_id,
        "serial": seen.serial,
        "place": place,
        "half": seen.half,
        "look": seen.look,
    }


def _sighting(stored: object) -> Sighting:
    record = _object(stored)
    return Sighting(
        _place(record.get("place")),
        _text(record.get("sys_path")),
        _text(record.get("usb_id")),
        _text_or_none(record.get("serial")),
        _text_or_none(record.get("half")),
        _number(record.get("look", 0)),
    )


def _place(stored: object) -> Place | None:
    """A stored place; the first release that kept sightings had none."""
    if stored is None:
        return None
    record = _object(stored)
    return Place(_text(record.get("controller")), _text(record.get("port")), record.get("is_usb3") is True)


def _move(stored: object) -> Move:
    record = _object(stored)
    old_keys = frozenset(texts(record.get("old_keys")))
    return Move(_text(record.get("key")), _sighting(record), old_keys)


def _object(stored: object) -> dict[str, object]:
    if not isinstance(stored, dict):
        raise ValueError("it has something else where a JSON object should be")
    return stored


def texts(stored: object) -> list[str]:
    """*stored*, which came from JSON, as a list of texts. :raises ValueError: when it is something else."""
    return [_text(entry) for entry in _list(stored)]


def _number(stored: object) -> int:
    if not isinstance(stored, int):
        raise ValueError("it has something else where a number should be")
    return stored


def _text_or_none(stored: object) -> str | None:
    return None if stored is None else _text(stored)


def _list(stored: object) -> list[object]:
    if not isinstance(stored, list):
        raise ValueError("it has something else where a list should be")
    return stored


def _text(stored: object) -> str:
    if not isinstance(stored, str):
        raise ValueError("it has something else where a text should be")
    return stored
