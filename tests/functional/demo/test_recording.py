"""The replayed host against the real libudev: run it with ``umockdev-wrapper pytest``."""

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import pyudev

from usb_provider.demo import umockdev
from usb_provider.demo.description import usb_device
from usb_provider.demo.recording import Recording, RecordingError, bundled
from usb_provider.demo.testbed import Testbed
from usb_provider.demo.umockdev import wrap

needs_umockdev = pytest.mark.skipif(
    not umockdev.is_active() and "CI" not in os.environ,
    reason="run the tests under 'umockdev-wrapper' (Debian, Fedora: package umockdev)",
)

BUSY_HOST = Recording.read(bundled())

# Name: where, vendor:product, usable serial, interfaces as udev lists them, subsystems of the child nodes.
DEVICES = {
    "usb1": ("usb1", "1d6b:0002", "0000:00:14.0", ":090000:", set()),
    "usb2": ("usb2", "1d6b:0003", "0000:00:14.0", ":090000:", set()),
    "usb3": ("usb3", "1d6b:0002", "0000:03:00.0", ":090000:", set()),
    "usb4": ("usb4", "1d6b:0003", "0000:03:00.0", ":090000:", set()),
    "hub-desk": ("1-1", "05e3:0610", None, ":090001:", set()),
    "hub-rack": ("1-1.4", "0bda:5411", None, ":090001:", set()),
    "hub-desk-usb3": ("2-1", "05e3:0620", None, ":090000:", set()),
    "hub-rack-usb3": ("2-1.4", "0bda:0411", None, ":090000:", set()),
    "yubikey": ("1-1.1", "1050:0407", None, ":030101:030000:0b0000:", {"hid", "hidraw", "input"}),
    "hasp-a": ("1-1.2", "0529:0001", None, ":ff0000:", set()),
    "hasp-b": ("1-1.3", "0529:0001", None, ":ff0000:", set()),
    "codemeter-a": ("1-1.4.1", "064f:2af9", "3-4871246", ":030000:", {"hid", "hidraw"}),
    "codemeter-b": ("1-1.4.2", "064f:2af9", "3-4871301", ":030000:", {"hid", "hidraw"}),
    "ftdi-serial": ("1-1.4.3", "0403:6001", "A50285BI", ":ffffff:", {"tty", "usb-serial"}),
    "smartcard-reader": ("1-1.4.4", "08e6:3437", None, ":0b0000:", set()),
    "keyboard": ("1-2", "046d:c31c", None, ":030101:030000:", {"hid", "hidraw", "input"}),
    "mouse": ("1-3", "046d:c077", None, ":030102:", {"hid", "hidraw", "input"}),
    "camera": ("1-4", "046d:082d", "9F2D3E5F", ":0e0100:0e0200:010100:010200:", {"sound", "video4linux"}),
    "bluetooth": ("1-5", "0a12:0001", None, ":e00101:", {"bluetooth", "rfkill"}),
    "arduino": ("1-6", "2341:0043", "75834353330351A0E1C0", ":020201:0a0000:", {"tty"}),
    "lte-modem": ("1-7", "2c7c:0125", None, ":ffffff:ff0000:", {"net", "tty", "usb-serial", "usbmisc"}),
    "printer": ("1-8", "04f9:0027", "K8J612345", ":070102:", {"usbmisc"}),
    "disk-backup": ("2-2", "0781:5583", "4C530001230905117254", ":080650:", {"block", "scsi", "scsi_generic"}),
    "disk-lvm": ("2-3", "04e8:4001", "S5SXNS0R700159A", ":080650:", {"block", "scsi", "scsi_generic"}),
    "disk-free": ("2-1.1", "0951:1666", "E0D55EA573DCF450E97C0F5B", ":080650:", {"block", "scsi", "scsi_generic"}),
    "usb-ethernet": ("2-4", "0b95:1790", "0000249B7A5C92", ":ffff00:", {"net"}),
    "gnss": ("3-1", "1546:01a8", None, ":020201:0a0000:", {"tty"}),
    "wlan": ("3-2", "148f:5370", "1.0", ":ffffff:", {"ieee80211", "net"}),
    "usb-blaster": ("3-3", "09fb:6001", "91d28408", ":ffffff:", set()),
    "hostile": ("3-4", "6666:dead", None, ":ff0000:", set()),
    "card-reader": ("4-1", "05e3:0749", "000000000000", ":080650:", {"block", "scsi", "scsi_generic"}),
}


