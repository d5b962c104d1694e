"""Which devices are offered, and the sentence that says why or why not."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures.builders import a_device, a_spec
from usb_provider.model.devices.device import HostUse, UsbDevice, UseKind
from usb_provider.model.devices.offer import OfferReason, guard, offers
from usb_provider.model.devices.spec import DeviceSpec

EVERYTHING = a_spec(1)
MOUNTED = HostUse(UseKind.MOUNTED, "sdb1 is mounted on /mnt")

devices = st.builds(
    a_device,
    st.sampled_from(["usb1", "1-1", "1-2", "1-2.4"]),
    vendor_id=st.sampled_from(["1050", "0529"]),
    device_class=st.sampled_from(["00", "09", "08"]),
    authorized=st.booleans(),
    settled=st.booleans(),
    uses=st.sampled_from([(), (MOUNTED,)]),
)
rules = st.builds(
    a_spec,
    st.integers(1, 9),
    vendor_id=st.sampled_from([None, "1050"]),
    port=st.sampled_from([None, "2.*", "1"]),
    exclude=st.booleans(),
)


def reason(device: UsbDevice, *specs: DeviceSpec) -> str:
    (offer,) = offers([device], specs)
    return offer.reason


def test_an_empty_configuration_offers_nothing() -> None:
    (offer,) = offers([a_device()], [])
    assert offer.spec is None
    assert offer.reason == "Not offered: no [usb]device_spec rule is set."


def test_a_device_that_no_rule_names_is_told_so() -> None:
    assert reason(a_device(), a_spec(1, vendor_id="0529"), a_spec(2, port="9")) == (
        "Not offered: none of the 2 device_spec rules matches it."
    )


def test_the_first_rule_that_matches_decides() -> None:
    first, second = a_spec(1, port="9"), a_spec(2, vendor_id="1050")
    (offer,) = offers([a_device()], [first, second, a_spec(3)])
    assert offer.spec is second
    assert offer.reason == "Offered by device_spec rule 2."


def test_an_excluding_rule_keeps_a_device_back_from_later_ones() -> None:
    assert reason(a_device(), a_spec(1, port="2", exclude=True), EVERYTHING) == (
        "Not offered: device_spec rule 1 excludes it."
    )
    assert reason(a_device("1-3"), a_spec(1, port="2", exclude=True), a_spec(2)) == "Offered by device_spec rule 2."


@pytest.mark.parametrize(
    ("device", "verdict", "why"),
    [
        (a_device("usb1"), OfferReason.HUB, "Never offered: it is a controller's root hub."),
        (a_device(device_class="09"), OfferReason.HUB, "Never offered: it is a hub."),
        (a_device(interfaces=(("09", "00", "00"),)), OfferReason.HUB, "Never offered: it is a hub."),
        (
            a_device(authorized=False),
            OfferReason.UNAUTHORIZED,
            "Not offered: the host has not authorised it (sysfs authorized is 0).",
        ),
        (a_device(settled=False), OfferReason.UNSETTLED, "Not offered yet: udev is still processing it."),
        (
            a_device(configured=False),
            OfferReason.UNCONFIGURED,
            "Not offered: it has no configuration (sysfs bConfigurationValue is empty).",
        ),
        (
            a_device(uses=(MOUNTED,)),
            OfferReason.HOST_USE,
            "Never offered while the host uses it: sdb1 is mounted on /mnt.",
        ),
    ],
)
def test_no_rule_offers_what_a_guard_keeps_back(device: UsbDevice, verdict: OfferReason, why: str) -> None:
    (offer,) = offers([device], [EVERYTHING])
    assert (offer.verdict, offer.reason) == (verdict, why)
    assert guard(device) == (verdict, why)


@given(st.lists(devices, max_size=4), st.lists(rules, max_size=3))
def test_every_device_has_one_verdict_and_one_sentence(found: list[UsbDevice], specs: list[DeviceSpec]) -> None:
    made = offers(found, specs)
    assert [offer.device for offer in made] == found
    for offer in made:
        assert offer.reason.isprintable()
        assert offer.reason.endswith(".")
        assert (offer.verdict is OfferReason.OFFERED) is (offer.spec is not None)
        if offer.spec is None:
            assert offer.reason.startswith(("Never offered", "Not offered"))
            continue
        assert offer.reason.startswith("Offered by")
        assert offer.spec in specs
        assert offer.spec.matches(offer.device)
        assert not offer.spec.exclude
        assert guard(offer.device) is None
        assert not offer.device.is_hub
        assert not offer.device.uses


@given(st.lists(devices, min_size=2, max_size=4), st.lists(rules, max_size=3))
def test_a_verdict_depends_on_its_own_device_alone(found: list[UsbDevice], specs: list[DeviceSpec]) -> None:
    assert offers(found, specs) == tuple(offers([device], specs)[0] for device in found)
    assert offers(found[::-1], specs) == offers(found, specs)[::-1]


def test_a_device_that_is_let_go_by_the_host_is_offered() -> None:
    assert reason(dataclasses.replace(a_device(uses=(MOUNTED,)), uses=()), EVERYTHING).startswith("Offered")
