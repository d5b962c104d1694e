"""A bundle: several devices are one unit of one provider. Every transition, read back through Placement's API."""

import pytest

from tests.fixtures.placement import assert_usb_view
from tests.fixtures.reporting import (
    ABSENT,
    KEY_RULE,
    KEY_TRAITS,
    MOUNTED,
    WITHDRAWN,
    consumer,
    keys,
    row,
    uuid_of,
    yubikey,
)
from usb_provider.exception import Unavailable
from usb_provider.model.binding.holding import holdings

CLASS = "CUSTOM_USB_KEY"
TWO_PORTS = [{"port": str(number), "resource_class": CLASS, "bundle": "desk"} for number in (1, 2)]
BUNDLE = "host1_usb_bundle_desk"
BUNDLE_UUID = uuid_of("bundle_desk")
ONE, TWO = keys(2)
NAMES = [f"host1_usb_1050:0407:Y{number}" for number in (1, 2)]
GONE = row(has={}, traits=KEY_TRAITS | {ABSENT})
HELD = row(used=1)


@pytest.fixture
def bundled(host, root):
    """Two keys are plugged in, and two rules make one bundle of them."""
    host.rules(*TWO_PORTS)
    host.plug(ONE, TWO)
    host.run()


def allocate(placement):
    """The UUID of a new instance that has the bundle."""
    uuid = consumer()
    placement.allocate(uuid, {BUNDLE_UUID: {CLASS: 1}})
    return uuid


def reasons(host):
    """Why each device is offered or not."""
    return [each.reason for each in host.reporter().view().devices]


def shares(host):
    """Which consumer has which device."""
    return {key: share.consumer for key, share in host.reporter().view().shares.items()}


def attachable(host, guest):
    """The devices that the binding loop would attach to the guest, by key."""
    view = host.reporter().view()
    return {each.key for each in holdings(view) if guest in each.consumers and each.device is not None}


def test_two_devices_appear_as_one_unit_with_the_traits_of_both(placement, host, root):
    host.rules(*TWO_PORTS)
    host.plug(ONE, yubikey("Y2", "2", product_id="0111"))
    host.run()
    assert_usb_view(placement, root, {BUNDLE: row(traits=KEY_TRAITS | {"CUSTOM_USB_PRODUCT_1050_0111"})})
    assert host.run().actions == ()


def test_it_is_offered_only_while_all_its_devices_are_there(placement, host, root):
    host.rules(*TWO_PORTS)
    host.plug(ONE)
    host.run()
    assert_usb_view(placement, root, {})
    assert reasons(host) == ["Not offered: its bundle desk lacks a device of device_spec rule 2."]
    host.plug(TWO)
    host.run()
    assert_usb_view(placement, root, {BUNDLE: row()})
    host.unplug(ONE)
    host.run()
    assert_usb_view(placement, root, {BUNDLE: GONE})
    host.plug(ONE)
    host.run()
    assert_usb_view(placement, root, {BUNDLE: row()})


def test_a_rule_says_how_many_devices_of_a_hub_belong_to_it(placement, host, root):
    host.rules({"port": "1.*", "resource_class": CLASS, "bundle": "desk", "at_least": 2})
    host.plug(yubikey("Y1", "1.1"))
    host.run()
    assert reasons(host) == ["Not offered: its bundle desk lacks 1 of 2 devices of device_spec rule 1."]
    host.plug(yubikey("Y2", "1.2"))
    host.run()
    assert_usb_view(placement, root, {BUNDLE: row()})


def test_while_the_host_uses_one_of_its_devices_it_is_not_offered_and_the_reason_names_it(
    placement, host, root, bundled
):
    host.plug(yubikey("Y2", "2", uses=(MOUNTED,)))
    host.run()
    assert_usb_view(placement, root, {BUNDLE: row(has={}, traits=KEY_TRAITS | {WITHDRAWN})})
    (reason,) = [each for each in reasons(host) if "bundle" in each]
    assert reason.startswith("Not offered: its bundle desk cannot have 1050:0407:Y2 (")


def test_a_held_bundle_that_loses_a_device_keeps_the_claim_and_is_promised_to_no_other(placement, host, root, bundled):
    guest = allocate(placement)
    host.run()
    assert shares(host) == {"1050:0407:Y1": guest, "1050:0407:Y2": guest}
    host.unplug(TWO)
    host.run()
    closed = row(has={CLASS: (1, 1)}, used=1, traits=KEY_TRAITS | {ABSENT})
    assert_usb_view(placement, root, {BUNDLE: closed})
    assert reasons(host) == ["Not offered: its bundle desk lacks 1050:0407:Y2, which the server had."]
    placement.release(guest)
    assert placement.candidates(f"resources={CLASS}:1") == []
    host.plug(TWO)
    host.run()
    host.run()
    assert_usb_view(placement, root, {BUNDLE: row()})


@pytest.mark.parametrize("restarted", [False, True])
def test_a_device_of_a_hub_that_is_missing_is_waited_for_also_after_a_restart(placement, host, root, restarted):
    host.rules({"port": "1.*", "resource_class": CLASS, "bundle": "desk"})
    host.plug(yubikey("Y1", "1.1"), yubikey("Y2", "1.2"))
    host.run()
    guest = allocate(placement)
    host.run()
    host.unplug(yubikey("Y2", "1.2"))
    if restarted:
        host.restart()
    host.run()
    assert shares(host) == {"1050:0407:Y1": guest, "1050:0407:Y2": guest}
    assert reasons(host) == ["Not offered: its bundle desk lacks 1050:0407:Y2, which the server had."]
    host.plug(yubikey("Y2", "1.2"))
    host.run()
    assert_usb_view(placement, root, {BUNDLE: HELD})