@pytest.fixture
def testbed() -> Iterator[Testbed]:
    with Testbed.create() as host:
        yield host


@pytest.fixture(scope="module")
def busy_host() -> Iterator[Testbed]:
    with Testbed.create() as host:
        host.load(BUSY_HOST)
        yield host


@pytest.fixture
def monitor(testbed: Testbed) -> pyudev.Monitor:
    return started_monitor()


def started_monitor() -> pyudev.Monitor:
    monitor = pyudev.Monitor.from_netlink(pyudev.Context())
    monitor.start()
    return monitor


def events(monitor: pyudev.Monitor, last: tuple[str, str]) -> list[pyudev.Device]:
    """All events up to *last*, an action and the name of a device."""
    seen: list[pyudev.Device] = []
    while not seen or (seen[-1].action, seen[-1].sys_name) != last:
        event = monitor.poll(timeout=5)
        assert event is not None, f"{last} did not come, only {named(seen)}"
        seen.append(event)
    return seen


def named(seen: list[pyudev.Device]) -> list[tuple[str, str]]:
    return [(event.action, event.sys_name) for event in seen]


def usb_devices() -> dict[str, pyudev.Device]:
    found = pyudev.Context().list_devices(subsystem="usb", DEVTYPE="usb_device")
    return {device.sys_name: device for device in found}


def below(device: pyudev.Device, subsystem: str) -> list[pyudev.Device]:
    """Nodes below *device*, but not those of devices plugged into it."""
    found = pyudev.Context().list_devices(subsystem=subsystem)
    return [node for node in found if node.find_parent("usb", "usb_device") == device]


# The bundled recording


def test_the_bundled_recording_holds_the_devices_of_this_table() -> None:
    assert set(BUSY_HOST.devices) == set(DEVICES)


def test_the_bundled_recording_lists_hubs_before_what_is_plugged_into_them() -> None:
    seen: list[str] = []
    for device in BUSY_HOST.devices.values():
        parent = os.path.dirname(device.sys_path)
        assert "usb" not in parent or parent in seen
        seen.append(device.sys_path)


@needs_umockdev
@pytest.mark.usefixtures("busy_host")
@pytest.mark.parametrize("name", DEVICES)
def test_a_bundled_device_enumerates_as_what_it_is(name: str) -> None:
    sys_name, ids, serial, interfaces, subsystems = DEVICES[name]
    device = usb_devices()[sys_name]
    assert device.sys_path == BUSY_HOST.devices[name].sys_path
    assert f"{device.properties['ID_VENDOR_ID']}:{device.properties['ID_MODEL_ID']}" == ids
    assert f"{device.attributes.asstring('idVendor')}:{device.attributes.asstring('idProduct')}" == ids
    assert device.properties.get("ID_SERIAL_SHORT") == serial
    assert device.properties["ID_USB_INTERFACES"] == interfaces
    assert int(device.properties["DEVNUM"]) == device.attributes.asint("devnum")
    assert int(device.properties["BUSNUM"]) == device.attributes.asint("busnum") == int(sys_name.strip("usb")[0])
    assert device.device_node == f"/dev/bus/usb/{device.properties['BUSNUM']}/{device.properties['DEVNUM']}"
    assert os.major(os.stat(device.device_node).st_rdev) == 189
    assert device.driver == "usb"
    children = [node for node in pyudev.Context().list_devices() if node.find_parent("usb", "usb_device") == device]
    assert {node.subsystem for node in children} - {"usb"} - ({"pci"} if sys_name[:3] == "usb" else set()) == subsystems


@needs_umockdev
@pytest.mark.usefixtures("busy_host")
@pytest.mark.parametrize("name", DEVICES)
def test_interfaces_say_in_sysfs_what_udev_says_in_one_property(name: str) -> None:
    device = usb_devices()[DEVICES[name][0]]
    nodes = [node for node in below(device, "usb") if node.device_type == "usb_interface"]
    kinds = [
        "".join(node.attributes.asstring(f"bInterface{part}") for part in ("Class", "SubClass", "Protocol"))
        for node in nodes
    ]
    assert f":{':'.join(dict.fromkeys(kinds))}:" == device.properties["ID_USB_INTERFACES"]
    assert device.attributes.asint("bNumInterfaces") == len(nodes)
    descriptors = Path(device.sys_path, "descriptors").read_bytes()
    assert descriptors[18 + 2 : 18 + 5] == (len(descriptors) - 18).to_bytes(2, "little") + bytes([len(nodes)])
    assert Path(device.device_node).read_bytes() == descriptors


