"""The lines of a flavor, and of an image, that do not do what they look like."""

import re
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usb_provider.osc.model.flavor import extra_specs_for, parse_extra_specs, wanted
from usb_provider.osc.model.pitfalls import Consequence, Known, pitfalls

KEY = "CUSTOM_USB_KEY"
ONE = {f"resources:{KEY}": "1", "hw:usb_model": "qemu-xhci"}
GOOD_IMAGE = {"hw_input_bus": "virtio"}

suffixes = st.from_regex(r"[a-zA-Z0-9_-]{1,64}", fullmatch=True)
classes = st.sampled_from([KEY, "CUSTOM_USB_HID", "VCPU", "MEMORY_MB"])
names = st.one_of(classes, st.text(max_size=8), st.just("CUSTOM_SITE"))
keys = st.one_of(
    st.just("group_policy"),
    st.text(max_size=12),
    st.builds(
        lambda word, suffix, colon, name: f"{word}{suffix}{colon}{name}",
        st.sampled_from(["resources", "trait", "resource", "Trait", " resources"]),
        st.one_of(st.just(""), suffixes, st.text(max_size=5), st.just("_" * 65)),
        st.sampled_from([":", ""]),
        names,
    ),
)
values = st.one_of(st.sampled_from(["required", "forbidden", "isolate", "none", "0", "1", "2", "-1", " 1 "]), st.text())


def what_is_wrong(
    specs: Mapping[str, str], image: Mapping[str, str] | None = None, known: Known | None = None
) -> list[tuple[str, Consequence]]:
    """Give where the pitfalls are and what they come to."""
    return [(pitfall.where, pitfall.consequence) for pitfall in pitfalls(specs, image, known)]


@given(st.dictionaries(keys, values, max_size=6))
def test_whatever_is_in_a_flavor_it_is_read_and_every_pitfall_is_a_sentence(specs: dict[str, str]) -> None:
    for group in parse_extra_specs(specs).groups:
        assert re.fullmatch(r"[a-zA-Z0-9_-]{0,64}", group.suffix)
        assert all(amount > 0 for amount in group.resources.values())
    for pitfall in pitfalls(specs, {}):
        assert pitfall.text[0].isupper()
        assert pitfall.text.endswith(".")


@given(
    st.sampled_from([KEY, "CUSTOM_DONGLE"]),
    st.integers(1, 4),
    st.frozensets(st.sampled_from(["CUSTOM_USB_VENDOR_1050", "CUSTOM_A"])),
    st.frozensets(st.sampled_from(["CUSTOM_USB_SPEED_LOW", "CUSTOM_B"])),
)
def test_what_we_write_has_no_pitfall_and_asks_for_what_was_wished(
    name: str, count: int, required: frozenset[str], forbidden: frozenset[str]
) -> None:
    specs = extra_specs_for(name, count, required, forbidden)
    known = Known(usb_classes=frozenset({name}), usb_traits=required | forbidden)
    assert pitfalls(specs, GOOD_IMAGE, known) == ()
    request = parse_extra_specs(specs)
    assert wanted(request, {name}) == count
    assert all((group.required, group.forbidden) == (required, forbidden) for group in request.groups)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("resources_USB.1:CUSTOM_USB_KEY", "its suffix has '.', and only"),
        (f"resources_{'x' * 64}:CUSTOM_USB_KEY", "its suffix has 65 characters, and at most 64"),
        ("resource:CUSTOM_USB_KEY", "it must begin with resources"),
        ("Resources:CUSTOM_USB_KEY", "it must begin with resources"),
        (" resources:CUSTOM_USB_KEY", "it must begin with resources"),
        ("Traits_USB1:CUSTOM_USB_VENDOR_1050", "it must begin with trait"),
        ("resources:CUSTOM_USB_KEY\nx", "it has a line break"),
        ("resources:USB_KEY", "USB_KEY is no resource class; write CUSTOM_USB_KEY"),
    ],
)
def test_a_line_that_nova_ignores_is_named_with_the_reason(key: str, says: str) -> None:
    found = {pitfall.where: pitfall for pitfall in pitfalls({**ONE, key: "1"}, known=Known(classes=frozenset({KEY})))}
    assert found[key].consequence is Consequence.NO_DEVICE
    assert says in found[key].text


