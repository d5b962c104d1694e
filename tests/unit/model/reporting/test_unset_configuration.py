"""What becomes of the provider of a device without configuration: it stays as it is while an instance holds it."""

from collections.abc import Collection

import pytest

from placement_traits import MANAGED, STATE_ABSENT
from tests.fixtures.applier import applied
from tests.fixtures.builders import KEY, a_desired, a_tree, an_observed
from usb_provider.model.reporting.plan import diff
from usb_provider.model.reporting.provider import DesiredProvider
from usb_provider.model.reporting.tree import Inventory, ObservedProvider, ObservedTree


def after(
    tree: ObservedTree, *, plugged: Collection[str], kept: Collection[str], desired: Collection[DesiredProvider] = ()
) -> ObservedProvider:
    """The one provider of *tree* as a plan leaves it."""
    (left,) = applied(diff(tree, list(desired), plugged=plugged, kept=kept), tree).providers.values()
    return left


@pytest.mark.parametrize("desired", [(), (a_desired(traits={"CUSTOM_USB_OTHER"}),)])
def test_what_a_guest_that_unsets_its_devices_configuration_holds_stays_as_it_is(
    desired: tuple[DesiredProvider, ...],
) -> None:
    held = an_observed(held=[KEY])
    plan = diff(a_tree(held), list(desired), plugged={held.uuid}, kept={held.uuid})
    assert (plan.actions, plan.held) == ((), {held.uuid})


def test_a_free_device_without_configuration_is_withdrawn() -> None:
    free = an_observed()
    left = after(a_tree(free), plugged={free.uuid}, kept={free.uuid})
    assert left.inventories == {}


def test_a_held_device_that_was_absent_and_is_back_without_configuration_is_absent_no_more() -> None:
    absent = an_observed(held=[KEY], traits={MANAGED, STATE_ABSENT}, inventories={KEY: Inventory(reserved=1)})
    left = after(a_tree(absent), desired=[a_desired()], plugged={absent.uuid}, kept={absent.uuid})
    assert STATE_ABSENT not in left.traits
