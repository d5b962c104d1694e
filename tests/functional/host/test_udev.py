"""The real libudev, on a replayed host: run it with ``umockdev-wrapper pytest``."""

import contextlib
import gc
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.fixtures.hostile import HOSTILE
from tests.fixtures.testbed import eventually, needs_umockdev, testbed
from usb_provider.demo import recording
from usb_provider.demo.description import usb_device
from usb_provider.demo.recording import Recording
from usb_provider.demo.testbed import Testbed
from usb_provider.host.udev import UdevHost, Watcher
from usb_provider.model.devices.device import HostUse, Speed, UsbDevice, UseKind

__all__ = ["testbed"]

pytestmark = needs_umockdev

STICK = (("08", "06", "50"),)
KEYBOARD = (("03", "01", "01"),)

ROUTES = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
DEFAULT_ROUTE = ROUTES + "enx0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
NO_DEFAULT_ROUTE = ROUTES + "enx0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n"
IPV6_ROUTE = "{} 00 {} 00 00000000000000000000000000000000 00000400 00000001 00000000 {}     enx0\n"
ZERO, LINK_LOCAL = "0" * 32, "fe80" + "0" * 28


def devices() -> dict[str, UsbDevice]:
    """What a fresh look finds, by port."""
    return {device.sys_name: device for device in UdevHost().devices()}


def uses(sys_name: str = "1-1") -> list[HostUse]:
    """How the host itself uses the device."""
    return list(devices()[sys_name].uses)


def kinds(sys_name: str = "1-1") -> list[UseKind]:
    """In which ways the host itself uses the device."""
    return [use.kind for use in uses(sys_name)]


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
    """A netlink socket that has lost messages, since nobody read it (its error is ENOBUFS), and what sends one more."""
    usersock, group = 2, 1
    with (
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, usersock) as slow,
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, usersock) as sender,
    ):
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        slow.bind((0, group))

        def send() -> None:
            with contextlib.suppress(OSError):
                sender.sendto(bytes(1000), (0, group))

        for _ in range(100):
            send()
        yield slow, send


def quiet(testbed: Testbed, bell: Bell) -> bool:
    """Whether nothing rings before a known event does: events come in order."""
    before = bell.rings
    testbed.add(usb_device(port="9"))
    eventually(lambda: bell.rings > before)
    return before == 0


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


# Guards


def mountinfo(number: str = "0:1", where: str = "/mnt/backup", source: str = "none") -> str:
    """One line of /proc/PID/mountinfo."""
    return f"36 35 {number} / {where} rw,noatime shared:1 - ext4 {source} rw\n"


def block_number(testbed: Testbed, name: str) -> str:
    """A block device's number, 8:17."""
    return (testbed.directory / "sys/class/block" / name / "dev").read_text().strip()


@pytest.mark.parametrize("block", ["sdx", "sdx1"])
@pytest.mark.parametrize("process", ["self", "1"])
def test_a_mounted_disk_or_partition_is_found_by_its_number(testbed: Testbed, block: str, process: str) -> None:
    testbed.add(usb_device(interfaces=STICK, block=block, filesystem="ext4"))
    assert uses() == []
    testbed.write_proc(f"{process}/mountinfo", mountinfo(block_number(testbed, block)))
    assert uses() == [HostUse(UseKind.MOUNTED, f"{block} is mounted on /mnt/backup")]
    testbed.write_proc(f"{process}/mountinfo", "")
    assert uses() == []


def test_a_mounted_disk_is_found_by_its_path_and_the_place_is_unescaped(testbed: Testbed) -> None:
    testbed.add(usb_device(interfaces=STICK, block="sdx1"))
    testbed.write_proc("self/mountinfo", mountinfo("0:51", "/mnt/my\\040disk", "/dev/sdx1"))
    assert [use.what for use in uses()] == ["sdx1 is mounted on /mnt/my disk"]


def test_a_mount_of_another_disk_is_no_use_of_this_one(testbed: Testbed) -> None:
    testbed.add(usb_device(port="1", interfaces=STICK, block="sdx1"))
    testbed.add(usb_device(port="2", interfaces=STICK, block="sdxa1"))
    testbed.write_proc("self/mountinfo", mountinfo("0:51", "/mnt", "/dev/sdxa1"))
    assert (kinds("1-1"), kinds("1-2")) == ([], [UseKind.MOUNTED])


def test_a_disk_behind_a_hub_is_no_use_of_the_hub(testbed: Testbed) -> None:
    testbed.add(usb_device(port="1.1", interfaces=STICK, block="sdx1"))
    testbed.write_proc("self/mountinfo", mountinfo(source="/dev/sdx1"))
    assert (kinds("1-1"), kinds("1-1.1")) == ([], [UseKind.MOUNTED])


