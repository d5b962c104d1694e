"""``openstack usb audit`` on a real Placement and a Nova: what it finds, what it mends, and what it leaves alone."""

from typing import Any

import pytest

from tests.fixtures.openstack import KEY, Cloud, named
from tests.fixtures.reporting import uuid_of
from usb_provider.osc.model.flavor import extra_specs_for

ONE = extra_specs_for(KEY)


def audit(cloud: Cloud, *words: str) -> tuple[list[dict[str, Any]], int]:
    """The findings and the exit code."""
    answer = cloud.openstack("usb", "audit", "-f", "json", *words)
    return answer.json, answer.code


def held(cloud: Cloud, root: str, consumer: str, key: str = "one") -> str:
    """A device that *consumer* holds."""
    uuid = cloud.device(root, key)
    cloud.placement.allocate(consumer, {uuid: {KEY: 1}})
    return uuid


def test_where_everything_fits_together_nothing_is_found(cloud: Cloud, root: str) -> None:
    held(cloud, root, cloud.nova.server("vm1", flavor=ONE))
    cloud.device(root, "free")
    assert audit(cloud) == ([], 0)
    assert audit(cloud, "--fix") == ([], 0)
    assert {request.method for request in cloud.placement.requests} == {"GET"}


def test_the_allocation_of_a_server_that_is_gone_is_found_and_deleted_only_when_told(cloud: Cloud, root: str) -> None:
    uuid = held(cloud, root, named("vm1"))
    (found,), code = audit(cloud)
    assert found == {
        "Problem": "server is gone",
        "ID": named("vm1"),
        "Name": "",
        "What": "It holds compute1_usb_one, but is neither a server nor a migration of Nova.",
        "Fix": "--fix: delete its allocations",
    }
    assert (code, cloud.placement.used(uuid)) == (1, 1)
    assert {request.method for request in cloud.placement.requests} == {"GET"}
    (found,), code = audit(cloud, "--fix")
    assert found["Fix"] == "done: delete its allocations"
    assert (code, cloud.placement.used(uuid)) == (0, 0)


def test_what_a_migration_under_way_holds_is_left_alone_and_what_one_that_is_over_holds_is_not(
    cloud: Cloud, root: str
) -> None:
    cloud.nova.server("vm1")
    moves = {"finished": False, "error": False, "migrating": False, "confirmed": True, "reverted": True}
    for status in moves:
        held(cloud, root, named(status), status)
        cloud.nova.migrations.append({"uuid": named(status), "instance_uuid": named("vm1"), "status": status})
    cloud.nova.page = 2
    found, _ = audit(cloud, "--fix")
    assert {(line["Problem"], line["ID"]) for line in found} == {
        ("migration is over", named(status)) for status, over in moves.items() if over
    }
    assert all(line["Name"] == "vm1" for line in found)
    for status, over in moves.items():
        assert cloud.placement.used(uuid_of(status, root)) == int(not over)


def test_a_server_that_no_listing_shows_but_that_is_there_keeps_its_allocation(cloud: Cloud, root: str) -> None:
    uuid = held(cloud, root, named("soft-deleted"))
    cloud.nova.hidden.append({"id": named("soft-deleted"), "name": "soft-deleted", "status": "SOFT_DELETED"})
    assert audit(cloud, "--fix") == ([], 0)
    assert cloud.placement.used(uuid) == 1


def test_a_consumer_of_another_service_keeps_its_allocation(cloud: Cloud, root: str) -> None:
    uuid = cloud.device(root)
    body = {
        "allocations": {uuid: {"resources": {KEY: 1}}},
        "consumer_generation": None,
        "consumer_type": "LEASE",
        "project_id": "project",
        "user_id": "user",
    }
    cloud.placement.api.must("PUT", f"/allocations/{named('lease')}", body)
    assert audit(cloud, "--fix") == ([], 0)
    assert cloud.placement.used(uuid) == 1


def test_while_a_cell_of_nova_does_not_answer_nothing_is_mended(cloud: Cloud, root: str) -> None:
    uuid = held(cloud, root, named("in-that-cell"))
    cloud.nova.services.append({"host": "compute9", "binary": "nova-compute", "status": "UNKNOWN"})
    answer = cloud.openstack("usb", "audit", "--fix", "-f", "json")
    assert (answer.json, answer.code) == ([], 1)
    assert "A cell of Nova does not answer" in answer.err
    assert cloud.placement.used(uuid) == 1


def test_a_host_in_a_cell_that_does_not_answer_is_not_called_gone_though_all_of_its_devices_are_held(
    cloud: Cloud,
) -> None:
    there = cloud.host(in_nova=False)
    cloud.nova.server("vm1", flavor=ONE)
    held(cloud, there, named("vm1"))
    cloud.nova.services.append({"host": "compute1", "binary": "nova-compute", "status": "UNKNOWN"})
    answer = cloud.openstack("usb", "audit", "-f", "json")
    assert (answer.json, answer.code) == ([], 1)
    assert "A cell of Nova does not answer" in answer.err


