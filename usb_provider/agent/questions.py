"""Questions to Placement whose answers a waiting hook needs in time: in parallel, and again while Placement is away.

It knows neither guests nor devices; admission.py decides what to ask and what follows from the answers.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, wait
from typing import TypeVar

from usb_provider.exception import AccessRefused, Unavailable

_MOST_WAITING = 8
"""How many answers may wait for a view, or for a Placement that is away, of the 16 that the listener gives at once.
Others are not held up by them.

libvirtd carries out five calls of one client at a time (max_client_requests in libvirtd.conf), and nova-compute is one.
"""

_PAUSE_SHARE = 0.1
"""How long an answer waits before it asks a Placement again that is away: this share of what one request may take."""


_First = TypeVar("_First")
_Other = TypeVar("_Other")


class Questions:
    """Asks Placement what an answer to the hook needs. Safe in any thread.

    :param askers: runs the requests.
    :ivar seconds: how long Placement may take for one request.
    """

    def __init__(self, askers: Executor, seconds: float) -> None:
        self._askers = askers
        self.seconds = seconds
        self._waiting = threading.BoundedSemaphore(_MOST_WAITING)

    @contextlib.contextmanager
    def turn_to_wait(self) -> Iterator[bool]:
        """Whether an answer may wait within the block: not where too many wait already."""
        may_wait = self._waiting.acquire(blocking=False)
        try:
            yield may_wait
        finally:
            if may_wait:
                self._waiting.release()

    def ask(
        self, first: Callable[[], _First], *others: Callable[[], _Other], until: float | None
    ) -> tuple[_First, list[_Other]]:
        """Placement's answers to parallel requests; they come, or fail, before the waiting hook gives up.

        A Placement that is away or hangs is asked again *until* then, by time.monotonic(); None is for once.

        :raises Unavailable: when one takes too long; that request ends by itself.
        """
        if until is None:
            return self._ask_once(first, others)
        with self.turn_to_wait() as may_wait:
            while True:
                try:
                    return self._ask_once(first, others)
                except AccessRefused:
                    raise
                except Unavailable:
                    left = until - time.monotonic()
                    if not may_wait or left <= 0:
                        raise
                    time.sleep(min(_PAUSE_SHARE * self.seconds, left))

    def _ask_once(
        self, first: Callable[[], _First], others: Sequence[Callable[[], _Other]]
    ) -> tuple[_First, list[_Other]]:
        one, more = self._askers.submit(first), [self._askers.submit(each) for each in others]
        ends = time.monotonic() + self.seconds
        if wait([one], self.seconds).not_done or wait(more, max(0.0, ends - time.monotonic())).not_done:
            raise Unavailable(
                f"Placement has not answered within {self.seconds:.1f} s; check whether it is overloaded."
            )
        return one.result(), [each.result() for each in more]
