"""The guests at this moment, for the answer to a start: read anew within a time limit, else as the last read had them.

The start waits for the answer, and libvirt may answer late or never. Decides nothing; admission.py asks.
"""

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from usb_provider.exception import UsbProviderError
from usb_provider.model.binding.guests import GuestsNow, RunningGuest

LOG = logging.getLogger(__name__)

_AT_ONCE = 4
"""How many reads may be under way. While libvirt answers none of them, each further start goes by the last read."""


class PresentGuests:
    """Reads the guests for a start. Safe in any thread.

    :param latest: the guests as last read; it waits for nothing.
    :param look_up: reads guests by UUID, one after the other; it may hang.
    """

    def __init__(
        self, latest: Callable[[], GuestsNow], look_up: Callable[[Iterable[str]], Iterator[RunningGuest]]
    ) -> None:
        self._latest = latest
        self._look_up = look_up
        self._turns = threading.BoundedSemaphore(_AT_ONCE)
        self._lock = threading.Lock()
        self._in_hook: Counter[str] = Counter()
        self._is_late = False

    @contextlib.contextmanager
    def in_hook(self, guest_uuid: str) -> Iterator[None]:
        """The hook of this guest waits meanwhile, so libvirt keeps the guest locked and no read asks for it."""
        with self._lock:
            self._in_hook[guest_uuid] += 1
        try:
            yield
        finally:
            with self._lock:
                self._in_hook -= Counter([guest_uuid])

    def running(self, besides: str, seconds: float) -> Sequence[RunningGuest]:
        """The guests that run, without *besides*, which starts. This takes *seconds* at most.

        What was not read in time is as the last read had it; the log says so once.
        """
        latest = self._latest()
        with self._lock:
            skipped = {besides, *self._in_hook}
        wanted = {each.guest.uuid for each in latest.running} | latest.known
        found = self._read(sorted(wanted - latest.ended - skipped), seconds)
        self._tell(found is None)
        if found is not None:
            return found
        return latest.running

    def _read(self, uuids: Sequence[str], seconds: float) -> Sequence[RunningGuest] | None:
        """The guests of *uuids* that run; None when libvirt does not give them in time."""
        if not self._turns.acquire(blocking=False):
            return None
        read: list[RunningGuest] = []
        done = threading.Event()

        def work() -> None:
            try:
                read.extend(self._look_up(uuids))
                done.set()
            except UsbProviderError as error:
                LOG.debug("%s", error)
            finally:
                self._turns.release()
                ended.set()

        ended = threading.Event()
        began = time.monotonic()
        try:
            threading.Thread(target=work, name="present-guests", daemon=True).start()
        except RuntimeError as error:
            self._turns.release()
            LOG.debug("No thread can be started to read the guests: %s", error)
            return None
        ended.wait(seconds)
        LOG.debug("%d guests were read for a start in %.3f s.", len(read), time.monotonic() - began)
        return tuple(read) if done.is_set() else None

    def _tell(self, is_late: bool) -> None:
        with self._lock:
            was_late, self._is_late = self._is_late, is_late
        said = "libvirt does not say in time which guests have a device, so a start is judged by the last read."
        if is_late and not was_late:
            LOG.warning("%s", said)
        elif was_late and not is_late:
            LOG.info("Resolved: %s", said)
