"""The agent as a service: decides when to make a pass, and keeps going whatever a neighbour does.

Threads: udev's only sets an event; one worker does all passes, so nothing here is shared but that event. What a pass
does is reporter.py's. SIGHUP reads the configuration again, SIGUSR2 has a report written, SIGTERM ends without touching
Placement.
"""

import contextlib
import logging
import math
import queue
import select
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import sdnotify
import tenacity
from oslo_service import service

from usb_provider.agent.binder import Binder
from usb_provider.agent.meter import NO_METER, Loop, Meter, Outcome
from usb_provider.agent.notices import Notices, bug
from usb_provider.agent.reporter import Pass, Reporter
from usb_provider.exception import AccessRefused, ConfigError, Conflict, Incompatible, Unavailable
from usb_provider.model.binding.status import GuestStatus
from usb_provider.model.reporting.census import census
from usb_provider.model.reporting.host_state import ReportSettings
from usb_provider.model.reporting.plan import Note

LOG = logging.getLogger(__name__)

_LONGEST_WAIT = 60.0
_LONGEST_LIBVIRT_WAIT = 15.0
_CONFLICTS_TO_BEAR = 3
_STOP_SECONDS = 30.0
_SIGNALS = frozenset({signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGALRM, signal.SIGUSR2})

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Timing:
    """When to look: after *debounce* seconds of quiet, and every *resync_interval* seconds."""

    resync_interval: float = 60.0
    debounce: float = 0.2


class Stoppable(Protocol):
    """Something that runs until it is stopped."""

    def stop(self) -> None:
        """End it, and return when it has ended."""


