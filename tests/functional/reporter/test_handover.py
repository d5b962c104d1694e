"""Stories that the state machine told, told again in short: a device that gets another key is never to be had twice."""

import contextlib
import datetime
from unittest import mock

import pytest

from tests.fixtures.reporting import ABSENT, KEY_RULE, KEY_TRAITS, KEY_UUID, consumer, uuid_of, yubikey
from usb_provider.exception import Unavailable

ONE_PORT, OTHER_PORT = uuid_of("1050:0407@0000:00:14.0-1"), uuid_of("1050:0407@0000:00:14.0-2")
LEAVES = f"^PUT /resource_providers/{KEY_UUID}/inventories$"


@pytest.fixture
def twins(host, root):
    """A key is reported by its serial number, and then its twin is plugged in."""
    host.plug(yubikey())
    host.run()
    host.plug(yubikey(port="2"))


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


@contextlib.contextmanager
def yesterday():
    """Placement's clock is a day slow."""
    then = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) - datetime.timedelta(days=1)
    with mock.patch("oslo_utils.timeutils.utcnow", lambda with_timezone=False: then):
        yield
