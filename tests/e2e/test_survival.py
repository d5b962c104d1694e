"""Whatever goes away and comes back: nobody has to lend a hand."""

import time
from collections.abc import Iterator

import pytest

from tests.e2e.lab.cloud import HOST, Cloud, eventually
from tests.fixtures.healed import Healed
from tests.integration.lab import domains


def still_works(cloud: Cloud, *serials: str) -> None:
    """Pass when as many new servers have the sticks *serials*, one each; all must be free, and no other be there."""
    for serial in serials:
        cloud.offered(serial)
    servers = [cloud.create(f"afterwards-{serial}", flavor=cloud.flavor("usb")) for serial in serials]
    got = []
    for server in servers:
        cloud.becomes(server, "ACTIVE")
        (held,) = cloud.holds(server)
        got.append(held.rpartition(":")[2])
        cloud.has(server, got[-1])
    assert sorted(got) == sorted(serials)
    cloud.delete(*servers)


def test_a_restart_of_nova_compute_leaves_the_stick_in_the_guest(cloud: Cloud) -> None:
    cloud.stick("A1")
    server = cloud.create("alice", flavor=cloud.flavor("usb"))
    cloud.becomes(server, "ACTIVE")
    cloud.has(server, "A1")
    cloud.restart_nova_compute()
    cloud.has(server, "A1")
    cloud.act(server, "reboot", "ACTIVE", type="HARD")
    cloud.has(server, "A1")


def test_a_compute_service_that_is_deleted_and_comes_back_has_its_sticks_again(cloud: Cloud) -> None:
    cloud.stick("A1")
    (service,) = [each for each in cloud.admin.compute.services(binary="nova-compute") if each.host == HOST]
    # Nova deletes the compute node's provider and everything below it, ours too.
    cloud.admin.compute.delete_service(service)
    cloud.vm.ssh("systemctl restart nova-compute", timeout=120)
    cloud.wait_for_host(HOST)
    still_works(cloud, "A1")


@pytest.fixture(params=["placement", "keystone", "rabbit"])
def outage(cloud: Cloud, request: pytest.FixtureRequest) -> Iterator[str]:
    """A part of the control plane to take away; it is there again after the test."""
    yield request.param
    cloud.controller.services[request.param].start()


def test_an_outage_in_the_middle_of_a_boot_leaves_nothing_behind(cloud: Cloud, outage: str) -> None:
    cloud.stick("A1")
    cloud.stick("A2")
    server = cloud.create("unlucky", flavor=cloud.flavor("usb"), wait=False)
    eventually(lambda: cloud.holds(server) != set(), True)
    cloud.controller.services[outage].stop()
    time.sleep(30)
    cloud.controller.services[outage].start()
    # Nova's to decide what becomes of a server that was being built (some stay in BUILD until they are deleted); the
    # guest, if there is one, must have what the server holds, and afterwards nothing may be left.
    status = cloud.settles(server, 120)
    print(f"{outage} was away during the boot: {status or 'still in BUILD'} {cloud.fault(server)}")
    if status == "ACTIVE":
        (held,) = cloud.holds(server)
        cloud.has(server, held.rpartition(":")[2])
    cloud.delete(server)
    eventually(lambda: cloud.holds(server), set())
    still_works(cloud, "A1", "A2")


def test_a_guest_keeps_its_stick_while_placement_is_away_and_gets_it_back_after_a_replug(
    cloud: Cloud, healed: Healed
) -> None:
    cloud.stick("A1")
    server = cloud.create("alice", flavor=cloud.flavor("usb"))
    cloud.becomes(server, "ACTIVE")
    cloud.has(server, "A1")
    placement = cloud.controller.services["placement"]
    placement.stop()
    try:
        cloud.vm.unplug("A1")
        eventually(lambda: domains.hostdevs(cloud.vm, server), [])
        with healed.within("a device is plugged in again, in another port, while Placement is away"):
            cloud.vm.plug("A1", serial="A1", port="6")
            eventually(lambda: cloud.compute.serials(server), ["A1"])
    finally:
        placement.start()
    cloud.has(server, "A1")


def test_an_agent_whose_token_keystone_has_withdrawn_gets_another(cloud: Cloud) -> None:
    cloud.stick("A1")
    identity = cloud.admin.identity
    user = identity.find_user("usb-provider")
    identity.update_user(user, is_enabled=False)
    identity.update_user(user, is_enabled=True)
    cloud.stick("A2")
    server = cloud.create("alice", flavor=cloud.flavor("usb"))
    cloud.becomes(server, "ACTIVE")


def test_after_a_reboot_of_the_compute_node_its_servers_run_again_and_have_their_sticks(
    cloud: Cloud, healed: Healed
) -> None:
    cloud.stick("A1")
    server = cloud.create("alice", flavor=cloud.flavor("usb"))
    cloud.becomes(server, "ACTIVE")
    cloud.has(server, "A1")
    cloud.vm.reboot(cleanly=False)
    with healed.within("power cut of a compute node, while Placement stays: from the host's boot on"):
        cloud.all_run({server: "A1"})
