"""The agent as a service: decides when to make a pass, and keeps going whatever a neighbour does.

Threads: udev's only sets an event; one worker does all passes, so nothing here is shared but that event. What a pass
does is reporter.py's. SIGHUP reads the configuration again, SIGTERM ends without touching Placement.
"""

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

import sdnotify
import tenacity
from oslo_service import service

from usb_provider.binder import Binder
from usb_provider.exception import AccessRefused, ConfigError, Conflict, Incompatible, Unavailable
from usb_provider.model.plan import Note
from usb_provider.reporter import Pass, Reporter, Settings

LOG = logging.getLogger(__name__)

_LONGEST_WAIT = 60.0
_LONGEST_LIBVIRT_WAIT = 15.0
_CONFLICTS_TO_BEAR = 3
_STOP_SECONDS = 30.0
_SIGNALS = frozenset({signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGALRM})


@dataclass(frozen=True, slots=True)
class Timing:
    """When to look: after *debounce* seconds of quiet, and every *resync_interval* seconds."""

    resync_interval: float = 60.0
    debounce: float = 0.2


class Stoppable(Protocol):
    """Something that runs until it is stopped."""

    def stop(self) -> None:
        """End it, and return when it has ended."""


class Notices:
    """Says each standing problem once when it comes up and once when it is over, by the note's topic."""

    def __init__(self) -> None:
        self._standing: dict[str, Note] = {}

    def add(self, note: Note, level: int = logging.WARNING) -> None:
        """*note* is the matter, beside whatever else is."""
        if note.topic not in self._standing:
            LOG.log(level, "%s", note.text)
        self._standing[note.topic] = note

    def replace(self, notes: Collection[Note]) -> None:
        """*notes* are everything that is the matter now."""
        for note in notes:
            self.add(note)
        now = {note.topic for note in notes}
        for topic in [topic for topic in self._standing if topic not in now]:
            LOG.info("No longer so: %s", self._standing.pop(topic).text)


@dataclass(frozen=True, slots=True)
class GuestSide:
    """The part of the agent that attaches devices to guests.

    *listen* starts to answer the hook, or raises ConfigError; it is called again until it succeeds.
    """

    binder: Binder
    listen: Callable[[], Stoppable]


