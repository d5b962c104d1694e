"""Live migration between two hosts: the guest ends up with what it holds at the destination, alive, and no more."""

import contextlib
import re
import time
from collections.abc import Iterator

import pytest

from tests.integration.lab import domains
from tests.integration.lab.pair import Pair
from tests.integration.lab.report import eventually

RESTART_LIBVIRTD = "systemctl restart libvirtd && until virsh list >/dev/null 2>&1; do sleep 0.3; done"


def one_stick_each(pair: Pair, *, linux: bool = False, port: str | None = None) -> tuple[str, str]:
    """Start the guest "vm" with the source's stick HERE-1; gives its provider, and that of THERE-1 at the other."""
    here, there = pair.source.stick("HERE-1", port=port), pair.destination.stick("THERE-1", bus="xhci2")
    pair.source.claim("vm", here)
    pair.source.boot("vm", linux=linux)
    pair.source.comes_to_have("vm", "HERE-1")
    return here, there


def migrate_slowly(pair: Pair, megabytes_a_second: int) -> None:
    """Begin to migrate "vm" and return while it is under way; :func:`how_it_ended` waits for its end."""
    pair.source.vm.ssh(f"rm -f /tmp/migrate.rc; virsh --quiet migrate-setspeed vm {megabytes_a_second}")
    command = f"{pair.prepare('vm')} >/tmp/migrate.log 2>&1; echo $? >/tmp/migrate.rc"
    pair.source.vm.ssh(f"({command}) </dev/null >/dev/null 2>&1 &")
    pair.destination.vm.wait_for("virsh domstate vm | grep -q paused")
    pair.source.vm.wait_for("virsh domjobinfo vm | grep -q 'Memory processed'")


def begin_move(pair: Pair, megabytes_a_second: int) -> tuple[str, str]:
    """Give HERE-1's provider and the migration, once the Linux guest "vm" is on its way from HERE-1 to THERE-1."""
    here, there = one_stick_each(pair, linux=True)
    migration = pair.claim_move("vm", [here], [there])
    migrate_slowly(pair, megabytes_a_second)
    return here, migration


@contextlib.contextmanager
def moving(pair: Pair) -> Iterator[None]:
    """Within the block "vm" is on its way; then it has arrived, and nova has given HERE-1 back."""
    _, migration = begin_move(pair, 4)
    yield
    assert how_it_ended(pair).startswith("0")
    pair.source.placement.release(migration)


def how_it_ended(pair: Pair) -> str:
    """Give what the slow migration ended with, and what virsh said."""
    return pair.source.vm.wait_for("cat /tmp/migrate.rc && cat /tmp/migrate.log", 300)


def is_free(pair: Pair, serial: str) -> None:
    """Pass when the source's stick is the host's own again and can be had by somebody else."""
    stick = domains.host_device(pair.source.vm, serial)
    eventually(lambda: set(domains.interface_drivers(pair.source.vm, stick).values()), {"usb-storage"})
    eventually(lambda: pair.source.schedulable(serial), True)


def test_a_linux_guest_goes_to_another_host_and_back_and_finds_the_stick_that_it_holds_there(pair: Pair) -> None:
    here, there = pair.source.stick("HERE-1"), pair.destination.stick("THERE-1")
    pair.source.claim("linux", here)
    pair.source.boot("linux", linux=True)
    domains.wait_for_linux(pair.source.vm, "linux")
    pair.source.comes_to_have("linux", "HERE-1")
    domains.wait_for_console(pair.source.vm, "linux", "USB+ 46f4:0001 HERE-1")

    pair.move("linux", [here], [there])
    resumed = time.monotonic()
    pair.destination.comes_to_have("linux", "THERE-1")
    print(f"in the guest {time.monotonic() - resumed:.1f} s after libvirt was through")
    assert not domains.is_running(pair.source.vm, "linux")
    domains.wait_for_console(pair.destination.vm, "linux", "USB+ 46f4:0001 THERE-1")
    assert "Device 0.0" not in domains.info_usb(pair.destination.vm, "linux")
    is_free(pair, "HERE-1")
    pair.source.claim("heir", here)
    pair.source.boot("heir")
    pair.source.comes_to_have("heir", "HERE-1")
    domains.destroy(pair.source.vm, "heir")
    pair.source.release("heir")

    pair.back.move("linux", [there], [here])
    pair.source.comes_to_have("linux", "HERE-1")
    is_free(pair.back, "THERE-1")


