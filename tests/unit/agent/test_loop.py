"""When a loop of the agent makes its passes: at an event, in time, after a failure, and that it can always be ended."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from usb_provider.agent import loop
from usb_provider.agent.loop import Failing, Loop, Pace, start_delay
from usb_provider.agent.meter import LoopName, Meter, Outcome
from usb_provider.exception import Unavailable

pytestmark = pytest.mark.alone


class Counting(Meter):
    """Keeps how passes ended."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def passed(self, loop: LoopName, outcome: Outcome, seconds: float) -> None:
        self.outcomes.append(outcome)


class Passes:
    """A loop whose passes are told what to do, and when each began."""

    def __init__(self, phase: Callable[[], float] = lambda: 1.0, delay: float = 0.0) -> None:
        self.began: list[float] = []
        self.work: Callable[[], float | None] = lambda: None
        self.pace = Pace(60.0, 0.1)
        self.pause = 30.0
        self.meter = Counting()
        self.told: list[tuple[str, int]] = []
        self.bugs: list[Exception] = []
        self.changed = threading.Event()
        self.loop = Loop(
            LoopName.REPORT,
            self._run,
            lambda: self.pace,
            Failing(
                (Unavailable,),
                lambda state: self.pause,
                lambda error, attempt: self.told.append((str(error), attempt)),
                self.bugs.append,
            ),
            meter=self.meter,
            bound=0.2,
            delay=delay,
            phase=phase,
        )

    def _run(self) -> float | None:
        self.began.append(time.monotonic())
        self.changed.set()
        return self.work()

    def wait(self, number: int, seconds: float = 5.0) -> None:
        """Return when so many passes have begun."""
        latest = time.monotonic() + seconds
        while len(self.began) < number:
            self.changed.clear()
            if len(self.began) < number:
                assert self.changed.wait(max(0.0, latest - time.monotonic())), f"{len(self.began)} passes"


@pytest.fixture
def passes() -> Iterator[Passes]:
    passes = Passes()
    yield passes
    passes.loop.stop()
    assert passes.loop.ended(5)


def first_rest(phase: float, interval: float = 0.6) -> tuple[float, float]:
    """Seconds from the first pass to the second, and from that to the third, of a loop that is in this phase."""
    passes = Passes(phase=lambda: phase)
    passes.pace = Pace(interval, 0.0)
    passes.loop.start()
    passes.wait(3)
    passes.loop.stop()
    assert passes.loop.ended(5)
    first, second, third = passes.began[:3]
    return second - first, third - second


def test_two_loops_that_start_together_look_at_different_times_from_the_second_pass_on() -> None:
    early, late = first_rest(0.0), first_rest(1.0)
    assert early[0] < 0.5 and late[0] >= 0.6
    assert early[1] >= 0.6 and late[1] >= 0.6, "only the first interval is cut"


def test_only_agents_of_hosts_that_have_just_booted_spread_their_first_passes() -> None:
    assert {start_delay(30, up, lambda: 0.5) for up in (0.0, 60.0, 599.0)} == {15.0}
    assert start_delay(30, 600.0, lambda: 0.5) == 0.0
    assert start_delay(0, 5.0, lambda: 0.5) == 0.0
    delays = [start_delay(30, 5.0) for _ in range(1000)]
    assert 0.0 <= min(delays) < 3.0 and 27.0 < max(delays) <= 30.0


@pytest.fixture
def delayed() -> Iterator[Passes]:
    """A loop whose first pass comes after a minute, if nothing ends the delay."""
    passes = Passes(delay=60.0)
    passes.loop.start()
    yield passes
    passes.loop.stop()
    assert passes.loop.ended(5)


def test_a_delayed_loop_begins_when_its_delay_is_over() -> None:
    passes = Passes(delay=0.3)
    started = time.monotonic()
    passes.loop.start()
    passes.wait(1)
    passes.loop.stop()
    assert passes.loop.ended(5)
    assert passes.began[0] - started >= 0.3


def test_devices_that_appear_while_the_host_boots_do_not_end_the_delay(delayed: Passes) -> None:
    for _ in range(5):
        delayed.loop.look()
        time.sleep(0.02)
    assert (delayed.began, delayed.loop.hangs) == ([], False)


@pytest.mark.parametrize("ends_it", [Loop.hurry, lambda loop: loop.look(urgent=True)], ids=["question", "unplug"])
def test_a_server_that_starts_and_an_unplug_end_the_delay_at_once(
    delayed: Passes, ends_it: Callable[[Loop], None]
) -> None:
    ends_it(delayed.loop)
    delayed.wait(1)


def test_a_question_right_after_the_first_pass_makes_no_second_one(delayed: Passes) -> None:
    delayed.loop.hurry()
    delayed.wait(1)
    for _ in range(3):
        delayed.loop.hurry()
        time.sleep(0.02)
    assert len(delayed.began) == 1


def test_it_begins_with_a_pass_and_makes_the_next_when_it_is_time(passes: Passes) -> None:
    passes.pace = Pace(0.05, 0.0)
    passes.loop.start()
    passes.wait(3)


def test_a_pass_that_wants_another_soon_gets_it(passes: Passes) -> None:
    passes.work = lambda: 0.05
    passes.loop.start()
    passes.wait(3)


