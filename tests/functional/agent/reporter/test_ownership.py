"""What is whose: an operator's reserved and traits, the drain, and providers that are not ours."""

import pytest

from tests.fixtures.placement import assert_usb_view, usb_view
from tests.fixtures.reporting import (
    ABSENT,
    DRAINED,
    KEY_NAME,
    KEY_RULE,
    KEY_TRAITS,
    KEY_UUID,
    MANAGED,
    ROOT_UUID,
    WITHDRAWN,
    consumer,
    keys,
    row,
    topics,
    yubikey,
)

RESERVED = {"CUSTOM_USB_KEY": (1, 1)}
WAS_RESERVED = "CUSTOM_USB_STATE_RESERVED"


@pytest.fixture
def reported(host, root):
    """The key is plugged in and reported."""
    host.plug(yubikey())
    host.run()


@pytest.fixture
def held(placement, reported):
    """The UUID of an instance that has the key."""
    uuid = consumer()
    placement.allocate(uuid, {KEY_UUID: {"CUSTOM_USB_KEY": 1}})
    return uuid


@pytest.fixture
def reserved(operator, reported):
    """An operator has reserved the key."""
    operator.set_inventory(KEY_UUID, "CUSTOM_USB_KEY", reserved=1)


# An operator's reserved


def test_an_operators_reserved_is_never_reset_by_a_pass_or_a_restart(placement, host, root, reserved):
    for _ in range(2):
        assert host.run().actions == ()
        host.restart()
    assert_usb_view(placement, root, {KEY_NAME: row(has=RESERVED)})


def test_an_operators_reserved_outlives_unplugging_and_a_restart(placement, host, root, reserved):
    host.unplug()
    host.run()
    assert ABSENT in placement.traits(KEY_UUID)
    assert placement.candidates("resources=CUSTOM_USB_KEY:1") == []
    host.restart()
    assert host.run().actions == ()
    host.plug(yubikey())
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(has=RESERVED)})


def test_an_operators_reserved_outlives_withdrawal_and_absence_after_it(placement, host, root, reserved):
    host.rules({"vendor_id": "dead"})
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(has=RESERVED, traits=KEY_TRAITS | {WITHDRAWN, WAS_RESERVED})})
    host.unplug()
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(has=RESERVED, traits=KEY_TRAITS | {ABSENT, WAS_RESERVED})})
    host.restart()
    host.rules(KEY_RULE)
    host.plug(yubikey())
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(has=RESERVED)})


def test_an_operators_reserved_outlives_changes_of_the_rule(placement, host, root, reserved):
    host.rules(KEY_RULE | {"traits": ["CUSTOM_SITE_A"]})
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(has=RESERVED, traits=KEY_TRAITS | {"CUSTOM_SITE_A"})})
    host.rules({"vendor_id": "1050", "resource_class": "CUSTOM_DONGLE"})
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(has={"CUSTOM_DONGLE": (1, 1)})})


def test_an_operators_reserved_while_allocated_outlives_all_that_happens_meanwhile(
    placement, host, root, operator, held
):
    operator.set_inventory(KEY_UUID, "CUSTOM_USB_KEY", reserved=1)
    assert host.run().actions == ()
    host.unplug()
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(has=RESERVED, traits=KEY_TRAITS | {ABSENT, WAS_RESERVED}, used=1)})
    host.restart()
    host.plug(yubikey())
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(has=RESERVED, used=1)})
    placement.release(held)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(has=RESERVED)})


def test_an_operators_reserved_is_kept_when_the_instance_lets_go_while_the_device_is_absent(
    placement, host, root, operator, held
):
    operator.set_inventory(KEY_UUID, "CUSTOM_USB_KEY", reserved=1)
    host.unplug()
    host.run()
    placement.release(held)
    host.run()
    host.plug(yubikey())
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(has=RESERVED)})


def test_what_an_operator_gives_back_is_given_back(placement, host, root, operator, reserved):
    operator.set_inventory(KEY_UUID, "CUSTOM_USB_KEY", reserved=0)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row()})


def test_an_operator_may_take_back_reserved_while_the_device_is_absent(placement, host, root, operator, reserved):
    host.unplug()
    host.run()
    operator.remove_traits(KEY_UUID, WAS_RESERVED)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(has={}, traits=KEY_TRAITS | {ABSENT})})
    host.plug(yubikey())
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row()})


# The rest of the inventory is ours


@pytest.mark.parametrize(
    "edit",
    [{"total": 5, "max_unit": 5}, {"allocation_ratio": 16.0}, {"total": 4, "step_size": 2, "max_unit": 4}],
    ids=" ".join,
)
def test_an_operators_edit_of_what_makes_a_device_one_unit_is_undone(placement, host, operator, reported, edit):
    operator.set_inventory(KEY_UUID, "CUSTOM_USB_KEY", **edit)
    host.run()
    assert_usb_view(placement, ROOT_UUID, {KEY_NAME: row()})
    assert host.run().actions == ()


