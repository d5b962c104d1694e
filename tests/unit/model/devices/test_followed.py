"""A held device is followed by its place: in another mode, with a serial number that comes or goes, at another speed.

What may be that device and may be another one is kept from all consumers.
"""

import dataclasses
from collections.abc import Mapping

import pytest

from tests.fixtures.builders import a_device
from usb_provider.model.devices.device import Speed, UsbDevice
from usb_provider.model.devices.held import NOT_HELD, Held, Sighting
from usb_provider.model.devices.identity import Identity, assign
from usb_provider.model.devices.keys import port_key, serial_key
from usb_provider.model.devices.plugged import Demand
from usb_provider.model.devices.sightings import Sightings
from usb_provider.model.devices.spec import IdentityMode

CORAL = {"vendor_id": "1a6e", "product_id": "089a"}
LOADED = {"vendor_id": "18d1", "product_id": "9302"}
BOTH = Demand(usb_ids=("1a6e:089a", "18d1:9302"))
BY_PORT = Demand(IdentityMode.PORT)


def seen(device: UsbDevice) -> Held:
    """What is known of a key that a consumer holds, when *device* was last seen under it."""
    return Held(("server-1",), True, Sighting.of(device))


def identify(
    *devices: UsbDevice, held: Mapping[str, UsbDevice] | None = None, demand: Demand | None = None
) -> list[Identity]:
    """The identity of each of *devices*, where consumers hold the keys in *held*, each last seen as that device."""
    known = {key: seen(device) for key, device in (held or {}).items()}
    demands = dict.fromkeys((device.sys_name for device in devices), demand) if demand else None
    found = assign(devices, demands=demands, held=lambda key: known.get(key, NOT_HELD), claimed=list(known))
    return [found[device.sys_name] for device in devices]


def is_followed(key: str, before: UsbDevice, *after: UsbDevice, demand: Demand | None = None) -> None:
    """Pass when the first of *after* is the device that was seen as *before*, and no other has its key."""
    first, *others = identify(*after, held={key: before}, demand=demand)
    assert (first.key, first.withheld) == (key, None)
    assert all(other.key != key for other in others)


def is_withheld(key: str, before: UsbDevice, after: UsbDevice, demand: Demand | None = None) -> str:
    """What is said of *after*, which must be kept from all consumers since *before* is held."""
    (found,) = identify(after, held={key: before}, demand=demand)
    assert found.key != key
    assert found.withheld_for == key
    assert found.withheld is not None
    return found.withheld


# Modes


def test_a_device_in_a_mode_that_no_rule_knows_is_kept_from_all_and_the_sentence_names_the_claim_and_the_key() -> None:
    cold, loaded = a_device("2-3", **CORAL), a_device("2-3", **LOADED)
    assert is_withheld(port_key(cold), cold, loaded) == (
        "it is in the place of USB device 1a6e:089a@0000:00:14.0-3, which consumer server-1 holds and which is not "
        'plugged in; if it is the same device in another mode, add "also": ["18d1:9302"] to the rule for '
        "1a6e:089a; otherwise plug it in elsewhere, or release the claim"
    )


def test_a_device_whose_rule_knows_its_modes_is_one_device_in_all_of_them() -> None:
    cold, loaded = a_device("2-3", **CORAL), a_device("2-3", **LOADED, serial="C1")
    assert [identify(each, demand=BOTH)[0].key for each in (cold, loaded)] == [port_key(cold)] * 2
    is_followed(port_key(cold), cold, loaded, demand=BOTH)
    is_followed(port_key(cold), loaded, cold, demand=BOTH)


def test_modes_may_be_told_apart_by_serial_where_the_rule_demands_it() -> None:
    loaded = a_device("2-3", **LOADED, serial="C1")
    by_serial = dataclasses.replace(BOTH, mode=IdentityMode.SERIAL)
    assert identify(loaded, demand=by_serial)[0].key == "1a6e:089a:C1"


def test_a_mode_that_becomes_known_while_the_device_is_held_in_it_changes_nothing() -> None:
    loaded = a_device("2-3", **LOADED)
    is_followed(port_key(loaded), loaded, loaded, demand=BOTH)
    is_followed(port_key(loaded), loaded, a_device("2-3", **CORAL), demand=BOTH)


