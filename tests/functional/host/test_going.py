"""A device that goes away, or is another one, while it is read: what is found of it is whole, or nothing."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import pyudev

from tests.fixtures.testbed import needs_umockdev, testbed
from tests.functional.host.looking import devices
from usb_provider.demo.description import usb_device
from usb_provider.demo.testbed import Testbed
from usb_provider.host import udev
from usb_provider.host.udev import UdevHost
from usb_provider.model.devices.device import UsbDevice

__all__ = ["testbed"]

pytestmark = needs_umockdev

KEY = usb_device("1050", "0407", serial="A1", manufacturer="Yubico", product="YubiKey")
# In the kernel's order (usb_device_groups in drivers/usb/core/sysfs.c), as far as they are read.
AS_THEY_GO = (
    "bConfigurationValue",
    "idVendor",
    "idProduct",
    "bDeviceClass",
    "speed",
    "busnum",
    "devnum",
    "authorized",
    "manufacturer",
    "product",
    "serial",
)


@pytest.fixture
def amidst(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], None]:
    """Have something happen once before the attribute with that number is read of the device in port 1-1."""

    def arrange(number: int, happens: Callable[[], None]) -> None:
        read, left = udev._attribute, [*range(number), None]

        def attribute(entry: pyudev.Device, name: str) -> bytes | None:
            if entry.sys_name == "1-1" and left and left.pop() is None:
                left.clear()
                happens()
            return read(entry, name)

        left.reverse()
        monkeypatch.setattr(udev, "_attribute", attribute)

    return arrange


def remove(directory: Path, names: Sequence[str]) -> None:
    for name in names:
        (directory / name).unlink(missing_ok=True)


@pytest.mark.parametrize("name", ["idVendor", "idProduct", "speed", "bConfigurationValue"])
def test_what_is_read_without_its_ids_speed_or_configuration_is_no_device(testbed: Testbed, name: str) -> None:
    path = testbed.add(KEY)
    assert devices()["1-1"].serial == "A1"
    remove(testbed.directory / path.lstrip("/"), [name])
    assert "1-1" not in devices()


@pytest.mark.parametrize("number", range(12))
@pytest.mark.parametrize("gone", range(1, len(AS_THEY_GO) + 1))
def test_a_device_that_goes_away_while_it_is_read_is_found_whole_or_not_at_all(
    testbed: Testbed, amidst: Callable[[int, Callable[[], None]], None], number: int, gone: int
) -> None:
    path = testbed.add(KEY)
    directory = testbed.directory / path.lstrip("/")
    whole = devices()["1-1"]
    amidst(number, lambda: remove(directory, AS_THEY_GO[:gone]))
    assert devices().get("1-1") in (None, whole)


def test_a_device_that_another_one_takes_the_place_of_while_it_is_read_is_found_as_that_one(
    testbed: Testbed, amidst: Callable[[int, Callable[[], None]], None]
) -> None:
    testbed.add(KEY)

    def swap() -> None:
        testbed.unplug("1-1")
        testbed.add(KEY.replace("=A1", "=B2"))

    amidst(10, swap)  # after its ids, which are the same
    found = devices()["1-1"]
    assert (found.serial, found.plug_number) == ("B2", os.stat(found.sys_path).st_ino)


def test_a_device_that_changes_at_each_look_is_left_out_and_looked_up_again(
    testbed: Testbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = testbed.add(KEY)
    watched = UdevHost()
    watcher = watched.watch(lambda urgent: None)
    speed = testbed.directory / path.lstrip("/") / "speed"
    read = udev._read
    speeds = iter(["12\n", "480\n"])

    def changing(entry: pyudev.Device, *rest: Any) -> UsbDevice | None:
        found = read(entry, *rest)
        if entry.sys_name == "1-1" and (now := next(speeds, None)) is not None:
            speed.write_text(now)
        return found

    monkeypatch.setattr(udev, "_read", changing)
    try:
        assert "1-1" not in {device.sys_name for device in watched.devices()}
        assert "1-1" in {device.sys_name for device in watched.devices()}
    finally:
        watcher.stop()


def test_a_device_that_comes_back_with_its_old_number_is_another_plug_and_nothing_else(testbed: Testbed) -> None:
    testbed.add(KEY)
    before = devices()["1-1"]
    assert devices()["1-1"] == before
    testbed.unplug("1-1")
    testbed.add(KEY)
    after = devices()["1-1"]
    assert after.plug_number != before.plug_number
    assert (after.busnum, after.devnum, after.serial) == (before.busnum, before.devnum, before.serial)


def test_a_watched_host_notices_a_device_that_comes_back_with_its_old_number(testbed: Testbed) -> None:
    testbed.add(KEY)
    host = UdevHost()
    before = host.devices()
    testbed.unplug("1-1")
    testbed.add(KEY)
    assert host.devices() != before


def test_a_device_without_configuration_is_known_to_have_none(testbed: Testbed) -> None:
    testbed.add(usb_device(port="1", configuration="", interfaces=()).replace("=::", "=:ff0000:"))
    testbed.add(usb_device(port="2"))
    found = devices()
    assert (found["1-1"].configured, found["1-2"].configured) == (False, True)


def test_a_configuration_that_the_kernel_shows_as_nothing_at_all_is_none(testbed: Testbed) -> None:
    path = testbed.add(KEY)
    (testbed.directory / path.lstrip("/") / "bConfigurationValue").write_bytes(b"")
    assert not devices()["1-1"].configured
