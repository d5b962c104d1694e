"""The doctor beside real libvirt, udev and systemd: nothing is wrong where nothing is, and each fault has its name."""

import json
from typing import Any

import pytest

from tests.integration.lab.agent import UNIT
from tests.integration.lab.cloud import Cloud

HOOK = "/etc/libvirt/hooks/qemu.d/usb-provider"


def diagnosis(cloud: Cloud) -> dict[str, dict[str, Any]]:
    """The doctor's findings by check."""
    found = json.loads(cloud.vm.ssh("usb-provider doctor --json || true", timeout=180))
    return {row["check"]: row for row in found}


def test_a_compute_node_with_nothing_wrong_gets_a_clean_bill(cloud: Cloud) -> None:
    cloud.claim("vm", cloud.stick("STICK-1"))
    cloud.boot("vm")
    cloud.comes_to_have("vm", "STICK-1")
    found = diagnosis(cloud)
    assert {check: row for check, row in found.items() if row["result"] == "wrong"} == {}
    for check in (
        "libvirt",
        "hook",
        "hook loaded",
        "socket",
        "udev",
        "stale hostdevs",
        "dead hostdevs",
        "waiting guests",
    ):
        assert found[check]["result"] == "ok", found[check]


@pytest.mark.parametrize(
    ("spoil", "check", "mend"),
    [
        (f"chmod a-x {HOOK}", "hook", f"chmod a+x {HOOK}"),
        (f"mv {HOOK} /root/", "hook", f"mv /root/usb-provider {HOOK}"),
        (f"touch {HOOK}", "hook loaded", "systemctl restart libvirtd"),
        (f"systemctl stop {UNIT}", "socket", f"systemctl start {UNIT}"),
        (
            "systemctl stop libvirtd libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket",
            "libvirt",
            "systemctl start libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd",
        ),
    ],
)
def test_each_fault_is_named_with_what_to_do(cloud: Cloud, spoil: str, check: str, mend: str) -> None:
    cloud.vm.ssh(spoil, timeout=120)
    try:
        row = diagnosis(cloud)[check]
        assert row["result"] in ("wrong", "warning"), row
        assert row["advice"], row
    finally:
        cloud.vm.ssh(mend, timeout=120)
        cloud.vm.wait_for("virsh list >/dev/null")


def test_a_socket_that_was_deleted_is_there_again_in_seconds(cloud: Cloud) -> None:
    cloud.claim("vm", cloud.stick("STICK-1"))
    cloud.vm.ssh("rm /run/usb-provider/hook.sock")
    cloud.vm.wait_for("[ -S /run/usb-provider/hook.sock ]", 5)
    assert diagnosis(cloud)["socket"]["result"] == "ok"
    cloud.boot("vm")
    cloud.comes_to_have("vm", "STICK-1")


def test_a_device_that_the_kernel_keeps_off_is_named(cloud: Cloud) -> None:
    switch = "for bus in /sys/bus/usb/devices/usb*; do echo {} > $bus/authorized_default; done"
    cloud.vm.ssh(switch.format(0))
    try:
        cloud.vm.plug("STICK-1", serial="STICK-1")
        cloud.vm.wait_for("grep -qx 0 /sys/bus/usb/devices/*-*/authorized")
        row = diagnosis(cloud)["authorized_default"]
        assert row["result"] == "warning" and row["advice"], row
    finally:
        cloud.vm.ssh(switch.format(1))


def test_a_guest_without_a_usb_controller_and_a_stale_hostdev_are_named(cloud: Cloud) -> None:
    cloud.claim("vm", cloud.stick("STICK-1"))
    cloud.boot("vm")
    cloud.comes_to_have("vm", "STICK-1")
    cloud.vm.ssh(f"systemctl stop {UNIT}")  # it would mend it at once
    cloud.vm.unplug("STICK-1")
    found = diagnosis(cloud)
    assert found["stale hostdevs"]["result"] in ("wrong", "warning"), found["stale hostdevs"]
    assert "vm" in found["stale hostdevs"]["found"]
    cloud.agent.start()
    cloud.comes_to_have("vm")


def test_it_is_done_within_a_minute_even_when_placement_does_not_answer(cloud: Cloud) -> None:
    cloud.agent.configure(options={"placement": {"endpoint": "http://10.0.2.99:8778"}})
    found = diagnosis(cloud)
    assert found["placement"]["result"] == "wrong", found["placement"]
    assert found["libvirt"]["result"] == "ok", found["libvirt"]
