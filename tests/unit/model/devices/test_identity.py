"""What a device is known by: keys that are computed, that no two devices share, and that an allocation keeps in place.

The long stories, in which hands plug and unplug and the agent restarts, are in test_lifetimes.py.
"""

import dataclasses
import random
from collections.abc import Mapping

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fixtures.builders import a_device
from tests.fixtures.hostile import HOSTILE, any_text, serials
from usb_provider.model.devices.device import Speed, UsbDevice
from usb_provider.model.devices.held import NOT_HELD, Held, Sighting
from usb_provider.model.devices.identity import Identity, IdentityKind, assign
from usb_provider.model.devices.keys import (
    JUNK_SERIALS,
    JunkSerials,
    is_port_key,
    longer_keys,
    port_key,
    possible_keys,
    serial_key,
    serial_problem,
)
from usb_provider.model.devices.plugged import Demand
from usb_provider.model.devices.spec import IdentityMode

CONTROLLERS = ("0000:00:14.0", "0000:05:00.0")
PORTS = ("1", "2", "2.4", "2.4.1")

SERIAL_KEY = "1050:0407:A1"
A = a_device("1-1", serial="A1")
B = a_device("1-2", serial="A1")
A_PORT = "1050:0407@0000:00:14.0-1"
B_PORT = "1050:0407@0000:00:14.0-2"


def plugged(place: tuple[int, bool, str], **facts: object) -> UsbDevice:
    """Give a device on one of two controllers, each with a USB 2 bus and a USB 3 bus, at a port."""
    controller, usb3, port = place
    speed = Speed.SUPER if usb3 else Speed.HIGH
    bus = controller * 2 + usb3 + 1
    return a_device(f"{bus}-{port}", controller=CONTROLLERS[controller], speed=speed, busnum=bus, **facts)


places = st.tuples(st.integers(0, 1), st.booleans(), st.sampled_from(PORTS))
facts = st.fixed_dictionaries(
    {"serial": serials, "product_id": st.sampled_from(["0407", "0402"]), "devnum": st.integers(1, 127)}
)
hosts = st.dictionaries(places, facts, max_size=6).map(
    lambda found: [plugged(place, **has) for place, has in found.items()]
)
modes = st.dictionaries(
    st.sampled_from([plugged((c, s, p)).sys_name for c in (0, 1) for s in (False, True) for p in PORTS]),
    st.builds(Demand, st.sampled_from(IdentityMode)),
)


def held(
    at: UsbDevice | None = None, *, allocated: bool = True, present: bool = True, serial: str | None = "A1"
) -> Held:
    """What is known of a key: that a consumer has it, and what was seen under it, in the place of *at*."""
    seen = None if at is None else dataclasses.replace(Sighting.of(at), serial=serial)
    return Held(("consumer",) if allocated else (), present, seen)


holdings = st.builds(
    held,
    st.sampled_from([None, *map(a_device, ("1-1", "1-2", "2-1", "3-2.4"))]),
    allocated=st.booleans(),
    present=st.booleans(),
    serial=serials,
)


def holding(**known: Held) -> dict[str, Held]:
    """What is known of keys, where S, A and B stand for the serial key and the two ports."""
    keys = {"S": SERIAL_KEY, "A": A_PORT, "B": B_PORT}
    return {keys[name]: value for name, value in known.items()}


def identities(
    *devices: UsbDevice, known: Mapping[str, Held] | None = None, demands: Mapping[str, Demand] | None = None
) -> list[Identity]:
    """The identity of each of *devices*, in their order."""
    by_key = known or {}
    seen = {key: held.seen for key, held in by_key.items() if held.seen is not None}
    claimed = [key for key in seen if by_key[key].allocated]
    found = assign(devices, demands=demands, held=lambda key: by_key.get(key, NOT_HELD), claimed=claimed, seen=seen)
    return [found[device.sys_name] for device in devices]


def keys(*devices: UsbDevice, held: Mapping[str, Held] | None = None) -> list[str]:
    return [identity.key for identity in identities(*devices, known=held)]


