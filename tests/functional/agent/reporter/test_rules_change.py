"""The rules change while the agent runs or while it is down: classes, traits and the way devices are told apart."""

import pytest

from tests.fixtures.placement import assert_usb_view
from tests.fixtures.reporting import (
    ABSENT,
    KEY_NAME,
    KEY_RULE,
    KEY_TRAITS,
    KEY_UUID,
    consumer,
    row,
    topics,
    uuid_of,
    yubikey,
)
from usb_provider.model.devices import spec
from usb_provider.model.devices.keys import JunkSerials

DONGLE_RULE = {"vendor_id": "1050", "resource_class": "CUSTOM_DONGLE"}
DONGLE = {"CUSTOM_DONGLE": (1, 0)}
SITE_RULE = KEY_RULE | {"traits": ["CUSTOM_SITE_A", "CUSTOM_SITE_B"]}
PORT_KEY = "1050:0407@0000:00:14.0-1"
PORT_NAME = f"host1_usb_{PORT_KEY}"


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


# The class


def test_a_free_device_changes_its_class_at_once(placement, host, root, reported):
    host.rules(DONGLE_RULE)
    done = host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(has=DONGLE)})
    assert host.written() == ["PUT inventories"]
    assert done.notes == ()


def test_an_allocated_device_keeps_its_class_until_it_is_free_and_says_so(placement, host, root, held):
    host.rules(DONGLE_RULE | {"traits": ["CUSTOM_SITE_A"]})
    done = host.run()
    traits = KEY_TRAITS | {"CUSTOM_SITE_A"}
    assert_usb_view(placement, root, {KEY_NAME: row(used=1, traits=traits)})
    assert topics(done.notes) == [f"class:{KEY_UUID}"]
    for word in (KEY_NAME, "CUSTOM_USB_KEY", "CUSTOM_DONGLE", held):
        assert word in done.notes[0].text
    assert not done.notes[0].blocks
    host.restart()
    again = host.run()
    assert (again.notes, again.actions) == (done.notes, ())
    placement.release(held)
    assert host.run().notes == ()
    assert_usb_view(placement, root, {KEY_NAME: row(has=DONGLE, traits=traits)})


def test_a_class_that_waits_is_forgotten_when_the_rule_is_changed_back(placement, host, root, held):
    host.rules(DONGLE_RULE)
    host.run()
    host.rules(KEY_RULE)
    assert host.run().notes == ()
    assert_usb_view(placement, root, {KEY_NAME: row(used=1)})


def test_a_class_that_waits_outlives_unplugging(placement, host, root, held):
    host.rules(DONGLE_RULE)
    host.run()
    host.unplug()
    host.run()
    assert_usb_view(
        placement, root, {KEY_NAME: row(has={"CUSTOM_USB_KEY": (1, 1)}, traits=KEY_TRAITS | {ABSENT}, used=1)}
    )
    host.plug(yubikey())
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(used=1)})
    host.unplug()
    host.run()
    placement.release(held)
    host.run()
    host.plug(yubikey())
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(has=DONGLE)})


# Traits of rules


def test_traits_that_a_rule_gains_and_drops_come_and_go(placement, host, root, reported):
    host.rules(SITE_RULE)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(traits=KEY_TRAITS | {"CUSTOM_SITE_A", "CUSTOM_SITE_B"})})
    host.rules(KEY_RULE | {"traits": ["CUSTOM_SITE_B"]})
    host.run()
    assert host.written() == ["PUT traits"]
    assert_usb_view(placement, root, {KEY_NAME: row(traits=KEY_TRAITS | {"CUSTOM_SITE_B"})})


def test_a_dropped_trait_goes_also_when_the_rule_changed_while_the_agent_was_down(placement, host, root, reported):
    host.rules(SITE_RULE)
    host.run()
    host.restart()
    host.rules(KEY_RULE)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row()})


def test_a_dropped_trait_goes_also_from_a_device_that_is_away_meanwhile(placement, host, root, reported):
    host.rules(SITE_RULE)
    host.run()
    host.unplug()
    host.run()
    host.restart()
    host.rules(KEY_RULE)
    host.run()
    host.restart()
    host.plug(yubikey())
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row()})


def test_traits_of_an_allocated_device_change_too(placement, host, root, held):
    host.rules(SITE_RULE)
    host.run()
    host.rules(KEY_RULE)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(used=1)})


