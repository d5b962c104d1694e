"""What went badly for a server with a device is right again, by itself or by one command that the product names."""

import re
import threading
import time
from collections.abc import Iterator

import pytest

from tests.e2e.lab.cloud import Cloud, eventually
from tests.e2e.lab.service import POOL
from tests.fixtures.healed import Healed
from tests.integration.lab import domains
from tests.integration.lab.agent import UNIT
from tests.integration.lab.guest_clock import ticks

OUTAGE_SECONDS = 180
"""How much later than its hosts Placement is back after a power cut."""
RESTARTS = 10
START = re.compile(r"openstack (server reboot --hard [0-9a-f-]{36})")
"""The command that status and doctor name for a server whose start was refused."""


@pytest.fixture
def servers(cloud: Cloud) -> dict[str, str]:
    """Three servers with a stick each: the serials by the servers' UUIDs."""
    found = {}
    for serial in ("A1", "A2", "A3"):
        cloud.stick(serial)
    for name in ("alice", "bob", "carol"):
        server = cloud.create(name, flavor=cloud.flavor("usb"))
        cloud.becomes(server, "ACTIVE")
        (held,) = cloud.holds(server)
        found[server] = held.rpartition(":")[2]
    for server, serial in found.items():
        cloud.has(server, serial)
    return found


@pytest.fixture
def placement(cloud: Cloud) -> Iterator[None]:
    """Placement is there again after the test."""
    yield
    cloud.controller.services["placement"].start()


@pytest.mark.usefixtures("placement")
def test_after_a_power_cut_with_placement_back_three_minutes_later_all_servers_run(
    cloud: Cloud, servers: dict[str, str], healed: Healed
) -> None:
    cloud.controller.services["placement"].stop()
    cloud.vm.reboot(cleanly=False)
    time.sleep(OUTAGE_SECONDS)
    began = time.monotonic()
    cloud.controller.services["placement"].start()
    # Without Placement nova-compute does not start: it ends, and systemd starts it again.
    cloud.wait_for_host(cloud.vm.name)
    commands = said_by_doctor(cloud)
    for each in commands:
        cloud.openstack(each)
    cloud.all_run(servers)
    by = "itself" if not commands else f"{len(commands)} commands, as `usb-provider doctor` says"
    case = f"power cut of a compute node with {len(servers)} servers; Placement is back three minutes after the host"
    healed.took(case, time.monotonic() - began, by=by)


def test_a_server_whose_stick_was_missing_after_a_power_cut_runs_with_the_command_that_doctor_names(
    cloud: Cloud, healed: Healed
) -> None:
    cloud.stick("A1")
    server = cloud.create("alice", flavor=cloud.flavor("usb"))
    cloud.becomes(server, "ACTIVE")
    cloud.has(server, "A1")
    cloud.vm.unplug("A1")
    eventually(lambda: domains.hostdevs(cloud.vm, server), [])
    cloud.vm.reboot(cleanly=False)
    eventually(lambda: cloud.server(server).status, "ERROR", 300)
    assert said_by_doctor(cloud) == [f"server reboot --hard {server}"]
    by = "`openstack server reboot --hard`, as `usb-provider doctor` says"
    with healed.within("power cut of a compute node; a device is plugged in after Nova gave its server up", by=by):
        cloud.vm.plug("A1", serial="A1")
        cloud.vm.wait_for("usb-provider devices | grep -q 46f4:0001")
        cloud.wait_for_host(cloud.vm.name)
        cloud.openstack(f"server reboot --hard {server}")
        cloud.all_run({server: "A1"})
    assert said_by_doctor(cloud) == []


def said_by_doctor(cloud: Cloud) -> list[str]:
    """The commands for servers that were not started; status names the same."""
    commands = START.findall(cloud.vm.ssh("usb-provider doctor", check=False))
    assert sorted(commands) == sorted(START.findall(cloud.vm.ssh("usb-provider status")))
    return commands


def test_a_suspended_server_resumes_without_its_stick_and_gets_it_when_it_is_plugged_in_again(
    cloud: Cloud, healed: Healed
) -> None:
    cloud.stick("A1")
    server = cloud.create("linux", flavor=cloud.flavor("usb"), image="linux")
    cloud.becomes(server, "ACTIVE")
    cloud.has(server, "A1")
    eventually(lambda: "USB+ 46f4:0001 A1" in cloud.console(server).splitlines(), True, 300)
    clock = ticks(cloud.vm, server)
    cloud.act(server, "suspend", "SUSPENDED")
    cloud.vm.unplug("A1")
    cloud.vm.wait_for("! usb-provider devices | grep -q 46f4:0001")
    with healed.within("resume of a suspended server whose device was unplugged: it runs, with its memory"):
        cloud.act(server, "resume", "ACTIVE")
    assert domains.is_running(cloud.vm, server)
    # A guest that had booted again would have counted fewer.
    assert ticks(cloud.vm, server) >= clock
    # The placeholder of the stick is gone again.
    eventually(lambda: domains.hostdevs(cloud.vm, server), [])
    with healed.within("… and its device is plugged in again"):
        cloud.vm.plug("A1", serial="A1", port="5")
        cloud.has(server, "A1")
    # The guest's own driver gives the stick an address.
    eventually(lambda: "Device 0.0" in domains.info_usb(cloud.vm, server), False, 60)


