"""Where a guest that libvirt is about to start comes from: a save file, another host, or nowhere, as a new start.

libvirt's hook says "restore" or "migrate" first, and then "prepare". Refuses nothing: what follows is admission.py's.
"""

import threading
import time

from usb_provider.virt.hook import comes_from_save_file
from usb_provider.virt.protocol import Operation

_SECONDS = 120.0
"""How long "restore" or "migrate" counts: libvirt calls "prepare" in the same operation, after other hooks' scripts."""


class Arrivals:
    """What the hook has said lately of guests that come from elsewhere. Safe in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said: dict[str, tuple[Operation, float]] = {}

    def expect(self, guest_uuid: str, operation: Operation) -> None:
        """The hook was called with *operation*, "restore" or "migrate", for this guest."""
        now = time.monotonic()
        with self._lock:
            self._said = {uuid: said for uuid, said in self._said.items() if now - said[1] < _SECONDS}
            self._said[guest_uuid] = operation, now

    def is_restored(self, guest_uuid: str, xml: str) -> bool:
        """Whether the guest that is to start with *xml* comes from a save file; asked once, at "prepare".

        Where the agent was not asked before, as when it has just started, the XML tells it. A guest that arrives from
        another host at that moment is taken for one from a save file.
        """
        with self._lock:
            operation, said_at = self._said.pop(guest_uuid, (None, 0.0))
        if operation is None or time.monotonic() - said_at >= _SECONDS:
            return comes_from_save_file(xml)
        return operation is Operation.RESTORE
