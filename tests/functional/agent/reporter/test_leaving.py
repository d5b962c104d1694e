"""A device that goes: free, its inventory goes first; allocated, it is kept and reserved. Its provider stays."""

import contextlib
import datetime
import json
from unittest import mock

import pytest

from placement_traits import PURGED
from tests.fixtures.placement import CUT_AFTER, assert_usb_view
from tests.fixtures.reporting import (
    ABSENT,
    KEY_NAME,
    KEY_RULE,
    KEY_TRAITS,
    KEY_UUID,
    MEMBER,
    MOUNTED,
    ROOT_UUID,
    WITHDRAWN,
    Operator,
    consumer,
    keys,
    row,
    topics,
    uuid_of,
    yubikey,
)
from usb_provider.exception import Unavailable

FREE = {KEY_NAME: row()}
FREE_GONE = {KEY_NAME: row(has={}, traits=KEY_TRAITS | {ABSENT})}
HELD = {KEY_NAME: row(used=1)}
HELD_GONE = {KEY_NAME: row(has={"CUSTOM_USB_KEY": (1, 1)}, traits=KEY_TRAITS | {ABSENT}, used=1)}
FREE_WITHDRAWN = {KEY_NAME: row(has={}, traits=KEY_TRAITS | {WITHDRAWN})}
HELD_WITHDRAWN = {KEY_NAME: row(has={"CUSTOM_USB_KEY": (1, 1)}, traits=KEY_TRAITS | {WITHDRAWN}, used=1)}


@pytest.fixture
def instance(placement, host, root):
    """An instance that has the key, which is plugged in."""
    host.plug(yubikey())
    host.run()
    return allocate(placement)


def allocate(placement, provider=KEY_UUID):
    """Give the UUID of a new instance that has what *provider* has."""
    uuid = consumer()
    placement.allocate(uuid, {provider: {"CUSTOM_USB_KEY": 1}})
    return uuid


def replace(server, instance, resources):
    """Give *instance* exactly these, as nova does when it does not force it."""
    had = server.api.must("GET", f"/allocations/{instance}")
    body = {
        "allocations": {provider: {"resources": has} for provider, has in resources.items()},
        "consumer_generation": had["consumer_generation"],
        "consumer_type": "INSTANCE",
        "project_id": "project",
        "user_id": "user",
    }
    server.api.must("PUT", f"/allocations/{instance}", body)


# Unplugged


def test_unplugged_while_free_loses_its_inventory_and_keeps_its_provider(placement, host, root):
    host.plug(yubikey())
    host.run()
    host.unplug()
    done = host.run()
    assert_usb_view(placement, root, FREE_GONE)
    assert done.notes == ()
    assert host.run().actions == ()


def test_the_inventory_goes_before_the_traits_do_so_that_nobody_is_sent_to_it(placement, host, root):
    host.plug(yubikey())
    host.run()
    host.unplug()
    seen = []
    placement.before("^PUT /resource_providers/.*/traits", lambda: seen.append(placement.inventory(KEY_UUID)))
    host.run()
    assert host.written() == ["PUT inventories", "PUT traits"]
    assert seen == [{}]


def test_unplugged_while_allocated_is_kept_reserved_with_its_allocation(placement, host, root, instance):
    before = placement.api.must("GET", f"/allocations/{instance}")
    host.unplug()
    done = host.run()
    assert_usb_view(placement, root, HELD_GONE)
    after = placement.api.must("GET", f"/allocations/{instance}")
    assert [a["consumer_generation"] for a in (after, before)] == [before["consumer_generation"]] * 2
    assert after["allocations"][KEY_UUID]["resources"] == {"CUSTOM_USB_KEY": 1}
    assert topics(done.notes) == [f"{ABSENT}:{KEY_UUID}"]
    assert instance in done.notes[0].text and KEY_NAME in done.notes[0].text
    assert not done.notes[0].blocks


@pytest.mark.parametrize("write", ["traits", "inventories"])
def test_a_pass_that_dies_while_it_reserves_or_gives_back_leaves_nothing_that_looks_like_an_operators(
    placement, host, instance, write
):
    put = f"^PUT /resource_providers/{KEY_UUID}/{write}$"
    host.unplug()
    placement.fail_next(put, CUT_AFTER, times=None)
    with pytest.raises(Unavailable):
        host.run()
    placement.calm()
    host.restart()
    host.run()
    assert_usb_view(placement, ROOT_UUID, HELD_GONE)
    host.plug(yubikey())
    placement.fail_next(put, CUT_AFTER, times=None)
    with pytest.raises(Unavailable):
        host.run()
    placement.calm()
    host.restart()
    host.run()
    assert_usb_view(placement, ROOT_UUID, HELD)