def test_ten_restarts_of_the_agent_refuse_no_start_that_is_under_way(
    cloud: Cloud, servers: dict[str, str], healed: Healed
) -> None:
    over = threading.Event()

    def reboot_again_and_again(server: str) -> list[float]:
        seconds = []
        while not over.is_set():
            began = time.monotonic()
            cloud.act(server, "reboot", "ACTIVE", type="HARD")
            seconds.append(time.monotonic() - began)
        return seconds

    refused = refusals(cloud)
    under_way = [POOL.submit(reboot_again_and_again, server) for server in servers]
    try:
        for _ in range(RESTARTS):
            cloud.vm.ssh(f"systemctl restart {UNIT}", timeout=180)
            time.sleep(2)
    finally:
        over.set()
    starts = [seconds for each in under_way for seconds in each.result(600)]
    assert refusals(cloud) == refused
    for server, serial in servers.items():
        cloud.has(server, serial)
    print(f"{len(starts)} hard reboots during {RESTARTS} restarts of the agent; no start was refused.")
    healed.took("restarts of the agent, as for an upgrade: the slowest hard reboot under way", max(starts))


def refusals(cloud: Cloud) -> int:
    """How often the hook has refused a start, by nova-compute's log."""
    return int(cloud.vm.ssh("grep -ac 'Hook script execution failed' /var/log/nova/nova-compute.log || true"))


def test_a_rebuild_with_an_image_that_requires_traits_waits_until_the_conductor_knows_a_new_device(
    cloud: Cloud, healed: Healed
) -> None:
    images = [
        cloud.admin.image.create_image(
            f"requires-{number}",
            filename=str(cloud.directory / "disk.raw"),
            disk_format="raw",
            container_format="bare",
            visibility="public",
            wait=True,
            hw_input_bus="virtio",
            **{"trait:CUSTOM_USB_VENDOR_46F4": "required"},
        ).id
        for number in range(2)
    ]
    cloud.stick("A1")
    alice = cloud.create("alice", flavor=cloud.flavor("usb"))
    cloud.becomes(alice, "ACTIVE")
    # Nova looks for traits only where a rebuild changes the image. From now on the conductor has the tree in its cache.
    cloud.act(alice, "rebuild", "ACTIVE", imageRef=images[0])
    # One that no other test has plugged in: the provider of a stick stays, so Nova would know it from before.
    cloud.stick("NEVER-SEEN")
    bob = cloud.create("bob", flavor=cloud.flavor("usb"))
    cloud.becomes(bob, "ACTIVE")
    cloud.has(bob, "NEVER-SEEN")
    cloud.act(bob, "rebuild", "ERROR", imageRef=images[0])
    print("The server's fault:", cloud.fault(bob))
    cloud.has(bob, "NEVER-SEEN")
    with healed.within(
        "rebuild with an image that requires traits, soon after a device was plugged in", by="a repetition"
    ):
        eventually(lambda: rebuilt(cloud, bob, images[1]), "ACTIVE", 600)
    cloud.has(bob, "NEVER-SEEN")


def rebuilt(cloud: Cloud, server: str, image: str) -> str:
    """Rebuild the server, ten seconds after the last time, and give its status."""
    time.sleep(10)
    cloud.request(server, "rebuild", imageRef=image)
    return cloud.settled(server)


def test_an_unshelve_without_a_free_stick_leaves_the_server_shelved_and_says_so_in_its_events(cloud: Cloud) -> None:
    cloud.stick("A1")
    server = cloud.create("alice", flavor=cloud.flavor("usb"))
    cloud.becomes(server, "ACTIVE")
    cloud.act(server, "shelve", "SHELVED_OFFLOADED")
    other = cloud.create("bob", flavor=cloud.flavor("usb"))
    cloud.becomes(other, "ACTIVE")
    cloud.act(server, "unshelve", "SHELVED_OFFLOADED")
    assert cloud.server(server).fault is None
    compute = cloud.admin.compute
    (request,) = [each.request_id for each in compute.server_actions(server) if each.action == "unshelve"]

    def said() -> list[str]:
        return [str(each["details"]) for each in compute.get_server_action(request, server).events if each["details"]]

    eventually(lambda: [each.strip() for each in said()], ["No valid host was found."])
    cloud.delete(other)
    cloud.act(server, "unshelve", "ACTIVE")
    cloud.has(server, "A1")
