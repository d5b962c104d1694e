"""udev is enumerated when something may have changed, and not else."""

import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.fixtures.testbed import eventually, needs_umockdev, testbed
from tests.functional.host.looking import devices
from tests.functional.host.test_watching import Bell, bell, settled
from usb_provider.demo.description import usb_device
from usb_provider.demo.testbed import Testbed
from usb_provider.host.udev import UdevHost
from usb_provider.model.devices.device import UsbDevice

__all__ = ["bell", "testbed"]

pytestmark = needs_umockdev


class Counted(UdevHost):
    """A host that counts its enumerations; something may happen in the middle of the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.enumerations = 0
        self.amidst: Callable[[], None] = lambda: None

    def _enumerate(self) -> tuple[UsbDevice, ...]:
        self.enumerations += 1
        found = super()._enumerate()
        amidst, self.amidst = self.amidst, lambda: None
        amidst()
        return found


@pytest.fixture
def counted(testbed: Testbed, bell: Bell) -> Iterator[Counted]:
    """A host that is watched, with one device, which nothing happens to any more."""
    host = Counted()
    watcher = host.watch(bell)
    testbed.add(usb_device(serial="A"))
    settled(bell)
    yield host
    watcher.stop()


def test_devices_are_looked_up_once_while_nothing_happens(counted: Counted) -> None:
    first = counted.devices()
    assert counted.devices() is counted.devices() is first
    assert counted.enumerations == 1
    assert counted.devices(fresh=True) is first
    assert counted.enumerations == 2


def test_devices_are_looked_up_again_after_each_event(testbed: Testbed, counted: Counted, bell: Bell) -> None:
    counted.devices()
    testbed.add(usb_device(port="2"))
    bell.wait()
    assert "1-2" in {device.sys_name for device in counted.devices()}
    settled(bell)
    testbed.unplug("1-2")
    bell.wait()
    assert "1-2" not in {device.sys_name for device in counted.devices()}


def test_what_comes_while_devices_are_looked_up_is_seen_by_the_next_look(
    testbed: Testbed, counted: Counted, bell: Bell
) -> None:
    def plug() -> None:
        testbed.add(usb_device(port="2"))
        bell.wait()

    counted.amidst = plug
    assert "1-2" not in {device.sys_name for device in counted.devices()}
    assert "1-2" in {device.sys_name for device in counted.devices()}


def test_by_the_time_a_change_is_told_what_was_found_before_is_out_of_date(testbed: Testbed) -> None:
    host, found, told = Counted(), [], threading.Event()

    def look(urgent: bool) -> None:
        found.append({device.sys_name for device in host.devices()})
        told.set()

    watcher = host.watch(look)
    assert host.devices() == ()
    testbed.add(usb_device(port="1"))
    assert told.wait(5)
    assert "usb1" in found[0]
    watcher.stop()


def test_without_a_watcher_devices_are_looked_up_each_time(testbed: Testbed, counted: Counted, bell: Bell) -> None:
    unwatched = Counted()
    for _ in range(3):
        unwatched.devices()
    assert unwatched.enumerations == 3


def test_once_the_watcher_is_stopped_devices_are_looked_up_each_time(testbed: Testbed, bell: Bell) -> None:
    host = Counted()
    watcher = host.watch(bell)
    host.devices()
    host.devices()
    watcher.stop()
    host.devices()
    host.devices()
    assert host.enumerations == 3


def test_a_device_that_udev_is_still_processing_is_looked_up_until_it_is_done(
    testbed: Testbed, counted: Counted, bell: Bell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usb_provider.host.udev._settled", lambda *about: False)
    counted.devices()
    counted.devices()
    assert counted.enumerations == 2
    monkeypatch.undo()
    counted.devices()
    counted.devices()
    assert counted.enumerations == 3


def test_while_the_monitor_is_broken_devices_are_looked_up_each_time(
    testbed: Testbed, bell: Bell, monkeypatch: pytest.MonkeyPatch
) -> None:
    testbed.add(usb_device(port="1"))
    host = Counted()
    watcher = host.watch(bell)
    host.devices()
    broken, other = socket.socketpair()
    other.close()
    os.dup2(broken.fileno(), watcher._monitor.fileno())
    broken.close()
    testbed.uevent(devices()["usb1"].sys_path, "change")
    eventually(lambda: not watcher._hears)
    host.devices()
    host.devices()
    assert host.enumerations == 3
    bell.wait()
    host.devices()
    host.devices()
    assert host.enumerations == 4
    watcher.stop()


def test_what_was_removed_is_left_out_at_once_and_the_next_look_is_a_whole_one(
    testbed: Testbed, counted: Counted, bell: Bell
) -> None:
    testbed.add(usb_device(port="2"))
    bell.wait()
    settled(bell)
    assert "1-2" in {device.sys_name for device in counted.devices(fresh=True)}
    before = counted.enumerations
    testbed.unplug("1-2")
    bell.wait()
    assert "1-2" not in {device.sys_name for device in counted.devices(fresh=True)}
    assert counted.enumerations == before
    counted.devices()
    assert counted.enumerations == before + 1


def test_a_device_that_came_before_another_was_removed_is_not_missed(
    testbed: Testbed, counted: Counted, bell: Bell
) -> None:
    testbed.add(usb_device(port="2"))
    bell.wait()
    settled(bell)
    counted.devices(fresh=True)
    testbed.add(usb_device(port="3"))
    testbed.unplug("1-2")
    settled(bell)
    names = {device.sys_name for device in counted.devices(fresh=True)}
    assert "1-3" in names
    assert "1-2" not in names