@pytest.mark.core
def test_two_sticks_are_exchanged_for_two_others(pair: Pair) -> None:
    old = [pair.source.stick("HERE-1"), pair.source.stick("HERE-2")]
    new = [pair.destination.stick("THERE-1"), pair.destination.stick("THERE-2")]
    pair.source.claim("vm", *old)
    pair.source.boot("vm")
    pair.source.comes_to_have("vm", "HERE-1", "HERE-2")
    pair.move("vm", old, new)
    pair.destination.comes_to_have("vm", "THERE-1", "THERE-2")


def test_an_aborted_migration_leaves_the_guest_and_its_stick_as_they_were(pair: Pair) -> None:
    here, migration = begin_move(pair, 1)
    pair.source.vm.ssh("virsh --quiet domjobabort vm")
    assert "abort" in how_it_ended(pair) or "cancel" in how_it_ended(pair)
    assert domains.is_running(pair.source.vm, "vm")
    assert pair.source.has("vm") == ["HERE-1"], "nobody took it while the migration held it"
    pair.revert_claim("vm", migration, [here])
    eventually(lambda: pair.destination.schedulable("THERE-1"), True)
    pair.source.comes_to_have("vm", "HERE-1")
    assert pair.source.audit("detach") == []
    assert not domains.is_running(pair.destination.vm, "vm")


def test_a_migration_that_fails_when_the_guest_has_been_stopped_leaves_it_its_stick(pair: Pair) -> None:
    """libvirt may say of it what it says of one that has arrived (qemuDomainRunningReasonToResumeEvent)."""
    here, migration = begin_move(pair, 1)
    # All the time that it takes, without the guest: QEMU stops it with much left to be copied.
    pair.source.vm.ssh("virsh --quiet migrate-setmaxdowntime vm 300000")
    pair.source.vm.wait_for("virsh domstate vm | grep -q paused")
    pair.destination.vm.ssh("pkill -KILL -f guest=vm")
    assert not how_it_ended(pair).startswith("0")
    eventually(lambda: domains.is_running(pair.source.vm, "vm"), True)
    pair.source.vm.ssh("sleep 5")
    assert pair.source.has("vm") == ["HERE-1"]
    assert pair.source.audit("detach") == []
    pair.revert_claim("vm", migration, [here])
    pair.source.comes_to_have("vm", "HERE-1")


def test_with_no_agent_at_the_destination_the_guest_stays_where_it_is(pair: Pair) -> None:
    here, there = one_stick_each(pair)
    pair.destination.agent.stop()
    migration = pair.claim_move("vm", [here], [there])
    assert "the guest has USB devices that must be attached again, but the agent did not answer" in pair.refused("vm")
    pair.revert_claim("vm", migration, [here])
    pair.source.comes_to_have("vm", "HERE-1")


def test_an_agent_at_the_source_is_not_needed(pair: Pair) -> None:
    here, there = one_stick_each(pair)
    pair.source.agent.stop()
    pair.move("vm", [here], [there])
    pair.destination.comes_to_have("vm", "THERE-1")
    pair.source.agent.start()
    is_free(pair, "HERE-1")


def test_an_agent_that_is_killed_while_a_guest_comes_in_puts_it_right_when_it_is_back(pair: Pair) -> None:
    with moving(pair):
        pair.destination.agent.stop()
    (placeholder,) = domains.hostdevs(pair.destination.vm, "vm")
    assert placeholder.vendor is None
    pair.destination.agent.start()
    pair.destination.comes_to_have("vm", "THERE-1")


