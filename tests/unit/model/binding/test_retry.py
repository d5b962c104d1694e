"""When what failed is tried again, since when a device is as it is, and which hostdevs count as dead."""

from hypothesis import given
from hypothesis import strategies as st

from usb_provider.model.binding.decision import Binding, BindingState
from usb_provider.model.binding.retry import LONGEST_RETRY, Memory, Retries, Standing, Suspects

KEY = ("guest", "provider")


def binding(state: BindingState) -> Binding:
    return Binding("guest", "vm", "provider", "host1_usb_1", state)


@given(st.integers(1, 40), st.floats(0, 1e9))
def test_each_further_failure_is_waited_for_twice_as_long_up_to_a_minute(failures: int, now: float) -> None:
    retries = Retries()
    for _ in range(failures):
        retries = retries.failed(KEY, "no", "it failed", now, 1.0)
    pause = min(2.0 ** (failures - 1), LONGEST_RETRY)
    assert retries.failures[KEY].again == now + pause
    assert not retries.is_due(KEY, now)
    assert retries.is_due(KEY, now + pause)
    assert retries.is_due(("another", "provider"), now)


def test_what_succeeded_begins_anew() -> None:
    retries = Retries().failed(KEY, "no", "it failed", 0.0, 1.0).without([KEY])
    assert retries.failed(KEY, "no", "it failed", 10.0, 1.0).failures[KEY].attempts == 1


def test_a_failure_is_over_when_its_guest_has_nothing_to_be_tried() -> None:
    retries = Retries().failed(KEY, "no", "it failed", 0.0, 1.0)
    assert retries.over({"guest"}) == ()
    assert retries.over({"another"}) == (KEY,)


def test_a_device_keeps_the_time_since_when_it_is_as_it_is() -> None:
    attached, waiting = binding(BindingState.ATTACHED), binding(BindingState.WAITING)
    standing = Standing().now([attached], 100.0)
    assert standing.now([attached], 200.0).of(attached) == 100.0
    assert standing.now([waiting], 200.0).of(waiting) == 200.0
    assert standing.is_older(attached), "the first look found it so"
    assert standing.now([attached], 200.0).is_older(attached)
    assert not standing.now([waiting], 200.0).is_older(waiting)
    assert not standing.now([waiting], 200.0).now([attached], 300.0).is_older(attached)
    assert not Standing().now([], 100.0).now([attached], 200.0).is_older(attached), "the agent saw it come"
    assert standing.changed([attached]) == ()
    assert standing.changed([waiting]) == (waiting,)
    assert Standing().of(waiting) == 0.0


def test_a_hostdev_is_dead_when_the_hosts_driver_stays_on_its_device() -> None:
    suspects = Suspects().seen([KEY], 10.0).seen([KEY], 11.0)
    assert suspects.dead(11.0, 2.0) == frozenset()
    assert suspects.dead(12.0, 2.0) == {KEY}
    assert suspects.seen([], 12.0).seen([KEY], 13.0).dead(14.0, 2.0) == frozenset()


def test_the_next_look_is_for_whatever_comes_first() -> None:
    assert Memory().next_look(2.0) is None
    failed = Retries().failed(KEY, "no", "it failed", 10.0, 30.0)
    assert Memory(retries=failed).next_look(2.0) == 40.0
    assert Memory(retries=failed, suspects=Suspects({KEY: 20.0})).next_look(2.0) == 22.0