def test_a_standing_note_keeps_its_topic_and_is_over_with_its_cause(placement, host, root, instance):
    host.unplug()
    first = host.run().notes
    assert host.run().notes == first
    host.restart()
    assert host.run().notes == first
    host.plug(yubikey())
    assert host.run().notes == ()


def test_nobody_else_gets_it_while_it_is_away_not_even_when_it_is_let_go(placement, host, root, instance):
    host.unplug()
    host.run()
    assert placement.candidates("resources=CUSTOM_USB_KEY:1") == []
    placement.release(instance)
    assert placement.candidates("resources=CUSTOM_USB_KEY:1") == []


def test_plugged_in_again_it_is_as_before(placement, host, root):
    host.plug(yubikey())
    host.run()
    host.unplug()
    host.run()
    host.plug(yubikey(port="4", devnum=11))
    host.run()
    assert_usb_view(placement, root, FREE)
    assert host.written() == ["PUT traits", "PUT inventories"]


def test_plugged_in_again_while_allocated_it_is_no_longer_reserved(placement, host, root, instance):
    host.unplug()
    host.run()
    host.plug(yubikey(devnum=11))
    host.run()
    assert_usb_view(placement, root, HELD)
    placement.release(instance)
    host.run()
    assert_usb_view(placement, root, FREE)


@pytest.mark.parametrize(
    "let_go",
    [
        # Placement raises the provider's generation for the first of these only.
        pytest.param(lambda server, uuid: replace(server, uuid, {}), id="nova's PUT of nothing"),
        pytest.param(lambda server, uuid: server.release(uuid), id="nova's DELETE"),
        pytest.param(lambda server, uuid: replace(server, uuid, {ROOT_UUID: {"VCPU": 1}}), id="a PUT without it"),
    ],
)
def test_let_go_while_absent_it_loses_its_inventory(placement, host, operator, instance, let_go):
    operator.set_inventory(ROOT_UUID, "VCPU", total=4)
    host.unplug()
    host.run()
    let_go(placement, instance)
    done = host.run()
    assert_usb_view(placement, ROOT_UUID, FREE_GONE)
    assert done.notes == ()
    host.plug(yubikey())
    host.run()
    assert_usb_view(placement, ROOT_UUID, FREE)


def test_let_go_just_before_it_is_unplugged_it_is_not_taken_for_held_for_long(placement, host, root, instance):
    host.run()
    placement.release(instance)
    host.unplug()
    host.run()  # Placement does not tell that it was let go; asking would cost each unplug a request more
    done = host.run()
    assert_usb_view(placement, root, FREE_GONE)
    assert done.notes == ()


def test_what_happened_while_the_agent_was_down_is_found_when_it_starts(placement, host, root):
    host.plug(*keys(3))
    host.run()
    allocate(placement, uuid_of("1050:0407:Y2"))
    host.restart()
    host.unplug(*keys(2))
    host.plug(yubikey("Y9", "9"))
    host.run()
    assert_usb_view(
        placement,
        root,
        FREE_GONE
        | {
            "host1_usb_1050:0407:Y2": HELD_GONE[KEY_NAME],
            "host1_usb_1050:0407:Y3": row(),
            "host1_usb_1050:0407:Y9": row(),
        },
    )


def test_moved_to_another_port_a_device_with_a_serial_stays_what_it_is(placement, host, root, instance):
    host.unplug()
    host.plug(yubikey(port="7.2", devnum=42))
    assert host.run().actions == ()
    assert_usb_view(placement, root, HELD)


def test_moved_to_another_port_a_device_without_a_serial_is_another_device(placement, host, root):
    host.plug(yubikey(None, "1"))
    host.run()
    host.unplug()
    host.plug(yubikey(None, "2"))
    host.run()
    assert_usb_view(
        placement,
        root,
        {
            "host1_usb_1050:0407@0000:00:14.0-1": row(has={}, traits=KEY_TRAITS | {ABSENT}),
            "host1_usb_1050:0407@0000:00:14.0-2": row(),
        },
    )


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_another_device_at_the_same_port_is_kept_from_all_until_the_claim_is_gone(
    placement, host, root, instance, restarted
):
    host.unplug()
    if restarted:
        host.restart()
    host.plug(yubikey("Y2"))
    done = host.run()
    assert f"USB device 1050:0407:Y1, which consumer {instance} holds" in done.devices[0].reason
    assert_usb_view(placement, root, HELD_GONE)
    placement.release(instance)
    host.run()
    assert_usb_view(placement, root, FREE_GONE | {"host1_usb_1050:0407:Y2": row()})


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_a_serial_number_that_goes_and_comes_while_the_device_is_held_changes_nothing(
    placement, host, root, instance, restarted
):
    for serial in (None, "Y1", "0123456789", "Y1"):
        host.unplug()
        host.run()
        if restarted:
            host.restart()
        host.plug(yubikey(serial))
        host.run()
        assert_usb_view(placement, root, {KEY_NAME: row(used=1)})


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_a_swap_for_another_is_noticed_though_the_held_one_had_lost_its_serial_number(
    placement, host, root, instance, restarted
):
    host.unplug()
    host.plug(yubikey(None))
    host.run()
    host.unplug()
    if restarted:
        host.restart()
    host.plug(yubikey("Y2"))
    host.run()
    assert_usb_view(placement, root, HELD_GONE)


