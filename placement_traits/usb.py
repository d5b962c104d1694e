"""The CUSTOM_USB_* vocabulary: build, recognise and describe every name that we write to Placement.

This module's one job is to keep the spelling and the meaning of each name in one place.  It must
not decide what a device is (:mod:`placement_traits.classify` suggests that) and it must not do I/O.

Class codes are the USB-IF's (https://www.usb.org/defined-class-codes), see
:mod:`placement_traits.codes`.  Ids are ``idVendor`` and ``idProduct``: four hexadecimal digits.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from placement_traits.codes import CLASSES, INTERFACES, PER_INTERFACE, Triplet, UsbClass
from placement_traits.names import MAX_LENGTH, InvalidName, clean, quote
from placement_traits.requests import describe_request

__all__ = [
    "CLASSES",
    "INTERFACES",
    "MANAGED",
    "MEMBER_DRAINED_PREFIX",
    "NOT_LIVE_MIGRATABLE",
    "PURGED",
    "RESOURCE_CLASSES",
    "SPEEDS",
    "SPEED_UNKNOWN",
    "STATES",
    "STATE_ABSENT",
    "STATE_DRAINED",
    "STATE_RESERVED",
    "STATE_SHORT",
    "STATE_WAITING",
    "STATE_WITHDRAWN",
    "Triplet",
    "UsbClass",
    "class_code",
    "class_trait",
    "class_traits",
    "describe",
    "describe_interface",
    "drain_reason",
    "drain_reason_trait",
    "is_of_a_device",
    "is_owned",
    "member_drained_trait",
    "product_trait",
    "serial_trait",
    "speed_trait",
    "vendor_trait",
]

PREFIX: Final = "CUSTOM_USB_"
MANAGED: Final = "CUSTOM_USB_MANAGED"
NOT_LIVE_MIGRATABLE: Final = "CUSTOM_USB_NOT_LIVE_MIGRATABLE"
PURGED: Final = "CUSTOM_USB_PURGED"

STATE_PREFIX: Final = "CUSTOM_USB_STATE_"
STATE_ABSENT: Final = "CUSTOM_USB_STATE_ABSENT"
STATE_DRAINED: Final = "CUSTOM_USB_STATE_DRAINED"
STATE_WITHDRAWN: Final = "CUSTOM_USB_STATE_WITHDRAWN"
STATE_RESERVED: Final = "CUSTOM_USB_STATE_RESERVED"
STATE_SHORT: Final = "CUSTOM_USB_STATE_SHORT"
STATE_WAITING: Final = "CUSTOM_USB_STATE_WAITING"

MEMBER_DRAINED_PREFIX: Final = "CUSTOM_USB_MEMBER_DRAINED_"

DRAIN_REASON_PREFIX: Final = "CUSTOM_USB_DRAIN_REASON_"

VENDOR_PREFIX: Final = "CUSTOM_USB_VENDOR_"
PRODUCT_PREFIX: Final = "CUSTOM_USB_PRODUCT_"
CLASS_PREFIX: Final = "CUSTOM_USB_CLASS_"
SPEED_PREFIX: Final = "CUSTOM_USB_SPEED_"
SERIAL_PREFIX: Final = "CUSTOM_USB_SERIAL_"

SPEEDS: Final = ("low", "full", "high", "super", "super-plus")
SPEED_UNKNOWN: Final = "unknown"

RESOURCE_CLASSES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "CUSTOM_USB_KEY": "A security key, HSM, hardware wallet or licence dongle.",
        "CUSTOM_USB_STORAGE": "A disk, stick, card reader or optical drive.",
        "CUSTOM_USB_CAMERA": "A webcam, video grabber or machine vision camera.",
        "CUSTOM_USB_AUDIO": "A sound card, headset, microphone or MIDI instrument.",
        "CUSTOM_USB_SERIAL": "A serial port.",
        "CUSTOM_USB_SMART_CARD": "A smart card reader.",
        "CUSTOM_USB_PRINTER": "A printer.",
        "CUSTOM_USB_NETWORK": "A network adapter, by cable or Wi-Fi.",
        "CUSTOM_USB_MODEM": "A mobile broadband modem.",
        "CUSTOM_USB_BLUETOOTH": "A Bluetooth adapter.",
        "CUSTOM_USB_HID": "A keyboard, mouse or other input device.",
        "CUSTOM_USB_GNSS": "A receiver for GPS and other satellite navigation systems.",
        "CUSTOM_USB_IMAGE": "A still camera or telephone that serves its files (PTP, MTP).",
        "CUSTOM_USB_UPS": "An uninterruptible power supply.",
        "CUSTOM_USB_TMC": "A test or measurement instrument (USBTMC).",
        "CUSTOM_USB_DEVICE": "A USB device of any other kind.",
    }
)
"""The resource classes that we suggest, each with one sentence; an operator may use any other."""

_STATE_SENTENCES: Final[Mapping[str, str]] = MappingProxyType(
    {
        STATE_ABSENT: "The device is not plugged in.",
        STATE_DRAINED: "An operator drained the device, so it takes no new instance.",
        STATE_WITHDRAWN: ("The device is plugged in, but no rule offers it or the host keeps it for itself."),
        STATE_RESERVED: (
            "An operator had reserved the device, and this is remembered while it is absent or withdrawn."
        ),
        STATE_SHORT: "Consumers hold missing members of the pool, or one was just drained; as many units are reserved.",
        STATE_WAITING: "A running guest holds the device and has not had it for a minute or longer.",
    }
)
STATES: Final[frozenset[str]] = frozenset(_STATE_SENTENCES)

_MARKS: Final[Mapping[str, str]] = MappingProxyType(
    {
        MANAGED: "The provider is written and kept up to date by the USB agent.",
        NOT_LIVE_MIGRATABLE: "A rule says that no other device can stand in for this one during a live migration.",
        PURGED: "A purge took the provider out of its host's tree, and deletes it once nova-compute has forgotten it.",
    }
)
_OWNED_PREFIXES = (
    STATE_PREFIX,
    VENDOR_PREFIX,
    PRODUCT_PREFIX,
    CLASS_PREFIX,
    SPEED_PREFIX,
    SERIAL_PREFIX,
)

_ID = re.compile(r"[0-9A-Fa-f]{4}")
_CODE = re.compile(r"[0-9A-Fa-f]{2}")
_CODE_AS_TYPED = re.compile(r"(?:0X)?([0-9A-F]{1,2})")
_VENDOR_NAME = re.compile(VENDOR_PREFIX + r"([0-9A-F]{4})")
_PRODUCT_NAME = re.compile(PRODUCT_PREFIX + r"([0-9A-F]{4})_([0-9A-F]{4})")
_CLASS_NAME = re.compile(CLASS_PREFIX + r"([0-9A-F]{2})")
_SERIAL_NAME = re.compile(SERIAL_PREFIX + r"([A-Z0-9][A-Z0-9_]*)")
_DRAIN_REASON_NAME = re.compile(DRAIN_REASON_PREFIX + r"[A-Z0-9][A-Z0-9_]*")
_MEMBER_DRAINED_NAME = re.compile(MEMBER_DRAINED_PREFIX + r"([0-9A-F]{16})")
_SERIAL_DIGEST_LENGTH = 16

_RATES = {
    "low": "1.5 Mbit/s",
    "full": "12 Mbit/s",
    "high": "480 Mbit/s",
    "super": "5 Gbit/s",
    "super-plus": "10 Gbit/s or more",
}
_SPEED_NAMES = {SPEED_PREFIX + clean(speed): speed for speed in SPEEDS}
_CLASS_NAMES = {CLASS_PREFIX + c.name: c for c in CLASSES.values() if c.code != PER_INTERFACE}
_CODE_BY_WORD = {c.name: c.code for c in CLASSES.values()} | {
    # What the same classes are called in daily life.
    "CDC": "02",
    "CCID": "0b",
    "UVC": "0e",
}


def speed_trait(speed: str | None) -> str | None:
    """The trait of a speed: ``"super-plus"`` gives ``CUSTOM_USB_SPEED_SUPER_PLUS``.

    ``None`` for any word that is not in ``SPEEDS``, "unknown" included: a device whose speed we
    cannot name is still worth reporting.
    """
    return next((name for name, known in _SPEED_NAMES.items() if known == speed), None)


def vendor_trait(vendor_id: str) -> str:
    """The trait of a vendor: ``"1050"`` gives ``CUSTOM_USB_VENDOR_1050``.

    :raises InvalidName: when *vendor_id* is not exactly four hexadecimal digits.
    """
    return VENDOR_PREFIX + _id("vendor", vendor_id)


def product_trait(vendor_id: str, product_id: str) -> str:
    """The trait of a product: ``"1050", "0407"`` gives ``CUSTOM_USB_PRODUCT_1050_0407``.

    :raises InvalidName: when one of the ids is not exactly four hexadecimal digits.
    """
    return f"{PRODUCT_PREFIX}{_id('vendor', vendor_id)}_{_id('product', product_id)}"


def serial_trait(serial: str) -> str | None:
    """The trait of a serial number: ``"5-ab1"`` gives ``CUSTOM_USB_SERIAL_5_AB1``.

    ``None`` when no ASCII letter or digit is left.  A serial number too long for a name is cut, and
    a digest of the whole keeps it apart from others that start alike.  Short ones that differ only
    in case or punctuation do share a trait, so it helps to find a device and never identifies one.
    """
    body = clean(serial)
    if not body:
        return None
    name = SERIAL_PREFIX + body
    if len(name) > MAX_LENGTH:
        # surrogatepass: a descriptor string is UTF-16 from the device and need not be well formed.
        whole = hashlib.sha256(serial.encode("utf-8", "surrogatepass")).hexdigest()
        digest = whole[:_SERIAL_DIGEST_LENGTH].upper()
        name = f"{name[: MAX_LENGTH - _SERIAL_DIGEST_LENGTH - 1]}_{digest}"
    return name


def drain_reason_trait(text: str) -> str:
    """The trait that says why a device is drained: ``"new firmware"`` gives ``CUSTOM_USB_DRAIN_REASON_NEW_FIRMWARE``.

    Placement keeps no free text, so case and punctuation are lost; see :func:`drain_reason` for the way back.

    :raises InvalidName: when no ASCII letter or digit is left, or more than a name holds; the caller should show it.
    """
    body = clean(text)
    if not body:
        raise InvalidName(f"The reason {quote(text)} has no letter A-Z and no digit that a trait could be made of.")
    name = DRAIN_REASON_PREFIX + body
    if len(name) > MAX_LENGTH:
        raise InvalidName(f"The reason {quote(text)} is too long: a trait holds {MAX_LENGTH - len(name) + len(body)}.")
    return name


def drain_reason(traits: Iterable[str]) -> str | None:
    """What *traits* say of why a device is drained, in lower case: ``"new firmware"``; None when they say nothing."""
    found = sorted(name.removeprefix(DRAIN_REASON_PREFIX) for name in traits if name.startswith(DRAIN_REASON_PREFIX))
    return "; ".join(body.replace("_", " ").strip().lower() for body in found) or None


def member_drained_trait(member_id: str) -> str:
    """The trait of a pool of which an operator drained the member *member_id*, 16 hexadecimal digits.

    The agent keeps it, as it keeps every trait of an operator's.
    """
    return f"{MEMBER_DRAINED_PREFIX}{member_id.upper()}"


def class_code(value: str) -> str:
    """The two-digit code of a class that an operator wrote as a name or a number.

    ``"hid"``, ``"HID"``, ``"3"``, ``"03"``, ``"0x03"``, ``"CUSTOM_USB_CLASS_HID"``: all ``"03"``.
    Numbers are hexadecimal with or without ``0x``, as lsusb prints them, and need not be defined.

    :raises InvalidName: when *value* is neither; the message lists the known names.
    """
    # Without isascii, a character whose upper case is ASCII would pass for that one.
    word = value.strip().upper() if value.isascii() else ""
    word = word.replace("-", "_").replace(" ", "_").removeprefix(CLASS_PREFIX)
    if word in _CODE_BY_WORD:
        return _CODE_BY_WORD[word]
    if number := _CODE_AS_TYPED.fullmatch(word):
        return number[1].lower().zfill(2)
    known = ", ".join(c.word for c in CLASSES.values())
    raise InvalidName(f"{quote(value)} is not a USB class: give two hexadecimal digits or one of {known}.")


def class_trait(code: str) -> str | None:
    """The trait of a class: ``"08"`` gives ``CUSTOM_USB_CLASS_MASS_STORAGE``.

    ``None`` for ``"00"``, which only says that the interfaces know.  A code that the USB-IF does
    not define gives its digits: ``"58"`` is ``CUSTOM_USB_CLASS_58``.

    :raises InvalidName: when *code* is not exactly two hexadecimal digits.
    """
    code = _code(code)
    if code == PER_INTERFACE:
        return None
    known = CLASSES.get(code)
    return CLASS_PREFIX + (known.name if known else code.upper())


def class_traits(codes: Iterable[str]) -> frozenset[str]:
    """The traits of all *codes*; ``"00"`` adds none.

    :raises InvalidName: when one of *codes* is not exactly two hexadecimal digits.
    """
    return frozenset(trait for code in codes if (trait := class_trait(code)) is not None)


def describe_interface(triplet: Triplet) -> str:
    """What an interface is, in words.

    ``("08", "06", "62")`` gives ``mass storage, SCSI UAS (08/06/62)``.

    :raises InvalidName: when a member is not exactly two hexadecimal digits.
    """
    base, subclass, protocol = (_code(member) for member in triplet)
    words = INTERFACES.get((base, subclass, protocol)) or INTERFACES.get((base, subclass, None))
    if words is None:
        known = CLASSES.get(base)
        words = known.name.lower().replace("_", " ") if known else "undefined class"
        # The code names whose short form is how people say them.
        words = {"hid": "HID", "mctp": "MCTP", "i3c": "I3C"}.get(words, words)
        words = words.replace("cdc", "CDC").replace("type c", "Type-C")
    return f"{words} ({base}/{subclass}/{protocol})"


def is_of_a_device(name: str) -> bool:
    """Whether the trait *name* is made from the ids or the serial number of a device, which can be anything."""
    return name.startswith((VENDOR_PREFIX, PRODUCT_PREFIX, SERIAL_PREFIX))


def is_owned(name: str) -> bool:
    """Whether the agent writes traits like *name* by itself, and so may remove this one.

    True for the marks and for every name under the prefixes of states, vendors, products, classes,
    speeds and serial numbers.  The whole prefix is reserved, not only today's names: after a
    downgrade, a newer agent's trait has to go too.  Everything else, an operator's
    ``CUSTOM_USB_MYTHING`` included, is not ours.
    """
    return name in _MARKS or any(name.startswith(prefix) and name != prefix for prefix in _OWNED_PREFIXES)


def describe(name: str) -> str | None:
    """One sentence about a trait or resource class of the vocabulary; ``None`` for other names."""
    for table in (RESOURCE_CLASSES, _MARKS, _STATE_SENTENCES):
        if name in table:
            return table[name]
    if name in _SPEED_NAMES:
        speed = _SPEED_NAMES[name]
        return f"The device runs at {speed} speed ({_RATES[speed]})."
    if name in _CLASS_NAMES:
        known = _CLASS_NAMES[name]
        return f"USB class {known.code} ({known.word}): {known.sentence}"
    if found := _MEMBER_DRAINED_NAME.fullmatch(name):
        return f"An operator drained the member {found[1].lower()} of the pool, so no new instance gets it."
    return describe_request(name) or _describe_parameterised(name)


def _describe_parameterised(name: str) -> str | None:
    if found := _VENDOR_NAME.fullmatch(name):
        return f"The device is of USB vendor {found[1].lower()}."
    if found := _PRODUCT_NAME.fullmatch(name):
        return f"The device is product {found[2].lower()} of USB vendor {found[1].lower()}."
    if found := _CLASS_NAME.fullmatch(name):
        code = found[1].lower()
        # A defined class has its own name, and 00 has none: neither is ever written with digits.
        return None if code in CLASSES else f"USB class {code}, which the USB-IF does not define."
    if _DRAIN_REASON_NAME.fullmatch(name) and len(name) <= MAX_LENGTH:
        return f"The operator who drained the device gave the reason: {drain_reason([name])}."
    if (found := _SERIAL_NAME.fullmatch(name)) and len(name) <= MAX_LENGTH:
        return f"The device's serial number is {found[1]}, spelled in A-Z, 0-9 and underscores."
    return None


def _id(what: str, text: str) -> str:
    if not _ID.fullmatch(text):
        raise InvalidName(f"The USB {what} id {quote(text)} must be exactly four hexadecimal digits, like 1050.")
    return text.upper()


def _code(text: str) -> str:
    if not _CODE.fullmatch(text):
        raise InvalidName(f"The USB class code {quote(text)} must be exactly two hexadecimal digits, like 03.")
    return text.lower()