@needs_umockdev
@pytest.mark.usefixtures("busy_host")
def test_what_the_host_itself_uses_can_be_told() -> None:
    devices = usb_devices()

    def partition(name: str) -> pyudev.Device:
        nodes = below(devices[DEVICES[name][0]], "block")
        return next(node for node in nodes if node.device_type == "partition")

    mounts = Path("/proc/self/mountinfo").read_text()
    assert mounts == Path("/proc/1/mountinfo").read_text()
    assert "8:1 / /mnt/backup" in mounts
    assert partition("disk-backup").device_node == "/dev/sda1"
    assert partition("disk-backup").attributes.asstring("dev") == "8:1"
    assert partition("disk-lvm").properties["ID_FS_TYPE"] == "LVM2_member"
    holders = os.listdir(f"{partition('disk-lvm').sys_path}/holders")
    assert holders == ["dm-0"]
    held_by = os.path.realpath(f"{partition('disk-lvm').sys_path}/holders/dm-0")
    assert pyudev.Devices.from_path(pyudev.Context(), held_by).properties["DM_VG_NAME"] == "vg_archive"
    assert partition("disk-free").properties["ID_FS_TYPE"] == "vfat"
    assert "sdc" not in mounts
    (net,) = below(devices["2-4"], "net")
    assert [
        line.split()[0] for line in Path("/proc/net/route").read_text().splitlines() if line.split()[1] == "0" * 8
    ] == [net.sys_name]
    assert net.sys_name in Path("/proc/net/ipv6_route").read_text()
    assert Path("/proc/swaps").read_text().startswith("Filename")


@needs_umockdev
@pytest.mark.usefixtures("busy_host")
def test_keyboards_and_tokens_are_marked_as_udev_marks_them() -> None:
    devices = usb_devices()
    typed_on = {
        name
        for name, (sys_name, *_) in DEVICES.items()
        if any(node.properties.get("ID_INPUT_KEYBOARD") for node in below(devices[sys_name], "input"))
    }
    assert typed_on == {"keyboard", "yubikey"}
    tokens = [node.properties.get("ID_FIDO_TOKEN") for node in below(devices["1-1.1"], "hidraw")]
    assert tokens == [None, "1"]


@needs_umockdev
@pytest.mark.usefixtures("busy_host")
def test_the_hostile_device_keeps_its_bytes_in_sysfs_and_no_serial_in_udev() -> None:
    device = usb_devices()["3-4"]
    assert device.attributes.get("manufacturer") == b"\x1b[31mAcme\x1b[0m\r\n%s%n{0}\t\x07Co"
    assert device.attributes.get("serial") == b"\x1b]0;pwned\x07%s{}<xml>&\n../../etc"
    assert b"</name>" in device.attributes.get("product")
    assert "ID_SERIAL_SHORT" not in device.properties


# Hotplug


@needs_umockdev
def test_plugging_adds_the_device_then_its_interfaces_and_binds_it_last(
    testbed: Testbed, monitor: pyudev.Monitor
) -> None:
    testbed.load(BUSY_HOST, ["usb2"])
    events(monitor, ("bind", "usb2"))
    testbed.plug("disk-free")
    seen = [event for event in events(monitor, ("bind", "2-1.1")) if "2-1.1" in event.sys_path]
    assert named(seen)[:2] == [("add", "2-1.1"), ("add", "2-1.1:1.0")]
    assert ("add", "sdc1") in named(seen)
    assert named(seen)[-3:] == [("bind", "4:0:0:0"), ("bind", "2-1.1:1.0"), ("bind", "2-1.1")]
    assert seen[0].properties["ID_SERIAL_SHORT"] == "E0D55EA573DCF450E97C0F5B"
    assert "DRIVER" not in seen[0].properties
    assert seen[-1].properties["DRIVER"] == "usb"


