"""A pool: like devices of a host are units of one provider. Every transition, read back through Placement's API."""

import pytest

from placement_traits import member_drained_trait
from tests.fixtures.placement import assert_usb_view
from tests.fixtures.reporting import (
    ABSENT,
    DRAINED,
    KEY_RULE,
    KEY_TRAITS,
    ROOT_UUID,
    WITHDRAWN,
    consumer,
    keys,
    row,
    topics,
    uuid_of,
    yubikey,
)
from usb_provider.exception import Unavailable
from usb_provider.model.reporting.plan import SetInventory
from usb_provider.model.units.names import member_id
from usb_provider.model.units.sharing import Share

POOL_RULE = KEY_RULE | {"pool": "hasp"}
OTHER_RULE = KEY_RULE | {"pool": "other"}
POOL = "host1_usb_pool_hasp"
POOL_UUID = uuid_of("pool_hasp")
OTHER = "host1_usb_pool_other"
SHORT = "CUSTOM_USB_STATE_SHORT"
CLASS = "CUSTOM_USB_KEY"
ONE, TWO, THREE = keys(3)
NAMES = [f"host1_usb_1050:0407:Y{number}" for number in (1, 2, 3)]
GONE = row(has={}, traits=KEY_TRAITS | {ABSENT})


def units(total, reserved=0, resource_class=CLASS):
    """The inventory of so many units, of which one claim may take all."""
    return {resource_class: (total, reserved, {"max_unit": total}) if total > 1 else (total, reserved)}


def pool(total, reserved=0, used=0, traits=()):
    """The pool's line in the table."""
    return row(has=units(total, reserved), used=used, traits=KEY_TRAITS | set(traits))


def free(placement, amount=1):
    """How many ways there are to get so many units."""
    return len(placement.candidates(f"resources={CLASS}:{amount}"))


@pytest.fixture
def pooled(host, root):
    """Three keys are plugged in, and a rule has them in one pool."""
    host.rules(POOL_RULE)
    host.plug(ONE, TWO, THREE)
    host.run()


def allocate(placement, amount=1, provider=POOL_UUID, resource_class=CLASS):
    """The UUID of a new instance that has so many units."""
    uuid = consumer()
    placement.allocate(uuid, {provider: {resource_class: amount}})
    return uuid


def shares(host):
    """Which consumer has which member, as the agent would tell its binding loop."""
    view = host.reporter().view()
    return {key: share.consumer for key, share in view.shares.items()}


# Growing and shrinking


def test_like_devices_appear_as_units_of_one_provider(placement, host, root, pooled):
    assert_usb_view(placement, root, {POOL: pool(3)})
    inventory = placement.inventory(POOL_UUID)[CLASS]
    assert (inventory["max_unit"], inventory["step_size"], inventory["min_unit"]) == (3, 1, 1)
    assert host.run().actions == ()


def test_a_pool_grows_and_shrinks_with_its_members(placement, host, root, pooled):
    host.unplug(THREE)
    host.run()
    assert host.written() == ["PUT inventories"]
    assert_usb_view(placement, root, {POOL: pool(2)})
    assert free(placement, 3) == 0
    host.plug(THREE, yubikey("Y4", "4"))
    host.run()
    assert_usb_view(placement, root, {POOL: pool(4)})
    host.unplug()
    host.run()
    assert_usb_view(placement, root, {POOL: GONE})
    host.plug(ONE)
    host.run()
    assert_usb_view(placement, root, {POOL: pool(1)})


def test_twins_without_serial_numbers_are_two_units(placement, host, root):
    host.rules(POOL_RULE)
    host.plug(yubikey(None, "1"), yubikey(None, "2"))
    host.run()
    assert_usb_view(placement, root, {POOL: pool(2)})


def test_a_pool_has_the_traits_that_all_its_members_share_and_no_serial_number(placement, host, root):
    host.rules(POOL_RULE, serial_trait=True)
    host.plug(ONE, yubikey("Y2", "2", product_id="0111"))
    host.run()
    assert_usb_view(placement, root, {POOL: pool(2) | {"traits": KEY_TRAITS - {"CUSTOM_USB_PRODUCT_1050_0407"}}})
    host.unplug(yubikey("Y2", "2"))
    host.run()
    assert_usb_view(placement, root, {POOL: pool(1)})


