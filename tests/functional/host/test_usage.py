"""What the host itself uses is found, on a replayed host, with the real libudev."""

import pytest

from tests.fixtures.testbed import needs_umockdev, testbed
from tests.functional.host.looking import KEYBOARD, STICK, kinds, uses
from usb_provider.demo.description import usb_device
from usb_provider.demo.testbed import Testbed
from usb_provider.model.devices.device import HostUse, UseKind

__all__ = ["testbed"]

pytestmark = needs_umockdev

ROUTES = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
DEFAULT_ROUTE = ROUTES + "enx0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
NO_DEFAULT_ROUTE = ROUTES + "enx0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n"
IPV6_ROUTE = "{} 00 {} 00 00000000000000000000000000000000 00000400 00000001 00000000 {}     enx0\n"
ZERO, LINK_LOCAL = "0" * 32, "fe80" + "0" * 28


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
    assert (HostUse(UseKind.DEFAULT_ROUTE, what) in uses()) is carries


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