@needs_umockdev
def test_hubs_on_the_way_are_plugged_first(testbed: Testbed) -> None:
    testbed.load(BUSY_HOST, [])
    testbed.plug("codemeter-a")
    assert list(testbed.plugged) == ["usb1", "hub-desk", "hub-rack", "codemeter-a"]
    assert set(usb_devices()) == {"usb1", "1-1", "1-1.4", "1-1.4.1"}


@needs_umockdev
def test_last_events_of_a_device_do_not_say_what_it_was(testbed: Testbed, monitor: pyudev.Monitor) -> None:
    testbed.load(BUSY_HOST, ["yubikey"])
    events(monitor, ("bind", "1-1.1"))
    testbed.unplug("yubikey")
    seen = events(monitor, ("remove", "1-1.1"))
    assert named(seen)[-3:] == [("remove", "1-1.1:1.2"), ("unbind", "1-1.1"), ("remove", "1-1.1")]
    assert ("unbind", "1-1.1:1.0") in named(seen)
    for event in seen:
        kept = {key for key in event.properties if key.startswith("ID_")}
        assert kept <= {"ID_PATH", "ID_PATH_TAG"}, event.sys_path
        assert "DRIVER" not in event.properties
        assert not os.path.exists(event.sys_path)
    last = seen[-1].properties
    assert (last["BUSNUM"], last["DEVNUM"], last["PRODUCT"]) == ("001", "005", "1050/407/543")
    assert seen[-1].attributes.get("idVendor") is None


@needs_umockdev
def test_children_go_before_their_parents(testbed: Testbed, monitor: pyudev.Monitor) -> None:
    testbed.load(BUSY_HOST, ["disk-free", "hub-rack-usb3"])
    events(monitor, ("bind", "2-1.4"))
    testbed.unplug("hub-desk-usb3")
    seen = [event.sys_path for event in events(monitor, ("remove", "2-1")) if event.action == "remove"]
    assert len(seen) == 2 + 2 + 8
    for position, path in enumerate(seen):
        assert not any(later.startswith(f"{path}/") for later in seen[position:])
    assert set(usb_devices()) == {"usb2"}
    assert list(testbed.plugged) == ["usb2"]


@needs_umockdev
@pytest.mark.parametrize("name", [name for name in DEVICES if not name.startswith(("usb1", "usb2", "usb3", "usb4"))])
def test_any_bundled_device_can_be_unplugged_and_plugged_again(testbed: Testbed, name: str) -> None:
    testbed.load(BUSY_HOST, [name])
    before = {node.sys_path for node in pyudev.Context().list_devices()}
    testbed.unplug(name)
    assert DEVICES[name][0] not in usb_devices()
    dangling = [
        link for link in Path(testbed.directory, "sys/bus").rglob("*") if link.is_symlink() and not link.exists()
    ]
    assert dangling == []
    testbed.plug(name)
    assert {node.sys_path for node in pyudev.Context().list_devices()} == before


@needs_umockdev
def test_a_device_that_is_plugged_again_gets_the_next_number_of_its_bus(testbed: Testbed) -> None:
    testbed.load(BUSY_HOST)
    assert usb_devices()["1-7"].properties["DEVNUM"] == "016"
    testbed.unplug("lte-modem")
    testbed.plug("lte-modem")
    device = usb_devices()["1-7"]
    assert (device.properties["DEVNUM"], device.attributes.asint("devnum")) == ("018", 18)
    assert device.device_node == "/dev/bus/usb/001/018"
    assert device.properties["MINOR"] == "17"
    assert not os.path.exists("/dev/bus/usb/001/016")


@needs_umockdev
def test_a_device_number_can_be_asked_for(testbed: Testbed) -> None:
    testbed.load(BUSY_HOST, [])
    testbed.plug("gnss", devnum=9)
    assert usb_devices()["3-1"].device_node == "/dev/bus/usb/003/009"