def test_single_and_pooled_devices_stand_side_by_side(placement, host, root):
    host.rules({"vendor_id": "1050", "serial": "Y1", "resource_class": CLASS}, POOL_RULE)
    host.plug(ONE, TWO, THREE)
    host.run()
    assert_usb_view(placement, root, {NAMES[0]: row(), POOL: pool(2)})


def test_a_member_that_the_host_uses_is_no_unit(placement, host, root, pooled):
    host.plug(yubikey("Y2", "2", drivers=("usbfs",)))
    host.run()
    assert_usb_view(placement, root, {POOL: pool(2)})


def test_a_member_that_its_guest_has_open_stays_a_unit(placement, host, root, pooled):
    allocate(placement, 2)
    host.run()
    host.plug(yubikey("Y1", "1", drivers=("usbfs",)), yubikey("Y2", "2", drivers=("usbfs",)))
    assert host.run().actions == ()
    assert_usb_view(placement, root, {POOL: pool(3, used=2)})


# Held


def test_a_spare_takes_over_at_once_and_the_pool_gives_one_fewer(placement, host, root, pooled):
    guest = allocate(placement)
    host.run()
    assert shares(host) == {"1050:0407:Y1": guest}
    host.unplug(ONE)
    assert shares(host) == {"1050:0407:Y1": guest}
    host.run()
    assert shares(host) == {"1050:0407:Y2": guest}
    assert_usb_view(placement, root, {POOL: pool(2, used=1)})
    host.plug(ONE)
    host.run()
    assert shares(host) == {"1050:0407:Y2": guest}
    assert_usb_view(placement, root, {POOL: pool(3, used=1)})


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_a_member_that_is_unplugged_while_all_are_held_keeps_the_claims_and_is_promised_to_no_other(
    placement, host, root, pooled, restarted
):
    guests = [allocate(placement) for _ in range(3)]
    host.run()
    had = shares(host)
    assert sorted(had.values()) == sorted(guests)
    host.unplug(TWO)
    if restarted:
        host.restart()
    done = host.run()
    assert_usb_view(placement, root, {POOL: pool(3, 1, used=3, traits=[SHORT])})
    assert topics(done.notes) == [f"{SHORT}:{POOL_UUID}"]
    placement.release(had["1050:0407:Y1"])
    assert free(placement) == 0  # before the agent has noticed
    host.run()
    host.run()
    assert_usb_view(placement, root, {POOL: pool(2, used=2)})
    assert sorted(shares(host).values()) == sorted({had["1050:0407:Y2"], had["1050:0407:Y3"]})
    assert host.run().notes == ()


def test_with_its_last_member_gone_a_held_pool_keeps_the_claim(placement, host, root, pooled):
    guest = allocate(placement, 2)
    host.unplug()
    host.run()
    host.run()
    assert_usb_view(placement, root, {POOL: pool(2, 2, used=2, traits=[ABSENT])})
    host.plug(THREE)
    host.run()
    assert_usb_view(placement, root, {POOL: pool(2, 1, used=2, traits=[SHORT])})
    host.plug(TWO)
    host.run()
    assert_usb_view(placement, root, {POOL: pool(2, used=2)})
    assert set(shares(host).values()) == {guest}
    host.unplug()
    host.run()
    placement.release(guest)
    host.run()
    host.run()
    assert_usb_view(placement, root, {POOL: GONE})


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_two_guests_get_their_own_members_back(placement, host, root, pooled, restarted):
    guests = allocate(placement), allocate(placement)
    host.run()
    had = shares(host)
    host.unplug()
    host.run()
    if restarted:
        host.restart()
        host.run()
    host.plug(TWO)
    host.run()
    assert shares(host)["1050:0407:Y2"] == had["1050:0407:Y2"]
    host.plug(ONE, THREE)
    host.run()
    assert shares(host) == had
    assert set(had.values()) == set(guests)


def test_what_is_plugged_into_the_place_of_a_missing_member_takes_over(placement, host, root):
    host.rules(POOL_RULE)
    host.plug(ONE)
    host.run()
    guest = allocate(placement)
    host.run()
    host.unplug()
    host.plug(yubikey("Y9", "1"))
    host.run()
    assert_usb_view(placement, root, {POOL: pool(1, used=1)})
    assert shares(host) == {"1050:0407:Y9": guest}


