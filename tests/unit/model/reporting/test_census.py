"""Each device is counted once, in the state that an operator would name."""

import pytest

from placement_traits import MANAGED, STATE_ABSENT, STATE_DRAINED, STATE_RESERVED, STATE_SHORT, STATE_WITHDRAWN
from tests.fixtures.builders import KEY, ROOT, a_device
from usb_provider.model.devices.spec import DeviceSpec
from usb_provider.model.lifecycle import DeviceState
from usb_provider.model.reporting.census import NO_CLASS, census
from usb_provider.model.reporting.provider import assess, provider_uuid
from usb_provider.model.reporting.tree import Inventory, ObservedProvider, ObservedTree

HOLDER = {"5f3f2a80-6b1c-4b1e-8f43-6f2c6a1d9a10": {KEY: 1}}
SPEC = DeviceSpec(1, vendor_id="1050", resource_class=KEY)


def a_provider(uuid: str = "p", *states: str, reserved: int | None = 0, held: bool = False) -> ObservedProvider:
    inventories = {} if reserved is None else {KEY: Inventory(reserved=reserved)}
    return ObservedProvider(uuid, uuid, 1, inventories, frozenset({MANAGED, *states}), HOLDER if held else {})


def a_tree(*providers: ObservedProvider) -> ObservedTree:
    return ObservedTree(ROOT, {provider.uuid: provider for provider in providers})


@pytest.mark.parametrize(
    ("provider", "counted_as"),
    [
        (a_provider(), (KEY, DeviceState.FREE)),
        (a_provider(held=True), (KEY, DeviceState.HELD)),
        (a_provider(reserved=1), (KEY, DeviceState.KEPT_BACK)),
        (a_provider("p", STATE_WITHDRAWN, reserved=1, held=True), (KEY, DeviceState.WITHDRAWN_HELD)),
        (a_provider("p", STATE_ABSENT, reserved=1, held=True), (KEY, DeviceState.ABSENT_HELD)),
        (a_provider("p", STATE_ABSENT, reserved=None), (NO_CLASS, DeviceState.ABSENT)),
        (a_provider("p", STATE_ABSENT, STATE_RESERVED, reserved=1), (KEY, DeviceState.ABSENT)),
        (a_provider("p", STATE_DRAINED, reserved=1), (KEY, DeviceState.KEPT_BACK)),
        (a_provider("p", STATE_DRAINED, reserved=1, held=True), (KEY, DeviceState.HELD)),
        (a_provider("p", STATE_WITHDRAWN, reserved=None), (NO_CLASS, DeviceState.NOT_OFFERED)),
        (a_provider("p", STATE_WITHDRAWN, STATE_RESERVED, reserved=1), (KEY, DeviceState.KEPT_BACK)),
        (a_provider("p", STATE_WITHDRAWN, STATE_DRAINED, reserved=1), (KEY, DeviceState.KEPT_BACK)),
        # Drained while it was withdrawn: there is no unit that could be kept back.
        (a_provider("p", STATE_WITHDRAWN, STATE_DRAINED, reserved=None), (NO_CLASS, DeviceState.NOT_OFFERED)),
        # Created, and the pass was cut short.
        (a_provider(reserved=None), (NO_CLASS, DeviceState.NOT_OFFERED)),
    ],
)
def test_a_provider_is_counted_in_one_state(provider: ObservedProvider, counted_as: tuple[str, DeviceState]) -> None:
    assert census(a_tree(provider), ()) == {counted_as: 1}


def test_a_provider_that_is_not_ours_is_not_counted() -> None:
    assert census(a_tree(ObservedProvider("p", "p", 1, {KEY: Inventory()})), ()) == {}


def test_a_device_with_a_provider_is_not_counted_again_as_not_offered() -> None:
    devices = assess([a_device("1-2", vendor_id="0529"), a_device("1-3", vendor_id="0529")], [SPEC], root=ROOT)
    withdrawn = a_provider(provider_uuid(ROOT.uuid, devices[0].identity.key), STATE_WITHDRAWN, reserved=None)
    assert census(a_tree(withdrawn), devices) == {(NO_CLASS, DeviceState.NOT_OFFERED): 2}


def test_devices_that_are_offered_and_not_yet_reported_are_not_counted() -> None:
    assert census(a_tree(), assess([a_device("1-2")], [SPEC], root=ROOT)) == {}


def a_pool(total: int, reserved: int, used: int, *states: str) -> ObservedProvider:
    inventories = {KEY: Inventory(total=total, reserved=reserved, max_unit=total)}
    held = {holder: {KEY: used} for holder in HOLDER}
    return ObservedProvider("pool", "pool", 1, inventories, frozenset({MANAGED, *states}), held)


def test_a_pool_is_counted_by_its_units() -> None:
    assert census(a_tree(a_pool(3, 0, 1)), ()) == {(KEY, DeviceState.HELD): 1, (KEY, DeviceState.FREE): 2}
    drained = a_pool(3, 3, 1, STATE_DRAINED)
    assert census(a_tree(drained), ()) == {(KEY, DeviceState.HELD): 1, (KEY, DeviceState.KEPT_BACK): 2}


def test_a_missing_member_of_a_pool_is_counted_as_absent_and_held() -> None:
    short = a_pool(2, 1, 2, STATE_SHORT)
    assert census(a_tree(short), ()) == {(KEY, DeviceState.HELD): 1, (KEY, DeviceState.ABSENT_HELD): 1}
