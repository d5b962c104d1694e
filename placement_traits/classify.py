"""Suggest a resource class for a device from what its descriptors say.

This module's one job is a *suggestion* for ``usb-provider devices`` and for a rule that names no
resource class.  Nothing may depend on it being right: an operator's rule always wins.  It must not
do I/O and must not read descriptor strings, which a device can fill with anything.
"""

from collections.abc import Collection, Iterable
from typing import Final

from placement_traits import known_ids
from placement_traits.codes import Triplet, TripletPattern
from placement_traits.usb import RESOURCE_CLASSES

__all__ = ["RESOURCE_CLASSES", "is_security_token", "suggest"]

_BROADBAND: Final[tuple[TripletPattern, ...]] = (
    ("02", None, None),
    ("e0", "01", "03"),
    ("ef", "04", None),
    ("ff", None, None),
)
# Android's debug bridge: a telephone of a modem vendor shows it, a modem does not.
_ADB: Final = ("ff", "42", "01")

# "Smart Card ICCD" of the USB-IF: protocols 01 and 02 are versions A and B of it, 00 is a reader.
_CHIP_CARD: Final[tuple[TripletPattern, ...]] = (("0b", "00", "01"), ("0b", "00", "02"))

# The first line that matches any interface wins, so the rarer and more telling functions come
# first: a headset also has HID buttons, a printer also has a card slot.
_BY_INTERFACE: Final[tuple[tuple[str, tuple[TripletPattern, ...]], ...]] = (
    ("CUSTOM_USB_MODEM", (("02", "0e", None),)),
    ("CUSTOM_USB_CAMERA", (("0e", None, None), ("ef", "05", None))),
    ("CUSTOM_USB_PRINTER", (("07", None, None),)),
    ("CUSTOM_USB_BLUETOOTH", (("e0", "01", "01"), ("e0", "01", "04"))),
    ("CUSTOM_USB_SMART_CARD", (("0b", None, None),)),
    ("CUSTOM_USB_TMC", (("fe", "03", None),)),
    (
        "CUSTOM_USB_NETWORK",
        (
            ("02", "06", None),
            ("02", "0c", None),
            ("02", "0d", None),
            ("02", "02", "ff"),
            ("e0", "01", "03"),
            ("ef", "04", None),
        ),
    ),
    ("CUSTOM_USB_SERIAL", (("02", "02", None),)),
    ("CUSTOM_USB_IMAGE", (("06", None, None),)),
    ("CUSTOM_USB_AUDIO", (("01", None, None), ("10", None, None))),
    # A reader of memory cards may speak SCSI through an interface of vendor class.
    ("CUSTOM_USB_STORAGE", (("08", None, None), ("ff", "06", "50"))),
    ("CUSTOM_USB_HID", (("03", None, None),)),
)


def suggest(vendor_id: str, product_id: str, device_class: str, interfaces: Collection[Triplet]) -> str:
    """The resource class that fits best; ``CUSTOM_USB_DEVICE`` when nothing tells more.

    Known ids come first, because they know more than a class code does; then the interfaces, in a
    fixed order of functions, so that their own order does not matter.  *device_class* is asked only
    when no interface is known.  Nothing is refused: unknown ids and codes simply match no line.
    """
    vendor, product = vendor_id.lower(), product_id.lower()
    shown = frozenset((c.lower(), s.lower(), p.lower()) for c, s, p in interfaces)
    if not shown:
        shown = frozenset({(device_class.lower(), "", "")})
    if device_class == "09" or _any_match(shown, (("09", None, None),)):
        return "CUSTOM_USB_DEVICE"
    if is_security_token(vendor, product, interfaces):
        return "CUSTOM_USB_KEY"
    return _by_ids(vendor, product, shown) or _by_interfaces(shown)


