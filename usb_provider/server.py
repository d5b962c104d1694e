"""A socket server that answers few peers at a time, each in a thread of its own, and turns further ones away at once.

What is answered to whom is virt/listener.py's for libvirt's hook, and metrics.py's for Prometheus.
"""

import socketserver
import threading
from typing import Any


class FewAtOnce(socketserver.ThreadingMixIn, socketserver.BaseServer):
    """To be mixed into a server, before its class: at most ``at_once`` peers keep it busy; ending waits for none."""

    daemon_threads = True
    block_on_close = False
    at_once: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._slots = threading.BoundedSemaphore(self.at_once)
        super().__init__(*args, **kwargs)

    def turned_away(self) -> None:
        """A peer came while ``at_once`` others were being answered; it gets nothing."""

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, if not too many peers keep us busy already."""
        if not self._slots.acquire(blocking=False):
            self.turned_away()
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one peer, and give its slot back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()