def test_a_device_in_the_place_of_a_broken_one_completes_a_held_bundle(placement, host, root, bundled):
    guest = allocate(placement)
    host.run()
    host.unplug(TWO)
    host.run()
    host.plug(yubikey("Y9", "2"))
    host.run()
    assert_usb_view(placement, root, {BUNDLE: HELD})
    assert shares(host) == {"1050:0407:Y1": guest, "1050:0407:Y9": guest}


def test_free_devices_change_from_single_to_bundle_and_back_at_once(placement, host, root):
    host.plug(ONE, TWO)
    host.run()
    host.rules(*TWO_PORTS)
    host.run()
    assert_usb_view(placement, root, {BUNDLE: row(), **dict.fromkeys(NAMES, GONE)})
    host.rules(KEY_RULE)
    host.run()
    assert_usb_view(placement, root, {BUNDLE: GONE, **dict.fromkeys(NAMES, row())})
    assert host.run().actions == ()


def test_a_held_single_device_joins_the_bundle_when_it_is_let_go(placement, host, root):
    host.plug(ONE, TWO)
    host.run()
    guest = consumer()
    placement.allocate(guest, {uuid_of("1050:0407:Y1"): {CLASS: 1}})
    host.rules(*TWO_PORTS)
    host.run()
    held = row(has={CLASS: (1, 1)}, used=1, traits=KEY_TRAITS | {WITHDRAWN})
    assert_usb_view(placement, root, {NAMES[0]: held, NAMES[1]: GONE})
    placement.release(guest)
    host.run()
    host.run()
    assert_usb_view(placement, root, {BUNDLE: row(), **dict.fromkeys(NAMES, GONE)})


def test_a_held_bundle_is_taken_apart_when_it_is_let_go(placement, host, root, bundled):
    guest = allocate(placement)
    host.run()
    host.rules(KEY_RULE)
    host.run()
    closed = row(has={CLASS: (1, 1)}, used=1, traits=KEY_TRAITS | {WITHDRAWN})
    assert_usb_view(placement, root, {BUNDLE: closed})
    assert [each.offered for each in host.reporter().view().devices] == [True, True]
    placement.release(guest)
    host.run()
    host.run()
    assert_usb_view(placement, root, {BUNDLE: GONE, **dict.fromkeys(NAMES, row())})


def test_a_claim_that_comes_while_the_rules_change_is_kept_and_nothing_is_promised_twice(
    placement, host, root, bundled
):
    host.rules(KEY_RULE)
    guests = []
    placement.before(f"^PUT /resource_providers/{BUNDLE_UUID}/inventories$", lambda: guests.append(allocate(placement)))
    host.run()
    (guest,) = guests
    closed = row(has={CLASS: (1, 1)}, used=1, traits=KEY_TRAITS | {WITHDRAWN})
    assert_usb_view(placement, root, {BUNDLE: closed})
    assert shares(host) == {"1050:0407:Y1": guest, "1050:0407:Y2": guest}


def test_a_bundle_whose_last_device_goes_keeps_the_claim(placement, host, root, bundled):
    guest = allocate(placement)
    host.run()
    host.unplug()
    host.run()
    assert_usb_view(placement, root, {BUNDLE: row(has={CLASS: (1, 1)}, used=1, traits=KEY_TRAITS | {ABSENT})})
    assert shares(host) == {"1050:0407:Y1": guest, "1050:0407:Y2": guest}
    host.plug(ONE, TWO)
    host.run()
    assert_usb_view(placement, root, {BUNDLE: HELD})


def test_a_quiet_pass_over_a_bundle_costs_one_request(placement, host, root, bundled):
    assert host.run().requests == 1


def test_a_held_bundle_stays_whole_when_the_rules_add_a_device_that_is_not_there(placement, host, root, bundled):
    guest = allocate(placement)
    host.run()
    host.rules(*TWO_PORTS, {"port": "3", "resource_class": CLASS, "bundle": "desk"})
    host.run()
    assert_usb_view(placement, root, {BUNDLE: HELD})
    placement.release(guest)
    host.run()
    host.run()
    assert_usb_view(placement, root, {BUNDLE: GONE})


def test_a_device_that_goes_before_the_agent_has_seen_the_claim_is_missing(placement, host, root):
    host.rules({"port": "1.*", "resource_class": CLASS, "bundle": "desk"})
    host.plug(yubikey("Y1", "1.1"), yubikey("Y2", "1.2"))
    host.run()
    allocate(placement)
    host.unplug(yubikey("Y2", "1.2"))
    host.run()
    assert reasons(host) == ["Not offered: its bundle desk lacks 1050:0407:Y2, which the server had."]


def test_a_free_device_joins_a_held_bundle_only_when_it_can_no_longer_be_had_alone(placement, host, root):
    host.rules({"port": "1", "resource_class": CLASS, "bundle": "desk"}, KEY_RULE)
    host.plug(ONE, TWO)
    host.run()
    guest = allocate(placement)
    host.run()
    host.rules(*TWO_PORTS)
    put = f"^PUT /resource_providers/{uuid_of('1050:0407:Y2')}/inventories$"
    placement.fail_next(put, 503, times=None)
    with pytest.raises(Unavailable):
        host.run()
    placement.calm()
    assert shares(host) == {"1050:0407:Y1": guest}
    assert attachable(host, guest) == {"1050:0407:Y1"}
    host.run()
    host.run()
    assert attachable(host, guest) == {"1050:0407:Y1", "1050:0407:Y2"}
    assert shares(host) == {"1050:0407:Y1": guest, "1050:0407:Y2": guest}
