"""A device of a guest has the same USB port in it for good."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures.builders import ROOT, a_device, a_spec
from usb_provider.model.binding.attachments import Attachments
from usb_provider.model.binding.decision import Attach, Decision, Detach, Why
from usb_provider.model.binding.guest_ports import assigned, with_ports
from usb_provider.model.binding.guests import RunningGuest
from usb_provider.model.binding.hostdev import Guest, GuestPort, Hostdev, UsbController, alias, hostdev_xml, parse_guest
from usb_provider.model.binding.unit_holding import Holding
from usb_provider.model.devices.device import Speed
from usb_provider.model.reporting.provider import assess

ANNA = "3b6f816a-1d5a-426f-bdfc-803800f67577"
UUIDS = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(9)]
XHCI = UsbController("qemu-xhci", Speed.SUPER_PLUS, 4, 0, 4)
UHCI = UsbController("piix3-uhci", Speed.FULL, 1, 0, 2, frozenset({1}))


def a_unit(number: int, *, plugged: bool = True, speed: Speed = Speed.FULL, name: str | None = None) -> Holding:
    """One device that anna holds."""
    (found,) = assess([a_device(serial=str(number), speed=speed)], [a_spec()], root=ROOT)
    uuid = UUIDS[number]
    return Holding(uuid, name or f"host1_usb_1050:0407:{number}", frozenset({ANNA}), found if plugged else None)


def a_guest(*have: tuple[int, str], controllers: tuple[UsbController, ...] = (XHCI,)) -> Guest:
    """Anna, with these devices at these ports."""
    hostdevs = tuple(
        Hostdev(alias(UUIDS[number]), "1050", "0407", 1, 3, guest_port=GuestPort(0, path)) for number, path in have
    )
    return Guest(ANNA, "anna", hostdevs, controllers)


def the_ports(guest: Guest, units: list[Holding], known: dict[str, GuestPort]) -> dict[str, GuestPort]:
    """The ports while all that the guest has stays."""
    return assigned(guest, units, known, guest.hostdevs)


def ports(*pairs: tuple[int, int]) -> dict[str, GuestPort]:
    return {UUIDS[number]: GuestPort(0, str(port)) for number, port in pairs}


numbers = st.lists(st.integers(0, 8), unique=True, max_size=6)


@given(numbers, st.permutations(range(9)), st.dictionaries(st.integers(0, 8), st.integers(1, 9), max_size=9))
def test_no_two_devices_have_one_port_and_none_is_on_a_port_of_another_device(
    held: list[int], order: list[int], known: dict[int, int]
) -> None:
    controller = UsbController("qemu-xhci", Speed.SUPER_PLUS, 6, 0, 8, frozenset({1, 5}))
    units = [a_unit(number) for number in sorted(held, key=order.index)]
    guest = a_guest(controllers=(controller,))
    found = the_ports(guest, units, ports(*known.items()))
    assert found.keys() == {each.unit for each in units}, "there are enough ports"
    assert len(set(found.values())) == len(found)
    assert set(found.values()) <= set(controller.usable_ports)


@given(numbers, st.lists(st.tuples(st.integers(0, 8), st.booleans()), max_size=12))
def test_whatever_is_unplugged_and_attached_meanwhile_a_device_keeps_its_port(
    held: list[int], story: list[tuple[int, bool]]
) -> None:
    controller = UsbController("qemu-xhci", Speed.SUPER_PLUS, 9, 0, 9)
    first = known = the_ports(a_guest(controllers=(controller,)), [a_unit(number) for number in held], {})
    now = set(held)
    for number, attached in story:
        now |= {number} if attached else set()
        units = [a_unit(each, plugged=each != number or attached) for each in now]
        guest = a_guest(
            *((each, known[UUIDS[each]].path) for each in held if each != number), controllers=(controller,)
        )
        known = the_ports(guest, units, known)
        assert {unit: known[unit] for unit in first} == first


def test_without_a_memory_the_same_devices_get_the_same_ports_in_the_order_of_their_names() -> None:
    units = [a_unit(2), a_unit(0), a_unit(1)]
    assert the_ports(a_guest(), units, {}) == ports((0, 1), (1, 2), (2, 3))
    assert the_ports(a_guest(), units[::-1], {}) == ports((0, 1), (1, 2), (2, 3))


def test_on_another_host_devices_of_the_same_models_get_the_same_ports() -> None:
    here = [a_unit(0, name="a_usb_046d:082d:X"), a_unit(1, name="a_usb_1050:0407:A")]
    there = [a_unit(2, name="b_usb_1050:0407:Z"), a_unit(3, name="b_usb_046d:082d:Y")]
    assert the_ports(a_guest(), here, {}) == ports((0, 1), (1, 2))
    assert the_ports(a_guest(), there, {}) == ports((3, 1), (2, 2))


def test_a_device_that_libvirt_has_put_elsewhere_stays_there() -> None:
    assert the_ports(a_guest((0, "3")), [a_unit(0), a_unit(1)], ports((0, 1))) == ports((0, 3), (1, 1))


def test_a_device_is_not_put_on_a_controller_that_is_too_slow_nor_on_the_tablets_port() -> None:
    assert the_ports(a_guest(controllers=(UHCI,)), [a_unit(0), a_unit(1)], {}) == ports((0, 2))
    assert the_ports(a_guest(controllers=(UHCI,)), [a_unit(0, speed=Speed.HIGH)], {}) == {}
    assert the_ports(a_guest(controllers=()), [a_unit(0)], ports((0, 1))) == {}


def test_a_device_that_is_unplugged_does_not_take_the_last_port() -> None:
    assert the_ports(a_guest(controllers=(UHCI,)), [a_unit(0, plugged=False), a_unit(1)], {}) == ports((1, 2))


def test_a_guest_that_is_off_keeps_its_ports_while_it_holds_the_devices() -> None:
    known = Attachments(ports={(ANNA, UUIDS[0]): GuestPort(0, "2"), (ANNA, UUIDS[1]): GuestPort(0, "1")})
    _, kept = with_ports(Decision(), [], [a_unit(0)], known)
    assert kept.ports == {(ANNA, UUIDS[0]): GuestPort(0, "2")}
    attach = Attach(ANNA, "anna", UUIDS[0], "x", a_device())
    decision, _ = with_ports(Decision(attaches=(attach,)), [RunningGuest(a_guest())], [a_unit(0)], kept)
    assert decision.attaches == (dataclasses.replace(attach, port=GuestPort(0, "2")),)


def test_the_port_and_the_reset_go_to_libvirt_and_come_back() -> None:
    xml = hostdev_xml(UUIDS[0], a_device(busnum=1, devnum=3), port=GuestPort(0, "3"), guest_reset="off")
    mouse = "<input type='mouse' bus='usb'><address type='usb' bus='0' port='1.2'/></input>"
    model = "<controller type='usb' index='0' model='qemu-xhci' ports='8'/>"
    text = f"<domain><name>x</name><uuid>{ANNA}</uuid><devices>{model}{mouse}{xml}</devices></domain>"
    guest = parse_guest(text)
    assert (guest.ours[0].guest_port, guest.ours[0].guest_reset) == (GuestPort(0, "3"), "off")
    assert (guest.controllers[0].ports, guest.controllers[0].taken) == (8, {1})
    assert Attachments.from_json(Attachments(ports={(ANNA, "x"): GuestPort(0, "1.2")}).to_json()).ports == {
        (ANNA, "x"): GuestPort(0, "1.2")
    }


def test_what_comes_in_the_place_of_a_device_that_goes_gets_its_port() -> None:
    guest = a_guest((0, "1"), (1, "2"))
    (gone, other) = guest.ours
    detach = Detach(ANNA, "anna", UUIDS[0], gone, Why.GONE)
    _, known = with_ports(Decision((detach,)), [RunningGuest(guest)], [a_unit(1), a_unit(2)], Attachments())
    assert known.ports == {(ANNA, UUIDS[1]): GuestPort(0, "2"), (ANNA, UUIDS[2]): GuestPort(0, "1")}
    _, known = with_ports(Decision(), [RunningGuest(guest)], [a_unit(1), a_unit(2)], Attachments())
    assert known.ports[ANNA, UUIDS[2]] == GuestPort(0, "3"), "the first one stays"
    assert other.unit == UUIDS[1]


def test_a_high_speed_device_that_works_at_full_speed_has_a_port_of_a_usb_1_controller_for_good() -> None:
    unit = a_unit(0)
    (found,) = assess([a_device(serial="0", speed=Speed.HIGH, full_speed_compatible=True)], [a_spec()], root=ROOT)
    disk = dataclasses.replace(unit, assessment=found)
    assert the_ports(a_guest(controllers=(UHCI,)), [disk], ports((0, 2))) == ports((0, 2))


def test_the_lowest_free_port_is_the_lowest_number() -> None:
    wide = UsbController("qemu-xhci", Speed.SUPER_PLUS, 12, 0, 12, frozenset(range(1, 9)))
    assert the_ports(a_guest(controllers=(wide,)), [a_unit(0), a_unit(1)], {}) == ports((0, 9), (1, 10))


def test_a_guest_finds_its_ports_again_after_a_migration_that_is_reverted() -> None:
    known = Attachments(ports={(ANNA, UUIDS[0]): GuestPort(0, "2")})
    moving = dataclasses.replace(a_unit(0), consumers=frozenset({UUIDS[8]}))
    _, kept = with_ports(Decision(), [], [moving], known)
    assert kept.ports == known.ports
    other = RunningGuest(Guest(UUIDS[8], "other", (), (XHCI,)))
    _, kept = with_ports(Decision(), [other], [moving], known)
    assert (ANNA, UUIDS[0]) not in kept.ports
    _, kept = with_ports(Decision(), [], [dataclasses.replace(moving, consumers=frozenset())], known)
    assert kept.ports == {}
