"""Guests, what they hold and what they have: which of them lacks a controller or a port, and which has too much."""

import dataclasses
from collections.abc import Collection

from tests.fixtures.builders import a_device, a_spec
from tests.fixtures.domain_xml import a_domain_xml, a_hostdev_xml
from tests.fixtures.fake_host import a_uuid
from tests.fixtures.pooled_host import PooledHost
from usb_provider.diagnosis.check import Check, Finding, Verdict
from usb_provider.diagnosis.guests import ControllersCheck, GuestFacts, StaleHostdevsCheck, held_by_all
from usb_provider.model.binding.attachments import Attachments
from usb_provider.model.binding.guests import RunningGuest
from usb_provider.model.binding.hostdev import Guest, Hostdev, UsbController, hostdev_xml, parse_guest
from usb_provider.model.binding.unit_holding import Holding
from usb_provider.model.devices.device import Speed
from usb_provider.model.reporting.provider import assess
from usb_provider.model.units.sharing import Share

VM = "4cad3336-9f38-4bf2-aaab-199b82e458ea"
PROVIDER = "d4cd0e47-5d8f-5d7d-8edb-87ec9de28ae1"
DEVICE = a_device("1-2", busnum=1, devnum=9, speed=Speed.HIGH)
HELD = Holding(PROVIDER, "compute1_usb_key", frozenset({VM}), *assess([DEVICE], [a_spec()]))
SECOND = Holding(
    "e1a7c5d2-3f0b-5c64-9d0e-0c5b8f2f4a11",
    "compute1_usb_dongle",
    frozenset({VM}),
    *assess([a_device("1-3", busnum=1, devnum=10)], [a_spec()]),
)
XHCI = UsbController("qemu-xhci", Speed.SUPER_PLUS, 4)
UHCI = UsbController("piix3-uhci", Speed.FULL, 1)

CONTROLLERS, STALE = ControllersCheck(), StaleHostdevsCheck()


def a_guest(*hostdevs: Hostdev, controllers: tuple[UsbController, ...] = (XHCI,)) -> RunningGuest:
    return RunningGuest(Guest(VM, "vm", hostdevs, controllers))


def the_hostdev(number: int = 9) -> Hostdev:
    """The hostdev that the agent attaches for HELD, with the device at *number*."""
    element = hostdev_xml(PROVIDER, dataclasses.replace(DEVICE, devnum=number))
    return parse_guest(f"<domain><name>x</name><uuid>{VM}</uuid><devices>{element}</devices></domain>").hostdevs[0]


def judge(check: Check[GuestFacts], guest: RunningGuest, holdings: Collection[Holding]) -> Finding:
    """What *check* finds where *guest* alone runs."""
    return check.judge(GuestFacts((guest,), tuple(holdings), frozenset({VM})))


# Pools


def test_a_guest_keeps_the_member_that_it_has_although_the_agents_file_names_another() -> None:
    host = PooledHost()
    host.plug("1-1")
    host.plug("1-2")
    host.claim("a", 1)
    host.start("a")
    host.binder.run()
    assert host.has("a") == {"1-1"}
    (other,) = [each.identity.key for each in host.view().devices if each.device.sys_name == "1-2"]
    view = dataclasses.replace(host.view(), shares={other: Share("pool_hasp", a_uuid("a"))})
    latest = host.latest()
    held = held_by_all(view, latest.running, latest.known)
    row = STALE.judge(GuestFacts(latest.running, held, latest.known))
    assert row.verdict is Verdict.OK, row.found


# Controllers


def test_a_guest_with_a_controller_can_take_what_it_holds() -> None:
    row = judge(CONTROLLERS, a_guest(), [HELD])
    assert (row.verdict, row.found) == (Verdict.OK, "1 running guest can take what it holds.")


def test_where_no_guest_holds_anything_none_needs_a_controller() -> None:
    row = judge(CONTROLLERS, a_guest(controllers=()), [])
    assert (row.verdict, row.found) == (Verdict.OK, "No running guest holds a USB device.")


