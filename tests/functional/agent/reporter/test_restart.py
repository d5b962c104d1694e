"""An agent that starts anew: a few requests describe an idle host, and nothing that a full read finds is lost."""

import dataclasses
import json
import re

import pytest

from tests.fixtures.reporting import (
    DRAINED,
    KEY,
    KEY_RULE,
    KEY_TRAITS,
    KEY_UUID,
    ROOT_UUID,
    WITHDRAWN,
    consumer,
    keys,
    uuid_of,
    yubikey,
)
from usb_provider.agent.reporter import Reporter
from usb_provider.agent.store import StateStore
from usb_provider.exception import Unavailable
from usb_provider.model.reporting.tree import Inventory
from usb_provider.placement.observe import QUIET_LOOKS
from usb_provider.placement.root import RootFinder

FEW = 5
"""The requests that describe what is idle, whatever the number of devices."""

CANDIDATES = "^GET /allocation_candidates"
A_FULL_READ = ("inventories", "traits", "allocations")


def uuid_at(number):
    """The provider of the key with this number."""
    return uuid_of(f"1050:0407:Y{number}")


def read_in_full(placement):
    """The providers of which the last pass read every field, in any order."""
    paths = [request.path.split("/") for request in placement.requests if request.method == "GET"]
    asked = {(path[2], path[3]) for path in paths if len(path) == 4}
    return sorted({uuid for uuid, _ in asked if all((uuid, what) in asked for what in A_FULL_READ)})


def by_summary(tree):
    """What a summary can show of each provider of *tree*."""
    return {
        uuid: dataclasses.replace(
            each,
            inventories={
                name: int((inventory.total - inventory.reserved) * inventory.allocation_ratio)
                for name, inventory in each.inventories.items()
            },
        )
        for uuid, each in tree.providers.items()
    }


@pytest.fixture
def fully(host, tmp_path):
    """Gives what a command sees, which reads every provider in full."""

    def preview():
        client = host.client()
        store = StateStore(tmp_path / "state")
        roots = RootFinder(client, host.hints)
        return Reporter(
            host.look, client, roots, host.settings, store=store, executor=host._executor, in_full=True
        ).preview()

    return preview


@pytest.fixture
def settled(host):
    """Plugs keys in, and gives the host when a pass has reported them and the agent starts anew."""

    def settle(count):
        host.plug(*keys(count))
        host.run()
        host.restart()
        return host

    return settle


@pytest.mark.parametrize("count", [2, 10, 100])
def test_a_restart_on_an_idle_host_costs_at_most_five_requests_for_every_number_of_devices(placement, settled, count):
    host = settled(count)
    done = host.run()
    assert done.requests == len(placement.requests) <= FEW
    assert host.writes() == []
    assert len(done.tree.providers) == count


def test_a_root_with_memory_left_makes_it_three(placement, operator, settled):
    host = settled(20)
    operator.set_inventory(ROOT_UUID, "MEMORY_MB", total=64, max_unit=64)
    host.run()
    assert [request.path.partition("?")[0] for request in placement.requests] == [
        "/resource_providers",
        "/resource_providers",
        "/allocation_candidates",
    ]


def test_a_restart_with_one_device_reads_it_in_full(placement, settled):
    host = settled(1)
    assert host.run().requests <= FEW
    assert read_in_full(placement) == [KEY_UUID]


def test_the_first_pass_of_a_new_host_asks_for_no_summaries(placement, host):
    host.plug(*keys(10))
    host.run()
    assert not [request for request in placement.requests if re.match(CANDIDATES, f"GET {request.path}")]