@pytest.mark.parametrize(
    ("specs", "expected"),
    [
        ({"resources:CUSTOM_USB_KEY": "2"}, ("resources:CUSTOM_USB_KEY", Consequence.NO_HOST)),
        ({"resources_A:CUSTOM_USB_HID": "0"}, ("resources_A:CUSTOM_USB_HID", Consequence.NO_DEVICE)),
        ({"resources_A:CUSTOM_USB_HID": "one"}, ("resources_A:CUSTOM_USB_HID", Consequence.NO_DEVICE)),
        ({"resources_A:CUSTOM_USB_HID": "-1"}, ("resources_A:CUSTOM_USB_HID", Consequence.NO_DEVICE)),
        ({"trait:CUSTOM_USB_VENDOR_1050": "required"}, ("trait:CUSTOM_USB_VENDOR_1050", Consequence.NO_DEVICE)),
        ({"trait:CUSTOM_HASP": "required"}, ("trait:CUSTOM_HASP", Consequence.PERHAPS)),
        ({"trait_A:CUSTOM_HASP": "required"}, ("trait_A", Consequence.NO_HOST)),
        ({"traits:CUSTOM_HASP": "required"}, ("traits", Consequence.NO_HOST)),  # "s" is a suffix to nova
        ({"trait_A:CUSTOM_HASP": "yes"}, ("trait_A:CUSTOM_HASP", Consequence.NO_DEVICE)),
        ({"resources_A:CUSTOM_USB_MODEM": "1"}, ("resources_A:CUSTOM_USB_MODEM", Consequence.NO_HOST)),
        ({"trait:CUSTOM_NEVER": "required"}, ("trait:CUSTOM_NEVER", Consequence.NO_HOST)),
        ({"resources_A:CUSTOM_USB_KEY": "1", "resources_A:CUSTOM_USB_HID": "1"}, ("resources_A", Consequence.NO_HOST)),
        ({"resources_A:CUSTOM_USB_KEY": "1", "resources_A:VCPU": "1"}, ("resources_A", Consequence.NO_HOST)),
        ({"hw:usb_model": "none"}, ("hw:usb_model", Consequence.NO_DEVICE)),
        ({"hw:usb_model": "piix3-uhci"}, ("hw:usb_model", Consequence.NO_DEVICE)),
    ],
)
def test_a_line_that_cannot_be_meant_is_named_with_what_it_comes_to(
    specs: Mapping[str, str], expected: tuple[str, Consequence]
) -> None:
    known = Known(
        classes=frozenset({KEY, "CUSTOM_USB_HID", "VCPU"}),
        traits=frozenset({"CUSTOM_HASP", "CUSTOM_USB_VENDOR_1050"}),
        usb_traits=frozenset({"CUSTOM_HASP"}),
    )
    assert what_is_wrong({**ONE, **specs}, GOOD_IMAGE, known) == [expected]


@pytest.mark.parametrize("policy", [{}, {"group_policy": "isolated"}])
def test_two_groups_want_a_policy(policy: Mapping[str, str]) -> None:
    specs = {k: v for k, v in extra_specs_for(KEY, 2).items() if k != "group_policy"}
    assert what_is_wrong({**specs, **policy}, GOOD_IMAGE) == [("group_policy", Consequence.NO_HOST)]


def test_a_trait_that_hosts_have_may_stand_without_a_suffix() -> None:
    assert pitfalls({**ONE, "trait:HW_CPU_X86_AVX2": "required", "trait:CUSTOM_USB_X": "forbidden"}, GOOD_IMAGE) == ()


