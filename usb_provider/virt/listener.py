"""The agent's unix socket: one JSON object in, one out. The hook asks here, and so does "usb-provider status".

It decides nothing: what an operation is answered is the binder's. A peer that is not allowed, a message that is too
large, malformed or slow is dropped with a line in the log, and never holds up another.
"""

import contextlib
import grp
import logging
import os
import pwd
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usb_provider.exception import ConfigError
from usb_provider.model.text import printable
from usb_provider.server import FewAtOnce
from usb_provider.virt.protocol import Allowed, Answer, Question, encode_answer, parse_question

LOG = logging.getLogger(__name__)

MAX_BYTES = 1 << 20

Answerer = Callable[[Question], Answer]


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """Where to listen, for whom, and for how many seconds at most one message may take."""

    path: Path
    timeout: float = 3.0
    owner: str | None = None
    group: str | None = None


class Listener:
    """Answers on the socket until it is stopped, each peer in a thread of its own."""

    def __init__(self, options: ListenOptions, answer: Answerer) -> None:
        """Listen at once.

        :raises ConfigError: when the socket cannot be made where *options* say.
        """
        self._path = options.path
        uid, gid = _owner(options)
        allowed = frozenset({0, os.geteuid(), *({uid} if uid is not None else ())})
        try:
            options.path.parent.mkdir(parents=True, exist_ok=True)
            _remove_dead(options.path)
            self._server = _Server(options, allowed, answer)
            os.chmod(options.path, 0o660)
        except OSError as error:
            raise ConfigError(
                [f"[hook]socket {options.path} cannot be made ({error.strerror}); choose a directory that is ours."]
            ) from error
        try:
            if uid is not None or gid is not None:
                os.chown(options.path, -1 if uid is None else uid, -1 if gid is None else gid)
        except OSError as error:
            self._server.server_close()
            raise ConfigError(
                [
                    f"[hook]socket {options.path} cannot be given to [hook]socket_owner and socket_group "
                    f"({error.strerror}); let the agent's user chown, or unset both."
                ]
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.5,), name="hook", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and remove the socket."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        with contextlib.suppress(OSError):
            self._path.unlink()


class _Server(FewAtOnce, socketserver.UnixStreamServer):
    at_once = 16
    request_queue_size = 64

    def __init__(self, options: ListenOptions, allowed: frozenset[int], answer: Answerer) -> None:
        self.timeout_seconds = options.timeout
        self.allowed = allowed
        self.answer = answer
        self.strangers: set[int] = set()
        # The mode is set before anybody can connect: it would be 0755 for a moment otherwise.
        old = os.umask(0o117)
        try:
            super().__init__(str(options.path), _Handler)
        finally:
            os.umask(old)

    def turned_away(self) -> None:
        """Say so: a guest may not start because of it."""
        LOG.warning("More than %d hook calls at once; one is dropped.", self.at_once)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A failure of one answer is a bug here; the others go on."""
        LOG.exception("A hook call could not be answered.")


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        uid = _peer_uid(self.request)
        if uid not in self.server.allowed:
            level = logging.DEBUG if uid in self.server.strangers else logging.WARNING
            self.server.strangers.add(uid)
            LOG.log(level, "A process of user %d asked on the hook's socket; it is not answered.", uid)
            return
        try:
            question = parse_question(self._read())
        except TimeoutError:
            LOG.warning("A hook call was too slow (more than %.1f s); it is dropped.", self.server.timeout_seconds)
            return
        except ValueError as error:
            LOG.warning("A hook call is dropped: %s.", printable(str(error), 200))
            return
        except OSError as error:
            LOG.debug("A hook call broke off: %s", error)
            return
        answer = encode_answer(Allowed() if question is None else self.server.answer(question))
        with contextlib.suppress(OSError):
            self.request.settimeout(self.server.timeout_seconds)
            self.request.sendall(answer)

    def _read(self) -> bytes:
        deadline = time.monotonic() + self.server.timeout_seconds
        text = bytearray()
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.request.settimeout(left)
            part = self.request.recv(1 << 16)
            if not part:
                break
            text += part
            if len(text) > MAX_BYTES:
                raise ValueError(f"it has more than {MAX_BYTES} bytes")
        return bytes(text)


def _remove_dead(path: Path) -> None:
    """Remove a socket that an agent left when it was killed.

    :raises ConfigError: when somebody answers on it.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            path.unlink()
            return
    raise ConfigError([f"[hook]socket {path} is in use by another agent; stop that one, or choose another path."])


def _peer_uid(peer: socket.socket) -> int:
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", raw)[1])


def _owner(options: ListenOptions) -> tuple[int | None, int | None]:
    try:
        uid = pwd.getpwnam(options.owner).pw_uid if options.owner else None
    except KeyError as error:
        raise ConfigError([f"[hook]socket_owner names no user of this host: {options.owner}."]) from error
    try:
        gid = grp.getgrnam(options.group).gr_gid if options.group else None
    except KeyError as error:
        raise ConfigError([f"[hook]socket_group names no group of this host: {options.group}."]) from error
    return uid, gid
