"""This host's guests by libvirt, on a daemon of plain values: what is read, attached, detached, missed and survived."""

import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.fixtures.libvirt_stub import CONSTANTS, Error, Guest, Libvirtd
from tests.unit.virt.conftest import CLOSE_SECONDS, OPEN_SECONDS
from usb_provider.exception import AttachRefused, DeviceGone, PortRefused, Unavailable

if TYPE_CHECKING:
    from usb_provider.virt.domain import LibvirtHost

OURS = "ua-usb-0a6a5c51-5b3c-4d0e-8a66-1d1f4f1d4b77"
XML = f"<hostdev mode='subsystem' type='usb'><alias name='{OURS}'/></hostdev>"
C = CONSTANTS
RUNNING, PAUSED = C["VIR_DOMAIN_RUNNING"], C["VIR_DOMAIN_PAUSED"]
CANCELLED = (RUNNING, C["VIR_DOMAIN_RUNNING_MIGRATION_CANCELED"])
STARTED, RESUMED, STOPPED = (C[f"VIR_DOMAIN_EVENT_{each}"] for each in ("STARTED", "RESUMED", "STOPPED"))
HANDED_OVER = (RESUMED, C["VIR_DOMAIN_EVENT_RESUMED_MIGRATED"])
ENDED = (STOPPED, C["VIR_DOMAIN_EVENT_STOPPED_DESTROYED"])
BOOTED = (STARTED, C["VIR_DOMAIN_EVENT_STARTED_BOOTED"])
ARRIVALS = [
    (STARTED, C["VIR_DOMAIN_EVENT_STARTED_MIGRATED"]),
    (STARTED, C["VIR_DOMAIN_EVENT_STARTED_RESTORED"]),
    (STARTED, C["VIR_DOMAIN_EVENT_STARTED_FROM_SNAPSHOT"]),
    (RESUMED, C["VIR_DOMAIN_EVENT_RESUMED_FROM_SNAPSHOT"]),
    HANDED_OVER,
]


def in_background(call: Callable[[], object]) -> "Call":
    return Call(call)


