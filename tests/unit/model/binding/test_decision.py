"""When a device is taken from a running guest, and the reason that the audit trail names."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures.builders import KEY, ROOT, a_device, a_spec, a_tree, an_observed
from usb_provider.model.binding.decision import Decision, Why, decide
from usb_provider.model.binding.guests import RunningGuest
from usb_provider.model.binding.holding import holdings
from usb_provider.model.binding.hostdev import Guest, Hostdev, alias
from usb_provider.model.binding.status import BindingState
from usb_provider.model.devices.device import HostUse, UsbDevice, UseKind
from usb_provider.model.devices.spec import DeviceSpec, IdentityMode
from usb_provider.model.reporting.host_state import HostView
from usb_provider.model.reporting.provider import assess, provider_uuid

DEVICE = a_device(busnum=1, devnum=5, serial="A1")
UUID = provider_uuid(ROOT.uuid, "1050:0407:A1")
GUEST = "11111111-2222-4333-8444-555555555555"
RULE = a_spec(1, vendor_id="1050")
MOUNTED = HostUse(UseKind.MOUNTED, "sdb1 is mounted on /mnt")


def look(
    *devices: UsbDevice, specs: tuple[DeviceSpec, ...] = (RULE,), hostdev: UsbDevice = DEVICE, busy: bool = False
) -> Decision:
    """Give the decision on a guest that holds DEVICE and has *hostdev* attached for it."""
    provider = replace(an_observed("1050:0407:A1"), allocations={GUEST: {KEY: 1}})
    view = HostView(a_tree(provider), assess(devices, specs, root=ROOT))
    attached = Hostdev(alias(UUID), hostdev.vendor_id, hostdev.product_id, hostdev.busnum, hostdev.devnum)
    return decide([RunningGuest(Guest(GUEST, "vm", (attached,)), busy)], holdings(view), known_consumers=[GUEST])


def reasons(decision: Decision) -> list[Why]:
    return [each.why for each in decision.detaches]


def test_a_device_that_udev_processes_again_stays_with_its_guest() -> None:
    decision = look(replace(DEVICE, settled=False))
    assert reasons(decision) == []
    assert [each.state for each in decision.bindings] == [BindingState.ATTACHED]


def test_a_device_that_was_plugged_in_anew_and_is_not_settled_leaves_its_old_address() -> None:
    assert reasons(look(replace(DEVICE, settled=False, devnum=6))) == [Why.MOVED]


def test_an_unplugged_device_is_told_to_be_unplugged() -> None:
    assert reasons(look()) == [Why.GONE]


@pytest.mark.parametrize(
    ("device", "specs", "why"),
    [
        pytest.param(DEVICE, (), Why.WITHDRAWN, id="its rule is gone"),
        pytest.param(DEVICE, (a_spec(1, vendor_id="0529"),), Why.WITHDRAWN, id="another rule is left"),
        pytest.param(DEVICE, (a_spec(1, vendor_id="1050", exclude=True),), Why.WITHDRAWN, id="a rule excludes it"),
        pytest.param(replace(DEVICE, device_class="09"), (RULE,), Why.WITHDRAWN, id="it says that it is a hub"),
        pytest.param(replace(DEVICE, authorized=False), (RULE,), Why.UNAUTHORIZED, id="the host does not authorise it"),
        pytest.param(replace(DEVICE, uses=(MOUNTED,)), (RULE,), Why.HOST_USE, id="the host uses it"),
    ],
)
def test_a_device_that_is_no_longer_offered_is_detached_for_its_true_reason(
    device: UsbDevice, specs: tuple[DeviceSpec, ...], why: Why
) -> None:
    assert reasons(look(device, specs=specs)) == [why]
    assert "unplugged" not in why.value


def test_a_device_that_its_rule_wants_told_apart_by_a_serial_that_has_a_twin_is_withdrawn() -> None:
    by_serial = (a_spec(1, vendor_id="1050", identity=IdentityMode.SERIAL),)
    nameless = replace(DEVICE, serial=None)
    held = replace(an_observed("1050:0407@0000:00:14.0-2"), allocations={GUEST: {KEY: 1}})
    view = HostView(a_tree(held), assess([nameless], by_serial, root=ROOT))
    attached = Hostdev(alias(held.uuid), "1050", "0407", 1, 5)
    decision = decide([RunningGuest(Guest(GUEST, "vm", (attached,)))], holdings(view), known_consumers=[GUEST])
    assert reasons(decision) == [Why.WITHDRAWN]


def test_a_device_that_has_no_configuration_stays_with_its_guest() -> None:
    assert reasons(look(replace(DEVICE, configured=False))) == []


@given(
    settled=st.booleans(),
    authorized=st.booleans(),
    uses=st.sampled_from([(), (MOUNTED,)]),
    devnum=st.sampled_from([5, 6]),
    specs=st.sampled_from([(), (RULE,), (a_spec(1, vendor_id="1050", exclude=True),)]),
)
def test_nothing_is_said_to_be_unplugged_that_is_plugged_in(
    settled: bool, authorized: bool, uses: tuple[HostUse, ...], devnum: int, specs: tuple[DeviceSpec, ...]
) -> None:
    device = replace(DEVICE, settled=settled, authorized=authorized, uses=uses, devnum=devnum)
    said = reasons(look(device, specs=specs))
    assert Why.GONE not in said
    offered = bool(specs and not specs[0].exclude) and authorized and settled and not uses
    if devnum != DEVICE.devnum:
        assert said == [Why.MOVED]
    elif offered or (authorized and not settled):
        assert said == []
    else:
        assert len(said) == 1