def test_what_comes_on_a_hub_in_the_place_of_a_missing_device_is_kept_from_all() -> None:
    """Some firmware makes a hub of its device, with the device behind it."""
    cold = a_device("1-2", **CORAL, serial=None)
    loaded = a_device("1-2.1", **LOADED, serial=None)
    said = is_withheld(port_key(cold), cold, loaded)
    assert said.startswith(
        "it is on a hub in the place of USB device 1a6e:089a@0000:00:14.0-2, which consumer server-1"
    )
    for elsewhere in ("1-20", "1-3.1", "1-1.2"):
        (found,) = identify(a_device(elsewhere, **LOADED, serial=None), held={port_key(cold): cold})
        assert found.withheld is None
    back, other = identify(cold, a_device("1-3", **LOADED, serial=None), held={port_key(cold): cold})
    assert (back.withheld, other.withheld) == (None, None)


def test_a_device_with_its_serial_number_that_comes_back_on_a_hub_in_its_place_is_the_device() -> None:
    before, after = a_device("1-2", serial="A1"), a_device("1-2.4", serial="A1")
    is_followed(serial_key(before), before, after, a_device("1-2.3", serial="B2"))
    (_, beside) = identify(after, a_device("1-2.3", serial="B2"), held={serial_key(before): before})
    assert beside.withheld is None


def test_another_device_in_the_place_of_a_missing_one_is_free_once_the_claim_is_gone() -> None:
    assert identify(a_device("2-3", **LOADED))[0].withheld is None


def test_another_device_in_its_place_is_free_once_the_missing_one_is_back_elsewhere() -> None:
    before = a_device("1-1", serial="A1")
    other, back = a_device("1-1", **LOADED), a_device("1-4", serial="A1")
    found = identify(other, back, held={serial_key(before): before})
    assert [each.withheld for each in found] == [None, None]
    assert found[1].key == serial_key(before)


# Serial numbers


@pytest.mark.parametrize("serial", [None, "0000", "A\x01", "\udcff", "0123456789"])
def test_a_serial_number_that_goes_or_turns_to_junk_changes_nothing(serial: str | None) -> None:
    before = a_device("1-1", serial="A1")
    is_followed(serial_key(before), before, a_device("1-1", serial=serial))


@pytest.mark.parametrize("serial", [None, "0000"])
def test_a_serial_number_that_comes_changes_nothing(serial: str | None) -> None:
    before = a_device("1-1", serial=serial)
    is_followed(port_key(before), before, a_device("1-1", serial="A1"))


def test_another_usable_serial_number_is_another_device_and_the_sentence_says_how_to_say_otherwise() -> None:
    before = a_device("1-1", serial="A1")
    assert is_withheld(serial_key(before), before, a_device("1-1", serial="B2")) == (
        "it is in the place of USB device 1050:0407:A1, which consumer server-1 holds, with another serial number; if "
        'it is the same device, give its rule "identity": "port"; otherwise plug it in elsewhere, or release the '
        "claim"
    )


def test_where_the_rule_goes_by_port_another_serial_number_is_the_same_device() -> None:
    before = a_device("1-1", serial="A1")
    is_followed(port_key(before), before, a_device("1-1", serial="B2"), demand=BY_PORT)
    is_followed(serial_key(before), before, a_device("1-1", serial="B2"), demand=BY_PORT)


def test_a_device_with_its_serial_number_elsewhere_takes_over_only_where_the_place_is_empty() -> None:
    before = a_device("1-1", serial="A1")
    bare, elsewhere = a_device("1-1"), a_device("1-2", serial="A1")
    is_followed(serial_key(before), before, elsewhere)
    there, other = identify(bare, elsewhere, held={serial_key(before): before})
    assert there.key == serial_key(before)
    assert other.withheld_for == serial_key(before)
    assert other.withheld == (
        "it has the serial number of USB device 1050:0407:A1, which consumer server-1 holds, and another device is in "
        "the place where that was"
    )


