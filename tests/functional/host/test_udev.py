"""What is read of each device by the real libudev, on a replayed host: run it with ``umockdev-wrapper pytest``."""

import os
import re
import threading
import time

import pytest

from tests.fixtures.hostile import HOSTILE
from tests.fixtures.testbed import needs_umockdev, testbed
from tests.functional.host.looking import KEYBOARD, STICK, devices, kinds
from usb_provider.demo import recording
from usb_provider.demo.description import usb_device
from usb_provider.demo.recording import Recording
from usb_provider.demo.testbed import Testbed
from usb_provider.host.udev import UdevHost
from usb_provider.model.devices.device import Speed, UsbDevice, UseKind

__all__ = ["testbed"]

pytestmark = needs_umockdev


# What is read


def test_a_device_is_read_with_all_its_facts(testbed: Testbed) -> None:
    path = testbed.add(
        usb_device(
            "1050",
            "0407",
            serial="0001234",
            manufacturer="Yubico",
            product="YubiKey OTP+FIDO+CCID",
            bus=3,
            port="2.4",
            devnum=7,
            speed="12",
            interfaces=(("03", "01", "01"), ("0b", "00", "00")),
            controller="0000:03:00.0",
        )
    )
    assert devices()["3-2.4"] == UsbDevice(
        sys_path=path,
        sys_name="3-2.4",
        vendor_id="1050",
        product_id="0407",
        busnum=3,
        devnum=7,
        serial="0001234",
        manufacturer="Yubico",
        product="YubiKey OTP+FIDO+CCID",
        device_class="00",
        interfaces=(("03", "01", "01"), ("0b", "00", "00")),
        drivers=("usbhid",),
        speed=Speed.FULL,
        port_path="2.4",
        controller="0000:03:00.0",
        controller_address="0000:03:00.0",
        plug_number=os.stat(path).st_ino,
    )


def test_hubs_on_the_way_and_root_hubs_are_read_too_and_known_as_such(testbed: Testbed) -> None:
    testbed.add(usb_device(port="2.4.1"))
    found = devices()
    assert {name: device.is_hub for name, device in found.items()} == {
        "usb1": True,
        "1-2": True,
        "1-2.4": True,
        "1-2.4.1": False,
    }
    assert [device.sys_name for device in found.values() if device.is_root_hub] == ["usb1"]


def test_no_device_at_all_is_no_error(testbed: Testbed) -> None:
    assert UdevHost().devices() == ()


def test_busnum_and_devnum_are_decimal_though_udev_writes_zeros_before_them(testbed: Testbed) -> None:
    numbers = {"1": 8, "2": 9, "3": 10, "4": 100}
    for port, number in numbers.items():
        testbed.add(usb_device(bus=12, port=port, devnum=number))
    assert {name: (device.busnum, device.devnum) for name, device in devices().items() if not device.is_hub} == {
        f"12-{port}": (12, number) for port, number in numbers.items()
    }


@pytest.mark.parametrize(("kind", "slowest"), [("02", Speed.FULL), ("01", Speed.HIGH)])
def test_the_endpoints_of_a_high_speed_device_tell_whether_a_slower_controller_takes_it(
    testbed: Testbed, kind: str, slowest: Speed
) -> None:
    interface = "09040000010806" + "5000" + f"070581{kind}000200"
    descriptors = "12010002000000404f06f92a000101020301" + "09021900010100" + "8032" + interface
    text = usb_device(port="1", speed="480")
    testbed.add(re.sub(r"^(P: .*/1-1\n)", rf"\1H: descriptors={descriptors}\n", text, flags=re.MULTILINE))
    assert (devices()["1-1"].speed, devices()["1-1"].slowest) == (Speed.HIGH, slowest)


def test_numbers_come_from_udev_where_sysfs_has_none(testbed: Testbed) -> None:
    text = usb_device(bus=1, port="1", devnum=10)
    testbed.add(re.sub(r"A: (busnum|devnum)=.*\n", "", text))
    device = devices()["1-1"]
    assert (device.busnum, device.devnum) == (1, 10)


@pytest.mark.parametrize("left_out", ["E: ID_USB_INTERFACES=.*\n", "interface directories", "nothing"])
def test_interface_classes_come_from_the_interfaces_and_from_udev_whichever_there_is(
    testbed: Testbed, left_out: str
) -> None:
    text = usb_device(interfaces=(("03", "01", "01"), ("0b", "00", "00")), device_class="ef")
    directories = left_out == "interface directories"
    testbed.add(text.partition("\n\n")[0] + "\n\n" if directories else re.sub(left_out, "", text))
    device = devices()["1-1"]
    assert device.interfaces == (("03", "01", "01"), ("0b", "00", "00"))
    assert device.classes == ("03", "0b", "ef")


def test_interfaces_of_devices_behind_a_hub_are_not_the_hubs(testbed: Testbed) -> None:
    testbed.add(usb_device(port="1.1", interfaces=(("0b", "00", "00"),)))
    assert devices()["1-1"].classes == ("09",)


def test_speeds_are_named(testbed: Testbed) -> None:
    named = {"1.5": "low", "12": "full", "480": "high", "5000": "super", "10000": "super-plus", "20000": "super-plus"}
    named |= {"unknown": "unknown", "": "unknown", "-1": "unknown"}
    for port, speed in enumerate(named, start=1):
        testbed.add(usb_device(port=str(port), speed=speed))
    found = devices()
    assert {speed: found[f"1-{port}"].speed.value for port, speed in enumerate(named, start=1)} == named


