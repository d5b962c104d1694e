"""The agent's two loops in one process: neither waits for the other, and neither can keep the agent from ending."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from oslo_service import backend

from tests.fixtures.testbed import eventually

backend.init_backend(backend.BackendType.THREADING)

from usb_provider.agent import loop as loops  # noqa: E402
from usb_provider.agent import process  # noqa: E402
from usb_provider.agent.binder import BinderPass  # noqa: E402
from usb_provider.agent.loop import Pace  # noqa: E402
from usb_provider.agent.process import Agent, GuestSide, watchdog_seconds  # noqa: E402
from usb_provider.agent.reporter import Pass  # noqa: E402
from usb_provider.exception import Unavailable  # noqa: E402
from usb_provider.model.reporting.provider import Root  # noqa: E402
from usb_provider.model.reporting.tree import ObservedTree  # noqa: E402

pytestmark = pytest.mark.alone

ROOT = Root("1d5f2b3e-4a6c-4f7a-9a55-6b1f7d0c9e11", "host1")


class Stub:
    """A reporter, a binder, a listener and a watcher in one, whose passes can be made to hang."""

    def __init__(self) -> None:
        self.reports: list[float] = []
        self.binds: list[float] = []
        self.report_hangs = threading.Event()
        self.bind_hangs = threading.Event()
        self.goes_on = threading.Event()
        self.last = BinderPass()
        self.is_lost = False
        self.stopped = 0
        self.listened = 0
        self.seen: object = object()

    def run(self) -> Any:
        raise NotImplementedError

    def view(self) -> object:
        return self.seen

    def stop(self) -> None:
        """It has ended."""
        self.stopped += 1

    def is_there(self) -> bool:
        return not self.is_lost


class Reporting(Stub):
    def run(self) -> Pass:
        self.reports.append(time.monotonic())
        if self.report_hangs.is_set():
            self.goes_on.wait(20)
        return Pass(ROOT, ObservedTree(ROOT), ())


class Host:
    """An agent in this process."""

    def __init__(self, delay: float = 0.0) -> None:
        self.stub = Reporting()
        binder: Any = Stub()
        binder.run = self._bind
        reporter: Any = self.stub
        admission: Any = self.stub
        side = GuestSide(binder, admission, self._listen)
        self.changed: Callable[[bool], None] = lambda urgent: None
        self.agent = Agent(reporter, self._watch, Pace(60.0, 0.02), lambda: reporter, guests=side, delay=delay)
        self.told: list[str] = []
        self.libvirt_is_away = False
        self.agent._systemd.notify = self.told.append

    def _watch(self, changed: Callable[[bool], None]) -> Any:
        self.changed = changed
        return self.stub

    def _listen(self) -> Any:
        self.stub.listened += 1
        self.stub.is_lost = False
        return self.stub

    def _bind(self) -> None:
        if self.libvirt_is_away:
            raise Unavailable("libvirt does not answer.")
        self.stub.binds.append(time.monotonic())
        if self.stub.bind_hangs.is_set():
            self.stub.goes_on.wait(20)

    def begin(self) -> None:
        """Start the loops as the service does, without taking this process's signals."""
        for loop in self.agent._loops:
            loop.start()

    def after(self, times: list[float], began: float, seconds: float = 1.0) -> bool:
        """Whether a pass began after *began*, within *seconds*."""
        latest = time.monotonic() + seconds
        while not any(each >= began for each in times) and time.monotonic() < latest:
            time.sleep(0.005)
        return any(each >= began for each in times)


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    yield host
    host.stub.goes_on.set()
    host.agent.stop()


def test_a_libvirt_that_hangs_does_not_delay_what_is_reported(host: Host) -> None:
    host.stub.bind_hangs.set()
    host.begin()
    assert host.after(host.stub.binds, 0.0)
    began = time.monotonic()
    host.agent.look_again(urgent=True)
    assert host.after(host.stub.reports, began)
    assert len(host.stub.binds) == 1, "it hangs, and nothing else has begun beside it"


def test_a_placement_that_hangs_does_not_delay_what_is_attached(host: Host) -> None:
    host.begin()
    assert host.after(host.stub.reports, 0.0)
    host.stub.report_hangs.set()
    began = time.monotonic()
    host.agent.look_again(urgent=True)
    assert host.after(host.stub.binds, began)
    time.sleep(0.1)
    began = time.monotonic()
    host.agent.look_again(urgent=True)
    assert host.after(host.stub.binds, began), "again, while the reporting pass still hangs"


def test_guests_are_looked_at_at_once_when_a_report_saw_something_new_and_not_else(host: Host) -> None:
    host.begin()
    assert host.after(host.stub.binds, 0.0)
    time.sleep(0.2)
    before = len(host.stub.binds)
    host.agent.outdated()
    time.sleep(0.2)
    assert len(host.stub.binds) == before
    host.stub.seen = object()
    began = time.monotonic()
    host.agent.outdated()
    assert host.after(host.stub.binds, began)