def test_a_clone_in_a_lower_port_gets_nothing_of_what_the_other_holds() -> None:
    before = a_device("1-2", serial="A1")
    is_followed(serial_key(before), before, before, a_device("1-1", serial="A1"))


def test_a_device_that_moved_is_known_by_its_serial_number_though_another_was_once_held_there() -> None:
    mine, bare = a_device("1-1", serial="A1"), a_device("1-2")
    moved = a_device("1-2", serial="A1")
    held = {serial_key(mine): mine, port_key(bare): bare}
    assert identify(moved, held=held)[0].key == serial_key(mine)


# Places


def test_a_new_card_that_shifts_the_bus_numbers_exchanges_no_claims() -> None:
    def behind(bridge: str, bus: str, name: str) -> UsbDevice:
        path = f"/sys/devices/pci0000:00/0000:00:{bridge}/0000:{bus}:00.0/usb{name[0]}/{name}"
        return UsbDevice.from_udev(path, {"ID_VENDOR_ID": "0529", "ID_MODEL_ID": "0001"}, {})

    before = [behind("1c.0", "03", "1-2"), behind("1c.4", "04", "2-2")]
    after = [behind("1c.0", "04", "1-2"), behind("1c.4", "05", "2-2")]
    keys = [port_key(each) for each in before]
    assert keys == ["0529:0001@0000:00:1c.0/00.0-2", "0529:0001@0000:00:1c.4/00.0-2"]
    assert [each.key for each in identify(*after)] == keys
    assert [each.key for each in identify(*after, held=dict(zip(keys, before, strict=True)))] == keys
    former = ["0529:0001@0000:03:00.0-2", "0529:0001@0000:04:00.0-2"]
    assert [each.key for each in identify(*after, held=dict(zip(former, before, strict=True)))] == former


def test_a_key_of_a_former_release_stays_until_the_device_is_free_though_the_sightings_are_lost() -> None:
    path = "/sys/devices/pci0000:00/0000:00:1c.0/0000:03:00.0/usb1/1-2"
    device = UsbDevice.from_udev(path, {"ID_VENDOR_ID": "0529", "ID_MODEL_ID": "0001"}, {})
    known = {"0529:0001@0000:03:00.0-2": Held(("server-1",), True)}
    found = assign([device], held=lambda key: known.get(key, NOT_HELD))
    assert found["1-2"].key == "0529:0001@0000:03:00.0-2"
    assert identify(device)[0].key == "0529:0001@0000:00:1c.0/00.0-2"


def test_a_device_whose_socket_runs_at_another_speed_is_the_same_device() -> None:
    fast = a_device("2-2", speed=Speed.SUPER, peer_port="6")
    slow = a_device("1-6", speed=Speed.HIGH)
    assert port_key(fast) == port_key(slow)
    is_followed(port_key(fast), fast, slow)


def at_once(*devices: UsbDevice) -> Sightings:
    """What is remembered of *devices*, which were plugged in together."""
    found = assign(devices)
    return Sightings().after([(found[each.sys_name].key, each) for each in devices], lambda key: False)


def test_two_like_devices_on_ports_of_one_number_keep_their_claims_though_the_kernel_takes_them_for_one_socket() -> (
    None
):
    slow, fast = a_device("1-2", speed=Speed.HIGH), a_device("2-2", speed=Speed.SUPER, peer_port="2")
    plain, longer = (each.key for each in identify(slow, fast))
    assert (plain, longer) == (port_key(slow), f"{port_key(slow)}+usb3")
    seen_at_once = at_once(slow, fast)
    later = seen_at_once.after([(plain, slow)], lambda key: False)
    for sightings in (seen_at_once, later):
        known = {key: Held(("server-1",) * (key == longer), True, seen) for key, seen in sightings.by_key.items()}
        for there in ([slow, fast], [slow]):
            found = assign(there, held=lambda key, known=known: known.get(key, NOT_HELD), claimed=[longer])
            assert {name: (each.key, each.withheld) for name, each in found.items()} == {
                each.sys_name: (plain if each is slow else longer, None) for each in there
            }


