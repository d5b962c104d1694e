"""Which key each device has: the name by which it is known through replugs, reboots and renumbering of the buses.

Keys are computed from what is plugged in, what is held, and where each held device was last seen. A held device is
followed by its place; where something else is in that place, it is kept from all consumers. The rules and their
reasons: docs/identity.md.
"""

import enum
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from usb_provider.model.devices.device import UsbDevice
from usb_provider.model.devices.held import NOT_HELD, Held, Sighting
from usb_provider.model.devices.keys import (
    JUNK,
    JunkSerials,
    former_keys,
    is_port_key,
    longer_keys,
    port_key,
    serial_key,
    serial_problem,
)
from usb_provider.model.devices.spec import IdentityMode
from usb_provider.model.text import printable


class IdentityKind(enum.StrEnum):
    """What a key is made of."""

    SERIAL = "serial"
    PORT = "port"


@dataclass(frozen=True, slots=True)
class Identity:
    """A device's *key* and *kind*.

    *problem* says why the key is not of the kind that its rule demands. *withheld* says why no consumer may get the
    device, since it may be the one that a consumer holds under another key, *withheld_for*.
    """

    key: str
    kind: IdentityKind
    problem: str | None = None
    withheld: str | None = None
    withheld_for: str | None = None


@dataclass(frozen=True, slots=True)
class Demand:
    """What the rule of a device says about its identity.

    *usb_ids* are all that the device may have, in its different modes, the one in its key first; without any, it has
    the ids that it shows.
    """

    mode: IdentityMode = IdentityMode.AUTO
    usb_ids: tuple[str, ...] = ()

    @property
    def by_port(self) -> bool:
        """Whether the port tells the device apart: what it shows in another mode need not be the same serial number."""
        return self.mode is IdentityMode.PORT or (self.mode is IdentityMode.AUTO and len(self.usb_ids) > 1)


NO_DEMAND = Demand()


def assign(
    devices: Sequence[UsbDevice],
    *,
    demands: Mapping[str, Demand] | None = None,
    junk: JunkSerials = JUNK,
    held: Callable[[str], Held] = lambda key: NOT_HELD,
    claimed: Collection[str] = (),
) -> dict[str, Identity]:
    """Every device's identity, by its ``sys_name``; no two have the same key.

    A device that a consumer holds keeps its key until the consumer releases it, even if other devices are plugged in
    or the rules change.

    :param demands: what the rule that takes a device says; nothing when it is not there.
    :param held: whether a key is held now, and what was seen under it.
    :param claimed: the keys that are held and under which a device was seen.
    """
    return _Assignment(devices, demands or {}, junk, held, claimed).result()


