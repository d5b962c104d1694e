"""Servers that move between two compute nodes, by nova's own hands: each ends up with the device that it holds."""

from collections.abc import Iterator

import pytest

from tests.e2e.lab.cloud import Cloud, eventually
from tests.e2e.lab.compute import HOST, RULES, Compute
from tests.e2e.lab.moves import can_be_had, is_on, migrate_live, migrations, second, server
from tests.integration.lab import domains

__all__ = ["second", "server"]


def test_a_live_migration_there_and_back_gives_the_guest_the_stick_of_each_host(cloud: Cloud, second: Compute) -> None:
    cloud.stick("A1")
    server = cloud.create("mover", flavor=cloud.flavor("usb"), image="linux")
    cloud.becomes(server, "ACTIVE")
    cloud.has(server, "A1")
    eventually(lambda: "USB+ 46f4:0001 A1" in cloud.console(server).splitlines(), True, 300)
    cloud.stick("B1", on=second)

    assert migrate_live(cloud, server)["status"] == "completed"
    is_on(cloud, server, second.name)
    cloud.has(server, "B1", on=second)
    eventually(lambda: "USB+ 46f4:0001 B1" in cloud.console(server).splitlines(), True, 300)
    assert not domains.is_running(cloud.vm, server)
    can_be_had(cloud, "A1")

    assert migrate_live(cloud, server)["status"] == "completed"
    is_on(cloud, server, HOST)
    cloud.has(server, "A1")
    can_be_had(cloud, "B1")


def test_with_no_free_stick_elsewhere_a_live_migration_is_refused_by_the_scheduler(
    cloud: Cloud, second: Compute, server: str
) -> None:
    neighbour = cloud.create("neighbour", flavor=cloud.flavor("usb"))
    cloud.becomes(neighbour, "ACTIVE")
    cloud.has(neighbour, "B1", on=second)
    assert migrate_live(cloud, server)["status"] == "error"
    is_on(cloud, server, HOST)
    cloud.has(server, "A1")


@pytest.fixture
def stays(cloud: Cloud) -> Iterator[None]:
    """A rule on the first host that keeps its sticks from live migration, for one test."""
    cloud.compute.configure(RULES.replace('"CUSTOM_USB_KEY"}', '"CUSTOM_USB_KEY", "live_migratable": false}'))
    cloud.vm.ssh("systemctl reload usb-provider-agent")
    yield
    cloud.compute.configure()
    cloud.vm.ssh("systemctl reload usb-provider-agent")


@pytest.mark.usefixtures("stays")
def test_a_stick_that_may_not_be_exchanged_keeps_its_server_where_it_is(
    cloud: Cloud, second: Compute, server: str
) -> None:
    assert migrate_live(cloud, server, leaves="ERROR")["status"] == "error"
    is_on(cloud, server, HOST)
    assert domains.is_running(cloud.vm, server), "nova says ERROR of a guest that goes on"
    cloud.has(server, "A1")
    assert 'which a rule keeps from live migration ("live_migratable": false); migrate it cold' in cloud.compute_log()
    can_be_had(cloud, "B1")

    cloud.openstack(f"server set --state active --auto-approve {server}")
    cloud.act(server, "reboot", "ACTIVE", type="HARD")
    cloud.has(server, "A1")


def test_a_cold_migration_is_confirmed_and_the_next_is_reverted(cloud: Cloud, second: Compute, server: str) -> None:
    cloud.act(server, "migrate", "VERIFY_RESIZE", host=None)
    cloud.has(server, "B1", on=second)
    migration = migrations(cloud, server)[-1]["uuid"]
    assert cloud.holds(migration) == {f"{HOST}_usb_46f4:0001:A1"}, "the migration keeps it until the user has decided"
    cloud.act(server, "confirmResize", "ACTIVE")
    cloud.has(server, "B1", on=second)
    can_be_had(cloud, "A1")

    cloud.act(server, "migrate", "VERIFY_RESIZE", host=None)
    cloud.has(server, "A1")
    cloud.act(server, "revertResize", "ACTIVE")
    cloud.has(server, "B1", on=second)
    can_be_had(cloud, "A1")


def test_a_resize_to_another_host_takes_the_stick_there(cloud: Cloud, second: Compute, server: str) -> None:
    cloud.act(server, "resize", "VERIFY_RESIZE", flavorRef=cloud.flavor("usb-bigger", ram=320))
    cloud.has(server, "B1", on=second)
    cloud.act(server, "revertResize", "ACTIVE")
    cloud.has(server, "A1")
    cloud.act(server, "resize", "VERIFY_RESIZE", flavorRef=cloud.flavor("usb-bigger", ram=320))
    cloud.act(server, "confirmResize", "ACTIVE")
    cloud.has(server, "B1", on=second)
    can_be_had(cloud, "A1")


def test_a_server_of_a_dead_host_is_evacuated_and_the_host_cleans_up_when_it_is_back(
    cloud: Cloud, second: Compute, server: str
) -> None:
    cloud.vm.freeze()
    eventually(lambda: cloud.state_of(HOST), "down", 120)
    cloud.act(server, "evacuate", "SHUTOFF")
    is_on(cloud, server, second.name)
    both = {f"{HOST}_usb_46f4:0001:A1", f"{second.name}_usb_46f4:0001:B1"}
    assert cloud.holds(server) == both, "the dead host may still have it running"
    cloud.act(server, "os-start", "ACTIVE")
    eventually(lambda: second.serials(server), ["B1"])

    cloud.vm.revive()
    cloud.wait_for_host(HOST)
    cloud.has(server, "B1", on=second)
    assert not domains.is_running(cloud.vm, server)
    can_be_had(cloud, "A1")
    heir = cloud.create("heir", flavor=cloud.flavor("usb"))
    cloud.becomes(heir, "ACTIVE")
    cloud.has(heir, "A1")
