"""Which devices a guest's USB 1.1 controller takes: all that a guest of Nova before 32 has on x86_64."""

from tests.integration.lab import domains
from tests.integration.lab.cloud import Cloud
from tests.integration.lab.machine import USB_2_PORT
from tests.integration.lab.report import eventually


def reads(cloud: Cloud, serial: str) -> int:
    """How many requests the disk *serial* has answered since it was plugged in, by the QEMU that emulates it."""
    found = cloud.vm.qmp("query-blockstats")
    return sum(each["stats"]["rd_operations"] for each in found if serial in each.get("qdev", ""))


def test_a_high_speed_disk_works_on_a_usb_1_controller(cloud: Cloud) -> None:
    cloud.claim("vm", cloud.stick("STICK-1", port=USB_2_PORT))
    stick = domains.host_device(cloud.vm, "STICK-1")
    assert cloud.vm.ssh(f"cat /sys/bus/usb/devices/{stick.sys_name}/speed").strip() == "480"
    before = reads(cloud, "STICK-1")
    cloud.boot("vm", linux=True, usb_model="piix3-uhci")
    cloud.comes_to_have("vm", "STICK-1")
    domains.wait_for_linux(cloud.vm, "vm")
    eventually(lambda: domains.usb_in_guest(cloud.vm, "vm"), ["46f4:0001 STICK-1"], 120)
    eventually(lambda: reads(cloud, "STICK-1") > before, True, 120)
