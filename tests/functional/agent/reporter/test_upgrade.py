"""The first pass after an upgrade from the first release, with devices that servers hold: nothing changes for them.

The providers and the files are written as that release wrote them: keys with the controller's name in sysfs and the
port of the bus in use, serial numbers that no longer count, sightings without a place or no sightings at all.
"""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from tests.fixtures.reporting import ABSENT, MANAGED, consumer, uuid_of
from usb_provider.agent.store import SIGHTINGS
from usb_provider.model.devices.device import UsbDevice

CLASS = "CUSTOM_USB_KEY"
BRIDGE = "/sys/devices/pci0000:00/0000:00:1c.4/0000:03:00.0"
OTHER_BRIDGE = "/sys/devices/pci0000:00/0000:00:1c.6/0000:04:00.0"
BOARD = "/sys/devices/platform/soc@0/a800000.usb/xhci-hcd.0.auto"
ROOT_BUS = "/sys/devices/pci0000:00/0000:00:14.0"
RULE = {"vendor_id": "0529", "resource_class": CLASS}


def dongle(controller: str, name: str, *, usb_id: str = "0529:0001", speed: str = "12", **more: Any) -> UsbDevice:
    """The device *name* at *controller*, as this release reads it."""
    vendor, product = usb_id.split(":")
    serial = {"serial": more.pop("serial")} if "serial" in more else {}
    texts = {"idVendor": vendor.encode(), "idProduct": product.encode(), "speed": speed.encode()}
    path = f"{controller}/usb{name.partition('-')[0]}/{name}"
    return UsbDevice.from_udev(path, {}, texts | serial, [("ff", "00", "00")], **more)


@dataclass(frozen=True)
class Case:
    """A *device*, and its key in the first release and in this one; *serial* as the first release remembered it."""

    device: UsbDevice
    then: str
    now: str
    serial: str | None = None


CASES = {
    "on a root bus": Case(
        dongle(ROOT_BUS, "1-2"),
        "0529:0001@0000:00:14.0-2",
        "0529:0001@0000:00:14.0-2",
    ),
    "behind a bridge": Case(
        dongle(BRIDGE, "3-2"),
        "0529:0001@0000:03:00.0-2",
        "0529:0001@0000:00:1c.4/00.0-2",
    ),
    "at a controller of the board": Case(
        dongle(BOARD, "1-1"),
        "0529:0001@xhci-hcd.0.auto-1",
        "0529:0001@a800000.usb-1",
    ),
    "in the USB 3 half of a socket": Case(
        dongle(ROOT_BUS, "2-2", speed="5000", peer_port="6"),
        "0529:0001@0000:00:14.0-2",
        "0529:0001@0000:00:14.0-6",
    ),
    "in a USB 3 port beside a USB 2 port of its number": Case(
        dongle(BRIDGE, "4-2", speed="5000"),
        "0529:0001@0000:03:00.0-2+usb3",
        "0529:0001@0000:00:1c.4/00.0-2",
    ),
    "with a serial number that tells it apart": Case(
        dongle(BRIDGE, "3-2", serial=b"A1"),
        "0529:0001:A1",
        "0529:0001:A1",
        "A1",
    ),
    "with the serial number of all its kind": Case(
        dongle(BRIDGE, "3-2", usb_id="10c4:ea60", serial=b"0001"),
        "10c4:ea60:0001",
        "10c4:ea60@0000:00:1c.4/00.0-2",
        "0001",
    ),
    "with bytes in its serial number that are no text": Case(
        dongle(BRIDGE, "3-2", serial=b"A\xff"),
        "0529:0001:A\\xff",
        "0529:0001@0000:00:1c.4/00.0-2",
        "A\\xff",
    ),
}
MOVED = {name: case for name, case in CASES.items() if case.then != case.now}


@pytest.fixture(params=[True, False], ids=["with its sightings", "without sightings"])
def remembered(request):
    """Whether the file in which the first release kept its sightings is there."""
    return request.param