def test_a_device_with_a_serial_number_is_told_apart_by_it() -> None:
    assert assign([A]) == {"1-1": Identity(SERIAL_KEY, IdentityKind.SERIAL)}


def test_a_device_without_a_serial_number_is_told_apart_by_its_port() -> None:
    assert assign([a_device("3-2.4")]) == {"3-2.4": Identity("1050:0407@0000:00:14.0-2.4", IdentityKind.PORT)}


def test_two_dongles_with_the_same_serial_are_told_apart_by_port() -> None:
    assert assign([A, B]) == {
        "1-1": Identity(A_PORT, IdentityKind.PORT),
        "1-2": Identity(B_PORT, IdentityKind.PORT),
    }


def test_the_same_serial_on_another_product_is_no_twin() -> None:
    other = a_device("1-2", serial="A1", product_id="0402")
    assert keys(A, other) == [SERIAL_KEY, "1050:0402:A1"]


def test_a_device_has_a_key_of_its_own_even_where_every_key_of_its_port_is_held() -> None:
    device, other = a_device("1-1"), a_device("1-2", serial="A1")
    plain, *longer = port_key(device), *longer_keys(device)
    known = {key: held(other) for key in (plain, *longer)}
    found = keys(device, other, held=known)
    assert len(set(found)) == 2
    assert found[0].startswith(plain)


def test_a_device_without_a_controller_still_has_a_port() -> None:
    assert keys(a_device("1-1", controller=None)) == ["1050:0407@unknown-1"]


def test_a_rule_may_ask_for_the_port() -> None:
    assert assign([A], demands={"1-1": Demand(IdentityMode.PORT)})["1-1"] == Identity(A_PORT, IdentityKind.PORT)


def test_a_rule_that_asks_for_a_serial_number_in_vain_is_told_why() -> None:
    asked = dict.fromkeys(("1-1", "1-2"), Demand(IdentityMode.SERIAL))
    assert assign([a_device("1-1")], demands=asked)["1-1"].problem == (
        "its rule demands identity by serial, but it has no serial number"
    )
    assert assign([A, B], demands=asked)["1-2"].problem == (
        "its rule demands identity by serial, but 2 devices on this host have its serial number"
    )
    assert assign([A], demands=asked)["1-1"].problem is None


@pytest.mark.parametrize(
    "serial",
    [
        *(serial for serial in JUNK_SERIALS if ":" not in serial),
        *(serial.lower() for serial in JUNK_SERIALS if ":" not in serial),
        "0",
        "000000000000",
        "FFFF",
        "ffffffffffff",
        "....",
        "    x    ".replace("x", " ") + "    ",
        "A\x01B",
        "\ud800",
        "\u202e123",
        "12\n34",
    ],
)
def test_a_placeholder_or_a_serial_that_cannot_be_printed_tells_nothing_apart(serial: str) -> None:
    assert serial_problem(serial, "1050:0407") is not None
    assert keys(a_device("1-1", serial=serial)) == [A_PORT]


@pytest.mark.parametrize("serial", ["1", "01", "AAA", "0001", "00010", "NONE1", "Käse", "日本", "a:b@c", "%", "FFFE"])
def test_an_ordinary_serial_number_tells_a_device_apart(serial: str) -> None:
    assert serial_problem(serial, "1050:0407") is None


@pytest.mark.parametrize(
    ("usb_id", "serial"),
    [
        ("0bda:0129", "20100201396000000"),
        ("0bda:0138", "20090516388200000"),
        ("0bda:0316", "20120501030900000"),
        ("05e3:0749", "000000001536"),
        ("058f:6366", "058F63666433"),
        ("058f:6362", "058f312D81B"),
        ("0bda:8156", "000000001"),
        ("1d50:606f", "000000000001"),
    ],
)
def test_a_number_that_each_device_with_that_chip_has_tells_none_apart(usb_id: str, serial: str) -> None:
    assert serial_problem(serial, usb_id) is not None
    assert serial_problem(serial, "1050:0407") is None


