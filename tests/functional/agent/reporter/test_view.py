"""What the binding loop reads of the reporting loop: the published tree, with every device as it is now."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fixtures.placement import CUT
from tests.fixtures.reporting import KEY_UUID, ROOT_UUID, consumer, uuid_of, yubikey
from usb_provider.exception import Unavailable
from usb_provider.model.reporting import host_state


@pytest.fixture
def reporter(host, root):
    """The reporter of a host with one device, which a pass has reported."""
    host.plug(yubikey())
    host.run()
    return host.reporter()


@pytest.fixture
def assessments(monkeypatch):
    """A list that grows with each assessment of the devices."""
    made = []
    real = host_state.assess

    def counting(*args, **how):
        made.append(args)
        return real(*args, **how)

    monkeypatch.setattr(host_state, "assess", counting)
    return made


def holders(reporter, provider=KEY_UUID):
    return set(reporter.view().tree.providers[provider].allocations)


def test_there_is_nothing_to_see_before_the_first_pass(host, root):
    assert host.reporter().view() is None


def test_what_a_pass_wrote_is_seen(reporter):
    view = reporter.view()
    assert [each.provider_uuid for each in view.devices] == [KEY_UUID]
    assert view.tree.providers[KEY_UUID].inventories["CUSTOM_USB_KEY"].total == 1


def test_while_nothing_changes_looking_costs_no_request_no_look_up_and_no_assessment(
    host, reporter, placement, assessments
):
    host.run()
    first = reporter.view()
    host.run()
    before, looks = len(placement.requests), host.fresh_looks
    assessments.clear()
    assert reporter.view() is reporter.view() is first
    assert (len(placement.requests), host.fresh_looks, assessments) == (before, looks, [])


def test_a_device_that_comes_between_passes_is_seen(host, reporter):
    host.plug(yubikey("Y2", "2"))
    assert [each.identity.key for each in reporter.view().devices] == ["1050:0407:Y1", "1050:0407:Y2"]


def test_rules_that_were_read_again_count_before_the_next_pass(host, reporter):
    host.rules({"vendor_id": "1050", "exclude": True})
    assert [each.offered for each in reporter.view().devices] == [False]


def test_a_claim_is_seen_after_the_next_pass(host, reporter, placement):
    instance = consumer()
    placement.allocate(instance, {KEY_UUID: {"CUSTOM_USB_KEY": 1}})
    assert holders(reporter) == set()
    host.run()
    assert holders(reporter) == {instance}


def test_a_claim_is_seen_though_the_pass_that_read_it_fails_later(host, reporter, placement):
    instance = consumer()
    placement.allocate(instance, {KEY_UUID: {"CUSTOM_USB_KEY": 1}})
    host.plug(yubikey("Y2", "2"))
    placement.fail_next("^POST /resource_providers", CUT, times=None)
    with pytest.raises(Unavailable):
        host.run()
    assert holders(reporter) == {instance}


def test_what_was_written_is_seen_though_placement_failed_at_the_next_device(host, reporter, placement):
    host.unplug(yubikey())
    host.plug(yubikey("Y2", "2"))
    placement.fail_next("^POST /resource_providers", CUT, times=None)
    with pytest.raises(Unavailable):
        host.run()
    seen = reporter.view().tree.providers[KEY_UUID]
    assert (seen.absent, seen.inventories) == (True, {})


def test_what_was_written_is_seen_though_another_device_is_refused(host, reporter, operator):
    operator.create("host1_usb_1050:0407:Y2", None)
    host.plug(yubikey("Y2", "2"), yubikey("Y3", "3"))
    assert [note.blocks for note in host.run().notes] == [True]
    assert uuid_of("1050:0407:Y3", ROOT_UUID) in reporter.view().tree.providers


def test_other_threads_see_one_consistent_state_while_passes_are_made(host, reporter):
    """A device that is plugged in all the time has its provider in each view."""
    over = threading.Event()

    def look():
        seen = set()
        while True:
            view = reporter.view()
            seen |= {each.provider_uuid in view.tree.providers for each in view.devices if each.device == yubikey()}
            reporter.doubt([KEY_UUID])
            if over.is_set():
                return seen

    with ThreadPoolExecutor(2) as threads:
        futures = [threads.submit(look) for _ in range(2)]
        try:
            for number in range(2, 8):
                host.plug(yubikey(f"Y{number}", str(number)))
                host.run()
        finally:
            over.set()
    assert [future.result() for future in futures] == [{True}, {True}]


# Doubt


def test_a_release_is_seen_by_the_pass_after_it_was_noticed(host, reporter, placement):
    """Deleting an allocation raises no generation, so a pass does not see it by itself."""
    instance = consumer()
    placement.allocate(instance, {KEY_UUID: {"CUSTOM_USB_KEY": 1}})
    host.run()
    placement.release(instance)
    host.run()
    assert holders(reporter) == {instance}
    reporter.doubt([KEY_UUID])
    assert host.run().requests == 2
    assert holders(reporter) == set()
    assert host.run().requests == 1


def test_a_doubt_outlives_a_pass_that_fails(host, reporter, placement):
    instance = consumer()
    placement.allocate(instance, {KEY_UUID: {"CUSTOM_USB_KEY": 1}})
    host.run()
    placement.release(instance)
    reporter.doubt([KEY_UUID])
    placement.fail_next("^GET /resource_providers.in_tree", CUT, times=None)
    with pytest.raises(Unavailable):
        host.run()
    placement.calm()
    host.run()
    assert holders(reporter) == set()


def test_a_doubt_about_a_provider_that_is_not_there_costs_nothing(host, reporter):
    reporter.doubt([consumer()])
    assert host.run().requests == 1
