"""What nova asks Placement for because of a flavor's extra specs."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usb_provider.osc.model.flavor import Request, RequestGroup, Size, parse_extra_specs, wanted

KEY = "CUSTOM_USB_KEY"
ONE = {f"resources:{KEY}": "1", "hw:usb_model": "qemu-xhci"}
SMALL = Size(vcpus=2, memory_mb=2048, disk_gb=10)

suffixes = st.from_regex(r"[a-zA-Z0-9_-]{1,64}", fullmatch=True)
classes = st.sampled_from([KEY, "CUSTOM_USB_HID", "VCPU", "MEMORY_MB"])


def test_one_device_beside_what_the_flavor_takes_of_its_host() -> None:
    request = parse_extra_specs(ONE, SMALL)
    assert request == Request((RequestGroup("", {KEY: 1, "VCPU": 2, "MEMORY_MB": 2048, "DISK_GB": 10}),))
    assert request.query() == [
        ("root_required", "!COMPUTE_STATUS_DISABLED"),
        ("resources", "CUSTOM_USB_KEY:1,DISK_GB:10,MEMORY_MB:2048,VCPU:2"),
    ]


def test_two_devices_each_with_its_traits() -> None:
    specs = {
        "resources_USB1:CUSTOM_USB_KEY": "1",
        "trait_USB1:CUSTOM_USB_VENDOR_1050": "required",
        "resources_USB2:CUSTOM_USB_KEY": "1",
        "trait_USB2:CUSTOM_USB_VENDOR_1050": "forbidden",
        "group_policy": "isolate",
    }
    request = parse_extra_specs(specs)
    assert request.query()[1:] == [
        ("group_policy", "isolate"),
        ("resources_USB1", "CUSTOM_USB_KEY:1"),
        ("required_USB1", "CUSTOM_USB_VENDOR_1050"),
        ("resources_USB2", "CUSTOM_USB_KEY:1"),
        ("required_USB2", "!CUSTOM_USB_VENDOR_1050"),
    ]
    assert wanted(request) == 2
    assert str(request.groups[1]) == "group _USB2 (CUSTOM_USB_KEY=1, !CUSTOM_USB_VENDOR_1050)"


@pytest.mark.parametrize(
    ("specs", "amounts"),
    [
        ({"resources:VCPU": "0"}, {"MEMORY_MB": 2048, "DISK_GB": 10}),
        ({"resources_X:MEMORY_MB": "64"}, {"VCPU": 2, "DISK_GB": 10}),
        ({"hw:cpu_policy": "dedicated"}, {"PCPU": 2, "MEMORY_MB": 2048, "DISK_GB": 10}),
        ({"hw:cpu_policy": "mixed"}, {"MEMORY_MB": 2048, "DISK_GB": 10}),
        (
            {"hw:cpu_policy": "dedicated", "hw:emulator_threads_policy": "isolate"},
            {"PCPU": 3, "MEMORY_MB": 2048, "DISK_GB": 10},
        ),
    ],
)
def test_an_extra_spec_that_names_a_class_replaces_the_flavors_own_amount(
    specs: Mapping[str, str], amounts: Mapping[str, int]
) -> None:
    assert parse_extra_specs(specs, SMALL).groups[0].resources == amounts


def test_swap_counts_as_disk_in_whole_gib_and_no_disk_is_not_asked_for() -> None:
    assert parse_extra_specs({}, Size(1, 64, 0, 1025)).groups[0].resources["DISK_GB"] == 2
    assert "DISK_GB" not in parse_extra_specs({}, Size(1, 64, 0)).groups[0].resources


def test_the_traits_of_an_image_join_the_group_without_a_suffix() -> None:
    assert parse_extra_specs({}, image_traits={"HW_CPU_X86_AVX2"}).groups[0].required == {"HW_CPU_X86_AVX2"}


@given(st.dictionaries(st.builds("resources{}:{}".format, suffixes, classes), st.integers(0, 9).map(str), max_size=4))
def test_every_line_that_nova_reads_is_in_a_group(specs: dict[str, str]) -> None:
    asked = {
        f"resources{group.suffix}:{name}": str(amount)
        for group in parse_extra_specs(specs).groups
        for name, amount in group.resources.items()
    }
    assert asked == {key: value for key, value in specs.items() if value != "0"}
