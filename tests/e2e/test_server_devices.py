"""Users attach sticks to servers that run, and detach them: guest, console, libvirt, Nova and Placement agree."""

import json
from typing import Any

from tests.e2e.lab.cloud import HOST, Cloud, eventually
from tests.e2e.lab.compute import Compute
from tests.e2e.lab.moves import can_be_had, is_on, migrate_live, second
from tests.integration.lab import domains
from tests.integration.lab.agent import UNIT

__all__ = ["second"]

PLAIN = {"hw:usb_model": "qemu-xhci"}
PORTS = {"A1": "1", "A2": "2"}
"""In which port of the host each stick is: one in the place of another would be kept back."""


def a_server(cloud: Cloud, **specs: str) -> str:
    """A Linux that runs, of a flavor that asks for no stick unless *specs* says so."""
    uuid = cloud.create("linux", flavor=cloud.flavor("usb" if specs else "plain", {**PLAIN, **specs}), image="linux")
    cloud.becomes(uuid, "ACTIVE")
    return uuid


def usb(cloud: Cloud, words: str) -> str:
    """What ``openstack usb server`` prints; it waits for what it does."""
    return cloud.openstack(f"usb server {words}")


def attach(cloud: Cloud, server: str, serial: str) -> None:
    """Have a user attach the stick, and wait until the guest has it."""
    usb(cloud, f"attach {server} --resource-class KEY --device 46f4:0001:{serial} --wait --timeout 280")


def detach(cloud: Cloud, server: str, serial: str) -> None:
    """Have a user detach the stick, and wait until it is free."""
    usb(cloud, f"detach {server} 46f4:0001:{serial} --wait --timeout 280")


def listed(cloud: Cloud, server: str) -> dict[str, Any]:
    """What ``openstack usb server list`` says of each stick, by its serial number."""
    lines = json.loads(usb(cloud, f"list {server} -f json"))
    return {line["Device"].rpartition(":")[2]: line for line in lines}


def says(cloud: Cloud, server: str, line: str) -> None:
    """Pass when the guest has printed *line*."""
    eventually(lambda: line in cloud.console(server).splitlines(), True, 300)


def ports(cloud: Cloud, server: str) -> dict[str, str]:
    """At which port of the guest each stick is, by its serial number, as the agent says."""
    guests = json.loads(cloud.vm.ssh("usb-provider status --json"))
    devices = next((each["devices"] for each in guests if each["uuid"] == server), [])
    return {
        each["provider_name"].rpartition(":")[2]: each["guest_port"] for each in devices if each["state"] == "attached"
    }


def test_a_stick_comes_to_a_server_that_runs_and_stays_through_replugs_and_reboots_until_it_is_detached(
    cloud: Cloud,
) -> None:
    for serial, port in PORTS.items():
        cloud.stick(serial, port=port)
    server = a_server(cloud)
    attach(cloud, server, "A1")
    cloud.has(server, "A1")
    says(cloud, server, "USB+ 46f4:0001 A1")
    attach(cloud, server, "A2")
    cloud.has(server, "A1", "A2")
    assert {serial: line["By"] for serial, line in listed(cloud, server).items()} == dict.fromkeys(
        ("A1", "A2"), "attached"
    )
    before = ports(cloud, server)
    assert len(set(before.values())) == 2
    xml = cloud.vm.ssh(f"virsh dumpxml {server}")
    assert all(
        f"bus='{bus}' port='{port}'" in xml for bus, _, port in (each.partition(":") for each in before.values())
    )

    for serial in ("A1", "A2"):
        cloud.vm.unplug(serial)
    eventually(lambda: domains.hostdevs(cloud.vm, server), [])
    says(cloud, server, "USB- 46f4:0001 A1")
    for serial in ("A2", "A1"):
        cloud.vm.plug(serial, serial=serial, port=PORTS[serial])
        eventually(lambda serial=serial: serial in cloud.compute.serials(server), True)
    cloud.has(server, "A1", "A2")
    assert ports(cloud, server) == before, "though they came back the other way round"

    cloud.act(server, "reboot", "ACTIVE", type="HARD")
    cloud.has(server, "A1", "A2")
    eventually(lambda: ports(cloud, server), before)

    says(cloud, server, "USB+ 46f4:0001 A1")
    detach(cloud, server, "A1")
    cloud.has(server, "A2")
    says(cloud, server, "USB- 46f4:0001 A1")
    can_be_had(cloud, "A1")
    heir = cloud.create("heir", flavor=cloud.flavor("usb"))
    cloud.becomes(heir, "ACTIVE")
    cloud.has(heir, "A1")

    cloud.delete(server)
    can_be_had(cloud, "A2")


def test_a_server_that_is_shut_off_gets_the_stick_at_its_next_start_and_gives_it_back_at_once(cloud: Cloud) -> None:
    cloud.stick("A1")
    server = a_server(cloud)
    cloud.act(server, "os-stop", "SHUTOFF")
    usb(cloud, f"attach {server} --resource-class KEY")
    assert cloud.holds(server) == {f"{HOST}_usb_46f4:0001:A1"}
    cloud.act(server, "os-start", "ACTIVE")
    cloud.has(server, "A1")
    cloud.act(server, "os-stop", "SHUTOFF")
    usb(cloud, f"detach {server} 46f4:0001:A1")
    can_be_had(cloud, "A1")
    cloud.act(server, "os-start", "ACTIVE")
    assert domains.hostdevs(cloud.vm, server) == []


def test_a_stick_that_a_running_guest_lacks_for_a_minute_is_seen_in_the_whole_cloud(cloud: Cloud) -> None:
    cloud.stick("A1")
    server = a_server(cloud)
    attach(cloud, server, "A1")

    def waiting() -> list[str]:
        lines = json.loads(cloud.openstack("usb device list --state waiting -f json"))
        return [line["Device"] for line in lines]

    assert waiting() == []
    cloud.vm.unplug("A1")
    eventually(waiting, ["46f4:0001:A1"], 200)
    assert "A running guest holds it" in listed(cloud, server)["A1"]["In the Way"]
    cloud.vm.plug("A1", serial="A1")
    cloud.has(server, "A1")
    eventually(waiting, [], 120)


def test_a_live_migration_loses_an_attached_stick_and_says_so_before_and_after(cloud: Cloud, second: Compute) -> None:
    cloud.stick("A1")
    server = a_server(cloud, **{"resources:CUSTOM_USB_KEY": "1"})
    cloud.has(server, "A1")
    cloud.stick("A2")
    attach(cloud, server, "A2")
    cloud.has(server, "A1", "A2")
    cloud.stick("B1", on=second)
    # The flavor suits both sticks equally, and Placement does not say which was attached.
    assert {line["After a Move"] for line in listed(cloud, server).values()} == {"exchanged or lost"}

    assert migrate_live(cloud, server)["status"] == "completed"
    is_on(cloud, server, second.name)
    cloud.has(server, "B1", on=second)
    says(cloud, server, "USB+ 46f4:0001 B1")
    for serial in ("A1", "A2"):
        can_be_had(cloud, serial)
    assert [line["By"] for line in listed(cloud, server).values()] == ["flavor"]
    journal = second.vm.ssh(f"journalctl --no-pager --unit={UNIT}")
    assert "a move loses what was attached beyond its flavor" in journal