def test_the_controller_may_come_from_the_image_but_not_from_both_with_different_words() -> None:
    bare = {f"resources:{KEY}": "1"}
    assert what_is_wrong(bare, GOOD_IMAGE) == [("hw:usb_model", Consequence.NO_DEVICE)]
    assert pitfalls(bare, {**GOOD_IMAGE, "hw_usb_model": "qemu-xhci"}) == ()
    assert what_is_wrong(ONE, {**GOOD_IMAGE, "hw_usb_model": "nec-xhci"}) == [("hw_usb_model", Consequence.NO_HOST)]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ({}, [("hw_input_bus", Consequence.PERHAPS)]),
        ({"hw_input_bus": "usb"}, [("hw_input_bus", Consequence.NO_DEVICE)]),
        ({"hw_input_bus": "virtio", "hw_disk_bus": "usb"}, [("hw_disk_bus", Consequence.NO_DEVICE)]),
        ({"hw_pointer_model": "usbtablet"}, [("hw_pointer_model", Consequence.NO_DEVICE)]),
        ({"hw_pointer_model": "usbtablet", "hw_input_bus": "virtio"}, []),
    ],
)
def test_an_image_that_makes_nova_ignore_the_controller_is_named(
    image: Mapping[str, str], expected: list[tuple[str, Consequence]]
) -> None:
    assert what_is_wrong(ONE, image) == expected


def test_a_flavor_that_asks_for_no_device_is_told_so() -> None:
    assert what_is_wrong({"resources:VCPU": "0"}) == [("flavor", Consequence.NO_DEVICE)]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ({}, [("hw:usb_model", Consequence.PERHAPS)]),
        ({"hw_input_bus": "virtio"}, [("hw_input_bus", Consequence.NO_DEVICE), ("hw:usb_model", Consequence.PERHAPS)]),
        ({"hw_input_bus": "usb"}, [("hw_input_bus", Consequence.NO_DEVICE), ("hw:usb_model", Consequence.PERHAPS)]),
        ({"hw_input_bus": "virtio", "hw_cdrom_bus": "usb"}, [("hw:usb_model", Consequence.PERHAPS)]),
        ({"hw_architecture": "aarch64"}, []),
        ({"hw_architecture": "aarch64", "hw_input_bus": "usb"}, []),
        ({"hw_architecture": "aarch64", "hw_input_bus": "virtio"}, [("hw_input_bus", Consequence.NO_DEVICE)]),
    ],
)
def test_a_nova_that_ignores_the_controller_of_a_flavor_is_spoken_of_as_it_is(
    image: Mapping[str, str], expected: list[tuple[str, Consequence]]
) -> None:
    found = pitfalls(ONE, image, Known(old_nova=True))
    assert [(each.where, each.consequence) for each in found] == expected
    assert not any("write hw:usb_model" in each.text for each in found)


@pytest.mark.parametrize(("architecture", "devices"), [("x86_64", 2), ("aarch64", 3)])
def test_a_flavor_that_asks_an_older_nova_for_more_devices_than_a_guest_has_ports_is_named(
    architecture: str, devices: int
) -> None:
    found = pitfalls(extra_specs_for(KEY, devices), {"hw_architecture": architecture}, Known(old_nova=True))
    assert [(each.where, each.consequence) for each in found] == [("resources", Consequence.NO_DEVICE)]


def test_a_newer_nova_is_not_told_which_nova_it_needs() -> None:
    bare = {f"resources:{KEY}": "1"}
    (said,) = pitfalls(bare, GOOD_IMAGE, Known(old_nova=False))
    assert said.text.endswith("write hw:usb_model=qemu-xhci.")
    (said,) = pitfalls(bare, GOOD_IMAGE, Known())
    assert said.text.endswith("write hw:usb_model=qemu-xhci (Nova 32 or newer).")


@pytest.mark.parametrize(
    ("number", "redirected", "where"),
    [(4, None, None), (5, None, "resources"), (3, "1", None), (3, "2", "hw:redirected_usb_ports"), (4, "0", None)],
)
def test_more_devices_than_the_guests_controller_has_ports_are_told(
    number: int, redirected: str | None, where: str | None
) -> None:
    specs = extra_specs_for(KEY, number)
    found = [(where, Consequence.NO_DEVICE)] if where else []
    in_image = {**GOOD_IMAGE, **({"hw_redirected_usb_ports": redirected} if redirected else {})}
    in_flavor = {**specs, **({"hw:redirected_usb_ports": redirected} if redirected else {})}
    assert what_is_wrong(specs, in_image, Known(old_nova=False)) == found
    assert what_is_wrong(in_flavor, GOOD_IMAGE, Known(old_nova=False)) == found
