"""What of a device the host uses itself: the files of /proc, and what hangs below the device."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fixtures.builders import CCID, KEYBOARD, STICK, a_device
from tests.fixtures.hostile import any_text
from usb_provider.host.storage import spellings
from usb_provider.host.usage import HostUsage, btrfs_devices, parse_mountinfo, parse_routes, parse_swaps
from usb_provider.model.devices.device import HostUse, Triplet, UsbDevice, UseKind

MOUSE: Triplet = ("03", "01", "02")
FIDO: Triplet = ("03", "00", "00")

MOUNTINFO = """\
22 28 0:21 / /proc rw,nosuid - proc proc rw
28 1 253:0 / / rw,relatime shared:1 - ext4 /dev/mapper/vg0-root rw
36 28 8:17 / /mnt/back\\040up rw,noatime shared:1 master:2 - ext4 /dev/sdb1 rw,errors=continue
37 28 8:17 /sub /srv rw shared:1 - ext4 /dev/sdb1 rw
40 28 0:45 /@ /data rw - btrfs /dev/sdc1 rw,subvol=/@
"""
SWAPS = """\
Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority
/dev/sdd2                               partition\t8388604\t\t0\t\t-2
/var/swap\\040file\t\t\t\tfile\t\t1048572\t\t0\t\t-3
"""
ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
enx00\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth1\t0002A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
down0\t00000000\t0102A8C0\t0002\t0\t0\t100\t00000000\t0\t0\t0
half0\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000080\t0\t0\t0
"""
ROUTES6 = f"""\
{"0" * 32} 00 {"0" * 32} 00 {"fe80" + "0" * 27 + "1"} 00000400 00000001 00000000 00000003     wwan0
fe80{"0" * 28} 40 {"0" * 32} 00 {"0" * 32} 00000100 00000001 00000000 00000001     eth1
{"0" * 32} 00 {"0" * 32} 00 {"0" * 32} ffffffff 00000001 00000000 00200200       lo
"""


def kinds(device: UsbDevice, *below: tuple[str, str, dict[str, str]], usage: HostUsage | None = None) -> list[UseKind]:
    return [use.kind for use in (usage or HostUsage()).of(device, {}, below)]


def a_disk(**properties: str) -> tuple[str, str, dict[str, str]]:
    return "block", "/sys/devices/usb1/1-2/block/sdb/sdb1", {"MAJOR": "8", "MINOR": "17", **properties}


a_stick = a_device(vendor_id="46f4", product_id="0001", interfaces=(STICK,))


def test_mounts_are_found_by_number_and_by_path_and_named_by_their_first_place() -> None:
    assert parse_mountinfo(MOUNTINFO) == {
        "0:21": "/proc",
        "253:0": "/",
        "/dev/mapper/vg0-root": "/",
        "8:17": "/mnt/back up",
        "/dev/sdb1": "/mnt/back up",
        "0:45": "/data",
        "/dev/sdc1": "/data",
    }


@given(st.one_of(any_text, st.text(" -/:0123456789\\\n"), st.text().map(lambda text: f"36 35 8:17 / {text} - ext4 x")))
def test_lines_of_another_form_than_mountinfos_are_left_out(text: str) -> None:
    parse_mountinfo(text)
    parse_swaps(text)
    parse_routes(text, text)


escapable = st.text(st.characters(exclude_characters="\0\n", exclude_categories=["Cs"]), min_size=1)


def escaped(path: str) -> str:
    """Give *path* as the kernel writes it."""
    return "".join(f"\\{ord(char):03o}" if char in " \t\n\\#" else char for char in path)


@given(escapable)
@example("/media/\u2028label\x85\r\x0b\x0c\x1c")
@example("/media/a - b")
@example("/media/\\040")
@example("-")
def test_a_disk_is_found_mounted_whatever_its_label_put_into_the_mount_point(where: str) -> None:
    line = f"36 35 8:17 / {escaped(where)} rw shared:1 - vfat /dev/sdb1 rw\n"
    assert parse_mountinfo(line)["8:17"] == where


@given(escapable.map(lambda name: f"/{name}"))
@example("/dev/\u2028\x85")
def test_swap_is_found_whatever_its_path(path: str) -> None:
    assert parse_swaps(f"Filename\tType\tSize\tUsed\tPriority\n{escaped(path)} \tfile\t\t1\t0\t-2\n") == {path}


def test_swap_is_listed_without_its_header() -> None:
    assert parse_swaps(SWAPS) == {"/dev/sdd2", "/var/swap file"}
    assert parse_swaps("") == frozenset()


