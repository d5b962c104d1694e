"""The laboratory itself: what every other integration test builds on."""

import time
from collections.abc import Callable

import pytest

from tests.fixtures.placement import PlacementServer, usb_view
from tests.integration.lab import domains
from tests.integration.lab.agent import ROOT_NAME, Agent
from tests.integration.lab.vm import HostPanicked, Vm

FIRST, SECOND = f"{ROOT_NAME}_usb_46f4:0001:STICK-1", f"{ROOT_NAME}_usb_46f4:0001:STICK-2"
FREE = {"CUSTOM_USB_STORAGE": (1, 0)}


def eventually(look: Callable[[], object], wanted: object, seconds: float = 60) -> None:
    """Pass when *look* gives *wanted* within *seconds*."""
    deadline = time.monotonic() + seconds
    while (found := look()) != wanted:
        assert time.monotonic() < deadline, f"{found} after {seconds} s, not {wanted}"
        time.sleep(0.1)


def test_devices_are_plugged_and_unplugged_with_their_serials(vm: Vm) -> None:
    vm.plug("a", serial="STICK-1")
    vm.plug("b", serial="STICK-2", port="7", bus="xhci2")
    first, second = domains.host_device(vm, "STICK-1"), domains.host_device(vm, "STICK-2")
    assert (first.vendor, first.product) == (second.vendor, second.product) == ("46f4", "0001")
    assert second.sys_name.endswith("-7")
    assert set(domains.interface_drivers(vm, first).values()) == {"usb-storage"}

    vm.unplug("a")
    vm.wait_for(f"[ ! -e /sys/bus/usb/devices/{first.sys_name} ]")
    assert [device.serial for device in domains.host_devices(vm)] == ["STICK-2"]


def test_every_kind_of_device_can_be_plugged(vm: Vm) -> None:
    vm.plug("hub", "usb-hub", port="4")
    vm.plug("serial", "usb-serial", port="4.1", serial="LINE-1")
    vm.plug("reader", "usb-ccid", port="4.2")
    vm.plug("keyboard", "usb-kbd", serial="KEYS-1")
    vm.plug("network", "usb-net", serial="NET-1")
    vm.wait_for('[ "$(lsusb | grep -vc 1d6b:)" = 5 ]')
    assert {device.vendor for device in domains.host_devices(vm)} >= {"0409", "0403", "08e6", "0627"}


def test_sticks_alike_are_two_providers_and_follow_real_udev_events(vm: Vm, agent: Agent, root: str) -> None:
    def inventories() -> dict[str, object]:
        return {name: row["inventory"] for name, row in usb_view(agent.placement, root).items()}

    vm.plug("a", serial="STICK-1", port="1")
    vm.plug("b", serial="STICK-2", port="2")
    eventually(inventories, {FIRST: FREE, SECOND: FREE})
    assert len(agent.placement.candidates("resources=CUSTOM_USB_STORAGE:1")) == 2

    vm.unplug("a")
    eventually(lambda: len(agent.placement.candidates("resources=CUSTOM_USB_STORAGE:1")), 1)
    assert inventories()[SECOND] == FREE

    vm.plug("a", serial="STICK-1", port="6")
    eventually(inventories, {FIRST: FREE, SECOND: FREE})


def test_a_linux_guest_says_which_devices_it_has(vm: Vm) -> None:
    vm.plug("a", serial="STICK-1")
    domains.define(vm, domains.domain_xml("linux"))
    domains.start(vm, "linux")
    domains.wait_for_linux(vm, "linux")
    stick = domains.host_device(vm, "STICK-1")
    domains.attach(vm, "linux", stick, "ua-stick")
    domains.wait_for_console(vm, "linux", "USB+ 46f4:0001 STICK-1")
    assert domains.usb_in_guest(vm, "linux") == ["46f4:0001 STICK-1"]
    assert domains.hostdevs(vm, "linux") == [domains.Hostdev("ua-stick", "46f4", "0001", stick.bus, stick.device)]
    assert set(domains.interface_drivers(vm, stick).values()) == {"usbfs"}
    assert domains.qom_attached(vm, "linux", "ua-stick")
    assert "Device 0.0" not in domains.info_usb(vm, "linux")

    domains.detach(vm, "linux", stick, "ua-stick")
    domains.wait_for_console(vm, "linux", "USB- 46f4:0001 STICK-1")
    assert not domains.qom_attached(vm, "linux", "ua-stick")


def test_a_guest_without_a_system_takes_a_device(vm: Vm) -> None:
    vm.plug("a", serial="STICK-1")
    domains.define(vm, domains.domain_xml("empty", linux=False))
    domains.start(vm, "empty")
    domains.attach(vm, "empty", domains.host_device(vm, "STICK-1"))
    assert len(domains.hostdevs(vm, "empty")) == 1


def test_the_host_reboots_and_the_agent_comes_back(vm: Vm, agent: Agent, root: str, placement: PlacementServer) -> None:
    vm.plug("a", serial="STICK-1")
    eventually(lambda: list(usb_view(placement, root)), [FIRST])
    before = placement.requests.copy()
    vm.reboot()
    vm.wait_for("systemctl is-active usb-provider-agent", 120)
    eventually(lambda: len(placement.requests) > len(before), True, 120)
    assert usb_view(placement, root)[FIRST]["inventory"] == FREE


def test_a_host_whose_kernel_panics_is_revived_with_what_was_installed(vm: Vm, installed: Vm) -> None:
    with pytest.raises(HostPanicked):
        vm.ssh("echo c > /proc/sysrq-trigger", timeout=15)
    vm.revive()
    assert not vm.has_panicked
    assert vm.ssh("usb-provider --version")


def test_a_host_whose_login_ends_is_not_lost(vm: Vm, installed: Vm) -> None:
    vm.ssh("pkill -9 -f '^sshd: root'", check=False)
    assert not vm.is_lost
    assert vm.ssh("usb-provider --version")


def test_a_host_that_hangs_is_revived_with_what_was_installed(vm: Vm, installed: Vm) -> None:
    vm.plug("a", serial="STICK-1")
    assert not vm.is_lost
    vm.qmp("stop")  # and not freeze(), which says that a test wants it
    assert vm.is_lost
    vm.revive()
    assert not vm.is_lost
    assert vm.ssh("usb-provider --version")
    vm.plug("a", serial="STICK-1")
