"""The forms of a device's key, and which serial numbers may be part of one. identity.py says which form a device has.

``vid:pid:serial``, or ``vid:pid@<place>``. docs/identity.md has the rules and their reasons.
"""

import dataclasses
import re
import urllib.parse
from collections.abc import Collection, Iterable

from usb_provider.model.devices.device import UsbDevice
from usb_provider.model.text import printable

JUNK_SERIALS = (
    "0123456789",
    "0123456789ABCDEF",
    "123456789",
    "1234567890",
    "123456789ABCDEF",
    "1234567890ABCDEF",
    "ABCDEF0123456789",
    "CAFEBABE",
    "DEADBEEF",
    "DEFAULT",
    "FEDCBA9876543210",
    "N/A",
    "NONE",
    "NULL",
    "SERIAL",
    "SERIALNUMBER",
    "UNKNOWN",
    "SN0000000001",
    # Realtek's network chips, under the ids of all those who sell them (r8152.c).
    "001000001",
    "0bda:8156:000000001",
    # One number for all units of a product: Silicon Labs' CP2102 as it leaves the factory (AN144), RTL2832U receivers
    # (rtl-sdr, rtl_eeprom), a card reader, AMI's virtual devices of management controllers, an early firmware of CAN
    # adapters (candleLight_fw#5), two more that were seen on unrelated machines.
    "10c4:ea60:0001",
    "1d50:606f:000000000001",
    "0bda:2832:00000001",
    "0bda:2838:00000001",
    "0bda:0129:20100201396000000",
    "046b:*:AAAABBBBCCCC1",
    "046b:*:AAAABBBBCCCC2",
    "046b:*:AAAABBBBCCCC3",
    "058f:6387:EEA1EE5B",
    "0e8d:763f:1.0",
)
"""Serial numbers that makers leave in as placeholders, or give to all units of a product: ``SERIAL`` for any device,
``vid:pid:SERIAL`` for one product, ``vid:*:SERIAL`` for one vendor. Upper and lower case are the same. Zeros alone,
and any one character four times or more (FFFF…), and what the chips of some makers have in common, always count as
junk."""

_OF_FIRMWARE = {
    # Readers of memory cards whose serial number is the version of the firmware or begins with the maker's id, so that
    # it is that of all with this chip: Genesys, Alcor, Realtek (SDWire: "all report the same USB serial").
    "05e3": re.compile(r"0{8}\d{4}"),
    "058f": re.compile(r"058F[0-9A-F]{7,8}", re.IGNORECASE),
    "0bda": re.compile(r"20\d{10}00000"),
}
_REPEATED = re.compile(r"0+\Z|(.)\1{3,}\Z", re.DOTALL)
# How decode_exactly() in model/text.py gives a byte that is no text.
_NO_TEXT = re.compile("[\udc80-\udcff]")
_UNDECODABLE = "\N{REPLACEMENT CHARACTER}"

# Printable ASCII but "%", so that quoting stays one-to-one and an ordinary serial reads as it does on the label.
_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


class JunkSerials:
    """The serial numbers that tell no device apart.

    :param entries: in the form of :data:`JUNK_SERIALS`.
    """

    def __init__(self, entries: Iterable[str] = JUNK_SERIALS) -> None:
        self._entries = frozenset(entry.upper() for entry in entries)

    def holds(self, usb_id: str, serial: str) -> bool:
        """Whether *serial* is junk for devices of *usb_id*, ``vid:pid``."""
        vendor = usb_id.partition(":")[0]
        forms = (serial, f"{usb_id}:{serial}", f"{vendor}:*:{serial}")
        return any(form.upper() in self._entries for form in forms)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JunkSerials) and self._entries == other._entries

    def __hash__(self) -> int:
        return hash(self._entries)


