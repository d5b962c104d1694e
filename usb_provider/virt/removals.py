"""Waits until libvirt says that a guest has released a device. Asks libvirt nothing itself."""

import contextlib
import threading
from collections.abc import Iterator


class Removal:
    """One device that a guest is to release.

    :ivar seen: libvirt has said that it is gone.
    :ivar lost: the connection is gone on which libvirt would have said so.
    """

    def __init__(self) -> None:
        self.seen = False
        self.lost = False
        self._woken = threading.Event()

    def wait(self, seconds: float) -> None:
        """Return as soon as it is ``seen`` or ``lost``, and after *seconds* anyway."""
        self._woken.wait(seconds)

    def wake(self, *, seen: bool) -> None:
        """It is ``seen``, or else ``lost``."""
        if seen:
            self.seen = True
        else:
            self.lost = True
        self._woken.set()


class Removals:
    """The removals that callers wait for, by guest and alias. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._expected: dict[tuple[str, str], Removal] = {}

    @contextlib.contextmanager
    def expected(self, guest_uuid: str, alias: str) -> Iterator[Removal]:
        """The removal to wait for. Enter it before asking libvirt to detach, since libvirt may be quick."""
        removal = Removal()
        with self._lock:
            self._expected[guest_uuid, alias] = removal
        try:
            yield removal
        finally:
            with self._lock:
                if self._expected.get((guest_uuid, alias)) is removal:
                    del self._expected[guest_uuid, alias]

    def seen(self, guest_uuid: str, alias: str) -> None:
        """libvirt says that the guest has released the device."""
        with self._lock:
            removal = self._expected.get((guest_uuid, alias))
        if removal is not None:
            removal.wake(seen=True)

    def lose(self) -> None:
        """libvirt sends no more events on the old connection."""
        with self._lock:
            removals = tuple(self._expected.values())
        for removal in removals:
            removal.wake(seen=False)
