"""What this host is called, by libvirt and by itself, asked in a thread of its own, since libvirt and resolvers hang.

It does not judge the names: model/reporting/root_check.py does.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

_WAIT_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class HostNames:
    """The names that this host has itself, and libvirt's name for it; none until libvirt has given one."""

    own: tuple[str, ...] = ()
    by_libvirt: str | None = None


class NamesInquiry:
    """Asks *names* when told to, and keeps the latest answer that has libvirt's name.

    :ivar latest: that answer. Safe to read in any thread.
    """

    def __init__(self, names: Callable[[], HostNames]) -> None:
        """Ask nothing yet."""
        self._names = names
        self._asking: threading.Thread | None = None
        self._is_answered = True
        self.latest = HostNames()

    def ask(self) -> None:
        """Ask again, and wait some seconds for the answer; at once where the last question had none in time."""
        if self._asking is not None and self._asking.is_alive():
            return
        waits, self._is_answered = self._is_answered, False
        # A daemon thread: it may hang when the agent ends.
        self._asking = threading.Thread(target=self._ask, name="hostname", daemon=True)
        self._asking.start()
        if waits:
            self._asking.join(_WAIT_SECONDS)

    def _ask(self) -> None:
        names = self._names()
        if names.by_libvirt is not None:
            self.latest, self._is_answered = names, True
