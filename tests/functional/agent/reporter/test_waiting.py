"""The trait of a device that a running guest lacks, read back through Placement's API."""

from placement_traits import STATE_ABSENT, STATE_WAITING
from tests.fixtures.placement import assert_usb_view
from tests.fixtures.reporting import KEY_NAME, KEY_RULE, KEY_TRAITS, KEY_UUID, consumer, row, yubikey
from usb_provider.model.reporting.guest_news import GuestNews

SERVER = consumer()
WAITING = GuestNews(waiting=frozenset({KEY_UUID}))
ALL_IS_WELL = GuestNews(waiting=frozenset())


def with_a_held_device(host, placement):
    """A device that a server holds; the reporter has seen it."""
    host.rules(KEY_RULE)
    host.plug(yubikey())
    host.run()
    placement.allocate(SERVER, {KEY_UUID: {"CUSTOM_USB_KEY": 1}})
    host.run()


def held(*traits):
    return row(used=1, traits=KEY_TRAITS | set(traits))


def test_a_device_that_a_running_guest_lacks_says_so_until_the_guest_has_it(placement, host, root):
    with_a_held_device(host, placement)
    host.reporter().tell_news(WAITING)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: held(STATE_WAITING)})
    assert host.run().actions == ()
    host.reporter().tell_news(ALL_IS_WELL)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: held()})


def test_while_all_is_well_a_pass_costs_no_more_than_before(placement, host, root):
    with_a_held_device(host, placement)
    before = host.run()
    host.reporter().tell_news(ALL_IS_WELL)
    quiet = host.run()
    assert (quiet.actions, quiet.requests) == ((), before.requests)


def test_an_agent_that_starts_again_leaves_the_trait_until_it_knows_the_guests(placement, host, root):
    with_a_held_device(host, placement)
    host.reporter().tell_news(WAITING)
    host.run()
    host.restart()
    assert host.run().actions == ()
    assert_usb_view(placement, root, {KEY_NAME: held(STATE_WAITING)})


def test_a_device_that_is_free_again_waits_for_nothing(placement, host, root):
    with_a_held_device(host, placement)
    host.reporter().tell_news(WAITING)
    host.run()
    placement.release(SERVER)
    host.reporter().doubt([KEY_UUID])
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(traits=KEY_TRAITS)})


def test_a_guest_can_lack_a_device_that_is_unplugged(placement, host, root):
    with_a_held_device(host, placement)
    host.unplug()
    host.run()
    host.reporter().tell_news(WAITING)
    host.run()
    traits = host.reporter().view().tree.providers[KEY_UUID].traits
    assert {STATE_ABSENT, STATE_WAITING} <= traits
    host.plug(yubikey())
    host.reporter().tell_news(ALL_IS_WELL)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: held()})
