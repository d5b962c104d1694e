"""Somebody else writes at the wrong moment: Placement's refusals are real, and nobody's change is lost.

Each write of a pass is preceded once by a second writer, who acts between our look and that write.
"""

import pytest

from tests.fixtures.placement import assert_usb_view
from tests.fixtures.reporting import (
    ABSENT,
    DRAINED,
    KEY_NAME,
    KEY_RULE,
    KEY_TRAITS,
    KEY_UUID,
    MANAGED,
    ROOT_UUID,
    Host,
    consumer,
    keys,
    row,
    topics,
    uuid_of,
    yubikey,
)
from usb_provider.exception import Conflict

POST = "^POST /resource_providers$"
PUT_TRAITS = f"^PUT /resource_providers/{KEY_UUID}/traits$"
PUT_INVENTORIES = f"^PUT /resource_providers/{KEY_UUID}/inventories$"
DELETE = f"^DELETE /resource_providers/{KEY_UUID}$"
HELD_GONE = {KEY_NAME: row(has={"CUSTOM_USB_KEY": (1, 1)}, traits=KEY_TRAITS | {ABSENT}, used=1)}
FREE_GONE = {KEY_NAME: row(has={}, traits=KEY_TRAITS | {ABSENT})}


@pytest.fixture
def reported(host, root):
    """The key is plugged in and reported."""
    host.plug(yubikey())
    host.run()


def statuses(placement):
    """The answers other than success of the last pass."""
    return [request.status for request in placement.requests if request.status not in (200, 201, 204)]


# A device appears


@pytest.mark.parametrize("write", [POST, PUT_TRAITS, PUT_INVENTORIES])
def test_a_second_agent_that_reports_the_same_device_at_the_same_time_does_no_harm(placement, host, operator, write):
    host.plug(yubikey())
    other_agent = {
        POST: lambda: operator.create(KEY_NAME, ROOT_UUID, KEY_UUID),
        PUT_TRAITS: lambda: operator.set_traits(KEY_UUID, KEY_TRAITS),
        PUT_INVENTORIES: lambda: operator.set_inventory(KEY_UUID, "CUSTOM_USB_KEY"),
    }
    placement.before(write, other_agent[write])
    done = host.run()
    assert statuses(placement) == [409]
    assert done.notes == ()
    assert_usb_view(placement, ROOT_UUID, {KEY_NAME: row()})


def test_an_operator_who_reserves_a_device_the_moment_it_appears_keeps_it(placement, host, root, operator):
    host.plug(yubikey())
    placement.before(PUT_INVENTORIES, lambda: operator.set_inventory(KEY_UUID, "CUSTOM_USB_KEY", reserved=1, total=1))
    host.run()
    assert statuses(placement) == [409]
    assert_usb_view(placement, root, {KEY_NAME: row(has={"CUSTOM_USB_KEY": (1, 1)})})


def test_an_operator_who_marks_a_device_the_moment_it_appears_keeps_the_mark(placement, host, root, operator):
    host.plug(yubikey())
    placement.before(PUT_INVENTORIES, lambda: operator.add_traits(KEY_UUID, "CUSTOM_SITE_C"))
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(traits=KEY_TRAITS | {"CUSTOM_SITE_C"})})


def test_a_provider_that_is_deleted_while_it_is_made_is_made_again(placement, host, root, operator):
    host.plug(yubikey())
    placement.before(PUT_TRAITS, lambda: operator.delete(KEY_UUID))
    host.run()
    assert statuses(placement) == [404]
    assert_usb_view(placement, root, {KEY_NAME: row()})


# A device changes


def test_a_trait_added_while_traits_are_written_is_kept(placement, host, root, operator, reported):
    host.rules(KEY_RULE | {"traits": ["CUSTOM_SITE_A"]})
    placement.before(PUT_TRAITS, lambda: operator.add_traits(KEY_UUID, "CUSTOM_SITE_C"))
    host.run()
    assert statuses(placement) == [409]
    assert_usb_view(placement, root, {KEY_NAME: row(traits=KEY_TRAITS | {"CUSTOM_SITE_A", "CUSTOM_SITE_C"})})


def test_reserved_while_its_class_changes_it_stays_reserved(placement, host, root, operator, reported):
    host.rules({"vendor_id": "1050", "resource_class": "CUSTOM_DONGLE"})
    placement.before(PUT_INVENTORIES, lambda: operator.set_inventory(KEY_UUID, "CUSTOM_USB_KEY", reserved=1))
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(has={"CUSTOM_DONGLE": (1, 1)})})