@needs_umockdev
def test_a_device_can_be_moved_to_another_port(testbed: Testbed) -> None:
    testbed.load(BUSY_HOST)
    testbed.unplug("disk-free")
    path = testbed.plug("disk-free", port="2-1.4.3")
    assert path == "/sys/devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1.4/2-1.4.3"
    device = usb_devices()["2-1.4.3"]
    assert device.attributes.asstring("devpath") == "1.4.3"
    assert device.properties["ID_PATH"] == "pci-0000:00:14.0-usb-0:1.4.3"
    assert device.properties["ID_PATH_TAG"] == "pci-0000_00_14_0-usb-0_1_4_3"
    assert device.properties["ID_SERIAL_SHORT"] == "E0D55EA573DCF450E97C0F5B"
    assert device.driver == "usb"
    disk, partition = below(device, "block")
    assert partition.properties["ID_PATH"] == "pci-0000:00:14.0-usb-0:1.4.3:1.0-scsi-0:0:0:0"
    assert os.path.realpath(f"{disk.sys_path}/device").endswith("/2-1.4.3:1.0/host4/target4:0:0/4:0:0:0")
    assert os.path.realpath("/dev/disk/by-path/pci-0000:00:14.0-usb-0:1.4.3:1.0-scsi-0:0:0:0").endswith("/dev/sdc")
    assert "2-1.1" not in usb_devices()


@needs_umockdev
def test_a_device_can_be_moved_to_another_controller(testbed: Testbed) -> None:
    testbed.load(BUSY_HOST)
    testbed.unplug("hostile")
    testbed.unplug("yubikey")
    testbed.plug("yubikey", port="3-4")
    device = usb_devices()["3-4"]
    assert device.parent.sys_name == "usb3"
    assert (device.properties["BUSNUM"], device.attributes.asint("busnum")) == ("003", 3)
    assert device.properties["ID_PATH"] == "pci-0000:03:00.0-usb-0:4"
    assert {node.properties["HID_PHYS"] for node in below(device, "hid")} == {
        "usb-0000:03:00.0-4/input0",
        "usb-0000:03:00.0-4/input1",
    }


@needs_umockdev
def test_a_burst_waits_for_a_monitor_that_is_not_read(testbed: Testbed, monitor: pyudev.Monitor) -> None:
    testbed.load(BUSY_HOST)
    seen = events(monitor, ("bind", "1-1.4.4"))
    assert len(seen) > 200
    assert sum(event.action == "add" for event in seen) == sum(
        len(device.nodes) for device in BUSY_HOST.devices.values()
    ) + len(BUSY_HOST.platform)


@needs_umockdev
def test_monitors_come_and_go_and_each_hears_what_happens_while_it_is_there(testbed: Testbed) -> None:
    testbed.load(BUSY_HOST, ["usb3"])
    for _ in range(5):
        monitor = started_monitor()
        testbed.plug("gnss")
        assert named(events(monitor, ("bind", "3-1")))[0] == ("add", "3-1")
        testbed.unplug("gnss")
        assert named(events(monitor, ("remove", "3-1")))[-2] == ("unbind", "3-1")
        del monitor
        gc.collect()


@needs_umockdev
def test_a_monitor_filter_works_as_on_a_real_host(testbed: Testbed) -> None:
    monitor = pyudev.Monitor.from_netlink(pyudev.Context())
    monitor.filter_by("usb", "usb_device")
    monitor.start()
    testbed.load(BUSY_HOST, ["yubikey"])
    seen = events(monitor, ("bind", "1-1.1"))
    assert {event.device_type for event in seen} == {"usb_device"}
    assert named(seen)[-2:] == [("add", "1-1.1"), ("bind", "1-1.1")]


@needs_umockdev
def test_one_more_event_can_be_sent(testbed: Testbed, monitor: pyudev.Monitor) -> None:
    testbed.load(BUSY_HOST, ["hasp-a"])
    events(monitor, ("bind", "1-1.2"))
    testbed.uevent(testbed.plugged["hasp-a"], "change", ID_MODEL="Other")
    (event,) = events(monitor, ("change", "1-1.2"))
    assert (event.properties["ID_MODEL"], event.properties["ID_VENDOR_ID"]) == ("Other", "0529")


CHILD = """
import json, sys, pyudev
context = pyudev.Context()
monitor = pyudev.Monitor.from_netlink(context)
monitor.filter_by("usb", "usb_device")
monitor.start()
there = sorted(device.sys_name for device in context.list_devices(subsystem="usb", DEVTYPE="usb_device"))
print(json.dumps(there), flush=True)
event = monitor.poll(timeout=20)
print(json.dumps([event.action, event.sys_name, event.properties["ID_MODEL_ID"]]), flush=True)
print(open("/proc/swaps").read().startswith("Filename"))
"""