def test_only_an_interface_with_a_default_route_that_is_up_carries_it() -> None:
    assert parse_routes(ROUTES, ROUTES6) == {"enx00", "wwan0"}
    assert parse_routes("", "") == frozenset()


def test_a_carriage_return_in_a_mount_point_hides_no_mount() -> None:
    usage = HostUsage(mounts=parse_mountinfo("36 35 8:17 / /mnt/a\rb rw - ext4 /dev/sdb1 rw\n"))
    assert kinds(a_stick, a_disk(), usage=usage) == [UseKind.MOUNTED]


@pytest.mark.parametrize("source", ["8:17", "/dev/sdb1", "/dev/disk/by-uuid/1234", "/dev/disk/by-label/x"])
def test_a_disk_that_is_mounted_by_number_name_or_link_is_in_use(source: str) -> None:
    links = "/dev/disk/by-uuid/1234 /dev/disk/by-label/x"
    usage = HostUsage(mounts={source: "/mnt"})
    (use,) = usage.of(a_stick, {}, [a_disk(DEVLINKS=links, DEVNAME="/dev/sdb1")])
    assert use.kind is UseKind.MOUNTED
    assert use.what == "sdb1 is mounted on /mnt"


def test_each_disk_of_a_mounted_filesystem_of_several_is_in_use(tmp_path: Path) -> None:
    devices = tmp_path / "3f2c7d0a-6a5e-4b39-8f2e-1f0c5b7b9c11" / "devices"
    for name in ("sda1", "sdb1"):
        (devices / name).mkdir(parents=True)
    (tmp_path / "features").mkdir()
    assert kinds(a_stick, a_disk(), usage=HostUsage(spans=btrfs_devices(tmp_path))) == [UseKind.MOUNTED]
    assert btrfs_devices(tmp_path / "no btrfs") == frozenset()
    mounts = parse_mountinfo("36 35 0:45 / /mnt rw - bcachefs /dev/sda1:/dev/sdb1 rw\n")
    assert kinds(a_stick, a_disk(), usage=HostUsage(mounts=mounts)) == [UseKind.MOUNTED]


def test_a_disk_that_nothing_uses_is_free() -> None:
    usage = HostUsage(mounts={"8:18": "/mnt", "/dev/sdb2": "/mnt"}, swaps={"/dev/sdc"})
    assert kinds(a_stick, a_disk(ID_FS_TYPE="vfat", ID_FS_USAGE="filesystem"), usage=usage) == []
    assert kinds(a_stick) == []


def test_swap_on_a_stick_is_in_use() -> None:
    assert kinds(a_stick, a_disk(), usage=HostUsage(swaps=["/dev/sdb1"])) == [UseKind.SWAP]
    linked = a_disk(DEVNAME="/dev/sdb1", DEVLINKS="/dev/disk/by-id/x")
    assert kinds(a_stick, linked, usage=HostUsage(swaps=["/dev/disk/by-id/x"])) == [UseKind.SWAP]


def test_a_disk_that_holds_a_volume_group_or_array_up_is_in_use(tmp_path: Path) -> None:
    (tmp_path / "sdb1" / "holders" / "dm-3").mkdir(parents=True)
    (use,) = HostUsage().of(a_stick, {}, [("block", str(tmp_path / "sdb1"), {})])
    assert use.kind is UseKind.HELD
    assert use.what == "sdb1 is held by dm-3"
    assert use.certain


@pytest.mark.parametrize(
    "signature",
    [
        {"ID_FS_TYPE": "LVM2_member", "ID_FS_USAGE": "raid"},
        {"ID_FS_TYPE": "linux_raid_member", "ID_FS_USAGE": "raid"},
        {"ID_FS_TYPE": "zfs_member"},
        {"ID_FS_TYPE": "swap", "ID_FS_USAGE": "other"},
        {"ID_FS_TYPE": "ceph_bluestore", "ID_FS_USAGE": "other"},
        {"ID_FS_TYPE": "bcache"},
        {"ID_FS_TYPE": "jbd", "ID_FS_USAGE": "other"},
        {"ID_FS_TYPE": "xfs_external_log"},
        {"ID_FS_TYPE": "swsuspend"},
        {"ID_FS_TYPE": "something_new", "ID_FS_USAGE": "other"},
        {"ID_FS_TYPE": "crypto_LUKS", "ID_FS_USAGE": "crypto", "ID_FS_SUBSYSTEM": "ceph_fsid=1 osd_id=2"},
        {"ID_PART_ENTRY_TYPE": "45b0969e-9b03-4f30-b4c6-b4b80ceff106"},
        {"USB_PROVIDER_FS_TYPE": "LVM2_member", "ID_FS_USAGE": ""},
    ],
)
def test_a_signature_on_the_medium_says_what_it_is_meant_for_and_is_no_certain_use(signature: dict[str, str]) -> None:
    (use,) = HostUsage().of(a_stick, {}, [a_disk(**signature)])
    assert use.kind is UseKind.MEMBER
    assert not use.certain


