"""The USB controllers of a host by both their names: the one that stays, and the one of this boot."""

from usb_provider.model.devices.controllers import HostController, host_controllers
from usb_provider.model.devices.device import UsbDevice


def on(controller: str, bus: int, name: str = "") -> UsbDevice:
    """A device, or the root hub, of the bus *bus* of *controller*."""
    path = f"/sys/devices/{controller}/usb{bus}{name and '/' + name}"
    attributes = {"idVendor": b"1d6b", "idProduct": b"0002", "busnum": str(bus).encode()}
    return UsbDevice.from_udev(path, {}, attributes)


BOARD, CARD = "pci0000:00/0000:00:14.0", "pci0000:00/0000:00:1c.0/0000:03:00.0"


def test_a_controller_behind_a_bridge_has_two_names_and_one_on_the_root_bus_has_one() -> None:
    devices = [on(CARD, 10), on(CARD, 9, "9-1"), on(BOARD, 1), on(CARD, 9), on(BOARD, 2)]
    board, card = host_controllers(devices)
    assert (board, card) == (
        HostController("0000:00:14.0", "0000:00:14.0", ("usb1", "usb2")),
        HostController("0000:00:1c.0/00.0", "0000:03:00.0", ("usb9", "usb10")),
    )
    assert (str(board), str(card)) == ("0000:00:14.0", "0000:00:1c.0/00.0 (now 0000:03:00.0)")


def test_a_controller_that_the_kernel_counts_has_two_names() -> None:
    (counted,) = host_controllers([on("platform/soc@0/a800000.usb/xhci-hcd.0.auto", 1)])
    assert str(counted) == "a800000.usb (now xhci-hcd.0.auto)"


def test_a_device_without_a_bus_has_no_controller() -> None:
    assert host_controllers([UsbDevice("/sys/devices/1-1", "1-1", "1050", "0407")]) == ()
