"""To which plug of its device a hostdev is attached: known only where the agent made the attachment, or saw it."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures.builders import a_device
from usb_provider.model.binding.attachments import AttachedPlug, Attachments
from usb_provider.model.binding.guests import RunningGuest
from usb_provider.model.binding.hostdev import Guest, GuestPort, Hostdev, alias

GUEST, PROVIDER = "11111111-2222-4333-8444-555555555555", "d4cd0e47-5d8f-5d7d-8edb-87ec9de28ae1"
DEVICE = a_device(busnum=1, devnum=5, plug_number=7)
HOSTDEV = Hostdev(alias(PROVIDER), DEVICE.vendor_id, DEVICE.product_id, 1, 5)
KNOWN = Attachments().begun([(GUEST, PROVIDER, DEVICE)])

numbers = st.integers(0, 2**64)
attachments = st.builds(
    Attachments,
    st.dictionaries(st.tuples(st.text(max_size=3), st.text(max_size=3)), st.builds(AttachedPlug, *[numbers] * 3)),
)


def seen(known: Attachments, *hostdevs: Hostdev, busy: bool = False, **more: object) -> Attachments:
    """What is known after a look at a guest with *hostdevs*."""
    leaving = frozenset({(GUEST, PROVIDER)}) if more.get("leaving") else frozenset()
    under_way = frozenset({GUEST}) if more.get("under_way") else frozenset()
    guest = RunningGuest(Guest(GUEST, "vm", hostdevs), busy)
    return known.seen([guest], {PROVIDER: DEVICE}, leaving=leaving, under_way=under_way)


@given(attachments)
def test_what_is_stored_is_read_again(known: Attachments) -> None:
    assert Attachments.from_json(json.loads(json.dumps(known.to_json()))) == known


@pytest.mark.parametrize(
    "stored",
    [
        None,
        [],
        {},
        {"version": 2, "attachments": []},
        {"version": 1, "attachments": {}},
        {"version": 1, "attachments": [[]]},
        {"version": 1, "attachments": [{"guest_uuid": "a", "provider_uuid": "b", "plug_number": "1"}]},
    ],
)
def test_what_is_no_list_of_attachments_is_refused(stored: object) -> None:
    with pytest.raises(ValueError, match="it "):
        Attachments.from_json(stored)


@pytest.mark.parametrize("port", [None, 1, "", "1000:1", "0:x", "0:1\n"])
def test_a_port_that_cannot_be_read_is_none_and_the_rest_of_the_file_counts(port: object) -> None:
    good = {"guest_uuid": "a", "provider_uuid": "b", "port": "0:1.2"}
    stored = {"version": 1, "attachments": [], "ports": [{**good, "port": port}, [], {**good, "guest_uuid": "c"}]}
    assert Attachments.from_json(stored).ports == {("c", "b"): GuestPort(0, "1.2")}


def test_a_hostdev_is_to_an_earlier_plug_only_where_both_plugs_are_known_and_differ() -> None:
    assert KNOWN.is_to_earlier_plug(GUEST, HOSTDEV, replace(DEVICE, plug_number=8))
    assert not KNOWN.is_to_earlier_plug(GUEST, HOSTDEV, DEVICE)
    assert not KNOWN.is_to_earlier_plug(GUEST, HOSTDEV, replace(DEVICE, plug_number=None))
    assert not KNOWN.is_to_earlier_plug("another", HOSTDEV, replace(DEVICE, plug_number=8))
    assert not Attachments().is_to_earlier_plug(GUEST, HOSTDEV, replace(DEVICE, plug_number=8))


def test_what_was_attached_at_another_address_says_nothing_of_this_hostdev() -> None:
    elsewhere = Attachments().begun([(GUEST, PROVIDER, replace(DEVICE, devnum=4))])
    assert not elsewhere.is_to_earlier_plug(GUEST, HOSTDEV, replace(DEVICE, plug_number=8))


def test_an_attach_to_a_device_of_unknown_plug_replaces_what_was_known() -> None:
    assert KNOWN.begun([(GUEST, PROVIDER, replace(DEVICE, plug_number=None))]) == Attachments()


def test_an_attachment_that_is_not_known_counts_as_to_the_present_plug() -> None:
    assert seen(Attachments(), HOSTDEV) == KNOWN


@pytest.mark.parametrize("state", ["busy", "leaving", "under_way"])
def test_nothing_is_concluded_from_a_hostdev_that_is_about_to_change(state: str) -> None:
    how: dict[str, bool] = {state: True}
    assert seen(Attachments(), HOSTDEV, **how) == Attachments()


def test_what_is_known_stays_known_and_what_ended_is_forgotten() -> None:
    earlier = Attachments().begun([(GUEST, PROVIDER, replace(DEVICE, plug_number=6))])
    assert seen(earlier, HOSTDEV) is earlier
    assert seen(earlier) == Attachments()
    assert seen(earlier, under_way=True) is earlier