def test_while_an_agent_waits_after_a_power_cut_guests_are_looked_at_and_a_start_of_a_server_ends_the_wait() -> None:
    host = Host(delay=60.0)
    host.begin()
    assert host.after(host.stub.binds, 0.0)
    host.agent.look_again()  # a device appears while the host boots
    time.sleep(0.2)
    assert host.stub.reports == []
    began = time.monotonic()
    host.agent.hurry()  # as the hook's question does
    assert host.after(host.stub.reports, began)
    host.agent.stop()


def test_an_agent_that_waits_after_a_power_cut_can_be_ended_at_once() -> None:
    host = Host(delay=60.0)
    host.begin()
    began = time.monotonic()
    host.agent.stop()
    assert time.monotonic() - began < 2
    assert host.stub.reports == []
    assert not host.agent.hangs


@pytest.mark.parametrize("hangs", ["report_hangs", "bind_hangs", "both"])
def test_it_ends_in_seconds_whatever_hangs(hangs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_STOP_SECONDS", 0.3)
    host = Host()
    for name in ("report_hangs", "bind_hangs") if hangs == "both" else (hangs,):
        getattr(host.stub, name).set()
    host.begin()
    assert host.after(host.stub.binds, 0.0)
    assert host.after(host.stub.reports, 0.0)
    began = time.monotonic()
    host.agent.stop()
    assert time.monotonic() - began < 2
    assert host.agent.hangs
    host.stub.goes_on.set()


def test_the_watchdog_hears_of_it_only_while_both_loops_move(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    host = Host()
    host.begin()
    waits = threading.Thread(target=_wait_without_signals, args=(host.agent, monkeypatch), daemon=True)
    waits.start()
    eventually(lambda: "WATCHDOG=1" in host.told)
    host.stub.bind_hangs.set()
    host.agent.look_again(urgent=True)
    time.sleep(0.5)
    host.told.clear()
    time.sleep(0.2)
    assert "WATCHDOG=1" not in host.told
    host.stub.bind_hangs.clear()
    host.stub.goes_on.set()
    eventually(lambda: "WATCHDOG=1" in host.told)
    host.agent.stop()
    waits.join(5)
    assert not waits.is_alive()


def _wait_without_signals(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a main thread may have signals."""
    monkeypatch.setattr(process.signal, "set_wakeup_fd", lambda *arguments, **how: -1)
    monkeypatch.setattr(process.signal, "pthread_sigmask", lambda *arguments: set())
    agent.wait()


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "120000000"}, 120.0),
        ({"WATCHDOG_USEC": "120000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_systemd_says_how_long_it_waits_for_a_sign_of_life(environment: dict[str, str], seconds: float | None) -> None:
    assert watchdog_seconds(environment) == seconds


def test_a_question_ends_the_pause_after_a_failure(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Pass:
        host.stub.reports.append(time.monotonic())
        raise Unavailable("Placement does not answer.")

    monkeypatch.setattr(loops, "SHORTEST_WAIT", 0.0)
    monkeypatch.setattr(host.stub, "run", fail)
    host.begin()
    for _ in range(8):  # the pauses have become longer than a second by then
        eventually(lambda: host.agent._report_loop._pausing_since, what="it pauses")
        began = time.monotonic()
        host.agent.hurry()
        assert host.after(host.stub.reports, began)


def test_a_socket_that_was_removed_is_made_again_at_once(host: Host) -> None:
    host.begin()
    eventually(lambda: host.stub.listened == 1)
    host.stub.is_lost = True
    host.agent.socket_lost()
    eventually(lambda: host.stub.listened == 2)
    assert host.stub.stopped == 1


def test_what_the_agent_waits_for_is_said_with_its_first_moment_and_its_last_sentence(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentences = iter(f"Placement does not answer: {number}." for number in range(100))

    def fail() -> Pass:
        raise Unavailable(next(sentences))

    succeed = host.stub.run
    monkeypatch.setattr(loops, "SHORTEST_WAIT", 0.0)
    monkeypatch.setattr(host.stub, "run", fail)
    host.libvirt_is_away = True
    began = time.time()
    assert [(each.name, each.said) for each in host.agent._awaited.now()] == [
        ("Placement", "The agent has not read this host's devices from Placement yet."),
        ("libvirt", "The agent has not read the guests from libvirt yet."),
    ]
    host.begin()
    eventually(lambda: host.agent._awaited.now()[0].said.endswith(": 0."))
    first = host.agent._awaited.now()[0].since
    assert began <= first <= time.time()
    host.agent.hurry()
    eventually(lambda: host.agent._awaited.now()[0].said.endswith(": 1."))
    assert host.agent._awaited.now()[0].since == first
    assert host.agent._awaited.now()[1].said == "libvirt does not answer."
    assert host.agent._last_at is None
    host.libvirt_is_away = False
    monkeypatch.setattr(host.stub, "run", succeed)
    host.agent.look_again(urgent=True)
    eventually(lambda: not host.agent._awaited.now())
    assert host.agent._last_at is not None