def test_swap_space_is_found(testbed: Testbed) -> None:
    testbed.add(usb_device(interfaces=STICK, block="sdx2"))
    testbed.write_proc("swaps", "Filename\tType\tSize\tUsed\tPriority\n/dev/sdx2 partition\t4194300\t0\t-2\n")
    assert uses() == [HostUse(UseKind.SWAP, "sdx2 is swap space")]


def test_a_disk_below_a_volume_or_an_array_is_found_by_its_holder(testbed: Testbed) -> None:
    testbed.add(usb_device(interfaces=STICK, block="sdx1", holder="dm-3"))
    assert uses() == [HostUse(UseKind.HELD, "sdx1 is held by dm-3")]


@pytest.mark.parametrize("signature", ["LVM2_member", "linux_raid_member", "zfs_member", "swap"])
def test_a_signature_of_a_volume_group_an_array_or_swap_is_found(testbed: Testbed, signature: str) -> None:
    testbed.add(usb_device(interfaces=STICK, block="sdx1", filesystem=signature))
    assert uses() == [HostUse(UseKind.MEMBER, f"sdx1 is marked as {signature}")]


def test_what_is_certain_comes_before_what_a_signature_says(testbed: Testbed) -> None:
    testbed.add(usb_device(interfaces=STICK, block="sdx1", filesystem="LVM2_member", holder="dm-0"))
    assert kinds() == [UseKind.HELD, UseKind.MEMBER]


@pytest.mark.parametrize(
    ("file", "content", "carries"),
    [
        ("net/route", DEFAULT_ROUTE, True),
        ("net/route", NO_DEFAULT_ROUTE, False),
        ("net/route", DEFAULT_ROUTE.replace("enx0", "eth0"), False),
        ("net/route", DEFAULT_ROUTE.replace("\t0003\t", "\t0002\t"), False),
        ("net/ipv6_route", IPV6_ROUTE.format(ZERO, ZERO, "00000003"), True),
        ("net/ipv6_route", IPV6_ROUTE.format(ZERO, ZERO, "00200200"), False),
        ("net/ipv6_route", IPV6_ROUTE.format(LINK_LOCAL, ZERO, "00000001"), False),
    ],
    ids=["ipv4", "no-default", "another-interface", "down", "ipv6", "ipv6-reject", "ipv6-link-local"],
)
def test_a_network_adapter_with_the_default_route_is_found(
    testbed: Testbed, file: str, content: str, carries: bool
) -> None:
    testbed.add(usb_device(interfaces=(("02", "06", "00"),), net="enx0"))
    testbed.write_proc(file, content)
    what = "network interface enx0 carries the default route"
    assert uses() == ([HostUse(UseKind.DEFAULT_ROUTE, what)] if carries else [])


@pytest.mark.parametrize("link", ["master", "upper_br0", "upper_bond0"])
def test_a_network_adapter_that_is_a_port_of_a_bridge_or_bond_is_found(testbed: Testbed, link: str) -> None:
    path = testbed.add(usb_device(interfaces=(("02", "06", "00"),), net="enx0"))
    interface = testbed.directory / f"{path}/1-1:1.0/net/enx0".lstrip("/")
    (interface / link).symlink_to("../../../../../../../virtual/net/br0")
    upper = link.removeprefix("upper_")
    assert uses() == [HostUse(UseKind.ENSLAVED, f"network interface enx0 is a part of {upper}")]


@pytest.mark.parametrize(
    "text",
    [
        usb_device("046d", "c31c", interfaces=KEYBOARD, keyboard=True),
        usb_device("046d", "c31c", interfaces=KEYBOARD),
        usb_device("046d", "c52b", interfaces=(("03", "01", "02"), ("03", "00", "00")), keyboard=True),
    ],
    ids=["keyboard", "before-its-input-device-is-there", "receiver-of-a-wireless-keyboard"],
)
def test_a_keyboard_of_the_console_is_found(testbed: Testbed, text: str) -> None:
    testbed.add(text)
    assert uses() == [HostUse(UseKind.CONSOLE_KEYBOARD, "it is a keyboard of the console")]


def test_a_keyboard_that_the_host_does_not_read_is_free(testbed: Testbed) -> None:
    testbed.add(usb_device(interfaces=KEYBOARD).replace("E: DRIVER=usbhid", "E: DRIVER=usbfs"))
    assert uses() == []


@pytest.mark.parametrize(
    "text",
    [
        usb_device("1050", "0407", interfaces=(*KEYBOARD, ("03", "00", "00"), ("0b", "00", "00")), keyboard=True),
        usb_device("1050", "0010", interfaces=KEYBOARD, keyboard=True),
    ],
    ids=["otp-fido-ccid", "otp-only"],
)
def test_a_security_key_that_types_codes_is_no_keyboard_of_the_console(testbed: Testbed, text: str) -> None:
    testbed.add(text)
    assert uses() == []


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


# Hearing of changes


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


# Not looking when nothing changed


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
