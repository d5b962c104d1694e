"""Which devices a server holds beyond its flavor."""

from hypothesis import given
from hypothesis import strategies as st

from placement_traits import MANAGED
from usb_provider.model.reporting.tree import Amount
from usb_provider.osc.model.flavor import extra_specs_for
from usb_provider.osc.model.fleet import Device
from usb_provider.osc.model.surplus import HeldDevice, units_beyond

KEY = "CUSTOM_USB_KEY"
CAMERA = "CUSTOM_USB_CAMERA"
SITE = "CUSTOM_SITE_A"


def held(name: str, *traits: str, resource_class: str = KEY, units: int = 1) -> HeldDevice:
    amounts = {resource_class: Amount(units, units)}
    device = Device(name, f"host1_usb_{name}", "host1", "root1", frozenset({MANAGED, *traits}), amounts)
    return HeldDevice(device, resource_class, units)


def test_without_devices_in_the_flavor_everything_is_beyond_it() -> None:
    assert units_beyond([held("a"), held("b", units=2)], {}) == {"a": 1, "b": 2}


def test_what_the_flavor_asks_for_is_not_beyond_it() -> None:
    assert units_beyond([held("a"), held("b")], extra_specs_for(KEY, 2)) == {"a": 0, "b": 0}


def test_the_first_by_name_are_the_flavors_where_several_suit_it() -> None:
    assert units_beyond([held("b"), held("a")], extra_specs_for(KEY)) == {"a": 0, "b": 1}


def test_any_of_those_may_go() -> None:
    devices = [held("a"), held("b")]
    assert units_beyond(devices, extra_specs_for(KEY), spare="a") == {"a": 1, "b": 0}
    assert units_beyond(devices, extra_specs_for(KEY), spare="b") == {"a": 0, "b": 1}


def test_of_another_class_it_is_beyond_although_the_numbers_are_equal() -> None:
    assert units_beyond([held("a", resource_class=CAMERA)], extra_specs_for(KEY)) == {"a": 1}


def test_the_one_with_the_traits_of_the_flavor_is_the_flavors() -> None:
    devices = [held("a"), held("b", SITE)]
    for spare in (None, "a", "b"):
        assert units_beyond(devices, extra_specs_for(KEY, 1, [SITE]), spare=spare) == {"a": 1, "b": 0}


def test_one_whose_traits_have_changed_is_still_the_flavors_where_no_other_is() -> None:
    assert units_beyond([held("a")], extra_specs_for(KEY, 1, [SITE])) == {"a": 0}
    assert units_beyond([held("a", SITE)], extra_specs_for(KEY, 1, [], [SITE])) == {"a": 0}


def test_a_line_that_only_one_device_can_have_gets_that_one() -> None:
    specs = {
        "resources_USB1:CUSTOM_USB_KEY": "1",
        "resources_USB2:CUSTOM_USB_KEY": "1",
        f"trait_USB1:{SITE}": "required",
        "group_policy": "isolate",
    }
    for names in ("ab", "ba"):
        special, plain = names
        assert units_beyond([held(special, SITE), held(plain), held("c")], specs) == {"a": 0, "b": 0, "c": 1}


def test_of_a_pool_the_units_beyond_are_counted() -> None:
    assert units_beyond([held("pool_hasp", units=3)], extra_specs_for(KEY, 2, pooled=True)) == {"pool_hasp": 1}


def test_classes_of_other_names_count_where_they_are_known_to_be_of_usb() -> None:
    assert units_beyond([held("a", resource_class="CUSTOM_DONGLE")], {"resources:CUSTOM_DONGLE": "1"}) == {"a": 1}
    assert units_beyond(
        [held("a", resource_class="CUSTOM_DONGLE")], {"resources:CUSTOM_DONGLE": "1"}, {"CUSTOM_DONGLE"}
    ) == {"a": 0}


DEVICES = st.lists(
    st.builds(
        held,
        st.sampled_from("abcdef"),
        st.sampled_from([SITE, "CUSTOM_SITE_B"]),
        resource_class=st.sampled_from([KEY, CAMERA]),
        units=st.integers(1, 3),
    ),
    max_size=5,
    unique_by=lambda each: each.device.uuid,
)


@given(DEVICES, st.integers(1, 4), st.sampled_from([[], [SITE]]))
def test_as_many_units_are_beyond_as_the_flavor_does_not_ask_for(
    devices: list[HeldDevice], count: int, traits: list[str]
) -> None:
    specs = extra_specs_for(KEY, count, traits)
    keys = sum(each.units for each in devices if each.resource_class == KEY)
    others = sum(each.units for each in devices if each.resource_class != KEY)
    for spare in (None, *(each.device.uuid for each in devices)):
        beyond = units_beyond(devices, specs, spare=spare)
        assert sum(beyond.values()) == max(0, keys - count) + others
        assert all(0 <= beyond[each.device.uuid] <= each.units for each in devices)
    for each in devices:
        as_spare = units_beyond(devices, specs, spare=each.device.uuid)
        assert as_spare[each.device.uuid] >= units_beyond(devices, specs)[each.device.uuid]
