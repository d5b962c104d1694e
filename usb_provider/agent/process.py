"""The agent as a process: its two loops, signals, systemd, reload, and what is known for a report.

The report loop brings Placement in line with the devices, the bind loop gives guests what they hold; loop.py says when,
reporter.py and binder.py what. Neither loop waits for the other, and the main thread waits for neither: it receives
signals, and tells systemd's watchdog that both loops run. At SIGHUP the agent reads the configuration again, at SIGUSR2
it writes a report, and at SIGTERM or SIGINT it ends without a request to Placement.
"""

import contextlib
import logging
import os
import queue
import random
import select
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import sdnotify
import tenacity
from oslo_config import cfg
from oslo_service import service

from usb_provider.agent.admission import Admission
from usb_provider.agent.awaited import LIBVIRT, PLACEMENT, AwaitedNeighbours
from usb_provider.agent.binder import Binder
from usb_provider.agent.hook_socket import HookSocket, Listening
from usb_provider.agent.loop import LONGEST_WAIT, Failing, Loop, Pace
from usb_provider.agent.meter import NO_METER, LoopName, Meter
from usb_provider.agent.notices import Notices, bug
from usb_provider.agent.reporter import Pass, Reporter
from usb_provider.exception import AccessRefused, ConfigError, Conflict, Incompatible, Unavailable
from usb_provider.model.binding.status import AwaitedNeighbour, GuestStatus, guest_statuses
from usb_provider.model.reporting.census import census
from usb_provider.model.reporting.guest_news import waiting_by_class
from usb_provider.model.reporting.host_state import HostView, ReportSettings
from usb_provider.model.reporting.plan import Note

LOG = logging.getLogger(__name__)

_Entry = TypeVar("_Entry")

_HANGS_AFTER = 120.0
"""Seconds without a sign of life after which a loop's pass counts as hanging, where systemd does not say."""