def test_each_device_that_is_held_or_differs_costs_three_more(placement, operator, settled):
    host = settled(30)
    held, reserved, other_traits = range(1, 5), range(5, 8), range(8, 10)
    for number in held:
        placement.allocate(consumer(), {uuid_at(number): {"CUSTOM_USB_KEY": 1}})
    for number in reserved:
        operator.set_inventory(uuid_at(number), "CUSTOM_USB_KEY", reserved=1)
    for number in other_traits:
        operator.remove_traits(uuid_at(number), "CUSTOM_USB_SPEED_FULL")
    host.run()
    assert len(placement.requests) - len(host.writes()) - 2 <= FEW + 3 * (4 + 3 + 2)  # two for the traits' names
    assert read_in_full(placement) == sorted(uuid_at(number) for number in [*held, *reserved, *other_traits])
    assert host.written() == ["PUT traits"] * len(other_traits)


def test_a_host_whose_devices_are_all_held_is_read_one_by_one(placement, settled):
    host = settled(4)
    for number in range(1, 5):
        placement.allocate(consumer(), {uuid_at(number): {"CUSTOM_USB_KEY": 1}})
    done = host.run()
    assert done.requests <= FEW + 3 * 4
    assert all(provider.allocated for provider in done.tree.providers.values())


def test_drained_absent_and_withdrawn_devices_are_idle(placement, operator, settled):
    host = settled(12)
    for number in (1, 2):
        operator.add_traits(uuid_at(number), DRAINED)
    host.unplug(yubikey("Y3", "3"), yubikey("Y4", "4"))
    host.rules({"vendor_id": "1050", "serial": "Y5", "exclude": True}, KEY_RULE)
    host.run()
    assert WITHDRAWN in placement.traits(uuid_at(5))
    host.restart()
    assert host.run().requests <= FEW
    assert host.writes() == []
    assert read_in_full(placement) == []


def test_after_it_quiet_passes_read_a_few_providers_each_until_all_are_read(placement, settled):
    host = settled(QUIET_LOOKS + 3)
    host.run()
    read = []
    for _ in range(QUIET_LOOKS):
        assert host.run().requests <= 1 + 3 * 2
        read += read_in_full(placement)
    assert sorted(read) == sorted(uuid_at(number) for number in range(1, QUIET_LOOKS + 4))
    assert host.run().requests == 1


def test_an_unplug_while_they_are_being_read_costs_one_full_read_more(placement, settled):
    host = settled(10)
    host.run()
    host.unplug(yubikey("Y10", "10"))
    host.run()
    assert host.written() == ["PUT inventories", "PUT traits"]
    # The listing, which names exist, the provider in full since it is written, and the two writes.
    assert len(placement.requests) <= 1 + 2 + 3 + 2
    assert read_in_full(placement) == [uuid_at(10)]


@pytest.mark.parametrize(
    "field", [{"max_unit": 5}, {"total": 2, "reserved": 1}, {"total": 2, "allocation_ratio": 0.5}, {"step_size": 7}]
)
def test_what_summaries_do_not_show_is_repaired_in_a_later_pass(placement, operator, settled, field):
    host = settled(4)
    operator.set_inventory(KEY_UUID, "CUSTOM_USB_KEY", **field)
    host.run()
    for _ in range(4):
        host.run()
    (inventory,) = placement.inventory(KEY_UUID).values()
    # A reserved that an operator set stays the operator's.
    expected = Inventory(reserved=field.get("reserved", 0)).to_json()
    assert {name: inventory[name] for name in expected} == expected


def test_the_same_change_while_the_agent_runs_is_repaired_in_the_next_pass(placement, operator, settled):
    host = settled(4)
    host.run()
    operator.set_inventory(uuid_at(4), "CUSTOM_USB_KEY", max_unit=5)
    host.run()
    assert host.written() == ["PUT inventories"]
    assert read_in_full(placement) == [uuid_at(4)]


def test_a_command_repairs_it_at_once(host, operator, settled, fully):
    settled(4)
    operator.set_inventory(KEY_UUID, "CUSTOM_USB_KEY", max_unit=5)
    assert host.reporter().preview().plan.actions == ()
    assert [type(action).__name__ for action in fully().plan.actions] == ["SetInventory"]


