"""What one USB device on this host is: a frozen value read from udev's properties and sysfs attributes.

The parsing is pure, so that recordings, tests and the real host use the same code. This module does not decide whether
a device is offered (offer.py) nor what it is called in Placement (identity.py).
"""

import enum
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from usb_provider.model.devices.descriptors import is_full_speed_compatible
from usb_provider.model.devices.place import Place, controller, controller_address
from usb_provider.model.text import decode, decode_exactly, printable

Triplet = tuple[str, str, str]
"""Interface class, subclass and protocol, each two lower-case hex digits."""

HUB_CLASS = "09"

_DECIMAL = re.compile(r"[0-9]{1,9}\Z")
_HEX4 = re.compile(r"[0-9a-fA-F]{1,4}\Z")
_ROOT_HUB = re.compile(r"usb\d+\Z")
_INTERFACES = re.compile(r"[0-9a-fA-F]{6}\Z")


class Speed(enum.StrEnum):
    """Signalling rate, as in sysfs' ``speed`` (Mbit/s): 1.5, 12, 480, 5000, and 10000 or 20000."""

    LOW = "low"
    FULL = "full"
    HIGH = "high"
    SUPER = "super"
    SUPER_PLUS = "super-plus"
    UNKNOWN = "unknown"

    @classmethod
    def from_sysfs(cls, value: str | None) -> Self:
        """The speed for sysfs' number, UNKNOWN for anything that the kernel does not document."""
        return cls(_SPEEDS.get(value or "", "unknown"))


_SPEEDS = {"1.5": "low", "12": "full", "480": "high", "5000": "super", "10000": "super-plus", "20000": "super-plus"}


class UseKind(enum.Enum):
    """Ways in which the host itself uses a device."""

    MOUNTED = "mounted"
    SWAP = "swap"
    HELD = "held"
    MEMBER = "member"
    NAMED = "named"
    DEFAULT_ROUTE = "default route"
    NETWORK = "network"
    ENSLAVED = "enslaved"
    NAMESPACE = "network namespace"
    TERMINAL = "terminal"
    DIAL_UP = "dial-up"
    PROGRAM = "program"
    CONSOLE_KEYBOARD = "console keyboard"


EXPORTED = "usbip-host"
"""The driver of a device that the host lends to another machine ("usbip bind")."""

GUESSES: Mapping[UseKind, str] = {UseKind.CONSOLE_KEYBOARD: "keyboard", UseKind.DIAL_UP: "dial-up"}
"""The uses that are only guesses, with the word by which a rule that names the exact ids overrides the guess."""


@dataclass(frozen=True, slots=True)
class HostUse:
    """One way in which the host uses a device: its *kind*, and *what* it is in words, as "sdb1 is mounted on /".

    ``mark`` identifies the signature of a MEMBER: its type and UUID, whatever the kernel calls the disk.
    """

    kind: UseKind
    what: str
    mark: str = field(default="", compare=False)

    @property
    def certain(self) -> bool:
        """Whether it also withdraws a device from the instance that holds it.

        MEMBER does not: a signature on the medium tells of a later use, and the instance may have written it. PROGRAM
        does not: QEMU is such a program.
        """
        return self.kind not in (UseKind.MEMBER, UseKind.PROGRAM)


class UnreadableDevice(ValueError):
    """The device has no vendor and product id: it went away while it was being read. Leave it out of this look."""