@pytest.mark.parametrize("name", ["vfat", "ext4", "iso9660", "crypto_LUKS", "BitLocker"])
def test_a_file_system_that_a_host_does_not_use_by_itself_is_none_of_its_business(name: str) -> None:
    assert kinds(a_stick, a_disk(ID_FS_TYPE=name, ID_FS_USAGE="filesystem" if name[0].islower() else "crypto")) == []


def test_a_signature_is_the_same_whatever_the_kernel_calls_the_disk() -> None:
    def mark(path: str, uuid: str) -> str:
        properties = {"ID_FS_TYPE": "LVM2_member", "ID_FS_UUID": uuid}
        (use,) = HostUsage().of(a_stick, {}, [("block", path, properties)])
        return use.mark

    assert mark("/sys/block/sdb", "one") == mark("/sys/block/sdc", "one") != mark("/sys/block/sdc", "two")


@pytest.mark.parametrize(
    ("file", "properties"),
    [
        ("/dev/sdb1", {}),
        ("UUID=AB12-CD34", {"ID_FS_UUID": "ab12-cd34"}),
        ("/dev/disk/by-uuid/AB12-CD34", {"ID_FS_UUID": "AB12-CD34"}),
        ("LABEL=back up", {"ID_FS_LABEL_ENC": "back\\x20up"}),
        ("PARTUUID=0001", {"ID_PART_ENTRY_UUID": "0001"}),
        ("/dev/disk/by-id/usb-x", {"DEVLINKS": "/dev/disk/by-id/usb-x"}),
    ],
)
def test_a_disk_that_a_file_of_the_host_names_is_in_use_though_it_is_not_mounted(
    file: str, properties: dict[str, str]
) -> None:
    named = dict.fromkeys(spellings(file), "/etc/fstab")
    (use,) = HostUsage(named=lambda: named).of(a_stick, {}, [a_disk(**properties)])
    assert use == HostUse(UseKind.NAMED, "sdb1 is a disk that /etc/fstab names")
    assert HostUsage(named=lambda: named).of(a_stick, {}, [("block", "/sys/block/sdz", {})]) == ()


def test_an_adapter_with_any_address_or_route_is_in_use() -> None:
    adapter = a_device(vendor_id="0bda", product_id="8153", drivers=("r8152",), interfaces=(("ff", "ff", "00"),))
    (use,) = HostUsage(networks={"enx0": "has a route"}).of(adapter, {}, [("net", "/sys/none/net/enx0", {})])
    assert use == HostUse(UseKind.NETWORK, "network interface enx0 has a route")
    assert kinds(adapter, ("net", "/sys/none/net/enx0", {})) == []


def test_an_adapter_whose_interface_went_to_another_network_namespace_is_in_use(tmp_path: Path) -> None:
    adapter = a_device(drivers=("cdc_ncm",))
    assert kinds(adapter) == [UseKind.NAMESPACE]
    (tmp_path / "1-2" / "1-2:1.0" / "net").mkdir(parents=True)
    wireless = a_device(drivers=("mt76x2u",), sys_path=str(tmp_path / "1-2"))
    assert kinds(wireless) == [UseKind.NAMESPACE]
    assert kinds(dataclasses.replace(wireless, drivers=("usbfs",))) == []


def test_a_serial_port_in_use_is_a_use_of_its_device() -> None:
    console = HostUse(UseKind.TERMINAL, "ttyUSB0 is a console of this host")
    usage = HostUsage(terminals={a_device("1-8").sys_path: [console]})
    assert usage.of(a_device("1-8"), {}, []) == (console,)
    assert usage.of(a_device("1-9"), {}, []) == ()


def test_the_interface_with_the_default_route_is_in_use_and_another_is_not() -> None:
    usage = HostUsage(default_routes={"enx00"})
    adapter = a_device(vendor_id="0bda", product_id="8153", interfaces=(("ff", "ff", "00"),))
    assert kinds(adapter, ("net", "/sys/none/net/enx00", {}), usage=usage) == [UseKind.DEFAULT_ROUTE]
    assert kinds(adapter, ("net", "/sys/none/net/enx01", {}), usage=usage) == []