def test_the_binding_loops_word_on_who_has_what_outweighs_the_agents_guess(placement, host, root, pooled):
    guest = allocate(placement)
    host.run()
    host.reporter().tell_shares({"1050:0407:Y3": Share("pool_hasp", guest)})
    host.run()
    host.restart()
    host.run()
    assert shares(host) == {"1050:0407:Y3": guest}


# Drained and reserved


def test_a_drained_member_is_no_unit_and_stays_with_its_guest(placement, host, root, operator, pooled):
    guest = allocate(placement)
    host.run()
    mark = member_drained_trait(member_id(uuid_of("1050:0407:Y1")))
    operator.add_traits(POOL_UUID, mark)
    host.run()
    assert_usb_view(placement, root, {POOL: pool(2, used=1, traits=[mark])})
    assert shares(host) == {"1050:0407:Y1": guest}
    host.unplug(TWO, THREE)
    host.run()
    placement.release(guest)
    host.run()
    other = allocate_or_none(placement)
    assert other is None
    operator.remove_traits(POOL_UUID, mark)
    host.run()
    assert_usb_view(placement, root, {POOL: pool(1)})


def test_a_member_that_a_command_drained_is_shown_as_drained_on_the_host(placement, host, root, operator, pooled):
    operator.add_traits(POOL_UUID, member_drained_trait(member_id(uuid_of("1050:0407:Y1"))))
    done = host.run()
    one, two, _ = done.devices
    assert (one.drained, two.drained) == (True, False)
    assert one.reason == (
        "Offered by device_spec rule 1, but an operator drained it: only a server that has it keeps it."
    )
    assert [each.drained for each in host.reporter().view().devices] == [True, False, False]
    assert done.notes == ()


def test_a_drain_with_a_mistyped_key_is_told_with_the_keys_that_there_are(placement, host, root, operator, pooled):
    digits = member_id(uuid_of("1050:0407:Y7"))
    operator.add_traits(POOL_UUID, member_drained_trait(digits))
    (note,) = host.run().notes
    assert note.text == (
        f"{POOL} has the drain of a member that this host does not know ({digits}), so the drain has no effect; the "
        f"members here are 1050:0407:Y1, 1050:0407:Y2, 1050:0407:Y3. If the key was wrong, end the drain: openstack "
        f"usb device set --undrain --member {digits} {POOL}"
    )
    operator.remove_traits(POOL_UUID, member_drained_trait(digits))
    assert host.run().notes == ()


def test_the_drain_of_a_member_that_is_unplugged_is_no_mistake(placement, host, root, operator, pooled):
    operator.add_traits(POOL_UUID, member_drained_trait(member_id(uuid_of("1050:0407:Y1"))))
    host.unplug(ONE)
    assert host.run().notes == ()
    host.restart()
    assert host.run().notes == ()


def allocate_or_none(placement):
    return allocate(placement) if free(placement) else None


def test_a_drained_pool_gives_nothing(placement, host, root, operator, pooled):
    operator.add_traits(POOL_UUID, DRAINED)
    host.run()
    assert_usb_view(placement, root, {POOL: pool(3, 3, traits=[DRAINED])})
    host.unplug(ONE)
    host.run()
    assert_usb_view(placement, root, {POOL: pool(2, 2, traits=[DRAINED])})


def test_an_operators_own_reserved_stays_also_while_the_pool_changes(placement, host, root, operator, pooled):
    operator.set_inventory(POOL_UUID, CLASS, reserved=1)
    host.run()
    assert_usb_view(placement, root, {POOL: pool(3, 1)})
    host.unplug(ONE)
    host.run()
    assert_usb_view(placement, root, {POOL: pool(2, 1)})
    host.plug(ONE)
    host.run()
    assert_usb_view(placement, root, {POOL: pool(3, 1)})


def test_a_pool_that_an_operator_reserved_in_part_settles_in_one_pass_when_more_is_missing(
    placement, host, root, operator, pooled
):
    allocate(placement, 3)
    operator.set_inventory(POOL_UUID, CLASS, reserved=1)
    host.run()
    host.unplug(ONE, TWO)
    done = host.run()
    assert topics(done.notes) == [f"{SHORT}:{POOL_UUID}"]
    assert_usb_view(placement, root, {POOL: pool(3, 2, used=3)})
    assert host.run().actions == ()


