"""What Placement can choose of the devices that a command wants."""

import pytest

from placement_traits import MANAGED, STATE_ABSENT, STATE_DRAINED, STATE_WITHDRAWN
from usb_provider.model.lifecycle import FleetState
from usb_provider.osc.model.selection import EVERY_DEVICE, Filter, Selection


def queries(*states: FleetState, resource_class: str | None = None) -> list[str]:
    """The queries as Placement gets them."""
    wanted = Selection(states=frozenset(states), resource_class=resource_class)
    return ["&".join("=".join(pair) for pair in each.query()) for each in wanted.filters()]


@pytest.mark.parametrize(
    ("states", "asked"),
    [
        ([], [f"required={MANAGED}"]),
        ([FleetState.DRAINED], [f"required={MANAGED},{STATE_DRAINED}"]),
        (
            [FleetState.DRAINED, FleetState.ABSENT],
            [f"required={MANAGED},{STATE_ABSENT}", f"required={MANAGED},{STATE_DRAINED}"],
        ),
        ([FleetState.DRAINED, FleetState.ALLOCATED], [f"required={MANAGED}"]),
        ([FleetState.WITHDRAWN], [f"required={MANAGED},!{STATE_ABSENT}"]),
    ],
)
def test_states_that_have_a_trait_are_chosen_by_it(states: list[FleetState], asked: list[str]) -> None:
    assert queries(*states) == asked


def test_a_class_is_chosen_by_where_a_free_device_is_wanted() -> None:
    (asked,) = queries(FleetState.FREE, resource_class="CUSTOM_USB_KEY")
    assert asked == f"required={MANAGED},!{STATE_ABSENT},!{STATE_DRAINED},!{STATE_WITHDRAWN}&resources=CUSTOM_USB_KEY:1"
    assert queries(resource_class="CUSTOM_USB_KEY") == [f"required={MANAGED}"]


def test_a_trait_that_does_not_exist_forbids_nothing_and_a_missing_required_one_leaves_nothing() -> None:
    one = Filter(frozenset({MANAGED}), frozenset({STATE_ABSENT, STATE_DRAINED}))
    assert one.among({MANAGED, STATE_ABSENT}, ()) == Filter(frozenset({MANAGED}), frozenset({STATE_ABSENT}))
    assert one.among({STATE_ABSENT}, ()) is None
    assert Filter(resource_class="CUSTOM_USB_KEY").among({MANAGED}, {"CUSTOM_USB_MODEM"}) is None
    assert Selection().filters() == (EVERY_DEVICE,)