def test_a_guest_without_a_controller_cannot_take_what_it_holds() -> None:
    row = judge(CONTROLLERS, a_guest(controllers=()), [HELD])
    assert row.verdict is Verdict.WRONG
    assert "Guest vm: The instance has no USB controller for compute1_usb_key" in row.found
    assert row.advice


def test_a_device_that_is_too_fast_for_the_controller_is_told() -> None:
    row = judge(CONTROLLERS, a_guest(controllers=(UHCI,)), [HELD])
    assert row.verdict is Verdict.WRONG
    assert "too fast for the instance's USB controller (piix3-uhci)" in row.found


def test_what_a_guest_has_already_it_can_take() -> None:
    row = judge(CONTROLLERS, a_guest(the_hostdev(), controllers=()), [HELD])
    assert (row.verdict, row.found) == (Verdict.OK, "1 running guest can take what it holds.")


def test_that_a_device_is_not_plugged_in_is_not_about_controllers() -> None:
    row = judge(CONTROLLERS, a_guest(), [dataclasses.replace(HELD, assessment=None)])
    assert (row.verdict, row.found) == (Verdict.OK, "1 running guest can take what it holds.")


def a_guest_with_a_tablet(model: str, nova: str, *more: str) -> RunningGuest:
    tablet = "<input type='tablet' bus='usb'><address type='usb' bus='0' port='1'/></input>"
    return RunningGuest(parse_guest(a_domain_xml("vm", VM, usb_model=model, nova=nova, devices=(tablet, *more))))


def test_a_guest_that_loses_its_only_port_at_the_next_hard_reboot_is_told_before() -> None:
    slow = dataclasses.replace(SECOND, consumers=frozenset({VM}))
    row = judge(CONTROLLERS, a_guest_with_a_tablet("piix3-uhci", "29.4.0"), [slow])
    assert row.verdict is Verdict.WARNING
    assert (
        "Guest vm, from its next hard reboot on: The instance has no free USB port for compute1_usb_dongle" in row.found
    )
    assert "config drive" in row.found
    assert "USB keyboard" in str(row.advice)


def test_a_guest_that_has_its_keyboard_already_or_ports_enough_is_not_warned() -> None:
    keyboard = "<input type='keyboard' bus='usb'><address type='usb' bus='0' port='2'/></input>"
    for guest in (
        a_guest_with_a_tablet("qemu-xhci", "29.4.0"),
        a_guest_with_a_tablet("qemu-xhci", "34.0.0", keyboard),
    ):
        assert judge(CONTROLLERS, guest, [SECOND]).verdict is Verdict.OK


# Ports that hostdevs of ours take


def two_ports(*hostdevs: str) -> RunningGuest:
    """A guest as libvirt shows it while it runs: a controller with two ports, of which its tablet has one."""
    tablet = "<input type='tablet' bus='usb'><address type='usb' bus='0' port='1'/></input>"
    return RunningGuest(parse_guest(a_domain_xml("vm", VM, ports=2, devices=(tablet, *hostdevs))))


def attached(holding: Holding, *, number: int | None = None) -> str:
    """The hostdev of *holding*'s device in a live domain; *number* is another address on the host's bus."""
    device = holding.device
    assert device is not None and device.busnum is not None and device.devnum is not None
    usb_id = f"{device.vendor_id}:{device.product_id}"
    return a_hostdev_xml(f"ua-usb-{holding.provider_uuid}", device.busnum, number or device.devnum, usb_id, port=2)


def test_a_running_guest_whose_ports_our_own_devices_take_has_none_for_one_more() -> None:
    row = judge(CONTROLLERS, two_ports(attached(HELD)), [HELD, SECOND])
    assert row.verdict is Verdict.WRONG
    assert row.found.startswith("Guest vm: The instance has no free USB port for compute1_usb_dongle;")


