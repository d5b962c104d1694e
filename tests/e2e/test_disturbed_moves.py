"""Moves and rebuilds that something disturbs between the claim and the start.

An agent is away, Placement is slow or hangs, or a stick is unplugged. Each test ends with exactly the stick in the
guest that its allocation names, and with the other stick free.
"""

from tests.e2e.lab.cloud import Cloud, eventually
from tests.e2e.lab.compute import HOST, Compute
from tests.e2e.lab.moves import can_be_had, is_on, second, server
from tests.fixtures.healed import Healed
from tests.integration.lab import domains
from tests.integration.lab.agent import UNIT

__all__ = ["second", "server"]

REBOOT = "server reboot --hard {}"
"""The command that status names for a server that was not started."""


def systemctl(verb: str, host: Compute) -> None:
    """Start or stop the agent of *host*."""
    host.vm.ssh(f"systemctl {verb} {UNIT}", timeout=180)


def claims(cloud: Cloud, server: str, serial: str, *, on: Compute) -> None:
    """Pass when nova has claimed the stick, and no other, for the server."""
    eventually(lambda: cloud.holds(server), {f"{on.name}_usb_46f4:0001:{serial}"})


def waits_in_hook(host: Compute) -> None:
    """Pass when libvirt of *host* waits for the hook, which waits for the agent."""
    host.vm.wait_for("pgrep -f '[q]emu.d/usb-provider .* prepare' && sleep 1 && pgrep -f '[q]emu.d/usb-provider'", 240)


def refusals(host: Compute) -> int:
    """How many starts the hook of *host* has refused, by nova-compute's log."""
    return int(host.vm.ssh("grep -ac 'Hook script execution failed' /var/log/nova/nova-compute.log || true"))


def test_a_cold_migration_and_its_revert_wait_for_agents_that_are_restarted(
    cloud: Cloud, second: Compute, server: str, healed: Healed
) -> None:
    refused = refusals(cloud.compute), refusals(second)
    cloud.request(server, "migrate", host=None)
    claims(cloud, server, "B1", on=second)
    systemctl("stop", second)
    waits_in_hook(second)
    with healed.within("the agent of the destination is away when a server that is migrated cold starts there"):
        systemctl("start", second)
        cloud.becomes(server, "VERIFY_RESIZE")
        cloud.has(server, "B1", on=second)
    assert not domains.is_running(cloud.vm, server)

    systemctl("stop", cloud.compute)
    cloud.request(server, "revertResize")
    waits_in_hook(cloud.compute)
    with healed.within("… and the agent of the source when the migration is reverted"):
        systemctl("start", cloud.compute)
        cloud.becomes(server, "ACTIVE")
        cloud.has(server, "A1")
    assert (refusals(cloud.compute), refusals(second)) == refused
    assert not domains.is_running(second.vm, server)
    can_be_had(cloud, "B1")


def test_a_server_whose_new_stick_is_unplugged_during_a_cold_migration_starts_with_it_by_a_hard_reboot(
    cloud: Cloud, second: Compute, server: str, healed: Healed
) -> None:
    cloud.request(server, "migrate", host=None)
    claims(cloud, server, "B1", on=second)
    second.vm.unplug("B1")
    cloud.becomes(server, "ERROR")
    # From here on the server is the destination's, and nova has given the old stick back.
    is_on(cloud, server, second.name)
    claims(cloud, server, "B1", on=second)
    can_be_had(cloud, "A1")
    assert "is allocated to this instance, but it is not plugged in" in cloud.compute_log(second)
    command = REBOOT.format(server)
    assert f"openstack {command}" in second.vm.ssh("usb-provider status")

    by = "`openstack server reboot --hard`, as `usb-provider status` says"
    with healed.within("the device at the destination of a cold migration is unplugged before the start", by=by):
        second.vm.plug("B1", serial="B1")
        second.vm.wait_for("usb-provider devices | grep -q 46f4:0001")
        cloud.openstack(command)
        eventually(lambda: cloud.settled(server), "ACTIVE", 300)
        cloud.has(server, "B1", on=second)
    assert not domains.is_running(cloud.vm, server)
    can_be_had(cloud, "A1")


