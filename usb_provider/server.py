"""A socket server that answers few peers at a time, each in a thread of its own; the others wait for their turn.

virt/listener.py answers libvirt's hook with it, and agent/metrics.py answers Prometheus.
"""

import contextlib
import socket
import socketserver
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any


@dataclass(eq=False, slots=True)
class _Peer:
    request: socket.socket
    address: object
    deadline: float


class BoundedThreadingMixIn(socketserver.BaseServer):
    """A mixin to put before a server's class. Ending waits for no peer.

    :cvar at_once: how many peers are answered at a time.
    :cvar most_waiting: how many more may wait; the server closes further connections at once.
    :cvar seconds: how long a peer may take in all, including the wait for its turn. Then its connection is cut.
    :cvar turn_seconds: how long its turn may take. Then its connection is cut, even if it still sends or reads.
    """

    at_once: int
    most_waiting = 256
    seconds: float
    turn_seconds = float("inf")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[_Peer] = deque()
        self._served: dict[socket.socket, _Peer] = {}
        self._threads = 0
        super().__init__(*args, **kwargs)

    def turned_away(self) -> None:
        """A peer came while ``most_waiting`` others waited; it gets nothing."""

    def waited_in_vain(self) -> None:
        """A peer's time is over before its turn came; it gets nothing."""

    def deadline(self, request: socket.socket) -> float:
        """The time, by time.monotonic(), at which the turn of *request*'s peer ends."""
        with self._lock:
            return self._served[request].deadline

    def process_request(self, request: object, client_address: object) -> None:
        """Queue the peer, to be answered when its turn comes."""
        assert isinstance(request, socket.socket)
        peer = _Peer(request, client_address, time.monotonic() + self.seconds)
        with self._lock:
            waits = len(self._waiting) < self.most_waiting
            if waits:
                self._waiting.append(peer)
        if waits:
            self._start_threads()
        else:
            self.turned_away()
            self.shutdown_request(request)

    def service_actions(self) -> None:
        """Called by serve_forever() twice a second and after each peer: end what has taken too long."""
        now = time.monotonic()
        with self._lock:
            late = [peer for peer in self._waiting if peer.deadline <= now]
            for peer in late:
                self._waiting.remove(peer)
            for peer in self._served.values():
                if peer.deadline <= now:
                    # Wakes its thread, which closes it.
                    with contextlib.suppress(OSError):
                        peer.request.shutdown(socket.SHUT_RDWR)
        for peer in late:
            self.waited_in_vain()
            self.shutdown_request(peer.request)
        self._start_threads()

    def server_close(self) -> None:
        """Stop listening, and close the connections of the peers that wait."""
        super().server_close()
        with self._lock:
            waiting, self._waiting = self._waiting, deque()
        for peer in waiting:
            self.shutdown_request(peer.request)

    def _start_threads(self) -> None:
        """Start a thread for a waiting peer if fewer than the limit run; if that fails, a later call tries again."""
        with self._lock:
            if not self._waiting or self._threads >= self.at_once:
                return
            self._threads += 1
        try:
            threading.Thread(target=self._take_turns, name="peer", daemon=True).start()
        except RuntimeError:
            with self._lock:
                self._threads -= 1

    def _take_turns(self) -> None:
        """Answer one peer after the other, until none waits."""
        try:
            while (peer := self._next()) is not None:
                self._take_turn(peer)
        except BaseException:
            with self._lock:
                self._threads -= 1
            raise

    def _take_turn(self, peer: _Peer) -> None:
        try:
            if peer.deadline <= time.monotonic():
                self.waited_in_vain()
            else:
                self.finish_request(peer.request, peer.address)
        except Exception:
            self.handle_error(peer.request, peer.address)
        finally:
            # Before it is closed: another connection may get its number then, and must not be cut.
            with self._lock:
                del self._served[peer.request]
            self.shutdown_request(peer.request)

    def _next(self) -> _Peer | None:
        with self._lock:
            if not self._waiting:
                self._threads -= 1
                return None
            peer = self._waiting.popleft()
            peer.deadline = min(peer.deadline, time.monotonic() + self.turn_seconds)
            self._served[peer.request] = peer
            return peer
