"""What consumers hold on this host, joined with the devices that are plugged in."""

import pytest

from placement_traits import MANAGED, NOT_LIVE_MIGRATABLE, detach_trait
from tests.fixtures.builders import KEY, ROOT, a_consumer, a_device, a_spec, a_tree, an_observed
from usb_provider.model.binding.holding import held_by, holdings
from usb_provider.model.binding.unit_holding import Holding
from usb_provider.model.devices.device import UsbDevice
from usb_provider.model.devices.offer import OfferReason
from usb_provider.model.devices.spec import DeviceSpec
from usb_provider.model.reporting.host_state import HostView
from usb_provider.model.reporting.provider import assess
from usb_provider.model.reporting.tree import ObservedProvider

DEVICE = a_device(serial="1")


def the_holding(provider: ObservedProvider, *devices: UsbDevice, specs: tuple[DeviceSpec, ...]) -> Holding:
    (found,) = holdings(HostView(a_tree(provider), assess(devices, specs, root=ROOT)))
    return found


def test_a_device_that_is_plugged_in_and_offered_can_be_attached_for_the_consumer_that_holds_it() -> None:
    found = the_holding(an_observed(held=[KEY]), DEVICE, specs=(a_spec(),))
    assert (found.device, found.why_not) == (DEVICE, None)
    assert found.consumers == {a_consumer()}


def test_a_device_that_is_not_plugged_in_is_nothing_to_attach() -> None:
    found = the_holding(an_observed(held=[KEY]), specs=(a_spec(),))
    assert (found.device, found.present, found.offer) == (None, None, None)
    assert found.why_not == "it is not plugged in"


@pytest.mark.parametrize(
    ("device", "specs", "offer", "why_not"),
    [
        (DEVICE, (), OfferReason.NO_RULE, "Not offered: no [usb]device_spec rule is set"),
        (
            a_device(serial="1", settled=False),
            (a_spec(),),
            OfferReason.UNSETTLED,
            "Not offered yet: udev is still processing it",
        ),
    ],
)
def test_a_device_that_is_plugged_in_and_not_offered_says_why(
    device: UsbDevice, specs: tuple[DeviceSpec, ...], offer: OfferReason, why_not: str
) -> None:
    found = the_holding(an_observed(held=[KEY]), device, specs=specs)
    assert (found.device, found.present, found.offer) == (None, device, offer)
    assert found.why_not == f"it may not be attached: {why_not}"


def test_an_allocation_of_nothing_is_held_by_no_consumer() -> None:
    provider = ObservedProvider("u", "n", 1, {}, frozenset({MANAGED}), {a_consumer(): {KEY: 0}})
    assert the_holding(provider, specs=()).consumers == frozenset()


def test_a_device_that_its_rule_keeps_from_live_migration_stays() -> None:
    assert the_holding(an_observed(traits=[MANAGED, NOT_LIVE_MIGRATABLE]), specs=()).stays


def test_a_provider_without_our_mark_is_none_of_ours() -> None:
    assert holdings(HostView(a_tree(an_observed(traits=[])), ())) == []


def test_a_start_counts_no_device_that_a_user_has_asked_back() -> None:
    consumer = a_consumer()
    provider = an_observed(held=[KEY], traits=[MANAGED, detach_trait(consumer)])
    view = HostView(a_tree(provider), assess((), (a_spec(),), root=ROOT))
    assert held_by(consumer, {provider.uuid: {KEY: 1}}, view) == []


def test_a_start_counts_the_device_of_another_servers_request() -> None:
    consumer = a_consumer()
    provider = an_observed(held=[KEY], traits=[MANAGED, detach_trait(a_consumer("other"))])
    view = HostView(a_tree(provider), assess((), (a_spec(),), root=ROOT))
    assert len(held_by(consumer, {provider.uuid: {KEY: 1}}, view)) == 1
