"""What an offered device becomes in Placement: a name, a UUID, a class and traits that Placement takes."""

import dataclasses
import json
import re
import uuid

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import placement_traits
from placement_traits import MANAGED
from tests.fixtures.builders import ROOT, STICK, a_device, a_spec
from tests.fixtures.hostile import HOSTILE, any_text, serials
from usb_provider.model.devices.device import HostUse, Speed, UsbDevice, UseKind
from usb_provider.model.devices.held import NOT_HELD, Held
from usb_provider.model.devices.keys import serial_key
from usb_provider.model.devices.offer import OfferReason
from usb_provider.model.devices.spec import IdentityMode
from usb_provider.model.reporting.provider import NAME_MARK, Assessment, Root, assess, provider_name, provider_uuid

EVERYTHING = a_spec(1)
TRAIT = re.compile(r"CUSTOM_[A-Z0-9_]{1,248}\Z")

keys = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=300)


def assessed(device: UsbDevice, *specs: object, **more: object) -> Assessment:
    (only,) = assess([device], specs or (EVERYTHING,), root=ROOT, **more)  # type: ignore[arg-type]
    return only


def test_the_uuid_is_computed_from_the_root_and_the_key() -> None:
    # python3 -c 'import uuid; print(uuid.uuid5(uuid.UUID("0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f0"), "1050:0407:1"))'
    assert provider_uuid("0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f0", "1050:0407:1") == (
        "50492289-e5c1-54e0-bd3c-74ef0d646963"
    )
    assert provider_uuid(ROOT.uuid.upper(), "1050:0407:1") == provider_uuid(ROOT.uuid, "1050:0407:1")


@given(keys, keys)
def test_two_keys_or_two_roots_never_share_a_uuid(one: str, other: str) -> None:
    if one != other:
        assert provider_uuid(ROOT.uuid, one) != provider_uuid(ROOT.uuid, other)
    assert provider_uuid(ROOT.uuid, one) != provider_uuid(str(uuid.UUID(int=1)), one)


def test_a_name_is_the_roots_name_and_the_key() -> None:
    assert provider_name("compute1", "1050:0407:1") == "compute1_usb_1050:0407:1"


@given(st.text(min_size=1, max_size=300), keys)
@example("c", "1050:0407:" + "x" * 185)
@example("c" * 200, "1050:0407:1")
def test_a_name_is_never_longer_than_placement_takes(root_name: str, key: str) -> None:
    name = provider_name(root_name, key)
    assert 1 <= len(name) <= 200
    assert NAME_MARK in name
    assert name.startswith(root_name[:100])


@given(st.integers(150, 300), st.integers(150, 300))
def test_names_that_are_cut_still_differ(one: int, other: int) -> None:
    names = {provider_name("compute1", "1050:0407:" + "x" * length) for length in (one, other)}
    assert len(names) == len({one, other})
    assert provider_name("c" * 150 + "1", "x" * 100) != provider_name("c" * 150 + "2", "x" * 100)


def test_a_security_key_is_reported_as_what_it_is() -> None:
    each = assessed(
        a_device(serial="12345", speed=Speed.FULL), a_spec(4, vendor_id="1050", traits=frozenset({"CUSTOM_A"}))
    )
    assert each.offered
    assert each.reason == "Offered by device_spec rule 4."
    assert each.desired is not None
    assert each.desired.uuid == each.provider_uuid == provider_uuid(ROOT.uuid, "1050:0407:12345")
    assert each.desired.name == each.provider_name == "compute1.example.org_usb_1050:0407:12345"
    assert each.desired.resource_class == each.resource_class == "CUSTOM_USB_KEY"
    assert each.desired.traits == each.traits
    assert each.traits == {
        MANAGED,
        "CUSTOM_A",
        "CUSTOM_USB_VENDOR_1050",
        "CUSTOM_USB_PRODUCT_1050_0407",
        "CUSTOM_USB_CLASS_SMART_CARD",
        "CUSTOM_USB_SPEED_FULL",
    }


def test_a_rule_may_choose_the_class() -> None:
    assert assessed(a_device(), a_spec(1, resource_class="CUSTOM_MINE")).resource_class == "CUSTOM_MINE"
    assert assessed(a_device(vendor_id="46f4", product_id="0001", interfaces=(STICK,))).resource_class == (
        "CUSTOM_USB_STORAGE"
    )


def test_the_serial_number_is_a_trait_only_when_that_is_wanted() -> None:
    assert "CUSTOM_USB_SERIAL_5_AB" in assessed(a_device(serial="5-ab"), serial_trait=True).traits
    assert not any("SERIAL" in name for name in assessed(a_device(serial="5-ab")).traits)
    assert not any("SERIAL" in name for name in assessed(a_device(serial="!!"), serial_trait=True).traits)


def test_a_device_that_may_not_be_exchanged_says_so_to_every_other_host() -> None:
    mark = "CUSTOM_USB_NOT_LIVE_MIGRATABLE"
    (stays,) = assess([a_device()], [a_spec(live_migratable=False)], root=ROOT)
    (goes,) = assess([a_device()], [a_spec()], root=ROOT)
    assert mark in stays.traits and mark not in goes.traits
    assert placement_traits.is_owned(mark)


def test_a_device_that_is_not_offered_has_a_key_and_a_name_and_nothing_to_report() -> None:
    each = assessed(a_device(serial="1"), a_spec(1, vendor_id="0529"))
    assert (each.offered, each.desired, each.resource_class, each.traits) == (False, None, None, frozenset())
    assert each.identity.key == "1050:0407:1"
    assert each.provider_uuid is not None