@dataclass(frozen=True, slots=True)
class UsbDevice:
    """One USB device that is plugged in.

    ``busnum`` and ``devnum`` are decimal, change at every plug and serve for attaching only. ``controller`` is the
    controller by its topology, and ``controller_address`` its name at this boot. ``peer_port`` is the port path of the
    same socket on the other bus, where sysfs tells it. ``settled`` is False while udev is still processing the device:
    until then its interfaces may be incomplete. ``configured`` is False while sysfs' ``bConfigurationValue`` is empty:
    the device then has no interface.

    ``plug_number`` is another one at each plug, also where the device comes back with the same ``busnum`` and
    ``devnum``, as after a reset of its controller. It is the inode of the device's directory in sysfs: the kernel makes
    a new directory at each plug, and gives it a number that it has not given before (__kernfs_new_node in
    fs/kernfs/dir.c). None where it could not be read; a reboot begins anew.

    ``has_disk`` tells whether the host sees a block device of it now. ``full_speed_compatible`` tells of a high-speed
    device whether QEMU takes it for a full-speed one too.
    """

    sys_path: str
    sys_name: str
    vendor_id: str
    product_id: str
    busnum: int | None = None
    devnum: int | None = None
    serial: str | None = None
    manufacturer: str | None = None
    product: str | None = None
    device_class: str = "00"
    interfaces: tuple[Triplet, ...] = ()
    speed: Speed = Speed.UNKNOWN
    full_speed_compatible: bool = False
    port_path: str = "0"
    controller: str | None = None
    controller_address: str | None = None
    peer_port: str | None = None
    authorized: bool = True
    settled: bool = True
    configured: bool = True
    plug_number: int | None = None
    has_disk: bool = False
    uses: tuple[HostUse, ...] = ()
    drivers: tuple[str, ...] = ()
    """Drivers bound to its interfaces, those known, and EXPORTED where that has the device itself; sorted."""

    @property
    def host_driver(self) -> str | None:
        """A driver of the host on one of its interfaces; usbfs does not count, since it stands for QEMU."""
        return next((driver for driver in self.drivers if driver != "usbfs"), None)

    @property
    def is_root_hub(self) -> bool:
        """Whether this is the controller's own hub, which the kernel names usbN."""
        return _ROOT_HUB.match(self.sys_name) is not None

    @property
    def is_hub(self) -> bool:
        """Whether it is a hub, by its device class or any interface's."""
        return self.is_root_hub or HUB_CLASS in self.classes

    @property
    def classes(self) -> tuple[str, ...]:
        """Device class and interface classes, two hex digits each, sorted, none twice."""
        return tuple(sorted({self.device_class, *(interface[0] for interface in self.interfaces)}))

    @property
    def is_usb3(self) -> bool:
        """Whether it is on a USB 3 bus: a device that can do more and is on a USB 2 bus has another speed there."""
        return self.speed in (Speed.SUPER, Speed.SUPER_PLUS)

    @property
    def slowest(self) -> Speed:
        """The speed that a guest's controller must have at least for this device."""
        return Speed.FULL if self.speed is Speed.HIGH and self.full_speed_compatible else self.speed

    @property
    def place(self) -> Place:
        """Where it is plugged in."""
        if self.is_usb3 and self.peer_port is not None:
            return Place(self.controller or "unknown", self.peer_port)
        return Place(self.controller or "unknown", self.port_path, self.is_usb3)

    @property
    def order(self) -> tuple[str, int, tuple[int, ...], str]:
        """Where it is plugged in, to sort by: port 9 comes before port 10."""
        ports = tuple(int(part) for part in self.port_path.split(".") if part.isdigit())
        return (self.controller or "", self.busnum or 0, ports, self.sys_path)

    def is_same_plug_as(self, other: "UsbDevice") -> bool:
        """Whether this and *other* are one device that stayed plugged in between; where a number of the plug is not
        known, place, ids and address tell.
        """
        if None not in (self.plug_number, other.plug_number) and self.plug_number != other.plug_number:
            return False
        return (self.sys_name, self.usb_id, self.busnum, self.devnum) == (
            other.sys_name,
            other.usb_id,
            other.busnum,
            other.devnum,
        )

    @property
    def usb_id(self) -> str:
        """``vid:pid``, four lower-case hex digits each."""
        return f"{self.vendor_id}:{self.product_id}"

    @property
    def label(self) -> str:
        """A name for people, safe to print: manufacturer and product, or the ids when the device has no strings."""
        words = " ".join(text for text in (self.manufacturer, self.product) if text)
        return printable(words, 60) if words else self.usb_id

    @classmethod
    def from_udev(
        cls,
        sys_path: str,
        properties: Mapping[str, str],
        attributes: Mapping[str, bytes],
        interfaces: Iterable[Triplet] = (),
        *,
        settled: bool = True,
        plug_number: int | None = None,
        has_disk: bool = False,
        uses: Iterable[HostUse] = (),
        drivers: Iterable[str] = (),
        peer_port: str | None = None,
        descriptors: bytes = b"",
    ) -> Self:
        """The device at *sys_path* (``/sys/devices/…/usb1/1-2``) from udev's *properties* and sysfs' *attributes*.

        *interfaces* are those of the interface directories; those in udev's ID_USB_INTERFACES
        (``:030101:0b0000:``) are added. sysfs has precedence over udev, since udev keeps data of an earlier device
        of that name. ``BUSNUM=001`` and ``DEVNUM=010`` are decimal in spite of their zeros.

        :raises UnreadableDevice: when neither source has a vendor and a product id.
        """

        def attribute(name: str) -> str | None:
            return decode(attributes.get(name))

        ids = (
            _hex4(attribute("idVendor")) or _hex4(properties.get("ID_VENDOR_ID")),
            _hex4(attribute("idProduct")) or _hex4(properties.get("ID_MODEL_ID")),
        )
        if ids[0] is None or ids[1] is None:
            raise UnreadableDevice(sys_path)
        sys_name = sys_path.rsplit("/", 1)[-1]
        return cls(
            sys_path=sys_path,
            sys_name=sys_name,
            vendor_id=ids[0],
            product_id=ids[1],
            busnum=_decimal(attribute("busnum") or properties.get("BUSNUM")),
            devnum=_decimal(attribute("devnum") or properties.get("DEVNUM")),
            serial=decode_exactly(attributes.get("serial")),
            manufacturer=attribute("manufacturer"),
            product=attribute("product"),
            device_class=_hex2(attribute("bDeviceClass")) or "00",
            interfaces=tuple(sorted({*interfaces, *parse_interfaces(properties.get("ID_USB_INTERFACES", ""))})),
            speed=Speed.from_sysfs(attribute("speed")),
            full_speed_compatible=is_full_speed_compatible(descriptors),
            port_path=port_path(sys_name),
            controller=controller(sys_path),
            controller_address=controller_address(sys_path),
            peer_port=peer_port,
            authorized=attribute("authorized") != "0",
            settled=settled,
            # The kernel's file is empty while there is none (drivers/usb/core/sysfs.c).
            configured="bConfigurationValue" not in attributes or attribute("bConfigurationValue") not in (None, "0"),
            plug_number=plug_number,
            has_disk=has_disk,
            uses=tuple(sorted(uses, key=lambda use: (not use.certain, use.what))),
            drivers=tuple(sorted(set(drivers))),
        )


def parse_interfaces(value: str) -> tuple[Triplet, ...]:
    """The triplets of udev's ID_USB_INTERFACES; parts that are not six hex digits are left out.

    Input ``:030101:0b0000:``, output ``(("03", "01", "01"), ("0b", "00", "00"))``.
    """
    return tuple(
        (part[0:2].lower(), part[2:4].lower(), part[4:6].lower())
        for part in value.split(":")
        if _INTERFACES.match(part)
    )


def port_path(sys_name: str) -> str:
    """Ports from the root hub down, ``2.4`` for ``1-2.4``; ``0`` for a root hub (as sysfs' ``devpath`` has it)."""
    return sys_name.partition("-")[2] or "0"


def _hex4(value: str | None) -> str | None:
    return value.lower().zfill(4) if value and _HEX4.match(value) else None


def _hex2(value: str | None) -> str | None:
    return value.lower().zfill(2) if value and _HEX4.match(value) and len(value) <= 2 else None


def _decimal(value: str | None) -> int | None:
    return int(value, 10) if value and _DECIMAL.match(value) else None