class _Assignment:
    def __init__(
        self,
        devices: Sequence[UsbDevice],
        demands: Mapping[str, Demand],
        junk: JunkSerials,
        held: Callable[[str], Held],
        claimed: Collection[str],
    ) -> None:
        self.devices = sorted(devices, key=lambda device: (device.sys_path, device.sys_name))
        self.demands = demands
        self.junk = junk
        self.held = held
        self.seen: dict[str, Sighting] = {
            key: seen for key in sorted(claimed) if (seen := held(key).seen) is not None and held(key).allocated
        }
        self.usable = {each.sys_name: serial_problem(each.serial, each.usb_id, junk) is None for each in self.devices}
        self.keys: dict[str, str] = {}
        """Of those devices that are decided, by sys_name."""

    def result(self) -> dict[str, Identity]:
        self._follow_held()
        self._keep_unseen()
        withheld = dict(self._withheld())
        problems = self._name_the_others()
        identities = {}
        for device in self.devices:
            name = device.sys_name
            key = self.keys[name]
            kind = IdentityKind.PORT if is_port_key(key) else IdentityKind.SERIAL
            claim = withheld.get(name)
            identities[name] = Identity(
                key,
                kind,
                problems.get(name),
                None if claim is None else self._why_withheld(device, claim),
                claim,
            )
        return identities

    def _demand(self, device: UsbDevice) -> Demand:
        return self.demands.get(device.sys_name, NO_DEMAND)

    def _usb_id(self, device: UsbDevice) -> str:
        """The ids in its key."""
        return next(iter(self._demand(device).usb_ids), device.usb_id)

    def _serial_key(self, device: UsbDevice) -> str:
        return serial_key(device, self._usb_id(device))

    # Devices that a consumer holds, and that the agent has seen

    def _follow_held(self) -> None:
        """Decide which device each held key is about, where that was seen.

        What is in its place and may be the same device is. Only when there is none, a device with its serial number
        elsewhere is.
        """
        for key, seen in self.seen.items():
            self._settle(key, (each for each in self._undecided() if self._is_there_unchanged(each, seen)))
        moved = {key: seen for key, seen in self._missing() if not self._candidates(seen)}
        for key, seen in moved.items():
            self._settle(key, self._elsewhere(key, seen))
        for key, seen in self._missing():
            self._settle(key, self._candidates(seen))
        for key, seen in self._missing():
            self._settle(key, self._elsewhere(key, seen))

    def _settle(self, key: str, candidates: "Iterator[UsbDevice] | Sequence[UsbDevice]") -> None:
        # A device that QEMU has open belongs to a guest.
        best = min(candidates, key=lambda each: ("usbfs" not in each.drivers, each.order), default=None)
        if best is not None:
            self.keys[best.sys_name] = key

    def _undecided(self) -> Iterator[UsbDevice]:
        return (each for each in self.devices if each.sys_name not in self.keys)

    def _missing(self) -> list[tuple[str, Sighting]]:
        decided = set(self.keys.values())
        return [(key, seen) for key, seen in self.seen.items() if key not in decided]

    def _is_there_unchanged(self, device: UsbDevice, seen: Sighting) -> bool:
        return seen.is_where(device) and seen.usb_id == device.usb_id and seen.serial == device.serial

    def _candidates(self, seen: Sighting) -> list[UsbDevice]:
        """What is in the place of *seen* and may be that device, whatever its serial number has become."""
        return [each for each in self._undecided() if seen.is_where(each) and self._may_be(each, seen)]

    def _may_be(self, device: UsbDevice, seen: Sighting) -> bool:
        return self._has_its_ids(device, seen) and not self._has_another_serial(device, seen)

    def _has_its_ids(self, device: UsbDevice, seen: Sighting) -> bool:
        return seen.usb_id in (device.usb_id, *self._demand(device).usb_ids)

    def _has_another_serial(self, device: UsbDevice, seen: Sighting) -> bool:
        """Whether the serial numbers tell that it is another device. One that comes, goes or turns to junk does not."""
        if self._demand(device).by_port or not self.usable[device.sys_name]:
            return False
        return self._usable_serial(seen) not in (None, device.serial)

    def _usable_serial(self, seen: Sighting) -> str | None:
        return seen.serial if serial_problem(seen.serial, seen.usb_id, self.junk) is None else None

    def _elsewhere(self, key: str, seen: Sighting) -> list[UsbDevice]:
        """Devices in other places with the serial number of *seen*, but not its twins, which were known before."""
        serial = self._usable_serial(seen)
        if serial is None:
            return []
        return [
            each
            for each in self._undecided()
            if each.serial == serial
            and self._has_its_ids(each, seen)
            and not seen.is_where(each)
            and not self._had_port_key(each)
            # Where the port counts, a claim on it stays with it.
            and not (self._demand(each).by_port and is_port_key(key))
        ]

    def _withheld(self) -> Iterator[tuple[str, str]]:
        """Devices that no consumer may get, each with the held key for whose device it could be taken."""
        missing = self._missing()
        decided = {key: name for name, key in self.keys.items()}
        shown = {each.sys_name: each.serial for each in self.devices}
        for device in self._undecided():
            for key, seen in missing:
                if seen.is_where(device):
                    yield device.sys_name, key
                    break
            else:
                for key, seen in self.seen.items():
                    # What is in the place has lost its serial number, and this has it.
                    if (
                        key in decided
                        and self.usable[device.sys_name]
                        and device.serial == self._usable_serial(seen) != shown[decided[key]]
                        and self._has_its_ids(device, seen)
                        and not self._had_port_key(device)
                    ):
                        yield device.sys_name, key
                        break

    def _why_withheld(self, device: UsbDevice, key: str) -> str:
        held = self.held(key)
        seen = self.seen[key]
        who = f"consumer {held.consumers[0]}" if len(held.consumers) == 1 else f"{len(held.consumers)} consumers"
        claim = f"USB device {printable(key, 120)}, which {who} holds"
        if not seen.is_where(device):
            return f"it has the serial number of {claim}, and another device is in the place where that was"
        if self._has_its_ids(device, seen):
            return (
                f"it is in the place of {claim}, with another serial number; if it is the same device, give its rule "
                f'"identity": "port"; otherwise plug it in elsewhere, or release the claim'
            )
        return (
            f"it is in the place of {claim} and which is not plugged in; if it is the same device in another mode, "
            f'add "also": ["{device.usb_id}"] to the rule for {seen.usb_id}; otherwise plug it in elsewhere, or '
            f"release the claim"
        )

    # Devices that a consumer holds, where the sightings were lost, and free ones

    def _is_unseen(self, key: str) -> bool:
        """Whether *key* is held, and no device was seen under it."""
        held = self.held(key)
        return held.allocated and held.seen is None and key not in self.keys.values()

    def _is_free(self, key: str) -> bool:
        return not self.held(key).allocated and key not in self.keys.values()

    def _keep_unseen(self) -> None:
        """Decide which device each held key is about that no device was seen under: Placement alone tells."""
        groups: defaultdict[str, list[UsbDevice]] = defaultdict(list)
        for device in self._undecided():
            usb_id = self._usb_id(device)
            for key in (*longer_keys(device, usb_id)[:2], port_key(device, usb_id), *former_keys(device)):
                groups[key].append(device)
        # A longer key is about one device; a plain one may be about the USB 2 or the USB 3 device of that number.
        for key in sorted(groups, key=lambda key: ("+" not in key.rpartition("-")[2], key)):
            if self._is_unseen(key):
                left = [
                    each for each in groups[key] if each.sys_name not in self.keys and self._may_have_had(key, each)
                ]
                best = min(
                    left,
                    key=lambda each: (
                        self._goes_by_serial(each),
                        "usbfs" not in each.drivers,
                        each.is_usb3,
                        each.order,
                    ),
                    default=None,
                )
                if best is not None:
                    self.keys[best.sys_name] = key
        for key, group in self._by_serial(self._undecided()).items():
            if self._is_unseen(key):
                self._settle(key, [each for each in group if not self._had_port_key(each)])

    def _may_have_had(self, key: str, device: UsbDevice) -> bool:
        """Whether *device* may be what a held *key* of its port is about, as far as Placement tells."""
        if any(
            self._was_known_by(longer, device) for longer in longer_keys(device, self._usb_id(device)) if longer != key
        ):
            return False
        return self.held(key).present or not self.usable[device.sys_name]

    def _goes_by_serial(self, device: UsbDevice) -> bool:
        """Whether its key has its serial number: the number identifies it, and its provider or its rule allows that."""
        if not self.usable[device.sys_name]:
            return False
        key = self._serial_key(device)
        return len(self._alike(device)) == 1 and (self.held(key).present or not self._demand(device).by_port)

    def _by_serial(self, devices: Iterator[UsbDevice]) -> dict[str, list[UsbDevice]]:
        groups: defaultdict[str, list[UsbDevice]] = defaultdict(list)
        for device in devices:
            if self.usable[device.sys_name]:
                groups[self._serial_key(device)].append(device)
        return groups

    def _alike(self, device: UsbDevice) -> list[UsbDevice]:
        """The devices with its ids and serial number, itself among them."""
        return [
            each
            for each in self.devices
            if each.serial == device.serial and self._serial_key(each) == self._serial_key(device)
        ]

    def _had_port_key(self, device: UsbDevice) -> bool:
        """Whether the device had a key of its port before."""
        usb_id = self._usb_id(device)
        return any(
            self._was_known_by(key, device)
            for key in (port_key(device, usb_id), longer_keys(device, usb_id)[0])
            if key not in self.keys.values()
        )

    def _was_known_by(self, key: str, device: UsbDevice) -> bool:
        """Whether *device* had *key*: the last look tells, or, after a restart, that the provider exists.

        The last look may have seen another device in the same port, so the serial number must be the same.
        """
        held = self.held(key)
        return held.present if held.seen is None else held.seen.serial == device.serial

    def _name_the_others(self) -> dict[str, str]:
        """Give the devices that no consumer holds their keys; gives why some do not have what their rule demands."""
        problems: dict[str, str] = {}
        by_port: list[UsbDevice] = []
        for device in list(self._undecided()):
            why = serial_problem(device.serial, device.usb_id, self.junk)
            alike = self._alike(device)
            key = self._serial_key(device)
            if why is None and len(alike) > 1:
                why = f"{len(alike)} devices on this host have its serial number"
            if why is None and not self._demand(device).by_port and self._is_free(key):
                self.keys[device.sys_name] = key
                continue
            by_port.append(device)
            if why is not None and self._demand(device).mode is IdentityMode.SERIAL:
                problems[device.sys_name] = f"its rule demands identity by serial, but {why}"
        for device in sorted(by_port, key=_usb_2_first):
            usb_id = self._usb_id(device)
            longer = longer_keys(device, usb_id)
            keys = (port_key(device, usb_id), *longer) if self._is_first_of_its_number(device) else longer
            self.keys[device.sys_name] = next((key for key in keys if self._is_free(key)), longer[-1])
        return problems

    def _is_first_of_its_number(self, device: UsbDevice) -> bool:
        """Whether it may have the plain key, of two ports of one number that sysfs does not tell apart."""
        plain = port_key(device, self._usb_id(device))
        return not any(
            _usb_2_first(each) < _usb_2_first(device)
            and port_key(each, self._usb_id(each)) == plain
            and self.keys.get(each.sys_name) not in longer_keys(each, self._usb_id(each))
            for each in self.devices
        )


def _usb_2_first(device: UsbDevice) -> tuple[bool, str]:
    return device.is_usb3, device.sys_name