def is_security_token(vendor_id: str, product_id: str, interfaces: Collection[Triplet]) -> bool:
    """Whether the ids are those of a known security key, HSM, wallet or licence dongle.

    A FIDO key cannot be told from any other HID device by its triplets (03/00/00), hence tables.
    For a vendor that is listed as a whole, an interface must be of a kind that tokens have; ids
    alone decide when no interface is known.  A chip card that speaks USB itself (ICCD) is a token
    of any vendor: no card can be put into it.
    """
    vendor, product = vendor_id.lower(), product_id.lower()
    if _any_match(interfaces, _CHIP_CARD):
        return True
    if product in known_ids.TOKENS.get(vendor, ()):
        return True
    if vendor not in known_ids.TOKEN_VENDORS or (
        product.startswith(known_ids.READERS.get(vendor, ())) and product not in known_ids.NO_READERS
    ):
        return False
    return not interfaces or any(c.lower() in known_ids.TOKEN_INTERFACES for c, _, _ in interfaces)


def _by_ids(vendor: str, product: str, shown: frozenset[Triplet]) -> str | None:
    is_reader = vendor in known_ids.READER_VENDORS and all(triplet[0] == "ff" for triplet in shown)
    is_ups = vendor in known_ids.UPS_VENDORS or product in known_ids.UPS.get(vendor, ())
    known = (
        ("CUSTOM_USB_UPS", is_ups and any(triplet[0] in known_ids.UPS_INTERFACES for triplet in shown)),
        ("CUSTOM_USB_BLUETOOTH", product in known_ids.BLUETOOTH.get(vendor, ()) or _is_broadcom_bluetooth(shown)),
        ("CUSTOM_USB_NETWORK", product in known_ids.NETWORK.get(vendor, ())),
        ("CUSTOM_USB_IMAGE", _is_player(vendor, product, shown)),
        ("CUSTOM_USB_MODEM", _is_modem(vendor, product, shown)),
        ("CUSTOM_USB_GNSS", vendor == known_ids.UBLOX or product in known_ids.GNSS.get(vendor, ())),
        ("CUSTOM_USB_SERIAL", product in known_ids.SERIAL.get(vendor, ())),
        ("CUSTOM_USB_SMART_CARD", is_reader),
    )
    return next((name for name, applies in known if applies), None)


def _by_interfaces(shown: frozenset[Triplet]) -> str:
    matching = (name for name, patterns in _BY_INTERFACE if _any_match(shown, patterns))
    return next(matching, "CUSTOM_USB_DEVICE")


def _is_player(vendor: str, product: str, shown: frozenset[Triplet]) -> bool:
    """Whether it is a telephone or player: it shows MTP, and beside that Android's debug bridge or a disk at most."""
    if product in known_ids.STILL_CAMERAS.get(vendor, ()):
        return True
    functions = shown - known_ids.STORAGE_OR_ADB
    if _ADB in shown or vendor in known_ids.MTP_VENDORS:
        # Modems show the bridge too, but beside interfaces of other protocols.
        return functions <= {("ff", "ff", "00")} and bool(functions or _ADB in shown)
    return vendor in known_ids.TELEPHONE_VENDORS and bool(functions) and all(each[0] == "ff" for each in functions)


def _is_broadcom_bluetooth(shown: frozenset[Triplet]) -> bool:
    """Whether the interfaces are those of Bluetooth, in vendor class, with a firmware update beside them."""
    return ("ff", "01", "01") in shown and _any_match(shown, (("fe", "01", None),))


def _is_modem(vendor: str, product: str, shown: frozenset[Triplet]) -> bool:
    if vendor == known_ids.UBLOX:
        return product.startswith(known_ids.UBLOX_MODEMS)
    if product in known_ids.MODEMS.get(vendor, ()):
        return True
    if vendor == "413c" and product.startswith(known_ids.DELL_MODEMS):
        return _any_match(shown, _BROADBAND)
    if vendor not in known_ids.MODEM_VENDORS or _any_match(shown, (("06", None, None),)):
        return False
    return _any_match(shown - {_ADB}, _BROADBAND)


def _any_match(shown: Iterable[Triplet], patterns: tuple[TripletPattern, ...]) -> bool:
    return any(
        base == c and subclass in (None, s) and protocol in (None, p)
        for c, s, p in shown
        for base, subclass, protocol in patterns
    )
