"""Stories that the state machine told, told again in short: a device that gets another key is never to be had twice."""

import contextlib
import datetime
from unittest import mock

import pytest

from tests.fixtures.reporting import (
    ABSENT,
    KEY_RULE,
    KEY_TRAITS,
    KEY_UUID,
    MANAGED,
    ROOT_UUID,
    consumer,
    uuid_of,
    yubikey,
)
from usb_provider.exception import Unavailable
from usb_provider.model.devices.device import Speed

ONE_PORT, OTHER_PORT = uuid_of("1050:0407@0000:00:14.0-1"), uuid_of("1050:0407@0000:00:14.0-2")
LEAVES = f"^PUT /resource_providers/{KEY_UUID}/inventories$"
# The two halves of one socket; alone, either device is known by the plain key.
SLOW = yubikey(None, "3")
FAST = yubikey(
    None, "3", sys_name="2-3", sys_path="/sys/devices/pci0000:00/0000:00:14.0/usb2/2-3", busnum=2, speed=Speed.SUPER
)
PLAIN, LONGER = uuid_of("1050:0407@0000:00:14.0-3"), uuid_of("1050:0407@0000:00:14.0-3+usb3")


@pytest.fixture
def twins(host, root):
    """A key is reported by its serial number, and then its twin is plugged in."""
    host.plug(yubikey())
    host.run()
    host.plug(yubikey(port="2"))


@pytest.fixture
def stuck(placement, host, root):
    """The slow one of two like devices is unplugged, and Placement fails when the fast one is to get the plain key."""
    host.plug(SLOW, FAST)
    host.run()
    host.unplug(SLOW)
    placement.fail_next(f"^PUT /resource_providers/{LONGER}/inventories$", 503)
    with pytest.raises(Unavailable):
        host.run()
    assert [request.status for request in host.writes()] == [503]


def schedulable(placement):
    """The devices that the scheduler can give away."""
    return {uuid for candidate in placement.candidates("resources=CUSTOM_USB_KEY:1") for uuid in candidate}


def test_a_dongle_leaves_its_old_key_before_it_can_be_had_under_its_new_one(placement, host, twins):
    host.run()
    written = [request.path.split("/", 2)[2] for request in host.writes() if request.method == "PUT"]
    assert written.index(f"{KEY_UUID}/inventories") < written.index(f"{ONE_PORT}/inventories")
    assert schedulable(placement) == {ONE_PORT, OTHER_PORT}


def test_a_dongle_that_cannot_leave_its_old_key_is_not_given_a_new_one(placement, host, twins):
    placement.fail_next(LEAVES, 503)
    with pytest.raises(Unavailable):
        host.run()
    assert schedulable(placement) == {KEY_UUID}


def test_a_dongle_that_is_claimed_the_moment_it_leaves_its_old_key_keeps_that(placement, host, twins):
    instance = consumer()
    placement.before(LEAVES, lambda: placement.allocate(instance, {KEY_UUID: {"CUSTOM_USB_KEY": 1}}))
    placement.before(f"^PUT /resource_providers/{ONE_PORT}/", lambda: pytest.fail("it became schedulable twice"), 1)
    host.run()
    assert placement.errors == []
    assert placement.unmet() == [f"^PUT /resource_providers/{ONE_PORT}/"]
    placement.calm()
    assert placement.used(KEY_UUID) == 1
    assert schedulable(placement) == {OTHER_PORT}


def test_a_dongle_whose_like_was_unplugged_while_placement_failed_is_had_once_as_soon_as_it_answers(
    placement, host, stuck
):
    host.run()
    written = [request.path.split("/", 2)[2] for request in host.writes()]
    assert written == [f"{LONGER}/inventories", f"{LONGER}/traits", f"{PLAIN}/traits"]
    assert schedulable(placement) == {PLAIN}


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_who_claims_a_dongle_that_was_just_unplugged_does_not_get_its_like_that_is_still_offered(
    placement, host, stuck, restarted
):
    placement.allocate(consumer(), {PLAIN: {"CUSTOM_USB_KEY": 1}})
    if restarted:
        host.restart()
    done = host.run()
    assert [each.provider_uuid for each in done.devices] == [LONGER]
    assert ABSENT in placement.traits(PLAIN)
    assert schedulable(placement) == {LONGER}
    host.plug(SLOW)
    done = host.run()
    assert {each.device.sys_name: each.provider_uuid for each in done.devices} == {"1-3": PLAIN, "2-3": LONGER}
    assert ABSENT not in placement.traits(PLAIN)
    assert placement.used(PLAIN) == 1


def test_a_claim_on_its_new_key_is_a_dongles_own_once_it_has_left_the_old_one(placement, host, stuck):
    placement.fail_next(f"^PUT /resource_providers/{PLAIN}/traits$", 503)
    with pytest.raises(Unavailable):
        host.run()
    assert schedulable(placement) == {PLAIN}
    placement.allocate(consumer(), {PLAIN: {"CUSTOM_USB_KEY": 1}})
    done = host.run()
    assert [each.provider_uuid for each in done.devices] == [PLAIN]
    assert schedulable(placement) == set()


def test_a_dongle_that_is_held_gets_no_other_key_though_somebody_took_our_mark_away(placement, host, root, operator):
    host.plug(yubikey())
    host.run()
    placement.allocate(consumer(), {KEY_UUID: {"CUSTOM_USB_KEY": 1}})
    operator.remove_traits(KEY_UUID, MANAGED)
    host.rules(KEY_RULE | {"identity": "port"})
    done = host.run()
    assert [note.blocks for note in done.notes] == [True]
    assert schedulable(placement) == set()


def test_a_provider_with_somebody_elses_child_is_not_purged_and_keeps_nobody_waiting(placement, host, root, operator):
    host.rules(KEY_RULE, purge_absent_after=60)
    host.plug(yubikey())
    host.run()
    host.unplug()
    with yesterday():
        host.run()
    operator.create("theirs", KEY_UUID)
    host.plug(yubikey("Y2", "2"))
    host.run()
    assert placement.traits(KEY_UUID) == KEY_TRAITS | {ABSENT}
    assert schedulable(placement) == {uuid_of("1050:0407:Y2")}
    assert host.run().actions == ()


def test_a_provider_that_was_replaced_by_somebody_elses_of_the_same_generation_is_theirs(placement, host, operator):
    host.plug(yubikey())
    host.run()
    operator.delete(KEY_UUID)
    operator.create("theirs", ROOT_UUID, KEY_UUID)
    operator.set_inventory(KEY_UUID, "CUSTOM_THEIRS")
    operator.set_traits(KEY_UUID, ["CUSTOM_THEIRS"])
    assert operator.generation(KEY_UUID) == 2  # as ours was
    done = host.run()
    assert [note.blocks for note in done.notes] == [True]
    assert placement.traits(KEY_UUID) == {"CUSTOM_THEIRS"}


@contextlib.contextmanager
def yesterday():
    """Placement's clock is a day slow."""
    then = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) - datetime.timedelta(days=1)
    with mock.patch("oslo_utils.timeutils.utcnow", lambda with_timezone=False: then):
        yield