def test_allocated_while_its_class_changes_it_keeps_its_class(placement, host, root, reported):
    host.rules({"vendor_id": "1050", "resource_class": "CUSTOM_DONGLE"})
    placement.before(PUT_INVENTORIES, lambda: placement.allocate(consumer(), {KEY_UUID: {"CUSTOM_USB_KEY": 1}}))
    done = host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(used=1)})
    assert topics(done.notes) == [f"class:{KEY_UUID}"]


def test_drained_while_it_comes_back_it_stays_drained(placement, host, root, operator, reported):
    host.unplug()
    host.run()
    host.plug(yubikey())
    placement.before(PUT_INVENTORIES, lambda: operator.add_traits(KEY_UUID, DRAINED))
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(has={"CUSTOM_USB_KEY": (1, 1)}, traits=KEY_TRAITS | {DRAINED})})


def test_the_mark_taken_away_while_we_write_stops_us(placement, host, root, operator, reported):
    host.rules(KEY_RULE | {"traits": ["CUSTOM_SITE_A"]})
    placement.before(PUT_TRAITS, lambda: operator.remove_traits(KEY_UUID, MANAGED))
    done = host.run()
    assert topics(done.notes) == [f"foreign:{KEY_UUID}"]
    assert_usb_view(placement, root, {KEY_NAME: row(traits=KEY_TRAITS - {MANAGED})})


# A device goes


def test_allocated_between_our_look_and_our_write_it_is_kept_and_reserved(placement, host, root, reported):
    host.unplug()
    instance = consumer()
    placement.before(PUT_INVENTORIES, lambda: placement.allocate(instance, {KEY_UUID: {"CUSTOM_USB_KEY": 1}}))
    done = host.run()
    assert statuses(placement) == [409]
    assert_usb_view(placement, root, HELD_GONE)
    assert topics(done.notes) == [f"{ABSENT}:{KEY_UUID}"]


def test_an_inventory_that_placement_says_is_in_use_is_looked_at_again(placement, host, root, reported):
    host.unplug()
    placement.fail_next(PUT_INVENTORIES, 409, code="placement.inventory.inuse")
    placement.before(PUT_INVENTORIES, lambda: placement.allocate(consumer(), {KEY_UUID: {"CUSTOM_USB_KEY": 1}}))
    host.run()
    assert statuses(placement) == [409]
    assert_usb_view(placement, root, HELD_GONE)


def test_let_go_between_our_look_and_our_write_its_inventory_goes_at_the_next_pass_at_the_latest(
    placement, host, root, reported
):
    instance = consumer()
    placement.allocate(instance, {KEY_UUID: {"CUSTOM_USB_KEY": 1}})
    host.unplug()
    placement.before(PUT_INVENTORIES, lambda: placement.release(instance))
    host.run()
    host.run()
    assert_usb_view(placement, root, FREE_GONE)


def test_a_trait_added_while_a_device_goes_is_kept(placement, host, root, operator, reported):
    host.unplug()
    placement.before(PUT_TRAITS, lambda: operator.add_traits(KEY_UUID, "CUSTOM_SITE_C"))
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(has={}, traits=KEY_TRAITS | {ABSENT, "CUSTOM_SITE_C"})})


def test_plugged_in_again_while_its_going_is_written_it_is_there_again(placement, host, root, operator, reported):
    host.unplug()

    def back():
        operator.add_traits(KEY_UUID, "CUSTOM_SITE_C")
        host.plug(yubikey())

    placement.before(PUT_TRAITS, back)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(traits=KEY_TRAITS | {"CUSTOM_SITE_C"})})


def test_deleted_by_an_operator_while_its_going_is_written_it_is_just_gone(placement, host, root, operator, reported):
    host.unplug()
    placement.before(PUT_TRAITS, lambda: operator.delete(KEY_UUID))
    host.run()
    assert_usb_view(placement, root, {})


def test_allocated_just_before_it_is_set_aside_it_is_kept(placement, host, root, operator, reported):
    host.unplug()
    host.run()
    host.rules(KEY_RULE, purge_absent_after=1)
    old = {"Last-Modified": "Thu, 01 Jan 2015 00:00:00 GMT"}
    placement.fail_next(f"^GET /resource_providers/{KEY_UUID}$", b"{}", headers=old)

    def taken():
        operator.set_inventory(KEY_UUID, "CUSTOM_USB_KEY")
        placement.allocate(consumer(), {KEY_UUID: {"CUSTOM_USB_KEY": 1}})

    placement.before(PUT_TRAITS, taken)
    host.run()
    assert 409 in statuses(placement)
    assert_usb_view(placement, root, HELD_GONE)


