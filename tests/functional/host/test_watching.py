"""Plugs, unplugs and other events are heard, by the real libudev, on a replayed host."""

import contextlib
import gc
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.fixtures.testbed import eventually, needs_umockdev, testbed
from tests.functional.host.looking import STICK, devices, kinds
from usb_provider.demo import recording
from usb_provider.demo.description import usb_device
from usb_provider.demo.recording import Recording
from usb_provider.demo.testbed import Testbed
from usb_provider.host.udev import UdevHost, Watcher
from usb_provider.model.devices.device import UseKind

__all__ = ["testbed"]

pytestmark = needs_umockdev


class Bell:
    """What a watcher calls; the test waits for it."""

    def __init__(self) -> None:
        self.rings = 0
        self.urgent = False
        self._condition = threading.Condition()

    def __call__(self, urgent: bool) -> None:
        with self._condition:
            self.rings += 1
            self.urgent = self.urgent or urgent
            self._condition.notify_all()

    def wait(self, within: float = 5.0) -> None:
        """Return when it rings, or has rung since the last time."""
        with self._condition:
            assert self._condition.wait_for(lambda: self.rings > 0, within), "nothing was heard"
            self.rings = 0


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def watcher(testbed: Testbed, bell: Bell) -> Iterator[Watcher]:
    watcher = UdevHost().watch(bell)
    yield watcher
    watcher.stop()


def settled(bell: Bell) -> None:
    """Return when nothing has rung for a moment."""
    rings = -1
    while rings != bell.rings:
        rings = bell.rings
        time.sleep(0.1)
    bell.rings = 0


@contextlib.contextmanager
def overrun_socket() -> Iterator[tuple[socket.socket, Callable[[], None]]]:
    """A netlink socket that has lost messages, since it was not read (error ENOBUFS), and what sends one more.

    The messages are the kernel's answers to "what is interface 1", which every user may ask.
    """
    route, get_link, is_request = 0, 18, 1
    question = struct.pack("=IHHII BxHiII", 32, get_link, is_request, 0, 0, socket.AF_UNSPEC, 0, 1, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, route) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        slow.bind((0, 0))

        def send() -> None:
            with contextlib.suppress(OSError):
                slow.sendto(question, (0, 0))

        for _ in range(100):
            send()
        yield slow, send


def quiet(testbed: Testbed, bell: Bell) -> bool:
    """Whether nothing rings before a known event does: events come in order."""
    before = bell.rings
    testbed.add(usb_device(port="9"))
    eventually(lambda: bell.rings > before)
    return before == 0


def test_a_plug_and_an_unplug_are_heard(testbed: Testbed, watcher: Watcher, bell: Bell) -> None:
    testbed.add(usb_device())
    bell.wait()
    settled(bell)
    testbed.unplug("1-1")
    bell.wait()
    assert "1-1" not in devices()


def test_a_plug_between_watching_and_looking_is_heard_and_seen(testbed: Testbed, bell: Bell) -> None:
    host = UdevHost()
    watcher = host.watch(bell)
    testbed.add(usb_device())
    assert "1-1" in {device.sys_name for device in host.devices()}
    bell.wait()
    watcher.stop()


def test_a_disk_that_appears_below_a_device_later_is_heard(testbed: Testbed, watcher: Watcher, bell: Bell) -> None:
    paragraphs = usb_device(interfaces=STICK, block="sdx1", filesystem="LVM2_member").split("\n\n")
    early = [text for text in paragraphs if "SUBSYSTEM=usb" in text]
    late = [text for text in paragraphs if text and text not in early]
    testbed.add("\n\n".join(early) + "\n\n")
    bell.wait()
    settled(bell)
    assert kinds() == []
    testbed.add("\n\n".join(late) + "\n\n")
    bell.wait()
    settled(bell)
    assert kinds() == [UseKind.MEMBER]


def test_a_change_of_a_disk_below_a_device_is_heard(testbed: Testbed, bell: Bell) -> None:
    path = testbed.add(usb_device(interfaces=STICK, block="sdx1"))
    disk = next((testbed.directory / path.lstrip("/")).rglob("sdx1"))
    watcher = UdevHost().watch(bell)
    testbed.uevent(f"/{disk.relative_to(testbed.directory)}", "change")
    bell.wait()
    watcher.stop()


def test_events_that_are_not_about_usb_are_not_worth_a_look(testbed: Testbed, watcher: Watcher, bell: Bell) -> None:
    testbed.add("P: /devices/virtual/block/loop0\nN: loop0\nE: DEVNAME=/dev/loop0\nE: SUBSYSTEM=block\n\n")
    testbed.add("P: /devices/virtual/net/tap0\nE: SUBSYSTEM=net\nE: INTERFACE=tap0\n\n")
    testbed.uevent("/sys/devices/virtual/block/loop0", "change")
    assert quiet(testbed, bell)


