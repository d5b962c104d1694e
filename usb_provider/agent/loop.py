"""One loop of the agent: when to make the next pass, and what happens when a pass fails.

The agent runs it twice, for reporting and for binding, each in a thread of its own, and neither waits for the other.
After an event (:meth:`Loop.look`) a pass begins soon, without one after an interval, and after a failure when a pause
that grows is over. The process reads :attr:`Loop.hangs` to tell systemd's watchdog whether the loop still runs. The
caller says what a pass does.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import tenacity

from usb_provider.agent.meter import LoopName, Meter, Outcome

LOG = logging.getLogger(__name__)

JUST_BOOTED = 600.0
"""Seconds since the host's boot in which an agent counts as one of many that start together, as after a power cut."""

LONGEST_WAIT = 60.0
"""Seconds after which a pass that failed is tried again at the latest."""

SHORTEST_WAIT = 1.0
"""Seconds after which it is tried again at the earliest where only a question wants it (:meth:`Loop.hurry`)."""

Wait = Callable[[tenacity.RetryCallState], float]


def start_delay(spread: float, up: float, part: Callable[[], float] = random.random) -> float:
    """The seconds before an agent's first pass, on a host that was booted *up* seconds ago.

    :param spread: the longest delay; *part* gives the part of it.
    """
    return spread * part() if up < JUST_BOOTED else 0.0


@dataclass(frozen=True, slots=True)
class Pace:
    """When a loop looks, in seconds: after *debounce* without another event, and every *interval* anyway."""

    interval: float = 60.0
    debounce: float = 0.2


@dataclass(frozen=True, slots=True)
class Failing:
    """What a loop does about a pass that fails.

    *bearable* are the errors after which it tries again, *wait* gives the pause before each further attempt, and
    *tell* gets each failed attempt and how many there were. Any other error is a bug: *tell_bug* gets it, and the loop
    makes its next pass after :data:`LONGEST_WAIT`.
    """

    bearable: tuple[type[Exception], ...]
    wait: Wait
    tell: Callable[[Exception, int], None]
    tell_bug: Callable[[Exception], None]


class Loop:
    """Makes passes in a thread of its own until it is stopped.

    :param run: makes one pass, and gives the seconds after which another is due even if nothing happens, or None.
    :param pace: called before each wait, since a reload may change the pace.
    :param delay: seconds before the first pass. An urgent event or a question ends it, another event does not.
    :param phase: gives the part of the first interval, 0 to 1, after which the second pass begins. Where it is random,
        hosts that start together do not look together ever after.
    :param bound: seconds that may go by in a pass without a sign of life before the loop counts as hanging.
    """

    def __init__(
        self,
        name: LoopName,
        run: Callable[[], float | None],
        pace: Callable[[], Pace],
        failing: Failing,
        *,
        meter: Meter,
        bound: float,
        delay: float = 0.0,
        phase: Callable[[], float] = lambda: 1.0,
    ) -> None:
        self._name = name
        self._run = run
        self._pace = pace
        self._failing = failing
        self._meter = meter
        self._bound = bound
        self._delay = delay
        self._phase = phase
        self._is_delayed = delay > 0
        self._is_first = True
        self._wake = threading.Event()
        self._urgent = threading.Event()
        self._stopping = threading.Event()
        self._busy_since: float | None = None
        self._pausing_since: float | None = None
        self._thread = threading.Thread(target=self._work, name=name.value, daemon=True)

    def start(self) -> None:
        """Begin with a pass, or with the delay before it."""
        self._thread.start()

    def look(self, *, urgent: bool = False) -> None:
        """Something may have changed: make a pass when no event has come for a moment, or at once when *urgent*.

        Safe in any thread. A pause after a failure ends as well; the delay before the first pass when *urgent*.
        """
        if urgent:
            self._urgent.set()
        self._wake.set()

    def hurry(self) -> None:
        """A process asks for what a pass gives: end the delay before the first one, or a pause after a failure.

        A pause that has only just begun does not end. Otherwise it does nothing. Safe in any thread.
        """
        since = self._pausing_since
        if self._is_delayed or (since is not None and time.monotonic() - since >= SHORTEST_WAIT):
            self.look(urgent=True)

    def sign_of_life(self) -> None:
        """The pass under way has made progress; safe in any thread."""
        if self._busy_since is not None:
            self._busy_since = time.monotonic()

    @property
    def hangs(self) -> bool:
        """Whether the current pass has given no sign of life for more than *bound* seconds, or the thread has died."""
        since = self._busy_since
        died = self._thread.ident is not None and not self._thread.is_alive() and not self._stopping.is_set()
        return died or (since is not None and time.monotonic() - since > self._bound)

    def stop(self) -> None:
        """Begin no further pass. Returns at once."""
        self._stopping.set()
        self.look(urgent=True)

    def ended(self, seconds: float) -> bool:
        """Wait at most *seconds* for its end; give whether it has ended."""
        if self._thread.ident is not None:
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        if self._is_delayed:
            LOG.info("The host has just booted: the first pass is made in %.0f s, or if a server starts.", self._delay)
            self._urgent.wait(self._delay)
            self._is_delayed = False
        while not self._stopping.is_set():
            self._rest(self._pass())

    def _pass(self) -> float:
        """Make one pass, tried until it succeeds; gives the seconds until the next one."""
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(self._failing.bearable),
            wait=self._failing.wait,
            stop=tenacity.stop_when_event_set(self._stopping),
            before_sleep=self._failed,
            sleep=self._pause,
        )
        try:
            again = attempts(self._attempt)
        except tenacity.RetryError:
            return 0.0  # it is being stopped
        except Exception as error:
            self._failing.tell_bug(error)
            self._pause(LONGEST_WAIT)
            return 0.0
        interval = self._pace().interval
        if self._is_first:
            self._is_first = False
            interval *= self._phase()
        return interval if again is None else min(again, interval)

    def _attempt(self) -> float | None:
        # Cleared before the pass: an event that comes during it ends the next rest.
        self._wake.clear()
        self._urgent.clear()
        began = self._busy_since = time.monotonic()
        outcome = Outcome.OK
        try:
            return self._run()
        except Exception as error:
            outcome = Outcome.of(error)
            raise
        finally:
            self._busy_since = None
            self._meter.passed(self._name, outcome, time.monotonic() - began)

    def _failed(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        if isinstance(error, Exception):
            self._failing.tell(error, state.attempt_number)

    def _pause(self, seconds: float) -> None:
        """Rest after a failure."""
        self._pausing_since = time.monotonic()
        try:
            self._rest(seconds)
        finally:
            self._pausing_since = None

    def _rest(self, seconds: float) -> None:
        """Wait until *seconds* are over, or something may have changed and no event has come for a moment."""
        if self._wake.wait(seconds):
            self._settle()

    def _settle(self) -> None:
        """Wait until no event has come for a moment; many events delay it by ten moments at most."""
        debounce = self._pace().debounce
        latest = time.monotonic() + 10 * debounce
        while not self._urgent.is_set() and not self._stopping.is_set():
            self._wake.clear()
            left = min(debounce, latest - time.monotonic())
            if left <= 0 or not self._wake.wait(left):
                return