class Call:
    """A call in a thread of its own, and how it ended."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.error: Exception | None = None
        self._call = call
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._call()
        except Exception as error:
            self.error = error

    def ends(self, seconds: float = 5.0) -> bool:
        self._thread.join(seconds)
        return not self._thread.is_alive()


def soon(met: Callable[[], bool]) -> bool:
    """Whether *met* comes true within a moment."""
    deadline = time.monotonic() + 5.0
    while not met() and time.monotonic() < deadline:
        time.sleep(0.005)
    return met()


def running(host: "LibvirtHost") -> dict[str, bool]:
    """The names of the guests that run, and whether each is busy, by a read."""
    return {each.guest.name: each.busy for each in host.guests().running}


# What is read


def test_guests_that_run_are_running_and_the_others_are_known(host: "LibvirtHost", libvirtd: Libvirtd) -> None:
    on, off = libvirtd.start("on", OURS), libvirtd.start("off", running=False)
    now = host.guests()
    assert [(each.guest.uuid, len(each.guest.ours), each.busy) for each in now.running] == [(on.uuid, 1, False)]
    assert now.known == {on.uuid, off.uuid}
    assert (now.arrived, now.ended, now.notes) == (frozenset(), frozenset(), ())


@pytest.mark.parametrize("reason", ["MIGRATION", "FROM_SNAPSHOT", "SAVE", "STARTING_UP", "POSTCOPY"])
def test_a_guest_that_is_on_its_way_in_is_busy(host: "LibvirtHost", libvirtd: Libvirtd, reason: str) -> None:
    libvirtd.start("vm", state=(PAUSED, C[f"VIR_DOMAIN_PAUSED_{reason}"]))
    libvirtd.start("asleep", state=(PAUSED, C["VIR_DOMAIN_PAUSED_USER"]))
    assert running(host) == {"vm": True, "asleep": False}


def test_a_guest_with_a_job_is_busy(host: "LibvirtHost", libvirtd: Libvirtd) -> None:
    libvirtd.start("vm", job=C["VIR_DOMAIN_JOB_UNBOUNDED"])
    assert running(host) == {"vm": True}


def test_a_guest_whose_monitor_is_stuck_is_busy_and_is_not_asked_for_its_job(
    host: "LibvirtHost", libvirtd: Libvirtd
) -> None:
    occupied = C["VIR_DOMAIN_CONTROL_OCCUPIED"]
    stuck = libvirtd.start("stuck", control=(occupied, 0, 30_000))
    libvirtd.start("quick", control=(occupied, 0, 3))
    assert running(host) == {"stuck": True, "quick": False}
    assert "jobInfo" not in stuck.asked, "libvirt would wait 30 s for the guest"


def test_a_domain_that_cannot_be_read_is_left_alone_and_the_others_are_read(
    host: "LibvirtHost", libvirtd: Libvirtd
) -> None:
    strange = libvirtd.start("strange", xml="<not-closed>")
    libvirtd.start("vm")
    now = host.guests()
    assert [each.guest.name for each in now.running] == ["vm"]
    assert strange.uuid in now.known
    assert now.unread == {strange.uuid}
    (note,) = now.notes
    assert note.topic == f"domain:{strange.uuid}"
    assert note.text.startswith(f"The agent ignores domain {strange.uuid}: the XML cannot be read (")
    strange.xml = None
    now = host.guests()
    assert (now.notes, now.unread) == ((), frozenset())


def test_a_guest_that_ends_while_it_is_read_is_not_running(
    host: "LibvirtHost", libvirtd: Libvirtd, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = libvirtd.start("vm")

    def end(self: Guest) -> str:
        self.running = False
        raise Error("Requested operation is not valid: domain is not running", C["VIR_ERR_OPERATION_INVALID"])

    monkeypatch.setattr(Guest, "shown", end)
    assert running(host) == {}
    assert guest.uuid in host.guests().known


# Who has arrived


@pytest.mark.parametrize(("event", "detail"), ARRIVALS)
def test_a_guest_that_came_from_elsewhere_has_arrived_until_it_has_none_of_its_hostdevs_left(
    host: "LibvirtHost", libvirtd: Libvirtd, event: int, detail: int
) -> None:
    guest = libvirtd.start("vm", OURS)
    host.guests()
    libvirtd.tell(guest, event, detail)
    assert host.guests().arrived == {guest.uuid}
    assert host.guests().arrived == {guest.uuid}
    guest.aliases.clear()
    assert host.guests().arrived == frozenset()
    guest.aliases.append(OURS)  # attached here, and alive
    assert host.guests().arrived == frozenset()


def test_a_guest_that_was_started_here_has_not_arrived(host: "LibvirtHost", libvirtd: Libvirtd) -> None:
    guest = libvirtd.start("vm", OURS)
    host.guests()
    libvirtd.tell(guest, *BOOTED)
    assert host.guests().arrived == frozenset()


@pytest.mark.parametrize("when", ["before the read", "during the read", "after the read", "after the guest has slept"])
def test_a_cancelled_migrations_event_makes_no_live_device_dead(
    host: "LibvirtHost", libvirtd: Libvirtd, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    guest = libvirtd.start("vm", OURS)
    host.guests()
    guest.state = CANCELLED
    if when == "before the read":
        libvirtd.tell(guest, *HANDED_OVER)
    if when == "during the read":
        show = Guest.shown

        def tell(self: Guest) -> str:
            monkeypatch.undo()
            libvirtd.tell(self, *HANDED_OVER)
            return show(self)

        monkeypatch.setattr(Guest, "shown", tell)
    assert host.guests().arrived == frozenset()
    if when.startswith("after"):
        libvirtd.tell(guest, *HANDED_OVER)
        assert host.latest.arrived == frozenset()
    if when == "after the guest has slept":
        guest.state = (RUNNING, C["VIR_DOMAIN_RUNNING_UNPAUSED"])
    assert host.guests().arrived == frozenset()


def test_a_guest_that_comes_back_after_a_cancelled_migration_has_arrived(
    host: "LibvirtHost", libvirtd: Libvirtd
) -> None:
    guest = libvirtd.start("vm", OURS, state=CANCELLED)
    host.guests()
    libvirtd.tell(guest, *ENDED)
    libvirtd.tell(guest, *ARRIVALS[0])
    guest.state = (RUNNING, C["VIR_DOMAIN_RUNNING_MIGRATED"])
    libvirtd.tell(guest, *HANDED_OVER)
    assert host.guests().arrived == {guest.uuid}


def test_a_guest_that_arrives_while_the_others_are_read_has_arrived_at_the_next_read(
    host: "LibvirtHost", libvirtd: Libvirtd, monkeypatch: pytest.MonkeyPatch
) -> None:
    libvirtd.start("other")
    arriving = libvirtd.start("vm", OURS, running=False)
    show = Guest.shown

    def arrive(self: Guest) -> str:
        libvirtd.tell(arriving, *ARRIVALS[1])
        return show(self)

    monkeypatch.setattr(Guest, "shown", arrive)
    assert host.guests().arrived == frozenset(), "the read does not show it running"
    monkeypatch.undo()
    arriving.running = True
    assert host.guests().arrived == {arriving.uuid}


def test_a_guest_that_has_ended_has_arrived_no_more(host: "LibvirtHost", libvirtd: Libvirtd) -> None:
    guest = libvirtd.start("vm", OURS)
    host.guests()
    libvirtd.tell(guest, *ARRIVALS[1])
    guest.running = False
    assert host.guests().arrived == frozenset()
    guest.running = True  # started anew; the event is still to come
    assert host.guests().arrived == frozenset()


# What is known between two reads


def test_a_guest_that_ends_between_two_reads_is_not_running_any_more(host: "LibvirtHost", libvirtd: Libvirtd) -> None:
    guest = libvirtd.start("vm", OURS)
    libvirtd.start("other")
    host.guests()
    libvirtd.tell(guest, *ENDED)
    assert [each.guest.name for each in host.latest.running] == ["other"]
    assert (host.latest.ended, host.latest.known) == ({guest.uuid}, set(libvirtd.guests))
    libvirtd.tell(guest, *BOOTED)
    assert host.latest.ended == frozenset()


def test_what_was_last_read_is_had_at_once_while_libvirtd_hangs(host: "LibvirtHost", libvirtd: Libvirtd) -> None:
    libvirtd.start("vm")
    now = host.guests()
    libvirtd.stop()
    reads = in_background(host.guests)
    assert not reads.ends(0.05)
    assert host.latest == now
    assert not reads.ends(0.0)
    libvirtd.go_on()
    assert reads.ends()


def test_every_event_is_cause_to_look_again(host: "LibvirtHost", libvirtd: Libvirtd, changed: threading.Event) -> None:
    guest = libvirtd.start("vm", OURS)
    host.guests()
    for tell in (
        lambda: libvirtd.tell(guest, *BOOTED),
        lambda: libvirtd.tell_removed(guest, OURS),
        lambda: libvirtd.tell_added(guest, "hostdev0"),
        libvirtd.restart,
    ):
        changed.clear()
        tell()
        assert changed.is_set()


def test_a_guest_is_looked_up_while_the_hook_of_another_waits(host: "LibvirtHost", libvirtd: Libvirtd) -> None:
    thief, off = libvirtd.start("thief"), libvirtd.start("off", running=False)
    strange = libvirtd.start("strange", xml="<not-closed>")
    host.guests()
    libvirtd.start("starts", running=False, in_hook=threading.Event())
    reads = in_background(host.guests)
    assert not reads.ends(0.05), "a listing waits for the guest that starts"
    thief.aliases.append("hostdev0")
    asked = [thief.uuid, off.uuid, strange.uuid, "00000000-0000-4000-8000-00000000ffff"]
    assert [[each.alias for each in found.guest.hostdevs] for found in host.look_up(asked)] == [["hostdev0"]]


def test_a_guest_that_was_started_since_the_last_read_is_known(host: "LibvirtHost", libvirtd: Libvirtd) -> None:
    host.guests()
    guest = libvirtd.start("vm")
    libvirtd.tell(guest, *BOOTED)
    assert host.latest.known == {guest.uuid}


# Attach and detach


def test_a_hostdev_is_attached_and_detached(host: "LibvirtHost", libvirtd: Libvirtd) -> None:
    guest = libvirtd.start("vm")
    host.attach(guest.uuid, XML)
    assert guest.aliases == [OURS]
    detaching = in_background(lambda: host.detach(guest.uuid, OURS, 30.0))
    assert soon(lambda: not guest.aliases)
    libvirtd.tell_removed(guest, "ua-usb-another")
    assert not detaching.ends(0.05), "libvirt has not said that it is gone"
    libvirtd.tell_removed(guest, OURS)
    assert detaching.ends()
    assert detaching.error is None


def test_a_hostdev_that_is_gone_already_is_detached(host: "LibvirtHost", libvirtd: Libvirtd) -> None:
    host.detach(libvirtd.start("vm").uuid, OURS, 30.0)


def test_a_detach_whose_event_was_missed_has_worked_when_the_hostdev_is_gone(
    host: "LibvirtHost", libvirtd: Libvirtd
) -> None:
    guest = libvirtd.start("vm", OURS)
    host.detach(guest.uuid, OURS, 0.05)
    assert guest.aliases == []


def test_a_guest_that_does_not_let_go_is_told_of(host: "LibvirtHost", libvirtd: Libvirtd) -> None:
    guest = libvirtd.start("vm", OURS, keeps=True)
    with pytest.raises(AttachRefused, match=rf"^The guest has not released {OURS} in 0 s\.$"):
        host.detach(guest.uuid, OURS, 0.05)


def test_a_detach_that_cannot_be_seen_to_have_worked_has_not(host: "LibvirtHost", libvirtd: Libvirtd) -> None:
    guest = libvirtd.start("vm", OURS, xml="<not-closed>")
    with pytest.raises(
        AttachRefused, match=rf"cannot see whether the guest has released {OURS}: the XML cannot be read"
    ):
        host.detach(guest.uuid, OURS, 0.05)


@pytest.mark.parametrize("changes", ["attach", "detach"])
@pytest.mark.parametrize(
    ("error", "raised", "sentence"),
    [
        (Error("no USB port", C["VIR_ERR_OPERATION_FAILED"]), AttachRefused, "libvirt says: no USB port."),
        (
            Error("XML error: Duplicate USB address bus 0 port 2", C["VIR_ERR_XML_ERROR"]),
            PortRefused,
            "libvirt says: XML error: Duplicate USB address bus 0 port 2.",
        ),
        (
            Error("internal error: usb port 2 (bus usb.0) not found (in use?)", C["VIR_ERR_INTERNAL_ERROR"]),
            PortRefused,
            "libvirt says: internal error: usb port 2 (bus usb.0) not found (in use?).",
        ),
        (Error("internal error: no", C["VIR_ERR_INTERNAL_ERROR"]), AttachRefused, "libvirt says: internal error: no."),
        (Error("not running", C["VIR_ERR_OPERATION_INVALID"]), DeviceGone, "The guest has ended: not running."),
        (Error("no such", C["VIR_ERR_NO_DOMAIN"]), DeviceGone, "The guest has ended: no such."),
        (
            Error("closed", C["VIR_ERR_INTERNAL_ERROR"], C["VIR_FROM_RPC"]),
            Unavailable,
            "libvirt at stub:///system does not answer: closed.",
        ),
    ],
)
def test_what_libvirt_says_of_a_change_is_told_by_the_next_step(
    host: "LibvirtHost", libvirtd: Libvirtd, *, changes: str, error: Error, raised: type[Exception], sentence: str
) -> None:
    guest = libvirtd.start("vm", OURS, fault=error)
    with pytest.raises(raised) as told:
        host.attach(guest.uuid, XML) if changes == "attach" else host.detach(guest.uuid, OURS, 0.05)
    assert str(told.value) == sentence


def test_a_guest_that_is_not_there_has_ended(host: "LibvirtHost") -> None:
    with pytest.raises(DeviceGone):
        host.attach("00000000-0000-4000-8000-00000000ffff", XML)


@pytest.mark.parametrize("still_there", [True, False])
def test_a_detach_during_which_libvirt_was_lost_has_not_worked(
    host: "LibvirtHost", libvirtd: Libvirtd, still_there: bool
) -> None:
    guest = libvirtd.start("vm", OURS, keeps=still_there)
    host.guests()
    detaching = in_background(lambda: host.detach(guest.uuid, OURS, 30.0))
    assert soon(lambda: "detach" in guest.asked)
    libvirtd.restart()
    assert detaching.ends(), "it does not wait for an event that cannot come"
    assert isinstance(detaching.error, Unavailable)


def test_a_detach_for_which_nothing_tells_any_more_that_it_has_worked_has_not(
    host: "LibvirtHost", libvirtd: Libvirtd
) -> None:
    """The connection with the events is lost, the one that detaches is not."""
    guest = libvirtd.start("vm", OURS, keeps=True)
    host.guests()
    detaching = in_background(lambda: host.detach(guest.uuid, OURS, 30.0))
    assert soon(lambda: "detach" in guest.asked)
    next(each for each in libvirtd.connections if each.callbacks).lose()
    assert detaching.ends()
    assert isinstance(detaching.error, Unavailable)


@pytest.mark.usefixtures("opening_has_time")
def test_any_number_of_guests_that_hang_keep_no_other_guest_from_being_read_and_served(
    host: "LibvirtHost", libvirtd: Libvirtd
) -> None:
    hanging = [libvirtd.start(f"hangs-{number}", hangs=threading.Event()) for number in range(16)]
    well = libvirtd.start("well")
    calls = [in_background(lambda uuid=guest.uuid: host.attach(uuid, XML)) for guest in hanging]
    assert soon(lambda: all("attach" in guest.asked for guest in hanging))
    served = in_background(lambda: (host.guests(), host.attach(well.uuid, XML)))
    assert served.ends()
    assert len(host.latest.running) == 17
    assert well.aliases == [OURS]
    assert not any(call.ends(0.0) for call in calls)


# A libvirtd that goes away


def test_after_a_restart_of_libvirtd_the_next_read_is_fine_and_events_come_again(
    host: "LibvirtHost", libvirtd: Libvirtd
) -> None:
    guest = libvirtd.start("vm", OURS)
    host.guests()
    libvirtd.restart()
    assert running(host) == {"vm": False}
    libvirtd.tell(guest, *ENDED)
    assert host.latest.ended == {guest.uuid}


def test_a_connection_that_is_lost_is_closed(host: "LibvirtHost", libvirtd: Libvirtd) -> None:
    guest = libvirtd.start("vm")
    for _ in range(5):
        host.guests()
        host.attach(guest.uuid, XML)
        libvirtd.restart()
    host.guests()
    assert soon(lambda: len(libvirtd.connections) <= 2), libvirtd.connections


def test_a_libvirtd_that_does_not_run_is_told_of(host: "LibvirtHost", libvirtd: Libvirtd) -> None:
    libvirtd.refuses = Error("Failed to connect socket\n", C["VIR_ERR_SYSTEM_ERROR"])
    for call in (host.guests, host.version, host.hostname):
        with pytest.raises(
            Unavailable, match=r"^libvirt at stub:///system does not answer: Failed to connect socket\.$"
        ):
            call()
    libvirtd.refuses = None
    assert (host.version(), host.hostname()) == ((9, 0, 0), "compute1")


def test_a_libvirtd_that_accepts_and_never_answers_is_given_up(host: "LibvirtHost", libvirtd: Libvirtd) -> None:
    libvirtd.stop()
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"^libvirt at stub:///system has not answered within 0 s"):
        host.guests()
    assert time.monotonic() - began < 2.0


@pytest.mark.alone
def test_while_libvirtd_hangs_each_call_fails_at_once_and_one_thread_waits(
    host: "LibvirtHost", libvirtd: Libvirtd
) -> None:
    guest = libvirtd.start("vm", OURS)
    libvirtd.stop()
    with pytest.raises(Unavailable):
        host.guests()
    began = time.monotonic()
    for call in (
        host.guests,
        host.version,
        lambda: host.attach(guest.uuid, XML),
        lambda: host.detach(guest.uuid, OURS, 5.0),
    ):
        with pytest.raises(Unavailable):
            call()
    assert time.monotonic() - began < 3 * OPEN_SECONDS, "none waits as long as the first"
    assert (libvirtd.opening, libvirtd.opened) == (1, 1)


def test_many_calls_at_a_libvirtd_that_hangs_all_end_in_time_and_one_thread_waits(
    host: "LibvirtHost", libvirtd: Libvirtd
) -> None:
    guest = libvirtd.start("vm", OURS)
    libvirtd.stop()
    began = time.monotonic()
    calls = [in_background(lambda: host.attach(guest.uuid, XML)) for _ in range(20)]
    assert all(call.ends() for call in calls)
    assert all(isinstance(call.error, Unavailable) for call in calls)
    assert time.monotonic() - began < 2.0
    assert libvirtd.opening == 1


def test_when_libvirtd_goes_on_the_next_call_is_fine_and_no_connection_is_left_behind(
    host: "LibvirtHost", libvirtd: Libvirtd, changed: threading.Event
) -> None:
    libvirtd.start("vm")
    libvirtd.stop()
    with pytest.raises(Unavailable):
        host.guests()
    changed.clear()
    libvirtd.go_on()
    assert changed.wait(5.0), "it is time to look again"
    assert running(host) == {"vm": False}
    assert soon(lambda: len(libvirtd.connections) == 1)


def test_a_thread_that_cannot_be_started_makes_libvirt_unavailable_and_no_more(
    host: "LibvirtHost", libvirtd: Libvirtd, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(Unavailable, match=r"cannot be asked \(can't start new thread\)"):
            host.guests()
    assert running(host) == {}


# The end


def test_closing_leaves_no_connection_and_opens_none(host: "LibvirtHost", libvirtd: Libvirtd) -> None:
    guest = libvirtd.start("vm")
    host.guests()
    host.attach(guest.uuid, XML)
    host.close()
    assert libvirtd.connections == []
    with pytest.raises(Unavailable, match="is not asked any more, since the agent ends"):
        host.guests()
    assert libvirtd.connections == []


@pytest.mark.parametrize("doing", ["nothing", "reading", "opening", "attaching", "detaching"])
@pytest.mark.parametrize("hangs", [True, False])
def test_closing_ends_in_time_whatever_is_going_on(
    libvirtd: Libvirtd, monkeypatch: pytest.MonkeyPatch, doing: str, hangs: bool
) -> None:
    module = sys.modules["usb_provider.virt.domain"]
    monkeypatch.setattr(module, "_OPEN_SECONDS", 30.0)
    host: LibvirtHost = module.LibvirtHost("stub:///system", lambda: None)
    guest = libvirtd.start("vm", OURS, keeps=True, hangs=threading.Event() if doing == "attaching" else None)
    if doing != "opening":
        host.guests()
    if doing in ("attaching", "detaching"):
        call = in_background(
            lambda: host.attach(guest.uuid, XML) if doing == "attaching" else host.detach(guest.uuid, OURS, 30.0)
        )
        assert soon(lambda: bool({"attach", "detach"} & set(guest.asked)))
    if hangs:
        libvirtd.stop()
    if doing in ("reading", "opening"):
        call = in_background(host.guests)
        time.sleep(0.02)
    began = time.monotonic()
    host.close()
    assert time.monotonic() - began < CLOSE_SECONDS + 1.0
    if doing == "opening":
        assert call.ends(), "it does not wait out its time"
    libvirtd.end()
    assert soon(lambda: libvirtd.connections == [])


def test_libvirts_event_loop_runs_once_and_goes_on_after_an_error(
    libvirtd: Libvirtd, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module = sys.modules["usb_provider.virt.domain"]
    went_on, ran = threading.Event(), []

    def run() -> None:
        ran.append(threading.current_thread())
        if len(ran) == 1:
            raise Error("poll failed", C["VIR_ERR_SYSTEM_ERROR"])
        went_on.set()
        threading.Event().wait()  # for good, as libvirt's own loop where nothing happens

    monkeypatch.setattr(sys.modules["libvirt"], "virEventRunDefaultImpl", run, raising=False)
    monkeypatch.setattr(module, "_event_loop", [])
    for _ in range(2):
        module.LibvirtHost("stub:///system", lambda: None)
    assert went_on.wait(5.0)
    assert len(set(ran)) == 1
    assert "libvirt's event loop failed; it goes on." in caplog.text
