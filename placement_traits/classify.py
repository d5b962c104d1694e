"""Suggest a resource class for a device from what its descriptors say.

This module's one job is a *suggestion* for ``usb-provider devices`` and for a rule that names no
resource class.  Nothing may depend on it being right: an operator's rule always wins.  It must not
do I/O and must not read descriptor strings, which a device can fill with anything.

Ids are listed only where another public list has them:

* ``usb.ids`` 2025.07.26 (http://www.linux-usb.org/usb-ids.html), marked [ids];
* libfido2 ``udev/fidodevs`` (https://github.com/Yubico/libfido2), marked [fido2];
* Linux ``drivers/usb/serial/option.c`` and ``drivers/net/usb/cdc_ether.c``, marked [linux].
"""

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Final

from placement_traits.codes import Triplet, TripletPattern
from placement_traits.usb import RESOURCE_CLASSES

__all__ = ["RESOURCE_CLASSES", "is_security_token", "suggest"]

# Vendors whose devices are tokens, all of them unless listed in _READERS.
_TOKEN_VENDORS: Final = frozenset(
    {
        "04b9",  # Rainbow Technologies, now SafeNet: Sentinel and SuperPro dongles, iKey [ids]
        "0529",  # Aladdin Knowledge Systems: HASP dongles, eToken [ids]
        "064f",  # WIBU-SYSTEMS: CodeMeter sticks, Wibu-Box [ids]
        "096e",  # Feitian: ePass, HID and Dinkey dongles, FIDO keys [ids] [fido2]
        "1050",  # Yubico: YubiKey, Security Key [ids] [fido2]
        "2c97",  # Ledger hardware wallets [ids] [fido2]
        "349e",  # Token2 FIDO keys [fido2]
    }
)

# Plain card readers of the vendors above.
_READERS: Final = frozenset({("096e", "0503"), ("096e", "0608")})  # [ids]

_TOKENS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "0483": frozenset({"a2ac", "a2ca", "cdab"}),  # MIRKey, early Solo, Tomu [fido2]
        "058b": frozenset({"022d"}),  # Infineon FIDO [fido2]
        "06cb": frozenset({"0088"}),  # Kensington VeriMark [fido2]
        "072f": frozenset({"9006", "90db"}),  # ACS CryptoMate [ids]
        "0819": frozenset({"0101"}),  # eLicenser [ids]
        "088e": frozenset({"5036"}),  # iLok [ids]
        "08e6": frozenset({"1359", "2202", "ace0"}),  # Gemalto tokens, not its readers [ids]
        "0dbf": frozenset({"0002"}),  # SmartDongle [ids]
        "0e50": frozenset({"0002"}),  # Matrixlock [ids]
        "10c4": frozenset({"8acf"}),  # U2F Zero [fido2]
        "1209": frozenset({"5070", "53c1", "7000", "beee"}),  # Solo, Trezor, Secalot [ids] [fido2]
        "18d1": frozenset({"5026"}),  # Google Titan [fido2]
        "1a44": frozenset({"00bb"}),  # VASCO SecureClick [fido2]
        "1d50": frozenset({"60fc"}),  # OnlyKey [ids] [fido2]
        "1e0d": frozenset({"f1ae", "f1d0"}),  # Neowave Keydo [fido2]
        "1ea8": frozenset({"f025", "fc25"}),  # Thetis, Excelsecu [fido2]
        "1fc9": frozenset({"f143"}),  # GoTrust Idem Key [fido2]
        "20a0": frozenset(  # Nitrokey, SafeKey, CanoKey; no boot loaders [ids] [fido2]
            {"4107", "4108", "4109", "4211", "4230", "4287", "42b1", "42b2", "42b3", "42d4"}
        ),
        "234b": frozenset({"0000"}),  # Gnuk [ids]
        "24dc": frozenset({"0101", "0406", "0501"}),  # JaCarta [ids] [fido2]
        "2581": frozenset({"f1d0"}),  # Plug-up, Nitrokey U2F [ids] [fido2]
        "2abe": frozenset({"1002"}),  # Bluink [fido2]
        "2ccf": frozenset({"0880"}),  # HyperFIDO [ids] [fido2]
        "311f": frozenset(  # eWBM, TrustKey [fido2]
            {"4a1a", "4a2a", "4c2a", "5c2f", "a6e9", "a7f9", "f47c"}
        ),
        "32a3": frozenset({"3201"}),  # GoTrust Idem Key [fido2]
        "4c4d": frozenset({"f703"}),  # Longmai mFIDO [fido2]
        "534c": frozenset({"0001", "0002"}),  # Trezor [ids] [fido2]
    }
)

# What a token can look like: HID, a CCID reader, a disk (CodeMeter), or a vendor's own protocol.
_TOKEN_INTERFACES: Final = frozenset({"03", "08", "0b", "ff"})

