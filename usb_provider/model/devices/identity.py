"""Which key a device has: the name by which it is known through replugs, reboots and renumbering of the buses.

``vid:pid:serial`` when the serial identifies it, else ``vid:pid@<controller>-<port path>``. Keys are computed from
what is plugged in and from what is allocated, never stored. The rules and their reasons: docs/identity.md.
"""

import enum
import re
import urllib.parse
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from usb_provider.model.devices.device import Speed, UsbDevice
from usb_provider.model.devices.spec import IdentityMode
from usb_provider.model.text import printable

JUNK_SERIALS = (
    "0123456789",
    "0123456789ABCDEF",
    "123456789",
    "1234567890",
    "123456789ABCDEF",
    "1234567890ABCDEF",
    "ABCDEF0123456789",
    "DEFAULT",
    "N/A",
    "NONE",
    "NULL",
    "SERIAL",
    "SERIALNUMBER",
    "UNKNOWN",
    "SN0000000001",
)
"""Serials that makers leave in as placeholders; upper and lower case are the same. Zeros alone, and any
one character four times or more (FFFF…), always count as junk."""

_REPEATED = re.compile(r"0+\Z|(.)\1{3,}\Z", re.DOTALL)

# Printable ASCII but "%", so that quoting stays one-to-one and an ordinary serial reads as it does on the label.
_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


class IdentityKind(enum.StrEnum):
    """What a key is made of."""

    SERIAL = "serial"
    PORT = "port"


@dataclass(frozen=True, slots=True)
class Identity:
    """A device's *key* and *kind*. *problem* says why the key is not of the kind that its rule demands."""

    key: str
    kind: IdentityKind
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """What Placement and the agent's last look say about one key.

    *allocated*: a consumer has its provider. *present*: its provider exists and is not marked absent.
    *sys_path*, *serial*: of the device that the agent last saw under the key; *sys_path* is None when it saw none.
    """

    allocated: bool = False
    present: bool = False
    sys_path: str | None = None
    serial: str | None = None


NOT_HELD = Held()


def serial_problem(serial: str | None, junk: Collection[str] = JUNK_SERIALS) -> str | None:
    """Why *serial* cannot tell a device apart from others, or None when it can (as far as one device shows).

    Control characters and undecodable bytes are a sign of firmware that reads past its string; such a serial may
    change at every plug, and Windows discards it for the same reason.
    """
    if serial is None:
        return "it has no serial number"
    if not serial.isprintable():
        return "its serial number holds unprintable characters"
    if serial.upper() in {entry.upper() for entry in junk} or _REPEATED.match(serial):
        return f"its serial number {printable(serial, 40)} is a known placeholder"
    return None


def serial_key(device: UsbDevice) -> str:
    """``vid:pid:serial``; what is not printable ASCII is percent-encoded, so no two serials give one key."""
    return f"{device.usb_id}:{urllib.parse.quote(device.serial or '', safe=_PLAIN, errors='surrogatepass')}"


def port_key(device: UsbDevice) -> str:
    """``vid:pid@<controller>-<port path>``; the bus number is left out, since it changes between boots."""
    return f"{device.usb_id}@{device.controller or 'unknown'}-{device.port_path}"


def possible_keys(device: UsbDevice) -> frozenset[str]:
    """Every key that :func:`assign` may ever give *device* where it is plugged in."""
    plain = port_key(device)
    return frozenset({serial_key(device), plain, *(f"{plain}+{end}" for end in (_speed_mark(device), _bus(device)))})


def assign(
    devices: Sequence[UsbDevice],
    *,
    modes: Mapping[str, IdentityMode] | None = None,
    junk: Collection[str] = JUNK_SERIALS,
    held: Callable[[str], Held] = lambda key: NOT_HELD,
) -> dict[str, Identity]:
    """Every device's identity, by its ``sys_name``; no two have the same key.

    *modes* gives the mode of the rule that takes a device (AUTO when it is not there). *held* tells whether a key is
    allocated now: a device that an instance holds keeps its key until the instance releases it, even if other devices
    are plugged in or the rules change. Of several devices with the same serial, only one that is held keeps it.
    """
    return _Assignment(devices, modes or {}, junk, held).result()