def test_a_reset_that_is_over_before_anyone_looked_costs_nothing(placement, host, root, instance):
    host.unplug()
    host.plug(yubikey(devnum=12))
    assert host.run().actions == ()
    assert host.writes() == []


# Withdrawn: plugged in, and not offered any more

NO_RULE = [{"vendor_id": "dead"}]
EXCLUDED = [{"vendor_id": "1050", "exclude": True}]


@pytest.mark.parametrize("rules", [NO_RULE, EXCLUDED, []], ids=["no rule names it", "a rule excludes it", "no rules"])
def test_withdrawn_while_free_loses_its_inventory_and_says_why(placement, host, root, rules):
    host.plug(yubikey())
    host.run()
    host.rules(*rules)
    done = host.run()
    assert host.written() == ["PUT inventories", "PUT traits"]
    assert_usb_view(placement, root, FREE_WITHDRAWN)
    assert done.notes == ()
    assert host.run().actions == ()
    host.rules(KEY_RULE)
    host.run()
    assert_usb_view(placement, root, FREE)


def test_withdrawn_while_allocated_is_kept_reserved_with_one_note(placement, host, root, instance):
    host.rules(*NO_RULE)
    done = host.run()
    assert_usb_view(placement, root, HELD_WITHDRAWN)
    assert topics(done.notes) == [f"{WITHDRAWN}:{KEY_UUID}"]
    assert instance in done.notes[0].text
    assert host.run().notes == done.notes
    host.restart()
    assert host.run().notes == done.notes
    placement.release(instance)
    assert host.run().notes == ()
    assert_usb_view(placement, root, FREE_WITHDRAWN)


def test_withdrawn_while_allocated_and_offered_again_is_as_before(placement, host, root, instance):
    host.rules(*NO_RULE)
    host.run()
    host.rules(KEY_RULE)
    host.run()
    assert_usb_view(placement, root, HELD)


@pytest.mark.parametrize(
    "change",
    [{"uses": (MOUNTED,)}, {"settled": False}, {"authorized": False}, {"device_class": "09"}],
    ids=["mounted", "not settled", "not authorised", "says that it is a hub"],
)
def test_a_guard_withdraws_what_a_rule_offers(placement, host, root, instance, change):
    host.plug(yubikey(**change))
    host.run()
    assert_usb_view(placement, root, HELD_WITHDRAWN)
    placement.release(instance)
    host.run()
    assert_usb_view(placement, root, FREE_WITHDRAWN)
    host.plug(yubikey())
    host.run()
    assert_usb_view(placement, root, FREE)


def test_a_signature_on_the_medium_does_not_take_a_device_from_the_instance_that_wrote_it(
    placement, host, root, instance
):
    host.plug(yubikey(uses=(MEMBER,)))
    host.run()
    assert_usb_view(placement, root, HELD)
    placement.release(instance)
    host.run()
    assert_usb_view(placement, root, FREE_WITHDRAWN)


def test_withdrawn_and_then_unplugged_it_is_absent(placement, host, root, instance):
    host.rules(*NO_RULE)
    host.run()
    host.unplug()
    host.run()
    assert_usb_view(placement, root, HELD_GONE)
    placement.release(instance)
    host.run()
    assert_usb_view(placement, root, FREE_GONE)
    host.plug(yubikey())
    host.run()
    assert_usb_view(placement, root, FREE_WITHDRAWN)


# Purged: only when the operator of the host wants it


@pytest.fixture
def yesterday():
    """Placement's clock is a day slow until the test calls this."""
    with contextlib.ExitStack() as slow:
        then = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) - datetime.timedelta(days=1)
        slow.enter_context(mock.patch("oslo_utils.timeutils.utcnow", lambda with_timezone=False: then))
        yield slow.close


def gone_since_yesterday(host, yesterday):
    """Unplug what is plugged in, and let a day pass."""
    host.unplug()
    host.run()
    yesterday()


def test_nothing_is_purged_by_itself(placement, host, root, yesterday):
    host.plug(yubikey())
    host.run()
    gone_since_yesterday(host, yesterday)
    assert host.run().actions == ()
    assert_usb_view(placement, root, FREE_GONE)