_GNSS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "091e": frozenset({"0003"}),  # Garmin [ids]
        "09d7": frozenset({"0100"}),  # NovAtel [ids]
        "1163": frozenset({"0100", "0200", "2020"}),  # DeLorme Earthmate [ids]
        "1d50": frozenset({"60c7"}),  # Zubax GNSS [ids]
    }
)
# u-blox gives its receivers 01xx; its modems have 11xx (LISA-U2) and 13xx (LARA) [ids] [linux].
_UBLOX: Final = "1546"
_UBLOX_MODEMS: Final = ("11", "13")

_MODEM_VENDORS: Final = frozenset(
    {
        "0af0",  # Option [ids]
        "1199",  # Sierra Wireless [ids]
        "12d1",  # Huawei [ids]
        "1410",  # Novatel Wireless [ids]
        "19d2",  # ZTE [ids]
        "1bc7",  # Telit [ids]
        "1e0e",  # Qualcomm / Option [ids]
        "1e2d",  # Gemalto M2M, Cinterion [ids]
        "2c7c",  # Quectel [ids]
        "2cb7",  # Fibocom [ids]
    }
)

_NETWORK: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "0424": frozenset({"7500", "ec00"}),  # LAN7500, SMSC9512 Ethernet [ids]
        "0b95": frozenset({"1790", "7720", "772a", "772b"}),  # ASIX Ethernet [ids]
        "0bda": frozenset(
            {"8150", "8152", "8153"}  # Realtek Ethernet [ids]
            | {"0179", "0811", "8176", "8178", "8179", "8187", "818b", "8192"}  # and Wi-Fi [ids]
            | {"8812", "8813", "a811", "b812"}
        ),
        "0cf3": frozenset({"7015", "9170", "9271"}),  # Atheros Wi-Fi [ids]
        "0e8d": frozenset({"7612"}),  # MediaTek Wi-Fi [ids]
        "148f": frozenset({"2573", "3070", "5370", "5372", "5572", "7601"}),  # Ralink Wi-Fi [ids]
        "2357": frozenset({"0101", "0103", "0105", "011e"}),  # TP-Link Archer Wi-Fi [ids]
    }
)

_SERIAL: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "0403": frozenset({"6001", "6010", "6011", "6014", "6015"}),  # FTDI [ids]
        "04e2": frozenset(  # Exar [ids]
            {"1410", "1411", "1412", "1414", "1420", "1422", "1424"}
        ),
        "0557": frozenset({"2008", "2011", "7820"}),  # ATEN [ids]
        "067b": frozenset({"2303", "23a3"}),  # Prolific PL2303 [ids]
        "10c4": frozenset({"ea60", "ea61", "ea63", "ea70", "ea71", "ea80"}),  # CP210x [ids]
        "1a86": frozenset({"5523", "7522", "7523"}),  # QinHeng CH340, CH341 [ids]
        "9710": frozenset({"7720", "7810", "7820", "7840"}),  # MosChip [ids]
    }
)

_BROADBAND: Final[tuple[TripletPattern, ...]] = (
    ("02", None, None),
    ("e0", "01", "03"),
    ("ef", "04", None),
    ("ff", None, None),
)
# Android's debug bridge: a telephone of a modem vendor shows it, a modem does not.
_ADB: Final = ("ff", "42", "01")

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
    ("CUSTOM_USB_STORAGE", (("08", None, None),)),
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
    alone decide when no interface is known.
    """
    vendor, product = vendor_id.lower(), product_id.lower()
    if product in _TOKENS.get(vendor, ()):
        return True
    if vendor not in _TOKEN_VENDORS or (vendor, product) in _READERS:
        return False
    return not interfaces or any(c.lower() in _TOKEN_INTERFACES for c, _, _ in interfaces)


def _by_ids(vendor: str, product: str, shown: frozenset[Triplet]) -> str | None:
    if _is_modem(vendor, product, shown):
        return "CUSTOM_USB_MODEM"
    if vendor == _UBLOX or product in _GNSS.get(vendor, ()):
        return "CUSTOM_USB_GNSS"
    if product in _NETWORK.get(vendor, ()):
        return "CUSTOM_USB_NETWORK"
    if product in _SERIAL.get(vendor, ()):
        return "CUSTOM_USB_SERIAL"
    return None


def _by_interfaces(shown: frozenset[Triplet]) -> str:
    matching = (name for name, patterns in _BY_INTERFACE if _any_match(shown, patterns))
    return next(matching, "CUSTOM_USB_DEVICE")


def _is_modem(vendor: str, product: str, shown: frozenset[Triplet]) -> bool:
    if vendor == _UBLOX:
        return product.startswith(_UBLOX_MODEMS)
    if vendor not in _MODEM_VENDORS or _any_match(shown, (("06", None, None),)):
        return False
    return _any_match(shown - {_ADB}, _BROADBAND)


def _any_match(shown: Iterable[Triplet], patterns: tuple[TripletPattern, ...]) -> bool:
    return any(
        base == c and subclass in (None, s) and protocol in (None, p)
        for c, s, p in shown
        for base, subclass, protocol in patterns
    )