def test_a_drained_pool_that_is_short_says_so(placement, host, root, operator, pooled):
    guests = [allocate(placement) for _ in range(3)]
    operator.add_traits(POOL_UUID, DRAINED)
    host.run()
    host.unplug(ONE)
    host.run()
    assert_usb_view(placement, root, {POOL: pool(3, 3, used=3, traits=[DRAINED, SHORT])})
    assert host.run().actions == ()
    placement.release(guests[0])
    host.run()
    host.run()
    assert_usb_view(placement, root, {POOL: pool(2, 2, used=2, traits=[DRAINED])})


# Rules change


def test_free_devices_change_from_single_to_pool_and_back_at_once(placement, host, root):
    host.plug(ONE, TWO, THREE)
    host.run()
    host.rules(POOL_RULE)
    host.run()
    assert_usb_view(placement, root, {POOL: pool(3), **dict.fromkeys(NAMES, GONE)})
    assert host.run().actions == ()
    host.rules(KEY_RULE)
    host.run()
    assert_usb_view(placement, root, {POOL: GONE, **dict.fromkeys(NAMES, row())})
    assert host.run().actions == ()


def test_a_held_single_device_joins_the_pool_when_it_is_let_go(placement, host, root):
    host.plug(ONE, TWO, THREE)
    host.run()
    guest = allocate(placement, provider=uuid_of("1050:0407:Y1"))
    host.rules(POOL_RULE)
    host.run()
    held = row(has={CLASS: (1, 1)}, used=1, traits=KEY_TRAITS | {WITHDRAWN})
    assert_usb_view(placement, root, {POOL: pool(2), NAMES[0]: held, NAMES[1]: GONE, NAMES[2]: GONE})
    assert [each.offered for each in host.reporter().view().devices] == [True] * 3
    placement.release(guest)
    assert free(placement) == 1  # the pool
    host.run()
    host.run()
    assert_usb_view(placement, root, {POOL: pool(3), **dict.fromkeys(NAMES, GONE)})


def test_a_held_member_becomes_single_when_it_is_let_go(placement, host, root, pooled):
    guest = allocate(placement)
    host.run()
    assert shares(host) == {"1050:0407:Y1": guest}
    host.rules(KEY_RULE)
    host.run()
    closed = pool(1, 1, used=1, traits=[WITHDRAWN])
    assert_usb_view(placement, root, {POOL: closed, NAMES[1]: row(), NAMES[2]: row()})
    assert shares(host) == {"1050:0407:Y1": guest}
    placement.release(guest)
    host.run()
    host.run()
    assert_usb_view(placement, root, {POOL: GONE, **dict.fromkeys(NAMES, row())})


def test_a_held_member_changes_to_another_pool_when_it_is_let_go(placement, host, root, pooled):
    guest = allocate(placement)
    host.run()
    host.rules(OTHER_RULE)
    host.run()
    assert_usb_view(placement, root, {POOL: pool(1, 1, used=1, traits=[WITHDRAWN]), OTHER: pool(2)})
    host.rules(POOL_RULE)
    host.run()
    assert_usb_view(placement, root, {POOL: pool(3, used=1), OTHER: GONE})
    assert shares(host) == {"1050:0407:Y1": guest}


def test_a_pool_shrinks_before_its_devices_are_offered_one_by_one(placement, host, root, pooled):
    host.rules(KEY_RULE)
    placement.fail_next(f"^PUT /resource_providers/{POOL_UUID}/inventories$", 503, times=None)
    with pytest.raises(Unavailable):
        host.run()
    placement.calm()
    assert_usb_view(placement, root, {POOL: pool(3)})
    host.run()
    assert_usb_view(placement, root, {POOL: GONE, **dict.fromkeys(NAMES, row())})


def test_a_claim_that_comes_while_the_rules_change_is_kept_and_nothing_is_promised_twice(placement, host, root, pooled):
    host.rules(KEY_RULE)
    guests = []
    put = f"^PUT /resource_providers/{POOL_UUID}/inventories$"
    placement.before(put, lambda: guests.append(allocate(placement, 2)))
    host.run()
    (guest,) = guests
    closed = pool(2, 2, used=2, traits=[WITHDRAWN])
    assert_usb_view(placement, root, {POOL: closed, NAMES[2]: row()})
    assert shares(host) == {"1050:0407:Y1": guest, "1050:0407:Y2": guest}


