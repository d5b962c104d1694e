"""Connections to libvirt: one to read on, and one for each change that is under way.

They are opened and closed in threads of their own, each within a time limit: a libvirtd that accepts a connection and
never answers delays its caller for a known time, and keeps one thread. virt/domain.py says what a connection is.
"""

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from typing import Generic, Protocol, TypeVar

LOG = logging.getLogger(__name__)

_SPARES = 2
"""Idle connections that are kept for the next change."""


class Closable(Protocol):
    """A connection."""

    def is_alive(self) -> bool:
        """Whether it is still open, as far as this side knows; returns at once."""

    def close(self) -> None:
        """Close it; this may hang."""


_C = TypeVar("_C", bound=Closable)


class NotOpened(Exception):
    """The connection is not open; the caller should try again later. The message is the end of a sentence."""


class Connector(Generic[_C]):
    """Opens connections, one at a time, and closes them. Safe to use from several threads.

    :param seconds: how long opening may take, including the wait for another thread that opens one.
    :param answered: called when an attempt ends for which its caller no longer waits: libvirtd answers again.
    """

    def __init__(self, seconds: float, answered: Callable[[], None]) -> None:
        self._seconds = seconds
        self._answered = answered
        self._turn = threading.Lock()
        self._attempt: Future[_C] | None = None
        self._hung: threading.Thread | None = None
        self._ended = False
        self._all_closed = threading.Condition()
        self._closing = 0

    def open(self, opening: Callable[[], _C]) -> _C:
        """What *opening* gives. It may raise; it is not called while an earlier attempt still hangs.

        :raises NotOpened: when *opening* does not end in time.
        """
        deadline = time.monotonic() + self._seconds
        self._raise_if_hung()
        if not self._turn.acquire(timeout=self._seconds):
            raise self._late()
        try:
            self._raise_if_hung()
            return self._opened(opening, deadline)
        finally:
            self._attempt = None
            self._turn.release()

    def drop(self, connection: _C) -> None:
        """Close *connection* soon. The caller must not use it any more."""
        with self._all_closed:
            self._closing += 1
        try:
            threading.Thread(target=self._close, args=(connection,), name="libvirt-close", daemon=True).start()
        except RuntimeError as error:
            self._is_closed()
            LOG.warning("A connection to libvirt stays open, since no thread can be started to close it: %s", error)

    def close(self, seconds: float) -> None:
        """Open no more connections, and wait until those that are being closed are, but at most *seconds*."""
        self._ended = True
        attempt = self._attempt
        if attempt is not None:
            attempt.cancel()
        with self._all_closed:
            self._all_closed.wait_for(lambda: not self._closing, seconds)

    @staticmethod
    def ended() -> NotOpened:
        """What is raised after :meth:`close`."""
        return NotOpened("is not asked any more, since the agent ends")

    def _opened(self, opening: Callable[[], _C], deadline: float) -> _C:
        attempt: Future[_C] = Future()
        # In this order: close() marks the end first, and then cancels the attempt that it sees.
        self._attempt = attempt
        if self._ended:
            raise self.ended()
        thread = threading.Thread(target=self._try, args=(attempt, opening), name="libvirt-open", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise NotOpened(f"cannot be asked ({error})") from error
        try:
            return attempt.result(max(0.0, deadline - time.monotonic()))
        except (TimeoutError, CancelledError):
            if not attempt.cancel():
                return attempt.result()  # it ended at the last moment
            self._hung = thread
            raise self._late() from None

    def _try(self, attempt: "Future[_C]", opening: Callable[[], _C]) -> None:
        try:
            connection = opening()
        except Exception as error:
            if attempt.set_running_or_notify_cancel():
                attempt.set_exception(error)
            else:
                self._was_given_up()
            return
        if attempt.set_running_or_notify_cancel():
            attempt.set_result(connection)
        else:
            self._was_given_up()
            connection.close()

    def _was_given_up(self) -> None:
        self._hung = None
        self._answered()

    def _raise_if_hung(self) -> None:
        if self._hung is not None and self._hung.is_alive():
            raise self._late()

    def _late(self) -> NotOpened:
        return NotOpened(f"has not answered within {self._seconds:.0f} s; see whether libvirtd (or virtqemud) hangs")

    def _close(self, connection: _C) -> None:
        try:
            connection.close()
        finally:
            self._is_closed()

    def _is_closed(self) -> None:
        with self._all_closed:
            self._closing -= 1
            self._all_closed.notify_all()


class Connections(Generic[_C]):
    """The connection to read on, and spare ones for changes. Safe to use from several threads.

    A connection is closed only when no call uses it any more: libvirt would free it while the call still runs.

    :param open_reader: opens the one to read on.
    :param open_spare: opens one for a change.
    :param connector: what both are opened and closed with.
    """

    def __init__(self, open_reader: Callable[[], _C], open_spare: Callable[[], _C], connector: Connector[_C]) -> None:
        self._open_reader = open_reader
        self._open_spare = open_spare
        self._connector = connector
        self._lock = threading.Lock()
        self._reader: _C | None = None
        self._users: Counter[_C] = Counter()
        self._spares: list[_C] = []
        self._closed = False

    @contextlib.contextmanager
    def reading(self) -> Iterator[_C]:
        """The connection to read on, opened if there is none. Others may read on it at the same time.

        :raises NotOpened: when it cannot be opened in time.
        """
        reader = self._enter_reader()
        try:
            yield reader
        finally:
            self._leave_reader(reader)

    def lose(self, connection: _C) -> bool:
        """Read no more on *connection*. False when it was not the one to read on any more."""
        with self._lock:
            if self._reader is not connection:
                return False
            self._reader = None
            used = connection in self._users
        if not used:
            self._connector.drop(connection)
        return True

    def take(self) -> _C:
        """A connection for one change; give it to :meth:`give_back` afterwards.

        :raises NotOpened: when no spare connection is idle, and none can be opened in time.
        """
        while True:
            with self._lock:
                spare = self._spares.pop() if self._spares else None
            if spare is None:
                return self._connector.open(self._open_spare)
            if spare.is_alive():
                return spare
            self._connector.drop(spare)

    def give_back(self, connection: _C, *, lost: bool) -> None:
        """The change is done. *lost*: the connection is of no use any more."""
        with self._lock:
            keep = not lost and not self._closed and len(self._spares) < _SPARES
            if keep:
                self._spares.append(connection)
        if not keep:
            self._connector.drop(connection)

    def close(self, seconds: float) -> None:
        """Close all of them for good, and wait for that, but no longer than *seconds*."""
        with self._lock:
            self._closed = True
            connections, self._spares = self._spares, []
            if self._reader is not None and self._reader not in self._users:
                connections.append(self._reader)
            self._reader = None
        for connection in connections:
            self._connector.drop(connection)
        self._connector.close(seconds)

    def _enter_reader(self) -> _C:
        with self._lock:
            reader = self._used()
        if reader is not None:
            if reader.is_alive():
                return reader
            self.lose(reader)
            self._leave_reader(reader)
        opened = self._connector.open(self._open_reader)
        with self._lock:
            if self._reader is None and not self._closed:
                self._reader = opened
            reader = self._used()
        if reader is not opened:  # another thread was quicker, or the agent ends
            self._connector.drop(opened)
        if reader is None:
            raise self._connector.ended()
        return reader

    def _used(self) -> _C | None:
        """The connection to read on, with one more user. Call it with the lock held."""
        if self._reader is not None:
            self._users[self._reader] += 1
        return self._reader

    def _leave_reader(self, connection: _C) -> None:
        with self._lock:
            self._users[connection] -= 1
            if self._users[connection]:
                return
            del self._users[connection]
            lost = self._reader is not connection
        if lost:
            self._connector.drop(connection)
