"""A device that is plugged in and that a rule names becomes one nested provider with one unit of one class."""

import uuid

import pytest

from tests.fixtures.placement import CUT_AFTER, assert_usb_view
from tests.fixtures.reporting import (
    KEY,
    KEY_NAME,
    KEY_RULE,
    KEY_TRAITS,
    KEY_UUID,
    MANAGED,
    MOUNTED,
    ROOT_UUID,
    a_hub,
    keys,
    row,
    uuid_of,
    yubikey,
)
from usb_provider.exception import Unavailable
from usb_provider.model.devices.device import Speed


def test_a_device_becomes_one_provider_below_the_root(placement, host, root):
    host.plug(yubikey())
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row()})
    provider = placement.providers(root)[KEY_NAME]
    assert provider["uuid"] == KEY_UUID == uuid_of(KEY)
    assert provider["parent_provider_uuid"] == provider["root_provider_uuid"] == ROOT_UUID


def test_its_inventory_is_one_unit_that_cannot_be_shared_or_split(placement, host, root):
    host.plug(yubikey())
    host.run()
    assert placement.inventory(KEY_UUID) == {
        "CUSTOM_USB_KEY": {
            "total": 1,
            "reserved": 0,
            "min_unit": 1,
            "max_unit": 1,
            "step_size": 1,
            "allocation_ratio": 1.0,
        }
    }


def test_the_scheduler_finds_exactly_that_device_by_class_and_trait(placement, host, root):
    host.plug(yubikey())
    host.run()
    wish = "resources1=CUSTOM_USB_KEY:1&required1=CUSTOM_USB_VENDOR_1050&group_policy=none"
    assert placement.candidates(wish) == [{KEY_UUID: {"CUSTOM_USB_KEY": 1}}]


def test_a_device_without_a_serial_is_named_after_its_port(placement, host, root):
    host.plug(yubikey(None, "2.4"))
    host.run()
    key = "1050:0407@0000:00:14.0-2.4"
    assert_usb_view(placement, root, {f"host1_usb_{key}": row()})
    assert placement.providers(root)[f"host1_usb_{key}"]["uuid"] == uuid_of(key)


def test_a_device_has_exactly_one_class_which_is_suggested_when_its_rule_names_none(placement, host, root):
    host.rules({"vendor_id": "1050"}, {"vendor_id": "0781"})
    disk = yubikey("D1", "2", vendor_id="0781", product_id="5581", interfaces=(("08", "06", "50"),), speed=Speed.SUPER)
    host.plug(yubikey(), disk)
    host.run()
    disk_traits = {
        MANAGED,
        "CUSTOM_USB_VENDOR_0781",
        "CUSTOM_USB_PRODUCT_0781_5581",
        "CUSTOM_USB_CLASS_MASS_STORAGE",
        "CUSTOM_USB_SPEED_SUPER",
    }
    assert_usb_view(
        placement,
        root,
        {KEY_NAME: row(), "host1_usb_0781:5581:D1": row(has={"CUSTOM_USB_STORAGE": (1, 0)}, traits=disk_traits)},
    )


def test_traits_of_the_rule_custom_and_standard_are_written_too(placement, host, root):
    host.rules(KEY_RULE | {"traits": ["CUSTOM_SITE_A", "HW_NIC_SRIOV"]})
    host.plug(yubikey())
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(traits=KEY_TRAITS | {"CUSTOM_SITE_A", "HW_NIC_SRIOV"})})


def test_the_serial_becomes_a_trait_only_when_that_is_switched_on(placement, host, root):
    host.plug(yubikey())
    host.run()
    assert "CUSTOM_USB_SERIAL_Y1" not in placement.traits(KEY_UUID)
    host.rules(KEY_RULE, serial_trait=True)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(traits=KEY_TRAITS | {"CUSTOM_USB_SERIAL_Y1"})})
    host.rules(KEY_RULE, serial_trait=False)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row()})


def test_without_rules_nothing_is_offered_and_nothing_is_written(placement, host, root):
    host.rules()
    host.plug(yubikey())
    assert [each.offered for each in host.run().devices] == [False]
    assert_usb_view(placement, root, {})
    assert host.writes() == []


@pytest.mark.parametrize(
    "device",
    [
        pytest.param(a_hub(), id="a hub"),
        pytest.param(yubikey(None, "0", sys_name="usb1"), id="a root hub"),
        pytest.param(yubikey(uses=(MOUNTED,)), id="a disk that is mounted"),
        pytest.param(yubikey(settled=False), id="a device that udev is still processing"),
        pytest.param(yubikey(authorized=False), id="a device that the host has not authorised"),
        pytest.param(yubikey(vendor_id="dead"), id="a device that no rule names"),
    ],
)
def test_nothing_is_written_for(placement, host, root, device):
    host.plug(device)
    host.run()
    assert_usb_view(placement, root, {})
    assert host.writes() == []


def test_traits_are_written_before_the_inventory_that_makes_the_device_schedulable(placement, host, root):
    seen = []
    placement.before(f"^PUT .*{KEY_UUID}/inventories", lambda: seen.append(placement.traits(KEY_UUID)))
    host.plug(yubikey())
    host.run()
    assert host.written() == ["POST", "PUT traits", "PUT inventories"]
    assert seen == [KEY_TRAITS]


