"""Which devices a server holds beyond its flavor."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from placement_traits import MANAGED
from usb_provider.model.reporting.tree import Amount
from usb_provider.osc.model.flavor import extra_specs_for
from usb_provider.osc.model.fleet import Device
from usb_provider.osc.model.surplus import HeldDevice, surpluses, units_beyond

KEY = "CUSTOM_USB_KEY"
CAMERA = "CUSTOM_USB_CAMERA"
SITE = "CUSTOM_SITE_A"


def held(name: str, *traits: str, resource_class: str = KEY, units: int = 1) -> HeldDevice:
    amounts = {resource_class: Amount(units, units)}
    device = Device(name, f"host1_usb_{name}", "host1", "root1", frozenset({MANAGED, *traits}), amounts)
    return HeldDevice(device, resource_class, units)


def beyond(devices: list[HeldDevice], specs: dict[str, str], *usb_classes: str) -> dict[str, tuple[int, int]]:
    """The certain and the possible surplus of each."""
    return {
        each.held.device.uuid: (each.certain, each.possible) for each in surpluses(devices, specs, set(usb_classes))
    }


def test_without_devices_in_the_flavor_everything_is_beyond_it() -> None:
    assert beyond([held("a"), held("b", units=2)], {}) == {"a": (1, 1), "b": (2, 2)}


def test_what_the_flavor_asks_for_is_not_beyond_it() -> None:
    assert beyond([held("a"), held("b")], extra_specs_for(KEY, 2)) == {"a": (0, 0), "b": (0, 0)}


def test_where_several_suit_the_flavor_equally_each_of_them_may_be_beyond_it() -> None:
    assert beyond([held("b"), held("a")], extra_specs_for(KEY)) == {"a": (0, 1), "b": (0, 1)}


def test_of_another_class_it_is_beyond_although_the_numbers_are_equal() -> None:
    assert beyond([held("a", resource_class=CAMERA)], extra_specs_for(KEY)) == {"a": (1, 1)}


def test_the_one_with_the_traits_of_the_flavor_is_the_flavors() -> None:
    devices = [held("a"), held("b", SITE)]
    assert beyond(devices, extra_specs_for(KEY, 1, [SITE])) == {"a": (1, 1), "b": (0, 0)}


def test_one_whose_traits_have_changed_is_still_the_flavors_where_no_other_is() -> None:
    assert beyond([held("a")], extra_specs_for(KEY, 1, [SITE])) == {"a": (0, 0)}
    assert beyond([held("a", SITE)], extra_specs_for(KEY, 1, [], [SITE])) == {"a": (0, 0)}


def test_a_line_that_only_one_device_can_have_gets_that_one() -> None:
    specs = {
        "resources_USB1:CUSTOM_USB_KEY": "1",
        "resources_USB2:CUSTOM_USB_KEY": "1",
        f"trait_USB1:{SITE}": "required",
        "group_policy": "isolate",
    }
    for special, plain in ("ab", "ba"):
        found = beyond([held(special, SITE), held(plain), held("c")], specs)
        assert found == {special: (0, 0), plain: (0, 1), "c": (0, 1)}


def test_of_a_pool_the_units_beyond_are_counted() -> None:
    assert beyond([held("pool_hasp", units=3)], extra_specs_for(KEY, 2, pooled=True)) == {"pool_hasp": (1, 1)}


def test_classes_of_other_names_count_where_they_are_known_to_be_of_usb() -> None:
    dongle, specs = held("a", resource_class="CUSTOM_DONGLE"), {"resources:CUSTOM_DONGLE": "1"}
    assert beyond([dongle], specs) == {"a": (1, 1)}
    assert beyond([dongle], specs, "CUSTOM_DONGLE") == {"a": (0, 0)}


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
    total = units_beyond(devices, specs)
    assert total == max(0, keys - count) + others
    found = surpluses(devices, specs)
    assert all(0 <= each.certain <= each.possible <= each.held.units for each in found)
    assert sum(each.certain for each in found) <= total <= sum(each.possible for each in found)


@given(DEVICES, st.integers(1, 4), st.sampled_from([[], [SITE]]))
def test_what_may_go_leaves_as_much_of_the_flavor_filled_as_before(
    devices: list[HeldDevice], count: int, traits: list[str]
) -> None:
    specs = extra_specs_for(KEY, count, traits)
    filled = sum(each.units for each in devices) - units_beyond(devices, specs)
    for each in surpluses(devices, specs):
        rest = [other for other in devices if other is not each.held]
        if left := each.held.units - each.possible:
            rest.append(dataclasses.replace(each.held, units=left))
        assert sum(other.units for other in rest) - units_beyond(rest, specs) == filled