def test_a_server_whose_old_stick_is_unplugged_before_the_revert_starts_with_it_by_a_hard_reboot(
    cloud: Cloud, second: Compute, server: str, healed: Healed
) -> None:
    cloud.act(server, "migrate", "VERIFY_RESIZE", host=None)
    cloud.has(server, "B1", on=second)
    cloud.vm.unplug("A1")
    cloud.vm.wait_for("! usb-provider devices | grep -q 46f4:0001")
    cloud.act(server, "revertResize", "ERROR")
    is_on(cloud, server, HOST)
    claims(cloud, server, "A1", on=cloud.compute)
    can_be_had(cloud, "B1")
    command = REBOOT.format(server)
    assert f"openstack {command}" in cloud.vm.ssh("usb-provider status")

    by = "`openstack server reboot --hard`, as `usb-provider status` says"
    with healed.within("… and the old device before the migration is reverted", by=by):
        cloud.vm.plug("A1", serial="A1")
        cloud.vm.wait_for("usb-provider devices | grep -q 46f4:0001")
        cloud.openstack(command)
        eventually(lambda: cloud.settled(server), "ACTIVE", 300)
        cloud.has(server, "A1")
    assert not domains.is_running(second.vm, server)
    can_be_had(cloud, "B1")


def test_a_rebuild_waits_for_an_agent_that_is_restarted(cloud: Cloud, server: str, healed: Healed) -> None:
    refused = refusals(cloud.compute)
    systemctl("stop", cloud.compute)
    cloud.request(server, "rebuild", imageRef=cloud.admin.image.find_image("empty").id)
    waits_in_hook(cloud.compute)
    with healed.within("the agent is away when a server that is rebuilt starts"):
        systemctl("start", cloud.compute)
        cloud.becomes(server, "ACTIVE")
        cloud.has(server, "A1")
    assert refusals(cloud.compute) == refused
    can_be_had(cloud, "B1")


def test_a_resize_waits_for_a_placement_that_does_not_answer_the_agent_for_a_while(
    cloud: Cloud, second: Compute, server: str, healed: Healed
) -> None:
    refused = refusals(second)
    cloud.request(server, "resize", flavorRef=cloud.flavor("usb-bigger", ram=320))
    claims(cloud, server, "B1", on=second)
    with cloud.controller.slow_placement(300, to="usb-provider"):
        waits_in_hook(second)
        second.vm.ssh("sleep 8")  # longer than one question to Placement may take
    with healed.within("Placement does not answer the agent when a server that is resized starts"):
        cloud.becomes(server, "VERIFY_RESIZE")
        cloud.has(server, "B1", on=second)
    assert refusals(second) == refused
    cloud.act(server, "confirmResize", "ACTIVE")
    cloud.has(server, "B1", on=second)
    assert not domains.is_running(cloud.vm, server)
    can_be_had(cloud, "A1")


def test_a_slow_placement_makes_an_evacuation_slow_and_no_more(
    cloud: Cloud, second: Compute, server: str, healed: Healed
) -> None:
    cloud.vm.freeze()
    eventually(lambda: cloud.state_of(HOST), "down", 120)
    with cloud.controller.slow_placement(1):
        with healed.within("evacuation and start, while each answer of Placement takes a second longer"):
            cloud.act(server, "evacuate", "SHUTOFF")
            is_on(cloud, server, second.name)
            cloud.act(server, "os-start", "ACTIVE")
            eventually(lambda: second.serials(server), ["B1"])
        both = {f"{HOST}_usb_46f4:0001:A1", f"{second.name}_usb_46f4:0001:B1"}
        assert cloud.holds(server) == both, "the dead host may still have it running"
        cloud.revive(cloud.compute)
        cloud.has(server, "B1", on=second)
        assert not domains.is_running(cloud.vm, server)
        can_be_had(cloud, "A1")