def test_absent_and_free_for_longer_than_purge_absent_after_is_deleted(placement, host, root, yesterday):
    host.rules(KEY_RULE, purge_absent_after=90000)
    host.plug(yubikey())
    host.run()
    gone_since_yesterday(host, yesterday)
    assert host.run().actions == ()
    assert_usb_view(placement, root, FREE_GONE)
    host.rules(KEY_RULE, purge_absent_after=80000)
    host.run()
    assert host.written() == ["PUT traits", f"PUT {KEY_UUID}"]
    assert_usb_view(placement, root, {})
    assert placement.traits(KEY_UUID) == {PURGED}
    assert host.run().actions == ()
    host.rules(KEY_RULE, purge_absent_after=80000, purge_wait=0)
    host.run()
    assert host.written() == ["DELETE"]
    assert host.run().actions == ()
    host.plug(yubikey())
    host.run()
    assert_usb_view(placement, root, FREE)


def test_a_device_that_is_back_before_its_provider_is_deleted_gets_it_again(placement, host, root, yesterday):
    host.rules(KEY_RULE, purge_absent_after=80000)
    host.plug(yubikey())
    host.run()
    gone_since_yesterday(host, yesterday)
    host.run()
    host.plug(yubikey())
    assert host.run().notes == ()
    assert_usb_view(placement, root, FREE)
    host.rules(KEY_RULE, purge_absent_after=80000, purge_wait=0)
    assert host.run().actions == ()
    assert_usb_view(placement, root, FREE)


def test_a_restarted_agent_deletes_what_the_one_before_it_set_aside_on_its_host(placement, host, root, yesterday):
    host.rules(KEY_RULE, purge_absent_after=80000, purge_wait=0)
    elsewhere = Operator(placement).create("host2_usb_1050:0407:Y9", None)
    Operator(placement).set_traits(elsewhere, {PURGED})
    host.plug(yubikey())
    host.run()
    gone_since_yesterday(host, yesterday)
    host.run()
    host.restart()
    host.run()
    assert host.written() == ["DELETE"]
    assert placement.traits(elsewhere) == {PURGED}


def test_a_placement_before_xena_keeps_absent_providers_and_the_agent_says_so(placement, host, root, yesterday, caplog):
    host.rules(KEY_RULE, purge_absent_after=80000)
    host.plug(yubikey())
    host.run()
    gone_since_yesterday(host, yesterday)
    old = {"versions": [{"id": "v1.0", "min_version": "1.0", "max_version": "1.36"}]}
    placement.fail_next("^GET /$", json.dumps(old).encode())
    assert host.run().actions == ()
    assert host.run().actions == ()
    assert caplog.text.count("[agent]purge_absent_after has no effect") == 1
    assert_usb_view(placement, root, FREE_GONE)


def test_what_has_just_gone_is_not_purged(placement, host, root):
    host.rules(KEY_RULE, purge_absent_after=60)
    host.plug(yubikey())
    host.run()
    host.unplug()
    host.run()
    assert host.run().actions == ()
    assert_usb_view(placement, root, FREE_GONE)


def test_what_is_allocated_present_or_withdrawn_is_never_purged(placement, host, root, yesterday):
    host.rules(KEY_RULE, {"vendor_id": "20a0"}, purge_absent_after=1)
    host.plug(*keys(2), yubikey("N1", "9", vendor_id="20a0", product_id="4108"))
    host.run()
    allocate(placement)
    host.unplug(yubikey())
    host.run()
    host.rules(KEY_RULE, purge_absent_after=1)
    host.run()
    yesterday()
    host.run()
    assert host.run().actions == ()
    view = {name: {"used": used} for name, used in ((KEY_NAME, 1), ("host1_usb_1050:0407:Y2", 0))}
    assert_usb_view(placement, root, view | {"host1_usb_20a0:4108:N1": {"used": 0}})


def test_what_has_come_back_when_it_was_to_be_purged_is_kept(placement, host, root, yesterday):
    host.rules(KEY_RULE, purge_absent_after=60)
    host.plug(yubikey())
    host.run()
    gone_since_yesterday(host, yesterday)
    host.plug(yubikey())
    host.run()
    assert_usb_view(placement, root, FREE)


def test_an_instance_that_unsets_the_configuration_of_its_device_keeps_it_offered_as_it_was(
    placement, host, root, instance
):
    host.unplug()
    host.plug(yubikey(configured=False, interfaces=()))
    done = host.run()
    assert_usb_view(placement, ROOT_UUID, HELD)
    assert (done.notes, host.writes()) == ((), [])
    assert [each.offered for each in done.devices] == [True]
    placement.release(instance)
    host.run()
    assert_usb_view(placement, ROOT_UUID, FREE_WITHDRAWN)
    host.unplug()
    host.plug(yubikey())
    host.run()
    assert_usb_view(placement, ROOT_UUID, FREE)
