"""What a guest holds it has again, and alive, after everything that can happen to guest, agent, libvirt and host."""

import pytest

from tests.fixtures.healed import Healed
from tests.integration.lab import domains
from tests.integration.lab.cloud import Cloud
from tests.integration.lab.report import eventually

STEPS = ["before attach", "during attach", "after attach", "before detach", "during detach", "after detach"]


@pytest.mark.parametrize("step", STEPS)
def test_a_killed_agent_leaves_one_hostdev_the_right_one(cloud: Cloud, healed: Healed, step: str) -> None:
    """The agent kills itself with SIGKILL at one step; its successor finds what is there."""
    when, what = step.split()
    cloud.claim("vm", cloud.stick("STICK-1", port="2"))
    cloud.stick("STICK-2", port="3")
    cloud.agent.stop()
    die = "os.kill(os.getpid(), 9)"
    cloud.agent.run_with(
        f"real = LibvirtHost.{what}\n"
        "def wrapped(*words):\n"
        + (f"    threading.Timer(0.15, lambda: {die}).start()\n" if when == "during" else "")
        + (f"    {die}\n" if when == "before" else "")
        + "    result = real(*words)\n"
        + ("    time.sleep(5)\n" if when == "during" else "")
        + (f"    {die}\n" if when == "after" else "")
        + "    return result\n"
        + f"LibvirtHost.{what} = wrapped\n"
    )
    cloud.boot("vm")
    if what == "detach":
        cloud.comes_to_have("vm", "STICK-1")
        cloud.vm.unplug("STICK-1")
        cloud.vm.plug("STICK-1", serial="STICK-1", port="2")
    cloud.vm.wait_for("! systemctl is-active --quiet usb-provider-try", 60)
    with healed.within(f"the agent is killed {step}, and started again"):
        cloud.agent.start()
        cloud.comes_to_have("vm", "STICK-1")


@pytest.mark.core
def test_libvirtd_restarts_and_everything_goes_on(cloud: Cloud, healed: Healed) -> None:
    cloud.claim("vm", cloud.stick("STICK-1", port="2"))
    cloud.boot("vm")
    cloud.comes_to_have("vm", "STICK-1")
    cloud.vm.ssh("systemctl restart libvirtd")
    cloud.vm.wait_for("virsh list >/dev/null")
    assert domains.is_running(cloud.vm, "vm")
    cloud.comes_to_have("vm", "STICK-1")
    cloud.vm.unplug("STICK-1")
    with healed.within("libvirtd is restarted; then a device is plugged in again"):
        cloud.vm.plug("STICK-1", serial="STICK-1", port="2")
        cloud.comes_to_have("vm", "STICK-1")
    # Events of the new connection work, too: a start is noticed without a resync.
    cloud.claim("late", cloud.stick("STICK-2", port="3"))
    cloud.boot("late")
    cloud.comes_to_have("late", "STICK-2")


def test_libvirtd_restarts_while_the_agent_is_down_and_no_guest_is_lost(cloud: Cloud) -> None:
    cloud.claim("vm", cloud.stick("STICK-1"))
    cloud.boot("vm")
    cloud.comes_to_have("vm", "STICK-1")
    cloud.agent.stop()
    cloud.vm.ssh("rm -f /run/usb-provider/hook.sock; systemctl restart libvirtd")
    cloud.vm.wait_for("virsh list >/dev/null")
    assert domains.is_running(cloud.vm, "vm")
    cloud.agent.start()
    cloud.comes_to_have("vm", "STICK-1")


@pytest.mark.parametrize("deed", ["reset", "destroy and start", "managedsave and start", "suspend and resume"])
def test_a_guest_has_its_stick_again_and_alive(cloud: Cloud, healed: Healed, deed: str) -> None:
    cloud.claim("vm", cloud.stick("STICK-1"))
    cloud.boot("vm")
    cloud.comes_to_have("vm", "STICK-1")
    for verb in deed.split(" and "):
        domains.virsh(cloud.vm, verb, "vm", timeout=300)
    eventually(lambda: domains.is_running(cloud.vm, "vm"), True)
    with healed.within(f"{deed} of a guest: it has its device again"):
        cloud.comes_to_have("vm", "STICK-1")
    cloud.vm.ssh("sleep 5")
    cloud.comes_to_have("vm", "STICK-1", seconds=10)


def test_a_guest_with_no_port_to_spare_is_restored_with_all_that_it_has(cloud: Cloud) -> None:
    serials = [f"STICK-{number}" for number in range(1, 5)]
    cloud.claim("vm", *(cloud.stick(serial) for serial in serials))
    cloud.boot("vm")
    cloud.comes_to_have("vm", *serials)
    domains.virsh(cloud.vm, "managedsave", "vm", timeout=300)
    domains.start(cloud.vm, "vm")
    cloud.comes_to_have("vm", *serials)


