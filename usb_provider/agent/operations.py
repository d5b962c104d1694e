"""Runs the work on guests, each guest's in a thread of its own: a guest that hangs keeps no other waiting.

The binder decides the work and uses its results; this module knows neither libvirt nor devices.
"""

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol


class Operations(Protocol):
    """Runs the binder's work; a test has one without threads."""

    def start(self, guest_uuid: str, work: Callable[[], None]) -> None:
        """Begin *work*, which must not raise, for a guest that has none under way."""

    def under_way(self) -> Collection[str]:
        """Guests whose work has not ended."""

    def longer_than(self, seconds: float) -> tuple[str, ...]:
        """Guests whose work has taken longer than *seconds*, each given once."""


@dataclass(slots=True)
class _Work:
    began: float
    is_told: bool = False


class GuestThreads:
    """A daemon thread for each guest that has work, as many as there are such guests.

    :param ended: called in that thread when work has ended.
    """

    def __init__(self, ended: Callable[[], None]) -> None:
        self._ended = ended
        self._lock = threading.Lock()
        self._works: dict[str, _Work] = {}

    def start(self, guest_uuid: str, work: Callable[[], None]) -> None:
        """Begin *work*. :raises RuntimeError: when no thread can be started; try again later."""
        with self._lock:
            self._works[guest_uuid] = _Work(time.monotonic())
        try:
            threading.Thread(
                target=self._run, args=(guest_uuid, work), name=f"guest-{guest_uuid[:8]}", daemon=True
            ).start()
        except RuntimeError:
            self._remove(guest_uuid)
            raise

    def under_way(self) -> Collection[str]:
        """Guests whose work has not ended."""
        with self._lock:
            return frozenset(self._works)

    def longer_than(self, seconds: float) -> tuple[str, ...]:
        """Guests whose work has taken longer than *seconds*, each given once."""
        latest = time.monotonic() - seconds
        with self._lock:
            late = [uuid for uuid, work in self._works.items() if not work.is_told and work.began < latest]
            for uuid in late:
                self._works[uuid].is_told = True
        return tuple(late)

    def _run(self, guest_uuid: str, work: Callable[[], None]) -> None:
        try:
            work()
        finally:
            self._remove(guest_uuid)
            self._ended()

    def _remove(self, guest_uuid: str) -> None:
        with self._lock:
            del self._works[guest_uuid]
