"""The order in which a flavor's parts are asked about, and why one of them leaves no host."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placement_traits import MANAGED, STATE_DRAINED
from usb_provider.model.reporting.tree import Amount
from usb_provider.osc.model.flavor import Size, extra_specs_for, parse_extra_specs
from usb_provider.osc.model.fleet import Device
from usb_provider.osc.model.pitfalls import Known
from usb_provider.osc.model.verdict import shortage, steps

KEY = "CUSTOM_USB_KEY"
SMALL = Size(1, 256, 0)
KNOWN = Known(usb_classes=frozenset({"CUSTOM_DONGLE"}), usb_traits=frozenset({"CUSTOM_HASP"}))


def test_the_hosts_own_part_comes_first_and_each_group_after_it() -> None:
    request = parse_extra_specs(extra_specs_for(KEY, 2), SMALL)
    assert [str(step) for step in steps(request, KNOWN)] == [
        "the host's own part, group without a suffix (MEMORY_MB=256, VCPU=1)",
        "group _USB1 (CUSTOM_USB_KEY=1)",
        "group _USB2 (CUSTOM_USB_KEY=1)",
    ]


def test_a_group_without_a_suffix_is_divided_between_the_host_and_the_device() -> None:
    specs = {"resources:CUSTOM_DONGLE": "1", "trait:CUSTOM_HASP": "required", "trait:HW_CPU_X86_AVX2": "required"}
    request = parse_extra_specs(specs, SMALL)
    assert [str(step) for step in steps(request, KNOWN)] == [
        "the host's own part, group without a suffix (MEMORY_MB=256, VCPU=1, HW_CPU_X86_AVX2)",
        "group without a suffix (CUSTOM_DONGLE=1, CUSTOM_HASP)",
    ]


@given(
    st.dictionaries(
        st.builds(
            "{}:{}".format,
            st.sampled_from(["resources", "resources_A", "resources_B", "trait", "trait_A"]),
            st.sampled_from([KEY, "CUSTOM_DONGLE", "CUSTOM_HASP", "CUSTOM_OTHER", "VCPU"]),
        ),
        st.sampled_from(["1", "2", "required", "forbidden"]),
    )
)
def test_the_last_step_asks_for_all_that_the_flavor_does(specs: dict[str, str]) -> None:
    request = parse_extra_specs(specs, SMALL)
    last = steps(request, KNOWN)[-1].request
    assert sorted(last.query()) == sorted(request.query())


FREE, HELD = Amount(1, 0), Amount(1, 1)
ALL = {"a-root", "b-root"}


def a_device(host: str, *traits: str, amount: Amount = FREE) -> Device:
    """A key of *host*."""
    return Device(f"{host}-uuid", f"{host}_usb_x", host, f"{host}-root", frozenset({MANAGED, *traits}), {KEY: amount})


@pytest.mark.parametrize(
    ("devices", "before", "text"),
    [
        ([], ALL, "No host has a CUSTOM_USB_KEY; 0 of 0 free."),
        ([a_device("a", amount=HELD)], ALL, "1 host has a CUSTOM_USB_KEY; 0 of 1 free (1 allocated)."),
        (
            [a_device("a", amount=HELD), a_device("b", STATE_DRAINED, amount=Amount(0, 0))],
            ALL,
            "2 hosts have a CUSTOM_USB_KEY; 0 of 2 free (1 drained, 1 allocated).",
        ),
        (
            [a_device("a")],
            {"b-root"},
            "1 host has a CUSTOM_USB_KEY; 1 of 1 free. "
            "Some are free on a, but the rest of the flavor does not fit there.",
        ),
        (
            [a_device("a")],
            ALL,
            "1 host has a CUSTOM_USB_KEY; 1 of 1 free. "
            "No host has as many of them free as all groups together ask for.",
        ),
    ],
)
def test_the_fleet_is_counted_in_words(devices: list[Device], before: set[str], text: str) -> None:
    group = parse_extra_specs({f"resources:{KEY}": "1"}).groups[0]
    assert shortage(group, devices, before).text == text


def test_devices_without_the_traits_of_the_group_do_not_count() -> None:
    group = parse_extra_specs({f"resources_A:{KEY}": "1", "trait_A:CUSTOM_HASP": "required"}).groups[0]
    found = shortage(group, [a_device("a", amount=HELD)], ALL)
    assert found.text == "1 host has a CUSTOM_USB_KEY, but none has the traits that the group asks for."
    assert found.held == ()