def junk_entries(entries: Collection[str]) -> tuple[str, ...]:
    """The junk serials that an operator's list means: it replaces the defaults, or adds to them what has a "+" first.

    :raises ValueError: when some have a "+" and others do not, with a sentence.
    """
    added = [entry for entry in entries if entry.startswith("+")]
    if not added:
        return tuple(entries)
    if len(added) < len(entries):
        plain = next(entry for entry in entries if not entry.startswith("+"))
        raise ValueError(
            f'{printable(plain, 40)} has no "+" and other entries have one; write "+" before each entry to add them '
            f"all to the defaults, or before none to replace the defaults."
        )
    return (*JUNK_SERIALS, *(entry[1:] for entry in added))


JUNK = JunkSerials()


def serial_problem(serial: str | None, usb_id: str, junk: JunkSerials = JUNK) -> str | None:
    """Why *serial* cannot tell a device of *usb_id* apart from others, or None when it can (as far as it alone shows).

    Control characters and undecodable bytes are a sign of firmware that reads past its string; such a serial may
    change at every plug, and Windows discards it for the same reason.
    """
    if serial is None:
        return "it has no serial number"
    if not serial.isprintable() or _UNDECODABLE in serial:
        return "its serial number holds unprintable characters"
    of_firmware = _OF_FIRMWARE.get(usb_id.partition(":")[0])
    if junk.holds(usb_id, serial) or _REPEATED.match(serial) or (of_firmware and of_firmware.fullmatch(serial)):
        return f"its serial number {printable(serial, 40)} is a known placeholder"
    return None


def serial_key(device: UsbDevice, usb_id: str | None = None) -> str:
    """``vid:pid:serial``; what is not printable ASCII is percent-encoded, so no two serials give one key.

    :param usb_id: as which the rule knows the device, where that is another than it has in this mode.
    """
    quoted = urllib.parse.quote(device.serial or "", safe=_PLAIN, errors="surrogatepass")
    return f"{usb_id or device.usb_id}:{quoted}"


def port_key(device: UsbDevice, usb_id: str | None = None) -> str:
    """``vid:pid@<controller>-<port path>``. *usb_id* as in :func:`serial_key`.

    USB 2 and USB 3 ports of one number that sysfs does not tell apart have one such key; see :func:`longer_keys`.
    """
    place = device.place
    return f"{usb_id or device.usb_id}@{place.controller}-{place.port}"


def longer_keys(device: UsbDevice, usb_id: str | None = None) -> tuple[str, str, str]:
    """Keys for when another device has the key of the port: with the kind of bus, its number, and one more."""
    plain = port_key(device, usb_id)
    bus = device.sys_name.partition("-")[0]
    return f"{plain}+{_bus_mark(device)}", f"{plain}+{bus}", f"{plain}+{bus}.other"


def former_keys(device: UsbDevice) -> tuple[str, ...]:
    """Keys of its port in releases that named a controller as sysfs does, where those differ; the likelier first."""
    plain = f"{device.usb_id}@{device.controller_address or 'unknown'}-{device.port_path}"
    if plain == port_key(device):
        return ()
    return plain, f"{plain}+{_bus_mark(device)}"


def former_serial_keys(device: UsbDevice, usb_id: str | None = None) -> tuple[str, ...]:
    """Keys by the serial number of *device* where that does not count: those of other rules, and of the first release.

    That release wrote bytes that are no text as backslash escapes, which counted.
    """
    if device.serial is None:
        return ()
    escaped = _NO_TEXT.sub(lambda found: f"\\x{ord(found[0]) - 0xDC00:02x}", device.serial)
    former = dataclasses.replace(device, serial=escaped)
    return tuple(dict.fromkeys((serial_key(device, usb_id), serial_key(former, usb_id))))


def possible_keys(device: UsbDevice, usb_id: str | None = None) -> frozenset[str]:
    """Every key that *device* may get where it is plugged in, unless it keeps a key that is held."""
    return frozenset(
        {
            serial_key(device, usb_id),
            *former_serial_keys(device, usb_id),
            port_key(device, usb_id),
            *longer_keys(device, usb_id),
            *former_keys(device),
        }
    )


def is_port_key(key: str) -> bool:
    """Whether *key* names a port, and not a serial number."""
    return key[len("1234:5678") :].startswith("@")


def _bus_mark(device: UsbDevice) -> str:
    return "usb3" if device.is_usb3 else "usb2"