@pytest.mark.parametrize(
    ("usb_id", "serial"),
    [("0bda:8153", "20100201396001234"), ("05e3:0749", "000000001536A"), ("058f:6387", "6C5B3A4D")],
)
def test_other_numbers_of_the_same_makers_tell_devices_apart(usb_id: str, serial: str) -> None:
    assert serial_problem(serial, usb_id) is None


def test_what_counts_as_a_placeholder_is_the_operators_to_say() -> None:
    assert assign([A], junk=JunkSerials(["a1"]))["1-1"].key == A_PORT
    assert assign([a_device("1-1", serial="NONE")], junk=JunkSerials([]))["1-1"].key == "1050:0407:NONE"


@given(serials, serials)
@example("Z%2F", "Z/")
@example("a/b", "a%2Fb")
@example("é", "e\u0301")
@example("\ud800", "?")
def test_two_serial_numbers_never_give_one_key(one: str | None, other: str | None) -> None:
    if (one or "") != (other or ""):
        assert serial_key(a_device(serial=one)) != serial_key(a_device(serial=other))


@given(any_text)
def test_a_key_is_printable_ascii_whatever_the_serial_number(serial: str) -> None:
    device = a_device(serial=serial)
    for key in (serial_key(device), port_key(device), *keys(device)):
        assert key.isascii()
        assert key.isprintable()
        assert key.startswith("1050:0407")


@given(any_text)
def test_no_serial_number_passes_for_a_port(serial: str) -> None:
    assert serial_key(a_device(serial=serial))[9] == ":"
    assert port_key(a_device(serial=serial))[9] == "@"


@given(hosts, modes, st.dictionaries(st.integers(0, 30), holdings), st.randoms(use_true_random=False))
def test_no_two_devices_ever_share_a_key(
    devices: list[UsbDevice],
    wanted: Mapping[str, Demand],
    pool: Mapping[int, Held],
    rng: random.Random,
) -> None:
    # Whatever was held, even what can never have come about.
    every = {key for device in devices for key in possible_keys(device)}
    known = {key: pool.get(sum(key.encode()) % 30, NOT_HELD) for key in every}
    found = identities(*devices, demands=wanted, known=known)
    assert len({identity.key for identity in found}) == len(devices)
    for device, identity in zip(devices, found, strict=True):
        is_possible = identity.key in possible_keys(device) or identity.key.startswith(longer_keys(device)[-1])
        assert is_possible or known[identity.key].allocated
        assert identity.kind is (IdentityKind.PORT if is_port_key(identity.key) else IdentityKind.SERIAL)
        if identity.key in known and not known[identity.key].allocated and identity.kind is IdentityKind.SERIAL:
            assert serial_problem(device.serial, device.usb_id) is None
            assert identity.problem is None


@given(hosts, modes, st.randoms(use_true_random=False))
def test_keys_do_not_depend_on_the_order_in_which_devices_are_listed(
    devices: list[UsbDevice], wanted: Mapping[str, Demand], rng: random.Random
) -> None:
    shuffled = list(devices)
    rng.shuffle(shuffled)
    assert assign(shuffled, demands=wanted) == assign(devices, demands=wanted)


def by_place(devices: list[UsbDevice]) -> dict[tuple[str | None, bool, str], Identity]:
    identities = assign(devices)
    return {
        (device.controller, device.speed is Speed.SUPER, device.port_path): identities[device.sys_name]
        for device in devices
    }


@given(hosts, st.permutations(range(1, 5)), st.integers(1, 127))
def test_keys_do_not_depend_on_bus_and_device_numbers(devices: list[UsbDevice], buses: list[int], devnum: int) -> None:
    def renumbered(device: UsbDevice) -> UsbDevice:
        bus = buses[int(device.sys_name.partition("-")[0]) - 1]
        return a_device(
            f"{bus}-{device.port_path}",
            controller=device.controller,
            speed=device.speed,
            busnum=bus,
            devnum=devnum,
            serial=device.serial,
            product_id=device.product_id,
        )

    assert by_place([renumbered(device) for device in devices]) == by_place(devices)