def test_while_the_root_is_unknown_devices_are_judged_and_not_named() -> None:
    (each,) = assess([a_device()], [EVERYTHING])
    assert each.offered
    assert (each.provider_uuid, each.provider_name, each.desired) == (None, None, None)


def test_a_root_whose_name_is_unknown_gives_uuids_and_no_names() -> None:
    (each,) = assess([a_device()], [EVERYTHING], root=Root(ROOT.uuid, ""))
    assert each.provider_uuid is not None
    assert (each.provider_name, each.desired) == (None, None)


def test_a_rule_that_wants_a_serial_number_does_not_offer_a_device_without_one() -> None:
    each = assessed(a_device(), a_spec(3, identity=IdentityMode.SERIAL))
    assert not each.offered
    assert each.desired is None
    assert each.reason == (
        "Not offered by device_spec rule 3: its rule demands identity by serial, but it has no serial number."
    )


SIGNATURE = HostUse(UseKind.MEMBER, "sda1 is marked as LVM2_member")
MOUNTED = HostUse(UseKind.MOUNTED, "sda1 is mounted on /")


def test_a_signature_that_a_guest_wrote_does_not_take_the_disk_from_it() -> None:
    disk = a_device(serial="1", uses=(SIGNATURE,))
    assert not assessed(disk).offered
    assert assessed(disk, held=lambda key: Held(("server-1",) if key == serial_key(disk) else ())).offered
    # It belongs to the instance only while that has it.
    assert not assessed(disk, held=lambda key: Held(present=True)).offered


def test_a_disk_that_the_host_mounts_is_not_offered_even_when_an_instance_holds_it() -> None:
    for uses in ((MOUNTED,), (MOUNTED, SIGNATURE)):
        assert not assessed(a_device(serial="1", uses=uses), held=lambda key: Held(("server-1",))).offered


def test_a_configuration_that_a_guest_unset_does_not_take_the_device_from_it() -> None:
    device = a_device(serial="1", configured=False)
    assert assessed(device).verdict is OfferReason.UNCONFIGURED
    held = assessed(device, held=lambda key: Held(("server-1",)))
    assert (held.offered, held.device) == (True, device)


def test_a_rule_about_an_interface_says_nothing_of_a_held_device_that_has_none_now() -> None:
    device = a_device(serial="1", configured=False, interfaces=())
    held = assessed(device, a_spec(1, usb_class="0b"), held=lambda key: Held(("server-1",)))
    assert held.verdict is OfferReason.UNCONFIGURED


def test_devices_are_listed_in_the_order_of_their_ports() -> None:
    found = [
        a_device("2-1", busnum=2),
        a_device("1-10", busnum=1),
        a_device("1-2.1", busnum=1),
        a_device("1-2", busnum=1),
        a_device("10-1", busnum=10),
    ]
    listed = [each.device.sys_name for each in assess(found, [])]
    assert listed == ["1-2", "1-2.1", "1-10", "2-1", "10-1"]
    assert listed == [each.device.sys_name for each in assess(found[::-1], [])]


def fits_placement(each: Assessment) -> bool:
    """Whether Placement takes everything that would be written for *each*."""
    want = each.desired
    if want is None:
        return not each.offered
    json.dumps([want.name, *want.traits]).encode("ascii")
    want.name.encode("utf-8")
    return (
        1 <= len(want.name) <= 200
        and want.name.isprintable()
        and str(uuid.UUID(want.uuid)) == want.uuid
        and TRAIT.match(want.resource_class) is not None
        and all(TRAIT.match(name) for name in want.traits)
        and each.reason.isprintable()
    )


@given(
    st.lists(
        st.tuples(serials, any_text, any_text, st.sampled_from(["00", "58", "ff", "0b"]), st.sampled_from(Speed)),
        max_size=4,
    ),
    st.sampled_from(IdentityMode),
)
def test_whatever_devices_say_of_themselves_placement_takes_what_is_made_of_it(
    found: list[tuple[str | None, str, str, str, Speed]], mode: IdentityMode
) -> None:
    devices = [
        a_device(
            f"1-{port}",
            serial=serial,
            product=product or None,
            manufacturer=maker or None,
            device_class=device_class,
            speed=speed,
        )
        for port, (serial, product, maker, device_class, speed) in enumerate(found, start=1)
    ]
    spec = a_spec(1, identity=mode)
    each_of_them = assess(devices, [spec], root=ROOT, serial_trait=True, held=lambda key: NOT_HELD)
    assert all(fits_placement(each) for each in each_of_them)
    names = [each.provider_name for each in each_of_them]
    uuids = [each.provider_uuid for each in each_of_them]
    assert len(set(names)) == len(set(uuids)) == len(devices)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_descriptor_gives_a_provider_that_placement_takes(text: str) -> None:
    raw = text.encode("utf-8", "surrogatepass")
    device = UsbDevice.from_udev(
        "/sys/devices/pci0000:00/0000:00:14.0/usb1/1-2",
        {},
        {"idVendor": b"1050", "idProduct": b"0407", "serial": raw, "product": raw, "manufacturer": raw},
    )
    each = assessed(device, serial_trait=True)
    assert each.offered
    assert fits_placement(each)


@given(serials)
def test_a_serial_trait_is_one_that_placement_takes(serial: str | None) -> None:
    name = placement_traits.serial_trait(serial or "")
    assert name is None or TRAIT.match(name)


def test_a_device_that_a_guard_refuses_has_the_identity_that_its_rule_gives() -> None:
    rule = a_spec(1, identity=IdentityMode.PORT)
    free = a_device("1-2", serial="A1")
    used = dataclasses.replace(free, uses=(HostUse(UseKind.MOUNTED, "sdb is mounted on /mnt"),))
    assert not assessed(used, rule).offered
    assert assessed(used, rule).identity.key == assessed(free, rule).identity.key