_LONGEST_LIBVIRT_WAIT = 15.0
_LISTEN_AGAIN_SECONDS = 15.0
_CONFLICTS_TO_BEAR = 3
_STOP_SECONDS = 5.0
_SIGNALS = frozenset({signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGALRM, signal.SIGUSR2})


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
    admission: Admission
    listen: Callable[[], Listening]

    def status(self) -> tuple[GuestStatus, ...]:
        """Every guest that should have a device or was refused, with its state. Safe in any thread."""
        last = self.binder.last
        return guest_statuses(last.bindings, last.memory, last.running, self.admission.refused())


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the agent knows now, for a report. Times are in seconds since 1970.

    *failure* is what it waits for and since when; *guests* is None when it serves no guests. Without the *awaited*
    neighbours, the agent does not know what guests hold and have.
    """

    last: Pass | None
    last_at: float | None
    failure: tuple[str, float] | None
    guests: Sequence[GuestStatus] | None
    awaited: tuple[AwaitedNeighbour, ...] = ()


class Agent(service.ServiceBase):  # type: ignore[misc]
    """The daemon around a :class:`~usb_provider.agent.reporter.Reporter` and, where guests are served, a binder.

    :param watch: starts listening for changes of the hardware; it is called before the first look, and tells whether
        a change is urgent, as a removal is.
    :param reload: reads the configuration again; when it raises ConfigError, nothing changes.
    :param report: writes a report of its argument, when SIGUSR2 asks for one.
    :param delay: seconds before the first reporting pass, see :func:`~usb_provider.agent.loop.start_delay`.
    :ivar hangs: whether a pass had not ended when the agent did.
    """

    def __init__(
        self,
        reporter: Reporter,
        watch: Callable[[Callable[[bool], None]], Stoppable],
        pace: Pace,
        reload: Callable[[], tuple[ReportSettings, Pace]],
        *,
        guests: GuestSide | None = None,
        meter: Meter = NO_METER,
        report: Callable[[Snapshot], None] = lambda snapshot: None,
        delay: float = 0.0,
    ) -> None:
        hangs_after = watchdog_seconds(os.environ) or _HANGS_AFTER
        self._reporter = reporter
        self._watch = watch
        self._pace = pace
        self._reload = reload
        self._guests = guests
        self._meter = meter
        self._write_report = report
        self._last: Pass | None = None
        self._last_at: float | None = None
        self._awaited = AwaitedNeighbours(serves_guests=guests is not None)
        self._viewed: HostView | None = None
        self._hang_up = threading.Event()
        # Signal handlers only call its put(), which may interrupt itself; an Event's set() must not.
        self._signals: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._reports_wanted: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._ended = threading.Event()
        self.hangs = False
        self._watcher: Stoppable | None = None
        self._socket = None if guests is None else HookSocket(guests.listen)
        self._tells: socket.socket | None = None
        self._systemd = sdnotify.SystemdNotifier()
        self._report_notices = Notices()
        self._bind_notices = Notices()
        self._report_loop = Loop(
            LoopName.REPORT,
            self._report,
            lambda: self._pace,
            Failing(
                (Unavailable, Conflict, Incompatible, ConfigError),
                tenacity.wait_random_exponential(multiplier=1, max=LONGEST_WAIT),
                self._report_failed,
                lambda error: _tell_bug(self._report_notices, "A pass", error),
            ),
            meter=meter,
            bound=hangs_after,
            delay=delay,
            phase=random.random,  # 10,000 agents that start after a power cut shall not ask in one second
        )
        self._bind_loop = Loop(
            LoopName.BIND,
            self._bind,
            lambda: self._pace,
            Failing(
                (Unavailable,),
                tenacity.wait_exponential(multiplier=1, max=_LONGEST_LIBVIRT_WAIT),
                self._bind_failed,
                lambda error: _tell_bug(self._bind_notices, "A binding pass", error),
            ),
            meter=meter,
            bound=hangs_after,
        )
        self._loops = (self._report_loop,) if guests is None else (self._report_loop, self._bind_loop)

    def start(self) -> None:
        """Begin. Called in the main thread, by oslo.service."""
        # oslo.service's own handlers end a process that does not fork at SIGHUP (ProcessLauncher._reload_service), and
        # some of its releases have none for SIGTERM. These only take note: wait() acts.
        for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda signum, frame: self._signals.put(signum))
        threading.Thread(target=self._write_reports, name="reports", daemon=True).start()
        self._watcher = self._watch(lambda urgent: self.look_again(urgent=urgent))
        for loop in self._loops:
            loop.start()
        self._tell("READY=1", "STATUS=Starting")

    def stop(self, graceful: bool = False) -> None:
        """End after some seconds at the latest, even if a call hangs. Placement stays as it is."""
        self._tell("STOPPING=1")
        for loop in self._loops:
            loop.stop()
        latest = time.monotonic() + _STOP_SECONDS
        for loop in self._loops:
            if not loop.ended(max(0.0, latest - time.monotonic())):
                self.hangs = True
                LOG.warning("A pass still waits for an answer; the agent ends without waiting for it.")
        for each in (self._watcher, self._socket):
            if each is not None:
                each.stop()
        LOG.info("Ended. Placement is left as it is.")
        self._ended.set()
        if self._tells is not None:
            with contextlib.suppress(OSError):
                self._tells.send(b"\0")

    def wait(self) -> None:
        """Act on signals, and tell the watchdog that the loops run; return when the agent has ended."""
        # Without this socket, a signal that comes right before the thread waits would be handled only after the wait,
        # since its Python handler runs when the thread runs again. The interpreter writes to the socket at once.
        hears, tells = socket.socketpair()
        with hears, tells:
            for end in (hears, tells):
                end.setblocking(False)
            signal.set_wakeup_fd(tells.fileno(), warn_on_full_buffer=False)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            self._tells = tells
            watched = watchdog_seconds(os.environ)
            while not self._ended.is_set():
                # A quarter of what systemd waits; sd_watchdog_enabled(3) recommends half at most.
                _wait_for(hears, watched / 4 if watched else LONGEST_WAIT)
                with contextlib.suppress(BlockingIOError):
                    hears.recv(4096)
                self._act_on_signals()
                if watched and not any(loop.hangs for loop in self._loops):
                    self._tell("WATCHDOG=1")
            signal.set_wakeup_fd(-1)

    def _act_on_signals(self) -> None:
        numbers = set(_taken(self._signals))
        if numbers & {signal.SIGTERM, signal.SIGINT}:
            self.stop()
            return
        if signal.SIGHUP in numbers:
            self.reset()
        if signal.SIGUSR2 in numbers:
            self._reports_wanted.put(None)

    def look_again(self, *, urgent: bool = False) -> None:
        """Something may have changed, libvirt's guests included; safe in any thread."""
        for loop in self._loops:
            loop.look(urgent=urgent)

    def outdated(self) -> None:
        """What was read from Placement has changed there; safe in any thread."""
        self._report_loop.look(urgent=True)

    def operation_ended(self) -> None:
        """An operation on a guest has ended, so there may be another one to do; safe in any thread."""
        self._bind_loop.look(urgent=True)

    def socket_lost(self) -> None:
        """The hook's socket is where the hook asks no more, so it is to be made again; safe in any thread."""
        self._bind_loop.look(urgent=True)

    def hurry(self) -> None:
        """The hook or a command asks, so a delayed or failed reporting pass is made soon; safe in any thread."""
        self._report_loop.hurry()

    def sign_of_life(self) -> None:
        """A request of the reporter has been answered, or has timed out; safe in any thread."""
        self._report_loop.sign_of_life()

    def reset(self) -> None:
        """Read the configuration again, soon."""
        self._hang_up.set()
        self._report_loop.look(urgent=True)

    def snapshot(self) -> Snapshot:
        """What is known now. Safe in any thread."""
        guests = None if self._guests is None else self._guests.status()
        return Snapshot(self._last, self._last_at, self._awaited.failure(PLACEMENT), guests, self._awaited.now())

    def _write_reports(self) -> None:
        # In a thread of its own, so that a report can be written, and the agent ended, while any other thread hangs.
        while True:
            self._reports_wanted.get()
            _taken(self._reports_wanted)
            try:
                self._write_report(self.snapshot())
            except Exception:
                LOG.exception("The report that SIGUSR2 asked for could not be written.")

    def _report(self) -> None:
        """One reporting pass, after the configuration was read again if a reload was requested."""
        if self._hang_up.is_set():
            self._read_again()
        try:
            done = self._reporter.run()
        finally:
            # A pass that failed may have seen and written something, too.
            view = self._reporter.view()
            if view is not self._viewed:
                self._viewed = view
                self._bind_loop.look(urgent=True)
        self._report_notices.replace(done.notes)
        self._meter.counted(census(done.tree, done.devices), waiting_by_class(done.tree))
        self._last, self._last_at = done, time.time()
        self._awaited.answered(PLACEMENT)
        offered = sum(each.offered for each in done.devices)
        LOG.debug("Pass: %d actions, %d requests, %.3f s.", len(done.actions), done.requests, done.seconds)
        self._tell(f"STATUS=Reporting {offered} of {len(done.devices)} USB devices below {done.root.name}")

    def _report_failed(self, error: Exception, attempt: int) -> None:
        if isinstance(error, Conflict) and attempt < _CONFLICTS_TO_BEAR:
            LOG.debug("%s", error)
            return
        self._awaited.failed(PLACEMENT, str(error))
        level = logging.ERROR if isinstance(error, (AccessRefused, Incompatible, ConfigError)) else logging.WARNING
        self._report_notices.add(Note(f"pass:{type(error).__name__}", str(error)), level)
        self._tell(f"STATUS=Waiting: {error}")

    def _bind_failed(self, error: Exception, attempt: int) -> None:
        assert self._socket is not None
        self._awaited.failed(LIBVIRT, str(error))
        self._bind_notices.replace([*self._socket.ensure(), Note("libvirt", str(error))])

    def _bind(self) -> float | None:
        """One binding pass, and a look at the hook's socket."""
        assert self._guests is not None and self._socket is not None
        notes = self._socket.ensure()
        binder = self._guests.binder
        again = binder.run()
        self._awaited.answered(LIBVIRT)
        self._meter.bound(Counter(binding.state.value for binding in binder.last.bindings))
        self._bind_notices.replace([*notes, *binder.last.notes])
        return again if self._socket.is_open else min(_LISTEN_AGAIN_SECONDS, again or _LISTEN_AGAIN_SECONDS)

    def _read_again(self) -> None:
        self._hang_up.clear()
        problems: tuple[str, ...] = ()
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            self._reporter.settings, self._pace = self._reload()
            LOG.info("The configuration was read again.")
        except ConfigError as error:
            problems = error.problems
        except Exception as error:
            # An error of oslo.log, or an unexpected one: it must not end the passes.
            problems = (f"{type(error).__name__}: {' '.join(str(error).split())}.",)
        # Not inside "except": oslo.log adds an exception that is being handled to every message.
        for problem in problems:
            LOG.error("The configuration stays as it was: %s", problem)
        self._tell("READY=1")

    def _tell(self, *lines: str) -> None:
        text = "\n".join(line.replace("\n", " ") for line in lines)
        self._systemd.notify(text.encode("ascii", "replace").decode("ascii"))


