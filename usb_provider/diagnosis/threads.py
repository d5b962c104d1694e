"""Threads with one time limit for all, so that a call that hangs does not delay a run. Knows nothing of checks."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

_T = TypeVar("_T")


class Threads:
    """Runs functions in parallel, and waits for each until *seconds* after this was made.

    The threads are daemons: one that hangs does not keep the process.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds
        self._started: list[threading.Thread] = []

    @property
    def unfinished(self) -> bool:
        """Whether a thread still runs."""
        return any(thread.is_alive() for thread in self._started)

    def start(self, name: str, function: Callable[[], _T]) -> Future[_T]:
        """Run *function* in a thread called ``doctor-``\\ *name*."""
        future: Future[_T] = Future()

        def fill() -> None:
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        thread = threading.Thread(target=fill, name=f"doctor-{name}", daemon=True)
        self._started.append(thread)
        thread.start()
        return future

    def result(self, future: Future[_T], late: Callable[[], _T], *, grace: float = 0.0) -> _T:
        """What *future* gives, or what *late* gives when it has not ended *grace* seconds after the time limit.

        Raises what the function in the thread raised.
        """
        wait([future], timeout=max(0.0, self._end + grace - time.monotonic()))
        return future.result() if future.done() else late()
