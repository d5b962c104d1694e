"""Which models are known by their ids: tokens, readers, receivers, modems, adapters, power supplies.

This module only lists; classify.py says what follows. Ids are listed only where another public list has them:

* ``usb.ids`` 2025.07.26 (http://www.linux-usb.org/usb-ids.html), marked [ids];
* libfido2 ``udev/fidodevs`` (https://github.com/Yubico/libfido2), marked [fido2];
* Linux ``drivers/usb/serial/option.c``, ``drivers/net/usb/cdc_ether.c`` and ``drivers/net/wimax/i2400m/usb.c``,
  marked [linux];
* the readers and tokens that the CCID driver knows (https://ccid.apdu.fr/ccid/section.html), marked [ccid];
* ``scripts/udev/nut-usbups.rules`` of Network UPS Tools (https://networkupstools.org), marked [nut];
* ``src/music-players.h`` of libmtp (https://libmtp.sourceforge.net), marked [mtp].
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

# Vendors whose devices are tokens, all of them unless listed in READERS.
TOKEN_VENDORS: Final = frozenset(
    {
        "04b9",  # Rainbow Technologies, now SafeNet: Sentinel and SuperPro dongles, iKey [ids]
        "08df",  # Spyrus: Rosetta, WorkSafe, PocketVault [ids] [ccid]
        "0a89",  # Aktiv: Rutoken [ids] [ccid]
        "0d7a",  # MARX: CrypToken, CryptoBox [ids] [ccid]
        "1059",  # Giesecke & Devrient: StarSign [ids] [ccid]
        "163c",  # Watchdata [ids] [ccid]
        "19e7",  # charismathics [ccid]
        "1e0d",  # Neowave: Weneo, Keydo [ccid] [fido2]
        "23a0",  # BIFIT [ids] [ccid]
        "24dc",  # Aladdin R.D.: JaCarta [ids] [ccid] [fido2]
        "316e",  # Specinfosystems: Diamond [ccid]
        "0529",  # Aladdin Knowledge Systems: HASP dongles, eToken [ids]
        "064f",  # WIBU-SYSTEMS: CodeMeter sticks, Wibu-Box [ids]
        "096e",  # Feitian: ePass, HID and Dinkey dongles, FIDO keys [ids] [fido2]
        "1050",  # Yubico: YubiKey, Security Key [ids] [fido2]
        "2c97",  # Ledger hardware wallets [ids] [fido2]
        "349e",  # Token2 FIDO keys [fido2]
    }
)

# Plain card readers of the vendors above: how their product ids begin. Feitian's 06xx are readers, but for one token.
READERS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "096e": ("05", "060", "061", "062", "063", "064"),  # SCR301, R502, bR301, bR500, R701 [ids] [ccid]
        "0a89": ("0060", "0069", "008"),  # Rutoken SCR 3001, PINPad [ccid]
        "24dc": ("042",),  # JCR SecurBio [ccid]
        "349e": ("043",),  # MFA NFC reader [ccid]
    }
)

NO_READERS: Final = frozenset({"0603"})  # Feitian's PIVKey T800 [ccid]

TOKENS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "03eb": frozenset({"6012", "6016", "9308"}),  # VaultIC, E.Key Crystal-1 [ccid]
        "0416": frozenset({"c137"}),  # KeyPass D1 [ccid]
        "047d": frozenset({"8055", "8203"}),  # Kensington VeriMark [ccid] [fido2]
        "0483": frozenset(
            {"2010", "a2ac", "a2ca", "a389", "cdab"}
        ),  # MIRKey, Solo, Tomu, jToken, DXToken [ccid] [fido2]
        "04e6": frozenset({"5817", "5826"}),  # SCT3522CC, uTrust Token Flex [ccid]
        "04e8": frozenset({"0007"}),  # XecureHSM [ccid]
        "058b": frozenset({"022d"}),  # Infineon FIDO [fido2]
        "06cb": frozenset({"0088"}),  # Kensington VeriMark [fido2]
        "072f": frozenset({"9006", "90d8", "90db", "b106", "b112"}),  # ACS CryptoMate [ids] [ccid]
        "073d": frozenset({"0005", "0007", "0008", "0025", "0c00"}),  # Eutron CryptoIdentity [ids] [ccid]
        "0819": frozenset({"0101"}),  # eLicenser [ids]
        "088e": frozenset({"5036"}),  # iLok [ids]
        "08e6": frozenset(  # Gemalto and SafeNet tokens, not Gemalto's readers [ids] [ccid]
            {"1359", "2202", "34cb", "34cc", "34cf", "3438", "34d2", "8000", "8108", "8141", "ace0"}
        ),
        "0973": frozenset({"0001", "0003"}),  # Cyberflex Access e-gate [ids] [ccid]
        "09c3": frozenset(  # ActivKey, Crescendo Key [ccid]
            {"0014", "0028", "0029", "002a", "002b", "002c", "002d", "002e", "002f", "0030"}
        ),
        "0b81": frozenset({"8007"}),  # DOMINO-Key [ccid]
        "0d46": frozenset({"301d", "4000", "4001", "4081", "4089", "41a1", "41a9", "4281", "4289", "4381", "4389"}),
        "0dbf": frozenset({"0002"}),  # SmartDongle [ids]
        "0dc3": frozenset({"0900", "1004", "1006", "100f"}),  # Athena IDProtect Key, ASEKey [ids] [ccid]
        "0e50": frozenset({"0002"}),  # Matrixlock [ids]
        "10c4": frozenset({"8acf"}),  # U2F Zero [fido2]
        "1209": frozenset(
            {"2440", "2702", "5070", "53c1", "7000", "beee"}
        ),  # Solo, Trezor, Secalot [ids] [fido2] [ccid]
        "1370": frozenset({"0901"}),  # Swissbit [ccid]
        "13fe": frozenset({"c831"}),  # MobiKEY [ccid]
        "15e1": frozenset({"2007"}),  # RSA SecurID [ccid]
        "18d1": frozenset({"5026"}),  # Google Titan [fido2]
        "1a44": frozenset(  # VASCO SecureClick, DIGIPASS KEY; not its readers [fido2] [ccid]
            {"00bb", "0101", "0112", "0115", "0119", "0121", "0122", "0123", "0129"}
        ),
        "1a6f": frozenset({"0104"}),  # Morpho ypsID [ccid]
        "1a74": frozenset({"6356"}),  # ID-One Cosmo [ccid]
        "1d50": frozenset({"60fc"}),  # OnlyKey [ids] [fido2]
        "1ea8": frozenset({"800f", "f025", "fc25"}),  # Molto2, Thetis, Excelsecu [fido2] [ccid]
        "1fc9": frozenset({"f143"}),  # GoTrust Idem Key [fido2]
        "20a0": frozenset(  # Nitrokey, SafeKey, CanoKey; no boot loaders [ids] [fido2]
            {"4107", "4108", "4109", "4211", "4230", "4287", "42b1", "42b2", "42b3", "42d4", "42f3"}
        ),
        "234b": frozenset({"0000"}),  # Gnuk [ids]
        "2406": frozenset({"5003", "5006", "6300", "6301", "6302", "6303", "6304", "6305"}),  # ID50, VaultIC [ccid]
        "2581": frozenset({"f1d0"}),  # Plug-up, Nitrokey U2F [ids] [fido2]
        "25dd": frozenset(  # tokenME, Digital-DNA Key, iAM; not miniLector [ccid]
            {"2221", "2341", "2342", "2343", "2344", "2351", "2352", "2353", "2354", "2361", "2362", "2363"}
        ),
        "2abe": frozenset({"1002", "1003"}),  # Bluink [fido2] [ccid]
        "2ccf": frozenset({"0880"}),  # HyperFIDO [ids] [fido2]
        "2e8a": frozenset({"10fd", "10fe", "10ff"}),  # Pico Key [ccid]
        "2fb0": frozenset({"003a"}),  # Token++ [ccid]
        "311f": frozenset(  # eWBM, TrustKey [fido2]
            {"4a1a", "4a2a", "4c2a", "5c2f", "a6e9", "a7f9", "f47c"}
        ),
        "316d": frozenset({"4c4b"}),  # Librem Key [ccid]
        "32a3": frozenset({"3201"}),  # GoTrust Idem Key [fido2]
        "3606": frozenset({"5a11"}),  # authenton#1 [ccid]
        "4c4d": frozenset({"f703"}),  # Longmai mFIDO [fido2]
        "534c": frozenset({"0001", "0002"}),  # Trezor [ids] [fido2]
        "a625": frozenset({"0801"}),  # TianYu [ccid]
        "c1a6": frozenset({"0131"}),  # AvestKey [ccid]
    }
)

# What a token can look like: HID, a CCID reader, a disk (CodeMeter), or a vendor's own protocol.
TOKEN_INTERFACES: Final = frozenset({"03", "08", "0b", "ff"})

GNSS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "091e": frozenset({"0003"}),  # Garmin [ids]
        "09d7": frozenset({"0100"}),  # NovAtel [ids]
        "1163": frozenset({"0100", "0200", "2020"}),  # DeLorme Earthmate [ids]
        "1d50": frozenset({"60c7"}),  # Zubax GNSS [ids]
    }
)
# u-blox gives its receivers 01xx; its modems have 11xx (LISA-U2) and 13xx (LARA) [ids] [linux].
UBLOX: Final = "1546"
UBLOX_MODEMS: Final = ("11", "13")

MODEM_VENDORS: Final = frozenset(
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
# Modems by Qualcomm and others that makers of computers sell: qcserial.c and qmi_wwan.c of Linux. 05c6:9008 is missing:
# each telephone with that chip has these ids when its firmware is broken.
MODEMS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "03f0": frozenset({"1f1d", "201d", "241d", "251d", "371d", "4e1d", "581d", "9d1d"}),  # HP un2400 to lt4120
        "04da": frozenset({"250c", "250d"}),  # Panasonic
        "05c6": frozenset(
            {"9001", "9002", "9009", "9201", "9202", "9203", "9204", "9205", "9208", "920b", "920c", "920d", "9211"}
            | {"9212", "9214", "9215", "9221", "9222", "9224", "9225", "9231", "9234", "9235", "9244", "9245", "9264"}
            | {"9265", "9274", "9275"}
        ),
        "0b05": frozenset({"1774", "1776"}),  # ASUS
        "0f3d": frozenset({"68a2"}),  # Sierra Wireless MC7700, MC7750, here and below
        "114f": frozenset({"68a2"}),
        "1557": frozenset({"0a80"}),  # OQO
        "16d8": frozenset({"8001", "8002"}),  # CMOTECH
        "1f45": frozenset({"0001"}),
    }
)
# Dell sells modems of others under ids of its own [ids] [linux].
DELL_MODEMS: Final = (
    *("8114", "8115", "8116", "8117", "8118", "8128", "8129", "8133", "8134", "8135", "8136", "8137", "8138", "8147"),
    *(
        "8180",
        "8181",
        "8182",
        "8183",
        "8184",
        "8185",
        "8186",
        "818b",
        "818d",
        "818e",
        "819b",
        "81a",
        "81b",
        "81c",
        "81d",
    ),
)

NETWORK: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "057c": frozenset({"6201", "8401", "8402", "8403", "8501", "8502", "8503"}),  # AVM Fritz!WLAN [ids]
        "0424": frozenset({"7500", "ec00"}),  # LAN7500, SMSC9512 Ethernet [ids]
        "0b95": frozenset({"1790", "7720", "772a", "772b"}),  # ASIX Ethernet [ids]
        "0bda": frozenset(
            {"8150", "8152", "8153"}  # Realtek Ethernet [ids]
            | {"0179", "0811", "8176", "8178", "8179", "8187", "818b", "8192"}  # and Wi-Fi [ids]
            | {"8812", "8813", "a811", "b812"}
        ),
        "045e": frozenset({"07ab", "07c6", "0927", "0c5e"}),  # clones of Realtek's adapters, here and below [linux]
        "04e8": frozenset({"a101"}),
        "0955": frozenset({"09ff"}),
        "13b1": frozenset({"0041"}),
        "17ef": frozenset(
            {"304f", "3054", "3057", "3062", "3069", "3082", "3098", "7205", "720a", "720b", "720c", "7214", "721e"}
            | {"8153", "a359", "a387"}
        ),
        "0cf3": frozenset({"7015", "9170", "9271"}),  # Atheros Wi-Fi [ids]
        "0e8d": frozenset({"7610", "7612", "7662", "7961"}),  # MediaTek Wi-Fi [ids] [linux]
        "148f": frozenset({"2573", "3070", "5370", "5372", "5572", "7601"}),  # Ralink Wi-Fi [ids]
        "8086": frozenset({"0180", "0181", "0182", "0186", "0187", "0188", "1403", "1405"}),  # Intel WiMAX [linux]
        "8087": frozenset({"07d6", "07d7", "07d9"}),
        "2357": frozenset({"0101", "0103", "0105", "011e", "0601"}),  # TP-Link Archer Wi-Fi, UE300 [ids] [linux]
    }
)

SERIAL: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
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

# Readers that speak CCID, or a protocol of their own, through an interface of vendor class [ccid].
READER_VENDORS: Final = frozenset({"046a", "04e6", "072f", "076b", "08e6", "0973", "09c3", "0c4b", "0d46", "1db2"})

# Uninterruptible power supplies. They are HID without keys, or speak a serial protocol by vendor class [nut].
UPS_VENDORS: Final = frozenset(
    {
        "0463",  # Eaton, MGE
        "051d",  # APC
        "0592",  # Powerware
        "06da",  # Phoenixtec, Liebert, Ablerex
        "075d",  # iDowell
        "0764",  # CyberPower
        "09ae",  # Tripp Lite
        "0d9f",  # Powercom
        "10af",  # Liebert, Vertiv
        "1cb0",  # Legrand
        "2b2d",  # AEG
        "2e51",  # Ever
        "2e66",  # Salicru
    }
)
UPS_INTERFACES: Final = frozenset({"00", "03", "ff"})
UPS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "0001": frozenset({"0000"}),  # Fry's and other Voltronic [nut]
        "03f0": frozenset(  # HP T750 and later [nut]
            {"0001", "1f01", "1f02", "1f06", "1f08", "1f09", "1f0a"}
            | {"1fe0", "1fe1", "1fe2", "1fe3", "1fe5", "1fe6", "1fe7", "1fe8"}
        ),
        "047c": frozenset({"ffff"}),  # Dell [nut]
        "0483": frozenset({"0035", "a113"}),  # TS Shara, iDowell [nut]
        "04b3": frozenset({"0001"}),  # IBM [nut]
        "04b4": frozenset({"5500"}),  # Riello [nut]
        "04d8": frozenset({"d004", "d005"}),  # openUPS [nut]
        "050d": frozenset(  # Belkin [nut]
            {"0375", "0551", "0750", "0751", "0900", "0910", "0912", "0980", "0f51", "1100"}
        ),
        "05b8": frozenset({"0000"}),  # Agiler [nut]
        "05dd": frozenset({"041b", "a011", "a0a0"}),  # Delta [nut]
        "0665": frozenset({"5161"}),  # Cypress chip of FSP, Voltronic and others [nut]
        "0925": frozenset({"1234"}),  # Sweex and others [nut]
        "0f03": frozenset({"0001"}),  # Unitek [nut]
        "1453": frozenset({"4026"}),  # Ippon [nut]
        "14f0": frozenset({"00c0", "00c9"}),  # GE [nut]
        "ffff": frozenset({"0000"}),  # Ablerex [nut]
    }
)

# Telephones and players that serve their files by MTP through an interface of vendor class [mtp]. Some of these makers
# have network adapters as well, so the interface must be MTP's; the others have had MTP with any vendor protocol.
MTP_VENDORS: Final = frozenset(
    {
        *("041e", "0471", "0489", "04c5", "04dd", "04e8", "054c", "0502", "05c6", "066f", "06f8", "07cf", "0930"),
        *("0955", "0b05", "0e21", "0e79", "0e8d", "0f1c", "0fca", "1004", "103e", "109b", "1090", "10d9", "1237"),
        *("12d1", "13d1", "1462", "1662", "16d5", "1782", "17ef", "18d1", "1949", "19d2", "1bbb", "1bc3", "1d45"),
        *("1d4d", "1d5b", "1e53", "1ebf", "1f3a", "2080", "2116", "2207", "2237", "2257", "22d9", "2314", "2340"),
        *("2357", "239a", "23ae", "24e3", "2717", "271d", "2836", "2914", "2916", "29a9", "29e4", "2a45", "2a47"),
        *("2a49", "2a70", "2a96", "2ae5", "2b0e", "2b4c", "2c3f", "2d95", "2d99", "2e04", "2e17"),
    }
)
TELEPHONE_VENDORS: Final = frozenset({"0409", "0421", "0bb4", "0fce", "22b8"})
STORAGE_OR_ADB: Final = frozenset({("08", "06", "50"), ("ff", "42", "01")})
STILL_CAMERAS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {"04fc": frozenset({"504a", "504b"})}  # Sunplus [ids]
)

# Bluetooth adapters that hide behind the vendor class [ids] [linux].
BLUETOOTH: Final[Mapping[str, frozenset[str]]] = MappingProxyType({"0e8d": frozenset({"763f"})})