def test_last_events_without_any_id_are_enough(testbed: Testbed, watcher: Watcher, bell: Bell) -> None:
    testbed.add(usb_device("1050", "0407", serial="1"))
    bell.wait()
    settled(bell)
    testbed.unplug("1-1")  # the testbed's remove events carry no ID_*, and sysfs is empty by then
    bell.wait()
    assert "1-1" not in devices()


def test_after_a_burst_the_last_look_sees_everything(testbed: Testbed, watcher: Watcher, bell: Bell) -> None:
    host = UdevHost()
    for port in range(1, 31):
        testbed.add(usb_device(port=f"1.{port}", devnum=port + 1, serial=f"S{port}"))
    seen: set[str] = set()

    def look() -> bool:
        bell.wait()
        seen.update(device.sys_name for device in host.devices())
        return len(seen) == 32

    eventually(look)
    for port in range(1, 31):
        testbed.unplug(f"1-1.{port}")

    def gone() -> bool:
        bell.wait()
        return {device.sys_name for device in host.devices()} == {"usb1", "1-1"}

    eventually(gone)


def test_a_replug_at_once_is_the_same_device_with_another_number(
    testbed: Testbed, watcher: Watcher, bell: Bell
) -> None:
    testbed.load(Recording.read(recording.bundled()), devices=["codemeter-a"])
    bell.wait()
    first = devices()["1-1.4.1"]
    testbed.unplug("codemeter-a")
    testbed.plug("codemeter-a")
    settled(bell)
    second = devices()["1-1.4.1"]
    assert second.serial == first.serial
    assert second.devnum != first.devnum


@pytest.mark.alone
def test_lost_events_lead_to_another_look_and_later_ones_are_heard(
    testbed: Testbed, watcher: Watcher, bell: Bell
) -> None:
    # The kernel tells a reader that was too slow by an error of its socket, which nothing but a real netlink socket
    # gives, and the testbed's is none. So for a moment one that has overrun is put in the monitor's place.
    testbed.add(usb_device(port="1"))
    bell.wait()
    settled(bell)
    with overrun_socket() as (slow, send):
        descriptor = watcher._monitor.fileno()
        own = os.dup(descriptor)
        os.dup2(slow.fileno(), descriptor)
        testbed.uevent(devices()["usb1"].sys_path, "change")  # ends the wait on the monitor's own socket
        bell.wait(0.9)  # at once: opening another monitor would take a second
        settled(bell)
        os.dup2(own, descriptor)
        os.close(own)
        send()  # ends the wait on the socket that was put in its place
    testbed.unplug("1-1")
    bell.wait()


def test_a_monitor_that_breaks_is_replaced_and_later_events_are_heard(
    testbed: Testbed, watcher: Watcher, bell: Bell
) -> None:
    testbed.add(usb_device(port="1"))
    bell.wait()
    settled(bell)
    broken, other = socket.socketpair()
    other.close()
    os.dup2(broken.fileno(), watcher._monitor.fileno())
    broken.close()
    testbed.uevent(devices()["usb1"].sys_path, "change")
    bell.wait()
    settled(bell)
    testbed.unplug("1-1")
    bell.wait()


def test_a_removal_is_urgent_and_a_plug_is_not(testbed: Testbed, watcher: Watcher, bell: Bell) -> None:
    testbed.add(usb_device())
    bell.wait()
    settled(bell)
    assert not bell.urgent
    testbed.unplug("1-1")
    bell.wait()
    assert bell.urgent


@pytest.mark.parametrize(("action", "is_urgent"), [("bind", False), ("change", False), ("unbind", True)])
def test_a_device_that_loses_its_driver_is_on_its_way_out(
    testbed: Testbed, watcher: Watcher, bell: Bell, action: str, is_urgent: bool
) -> None:
    path = testbed.add(usb_device())
    settled(bell)
    testbed.uevent(path, action)
    bell.wait()
    assert bell.urgent is is_urgent


def test_a_driver_that_leaves_an_interface_is_not_urgent(testbed: Testbed, watcher: Watcher, bell: Bell) -> None:
    path = testbed.add(usb_device(interfaces=STICK))
    settled(bell)
    testbed.uevent(f"{path}/1-1:1.0", "unbind")  # as QEMU does it to a device that it opens
    bell.wait()
    assert not bell.urgent


@pytest.mark.alone
def test_a_stopped_watcher_leaves_no_thread_no_file_and_calls_no_more(testbed: Testbed, bell: Bell) -> None:
    testbed.add(usb_device(port="1"))
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    watcher = UdevHost().watch(bell)
    assert "udev" in {thread.name for thread in threading.enumerate()}
    started = time.monotonic()
    watcher.stop()
    assert time.monotonic() - started < 1
    assert "udev" not in {thread.name for thread in threading.enumerate()}
    testbed.add(usb_device(port="2"))
    assert bell.rings == 0
    del watcher
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # the testbed's own end of the closed monitor


def test_two_watchers_hear_the_same(testbed: Testbed) -> None:
    bells = [Bell(), Bell()]
    watchers = [UdevHost().watch(bell) for bell in bells]
    testbed.add(usb_device())
    for bell in bells:
        bell.wait()
    for watcher in watchers:
        watcher.stop()