@pytest.fixture
def upgraded(host, placement, operator, root, remembered):
    """Give what makes host1 as the first release left it: the devices of *held*, which servers hold, and of *free*."""

    def upgrade(*held, free=(), resource_class=CLASS):
        host.rules(RULE, {"vendor_id": "10c4", "resource_class": CLASS})
        claims = {}
        for case in (*held, *free):
            device = case.device
            uuid = operator.create(f"host1_usb_{case.then}", root, uuid_of(case.then))
            speed = device.speed.value.upper()
            vendor, product = device.vendor_id.upper(), device.product_id.upper()
            operator.set_traits(
                uuid,
                {
                    MANAGED,
                    f"CUSTOM_USB_VENDOR_{vendor}",
                    f"CUSTOM_USB_PRODUCT_{vendor}_{product}",
                    "CUSTOM_USB_CLASS_VENDOR_SPECIFIC",
                    f"CUSTOM_USB_SPEED_{speed}",
                },
            )
            operator.set_inventory(uuid, resource_class)
            if case in held:
                claims[case.then] = consumer()
                placement.allocate(claims[case.then], {uuid: {resource_class: 1}})
            host.plug(device)
        if remembered:
            seen = {
                case.then: {"sys_path": case.device.sys_path, "usb_id": case.device.usb_id, "serial": case.serial}
                for case in (*held, *free)
            }
            path = host.directory / "state" / SIGHTINGS
            path.parent.mkdir()
            path.write_text(json.dumps({"version": 1, "sightings": seen, "moves": []}))
        return claims

    return upgrade


def schedulable(placement):
    """The devices that the scheduler can give away."""
    return {uuid for each in placement.candidates(f"resources={CLASS}:1") for uuid in each}


def keys(done):
    return {each.device.sys_name: each.identity.key for each in done.devices}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_first_pass_writes_nothing_about_a_device_that_a_server_holds(host, placement, upgraded, case):
    upgraded(case)
    done = host.run()
    assert keys(done) == {case.device.sys_name: case.then}
    assert (host.written(), schedulable(placement)) == ([], set())
    host.restart()
    host.run()
    assert host.written() == []


@pytest.mark.parametrize("case", MOVED.values(), ids=MOVED)
def test_a_device_whose_server_is_gone_leaves_its_old_key_before_it_has_its_new_one(host, placement, upgraded, case):
    claims = upgraded(case)
    host.run()
    placement.release(claims[case.then])
    placement.before(
        f"^PUT /resource_providers/{uuid_of(case.now)}/inventories$",
        lambda: pytest.fail("it became schedulable twice") if schedulable(placement) else None,
    )
    done = host.run()
    assert placement.errors == []
    assert keys(done) == {case.device.sys_name: case.now}
    assert schedulable(placement) == {uuid_of(case.now)}
    assert ABSENT in placement.traits(uuid_of(case.then))
    host.run()
    assert host.written() == []


@pytest.mark.parametrize("case", MOVED.values(), ids=MOVED)
def test_a_free_device_leaves_its_old_key_before_it_has_its_new_one(host, placement, upgraded, case):
    upgraded(free=[case])
    placement.before(
        f"^PUT /resource_providers/{uuid_of(case.now)}/inventories$",
        lambda: pytest.fail("it became schedulable twice") if schedulable(placement) else None,
    )
    host.run()
    assert placement.errors == []
    assert schedulable(placement) == {uuid_of(case.now)}


def test_of_two_like_dongles_the_one_that_a_server_holds_stays_and_the_free_one_moves(host, placement, upgraded):
    held = CASES["behind a bridge"]
    free = Case(dongle(OTHER_BRIDGE, "5-2"), "0529:0001@0000:04:00.0-2", "0529:0001@0000:00:1c.6/00.0-2")
    upgraded(held, free=[free])
    done = host.run()
    assert keys(done) == {"3-2": held.then, "5-2": free.now}
    written = {request.path.split("/")[2] for request in host.writes() if request.path.count("/") > 1}
    assert written == {uuid_of(free.then), uuid_of(free.now)}
    assert schedulable(placement) == {uuid_of(free.now)}


def test_two_halves_of_a_socket_with_a_held_device_each_keep_their_old_keys(host, placement, upgraded):
    slow = Case(dongle(BRIDGE, "3-2"), "0529:0001@0000:03:00.0-2", "")
    fast = CASES["in a USB 3 port beside a USB 2 port of its number"]
    upgraded(slow, fast)
    assert keys(host.run()) == {"3-2": slow.then, "4-2": fast.then}
    assert (host.written(), schedulable(placement)) == ([], set())


def test_a_held_device_whose_kind_has_another_class_now_keeps_its_class(host, placement, upgraded):
    case = CASES["behind a bridge"]
    upgraded(case, resource_class="CUSTOM_USB_DEVICE")
    host.rules({"vendor_id": "0529"})
    host.run()
    assert host.written() == []
    assert set(placement.inventory(uuid_of(case.then))) == {"CUSTOM_USB_DEVICE"}


def test_a_held_device_that_is_away_while_the_agent_is_upgraded_comes_back_to_its_server(host, placement, upgraded):
    case = CASES["behind a bridge"]
    upgraded(case)
    host.unplug(case.device)
    host.run()
    host.plug(case.device)
    assert keys(host.run()) == {"3-2": case.then}
    assert schedulable(placement) == set()
    assert ABSENT not in placement.traits(uuid_of(case.then))