def test_a_running_guest_that_has_all_that_it_holds_needs_no_free_port() -> None:
    assert judge(CONTROLLERS, two_ports(attached(HELD)), [HELD]).verdict is Verdict.OK


def test_a_port_that_the_agent_is_about_to_free_counts_as_free() -> None:
    released = dataclasses.replace(HELD, consumers=frozenset())
    unplugged = dataclasses.replace(HELD, assessment=None)
    for held in (released, unplugged):
        assert judge(CONTROLLERS, two_ports(attached(HELD)), [held, SECOND]).verdict is Verdict.OK


def test_a_port_is_still_taken_when_its_device_has_another_address_now() -> None:
    row = judge(CONTROLLERS, two_ports(attached(HELD, number=7)), [HELD, SECOND])
    assert (row.verdict, "no free USB port" in row.found) == (Verdict.WRONG, True)


def test_a_device_of_ours_behind_the_guests_hub_takes_no_port_of_the_controller() -> None:
    behind = attached(HELD).replace("port='2'", "port='1.2'")
    assert judge(CONTROLLERS, two_ports(behind), [HELD, SECOND]).verdict is Verdict.OK


# Stale hostdevs


def test_a_hostdev_of_a_device_that_the_guest_holds_is_where_it_should_be() -> None:
    assert judge(STALE, a_guest(the_hostdev()), [HELD]).verdict is Verdict.OK


def test_a_hostdev_at_an_address_that_the_device_has_no_more_is_stale() -> None:
    row = judge(STALE, a_guest(the_hostdev(7)), [HELD])
    assert row.verdict is Verdict.WRONG
    assert row.found == f"Guest vm has ua-usb-{PROVIDER}, and the device has another address now."
    assert row.advice


def test_a_hostdev_is_stale_when_its_device_has_left_the_bus_since_and_is_back_at_its_address() -> None:
    back = dataclasses.replace(DEVICE, plug_number=8)
    held = dataclasses.replace(HELD, assessment=assess([back], [a_spec()])[0])
    for plug_number, verdict in ((8, Verdict.OK), (7, Verdict.WRONG)):
        attached_to = dataclasses.replace(DEVICE, plug_number=plug_number)
        known = Attachments().begun([(VM, PROVIDER, attached_to)])
        row = STALE.judge(GuestFacts((a_guest(the_hostdev()),), (held,), frozenset({VM}), known))
        assert row.verdict is verdict
    assert row.found.endswith(", and the device was plugged in again, or its controller was reset.")


def test_a_hostdev_of_a_device_that_the_guest_does_not_hold_is_stale() -> None:
    row = judge(STALE, a_guest(the_hostdev()), [])
    assert row.verdict is Verdict.WRONG
    assert "the guest no longer holds its allocation" in row.found


def test_a_hostdev_that_a_migration_holds_is_not_stale() -> None:
    moving = dataclasses.replace(HELD, consumers=frozenset({"a migration"}))
    assert judge(STALE, a_guest(the_hostdev()), [moving]).verdict is Verdict.OK


def test_many_of_a_kind_are_cut_short() -> None:
    guests = tuple(
        RunningGuest(Guest(f"{VM[:-1]}{number}", f"vm{number}", (the_hostdev(7),), ())) for number in range(5)
    )
    row = STALE.judge(GuestFacts(guests, (), frozenset()))
    assert "vm2" in row.found and "vm3" not in row.found
    assert row.found.endswith("And 2 more.")


def test_several_guests_that_can_take_what_they_hold_are_counted() -> None:
    other = RunningGuest(Guest("5cad3336-9f38-4bf2-aaab-199b82e458ea", "vm2", (), (XHCI,)))
    theirs = dataclasses.replace(SECOND, consumers=frozenset({other.guest.uuid}))
    row = CONTROLLERS.judge(GuestFacts((a_guest(), other), (HELD, theirs), frozenset()))
    assert row.found == "2 running guests can take what they hold."
