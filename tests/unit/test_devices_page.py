"""The rules that docs/devices.md and the examples propose are valid, and real devices get what the page says."""

import json
import re
from pathlib import Path

import pytest

from tests.fixtures.builders import a_device
from usb_provider.model.devices.device import HostUse, Triplet, UsbDevice, UseKind
from usb_provider.model.devices.identity import Identity, assign
from usb_provider.model.devices.offer import OfferReason, offers
from usb_provider.model.devices.plugged import Demand
from usb_provider.model.devices.spec import DeviceSpec, parse_specs
from usb_provider.model.reporting.provider import resource_class

ROOT = Path(__file__).parents[2]
RULE = re.compile(r"^device_spec = (.*)$", re.MULTILINE)
SECTIONS = dict(re.findall(r"^## (.*)\n((?:(?!## ).*\n)*)", (ROOT / "docs/devices.md").read_text(), re.MULTILINE))
EXAMPLES = RULE.findall((ROOT / "conf/examples/device_spec.conf").read_text())
REAL = json.loads((ROOT / "tests/fixtures/real_devices.json").read_text())

# For each rule of a section, a device that it is for: ids, interfaces, serial number.
DEVICES: dict[str, list[tuple[str, str, str | None]]] = {
    "HASP or Sentinel dongle": [("0529:0001", "ff/00/00", None)],
    "CodeMeter stick": [("064f:2af9", "03/00/00", "3-4871246")],
    "YubiKey or YubiHSM": [
        ("1050:0030", "ff/00/00", "0007550054"),
        ("1050:0407", "03/01/01 03/00/00 0b/00/00", None),
    ],
    "GNSS receiver": [("1546:01a8", "02/02/01 0a/00/00", None)],
    "Coral accelerator": [("1a6e:089a", "fe/01/02", None)],
    "Software defined radio": [("0bda:2838", "ff/ff/ff", "00000001"), ("2500:0020", "ff/ff/ff", "3000001")],
    "Cellular modem": [("2c7c:0125", "ff/ff/ff ff/00/00", None), ("12d1:14dc", "02/06/00 08/06/50", None)],
    "Zigbee or Z-Wave stick": [("1cf1:0030", "02/02/01 0a/00/00", "DE2467569"), ("10c4:ea60", "ff/00/00", "0001")],
    "Smart card reader": [("076b:3031", "0b/00/00", None)],
    "Scanner": [("05e0:1200", "03/01/01", "S1")],
    "UPS": [("0764:0501", "03/00/00", None)],
    "Disk or stick": [("0951:1656", "08/06/50", "E0D55EA5")],
    "Camera": [("046d:0825", "0e/01/00 0e/02/00 01/01/00", None)],
    "Serial adapter": [("0403:6001", "ff/ff/ff", "A50285BI")],
    "Telephone": [("18d1:4ee2", "06/01/01 ff/42/01", "8A1X0")],
    "FPGA board or JTAG cable": [("09fb:6810", "ff/ff/ff", None)],
    "Printer": [("04f9:0049", "07/01/02", "K8J612345")],
    "Bluetooth adapter": [("0a12:0001", "e0/01/01", None)],
    "Network adapter": [("0bda:8153", "ff/ff/00 02/06/00 0a/00/00", "001000001")],
    "Sound card": [("0d8c:0014", "01/01/00 01/02/00 03/00/00", None)],
}
KINDS = [(name, number) for name, devices in DEVICES.items() for number in range(len(devices))]
TYPES = {"05e0:1200": (HostUse(UseKind.CONSOLE_KEYBOARD, "it is a keyboard of the console"),)}


def specs_of(section: str) -> tuple[DeviceSpec, ...]:
    return parse_specs(RULE.findall(SECTIONS[section]))


def class_in_flavor(section: str) -> str:
    found = re.findall(r"resources(?:_USB1)?:(CUSTOM_USB_\w+)=1", SECTIONS[section])
    assert len(set(found)) == 1, found
    return str(found[0])


def where(spec: DeviceSpec, usb_id: str, interfaces: list[Triplet], serial: str | None = None) -> UsbDevice:
    """A device in the port that *spec* is about, and at the controller."""
    vendor, product = usb_id.split(":")
    port = (spec.port or "3").replace("*", "1")
    facts = {"vendor_id": vendor, "product_id": product, "interfaces": tuple(interfaces), "serial": serial}
    return a_device(f"1-{port}", **facts, settled=True, uses=TYPES.get(usb_id, ()))


def triplets(text: str) -> list[Triplet]:
    return [(one, two, three) for one, two, three in (each.split("/") for each in text.split())]