def test_the_usb_2_and_the_usb_3_port_of_one_number_are_two_ports() -> None:
    slow, fast = plugged((0, False, "1")), plugged((0, True, "1"))
    assert keys(slow) == keys(fast) == [A_PORT]
    assert keys(slow, fast) == keys(*reversed((fast, slow)))
    assert keys(slow, fast)[0] == A_PORT
    assert keys(slow, fast)[1].startswith(f"{A_PORT}+")


# What an instance holds stays where it is


def test_a_dongle_that_an_instance_holds_keeps_its_key_when_a_twin_appears() -> None:
    known = holding(S=held(B))
    assert keys(A, B, held=known) == [A_PORT, SERIAL_KEY]


def test_a_dongle_held_by_its_port_keeps_it_when_its_twin_goes() -> None:
    known = holding(B=held(B))
    assert keys(A, B, held=known) == [A_PORT, B_PORT]
    assert keys(B, held=known) == [B_PORT]


def test_a_dongle_held_by_its_port_gets_its_serial_back_once_it_is_free() -> None:
    assert keys(B, held=holding(B=held(B, allocated=False))) == [SERIAL_KEY]


def test_a_twin_does_not_inherit_what_the_other_held_when_that_one_goes() -> None:
    first = held(A)
    known = holding(S=first, B=held(B, allocated=False))
    assert keys(B, held=known) == [B_PORT]


def test_a_device_whose_provider_stays_in_a_port_where_another_was_is_not_taken_for_that_one() -> None:
    first = held(A)
    known = holding(S=first, B=held(B, allocated=False, serial=None))
    assert keys(B, held=known) == [SERIAL_KEY]


def test_a_twin_does_not_inherit_after_a_restart_either() -> None:
    known = holding(S=held(), B=held(allocated=False))
    assert keys(B, held=known) == [B_PORT]
    assert keys(A, B, held=known) == [SERIAL_KEY, B_PORT]


def test_the_usb_3_half_of_a_socket_does_not_inherit_what_the_usb_2_half_held() -> None:
    fast = plugged((0, True, "1"))
    known = {
        A_PORT: held(A, serial=None),
        f"{A_PORT}+usb3": held(fast, allocated=False, present=False, serial=None),
    }
    # An operator deleted the provider of its longer key, so only the last look tells.
    assert keys(fast, held=known) == [f"{A_PORT}+usb3"]


def test_a_device_that_goes_by_its_serial_does_not_inherit_what_the_other_half_of_its_socket_held() -> None:
    slow, fast = plugged((0, False, "1"), serial="A1"), plugged((0, True, "1"), serial=None)
    # The USB 3 device was there first. What was where at the last look is forgotten: the agent was restarted.
    known = {A_PORT: held(), SERIAL_KEY: held()}
    assert keys(slow, fast, held=known) == [SERIAL_KEY, A_PORT]


def test_a_third_device_at_the_port_of_a_lost_one_does_not_inherit_its_claim() -> None:
    third = a_device("1-2", serial="C3")
    known = holding(B=held(B, present=False))
    assert keys(third, held=known) == ["1050:0407:C3"]


def test_a_dongle_that_comes_back_elsewhere_keeps_its_serial_and_what_holds_it() -> None:
    known = holding(S=held(A, present=False))
    assert keys(B, held=known) == [SERIAL_KEY]


def test_a_rule_that_turns_to_port_waits_until_the_dongle_is_free() -> None:
    rule = {"1-1": Demand(IdentityMode.PORT)}
    known = holding(S=held(A))
    assert identities(A, demands=rule, known=known)[0].key == SERIAL_KEY
    assert identities(A, demands=rule)[0].key == A_PORT


def test_a_rule_that_turns_to_serial_waits_until_the_dongle_is_free() -> None:
    rule = {"1-1": Demand(IdentityMode.SERIAL)}
    known = holding(A=held(A))
    assert identities(A, demands=rule, known=known)[0].key == A_PORT
    assert identities(A, demands=rule)[0].key == SERIAL_KEY


@pytest.mark.parametrize("serial", HOSTILE)
def test_a_hostile_serial_number_gives_every_device_a_key_of_its_own(serial: str) -> None:
    devices = [a_device(f"1-{port}", serial=serial or None) for port in range(1, 4)]
    assert len(set(keys(*devices))) == 3