def same_address(pair: Pair, serial: str) -> None:
    """Plug a stick into the destination again and again until it has the address that the source's has."""
    wanted = domains.host_device(pair.source.vm, serial)
    for _ in range(40):
        pair.destination.vm.plug("impostor", serial="IMPOSTOR", port=wanted.sys_name.partition("-")[2])
        found = domains.host_device(pair.destination.vm, "IMPOSTOR")
        if (found.bus, found.device) == (wanted.bus, wanted.device):
            return
        pair.destination.vm.unplug("impostor")
        gone = found.sys_name
        pair.destination.vm.wait_for(f"[ ! -e /sys/bus/usb/devices/{gone} ]")
    raise AssertionError(f"never at {wanted}")


@pytest.fixture
def no_hook(pair: Pair) -> Iterator[None]:
    """No hook at the destination, as far as its libvirt knows; it is there again after the test."""
    vm = pair.destination.vm
    vm.ssh(f"usb-provider install-hook --uninstall && {RESTART_LIBVIRTD}")
    yield
    vm.ssh(f"usb-provider install-hook && {RESTART_LIBVIRTD}")


@pytest.mark.usefixtures("no_hook")
def test_without_the_hook_and_with_no_device_at_the_old_place_libvirt_refuses(pair: Pair) -> None:
    here, there = one_stick_each(pair, port="7")
    migration = pair.claim_move("vm", [here], [there])
    assert re.search("Did not find (matching )?USB device", pair.refused("vm")), "libvirt 9, or 11"
    pair.revert_claim("vm", migration, [here])
    pair.source.comes_to_have("vm", "HERE-1")


@pytest.mark.usefixtures("no_hook")
@pytest.mark.parametrize("state", ["agent up", "agent down"])
def test_without_the_hook_the_agent_takes_away_what_libvirt_took_and_attaches_what_is_held(
    pair: Pair, state: str
) -> None:
    for _ in range(12):  # so that the destination can catch up
        pair.source.vm.plug("x", serial="X")
        domains.host_device(pair.source.vm, "X")
        pair.source.vm.unplug("x")
    here, there = one_stick_each(pair)
    same_address(pair, "HERE-1")
    if state == "agent down":
        pair.destination.agent.stop()
    migration = pair.claim_move("vm", [here], [there])
    pair.migrate("vm")
    pair.source.placement.release(migration)
    if state == "agent down":
        (taken,) = domains.hostdevs(pair.destination.vm, "vm")
        assert taken.alias == f"ua-usb-{here}"
        pair.destination.agent.start()
    pair.destination.comes_to_have("vm", "THERE-1")
    eventually(lambda: pair.destination.schedulable("IMPOSTOR"), True)


def test_a_stick_that_may_not_be_exchanged_keeps_its_guest_where_it_is(pair: Pair) -> None:
    rule = {"vendor_id": "46f4", "resource_class": "CUSTOM_USB_STORAGE", "live_migratable": False}
    pair.source.agent.configure([rule], options={"agent": {"resync_interval": "2"}})
    pair.source.agent.reload()
    here, there = one_stick_each(pair)
    migration = pair.claim_move("vm", [here], [there])
    said = pair.refused("vm")
    assert f"The instance has USB device {here}, which a rule keeps from live migration" in said
    pair.revert_claim("vm", migration, [here])
    assert pair.source.has("vm") == ["HERE-1"]
    assert pair.source.audit("detach") == []


def test_a_guest_that_holds_nothing_at_the_destination_stays_where_it_is(pair: Pair) -> None:
    here = pair.source.stick("HERE-1")
    pair.destination.stick("THERE-1")
    pair.source.claim("vm", here)
    pair.source.boot("vm")
    pair.source.comes_to_have("vm", "HERE-1")
    assert "The instance has 1 USB device and holds none on this host" in pair.refused("vm")
    assert pair.source.has("vm") == ["HERE-1"]