def test_a_controller_that_is_not_on_pci_is_named_by_its_directory(testbed: Testbed) -> None:
    text = usb_device().replace("/devices/pci0000:00/0000:00:14.0/", "/devices/platform/fe980000.usb/")
    testbed.add(text)
    assert devices()["1-1"].controller == "fe980000.usb"


def test_what_a_device_does_not_say_is_none(testbed: Testbed) -> None:
    testbed.add(usb_device())
    device = devices()["1-1"]
    assert (device.serial, device.manufacturer, device.product) == (None, None, None)


def test_sysfs_is_believed_before_what_udev_kept_of_an_earlier_device(testbed: Testbed) -> None:
    text = usb_device("1050", "0407", serial="1")
    testbed.add(text.replace("E: ID_VENDOR_ID=1050", "E: ID_VENDOR_ID=0529"))
    assert devices()["1-1"].usb_id == "1050:0407"


def test_a_device_that_the_host_does_not_authorise_is_told_apart(testbed: Testbed) -> None:
    testbed.add(usb_device().replace("A: authorized=1", "A: authorized=0"))
    assert not devices()["1-1"].authorized


def test_the_busy_host_is_read_whole_and_what_the_host_uses_is_found() -> None:
    with Testbed.create() as testbed:
        recorded = Recording.read(recording.bundled())
        testbed.load(recorded)
        found = devices()
        assert sorted(found) == sorted(device.sys_name for device in recorded.devices.values())
        assert {name: device.uses[0].what for name, device in found.items() if device.uses} == {
            "1-2": "it is a keyboard of the console",
            "2-2": "sda1 is mounted on /mnt/backup",
            "2-3": "sdb1 is held by dm-0",
            "2-4": "network interface enx00249b7a5c92 carries the default route",
        }
        assert all(device.settled and device.authorized for device in found.values())


# Devices that mean harm, or are about to go


def test_hostile_strings_are_read_and_no_label_of_them_moves_a_terminal(testbed: Testbed) -> None:
    texts = [text.encode("utf-8", "surrogatepass") for text in HOSTILE] + [b"\xff\xfe\x00\x01", b"\xc3", b"=\n="]
    for number, text in enumerate(texts, start=1):
        path = testbed.add(usb_device(port=f"1.{number}", devnum=number + 1, serial="", manufacturer="", product=""))
        for name in ("serial", "manufacturer", "product"):
            (testbed.directory / path.lstrip("/") / name).write_bytes(text + b"\n")
    found = {name: device for name, device in devices().items() if not device.is_hub}
    assert len(found) == len(texts)
    assert all(device.label.isprintable() for device in found.values())
    assert all(device.serial is None or device.serial.strip() for device in found.values())


def test_ids_and_classes_that_are_none_are_left_out(testbed: Testbed) -> None:
    testbed.add(usb_device(port="1"))
    broken = usb_device(port="2").replace("=1d6b", "=zzzz").replace("E: PRODUCT=1d6b", "E: PRODUCT=zz")
    testbed.add(broken)
    text = usb_device(port="3", interfaces=(("03", "00", "00"),))
    testbed.add(text.replace("A: bInterfaceClass=03", "A: bInterfaceClass=%s").replace(":030000:", ":0300:zz0000::"))
    found = devices()
    assert "1-2" not in found
    assert found["1-3"].interfaces == ()
    assert "1-1" in found


def test_a_name_that_the_kernel_cut_inside_a_character_hides_no_device(testbed: Testbed) -> None:
    # The HID layer cuts manufacturer and product at 128 bytes and puts them into its own and the input uevent.
    testbed.add(usb_device(port="1"))
    path = testbed.add(usb_device("046d", "c31c", port="2", interfaces=KEYBOARD, keyboard=True))
    for uevent in (testbed.directory / path.lstrip("/")).rglob("uevent"):
        if "input" in uevent.parts or "0003:" in uevent.parent.name:
            uevent.write_bytes(uevent.read_bytes() + b'NAME="Caf\xc3"\n')
    assert kinds("1-2") == [UseKind.CONSOLE_KEYBOARD]
    assert "1-1" in devices()


def test_a_device_that_is_gone_but_for_its_directory_is_left_out(testbed: Testbed) -> None:
    testbed.add(usb_device(port="1"))
    path = testbed.add(usb_device(port="2"))
    directory = testbed.directory / path.lstrip("/")
    for name in ("idVendor", "idProduct"):
        (directory / name).unlink()
    (directory / "uevent").write_text("DEVTYPE=usb_device\n")
    assert "1-2" not in devices()
    assert "1-1" in devices()


def test_devices_that_come_and_go_while_others_are_read_do_no_harm(testbed: Testbed) -> None:
    stays = testbed.add(usb_device(port="1"))
    comes = usb_device(port="2.1", interfaces=STICK, block="sdx1", serial="X")
    testbed.add(comes)
    over = threading.Event()

    def hands() -> None:
        while not over.is_set():
            testbed.unplug("1-2.1")
            testbed.add(comes)

    thread = threading.Thread(target=hands)
    thread.start()
    host = UdevHost()
    try:
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            found = {device.sys_path: device for device in host.devices()}
            assert stays in found
    finally:
        over.set()
        thread.join()
    assert "1-2.1" in devices()