def test_what_is_in_the_other_half_of_a_missing_devices_socket_is_withheld_however_often_the_agent_looks() -> None:
    held, other = a_device("1-2", speed=Speed.HIGH), a_device("2-2", **LOADED, speed=Speed.SUPER, peer_port="2")
    key = port_key(held)
    sightings = at_once(held)
    for _ in range(3):
        known = {each: Held(("server-1",) * (each == key), True, seen) for each, seen in sightings.by_key.items()}
        found = assign([other], held=lambda each, known=known: known.get(each, NOT_HELD), claimed=[key])
        assert found["2-2"].withheld_for == key
        sightings = sightings.after([(found["2-2"].key, other)], lambda key: False)


def test_a_path_that_means_another_port_since_the_buses_were_numbered_anew_is_not_the_place() -> None:
    """Bus 2 was the USB 3 bus of the controller, and is its USB 2 bus since another controller has bus 1."""
    before = a_device("2-1", speed=Speed.SUPER)
    now = a_device("2-1", speed=Speed.HIGH)
    assert before.sys_path == now.sys_path
    (found,) = identify(now, held={f"{port_key(before)}+usb3": before})
    assert (found.key, found.withheld) == (port_key(now), None)


def test_a_device_that_moves_to_the_port_of_the_same_number_on_the_other_bus_is_no_twin_of_itself() -> None:
    before, moved = a_device("1-1", serial="A1"), a_device("2-1", serial="A1", speed=Speed.SUPER)
    is_followed(port_key(before), before, moved)


def test_where_the_port_counts_a_device_of_the_same_serial_number_elsewhere_is_free() -> None:
    before = a_device("1-1", serial="A1")
    there, other = identify(
        a_device("1-1"), a_device("1-2", serial="A1"), held={port_key(before): before}, demand=BY_PORT
    )
    assert there.key == port_key(before)
    assert other.withheld is None


# Twins


def remembered(sightings: Sightings, *claims: str) -> dict[str, Held]:
    """What is known of each key when consumers hold *claims*."""
    return {key: Held(("server-1",) * (key in claims), True, was) for key, was in sightings.by_key.items()}


def after_look(sightings: Sightings, claim: str, *there: UsbDevice) -> tuple[dict[str, Identity], Sightings]:
    """The identities of what is *there* at the next look, and what is remembered then, while *claim* is held."""
    known = remembered(sightings, claim)
    found = assign(
        there,
        held=lambda key: known.get(key, NOT_HELD),
        claimed=[claim] if claim in known else (),
        seen=sightings.by_key,
    )
    seen_now = [(found[each.sys_name].key, each) for each in there if found[each.sys_name].withheld is None]
    return found, sightings.after(seen_now, lambda key: False, has_serial=lambda key, device: device.serial is not None)


def test_a_twin_that_stays_does_not_take_over_a_claim_by_port_once_it_has_its_serial_key_back() -> None:
    first, twin = a_device("1-1", serial="A1"), a_device("1-2", serial="A1")
    sightings = at_once(first, twin)
    for _ in range(3):
        found, sightings = after_look(sightings, port_key(first), twin)
        assert (found["1-2"].key, found["1-2"].withheld) == (serial_key(twin), None)


def test_a_device_that_moves_to_a_port_by_which_it_was_known_long_ago_is_no_twin_of_itself() -> None:
    there, here = a_device("1-1", serial="A1"), a_device("1-2", serial="A1")
    sightings = Sightings().after([(port_key(here), here)], lambda key: False)
    sightings = sightings.after([(serial_key(there), there)], lambda key: False)
    found, _ = after_look(sightings, serial_key(there), here)
    assert found["1-2"].key == serial_key(there)


def test_a_device_whose_place_another_has_taken_stays_withheld_however_often_the_agent_looks() -> None:
    before, bare, moved = a_device("1-1", serial="A1"), a_device("1-1"), a_device("1-2", serial="A1")
    claim = serial_key(before)
    sightings = at_once(before)
    for _ in range(3):
        found, sightings = after_look(sightings, claim, bare, moved)
        assert (found["1-1"].key, found["1-2"].withheld_for) == (claim, claim)