def test_a_stick_that_was_unplugged_from_the_destination_keeps_the_guest_where_it_is(pair: Pair) -> None:
    here, there = one_stick_each(pair)
    migration = pair.claim_move("vm", [here], [there])
    pair.destination.vm.unplug("THERE-1")
    eventually(lambda: pair.destination.schedulable("THERE-1"), False)
    assert "THERE-1 is allocated to this instance, but it is not plugged in" in pair.refused("vm")
    pair.revert_claim("vm", migration, [here])
    assert pair.source.has("vm") == ["HERE-1"]


def test_a_device_that_somebody_else_attached_is_left_alone_beside_ours(pair: Pair) -> None:
    for host in (pair.source, pair.destination):
        host.vm.plug("tablet", "usb-tablet", bus="xhci2", port="1")
    pair.source.vm.wait_for("lsusb -d 0627:0001")
    pair.destination.vm.wait_for("lsusb -d 0627:0001")
    tablet = next(each for each in domains.host_devices(pair.source.vm) if each.vendor == "0627")
    for _ in range(40):
        other = next(each for each in domains.host_devices(pair.destination.vm) if each.vendor == "0627")
        if other.device >= tablet.device:
            break
        pair.destination.vm.unplug("tablet")
        pair.destination.vm.wait_for("! lsusb -d 0627:0001")
        pair.destination.vm.plug("tablet", "usb-tablet", bus="xhci2", port="1")
        pair.destination.vm.wait_for("lsusb -d 0627:0001")
    assert (other.bus, other.device) == (tablet.bus, tablet.device)
    here, there = pair.source.stick("HERE-1", bus="xhci"), pair.destination.stick("THERE-1", bus="xhci")
    pair.source.claim("vm", here)
    pair.source.boot("vm")
    pair.source.comes_to_have("vm", "HERE-1")
    domains.attach(pair.source.vm, "vm", tablet, "ua-somebody")

    pair.move("vm", [here], [there])
    ours = f"ua-usb-{there}"
    eventually(
        lambda: sorted(each.alias or "" for each in domains.hostdevs(pair.destination.vm, "vm")), ["ua-somebody", ours]
    )
    eventually(lambda: domains.qom_attached(pair.destination.vm, "vm", ours), True)


def test_a_move_ends_well_while_both_agents_restart(pair: Pair) -> None:
    with moving(pair):
        for host in (pair.source, pair.destination):
            host.agent.restart()
    pair.destination.comes_to_have("vm", "THERE-1")
    is_free(pair, "HERE-1")


def test_a_stick_that_is_unplugged_while_its_guest_comes_is_in_the_guest_when_it_is_back(pair: Pair) -> None:
    with moving(pair):
        pair.destination.vm.unplug("THERE-1")
    eventually(lambda: pair.destination.has("vm"), [])
    is_free(pair, "HERE-1")
    pair.destination.vm.plug("THERE-1", serial="THERE-1", bus="xhci2")
    pair.destination.comes_to_have("vm", "THERE-1")


def test_a_stick_that_is_unplugged_while_its_guest_leaves_does_not_hold_it_up(pair: Pair) -> None:
    with moving(pair):
        pair.source.vm.unplug("HERE-1")
    pair.destination.comes_to_have("vm", "THERE-1")
    eventually(lambda: pair.source.schedulable("HERE-1"), False)


def test_a_slow_placement_makes_a_move_slow_and_no_more(pair: Pair) -> None:
    here, there = one_stick_each(pair)
    pair.source.placement.before(".", lambda: time.sleep(0.3), times=None)
    pair.move("vm", [here], [there])
    pair.destination.comes_to_have("vm", "THERE-1")
    is_free(pair, "HERE-1")