class _Assignment:
    def __init__(
        self,
        devices: Sequence[UsbDevice],
        modes: Mapping[str, IdentityMode],
        junk: Collection[str],
        held: Callable[[str], Held],
    ) -> None:
        self.devices = sorted(devices, key=lambda device: (device.sys_path, device.sys_name))
        self.modes = modes
        self.junk = junk
        self.held = held
        self.port_keys = self._port_keys()

    def result(self) -> dict[str, Identity]:
        identities = {}
        twins: defaultdict[str, list[UsbDevice]] = defaultdict(list)
        for device in self.devices:
            if serial_problem(device.serial, self.junk) is None:
                twins[serial_key(device)].append(device)
            else:
                identities[device.sys_name] = self._by_port(device, serial_problem(device.serial, self.junk))
        for key, group in twins.items():
            keeper = group[0] if len(group) == 1 else self._keeper(key, group)
            for device in group:
                if device is keeper and self._keeps_serial(device, key, alone=len(group) == 1):
                    identities[device.sys_name] = Identity(key, IdentityKind.SERIAL)
                else:
                    why = f"{len(group)} devices on this host have its serial number" if len(group) > 1 else None
                    identities[device.sys_name] = self._by_port(device, why)
        return identities

    def _by_port(self, device: UsbDevice, why: str | None) -> Identity:
        demanded = self.modes.get(device.sys_name) is IdentityMode.SERIAL and why is not None
        return Identity(
            self.port_keys[device.sys_name],
            IdentityKind.PORT,
            f"its rule demands identity by serial, but {why}" if demanded else None,
        )

    def _keeps_serial(self, device: UsbDevice, key: str, *, alone: bool) -> bool:
        by_serial = self.held(key)
        by_port = self.held(self.port_keys[device.sys_name])
        if not alone:
            return True
        if by_serial.allocated:
            # If it was the twin of the device that is allocated, it must not take over its twin's allocation.
            return by_serial.sys_path == device.sys_path or not self._had_port_key(device)
        if by_port.allocated:
            # The claim is its own, from the time when it had a twin, unless the agent saw another device there.
            seen = by_port.sys_path is not None
            if by_port.serial == device.serial if seen else by_port.present:
                return False
        return self.modes.get(device.sys_name) is not IdentityMode.PORT

    def _keeper(self, key: str, group: Sequence[UsbDevice]) -> UsbDevice | None:
        """The device of *group* that an allocation of *key* is about; None without one, or when the device is gone."""
        held = self.held(key)
        if not held.allocated:
            return None
        for device in group:
            if device.sys_path == held.sys_path:
                return device
        by_serial = [device for device in group if not self._had_port_key(device)]
        # A device that QEMU has open belongs to a guest.
        return min(by_serial, key=lambda device: ("usbfs" not in device.drivers, device.place), default=None)

    def _had_port_key(self, device: UsbDevice) -> bool:
        """Whether the device had the key of its port before."""
        return self._was_known_by(self.port_keys[device.sys_name], device)

    def _was_known_by(self, key: str, device: UsbDevice) -> bool:
        """Whether *device* had *key*: the last look tells, or, after a restart, that the provider exists.

        The last look may have seen another device in the same port, so the serial number must be the same.
        """
        held = self.held(key)
        return held.present if held.sys_path is None else held.serial == device.serial

    def _port_keys(self) -> dict[str, str]:
        """Port keys, made different where an xHCI controller gives a USB 2 and a USB 3 port the same number."""
        groups: defaultdict[str, list[UsbDevice]] = defaultdict(list)
        for device in self.devices:
            groups[port_key(device)].append(device)
        keys = {}
        for key, group in groups.items():
            longer = _longer_keys(key, group)
            plain = self._plain(key, group, longer)
            for device in group:
                keys[device.sys_name] = key if device is plain else longer[device.sys_name]
        return keys

    def _plain(self, key: str, group: Sequence[UsbDevice], longer: Mapping[str, str]) -> UsbDevice | None:
        """The device of *group* that gets *key* unchanged. One that is held by its longer key keeps it, even alone."""
        free = [device for device in group if not self.held(longer[device.sys_name]).allocated]
        free.sort(key=lambda device: (_is_usb3(device), device.sys_name))
        held = self.held(key)
        if not held.allocated:
            return next(iter(free), None)
        for device in free:
            if device.sys_path == held.sys_path:
                return device
        # After a restart: it is least likely that the claim is about a device whose key has its serial number.
        left = [device for device in free if not self._was_known_by(longer[device.sys_name], device)]
        return min(left, key=lambda device: (self._goes_by_serial(device), "usbfs" not in device.drivers), default=None)

    def _goes_by_serial(self, device: UsbDevice) -> bool:
        """Whether its key has its serial number: the number identifies it, and its provider or its rule allows that."""
        if serial_problem(device.serial, self.junk) is not None:
            return False
        key = serial_key(device)
        is_alone = sum(other.serial == device.serial and serial_key(other) == key for other in self.devices) == 1
        wants_port = self.modes.get(device.sys_name) is IdentityMode.PORT
        return is_alone and (self.held(key).present or not wants_port)


def _longer_keys(key: str, group: Sequence[UsbDevice]) -> dict[str, str]:
    """A key for each of *group* that tells USB 2 from USB 3, and names the bus only where that is not enough."""
    keys = {device.sys_name: f"{key}+{_speed_mark(device)}" for device in group}
    if len(set(keys.values())) == len(group):
        return keys
    return {device.sys_name: f"{key}+{_bus(device)}" for device in group}


def _speed_mark(device: UsbDevice) -> str:
    return "usb3" if _is_usb3(device) else "usb2"


def _bus(device: UsbDevice) -> str:
    return device.sys_name.partition("-")[0]


def _is_usb3(device: UsbDevice) -> bool:
    return device.speed in (Speed.SUPER, Speed.SUPER_PLUS)