def test_a_guest_whose_qemu_hangs_holds_up_no_other(cloud: Cloud) -> None:
    cloud.boot("sick", extra_specs={})
    cloud.claim("vm", cloud.stick("STICK-1", port="2"))
    cloud.boot("vm")
    cloud.comes_to_have("vm", "STICK-1")
    cloud.vm.ssh("pkill -STOP -f guest=sick")
    try:
        # Somebody waits for it, and has libvirt's lock of it meanwhile.
        cloud.vm.ssh("virsh qemu-monitor-command sick --hmp 'info status' </dev/null >/dev/null 2>&1 & sleep 3")
        cloud.vm.unplug("STICK-1")
        cloud.vm.plug("STICK-1", serial="STICK-1", port="3")
        cloud.comes_to_have("vm", "STICK-1", seconds=20)
    finally:
        cloud.vm.ssh("pkill -CONT -f guest=sick")


@pytest.mark.core
def test_a_saved_guest_whose_stick_has_another_number_by_then_is_restored_with_it(cloud: Cloud) -> None:
    cloud.claim("vm", cloud.stick("STICK-1", port="2"))
    cloud.boot("vm")
    cloud.comes_to_have("vm", "STICK-1")
    domains.virsh(cloud.vm, "managedsave", "vm", timeout=300)
    cloud.vm.unplug("STICK-1")
    cloud.vm.plug("STRANGER", serial="STRANGER", port="2")
    cloud.vm.plug("STICK-1", serial="STICK-1", port="3")
    domains.host_device(cloud.vm, "STICK-1")
    eventually(lambda: cloud.schedulable("STICK-1"), True)
    domains.start(cloud.vm, "vm")
    cloud.comes_to_have("vm", "STICK-1")


@pytest.mark.parametrize("agents", ["sleeps", "is restarted"])
def test_a_stick_without_a_driver_is_back_at_its_old_number_and_works_in_the_guest(cloud: Cloud, agents: str) -> None:
    """The controller is reset while the agent does not look; the host has no driver that would show what is dead."""
    vm = cloud.vm
    xhci = "/sys/bus/pci/drivers/xhci_hcd"
    reset = f"echo 0000:00:04.0 > {xhci}/unbind && echo 0000:00:04.0 > {xhci}/bind"
    quirks = "/sys/module/usb_storage/parameters/quirks"
    vm.ssh(f"modprobe usb_storage; echo 46f4:0001:i > {quirks}")  # usb-storage leaves the sticks alone
    try:
        provider = cloud.stick("STICK-1", port="2")
        # The bus counts from the beginning again, so the stick has from now on the same number after each reset.
        vm.ssh(reset)
        before = domains.host_device(vm, "STICK-1")
        assert set(domains.interface_drivers(vm, before).values()) == {""}
        eventually(lambda: cloud.schedulable("STICK-1"), True)
        cloud.claim("vm", provider)
        cloud.boot("vm")
        cloud.comes_to_have("vm", "STICK-1")
        if agents == "sleeps":
            vm.ssh("systemctl kill --signal=STOP usb-provider-agent")
        else:
            cloud.agent.stop()
        vm.ssh(reset)
        assert domains.host_device(vm, "STICK-1") == before
        # QEMU itself notices nothing as long as the guest sends nothing to the stick.
        if agents == "sleeps":
            vm.ssh("systemctl kill --signal=CONT usb-provider-agent")
        else:
            cloud.agent.start()
        reason = "the device was plugged in again, or its controller was reset"
        eventually(lambda: [entry["reason"] for entry in cloud.audit("detach")], [reason])
        cloud.comes_to_have("vm", "STICK-1")
    finally:
        vm.ssh(f"systemctl kill --signal=CONT usb-provider-agent; echo > {quirks}", check=False)


def test_a_linux_guest_can_use_its_stick_after_a_restore(cloud: Cloud) -> None:
    cloud.claim("linux", cloud.stick("STICK-1"))
    cloud.boot("linux", linux=True)
    domains.wait_for_linux(cloud.vm, "linux")
    domains.wait_for_console(cloud.vm, "linux", "USB+ 46f4:0001 STICK-1")
    domains.virsh(cloud.vm, "managedsave", "linux", timeout=600)
    domains.start(cloud.vm, "linux")
    cloud.comes_to_have("linux", "STICK-1")
    stick = domains.host_device(cloud.vm, "STICK-1")
    # The guest's own driver has it: QEMU claims an interface when the guest configures the device.
    eventually(lambda: set(domains.interface_drivers(cloud.vm, stick).values()), {"usbfs"}, 60)
    # And it gave the device an address. Its console says nothing after a restore, so this is how it shows.
    eventually(lambda: "Device 0.0" in domains.info_usb(cloud.vm, "linux"), False, 60)


@pytest.mark.core
def test_the_host_reboots_and_the_guest_has_its_stick_again(cloud: Cloud) -> None:
    cloud.claim("vm", cloud.stick("STICK-1"))
    cloud.boot("vm")
    cloud.comes_to_have("vm", "STICK-1")
    cloud.vm.reboot()
    cloud.vm.wait_for("systemctl is-active usb-provider-agent", 120)
    cloud.vm.wait_for("virsh list >/dev/null", 120)
    eventually(lambda: cloud.schedulable("STICK-1"), True, 120)
    domains.start(cloud.vm, "vm")
    cloud.comes_to_have("vm", "STICK-1", seconds=120)