def _tell_bug(notices: Notices, what: str, error: Exception) -> None:
    notices.add(bug(what, error), logging.ERROR, exc_info=error)


def watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    """How long systemd's watchdog waits for a sign of life of this process; None when it does not watch it.

    From WATCHDOG_USEC and WATCHDOG_PID, as sd_watchdog_enabled(3) reads them. A loop may hang no longer than that.
    """
    wanted, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not (wanted.isascii() and wanted.isdigit()) or pid not in ("", str(os.getpid())):
        return None
    return int(wanted) / 1e6 or None


def hold_signals() -> None:
    """Block signals, so that only :meth:`Agent.wait` receives them. Call it before any thread is started.

    Threads inherit this, so every signal goes to the main thread. If the kernel gave a signal to another thread, the
    main thread's wait would not end, and no code would act on it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def launch(conf: cfg.ConfigOpts, agent: Agent) -> int:
    """Run *agent* in this process until a signal ends it.

    The caller must have chosen oslo.service's threading backend before this module was imported.
    """
    launcher = service.launch(conf, agent, no_fork=True)
    launcher.wait()
    if agent.hangs:
        # A normal exit of the interpreter would wait for threads that wait for another service.
        logging.shutdown()
        os._exit(0)
    return 0


def _taken(waiting: queue.SimpleQueue[_Entry]) -> list[_Entry]:
    """Take everything that is in *waiting* now; only one thread may take."""
    taken = []
    while not waiting.empty():
        taken.append(waiting.get())
    return taken


def _wait_for(stream: socket.socket, seconds: float) -> None:
    """Return when *stream* can be read, or after *seconds*."""
    poll = select.poll()  # select() takes no descriptor above 1023
    poll.register(stream, select.POLLIN)
    poll.poll(1000 * seconds)
