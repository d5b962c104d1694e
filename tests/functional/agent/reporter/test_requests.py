"""What users ask of the agent about devices of servers, and its answers, read back through Placement's API."""

from placement_traits import attach_trait, detach_trait, detached_trait
from tests.fixtures.placement import assert_usb_view
from tests.fixtures.reporting import KEY_NAME, KEY_RULE, KEY_TRAITS, KEY_UUID, consumer, row, yubikey
from usb_provider.model.reporting.guest_news import GuestNews
from usb_provider.model.reporting.requests import CarriedOut

SERVER = consumer()
ATTACH, DETACH, DETACHED = attach_trait(SERVER), detach_trait(SERVER), detached_trait(SERVER)


def held(*traits):
    """The line of a device that a server holds."""
    return row(used=1, traits=KEY_TRAITS | set(traits))


def with_a_held_device(host, placement, operator, *traits):
    """A device that the server holds, with these requests; the reporter has seen it all."""
    host.rules(KEY_RULE)
    host.plug(yubikey())
    host.run()
    placement.allocate(SERVER, {KEY_UUID: {"CUSTOM_USB_KEY": 1}})
    operator.set_traits(KEY_UUID, KEY_TRAITS | set(traits))
    host.run()


def told(host, *, stay, earlier=0):
    """The binding loop has carried the request out, as it saw it some writes before."""
    generation = host.reporter().view().tree.providers[KEY_UUID].generation
    host.reporter().tell_news(GuestNews(frozenset({CarriedOut(KEY_UUID, generation - earlier, SERVER, stay)})))


def test_a_request_stays_until_it_is_carried_out(placement, host, root, operator):
    with_a_held_device(host, placement, operator, DETACH)
    assert host.run().actions == ()
    assert_usb_view(placement, root, {KEY_NAME: held(DETACH)})


def test_a_detach_that_is_carried_out_is_answered_once(placement, host, root, operator):
    with_a_held_device(host, placement, operator, DETACH)
    told(host, stay=0)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: held(DETACH, DETACHED)})
    assert host.run().actions == ()


def test_an_answer_to_an_earlier_request_is_none_to_this_one(placement, host, root, operator):
    with_a_held_device(host, placement, operator, DETACH)
    told(host, stay=0, earlier=1)
    assert host.run().actions == ()
    assert_usb_view(placement, root, {KEY_NAME: held(DETACH)})


def test_a_user_who_waits_for_a_device_sees_the_request_go(placement, host, root, operator):
    with_a_held_device(host, placement, operator, ATTACH)
    told(host, stay=None)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: held()})


def test_an_answer_without_its_request_is_removed(placement, host, root, operator):
    with_a_held_device(host, placement, operator, DETACHED)
    assert_usb_view(placement, root, {KEY_NAME: held()})


def test_what_a_killed_command_left_is_removed_once_the_server_no_longer_holds_the_device(
    placement, host, root, operator
):
    with_a_held_device(host, placement, operator, ATTACH, DETACH)
    told(host, stay=0)
    host.run()
    placement.release(SERVER)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(traits=KEY_TRAITS)})


def test_what_is_asked_of_an_absent_device_is_answered_too(placement, host, root, operator):
    with_a_held_device(host, placement, operator, DETACH)
    host.unplug()
    host.run()
    told(host, stay=0)
    host.run()
    assert DETACHED in host.reporter().view().tree.providers[KEY_UUID].traits
