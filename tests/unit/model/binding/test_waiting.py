"""For how long a running guest may lack a device before Placement says so."""

from hypothesis import given
from hypothesis import strategies as st

from placement_traits import MANAGED, STATE_WAITING
from usb_provider.model.binding.decision import Binding, BindingState
from usb_provider.model.binding.guests import RunningGuest
from usb_provider.model.binding.hostdev import Guest
from usb_provider.model.binding.waiting import PATIENCE, Lacking
from usb_provider.model.reporting.provider import Root
from usb_provider.model.reporting.tree import ObservedProvider, ObservedTree

ROOT = Root("root", "host1")
STATES = list(BindingState)


def binding(state: BindingState, unit: str = "provider") -> Binding:
    return Binding("guest", "vm", "provider", "host1_usb_1", state, None, unit)


def a_tree(*traits: str) -> ObservedTree:
    provider = ObservedProvider("provider", "host1_usb_1", 3, traits=frozenset({MANAGED, *traits}))
    return ObservedTree(ROOT, {"provider": provider})


def guests(*, busy: bool = False) -> list[RunningGuest]:
    return [RunningGuest(Guest("guest", "vm"), busy)]


@given(st.lists(st.tuples(st.sampled_from(STATES), st.integers(1, 90)), min_size=1, max_size=8))
def test_a_device_is_said_to_wait_exactly_while_the_guest_has_lacked_it_for_a_minute(
    story: list[tuple[BindingState, int]],
) -> None:
    lacking, now, lacked_since = Lacking(), 0.0, None
    for state, seconds in story:
        now += seconds
        lacking = lacking.now([binding(state)], guests(), now)
        if state is BindingState.ATTACHED:
            lacked_since = None
        elif lacked_since is None:
            lacked_since = now
        is_due = lacked_since is not None and now - lacked_since >= PATIENCE
        assert lacking.waiting([binding(state)], a_tree()) == ({"provider"} if is_due else set())
        assert lacking.next_look() == (None if is_due or lacked_since is None else lacked_since + PATIENCE)


def test_one_unit_of_a_pool_is_enough() -> None:
    units = [binding(BindingState.ATTACHED, "provider-1"), binding(BindingState.PENDING, "provider-2")]
    lacking = Lacking().now(units, guests(), 0.0).now(units, guests(), PATIENCE)
    assert lacking.waiting(units, a_tree()) == {"provider"}


def test_the_time_of_a_guest_that_starts_or_arrives_does_not_count() -> None:
    one = [binding(BindingState.PENDING)]
    lacking = Lacking().now(one, guests(busy=True), 0.0).now(one, guests(busy=True), 100.0).now(one, guests(), 100.0)
    assert lacking.waiting(one, a_tree()) == frozenset()
    assert lacking.next_look() == 100.0 + PATIENCE


def test_an_agent_that_starts_again_goes_on_saying_what_is_still_true() -> None:
    one = [binding(BindingState.WAITING)]
    assert Lacking().now(one, guests(), 0.0).waiting(one, a_tree(STATE_WAITING)) == {"provider"}
    assert Lacking().now([], guests(), 0.0).waiting([], a_tree(STATE_WAITING)) == frozenset()