def test_a_claim_that_comes_while_its_devices_become_parts_of_a_bundle_that_lacks_one_is_kept(
    placement, host, root, pooled
):
    host.rules(*({"port": port, "resource_class": CLASS, "bundle": "desk"} for port in ("[123]", "9")))
    guests = []
    put = f"^PUT /resource_providers/{POOL_UUID}/inventories$"
    placement.before(put, lambda: guests.append(allocate(placement, 2)))
    host.run()
    assert shares(host) == {"1050:0407:Y1": guests[0], "1050:0407:Y2": guests[0]}


def test_a_held_member_that_the_rules_give_another_place_stays_with_a_server_that_moves(placement, host, root, pooled):
    guest = allocate(placement)
    host.run()
    host.rules({"port": "1", "resource_class": CLASS}, POOL_RULE)
    host.run()
    placement.release(guest)
    migration = allocate(placement)
    host.run()
    assert shares(host) == {"1050:0407:Y1": migration}
    assert_usb_view(placement, root, {POOL: pool(2, used=1)})


def test_a_pool_keeps_its_class_while_a_unit_is_held(placement, host, root, pooled):
    guest = allocate(placement)
    host.rules(POOL_RULE | {"resource_class": "CUSTOM_DONGLE"})
    done = host.run()
    assert_usb_view(placement, root, {POOL: pool(3, used=1)})
    assert topics(done.notes) == [f"class:{POOL_UUID}"]
    placement.release(guest)
    host.run()
    host.run()
    assert_usb_view(placement, root, {POOL: row(has=units(3, resource_class="CUSTOM_DONGLE"))})


# Cost and interruption


def test_a_quiet_pass_over_a_pool_costs_one_request_however_many_members_it_has(placement, host, root):
    host.rules(POOL_RULE)
    host.plug(*keys(16))
    host.run()
    assert host.run().requests == 1


@pytest.mark.parametrize("write", ["traits", "inventories"])
def test_a_pass_that_dies_while_a_pool_gets_short_or_whole_leaves_nothing_that_looks_like_an_operators(
    placement, host, root, pooled, write
):
    allocate(placement, 3)
    host.run()
    put = f"^PUT /resource_providers/{POOL_UUID}/{write}$"
    for plugs, after in (
        (lambda: host.unplug(ONE), pool(3, 1, used=3, traits=[SHORT])),
        (lambda: host.plug(ONE), pool(3, used=3)),
    ):
        plugs()
        placement.fail_next(put, 503, times=None)
        with pytest.raises(Unavailable):
            host.run()
        placement.calm()
        host.restart()
        host.run()
        host.run()
        assert_usb_view(placement, root, {POOL: after})


def test_a_plan_prints_how_many_units_there_are(host, pooled):
    host.unplug(ONE)
    (action,) = host.reporter().preview().plan.actions
    assert isinstance(action, SetInventory)
    assert str(action) == f"set inventory of {POOL}: {CLASS} total 2 reserved 0"


def test_two_hosts_have_a_pool_of_one_name_each(placement, host, root):
    assert uuid_of("pool_hasp") == POOL_UUID
    assert uuid_of("pool_hasp", "ffffffff-4a6c-4f7a-9a55-6b1f7d0c9e11") != POOL_UUID
    assert root == ROOT_UUID


def test_a_pool_whose_provider_was_renamed_is_known_again_after_a_restart(placement, host, root, operator, pooled):
    name = {"name": "the dongles", "parent_provider_uuid": root}
    placement.api.must("PUT", f"/resource_providers/{POOL_UUID}", name)
    host.restart()
    host.unplug(THREE)
    assert host.run().notes == ()
    assert_usb_view(placement, root, {"the dongles": pool(2)})


def test_a_rule_drains_a_member_as_the_command_does(placement, host, root, pooled):
    guest = allocate(placement)
    host.run()
    host.rules(POOL_RULE | {"serial": "Y1", "drain": True}, POOL_RULE | {"serial": "Y2", "drain": True}, POOL_RULE)
    host.run()
    assert shares(host) == {"1050:0407:Y1": guest}
    assert_usb_view(placement, root, {POOL: pool(1, used=1)})
    assert free(placement) == 0
    host.rules(POOL_RULE)
    host.run()
    assert_usb_view(placement, root, {POOL: pool(3, used=1)})