@needs_umockdev
def test_a_child_process_sees_the_devices_and_their_events(testbed: Testbed) -> None:
    testbed.load(BUSY_HOST, ["hub-desk"])
    argv = wrap([sys.executable, "-W", "ignore", "-c", CHILD])
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert json.loads(child.stdout.readline()) == ["1-1", "usb1"]
        testbed.plug("hasp-b")
        assert json.loads(child.stdout.readline()) == ["add", "1-1.3", "0001"]
        assert child.stdout.readline() == "True\n"
        assert child.wait() == 0


@needs_umockdev
def test_nothing_is_left_of_a_closed_testbed() -> None:
    before = os.environ.get("UMOCKDEV_DIR")
    with Testbed.create() as testbed:
        testbed.load(BUSY_HOST)
        assert os.environ["UMOCKDEV_DIR"] == str(testbed.directory)
    assert {path.name for path in testbed.directory.iterdir()} <= {"ioctl"}
    assert os.environ.get("UMOCKDEV_DIR") == before
    testbed.close()
    with Testbed.create():
        assert usb_devices() == {}


@needs_umockdev
def test_the_latest_open_testbed_is_the_one_that_is_seen() -> None:
    with Testbed.create() as first, Testbed.create() as second:
        second.load(BUSY_HOST, ["usb3"])
        assert set(usb_devices()) == {"usb3"}
        second.close()
        assert usb_devices() == {}
        first.load(BUSY_HOST, ["usb4"])
        assert set(usb_devices()) == {"usb4"}


@needs_umockdev
def test_no_directory_outlives_the_process() -> None:
    child = "from usb_provider.demo.testbed import Testbed; print(Testbed.create().directory)"
    run = subprocess.run(wrap([sys.executable, "-c", child]), stdout=subprocess.PIPE, text=True, check=True)
    assert not os.path.exists(run.stdout.strip())


@needs_umockdev
def test_the_whole_host_is_there_within_seconds(testbed: Testbed) -> None:
    start = time.monotonic()
    testbed.load(BUSY_HOST)
    assert time.monotonic() - start < 10


# Devices from words


@needs_umockdev
def test_a_described_device_has_what_udev_would_say_of_it(testbed: Testbed) -> None:
    path = testbed.add(
        usb_device(
            "1050",
            "0407",
            serial="0123",
            manufacturer="Yubico",
            product="Key Two",
            port="2.4",
            devnum=7,
            interfaces=[("03", "01", "01"), ("0b", "00", "00")],
        )
    )
    assert path == "/sys/devices/pci0000:00/0000:00:14.0/usb1/1-2/1-2.4"
    device = usb_devices()["1-2.4"]
    assert device.properties["ID_SERIAL"] == "Yubico_Key_Two_0123"
    assert device.properties["ID_MODEL_ENC"] == "Key\\x20Two"
    assert device.properties["ID_USB_INTERFACES"] == ":030101:0b0000:"
    assert device.properties["DEVNUM"] == "007"
    assert device.attributes.asstring("product") == "Key Two"
    assert [parent.sys_name for parent in device.ancestors] == ["1-2", "usb1", "0000:00:14.0"]
    assert device.find_parent("pci").driver == "xhci_hcd"


@needs_umockdev
def test_a_described_device_may_have_child_nodes(testbed: Testbed) -> None:
    storage, hid = ("08", "06", "50"), ("03", "01", "01")
    text = usb_device(
        interfaces=[storage, hid], block="sdx1", filesystem="LVM2_member", holder="dm-3", net="enx1", keyboard=True
    )
    testbed.add(text)
    device = usb_devices()["1-1"]
    disk, partition = below(device, "block")
    assert (disk.device_node, partition.device_node) == ("/dev/sdx", "/dev/sdx1")
    assert partition.properties["ID_FS_TYPE"] == "LVM2_member"
    assert os.listdir(f"{partition.sys_path}/holders") == ["dm-3"]
    assert [node.sys_name for node in below(device, "net")] == ["enx1"]
    assert {node.properties["ID_INPUT_KEYBOARD"] for node in below(device, "input")} == {"1"}
    assert disk.find_parent("usb", "usb_interface").sys_name == "1-1:1.0"
    assert below(device, "hid")[0].find_parent("usb", "usb_interface").sys_name == "1-1:1.1"