def test_devices_of_a_host_that_nova_does_not_have_are_deleted_but_for_those_that_are_held(cloud: Cloud) -> None:
    gone = cloud.host(in_nova=False)
    cloud.host("compute2")
    cloud.device(gone, "free")
    cloud.nova.server("vm1", flavor=ONE)
    held(cloud, gone, named("vm1"), "held")
    found, code = audit(cloud)
    assert {line["Name"]: line["Fix"] for line in found} == {
        "compute1_usb_free": "--fix: delete the provider",
        "compute1_usb_held": "",
    }
    assert code == 1
    found, code = audit(cloud, "--fix")
    assert {line["Name"]: line["Fix"].partition(":")[0] for line in found} == {
        "compute1_usb_free": "done",
        "compute1_usb_held": "",
    }
    assert code == 1, "one is left"
    assert set(cloud.placement.providers(gone)) == {"compute1", "compute1_usb_held"}


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ({}, True),
        ({"status": "SHUTOFF"}, True),
        ({"status": "BUILD"}, False),
        ({"status": "SHELVED_OFFLOADED", "host": ""}, False),
        ({"status": "ERROR", "host": ""}, False),
        ({"flavor": {}}, False),
    ],
)
def test_a_server_that_runs_without_the_device_its_flavor_asks_for_is_found_and_left_to_the_operator(
    cloud: Cloud, root: str, facts: dict[str, Any], found: bool
) -> None:
    cloud.device(root)
    cloud.nova.server("vm1", **({"flavor": ONE} | facts))
    lines, code = audit(cloud, "--fix")
    assert [(line["Problem"], line["Name"]) for line in lines] == [("server without device", "vm1")] * found
    assert code == int(found)


def test_a_server_that_is_deleted_while_the_audit_looks_is_not_found(cloud: Cloud, root: str) -> None:
    cloud.device(root)
    cloud.nova.server("vm1", flavor=ONE)
    cloud.placement.before("GET /allocation_candidates", cloud.nova.servers.clear)
    assert audit(cloud) == ([], 0)


def test_a_server_that_gets_its_device_while_the_audit_looks_is_not_found(cloud: Cloud, root: str) -> None:
    uuid = cloud.device(root)
    cloud.nova.server("vm1", flavor=ONE)
    cloud.placement.before("GET /allocations/", lambda: cloud.placement.allocate(named("vm1"), {uuid: {KEY: 1}}))
    assert audit(cloud) == ([], 0)


def test_an_allocation_whose_server_appears_before_it_is_deleted_stays(cloud: Cloud, root: str) -> None:
    uuid = held(cloud, root, named("vm1"))
    # The second time, right before the delete, nova knows it.
    appears = {"id": named("vm1"), "name": "vm1", "status": "ACTIVE"}
    cloud.placement.before("GET /allocations/", lambda: cloud.nova.hidden.append(appears))
    (line,), code = audit(cloud, "--fix")
    assert (line["Fix"], code) == ("not done: this is no longer true", 1)
    assert cloud.placement.used(uuid) == 1


def test_the_audit_reads_every_page_and_asks_little_of_nova(cloud: Cloud, root: str) -> None:
    for number in range(5):
        held(cloud, root, cloud.nova.server(f"vm{number}", flavor=ONE), f"key{number}")
    cloud.nova.page = 2
    assert audit(cloud) == ([], 0)
    assert cloud.requests() == 3 + 5
    assert cloud.nova.requests.count("GET /servers/detail") == 4
    assert not [request for request in cloud.nova.requests if "migrations" in request]


def test_without_the_role_admin_the_audit_says_what_is_missing(cloud: Cloud, root: str) -> None:
    cloud.nova.refuse = {"servers/detail": 403}
    answer = cloud.openstack("usb", "audit")
    assert answer.code == 1
    assert "your user needs the role admin, or a policy that allows it." in answer.err


def test_a_device_beyond_the_flavor_is_listed_and_is_no_trouble(cloud: Cloud, root: str) -> None:
    server = cloud.nova.server("vm1", flavor=ONE)
    devices = {cloud.device(root, key): {KEY: 1} for key in ("one", "two")}
    cloud.placement.allocate(server, devices)
    expected = {
        "Problem": "beyond its flavor",
        "ID": server,
        "Name": "vm1",
        "What": "It holds more than its flavor asks for (1 of compute1_usb_one, compute1_usb_two), as after "
        '"openstack usb server attach"; a resize or a migration loses that.',
        "Fix": "",
    }
    assert audit(cloud) == ([expected], 0)
    assert audit(cloud, "--fix") == ([expected], 0)
    assert {request.method for request in cloud.placement.requests} == {"GET"}
    cloud.nova.servers[0]["status"] = "RESIZE"
    assert audit(cloud) == ([], 0)