def test_events_that_come_together_are_one_pass_after_a_moment_of_quiet(passes: Passes) -> None:
    passes.pace = Pace(60.0, 1.0)  # longer than a busy machine keeps a thread from running
    passes.loop.start()
    passes.wait(1)
    for _ in range(5):
        time.sleep(0.02)
        passes.loop.look()
    last = time.monotonic()
    passes.wait(2)
    assert passes.began[1] - last >= 0.9
    time.sleep(0.2)
    assert len(passes.began) == 2


def test_an_urgent_event_is_acted_on_at_once_even_in_the_middle_of_others(passes: Passes) -> None:
    passes.pace = Pace(60.0, 3.0)
    passes.loop.start()
    passes.wait(1)
    passes.loop.look()
    time.sleep(0.05)
    began = time.monotonic()
    passes.loop.look(urgent=True)
    passes.wait(2)
    assert passes.began[1] - began < 0.1


def test_a_storm_of_events_delays_a_pass_by_ten_moments_at_most(passes: Passes) -> None:
    passes.pace = Pace(60.0, 0.03)
    passes.loop.start()
    passes.wait(1)
    began = time.monotonic()
    while len(passes.began) == 1 and time.monotonic() - began < 5:
        passes.loop.look()
        time.sleep(0.001)
    assert passes.began[1] - began < 1


def test_an_event_during_a_pass_is_not_lost(passes: Passes) -> None:
    def work() -> None:
        if len(passes.began) == 1:
            passes.loop.look()

    passes.work = work
    passes.loop.start()
    passes.wait(2)


def test_a_failure_is_tried_again_after_its_pause_and_each_attempt_is_told(passes: Passes) -> None:
    def work() -> None:
        if len(passes.began) < 3:
            raise Unavailable("Placement does not answer.")

    passes.pause = 0.02
    passes.work = work
    passes.loop.start()
    passes.wait(3)
    assert passes.told == [("Placement does not answer.", 1), ("Placement does not answer.", 2)]
    assert passes.meter.outcomes[:2] == [Outcome.UNAVAILABLE, Outcome.UNAVAILABLE]


def test_an_event_cuts_the_pause_after_a_failure_short(passes: Passes) -> None:
    def work() -> None:
        raise Unavailable("Placement does not answer.")

    passes.work = work
    passes.loop.start()
    passes.wait(1)
    passes.loop.look()
    passes.wait(2, seconds=2)


def test_a_question_cuts_the_pause_after_a_failure_short_once_it_has_lasted_a_second(
    passes: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> None:
        raise Unavailable("Placement does not answer.")

    monkeypatch.setattr(loop, "SHORTEST_WAIT", 0.5)
    passes.work = work
    passes.loop.start()
    passes.wait(1)
    latest = time.monotonic() + 5.0
    while len(passes.began) < 3 and time.monotonic() < latest:
        passes.loop.hurry()
        time.sleep(0.01)
    pauses = [after - before for before, after in itertools.pairwise(passes.began)]
    assert len(pauses) == 2
    assert min(pauses) >= 0.5


def test_a_question_makes_no_pass_where_none_has_failed(passes: Passes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SHORTEST_WAIT", 0.0)
    passes.loop.start()
    passes.wait(1)
    for _ in range(10):
        passes.loop.hurry()
        time.sleep(0.02)
    assert len(passes.began) == 1


def test_a_bug_is_told_and_does_not_end_the_loop(passes: Passes) -> None:
    def work() -> None:
        if len(passes.began) == 1:
            raise ZeroDivisionError

    passes.work = work
    passes.loop.start()
    passes.wait(1)
    passes.loop.look(urgent=True)
    passes.wait(2)
    assert [type(error) for error in passes.bugs] == [ZeroDivisionError]
    assert passes.meter.outcomes[0] is Outcome.BUG


def test_a_pass_that_stands_still_past_its_bound_hangs_and_one_that_comes_forward_does_not(passes: Passes) -> None:
    goes_on, ends = threading.Event(), threading.Event()

    def work() -> None:
        while not goes_on.wait(0.02):
            passes.loop.sign_of_life()
        ends.wait(10)

    passes.work = work
    passes.loop.start()
    passes.wait(1)
    time.sleep(0.4)
    assert not passes.loop.hangs
    goes_on.set()
    time.sleep(0.4)
    assert passes.loop.hangs
    ends.set()
    passes.work = lambda: None
    latest = time.monotonic() + 2
    while passes.loop.hangs and time.monotonic() < latest:
        time.sleep(0.01)
    assert not passes.loop.hangs


def test_it_ends_while_it_waits_for_an_event_and_while_it_pauses(passes: Passes) -> None:
    passes.loop.start()
    passes.wait(1)
    began = time.monotonic()
    passes.loop.stop()
    assert passes.loop.ended(5)
    assert time.monotonic() - began < 1
    assert not passes.loop.hangs, "it was told to end"


def test_a_pass_that_hangs_does_not_keep_its_caller_from_ending(passes: Passes) -> None:
    ends = threading.Event()

    def work() -> None:
        ends.wait(10)

    passes.work = work
    passes.loop.start()
    passes.wait(1)
    passes.loop.stop()
    assert not passes.loop.ended(0.05)
    ends.set()