def identity_of(device: UsbDevice, spec: DeviceSpec) -> Identity:
    return assign([device], demands={device.sys_name: Demand(spec.identity, spec.usb_ids)})[device.sys_name]


def test_the_page_has_twenty_kinds_and_each_says_how_it_is_known_asked_for_and_what_goes_wrong() -> None:
    assert list(SECTIONS) == list(DEVICES)
    assert len(SECTIONS) == 20
    for text in SECTIONS.values():
        assert all(f"* **{word}**: " in text for word in ("Identity", "Flavor", "Pitfalls"))


@pytest.mark.parametrize(("section", "number"), KINDS)
def test_a_rule_of_the_page_offers_the_device_that_it_is_for_in_the_class_that_the_flavor_asks_for(
    section: str, number: int
) -> None:
    specs = specs_of(section)
    assert len(specs) == len(DEVICES[section])
    usb_id, interfaces, serial = DEVICES[section][number]
    spec = specs[number]
    (made,) = offers([where(spec, usb_id, triplets(interfaces), serial)], specs)
    assert (made.verdict, made.spec) == (OfferReason.OFFERED, spec), made.reason
    assert resource_class(made.device, spec) == class_in_flavor(section)
    assert identity_of(made.device, spec).problem is None


@pytest.mark.parametrize("section", DEVICES)
def test_each_real_device_that_a_rule_of_the_page_takes_gets_the_class_that_the_flavor_asks_for(section: str) -> None:
    for spec in specs_of(section):
        for each in REAL:
            device = where(spec, each["id"], triplets(" ".join(each["interfaces"])))
            if spec.matches(device):
                assert resource_class(device, spec) == class_in_flavor(section), each


@pytest.mark.parametrize("section", DEVICES)
def test_a_rule_that_names_the_ids_of_a_real_device_takes_it(section: str) -> None:
    for spec in specs_of(section):
        for each in REAL:
            if each["id"] in spec.usb_ids:
                assert spec.matches(where(spec, each["id"], triplets(" ".join(each["interfaces"])))), each


@pytest.mark.parametrize("section", DEVICES)
def test_a_device_with_other_ids_in_other_modes_has_one_class_and_one_key_in_all_of_them(section: str) -> None:
    for spec in specs_of(section):
        modes = [where(spec, usb_id, [("ff", "00", "00")], "A1") for usb_id in spec.usb_ids[1:] and spec.usb_ids]
        assert all(spec.matches(each) for each in modes)
        assert len({resource_class(each, spec) for each in modes}) <= 1
        assert len({identity_of(each, spec).key for each in modes}) <= 1


@pytest.mark.parametrize(
    "text", [*EXAMPLES, *(rule for section in SECTIONS.values() for rule in RULE.findall(section))]
)
def test_a_proposed_rule_names_the_maker_or_one_place_of_one_host(text: str) -> None:
    """Another rule would offer what a person plugs in for the host; texts do not count, since a device chooses them."""
    (spec,) = parse_specs([text])
    assert spec.exclude or spec.vendor_id is not None or (spec.port is not None and spec.controller is not None)


@pytest.mark.parametrize(
    ("section", "number", "kind"),
    [
        ("HASP or Sentinel dongle", 0, "port"),
        ("CodeMeter stick", 0, "serial"),
        ("YubiKey or YubiHSM", 0, "serial"),
        ("YubiKey or YubiHSM", 1, "port"),
        ("Software defined radio", 0, "port"),
        ("Software defined radio", 1, "port"),
        ("Zigbee or Z-Wave stick", 0, "serial"),
        ("Zigbee or Z-Wave stick", 1, "port"),
        ("Serial adapter", 0, "port"),
        ("Telephone", 0, "serial"),
        ("Network adapter", 0, "port"),
    ],
)
def test_a_device_of_the_page_is_told_apart_as_the_page_says(section: str, number: int, kind: str) -> None:
    usb_id, interfaces, serial = DEVICES[section][number]
    spec = specs_of(section)[number]
    assert identity_of(where(spec, usb_id, triplets(interfaces), serial), spec).kind.value == kind


def test_the_examples_take_no_token_of_another_kind_for_a_licence_dongle() -> None:
    specs = parse_specs(EXAMPLES)
    (etoken,) = [each for each in REAL if each["id"] == "0529:0602"]
    (made,) = offers([where(specs[0], etoken["id"], [("0b", "00", "00")])], specs)
    assert made.spec is None or "CUSTOM_LICENCE_HASP" not in made.spec.traits
