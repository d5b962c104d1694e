"""The guests, by the last listing of libvirt and the events since then: one value that is replaced as a whole.

Asks libvirt nothing and decides nothing; virt/domain.py reads the guests and receives the events.
"""

import dataclasses
import enum
import threading
from collections.abc import Collection
from dataclasses import dataclass

from usb_provider.model.binding.guests import GuestsNow, RunningGuest
from usb_provider.model.reporting.plan import Note


class Happened(enum.Enum):
    """What an event of libvirt says about a guest.

    libvirt sends the same event for a guest that has been migrated live and for one whose migration was cancelled, and
    which goes on where it was (libvirt: qemuDomainRunningReasonToResumeEvent). Only the guest's state tells which.
    """

    STARTED = enum.auto()
    ARRIVED = enum.auto()
    HANDED_OVER_OR_NOT = enum.auto()
    ENDED = enum.auto()


@dataclass(frozen=True, slots=True)
class _Seen:
    """``latest``, and what the next read needs to know.

    :ivar arrived: UUIDs of guests that have arrived, among them those that no read has shown running yet.
    :ivar cancelled: UUIDs of running guests whose migration was cancelled, as of the last read.
    """

    latest: GuestsNow
    arrived: frozenset[str] = frozenset()
    cancelled: frozenset[str] = frozenset()

    def after(self, happened: Happened, uuid: str) -> "_Seen":
        """The same after an event."""
        latest, arrived, cancelled, it = self.latest, self.arrived, self.cancelled, frozenset({uuid})
        match happened:
            case Happened.ENDED:
                running = tuple(each for each in latest.running if each.guest.uuid != uuid)
                latest = dataclasses.replace(latest, running=running, ended=latest.ended | it)
                arrived, cancelled = arrived - it, cancelled - it
            case Happened.STARTED:
                latest = dataclasses.replace(latest, known=latest.known | it, ended=latest.ended - it)
                arrived, cancelled = arrived - it, cancelled - it
            case Happened.ARRIVED:
                latest = dataclasses.replace(latest, known=latest.known | it, ended=latest.ended - it)
                arrived, cancelled = arrived | it, cancelled - it
            case Happened.HANDED_OVER_OR_NOT:
                arrived |= it - cancelled
        shown = frozenset(each.guest.uuid for each in latest.running if each.guest.ours)
        return _Seen(dataclasses.replace(latest, arrived=arrived & shown), arrived, cancelled)


class Picture:
    """The last read and the events since. Safe to use from several threads; only one read at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen = _Seen(GuestsNow())
        self._arrived_before: frozenset[str] = frozenset()
        self._meanwhile: list[tuple[Happened, str]] = []

    @property
    def latest(self) -> GuestsNow:
        """The last read, as the events since then have changed it. Waits for nothing."""
        return self._seen.latest

    def begin(self) -> None:
        """A read begins; an event from here on may be newer than what the read shows."""
        with self._lock:
            self._arrived_before = self._seen.arrived
            self._meanwhile.clear()

    def read(
        self,
        running: Collection[RunningGuest],
        known: Collection[str],
        cancelled: Collection[str],
        notes: Collection[Note],
        unread: Collection[str] = (),
    ) -> GuestsNow:
        """What the read that began last shows, with the events that came meanwhile.

        A guest that has arrived is forgotten here when it has ended, has no hostdev of ours left, or has not arrived
        after all.

        :param cancelled: UUIDs of running guests that go on after a cancelled migration.
        :param unread: UUIDs of guests that run and whose XML is not understood.
        """
        with self._lock:
            shown = frozenset(each.guest.uuid for each in running if each.guest.ours)
            arrived = self._arrived_before & shown - frozenset(cancelled)
            latest = GuestsNow(tuple(running), frozenset(known), arrived, frozenset(), tuple(notes), frozenset(unread))
            seen = _Seen(latest, arrived, frozenset(cancelled))
            for happened, uuid in self._meanwhile:
                seen = seen.after(happened, uuid)
            self._seen = seen
            return seen.latest

    def happened(self, happened: Happened, uuid: str) -> None:
        """An event came."""
        with self._lock:
            self._meanwhile.append((happened, uuid))
            self._seen = self._seen.after(happened, uuid)
