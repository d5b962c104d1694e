"""Devices with one serial number: both go by their port, and the one that an instance holds is not disturbed."""

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
    uuid_of,
    yubikey,
)
from usb_provider.model.devices.device import Speed


def port_name(port):
    return f"host1_usb_1050:0407@0000:00:14.0-{port}"


def port_uuid(port):
    return uuid_of(f"1050:0407@0000:00:14.0-{port}")


FIRST, TWIN = yubikey("Y1", "1"), yubikey("Y1", "2")
GONE = row(has={}, traits=KEY_TRAITS | {ABSENT})
HELD_GONE = row(has={"CUSTOM_USB_KEY": (1, 1)}, traits=KEY_TRAITS | {ABSENT}, used=1)


@pytest.fixture
def held(placement, host, root):
    """The UUID of an instance that has the first device, which is alone so far."""
    host.plug(FIRST)
    host.run()
    uuid = consumer()
    placement.allocate(uuid, {KEY_UUID: {"CUSTOM_USB_KEY": 1}})
    host.run()
    return uuid


def test_two_devices_with_one_serial_go_by_their_ports(placement, host, root):
    host.plug(FIRST, TWIN)
    host.run()
    assert_usb_view(placement, root, {port_name(1): row(), port_name(2): row()})


def test_a_free_device_is_demoted_when_its_twin_comes_and_restored_when_it_goes(placement, host, root):
    host.plug(FIRST)
    host.run()
    host.plug(TWIN)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: GONE, port_name(1): row(), port_name(2): row()})
    host.unplug(TWIN)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(), port_name(1): GONE, port_name(2): GONE})


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_an_allocated_device_keeps_its_provider_when_its_twin_comes(placement, host, root, held, restarted):
    host.plug(TWIN)
    host.run()
    expected = {KEY_NAME: row(used=1), port_name(2): row()}
    assert_usb_view(placement, root, expected)
    if restarted:
        host.restart()
    assert host.run().actions == ()
    assert_usb_view(placement, root, expected)


def test_it_keeps_it_whichever_port_comes_first(placement, host, root):
    first, twin = yubikey("Y1", "5"), yubikey("Y1", "2")
    host.plug(first)
    host.run()
    placement.allocate(consumer(), {KEY_UUID: {"CUSTOM_USB_KEY": 1}})
    host.plug(twin)
    host.run()
    expected = {KEY_NAME: row(used=1), port_name(2): row()}
    assert_usb_view(placement, root, expected)
    host.restart()
    assert host.run().actions == ()
    assert_usb_view(placement, root, expected)


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_the_twin_does_not_inherit_what_the_unplugged_one_holds(placement, host, root, held, restarted):
    host.plug(TWIN)
    host.run()
    host.unplug(FIRST)
    if restarted:
        host.restart()
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: HELD_GONE, port_name(2): row()})
    host.plug(FIRST)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(used=1), port_name(2): row()})


def test_when_the_instance_lets_go_both_go_by_their_ports(placement, host, root, held):
    host.plug(TWIN)
    host.run()
    placement.release(held)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: GONE, port_name(1): row(), port_name(2): row()})


def test_a_device_that_is_allocated_by_its_port_keeps_that_when_it_is_alone_again(placement, host, root):
    host.plug(FIRST, TWIN)
    host.run()
    instance = consumer()
    placement.allocate(instance, {port_uuid(1): {"CUSTOM_USB_KEY": 1}})
    host.unplug(TWIN)
    host.run()
    expected = {port_name(1): row(used=1), port_name(2): GONE}
    assert_usb_view(placement, root, expected)
    host.restart()
    assert host.run().actions == ()
    assert_usb_view(placement, root, expected)
    placement.release(instance)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(), port_name(1): GONE, port_name(2): GONE})


def test_where_the_rule_wants_a_serial_a_twin_is_left_out(placement, host, root, held):
    host.rules(KEY_RULE | {"identity": "serial"})
    host.plug(TWIN)
    done = host.run()
    assert [each.offered for each in done.devices] == [True, False]
    assert_usb_view(placement, root, {KEY_NAME: row(used=1)})


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_a_usb_2_and_a_usb_3_device_at_ports_that_are_numbered_alike_are_two(placement, host, root, restarted):
    usb3 = {"sys_name": "2-3", "sys_path": "/sys/devices/pci0000:00/0000:00:14.0/usb2/2-3", "busnum": 2}
    host.plug(yubikey(None, "3"), yubikey(None, "3", speed=Speed.SUPER, **usb3))
    host.run()
    fast = KEY_TRAITS - {"CUSTOM_USB_SPEED_FULL"} | {"CUSTOM_USB_SPEED_SUPER"}
    expected = {port_name(3): row(), f"{port_name(3)}+usb3": row(traits=fast)}
    assert_usb_view(placement, root, expected)
    assert len(placement.candidates("resources=CUSTOM_USB_KEY:1")) == 2
    if restarted:
        host.restart()
    assert host.run().actions == ()


def test_equal_devices_on_two_controllers_are_two(placement, host, root):
    other = "/sys/devices/pci0000:00/0000:00:1a.0/usb3/3-1"
    host.plug(yubikey(None), yubikey(None, sys_name="3-1", sys_path=other, controller="0000:00:1a.0", busnum=3))
    host.run()
    assert_usb_view(placement, root, {port_name(1): row(), "host1_usb_1050:0407@0000:00:1a.0-1": row()})


def test_a_held_device_that_comes_back_where_another_was_once_seen_keeps_its_claim(placement, host, root, held):
    """The other one has no serial number, so that its key is the port's."""
    other = yubikey(None, "2")
    host.plug(other)
    host.run()
    for gone in (other, FIRST):
        host.unplug(gone)
        host.run()
    host.plug(TWIN)  # the held one, in the other's port
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(used=1), port_name(2): GONE})


def test_a_held_device_that_comes_back_where_it_was_when_it_had_a_twin_keeps_its_claim(placement, host, root):
    host.plug(FIRST, TWIN)
    host.run()
    host.unplug(TWIN)
    host.run()
    placement.allocate(consumer(), {KEY_UUID: {"CUSTOM_USB_KEY": 1}})
    elsewhere = yubikey("Y1", "3")
    for before, after in ((FIRST, elsewhere), (elsewhere, FIRST)):
        host.unplug(before)
        host.run()
        host.plug(after)
        host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(used=1), port_name(1): GONE, port_name(2): GONE})


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_a_twin_that_stays_does_not_inherit_what_the_unplugged_one_holds_by_its_port(placement, host, root, restarted):
    host.plug(FIRST, TWIN)
    host.run()
    placement.allocate(consumer(), {port_uuid(1): {"CUSTOM_USB_KEY": 1}})
    host.unplug(FIRST)
    for _ in range(3):
        if restarted:
            host.restart()
        host.run()
        assert_usb_view(placement, root, {port_name(1): HELD_GONE, port_name(2): GONE, KEY_NAME: row()})


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_a_held_device_that_moves_while_another_takes_its_place_is_kept_from_all_at_each_look(
    placement, host, root, held, restarted
):
    host.unplug(FIRST)
    host.plug(yubikey(None, "1"), TWIN)
    for _ in range(3):
        if restarted:
            host.restart()
        found = {each.device.sys_name: each for each in host.run().devices}
        assert (found["1-1"].identity.key, found["1-2"].offered) == ("1050:0407:Y1", False)
        assert held in found["1-2"].reason
        assert_usb_view(placement, root, {KEY_NAME: row(used=1)})