def test_a_total_that_is_undone_leaves_the_reserved_that_came_with_it(placement, host, root, operator, reported):
    operator.set_inventory(KEY_UUID, "CUSTOM_USB_KEY", total=4, reserved=3)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(has=RESERVED)})


def test_a_second_class_on_our_provider_is_taken_off(placement, host, root, operator, reported):
    operator.set_inventory(KEY_UUID, "CUSTOM_OTHER")
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row()})


def test_an_inventory_that_somebody_deleted_comes_back(placement, host, root, operator, reported):
    operator.drop_inventory(KEY_UUID)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row()})


# Traits


def test_traits_that_an_operator_added_are_kept_through_everything(placement, host, root, operator, reported):
    theirs = {"CUSTOM_USB_MYTHING", "CUSTOM_LICENCE_FLOATING", "HW_NIC_SRIOV"}
    operator.add_traits(KEY_UUID, *theirs)
    assert host.run().actions == ()
    host.rules(KEY_RULE | {"traits": ["CUSTOM_SITE_A"]})
    host.run()
    host.unplug()
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(has={}, traits=KEY_TRAITS | theirs | {ABSENT, "CUSTOM_SITE_A"})})
    host.restart()
    host.rules(KEY_RULE)
    host.plug(yubikey())
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(traits=KEY_TRAITS | theirs)})


def test_traits_of_ours_that_somebody_removed_come_back(placement, host, root, operator, reported):
    operator.remove_traits(KEY_UUID, "CUSTOM_USB_VENDOR_1050", "CUSTOM_USB_SPEED_FULL")
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row()})


def test_traits_under_our_prefixes_that_are_not_true_are_removed(placement, host, root, operator, reported):
    operator.add_traits(KEY_UUID, "CUSTOM_USB_SPEED_SUPER", "CUSTOM_USB_VENDOR_DEAD", ABSENT)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row()})


# Drained


def test_a_drained_device_takes_no_new_instance_until_it_is_undrained(placement, host, root, operator, reported):
    operator.add_traits(KEY_UUID, DRAINED)
    operator.set_inventory(KEY_UUID, "CUSTOM_USB_KEY", reserved=1)
    assert host.run().actions == ()
    host.restart()
    assert host.run().actions == ()
    assert_usb_view(placement, root, {KEY_NAME: row(has=RESERVED, traits=KEY_TRAITS | {DRAINED})})
    operator.remove_traits(KEY_UUID, DRAINED)
    operator.set_inventory(KEY_UUID, "CUSTOM_USB_KEY", reserved=0)
    assert host.run().actions == ()
    assert_usb_view(placement, root, {KEY_NAME: row()})


def test_the_trait_alone_drains(placement, host, root, operator, reported):
    operator.add_traits(KEY_UUID, DRAINED)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(has=RESERVED, traits=KEY_TRAITS | {DRAINED})})


def test_a_drained_device_keeps_its_instance_and_stays_drained_when_it_is_let_go(placement, host, root, operator, held):
    operator.add_traits(KEY_UUID, DRAINED)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(has=RESERVED, traits=KEY_TRAITS | {DRAINED}, used=1)})
    placement.release(held)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(has=RESERVED, traits=KEY_TRAITS | {DRAINED})})


def test_the_drain_outlives_a_replug_and_a_restart_and_leaves_no_trace_after_it(
    placement, host, root, operator, reported
):
    operator.add_traits(KEY_UUID, DRAINED)
    host.run()
    host.unplug()
    host.run()
    assert {ABSENT, DRAINED} <= placement.traits(KEY_UUID)
    host.restart()
    host.plug(yubikey())
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(has=RESERVED, traits=KEY_TRAITS | {DRAINED})})
    operator.remove_traits(KEY_UUID, DRAINED)
    operator.set_inventory(KEY_UUID, "CUSTOM_USB_KEY", reserved=0)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row()})


def test_a_device_may_be_drained_and_undrained_while_it_is_absent(placement, host, root, operator, reported):
    host.unplug()
    host.run()
    operator.add_traits(KEY_UUID, DRAINED)
    assert host.run().actions == ()
    operator.remove_traits(KEY_UUID, DRAINED)
    host.run()
    host.plug(yubikey())
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row()})


def test_undrained_while_absent_and_allocated_it_comes_back_unreserved(placement, host, root, operator, held):
    operator.add_traits(KEY_UUID, DRAINED)
    host.run()
    host.unplug()
    host.run()
    operator.remove_traits(KEY_UUID, DRAINED)
    host.run()
    host.plug(yubikey())
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(used=1)})


# Providers that are not ours


def snapshot(placement, root):
    """Everything about a tree, with generations."""
    return placement.providers(root), usb_view(placement, root)


