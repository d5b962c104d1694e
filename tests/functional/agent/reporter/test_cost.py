"""What a pass costs in requests, counted by the server; the numbers that the documents give are these.

test_restart.py counts those of an agent that starts anew.
"""

import pytest

from tests.fixtures.placement import Request
from tests.fixtures.reporting import KEY_RULE, KEY_TRAITS, KEY_UUID, ROOT_UUID, consumer, keys, uuid_of, yubikey

LISTING = Request("GET", f"/resource_providers?in_tree={ROOT_UUID}", 200)
KEY_NAMES = len(KEY_TRAITS) + 2
"""Their traits, their class, and the trait of an unplugged device, which is made along with the first others."""
"""How many traits and classes the first key of a cloud needs."""


def reads(placement):
    """What the last pass asked of single providers: (UUID, what)."""
    paths = [request.path.split("/") for request in placement.requests if request.method == "GET"]
    return [(path[2], path[3] if len(path) > 3 else "") for path in paths if len(path) > 2]


@pytest.fixture
def settled(host):
    """Plugs devices in, and gives the host when a pass has reported them."""

    def settle(*devices):
        host.plug(*devices)
        host.run()
        return host

    return settle


@pytest.mark.parametrize("count", [0, 1, 10, 100])
def test_new_devices_cost_three_requests_each_and_after_them_a_quiet_pass_costs_one(placement, host, root, count):
    host.plug(*keys(count))
    done = host.run()
    assert done.requests == len(placement.requests) <= 3 * count + KEY_NAMES + 4
    assert len([name for name in placement.providers(root) if name != "host1"]) == count
    for _ in range(2):
        assert host.run().requests == 1
        assert placement.requests == [LISTING]


def test_the_next_hosts_devices_of_the_same_kind_need_no_new_names(placement, host, settled):
    settled(yubikey())
    host.restart()
    host.plug(yubikey("Y2", "2"))
    host.run()
    # The root, the listing, three reads of the known one, two of names, and the three writes.
    assert len(placement.requests) <= 1 + 1 + 3 + 2 + 3


def test_one_hotplug_costs_at_most_four(placement, host, settled):
    settled(*keys(10))
    host.plug(yubikey("Y11", "11"))
    host.run()
    assert len(placement.requests) <= 4
    assert host.written() == ["POST", "PUT traits", "PUT inventories"]


def test_the_first_unplug_costs_no_more_than_any_other(placement, host, settled):
    settled(*keys(10))
    host.unplug(yubikey())
    host.run()
    assert len(placement.requests) <= 3
    assert host.written() == ["PUT inventories", "PUT traits"]


def test_one_unplug_costs_at_most_three(placement, host, settled):
    settled(*keys(10))
    host.unplug(yubikey("Y9", "9"))
    host.run()
    host.unplug(yubikey())
    host.run()
    assert len(placement.requests) <= 3


def test_one_replug_costs_at_most_three(placement, host, settled):
    settled(*keys(10))
    host.unplug(yubikey())
    host.run()
    host.plug(yubikey())
    host.run()
    assert len(placement.requests) <= 3
    assert host.run().requests == 1


def test_an_allocation_costs_one_read_of_that_provider_and_no_other(placement, settled):
    host = settled(*keys(10))
    placement.allocate(consumer(), {KEY_UUID: {"CUSTOM_USB_KEY": 1}})
    assert host.run().requests == 4
    assert reads(placement) == [(KEY_UUID, what) for what in ("inventories", "traits", "allocations")]
    assert host.run().requests == 1


def test_allocations_of_the_root_cost_nothing(placement, operator, settled):
    host = settled(*keys(3))
    operator.set_inventory(ROOT_UUID, "VCPU", total=16, max_unit=16)
    placement.allocate(consumer(), {ROOT_UUID: {"VCPU": 2}})
    assert host.run().requests == 1


def test_devices_that_are_held_and_plugged_in_cost_nothing(placement, settled):
    host = settled(*keys(10))
    for number in range(1, 11):
        placement.allocate(consumer(), {uuid_of(f"1050:0407:Y{number}"): {"CUSTOM_USB_KEY": 1}})
    host.run()
    assert host.run().requests == 1


def test_a_device_that_is_held_and_unplugged_costs_one_more_request_a_pass_until_it_is_let_go(placement, settled):
    """Placement does not tell by a generation that an allocation was deleted, so we have to ask."""
    host = settled(*keys(3))
    instance = consumer()
    placement.allocate(instance, {KEY_UUID: {"CUSTOM_USB_KEY": 1}})
    host.run()
    host.unplug(yubikey())
    # The listing, who holds it, a new trait's name, and the two writes.
    assert host.run().requests <= 5
    assert host.run().requests == 2
    assert reads(placement) == [(KEY_UUID, "allocations")]
    placement.release(instance)
    assert host.run().requests == 3
    assert host.run().requests == 1


def test_absent_devices_cost_nothing(placement, settled):
    host = settled(*keys(10))
    host.unplug()
    host.run()
    assert host.run().requests == 1


def test_absent_devices_that_are_to_be_purged_some_day_are_asked_once_how_long_they_have_been(placement, settled):
    host = settled(*keys(5))
    host.rules(KEY_RULE, purge_absent_after=86400)
    host.unplug()
    host.run()
    assert host.run().requests == 1 + 5
    assert host.run().requests == 1


def test_devices_that_are_not_offered_cost_nothing(placement, settled):
    host = settled(*(yubikey(f"Z{n}", str(n), vendor_id="dead") for n in range(1, 11)))
    assert host.run().requests == 1


def test_a_rule_that_gains_a_trait_costs_one_write_a_device(placement, settled):
    host = settled(*keys(10))
    host.rules(KEY_RULE | {"traits": ["CUSTOM_SITE_A"]})
    host.run()
    assert len(placement.requests) <= 1 + 10 + 1
    assert host.written() == ["PUT traits"] * 10


def test_one_conflict_costs_a_look_and_that_provider_alone(placement, operator, settled):
    host = settled(*keys(10))
    host.rules(KEY_RULE | {"traits": ["CUSTOM_SITE_A"]})
    placement.before(f"^PUT .*{KEY_UUID}/traits$", lambda: operator.add_traits(KEY_UUID, "CUSTOM_SITE_C"))
    host.run()
    assert len(placement.requests) <= 1 + 1 + 10 + 1 + 3 + 1


def test_writes_of_different_devices_run_side_by_side_on_connections_that_stay_open(placement, settled):
    """The server serves one request at a time, so what shows here is the number of connections."""
    ports = set()
    serve = placement._disturbed

    def counting(request, environ):
        ports.add(environ["REMOTE_PORT"])
        return serve(request, environ)

    placement._disturbed = counting
    try:
        host = settled(*keys(40))
        for _ in range(3):
            host.run()
    finally:
        del placement._disturbed
    assert len(placement.requests) == 1
    assert 2 <= len(ports) <= 10