def test_a_trait_that_no_rule_of_this_host_ever_gave_is_an_operators(placement, host, root, operator, reported):
    operator.add_traits(KEY_UUID, "CUSTOM_SITE_C")
    host.rules(SITE_RULE)
    host.run()
    host.restart()
    host.rules(KEY_RULE)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(traits=KEY_TRAITS | {"CUSTOM_SITE_C"})})


def test_once_it_is_gone_a_rules_former_trait_may_be_an_operators(placement, host, root, operator, reported):
    host.rules(SITE_RULE)
    host.run()
    host.rules(KEY_RULE)
    host.run()
    operator.add_traits(KEY_UUID, "CUSTOM_SITE_A")
    for _ in range(2):
        assert host.run().actions == ()
        host.restart()
    assert_usb_view(placement, root, {KEY_NAME: row(traits=KEY_TRAITS | {"CUSTOM_SITE_A"})})


def test_without_its_memory_the_agent_takes_a_dropped_trait_for_an_operators(placement, host, root, reported):
    host.rules(SITE_RULE)
    host.run()
    host.restart()
    (host.directory / "state" / "rule-traits.json").unlink()
    host.rules(KEY_RULE)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(traits=KEY_TRAITS | {"CUSTOM_SITE_A", "CUSTOM_SITE_B"})})


def test_a_trait_that_was_to_be_written_when_we_died_goes_when_the_rule_has_dropped_it(placement, host, root):
    host.rules(SITE_RULE)
    host.plug(yubikey())
    placement.fail_next(r"^PUT .*/inventories$", 503)
    with pytest.raises(Exception, match="503"):
        host.run()
    assert "CUSTOM_SITE_A" in placement.traits(KEY_UUID)
    host.restart()
    host.rules(KEY_RULE)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row()})


# Telling devices apart


def test_a_free_device_whose_rule_now_goes_by_port_is_another_provider(placement, host, root, reported):
    host.rules(KEY_RULE | {"identity": "port"})
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(has={}, traits=KEY_TRAITS | {ABSENT}), PORT_NAME: row()})
    host.rules(KEY_RULE)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(), PORT_NAME: row(has={}, traits=KEY_TRAITS | {ABSENT})})


def test_an_allocated_device_whose_rule_now_goes_by_port_waits_until_it_is_free(placement, host, root, held):
    host.rules(KEY_RULE | {"identity": "port"})
    assert host.run().actions == ()
    host.restart()
    assert host.run().actions == ()
    assert_usb_view(placement, root, {KEY_NAME: row(used=1)})
    placement.release(held)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(has={}, traits=KEY_TRAITS | {ABSENT}), PORT_NAME: row()})


def test_a_rule_that_wants_a_serial_leaves_out_a_device_without_one(placement, host, root):
    host.plug(yubikey(None))
    host.run()
    assert_usb_view(placement, root, {PORT_NAME: row()})
    host.rules(KEY_RULE | {"identity": "serial"})
    done = host.run()
    assert [each.offered for each in done.devices] == [False]
    assert placement.inventory(uuid_of(PORT_KEY)) == {}


def test_a_serial_that_is_declared_junk_makes_its_device_go_by_port(placement, host, root, reported):
    host.rules(KEY_RULE, junk_serials=JunkSerials(["Y1"]))
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(has={}, traits=KEY_TRAITS | {ABSENT}), PORT_NAME: row()})


def test_a_standard_trait_that_placement_does_not_know_keeps_only_its_own_device_back(
    placement, host, root, monkeypatch
):
    """The agent's os-traits may be newer than Placement's."""
    monkeypatch.setattr(spec, "_standard_traits", lambda: frozenset({"HW_FROM_TOMORROW"}))
    host.plug(yubikey("Y1", "1"), yubikey("Y2", "2"))
    host.rules(KEY_RULE | {"serial": "Y1", "traits": ["HW_FROM_TOMORROW"]}, KEY_RULE)
    done = host.run()
    assert topics(done.notes) == [f"unknown:{KEY_UUID}"]
    assert done.notes[0].blocks and "HW_FROM_TOMORROW" in done.notes[0].text
    assert uuid_of("1050:0407:Y2") in {uuid for uuid, each in done.tree.providers.items() if each.inventories}
    host.rules(KEY_RULE)
    assert host.run().notes == ()
    assert_usb_view(placement, root, {KEY_NAME: row(), "host1_usb_1050:0407:Y2": row()})
