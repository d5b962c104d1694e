"""Which resource class a device is suggested for."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placement_traits import (
    INTERFACES,
    RESOURCE_CLASSES,
    Triplet,
    check_custom,
    is_security_token,
    suggest,
)

FIDO = HID = ("03", "00", "00")
KEYBOARD = ("03", "01", "01")
MOUSE = ("03", "01", "02")
CCID = ("0b", "00", "00")
ACM = ("02", "02", "01")
ECM = ("02", "06", "00")
NCM = ("02", "0d", "00")
MBIM = ("02", "0e", "00")
CDC_DATA = ("0a", "00", "00")
VENDOR = ("ff", "ff", "ff")
ADB = ("ff", "42", "01")
STICK = ("08", "06", "50")
UAS = ("08", "06", "62")
BLUETOOTH = ("e0", "01", "01")
RNDIS = ("e0", "01", "03")
CAMERA = [("0e", "01", "00"), ("0e", "02", "00")]
SOUND = [("01", "01", "00"), ("01", "02", "00")]
PTP = ("06", "01", "01")
PRINTER = ("07", "01", "02")

codes = st.text("0123456789abcdef", min_size=2, max_size=2)
ids = st.one_of(
    st.text("0123456789abcdef", min_size=4, max_size=4),
    st.sampled_from(["1050", "096e", "1546", "12d1", "2c7c", "0403", "0bda", "1209", "0407", "6001"]),
)
known_codes = st.sampled_from(sorted({code for triplet in INTERFACES for code in triplet if code}))
triplets = st.tuples(*[st.one_of(codes, known_codes)] * 3)


@pytest.mark.parametrize(
    ("device", "vendor", "product", "interfaces", "short"),
    [
        ("a YubiKey with everything on", "1050", "0407", [KEYBOARD, FIDO, CCID], "KEY"),
        ("a YubiKey with only its card on", "1050", "0404", [CCID], "KEY"),
        ("a Google Titan", "18d1", "5026", [FIDO], "KEY"),
        ("a Nitrokey FIDO2", "20a0", "42b1", [FIDO], "KEY"),
        ("a Nitrokey HSM", "20a0", "4230", [CCID], "KEY"),
        ("a Solo 2", "1209", "beee", [FIDO, CCID], "KEY"),
        ("an OnlyKey", "1d50", "60fc", [KEYBOARD, HID], "KEY"),
        ("a Token2 key", "349e", "0022", [FIDO, KEYBOARD], "KEY"),
        ("a Feitian ePass2003", "096e", "0807", [CCID], "KEY"),
        ("a HASP dongle", "0529", "0001", [VENDOR], "KEY"),
        ("a CodeMeter stick that shows a disk", "064f", "03e9", [STICK], "KEY"),
        ("a Sentinel dongle", "04b9", "8000", [VENDOR], "KEY"),
        ("an ids-only YubiKey", "1050", "0407", [], "KEY"),
        ("a Feitian card reader", "096e", "0503", [CCID], "SMART_CARD"),
        ("a card reader of another vendor", "04e6", "5116", [CCID], "SMART_CARD"),
        ("a Gemalto card reader", "08e6", "3437", [CCID], "SMART_CARD"),
        ("a keyboard with a card slot", "03f0", "1024", [KEYBOARD, CCID], "SMART_CARD"),
        ("a u-blox 8 receiver", "1546", "01a8", [ACM, CDC_DATA], "GNSS"),
        ("a u-blox 9 receiver", "1546", "01a9", [ACM, CDC_DATA], "GNSS"),
        ("a u-blox LISA modem", "1546", "1102", [ACM, CDC_DATA], "MODEM"),
        ("a Garmin GPS", "091e", "0003", [VENDOR], "GNSS"),
        ("a Quectel EC25", "2c7c", "0125", [VENDOR, VENDOR], "MODEM"),
        ("a Quectel in ECM mode", "2c7c", "0125", [VENDOR, ECM, CDC_DATA], "MODEM"),
        ("a Sierra in MBIM mode", "1199", "9071", [MBIM, CDC_DATA], "MODEM"),
        ("an MBIM modem of an unknown vendor", "abcd", "0001", [MBIM, CDC_DATA, STICK], "MODEM"),
        ("a Huawei stick in network mode", "12d1", "14db", [ECM, CDC_DATA], "MODEM"),
        ("a Huawei stick in storage mode", "12d1", "1f01", [STICK], "STORAGE"),
        ("a Huawei telephone", "12d1", "107e", [PTP, ADB], "IMAGE"),
        ("an FTDI adapter", "0403", "6001", [VENDOR], "SERIAL"),
        ("a CP2102 adapter", "10c4", "ea60", [("ff", "00", "00")], "SERIAL"),
        ("a CP2110 adapter, which is HID", "10c4", "ea80", [HID], "SERIAL"),
        ("a CH340 adapter", "1a86", "7523", [("ff", "01", "02")], "SERIAL"),
        ("a PL2303 adapter", "067b", "2303", [("ff", "00", "00")], "SERIAL"),
        ("an Arduino", "2341", "0043", [ACM, CDC_DATA], "SERIAL"),
        ("a board with a serial port and a disk", "0d28", "0204", [STICK, ACM, HID], "SERIAL"),
        ("a network adapter with a serial port", "abcd", "0001", [ACM, ECM, CDC_DATA], "NETWORK"),
        ("an NCM adapter", "abcd", "0001", [NCM, CDC_DATA], "NETWORK"),
        ("an RNDIS gadget", "0525", "a4a2", [RNDIS, CDC_DATA], "NETWORK"),
        ("a Realtek Ethernet adapter", "0bda", "8153", [VENDOR], "NETWORK"),
        ("a Realtek Wi-Fi adapter", "0bda", "8812", [VENDOR], "NETWORK"),
        ("a Bluetooth dongle", "0a12", "0001", [BLUETOOTH, BLUETOOTH], "BLUETOOTH"),
        ("a webcam with a microphone", "046d", "0825", [*CAMERA, *SOUND], "CAMERA"),
        ("a machine vision camera", "2676", "ba02", [("ef", "05", "00")], "CAMERA"),
        ("a headset with buttons", "046d", "0a29", [*SOUND, HID], "AUDIO"),
        ("a printer with a card slot", "03f0", "1111", [PRINTER, STICK, VENDOR], "PRINTER"),
        ("a stick", "46f4", "0001", [STICK], "STORAGE"),
        ("a UAS disk", "152d", "0578", [STICK, UAS], "STORAGE"),
        ("a camera in PTP mode", "04a9", "3218", [PTP], "IMAGE"),
        ("an oscilloscope", "1ab1", "0588", [("fe", "03", "01")], "TMC"),
        ("a mouse", "046d", "c077", [MOUSE], "HID"),
        ("a FIDO key that no list has", "abcd", "f1d0", [FIDO], "HID"),
        ("a vendor's own thing", "abcd", "0001", [VENDOR], "DEVICE"),
        ("a hub", "1d6b", "0002", [("09", "00", "00")], "DEVICE"),
        ("a Yubico hub, if there were one", "1050", "0407", [("09", "00", "00")], "DEVICE"),
        ("a device with no interface", "abcd", "0001", [], "DEVICE"),
        ("a class that nobody defined", "abcd", "0001", [("58", "42", "01")], "DEVICE"),
    ],
)
def test_it_suggests_for(device: str, vendor: str, product: str, interfaces: list[Triplet], short: str) -> None:
    assert suggest(vendor, product, "00", interfaces) == f"CUSTOM_USB_{short}", device


def test_ids_in_upper_case_are_the_same_ids() -> None:
    assert suggest("096E", "0807", "00", [("0B", "00", "00")]) == "CUSTOM_USB_KEY"
    assert suggest("10C4", "EA60", "FF", [("FF", "00", "00")]) == "CUSTOM_USB_SERIAL"


def test_the_device_class_is_asked_only_when_no_interface_is_known() -> None:
    assert suggest("abcd", "0001", "08", []) == "CUSTOM_USB_STORAGE"
    assert suggest("abcd", "0001", "08", [MOUSE]) == "CUSTOM_USB_HID"
    assert suggest("abcd", "0001", "02", []) == "CUSTOM_USB_DEVICE"


@pytest.mark.parametrize("interfaces", [[], [HID], [VENDOR]])
def test_a_hub_by_device_class_is_never_suggested_as_anything(interfaces: list[Triplet]) -> None:
    assert suggest("1050", "0407", "09", interfaces) == "CUSTOM_USB_DEVICE"


def test_a_token_vendor_that_sells_a_webcam_sold_no_token() -> None:
    assert not is_security_token("1050", "9999", CAMERA)
    assert suggest("1050", "9999", "ef", CAMERA) == "CUSTOM_USB_CAMERA"


def test_a_neighbour_of_a_token_on_a_shared_vendor_id_is_no_token() -> None:
    assert is_security_token("1209", "5070", [FIDO])
    assert not is_security_token("1209", "5071", [FIDO])
    assert not is_security_token("20a0", "0006", [FIDO])


def test_a_token_in_its_boot_loader_is_no_token_yet() -> None:
    assert not is_security_token("20a0", "42dd", [VENDOR])


@given(ids, ids, codes, st.lists(triplets, max_size=8), st.randoms(use_true_random=False))
def test_the_order_of_interfaces_does_not_matter(
    vendor: str, product: str, device_class: str, interfaces: list[Triplet], random: object
) -> None:
    first = suggest(vendor, product, device_class, interfaces)
    shuffled = sorted(interfaces, reverse=True)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert suggest(vendor, product, device_class, shuffled) == first
    assert suggest(vendor, product, device_class, set(interfaces)) == first
    assert suggest(vendor, product, device_class, interfaces * 2) == first


@given(ids, ids, codes, st.lists(triplets, max_size=8))
def test_there_is_always_a_suggestion_and_it_is_one_of_ours(
    vendor: str, product: str, device_class: str, interfaces: list[Triplet]
) -> None:
    name = suggest(vendor, product, device_class, interfaces)
    assert name in RESOURCE_CLASSES
    assert check_custom(name) == name


@given(st.text(), st.text(), st.text(), st.lists(st.tuples(st.text(), st.text(), st.text())))
def test_even_nonsense_gets_an_answer(vendor: str, product: str, device_class: str, interfaces: list[Triplet]) -> None:
    assert suggest(vendor, product, device_class, interfaces) in RESOURCE_CLASSES


REAL = json.loads((Path(__file__).parents[2] / "fixtures" / "real_devices.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("device", REAL, ids=[f"{each['id']} {each['name']}" for each in REAL])
def test_a_real_device_is_called_what_a_person_calls_it(device: dict[str, Any]) -> None:
    vendor, _, product = device["id"].partition(":")
    interfaces = [(each[0:2], each[3:5], each[6:8]) for each in device["interfaces"]]
    label = f"CUSTOM_USB_{device['label']}"
    assert suggest(vendor, product, device["class"], interfaces) == label, device.get("why", device["name"])


@pytest.mark.parametrize("ids", ["051d:0003", "0764:0501", "0463:ffff", "09ae:2012", "0665:5161", "2e66:0302"])
def test_a_power_supply_has_a_class_of_its_own(ids: str) -> None:
    assert suggest(ids[:4], ids[5:], "00", [HID]) == "CUSTOM_USB_UPS"


@pytest.mark.parametrize(
    ("device", "ids", "interfaces", "short"),
    [
        ("a plain reader of a maker of tokens", "096e:0622", [CCID], "SMART_CARD"),
        ("a Wi-Fi adapter with Bluetooth", "0e8d:7961", [BLUETOOTH, VENDOR], "NETWORK"),
        ("a modem that Dell sells", "413c:818e", [ACM, MBIM, CDC_DATA], "MODEM"),
        (
            "Bluetooth of vendor class that no list has",
            "abcd:0001",
            [("ff", "01", "01"), ("fe", "01", "01")],
            "BLUETOOTH",
        ),
        ("a telephone of a maker that no list has", "abcd:0001", [("ff", "ff", "00"), ADB], "IMAGE"),
        ("a modem that shows the debug bridge", "2c7c:0125", [VENDOR, ADB], "MODEM"),
        ("a memory card reader of vendor class", "abcd:0001", [("ff", "06", "50")], "STORAGE"),
        ("a Wi-Fi adapter of a maker of telephones", "0b05:17d1", [VENDOR], "DEVICE"),
    ],
)
def test_what_triplets_tell_needs_no_list(device: str, ids: str, interfaces: list[Triplet], short: str) -> None:
    assert suggest(ids[:4], ids[5:], "00", interfaces) == f"CUSTOM_USB_{short}", device