@pytest.mark.parametrize("upper", ["master", "upper_br-ex", "upper_vlan7"])
def test_an_interface_below_a_bridge_bond_or_vlan_is_in_use(tmp_path: Path, upper: str) -> None:
    (tmp_path / "enx00").mkdir()
    (tmp_path / "enx00" / upper).symlink_to(tmp_path)
    assert kinds(a_device(), ("net", str(tmp_path / "enx00"), {})) == [UseKind.ENSLAVED]


def test_a_keyboard_is_the_consoles() -> None:
    plain = a_device(vendor_id="046d", product_id="c31c", interfaces=(KEYBOARD, MOUSE))
    assert kinds(plain) == [UseKind.CONSOLE_KEYBOARD]


def test_what_udev_calls_a_keyboard_is_one_though_its_interfaces_do_not_say_so() -> None:
    receiver = a_device(vendor_id="046d", product_id="c52b", interfaces=(FIDO, MOUSE))
    assert kinds(receiver) == []
    assert kinds(receiver, ("input", "/sys/none/input5", {"ID_INPUT_KEYBOARD": "1"})) == [UseKind.CONSOLE_KEYBOARD]
    assert kinds(receiver, ("input", "/sys/none/input5", {"ID_INPUT_MOUSE": "1"})) == []


@pytest.mark.parametrize(
    ("vendor", "product", "interfaces"),
    [
        ("1050", "0407", (KEYBOARD, FIDO, CCID)),
        ("1050", "0010", (KEYBOARD,)),
        ("1050", "0401", (KEYBOARD,)),
        ("1d50", "60fc", (KEYBOARD, FIDO)),
        ("20a0", "4108", (KEYBOARD, CCID)),
    ],
)
def test_a_security_key_that_types_is_not_the_consoles_keyboard(
    vendor: str, product: str, interfaces: tuple[Triplet, ...]
) -> None:
    key = a_device(vendor_id=vendor, product_id=product, interfaces=interfaces)
    typed = ("input", "/sys/none/input5", {"ID_INPUT_KEYBOARD": "1"})
    assert kinds(key, typed) == []


@pytest.mark.parametrize("slot", [CCID, STICK, ("ff", "00", "00")])
def test_a_keyboard_with_a_card_slot_is_a_keyboard_of_the_console(slot: Triplet) -> None:
    assert kinds(a_device(vendor_id="413c", product_id="2101", interfaces=(KEYBOARD, slot))) == [
        UseKind.CONSOLE_KEYBOARD
    ]


@pytest.mark.parametrize("name", ["ID_FIDO_TOKEN", "ID_SECURITY_TOKEN"])
def test_a_key_of_a_maker_that_no_list_has_is_known_by_udevs_word(name: str) -> None:
    key = a_device(vendor_id="abcd", product_id="f1d0", interfaces=(KEYBOARD, FIDO))
    typed = ("input", "/sys/none/input5", {"ID_INPUT_KEYBOARD": "1"})
    assert kinds(key, typed) == [UseKind.CONSOLE_KEYBOARD]
    assert kinds(key, typed, ("hidraw", "/sys/none/hidraw0", {name: "1"})) == []


def test_a_headset_whose_buttons_are_keys_is_not_a_keyboard_by_its_interfaces_alone() -> None:
    headset = a_device(vendor_id="046d", product_id="0a29", interfaces=(("01", "01", "00"), KEYBOARD))
    assert kinds(headset) == []


def test_a_keyboard_that_no_driver_of_the_host_reads_is_not_the_consoles() -> None:
    plain = a_device(vendor_id="046d", product_id="c31c", interfaces=(KEYBOARD,))
    for driver, use in (
        ("usbhid", [UseKind.CONSOLE_KEYBOARD]),
        ("usbkbd", [UseKind.CONSOLE_KEYBOARD]),
        ("usbfs", []),
        ("vfio-usb", []),
        (None, []),
    ):
        assert [each.kind for each in HostUsage().of(plain, {KEYBOARD: driver}, [])] == use


@given(any_text, any_text, any_text)
def test_what_is_said_of_a_use_is_printable(where: str, kind: str, label: str) -> None:
    usage = HostUsage(mounts={"8:17": where})
    properties = {"ID_FS_TYPE": f"{kind}_member", "ID_FS_LABEL": label}
    for use in usage.of(a_stick, {}, [a_disk(**properties)]):
        assert use.what.isprintable()


def test_the_uses_of_this_very_host_can_be_read() -> None:
    usage = HostUsage.read()
    assert all(where.startswith("/") for where in usage.mounts.values())
