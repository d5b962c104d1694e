"""Which signatures on disks are those of the guests that had the disks. Pure.

A host does not see what a guest writes: while QEMU has a disk, the host has no block device of it. So the signatures
that the host finds when it gets the disk back are the guest's, and stay so after the server is gone; a signature that
comes later is the host's. agent/store.py keeps this on disk.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from usb_provider.model.devices.device import UsbDevice
from usb_provider.model.devices.keys import JUNK, JunkSerials, serial_problem
from usb_provider.model.devices.sightings import texts

BACK_SECONDS = 60.0
"""How long after the disk is back its signatures may still turn up: partitions come later than the disk does."""

OFFERED_DISKS = "disks"
"""The directory in [agent]state_dir that has a file for each disk that is for guests."""

_LIMIT = 1000
_VERSION = 1
_MASS_STORAGE = "08"
_PLAIN = re.compile(r"[A-Za-z0-9._-]{1,100}")


@dataclass(frozen=True, slots=True)
class Lent:
    """What a guest wrote on one disk, as far as the host has seen it.

    ``back_at`` is when the host saw the disk again, in seconds of the wall clock; None before.
    """

    marks: frozenset[str] = frozenset()
    back_at: float | None = None


@dataclass(frozen=True, slots=True)
class LentDisks:
    """The disks that guests have or had, by key, the oldest first."""

    by_key: Mapping[str, Lent] = field(default_factory=dict)

    def marks(self, key: str) -> frozenset[str]:
        """The signatures on the device *key* that a guest wrote."""
        lent = self.by_key.get(key)
        return frozenset() if lent is None else lent.marks

    def after(self, seen: Iterable[tuple[str, UsbDevice, bool]], now: float) -> "LentDisks":
        """This after a look at *now*: each device with its key, and whether a consumer holds it."""
        by_key = dict(self.by_key)
        for key, device, is_held in seen:
            if not is_held and key not in by_key:
                continue
            if _MASS_STORAGE not in device.classes and not device.has_disk:
                continue
            lent = _next(by_key.get(key, Lent()), device, now, is_held=is_held)
            if lent is None:
                del by_key[key]
            else:
                by_key[key] = lent
        for key in list(by_key)[: max(0, len(by_key) - _LIMIT)]:
            del by_key[key]
        return self if by_key == self.by_key else LentDisks(by_key)

    def to_json(self) -> dict[str, object]:
        """As it is stored; :meth:`from_json` reads it."""
        return {
            "version": _VERSION,
            "disks": {
                key: {"signatures": sorted(lent.marks), "back_at": lent.back_at} for key, lent in self.by_key.items()
            },
        }

    @classmethod
    def from_json(cls, stored: object) -> Self:
        """From what :meth:`to_json` gave. :raises ValueError: when it is of another form or version."""
        if not isinstance(stored, dict) or stored.get("version") != _VERSION or not isinstance(stored["disks"], dict):
            raise ValueError(f"it is not of version {_VERSION}")
        return cls({key: _lent(record) for key, record in stored["disks"].items()})


def mark_names(devices: Sequence[UsbDevice], junk: JunkSerials = JUNK) -> dict[str, str]:
    """The name of the file by which conf/udev/61-usb-provider.rules knows each disk of *devices*, by ``sys_name``.

    It has the serial number only where no other disk has it: the host must find its own disk of the same model.
    """
    disks = [each for each in devices if _MASS_STORAGE in each.classes]
    times = Counter(_by_serial(each) for each in disks)
    names = {}
    for each in disks:
        by_serial = _by_serial(each)
        is_known_by_it = times[by_serial] == 1 and serial_problem(each.serial, each.usb_id, junk) is None
        names[each.sys_name] = by_serial if by_serial and is_known_by_it else _by_port(each)
    return names


def possible_mark_names(device: UsbDevice) -> frozenset[str]:
    """Every name that *device* may have for udev, as long as it is in its port."""
    return frozenset(filter(None, (_by_serial(device), _by_port(device))))


def _by_serial(device: UsbDevice) -> str | None:
    if device.serial is None or not _PLAIN.fullmatch(device.serial):
        return None
    return f"{device.usb_id}:{device.serial}"


def _by_port(device: UsbDevice) -> str:
    return f"{device.usb_id}@{device.sys_name}"


def _next(lent: Lent, device: UsbDevice, now: float, *, is_held: bool) -> Lent | None:
    """*lent* after a look at its device; None when a guest's signatures are gone and none may come any more.

    Whether the host sees the disk tells who can write on it; who holds the device only tells that a guest may get it.
    """
    if not (device.settled and device.has_disk):
        return Lent(lent.marks) if is_held else lent
    found = frozenset(use.mark for use in device.uses if use.mark)
    back_at = now if lent.back_at is None else lent.back_at
    is_just_back = 0 <= now - back_at <= BACK_SECONDS
    marks = lent.marks | found if is_just_back else lent.marks & found
    return Lent(marks, back_at) if marks or is_just_back or is_held else None


def _lent(record: object) -> Lent:
    if not isinstance(record, dict):
        raise ValueError("it has something else where a JSON object should be")
    back_at = record.get("back_at")
    if back_at is not None and not isinstance(back_at, int | float):
        raise ValueError("it has something else where a time should be")
    return Lent(frozenset(texts(record.get("signatures"))), back_at)
