"""What was seen where: remembered as far as Placement bears it out, and stored."""

import dataclasses
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures.builders import a_device
from tests.fixtures.hostile import any_text, serials
from usb_provider.model.devices.device import Speed, UsbDevice
from usb_provider.model.devices.held import Sighting
from usb_provider.model.devices.keys import port_key, serial_key
from usb_provider.model.devices.place import Place
from usb_provider.model.devices.sightings import Move, Sightings

A = a_device("1-1", serial="A1")
B = a_device("1-2", serial="A1")
SERIAL = serial_key(A)
A_PORT, B_PORT = port_key(A), port_key(B)


def offering(*keys: str) -> Callable[[str], bool]:
    return lambda key: key in keys


def ports(sightings: Sightings) -> dict[str, str]:
    return {key: seen.sys_path.rpartition("/")[2] for key, seen in sightings.by_key.items()}


def looked(*pairs: tuple[str, UsbDevice]) -> Sightings:
    return Sightings().after(pairs, offering())


def test_a_device_is_seen_under_its_key() -> None:
    assert looked((SERIAL, A)).by_key == {
        SERIAL: Sighting(Place("0000:00:14.0", "1"), A.sys_path, "1050:0407", "A1", look=1)
    }


def test_a_device_that_goes_is_remembered() -> None:
    assert ports(looked((SERIAL, A)).after([], offering())) == {SERIAL: "1-1"}


def test_a_device_that_placement_still_offers_under_its_old_key_is_not_yet_seen_under_the_new_one() -> None:
    moving = looked((SERIAL, A)).after([(A_PORT, A), (B_PORT, B)], offering(SERIAL))
    assert ports(moving) == {SERIAL: "1-1", B_PORT: "1-2"}
    assert [move.key for move in moving.moves] == [A_PORT]
    assert ports(moving.moved(offering(SERIAL))) == {SERIAL: "1-1", B_PORT: "1-2"}
    moved = moving.moved(offering(A_PORT, B_PORT))
    assert ports(moved) == {A_PORT: "1-1", B_PORT: "1-2"}
    assert moved.moves == ()


def test_a_move_is_forgotten_when_the_device_goes() -> None:
    moving = looked((SERIAL, A)).after([(A_PORT, A), (B_PORT, B)], offering(SERIAL))
    gone = moving.after([(SERIAL, B)], offering(SERIAL, B_PORT))
    assert A_PORT not in ports(gone)
    assert [move.sighting.sys_path for move in gone.moves] == [B.sys_path]


def test_the_oldest_are_dropped_but_for_those_that_are_kept() -> None:
    devices = [a_device(f"1-{port}", serial=f"S{port}") for port in range(1, 7)]
    sightings = Sightings()
    for device in devices:
        sightings = sightings.after([(serial_key(device), device)], offering())
    again = sightings.after([(serial_key(devices[1]), devices[1])], offering())
    assert list(ports(again.without_oldest(3, [serial_key(devices[0])])).values()) == ["1-1", "1-6", "1-2"]
    assert again.without_oldest(6, ()) is again
    assert len(again.without_oldest(2, [serial_key(device) for device in devices]).by_key) == 6


places = st.builds(Place, any_text, any_text, st.booleans())
sighted = st.builds(
    Sighting, st.none() | places, any_text, any_text, serials, st.sampled_from([None, "usb2", "usb3"]), st.integers(0)
)
any_sightings = st.builds(
    Sightings,
    st.dictionaries(any_text, sighted, max_size=4),
    st.lists(st.builds(Move, any_text, sighted, st.frozensets(any_text, max_size=3)), max_size=3).map(tuple),
)


@given(any_sightings)
def test_sightings_survive_being_stored(sightings: Sightings) -> None:
    assert Sightings.from_json(json.loads(json.dumps(sightings.to_json(), ensure_ascii=False))) == sightings


def test_what_a_later_version_adds_does_no_harm() -> None:
    stored = json.loads(json.dumps(looked((SERIAL, A)).to_json()))
    stored["sightings"][SERIAL]["shelf"] = "the front left port"
    stored["kernel"] = "7.0"
    assert Sightings.from_json(stored) == looked((SERIAL, A))


def test_the_place_in_what_an_earlier_release_stored_is_that_of_its_path() -> None:
    fast = a_device("2-1", speed=Speed.SUPER, peer_port="6")
    for device in (A, fast):
        stored = json.loads(json.dumps(looked((SERIAL, device)).to_json()))
        del (
            stored["sightings"][SERIAL]["place"],
            stored["sightings"][SERIAL]["half"],
            stored["sightings"][SERIAL]["look"],
        )
        read = Sightings.from_json(stored)
        assert read == Sightings.from_json(read.to_json())
        assert read.by_key[SERIAL].is_where(device)
        assert not read.by_key[SERIAL].is_where(B)
        assert read.after([(SERIAL, device)], offering()) == looked((SERIAL, device))


def test_a_device_that_gets_another_key_at_a_boot_that_numbers_the_buses_anew_leaves_its_old_key() -> None:
    renumbered = dataclasses.replace(A, sys_path=A.sys_path.replace("usb1/1-", "usb2/2-"), sys_name="2-1", busnum=2)
    moving = looked((SERIAL, A)).after([(A_PORT, renumbered)], offering(SERIAL))
    assert [move.key for move in moving.moves] == [A_PORT]
    assert ports(moving.moved(offering())) == {A_PORT: "2-1"}


def test_a_serial_number_that_a_held_device_does_not_show_now_is_remembered() -> None:
    bare = a_device("1-1", serial=None)
    after = looked((SERIAL, A)).after([(SERIAL, bare)], offering(), has_serial=lambda key, device: False)
    assert after.by_key[SERIAL].serial == "A1"
    assert looked((SERIAL, A)).after([(SERIAL, bare)], offering()).by_key[SERIAL].serial is None


SEEN = {"sys_path": "/sys/a", "usb_id": "1050:0407", "serial": None}


@pytest.mark.parametrize(
    "stored",
    [
        *(None, [], "", 1, {}),
        {"version": 2, "sightings": {}, "moves": []},
        {"version": 1, "moves": []},
        {"version": 1, "sightings": {}},
        {"version": 1, "sightings": [], "moves": []},
        {"version": 1, "sightings": {"a": None}, "moves": []},
        {"version": 1, "sightings": {"a": SEEN | {"serial": 1}}, "moves": []},
        {"version": 1, "sightings": {"a": SEEN | {"sys_path": None}}, "moves": []},
        {"version": 1, "sightings": {"a": SEEN | {"place": "1-1"}}, "moves": []},
        {"version": 1, "sightings": {"a": SEEN | {"place": {"controller": "b"}}}, "moves": []},
        {"version": 1, "sightings": {}, "moves": [SEEN]},
        {"version": 1, "sightings": {}, "moves": [SEEN | {"key": "a", "old_keys": "b"}]},
        {"version": 1, "sightings": {}, "moves": [SEEN | {"key": "a", "old_keys": [None]}]},
    ],
)
def test_what_is_of_another_form_is_refused(stored: object) -> None:
    with pytest.raises(ValueError, match="it "):
        Sightings.from_json(stored)