def test_classes_and_traits_exist_before_anything_names_them_and_only_new_ones_are_made(placement, host, root):
    placement.api.must("PUT", "/traits/CUSTOM_USB_CLASS_HID")
    placement.api.must("PUT", "/resource_classes/CUSTOM_USB_KEY")
    host.plug(yubikey())
    host.run()
    names = [request.path for request in placement.requests if request.path.startswith(("/traits/", "/resource_cl"))]
    made = {path for path in names if path not in ("/resource_classes", "/traits?name=startswith%3ACUSTOM_USB_")}
    assert made == {f"/traits/{name}" for name in KEY_TRAITS - {"CUSTOM_USB_CLASS_HID"} | {"CUSTOM_USB_STATE_ABSENT"}}
    methods = [request.method for request in placement.requests]
    assert methods.index("POST") > max(index for index, r in enumerate(placement.requests) if r.path in made)


def test_a_pass_that_follows_finds_nothing_to_do(placement, host, root):
    host.plug(*keys(3))
    host.run()
    done = host.run()
    assert (done.actions, done.notes, host.writes()) == ((), (), [])
    host.restart()
    assert (host.run().actions, host.writes()) == ((), [])


def test_a_plan_tells_what_a_pass_would_do_and_does_nothing(placement, host, root):
    host.plug(yubikey())
    plan = host.reporter().preview().plan
    assert [request.method for request in placement.requests if request.method != "GET"] == []
    assert_usb_view(placement, root, {})
    assert host.run().actions == plan.actions


def test_a_name_past_placements_limit_is_cut_and_two_of_them_stay_apart(placement, host, root):
    host.plug(yubikey("S" * 190 + "1", "1"), yubikey("S" * 190 + "2", "2"))
    host.run()
    names = sorted(name for name in placement.providers(root) if name != "host1")
    assert len(names) == 2
    assert all(name.startswith("host1_usb_1050:0407:SSS") and len(name) <= 200 for name in names)
    uuids = {provider["uuid"] for provider in placement.providers(root).values()} - {root}
    assert uuids == {uuid_of("1050:0407:" + "S" * 190 + end) for end in "12"}


@pytest.mark.parametrize(
    ("serial", "key"),
    [
        ("Ü1", "1050:0407:%C3%9C1"),
        # It turns text around, and passes for firmware that reads past its string.
        ("Y\u202e1", "1050:0407@0000:00:14.0-1"),
        ("a b/../%41?x=1&y", "1050:0407:a b/../%2541?x=1&y"),
        ("<script>\"';--", "1050:0407:<script>\"';--"),
        ("\U0001f511key", "1050:0407:%F0%9F%94%91key"),
        ("bell\x07", "1050:0407@0000:00:14.0-1"),
        ("0123456789abcdef", "1050:0407@0000:00:14.0-1"),
        ("00000000", "1050:0407@0000:00:14.0-1"),
    ],
)
def test_whatever_a_device_calls_itself_its_provider_has_a_harmless_name(placement, host, root, serial, key):
    host.rules(KEY_RULE, serial_trait=True)
    host.plug(yubikey(serial))
    host.run()
    (name,) = set(placement.providers(root)) - {"host1"}
    assert name == f"host1_usb_{key}"
    assert name.isascii() and name.isprintable()
    assert placement.providers(root)[name]["uuid"] == uuid_of(key)
    assert placement.candidates("resources=CUSTOM_USB_KEY:1") == [{uuid_of(key): {"CUSTOM_USB_KEY": 1}}]


@pytest.mark.parametrize("write", ["^POST /resource_providers$", "^PUT .*/traits$", "^PUT .*/inventories$"])
def test_a_write_that_gets_no_answer_once_makes_no_difference(placement, host, root, write):
    placement.fail_next(write, CUT_AFTER)
    host.plug(yubikey())
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row()})
    assert host.run().actions == ()


@pytest.mark.parametrize("write", ["^POST /resource_providers$", "^PUT .*/traits$", "^PUT .*/inventories$"])
def test_a_provider_left_half_made_by_a_crash_is_completed_after_the_restart(placement, host, root, write):
    placement.fail_next(write, CUT_AFTER, times=None)
    host.plug(yubikey())
    with pytest.raises(Unavailable):
        host.run()
    placement.calm()
    host.restart()
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row()})


def test_a_blank_provider_of_our_uuid_under_another_name_is_taken_for_half_made(placement, host, root, operator):
    operator.create("left over", root, KEY_UUID)
    host.plug(yubikey())
    host.run()
    assert_usb_view(placement, root, {"left over": row()})


def test_one_device_that_fails_does_not_keep_the_others_from_being_reported(placement, host, root):
    placement.fail_next(f"^PUT .*{uuid_of('1050:0407:Y2')}/traits", 409, code="placement.concurrent_update")
    host.plug(*keys(3))
    host.run()
    assert_usb_view(placement, root, {f"host1_usb_1050:0407:Y{n}": row() for n in (1, 2, 3)})


def test_the_uuid_does_not_depend_on_the_port_or_on_the_order_of_devices(placement, host, root):
    host.plug(*keys(3))
    host.run()
    host.unplug()
    host.plug(yubikey("Y3", "7"), yubikey("Y1", "5.1"), yubikey("Y2", "6", busnum=3, devnum=99))
    done = host.run()
    assert (done.actions, host.writes()) == ((), [])
    assert {p["uuid"] for p in placement.providers(root).values()} == {
        root,
        *(str(uuid.uuid5(uuid.UUID(root), f"1050:0407:Y{n}")) for n in (1, 2, 3)),
    }