@dataclass(frozen=True, slots=True)
class GuestSide:
    """The part of the agent that attaches devices to guests.

    *listen* starts to answer the hook, or raises ConfigError; it is called again until it succeeds.
    """

    binder: Binder
    listen: Callable[[], Stoppable]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the agent knows now, for a report. Times are in seconds since 1970.

    *failure* is what it waits for and since when; *guests* is as :meth:`Binder.status` gives it, None where none are
    served.
    """

    last: Pass | None
    last_at: float | None
    failure: tuple[str, float] | None
    guests: Sequence[GuestStatus] | None


class Agent(service.ServiceBase):  # type: ignore[misc]
    """The daemon around a :class:`~usb_provider.agent.reporter.Reporter` and, where guests are served, a binder.

    :param watch: starts listening for changes of the hardware; it is called before the first look.
    :param reload: reads the configuration again; its ConfigError leaves everything as it was.
    :param report: writes a report of what it is given, when SIGUSR2 asks for one.
    """

    def __init__(
        self,
        reporter: Reporter,
        watch: Callable[[Callable[[bool], None]], Stoppable],
        timing: Timing,
        reload: Callable[[], tuple[ReportSettings, Timing]],
        *,
        guests: GuestSide | None = None,
        meter: Meter = NO_METER,
        report: Callable[[Snapshot], None] = lambda snapshot: None,
    ) -> None:
        self._reporter = reporter
        self._meter = meter
        self._write_report = report
        # Its put() may interrupt itself, which an Event's set() must not: it is all that the signal's handler does.
        self._reports_wanted: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._last: Pass | None = None
        self._last_at: float | None = None
        self._failure: tuple[str, float] | None = None
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
        self._tells: socket.socket | None = None
        self._worker = threading.Thread(target=self._work, name="reporter", daemon=True)
        self._systemd = sdnotify.SystemdNotifier()

    def start(self) -> None:
        """Begin. Called in the main thread, by oslo.service."""
        # oslo.service's own SIGHUP handler ends a process that does not fork (ProcessLauncher._reload_service).
        signal.signal(signal.SIGHUP, self._hung_up)
        signal.signal(signal.SIGUSR2, lambda signum, frame: self._reports_wanted.put(None))
        threading.Thread(target=self._write_reports, name="reports", daemon=True).start()
        self._watcher = self._watch(lambda urgent: self._look.set())
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
        if self._tells is not None:
            with contextlib.suppress(OSError):
                self._tells.send(b"\0")

    def wait(self) -> None:
        """Return when the agent has ended."""
        # Waiting for the event alone would sleep through a signal that comes right before the thread falls asleep: its
        # Python handler runs when the thread does something again. The interpreter writes to this socket at once.
        hears, tells = socket.socketpair()
        with hears, tells:
            for end in (hears, tells):
                end.setblocking(False)
            signal.set_wakeup_fd(tells.fileno(), warn_on_full_buffer=False)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            self._tells = tells
            while not self._ended.is_set():
                select.select([hears], [], [], _LONGEST_WAIT)
                with contextlib.suppress(BlockingIOError):
                    hears.recv(4096)
            signal.set_wakeup_fd(-1)

    def look_again(self) -> None:
        """Something may have changed; safe in any thread."""
        self._look.set()

    def reset(self) -> None:
        """Read the configuration again, soon; safe in a signal handler."""
        self._hang_up.set()
        self._look.set()

    def snapshot(self) -> Snapshot:
        """What is known now. Safe in any thread."""
        guests = None if self._guests is None else self._guests.binder.status()
        return Snapshot(self._last, self._last_at, self._failure, guests)

    def _write_reports(self) -> None:
        # Not in the signal's handler, which may have interrupted whoever holds a lock that a report wants; and so a
        # report can be had, and the agent be ended, while any other thread hangs.
        while True:
            self._reports_wanted.get()
            while not self._reports_wanted.empty():
                self._reports_wanted.get()
            try:
                self._write_report(self.snapshot())
            except Exception:
                LOG.exception("The report that SIGUSR2 asked for could not be written.")

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
            self._succeeded(attempts(self._report))
        except tenacity.RetryError:
            return False
        except Exception as error:
            self._notices.add(bug("A pass", error), logging.ERROR, exc_info=error)
            self._sleep(_LONGEST_WAIT)
        return True

    def _report(self) -> Pass:
        return self._metered(Loop.REPORT, self._reporter.run)

    def _metered(self, loop: Loop, run: Callable[[], _T]) -> _T:
        """What *run* gives, once the meter knows how it went."""
        began, outcome = time.monotonic(), Outcome.OK
        try:
            return run()
        except Exception as error:
            outcome = Outcome.of(error)
            raise
        finally:
            self._meter.passed(loop, outcome, time.monotonic() - began)

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            # Before the flags are asked, and before guests are: what comes between must not be slept through.
            self._look.clear()
            if self._stopping.is_set() or self._hang_up.is_set():
                return
            # Placement being away is no reason to leave a guest without its device.
            self._bind()
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
            except (ConfigError, OSError, RuntimeError) as error:  # the latter: no thread is to be had
                notes.append(Note("hook", f"The starts of guests are not checked: {error}"))
        again: float | None = _LONGEST_WAIT if notes else None
        try:
            due = self._metered(Loop.BIND, self._guests.binder.run)
            again = min(due or math.inf, again or math.inf)
            self._bind_failures = 0
            self._meter.bound(Counter(binding.state.value for binding in self._guests.binder.bindings()))
        except Unavailable as error:
            notes.append(Note("libvirt", str(error)))
            again = min(2.0**self._bind_failures, _LONGEST_LIBVIRT_WAIT)
            self._bind_failures += 1
        except Exception as error:
            note = bug("A binding pass", error)
            self._bind_notices.add(note, logging.ERROR, exc_info=error)
            notes.append(note)
            again = _LONGEST_WAIT
        self._bind_notices.replace(notes)
        self._bind_at = time.monotonic() + (again or math.inf)

    def _succeeded(self, done: Pass) -> None:
        self._notices.replace(done.notes)
        self._meter.counted(census(done.tree, done.devices))
        self._last, self._last_at, self._failure = done, time.time(), None
        offered = sum(each.offered for each in done.devices)
        LOG.debug("Pass: %d actions, %d requests, %.3f s.", len(done.actions), done.requests, done.seconds)
        self._tell(f"STATUS=Reporting {offered} of {len(done.devices)} USB devices below {done.root.name}")

    def _failed_once(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        if isinstance(error, Conflict) and state.attempt_number < _CONFLICTS_TO_BEAR:
            LOG.debug("%s", error)
            return
        self._failure = str(error), self._failure[1] if self._failure else time.time()
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
        except Exception as error:
            # oslo.log's own, or one that nobody expects: whatever it is, it must not end the passes.
            problems = (f"{type(error).__name__}: {' '.join(str(error).split())}.",)
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