@needs_umockdev
@pytest.mark.parametrize(
    ("raw", "in_sysfs", "short"),
    [
        ("A1", b"A1", "A1"),
        (" a  b/c ", b" a  b/c ", "a_b_c"),
        ("\x1b[31m\n%s\\{}\"'", b"\x1b[31m\n%s\\{}\"'", None),
        (b"\xff\xfe\x01", b"\xff\xfe\x01", None),
        ("Grün", "Grün".encode(), None),
        ("1,2", b"1,2", None),
    ],
)
def test_a_serial_may_be_any_bytes(testbed: Testbed, raw: str | bytes, in_sysfs: bytes, short: str | None) -> None:
    testbed.add(usb_device(serial=raw, manufacturer=raw, product=raw))
    device = usb_devices()["1-1"]
    for name in ("serial", "manufacturer", "product"):
        assert device.attributes.get(name) == in_sysfs
    assert device.properties.get("ID_SERIAL_SHORT") == short


@needs_umockdev
def test_many_described_devices_stand_side_by_side(testbed: Testbed) -> None:
    for number in range(20):
        testbed.add(
            usb_device(port=f"1.{number + 1}", interfaces=[("03", "01", "01")], keyboard=True, net=f"enx{number}")
        )
    assert len(usb_devices()) == 22
    testbed.unplug("1-1")
    assert set(usb_devices()) == {"usb1"}


# What goes wrong


def test_a_folder_without_recordings_is_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="umockdev-record --all"):
        Recording.read(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "hello\n", "P: /sys/devices/x\nE: SUBSYSTEM=usb\n", "P: /devices/x\nE: A=b\n", "P: /devices/x\nQ: 1\n"]
)
def test_a_file_that_is_no_recording_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "odd.umockdev").write_text(text)
    with pytest.raises(RecordingError, match=r"odd\.umockdev"):
        Recording.read(tmp_path)


def test_a_recording_of_everything_names_devices_by_their_port(tmp_path: Path) -> None:
    everything = "".join(device.text for device in reversed(list(BUSY_HOST.devices.values())))
    (tmp_path / "host.umockdev").write_text(everything)
    read = Recording.read(tmp_path)
    assert set(read.devices) == {sys_name for sys_name, *_ in DEVICES.values()}
    assert {device.sys_path for device in read.devices.values()} == {d.sys_path for d in BUSY_HOST.devices.values()}


def test_a_recording_of_one_device_with_its_hubs_names_that_device(tmp_path: Path) -> None:
    chain = ("hasp-a", "hub-desk", "usb1")
    (tmp_path / "dongle.umockdev").write_text("".join(BUSY_HOST.devices[name].text for name in chain))
    assert list(Recording.read(tmp_path).devices) == ["usb1", "1-1", "dongle"]


@needs_umockdev
def test_impossible_plugging_is_refused(testbed: Testbed) -> None:
    testbed.load(BUSY_HOST, ["hasp-a"])
    with pytest.raises(RecordingError, match="unplug it first"):
        testbed.plug("hasp-a")
    with pytest.raises(RecordingError, match="occupied"):
        testbed.plug("hasp-b", port="1-1.2")
    with pytest.raises(RecordingError, match="no hub 1-9"):
        testbed.plug("hasp-b", port="1-9.1")
    with pytest.raises(RecordingError, match="is no USB port"):
        testbed.plug("hasp-b", port="left")
    with pytest.raises(RecordingError, match="no device called nothing"):
        testbed.plug("nothing")
    with pytest.raises(RecordingError, match="No device called hasp-b"):
        testbed.unplug("hasp-b")
    with pytest.raises(RecordingError, match="no device at"):
        testbed.uevent("/sys/devices/nothing", "change")


@needs_umockdev
def test_a_name_that_is_taken_is_refused_and_does_not_end_the_process(testbed: Testbed) -> None:
    testbed.add(usb_device(port="1", net="eth7"))
    with pytest.raises(RecordingError, match="eth7 is there already"):
        testbed.add(usb_device(port="2", net="eth7"))


def test_without_umockdev_the_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(RecordingError, match=r"apt install umockdev.*dnf install umockdev"):
        wrap(["true"])


def test_without_the_preload_a_testbed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(umockdev, "is_active", lambda: False)
    with pytest.raises(RecordingError, match=r"umockdev-wrapper|apt install umockdev"):
        Testbed.create()