@pytest.fixture
def strangers(placement, root, operator):
    """Providers beside and around ours that others look after; gives the UUID of another host's root."""
    pci = operator.create("host1_0000:81:00.0", root)
    operator.set_traits(pci, {"COMPUTE_MANAGED_PCI_DEVICE", "OWNER_NOVA"})
    operator.set_inventory(pci, "CUSTOM_PCI_15B3_1018")
    numa = operator.create("host1_numa_0", root)
    operator.set_inventory(numa, "MEMORY_MB", total=1024, max_unit=1024)
    operator.create("host1_numa_0_bridge_usb_x", numa)
    look_alike = operator.create("host1_usb_1050:0407:Y9", root)
    operator.set_traits(look_alike, {"CUSTOM_USB_VENDOR_1050", ABSENT})
    operator.set_inventory(look_alike, "CUSTOM_USB_KEY")
    agent = operator.create("host1:NIC Switch agent", root)
    operator.set_traits(agent, {MANAGED, "CUSTOM_PHYSNET_A"})
    other = placement.create_root("host2")
    sibling = operator.create("host2_usb_1050:0407:Y7", other)
    operator.set_traits(sibling, {MANAGED})
    operator.set_inventory(sibling, "CUSTOM_USB_KEY")
    return other


def test_what_is_not_ours_is_never_written(placement, host, root, operator, strangers):
    before = snapshot(placement, root), snapshot(placement, strangers)
    for devices in (keys(2), [], [yubikey("Y2")]):
        host.unplug()
        host.plug(*devices)
        host.run()
        host.restart()
        host.run()
    host.rules()
    host.run()
    providers, view = snapshot(placement, root)
    for name in [name for name in providers if name in (KEY_NAME, "host1_usb_1050:0407:Y2")]:
        del providers[name], view[name]
    assert ((providers, view), snapshot(placement, strangers)) == before


def test_the_root_itself_is_never_written(placement, host, root, operator):
    operator.set_inventory(root, "VCPU", total=16)
    operator.set_traits(root, {"COMPUTE_NODE", MANAGED})
    before = placement.providers(root)["host1"], placement.inventory(root), placement.traits(root)
    host.plug(*keys(2))
    host.run()
    host.unplug()
    host.run()
    assert (placement.providers(root)["host1"], placement.inventory(root), placement.traits(root)) == before


def test_a_provider_of_our_uuid_whose_mark_somebody_removed_is_left_alone_with_a_note(
    placement, host, root, operator, reported
):
    operator.remove_traits(KEY_UUID, MANAGED)
    before = snapshot(placement, root)
    host.plug(yubikey("Y2", "2"))
    done = host.run()
    assert topics(done.notes) == [f"foreign:{KEY_UUID}"]
    assert done.notes[0].blocks
    assert KEY_NAME in done.notes[0].text and MANAGED in done.notes[0].text
    assert_usb_view(placement, root, before[1] | {"host1_usb_1050:0407:Y2": row()})
    host.unplug()
    host.run()
    assert placement.providers(root)[KEY_NAME] == before[0][KEY_NAME]


def test_the_mark_set_again_hands_it_back(placement, host, root, operator, reported):
    operator.remove_traits(KEY_UUID, MANAGED, "CUSTOM_USB_SPEED_FULL")
    host.run()
    operator.add_traits(KEY_UUID, MANAGED)
    assert host.run().notes == ()
    assert_usb_view(placement, root, {KEY_NAME: row()})


def test_without_the_mark_it_is_not_made_absent_or_purged_either(placement, host, root, operator, reported):
    operator.remove_traits(KEY_UUID, MANAGED)
    before = snapshot(placement, root)
    host.unplug()
    host.restart()
    host.rules(purge_absent_after=1)
    host.run()
    assert snapshot(placement, root) == before


# A name or UUID that is taken elsewhere in the cloud


def test_a_name_that_is_taken_elsewhere_blocks_that_device_only_and_without_a_hot_loop(placement, host, root, operator):
    elsewhere = operator.create(KEY_NAME, None)
    host.plug(*keys(2))
    done = host.run()
    assert topics(done.notes) == [f"name:{KEY_UUID}"]
    assert done.notes[0].blocks
    assert_usb_view(placement, root, {"host1_usb_1050:0407:Y2": row()})
    again = host.run()
    assert again.notes == done.notes
    assert len(placement.requests) <= 6
    assert placement.inventory(elsewhere) == {} and placement.traits(elsewhere) == set()
    operator.delete(elsewhere)
    assert host.run().notes == ()
    assert_usb_view(placement, root, {KEY_NAME: row(), "host1_usb_1050:0407:Y2": row()})


def test_a_uuid_that_is_taken_in_another_tree_blocks_that_device_only(placement, host, root, operator):
    other = placement.create_root("host2")
    operator.create("somebody", other, KEY_UUID)
    before = snapshot(placement, other)
    host.plug(*keys(2))
    done = host.run()
    assert topics(done.notes) == [f"name:{KEY_UUID}"]
    assert_usb_view(placement, root, {"host1_usb_1050:0407:Y2": row()})
    assert snapshot(placement, other) == before
