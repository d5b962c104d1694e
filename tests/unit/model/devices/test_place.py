"""Where a device is plugged in: the same after a new card, another boot, or a cable that runs at another speed."""

import pytest
from hypothesis import given

from tests.fixtures.builders import a_device
from tests.fixtures.hostile import any_text
from usb_provider.model.devices.device import Speed
from usb_provider.model.devices.place import Place, controller, controller_address, peer_port

PCI = "/sys/devices/pci0000:00"


@pytest.mark.parametrize(
    ("path", "place", "address"),
    [
        (f"{PCI}/0000:00:14.0/usb1/1-2/1-2.4", "0000:00:14.0", "0000:00:14.0"),
        ("/sys/devices/pci0000:80/0000:80:14.0/usb7/7-1", "0000:80:14.0", "0000:80:14.0"),
        (f"{PCI}/0000:00:1c.4/0000:03:00.0/usb3/3-1", "0000:00:1c.4/00.0", "0000:03:00.0"),
        (
            f"{PCI}/0000:00:01.0/0000:01:00.0/0000:02:08.0/0000:05:00.1/usb3",
            "0000:00:01.0/00.0/08.0/00.1",
            "0000:05:00.1",
        ),
        (
            f"{PCI}/0000:00:0e.0/pci10000:e0/10000:e0:06.0/10000:e1:00.0/usb9/9-1",
            "0000:00:0e.0/06.0/00.0",
            "10000:e1:00.0",
        ),
        (f"{PCI}/0000:00:0d.1/dwc3.2.auto/xhci-hcd.3.auto/usb1/1-1", "0000:00:0d.1", "xhci-hcd.3.auto"),
        (
            "/sys/devices/platform/soc@0/a8f8800.usb/a800000.usb/xhci-hcd.0.auto/usb1/1-1",
            "a800000.usb",
            "xhci-hcd.0.auto",
        ),
        ("/sys/devices/platform/soc/2184000.usb/ci_hdrc.0/usb1/1-1", "2184000.usb", "ci_hdrc.0"),
        (
            "/sys/devices/platform/scb/fd500000.pcie/pci0000:00/0000:00:00.0/0000:01:00.0/usb1",
            "0000:00:00.0/00.0",
            "0000:01:00.0",
        ),
        ("/sys/devices/platform/soc/fe980000.usb/usb1/1-1", "fe980000.usb", "fe980000.usb"),
        ("/sys/devices/platform/PNP0D10:00/usb1/1-1", "PNP0D10:00", "PNP0D10:00"),
        ("/sys/devices/platform/vhci_hcd.0/usb5/5-1", "vhci_hcd.0", "vhci_hcd.0"),
        ("/sys/bus/usb/devices/1-2", None, None),
        ("/usb1/1-2", None, None),
        ("usb1/1-2", None, None),
    ],
)
def test_a_controller_is_known_by_its_place_and_not_by_what_a_boot_calls_it(
    path: str, place: str | None, address: str | None
) -> None:
    assert controller(path) == place
    assert controller_address(path) == address


@pytest.mark.parametrize("bridge", ["1c.0", "1c.4"])
def test_a_new_card_that_shifts_the_bus_numbers_changes_no_controller(bridge: str) -> None:
    before, after = (f"{PCI}/0000:00:{bridge}/0000:{bus}:00.0/usb3/3-1" for bus in ("03", "04"))
    assert controller(before) == controller(after) == f"0000:00:{bridge}/00.0"


@given(any_text)
def test_any_path_has_a_controller_or_none(path: str) -> None:
    assert controller(path) is None or controller(path)
    assert peer_port(path) is None or peer_port(path)


@pytest.mark.parametrize(
    ("port", "path"),
    [
        ("../../../usb1/1-0:1.0/usb1-port6", "6"),
        ("../../../../usb1/1-6/1-6:1.0/1-6-port1", "6.1"),
        ("/sys/devices/pci0000:00/0000:00:14.0/usb1/1-6/1-6.2/1-6.2:1.0/1-6.2-port3", "6.2.3"),
        ("../../../usb1/1-6", None),
        ("", None),
    ],
)
def test_the_other_half_of_a_socket_is_a_port(port: str, path: str | None) -> None:
    assert peer_port(port) == path


def test_one_socket_is_one_place_at_either_speed() -> None:
    fast = a_device("2-2", speed=Speed.SUPER, peer_port="6")
    slow = a_device("1-6", speed=Speed.HIGH)
    assert fast.place == slow.place == Place("0000:00:14.0", "6")
    assert str(fast.place) == "0000:00:14.0-6"


def test_two_ports_of_one_number_are_two_places_where_sysfs_does_not_say_which_belong_together() -> None:
    fast, slow = a_device("2-2", speed=Speed.SUPER), a_device("1-2", speed=Speed.HIGH)
    assert fast.place != slow.place
    assert str(fast.place) == "0000:00:14.0-2+usb3"
