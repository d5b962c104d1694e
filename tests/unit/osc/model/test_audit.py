"""What does not fit together, given what Placement and nova said."""

import pytest

from placement_traits import MANAGED
from usb_provider.model.reporting.tree import Amount
from usb_provider.osc.model.audit import (
    AllocationsDeletion,
    AuditFinding,
    Consumer,
    ConsumerKind,
    Migration,
    Problem,
    ProviderDeletion,
    Server,
    consumer_of,
    findings,
)
from usb_provider.osc.model.flavor import extra_specs_for
from usb_provider.osc.model.fleet import Device

KEY = Device("key", "host1_usb_key", "host1", "root1", frozenset({MANAGED}), {"CUSTOM_USB_KEY": Amount(1, 1)})
MOVES = {status: Migration(status, "vm", status) for status in ("finished", "error", "confirmed", "failed")}


def a_server(uuid: str, status: str, host: str, asks: int, resource_class: str = "CUSTOM_USB_KEY") -> Server:
    """A server whose flavor asks for so many devices."""
    return Server(uuid, "vm1", status, host, extra_specs_for(resource_class, asks) if asks else {})


def found(
    consumer: Consumer | None = None, *servers: Server, hosts: tuple[str, ...] = ("root1",)
) -> list[AuditFinding]:
    """What is found when *consumer* holds the one device."""
    holders = {"key": {consumer.uuid: 1}} if consumer else {}
    consumers = {consumer.uuid: consumer} if consumer else {}
    return list(findings([KEY], holders, consumers, servers, hosts))


@pytest.mark.parametrize(
    ("uuid", "kind", "words"),
    [
        ("vm", ConsumerKind.SERVER, "server vm1"),
        ("finished", ConsumerKind.MIGRATION, "a migration of server vm1 (finished)"),
        ("error", ConsumerKind.MIGRATION, "a migration of server vm1 (error)"),
        ("confirmed", ConsumerKind.OVER, "a migration of server vm1 (confirmed)"),
        ("failed", ConsumerKind.MIGRATION, "a migration of server vm1 (failed)"),
    ],
)
def test_a_consumer_is_a_server_or_a_migration_under_way_or_over(uuid: str, kind: ConsumerKind, words: str) -> None:
    consumer = consumer_of(uuid, {"vm": "vm1"}, MOVES)
    assert consumer is not None
    assert (consumer.kind, str(consumer)) == (kind, words)


def test_a_consumer_that_nova_does_not_know_is_neither() -> None:
    assert consumer_of("unknown", {"vm": "vm1"}, MOVES) is None


@pytest.mark.parametrize("kind", [ConsumerKind.SERVER, ConsumerKind.MIGRATION, ConsumerKind.FOREIGN])
def test_a_consumer_that_may_hold_a_device_is_not_found(kind: ConsumerKind) -> None:
    assert found(Consumer("c", kind)) == []


@pytest.mark.parametrize(
    ("kind", "problem"), [(ConsumerKind.GONE, Problem.NO_SERVER), (ConsumerKind.OVER, Problem.MIGRATION_OVER)]
)
def test_a_consumer_that_should_hold_nothing_is_found_with_its_fix(kind: ConsumerKind, problem: Problem) -> None:
    (finding,) = found(Consumer("c", kind))
    assert (finding.problem, finding.uuid, finding.fix) == (problem, "c", AllocationsDeletion("c"))


def test_a_device_of_no_host_is_deleted_only_when_no_consumer_holds_it() -> None:
    (finding,) = found(hosts=())
    assert (finding.problem, finding.fix) == (Problem.NO_HOST, ProviderDeletion("key"))
    (finding,) = found(Consumer("c", ConsumerKind.SERVER), hosts=())
    assert finding.fix is None
    assert "held by c" in finding.text


@pytest.mark.parametrize(
    ("server", "is_found"),
    [
        (a_server("vm", "ACTIVE", "host1", 1), True),
        (a_server("vm", "VERIFY_RESIZE", "host1", 1), True),
        # On its way the old flavor is shown beside the new allocation, and for a moment it holds nothing.
        (a_server("vm", "RESIZE", "host1", 1), False),
        (a_server("vm", "REVERT_RESIZE", "host1", 1), False),
        (a_server("vm", "MIGRATING", "host1", 1), False),
        (a_server("vm", "ACTIVE", "host1", 0), False),
        (a_server("vm", "ERROR", "", 1), False),
        (a_server("vm", "BUILD", "host1", 1), False),
        (a_server("vm", "UNKNOWN", "", 0), False),
        (a_server("c", "ACTIVE", "host1", 1), False),
        (a_server("c", "ACTIVE", "host1", 2), True),
    ],
)
def test_a_server_on_a_host_that_holds_less_than_its_flavor_asks_for_is_found(server: Server, is_found: bool) -> None:
    lines = found(Consumer("c", ConsumerKind.SERVER), server)
    assert [line.problem for line in lines] == [Problem.NO_DEVICE] * is_found
    assert all(line.fix is None for line in lines)


@pytest.mark.parametrize(("resource_class", "is_found"), [("CUSTOM_DONGLE", True), ("CUSTOM_FPGA", False)])
def test_a_class_of_any_name_counts_when_a_device_has_it(resource_class: str, is_found: bool) -> None:
    dongle = Device("d", "host1_usb_d", "host1", "root1", frozenset({MANAGED}), {"CUSTOM_DONGLE": Amount(1, 0)})
    server = a_server("vm", "ACTIVE", "host1", 1, resource_class)
    assert bool(findings([dongle], {}, {}, [server], ["root1"])) is is_found