class Agent(service.ServiceBase):  # type: ignore[misc]
    """The daemon around a :class:`~usb_provider.reporter.Reporter` and, where guests are served, a binder.

    :param watch: starts listening for changes of the hardware; it is called before the first look.
    :param reload: reads the configuration again; its ConfigError leaves everything as it was.
    """

    def __init__(
        self,
        reporter: Reporter,
        watch: Callable[[Callable[[], None]], Stoppable],
        timing: Timing,
        reload: Callable[[], tuple[Settings, Timing]],
        *,
        guests: GuestSide | None = None,
    ) -> None:
        self._reporter = reporter
        self._guests = guests
        self._listener: Stoppable | None = None
        self._bind_at = math.inf
        self._bind_failures = 0
        self._bind_notices = Notices()
        self._watch = watch
        self._timing = timing
        self._reload = reload
        self._look = threading.Event()
        self._hang_up = threading.Event()
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._notices = Notices()
        self._watcher: Stoppable | None = None
        self._worker = threading.Thread(target=self._work, name="reporter", daemon=True)
        self._systemd = sdnotify.SystemdNotifier()

    def start(self) -> None:
        """Begin. Called in the main thread, by oslo.service."""
        # oslo.service's own SIGHUP handler ends a process that does not fork (ProcessLauncher._reload_service).
        signal.signal(signal.SIGHUP, self._hung_up)
        self._watcher = self._watch(self._look.set)
        self._look.set()
        self._worker.start()
        self._tell("READY=1", "STATUS=Starting")

    def stop(self, graceful: bool = False) -> None:
        """End, at the latest after the request under way. Placement is left as it is."""
        self._tell("STOPPING=1")
        self._stopping.set()
        self._look.set()
        if self._worker.is_alive():
            self._worker.join(_STOP_SECONDS)
        for each in (self._watcher, self._listener):
            if each is not None:
                each.stop()
        LOG.info("Ended. Placement is left as it is.")
        self._ended.set()

    def wait(self) -> None:
        """Return when the agent has ended."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        while not self._ended.wait(timeout=3600):
            pass

    def look_again(self) -> None:
        """Something may have changed; safe in any thread."""
        self._look.set()

    def reset(self) -> None:
        """Read the configuration again, soon; safe in a signal handler."""
        self._hang_up.set()
        self._look.set()

    def _hung_up(self, signum: int, frame: object) -> None:
        # A SIGTERM in the middle of this would wait for a lock that it holds itself.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        self.reset()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def _work(self) -> None:
        due = True
        while not self._stopping.is_set():
            if not due:
                self._wait()
            # First of all: what is set from here on ends the next wait.
            self._look.clear()
            if self._stopping.is_set():
                return
            if self._hang_up.is_set():
                self._read_again()
            due = not self._pass()
            self._bind()

    def _wait(self) -> None:
        """Until something may have changed and been quiet for a moment, or it is time to look anyway."""
        until = time.monotonic() + self._timing.resync_interval
        while not self._look.wait(max(0.0, min(until, self._bind_at) - time.monotonic())):
            if time.monotonic() >= until:
                return
            self._bind()
        self._settle()

    def _settle(self) -> None:
        """Until no event has come for a moment; a storm of them delays it by ten moments at most."""
        latest = time.monotonic() + 10 * self._timing.debounce
        while not self._stopping.is_set() and not self._hang_up.is_set():
            self._look.clear()
            left = min(self._timing.debounce, latest - time.monotonic())
            if left <= 0 or not self._look.wait(left):
                return

    def _pass(self) -> bool:
        """One pass, tried until it succeeds; False when it was given up for a reload."""
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((Unavailable, Conflict, Incompatible, ConfigError)),
            wait=tenacity.wait_random_exponential(multiplier=1, max=_LONGEST_WAIT),
            stop=tenacity.stop_any(
                tenacity.stop_when_event_set(self._stopping), tenacity.stop_when_event_set(self._hang_up)
            ),
            before_sleep=self._failed_once,
            sleep=self._sleep,
        )
        try:
            self._succeeded(attempts(self._reporter.run))
        except tenacity.RetryError:
            return False
        except Exception:
            LOG.exception("A pass failed in a way that is a bug of usb-provider; trying again.")
            self._sleep(_LONGEST_WAIT)
        return True

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            # Placement being away is no reason to leave a guest without its device.
            self._bind()
            # Before the flags are asked: a signal between the two must not be slept through.
            self._look.clear()
            if self._stopping.is_set() or self._hang_up.is_set():
                return
            if self._look.wait(min(left, max(0.0, self._bind_at - time.monotonic()))):
                self._settle()

    def _bind(self) -> None:
        """One binding pass, if guests are served; a failure says when the next one is due."""
        if self._guests is None or self._stopping.is_set():
            return
        notes: list[Note] = []
        if self._listener is None:
            try:
                self._listener = self._guests.listen()
            except ConfigError as error:
                notes.append(Note("hook", f"The starts of guests are not checked: {error}"))
        again: float | None = _LONGEST_WAIT if notes else None
        try:
            due = self._guests.binder.run()
            again = min(due or math.inf, again or math.inf)
            self._bind_failures = 0
        except Unavailable as error:
            notes.append(Note("libvirt", str(error)))
            again = min(2.0**self._bind_failures, _LONGEST_LIBVIRT_WAIT)
            self._bind_failures += 1
        except Exception:
            LOG.exception("A binding pass failed in a way that is a bug of usb-provider; trying again.")
            again = _LONGEST_WAIT
        self._bind_notices.replace(notes)
        self._bind_at = time.monotonic() + (again or math.inf)

    def _succeeded(self, done: Pass) -> None:
        self._notices.replace(done.notes)
        offered = sum(each.offered for each in done.devices)
        LOG.debug("Pass: %d actions, %d requests, %.3f s.", len(done.actions), done.requests, done.seconds)
        self._tell(f"STATUS=Reporting {offered} of {len(done.devices)} USB devices below {done.root.name}")

    def _failed_once(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        if isinstance(error, Conflict) and state.attempt_number < _CONFLICTS_TO_BEAR:
            LOG.debug("%s", error)
            return
        level = logging.ERROR if isinstance(error, (AccessRefused, Incompatible, ConfigError)) else logging.WARNING
        self._notices.add(Note(f"pass:{type(error).__name__}", str(error)), level)
        self._tell(f"STATUS=Waiting: {error}")

    def _read_again(self) -> None:
        self._hang_up.clear()
        problems: tuple[str, ...] = ()
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            self._reporter.settings, self._timing = self._reload()
            LOG.info("The configuration was read again.")
        except ConfigError as error:
            problems = error.problems
        # Not above: oslo.log writes an exception that is being handled behind every message.
        for problem in problems:
            LOG.error("The configuration stays as it was: %s", problem)
        self._tell("READY=1")

    def _tell(self, *lines: str) -> None:
        text = "\n".join(line.replace("\n", " ") for line in lines)
        self._systemd.notify(text.encode("ascii", "replace").decode("ascii"))


def hold_signals() -> None:
    """Keep signals for :meth:`Agent.wait`. Call it before any thread is started.

    Threads inherit this for good, so every signal comes to the main thread: one that the kernel gave to another
    thread would not end the main thread's wait, and nobody would act on it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def launch(conf: Any, agent: Agent) -> int:
    """Run *agent* in this process until a signal ends it.

    The caller must have chosen oslo.service's threading backend before this module was imported.
    """
    launcher = service.launch(conf, agent, no_fork=True)
    launcher.wait()
    return 0