def test_the_tree_is_the_one_that_full_reads_give(placement, operator, settled, fully):
    host = settled(12)
    placement.allocate(consumer(), {uuid_at(1): {"CUSTOM_USB_KEY": 1}})
    operator.set_inventory(uuid_at(2), "CUSTOM_USB_KEY", reserved=1)
    operator.add_traits(uuid_at(3), DRAINED, "CUSTOM_SITE_A")
    operator.remove_traits(uuid_at(4), *KEY_TRAITS)
    operator.drop_inventory(uuid_at(5))
    operator.set_inventory(uuid_at(6), "CUSTOM_OTHER", total=3, max_unit=3)
    operator.set_inventory(uuid_at(7), "CUSTOM_USB_KEY", max_unit=9)
    operator.create("host1_usb_by_hand", ROOT_UUID)
    short, full = host.reporter().preview(), fully()
    assert by_summary(short.tree) == by_summary(full.tree)
    assert short.tree.providers[uuid_at(7)] != full.tree.providers[uuid_at(7)]
    planned = [action for action in full.plan.actions if getattr(action, "provider_uuid", "") != uuid_at(7)]
    assert list(short.plan.actions) == planned
    assert short.plan.notes == full.plan.notes


def test_a_claim_made_between_the_listing_and_the_summaries_is_seen(placement, settled):
    host = settled(4)
    claim = {KEY_UUID: {"CUSTOM_USB_KEY": 1}}
    placement.before(CANDIDATES, lambda: placement.allocate(consumer(), claim))
    assert host.run().tree.providers[KEY_UUID].allocated


def test_a_claim_made_after_the_summaries_is_seen_in_the_next_pass(placement, settled):
    host = settled(4)
    host.run()
    placement.allocate(consumer(), {KEY_UUID: {"CUSTOM_USB_KEY": 1}})
    assert host.run().tree.providers[KEY_UUID].allocated


@pytest.mark.parametrize(
    "answer",
    [
        b'{"allocation_requests": [], "provider_summaries": {}}',
        json.dumps(
            {
                "allocation_requests": [],
                "provider_summaries": {
                    uuid_of(f"1050:0407:Y{n}"): {"resources": {"CUSTOM_USB_KEY": resources}, "traits": []}
                    for n, resources in enumerate(
                        ({"capacity": "1", "used": 0}, {"capacity": 1, "used": None}, {"capacity": -1, "used": 0}), 1
                    )
                },
            }
        ).encode(),
        400,
        404,
        403,
    ],
)
def test_without_a_usable_summary_each_provider_is_read_in_full(placement, settled, answer):
    host = settled(4)
    placement.fail_next(CANDIDATES, answer, None)
    done = host.run()
    assert len(read_in_full(placement)) == 4
    assert done.actions == ()
    assert host.run().requests == 1


@pytest.mark.parametrize("answer", [500, 503, "cut", b"<html>", b"[]", b'{"provider_summaries": {"x": 1}}'])
def test_where_the_summaries_fail_the_next_pass_does_without_them(placement, settled, answer):
    host = settled(4)
    placement.fail_next(CANDIDATES, answer, None)
    with pytest.raises(Unavailable):
        host.run()
    host.run()
    assert len(read_in_full(placement)) == 4
    assert not [request for request in placement.requests if request.path.startswith("/allocation_candidates")]


def test_a_root_that_nova_made_anew_is_described_by_summaries_too(placement, operator, host, settled):
    settled(6)
    host.run()
    uuids = [uuid_at(number) for number in range(1, 7)]
    operator.delete(*uuids, ROOT_UUID)
    again = operator.create("host1", None)
    for _ in range(2):
        with_root = None
        try:
            with_root = host.run()
        except Unavailable:
            continue
    assert with_root is not None
    assert with_root.root.uuid == again
    assert KEY in {key.partition("_usb_")[2] for key in placement.providers(again)}