def test_purged_by_an_operator_first_it_is_fine(placement, host, root, operator, reported):
    host.unplug()
    host.run()
    host.rules(KEY_RULE, purge_absent_after=1, purge_wait=0)
    old = {"Last-Modified": "Thu, 01 Jan 2015 00:00:00 GMT"}
    placement.fail_next(f"^GET /resource_providers/{KEY_UUID}$", b"{}", headers=old)
    host.run()
    placement.before(DELETE, lambda: operator.delete(KEY_UUID))
    assert host.run().notes == ()
    assert placement.api.must("GET", f"/resource_providers?uuid={KEY_UUID}")["resource_providers"] == []
    assert_usb_view(placement, root, {})


# Looking


@pytest.mark.parametrize("read", ["inventories", "traits", "allocations"])
def test_what_changes_between_two_reads_of_one_provider_is_read_as_one(placement, host, operator, reported, read):
    host.restart()
    host.unplug()
    instance = consumer()

    def change():
        operator.add_traits(KEY_UUID, "CUSTOM_SITE_C")
        placement.allocate(instance, {KEY_UUID: {"CUSTOM_USB_KEY": 1}})

    placement.before(f"^GET .*{KEY_UUID}/{read}$", change)
    host.run()
    assert_usb_view(
        placement,
        ROOT_UUID,
        {KEY_NAME: row(has={"CUSTOM_USB_KEY": (1, 1)}, traits=KEY_TRAITS | {ABSENT, "CUSTOM_SITE_C"}, used=1)},
    )


def test_a_provider_that_is_deleted_between_listing_and_reading_it_is_gone(placement, host, root, operator, reported):
    host.restart()
    host.unplug()
    placement.before(f"^GET .*{KEY_UUID}/inventories$", lambda: operator.delete(KEY_UUID))
    host.run()
    assert_usb_view(placement, root, {})


def test_a_provider_that_never_holds_still_ends_the_pass_and_the_others_are_reported(placement, host, root, operator):
    host.plug(yubikey())
    host.run()
    host.rules(KEY_RULE | {"traits": ["CUSTOM_SITE_A"]})
    host.plug(*keys(3))
    count = iter(range(1000))
    placement.before(PUT_TRAITS, lambda: operator.add_traits(KEY_UUID, f"CUSTOM_MOVE_{next(count)}"), times=None)
    with pytest.raises(Conflict):
        host.run()
    assert 2 <= next(count) <= 10
    for number in (2, 3):
        assert "CUSTOM_SITE_A" in placement.traits(uuid_of(f"1050:0407:Y{number}"))
        assert placement.inventory(uuid_of(f"1050:0407:Y{number}"))
    placement.calm()
    host.run()
    assert "CUSTOM_SITE_A" in placement.traits(KEY_UUID)


# Names of the cloud are deleted under us


def test_a_trait_that_is_deleted_under_us_is_made_again(placement, host, root, operator, reported):
    host.rules(KEY_RULE | {"traits": ["CUSTOM_SITE_A"]})
    placement.before(PUT_TRAITS, lambda: placement.api.must("DELETE", "/traits/CUSTOM_SITE_A"))
    host.run()
    assert statuses(placement) == [400]
    assert_usb_view(placement, root, {KEY_NAME: row(traits=KEY_TRAITS | {"CUSTOM_SITE_A"})})


def test_a_trait_that_was_deleted_since_we_last_asked_is_made_again(placement, host, root, reported):
    host.unplug()
    host.run()
    host.plug(yubikey())
    host.run()
    placement.api.must("DELETE", f"/traits/{ABSENT}")
    host.unplug()
    host.run()
    assert_usb_view(placement, root, FREE_GONE)


def test_a_class_that_is_deleted_under_us_is_made_again(placement, host, root):
    host.plug(yubikey())
    placement.before(PUT_INVENTORIES, lambda: placement.api.must("DELETE", "/resource_classes/CUSTOM_USB_KEY"))
    host.run()
    assert statuses(placement) == [400]
    assert_usb_view(placement, root, {KEY_NAME: row()})


def test_a_class_that_was_deleted_while_no_device_had_it_is_made_again(placement, host, root, reported):
    host.unplug()
    host.run()
    placement.api.must("DELETE", "/resource_classes/CUSTOM_USB_KEY")
    host.plug(yubikey())
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row()})


# Two agents


def test_two_agents_of_one_host_agree_and_come_to_rest(placement, host, root, workers, tmp_path):
    (tmp_path / "second").mkdir()
    other = Host(placement, tmp_path / "second", workers)
    host.plug(*keys(2))
    other.devices = host.devices
    for agent in (host, other):
        agent.run()
    host.unplug(yubikey())
    for agent in (other, host):
        agent.run()
    assert [agent.run().actions for agent in (host, other)] == [(), ()]
    assert_usb_view(placement, root, FREE_GONE | {"host1_usb_1050:0407:Y2": row()})
