"""The agent's unix socket: one JSON object in, one out. The hook asks here, and so does "usb-provider status".

It decides nothing: agent/admission.py answers the operations. A peer that is not allowed, and a message that is too
large, malformed or slow, is dropped with a line in the log and never delays another peer.
"""

import contextlib
import dataclasses
import grp
import logging
import os
import pwd
import socket
import socketserver
import stat
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from usb_provider.exception import ConfigError
from usb_provider.model.text import printable
from usb_provider.server import BoundedThreadingMixIn
from usb_provider.virt.protocol import Allowed, Answer, HookCall, Question, encode_answer, parse_question

LOG = logging.getLogger(__name__)

MAX_BYTES = 1 << 20

TALK_SECONDS = 3.0
"""How long a peer may take to say its message, and to read its answer: the answer may take longer, a slow peer not."""

# From asm-generic/socket.h; Python has no name for it.
_SO_PEERGROUPS = 59
_MOST_GROUPS = 256

Answerer = Callable[[Question], Answer]


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """Where to listen, for whom, and for how many seconds at most one call may take, the wait for its turn included."""

    path: Path
    timeout: float = 3.0
    owner: str | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class _Allowed:
    """Who may ask: these users, and the members of these groups."""

    uids: frozenset[int]
    gids: frozenset[int]


@dataclass(frozen=True, slots=True)
class _Peer:
    """A process that asks: its user, and its groups."""

    uid: int
    gids: frozenset[int]


class Listener:
    """Answers on the socket until it is stopped, each peer in a thread of its own.

    :param lost: called once, in the listener's thread, when the socket is at its path no more: stop this one, and make
        another.
    """

    def __init__(self, options: ListenOptions, answer: Answerer, lost: Callable[[], None] = lambda: None) -> None:
        """Listen at once.

        :raises ConfigError: when the socket cannot be made where *options* say.
        :raises RuntimeError: when no thread can be started; the caller should try again later.
        """
        self._path = options.path
        uid, gid = _owner(options)
        allowed = _Allowed(
            uids=frozenset({0, os.geteuid(), *([] if uid is None else [uid])}),
            gids=frozenset([] if gid is None else [gid]),
        )
        try:
            _make_directory(options.path.parent, gid)
            _remove_dead(options.path)
            self._server = _Server(options, allowed, answer, lost)
            os.chmod(options.path, 0o660)
        except OSError as error:
            raise ConfigError(
                [
                    f"[hook]socket {options.path} cannot be created ({error.strerror}); choose a directory in which "
                    f"the agent's user may write."
                ]
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
        try:
            self._thread.start()
        except RuntimeError:
            # Else the next attempt would find the socket in use.
            self._server.server_close()
            options.path.unlink(missing_ok=True)
            raise

    def is_there(self) -> bool:
        """Whether the socket is still at its path: peers find it only there."""
        return self._server.is_there()

    def stop(self) -> None:
        """Stop listening and remove the socket, unless another one is at its path by now. Answers under way go on."""
        self._server.shutdown()
        is_there = self._server.is_there()
        self._server.server_close()
        self._thread.join()
        if is_there:
            with contextlib.suppress(OSError):
                self._path.unlink()


class _Server(BoundedThreadingMixIn, socketserver.UnixStreamServer):
    at_once = 16
    # The kernel's queue: a call that finds it full fails at once. Accepted calls wait in our own queue.
    request_queue_size = 256

    def __init__(self, options: ListenOptions, allowed: _Allowed, answer: Answerer, lost: Callable[[], None]) -> None:
        self._path = options.path
        self._lost = lost
        self._is_lost = False
        self.seconds = options.timeout
        self.answer = answer
        self._allowed = allowed
        self._strangers: set[int] = set()
        # The mode is set before any process can connect: it would be 0755 for a moment otherwise.
        old = os.umask(0o117)
        try:
            super().__init__(str(options.path), _Handler)
        finally:
            os.umask(old)
        self._made = _file_at(options.path)

    def is_there(self) -> bool:
        """Whether the socket is still at its path. While it is open, no other file can have its inode."""
        return _file_at(self._path) == self._made

    def service_actions(self) -> None:
        """Called twice a second: end what has taken too long, and see that the socket is there."""
        super().service_actions()
        if not self._is_lost and not self.is_there():
            self._is_lost = True
            self._lost()

    def verify_request(self, request: object, client_address: object) -> bool:
        """Whether the peer may ask; one that may not gets no turn."""
        assert isinstance(request, socket.socket)
        try:
            peer = _peer(request)
        except OSError as error:
            LOG.warning(
                "A process connected to the hook's socket, but the kernel does not tell which one: %s", error.strerror
            )
            return False
        if peer.uid in self._allowed.uids or self._allowed.gids & peer.gids:
            return True
        level = logging.DEBUG if peer.uid in self._strangers else logging.WARNING
        self._strangers.add(peer.uid)
        LOG.log(level, "A process of user %d connected to the hook's socket; the agent does not answer it.", peer.uid)
        return False

    def turned_away(self) -> None:
        """Say so: a guest may not start because of it."""
        LOG.warning("More than %d hook calls wait for an answer; one is dropped.", self.most_waiting)

    def waited_in_vain(self) -> None:
        """Say so, likewise."""
        LOG.warning("A hook call has waited for more than %.1f s for its turn; it is dropped.", self.seconds)

    def handle_error(self, request: object, client_address: object) -> None:
        """A failure of one answer is a bug of this package; the other answers go on."""
        LOG.exception("A hook call could not be answered.")


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        deadline = self.server.deadline(self.request)
        began = time.monotonic()
        heard_by = min(deadline, began + TALK_SECONDS)
        try:
            question = parse_question(_read(self.request, heard_by))
        except TimeoutError:
            LOG.warning(
                "A hook call was too slow (more than %.1f s); it is dropped.", min(self.server.seconds, TALK_SECONDS)
            )
            return
        except ValueError as error:
            LOG.warning("A hook call is dropped: %s.", printable(str(error), 200))
            return
        except OSError as error:
            LOG.debug("A hook call broke off: %s", error)
            return
        if isinstance(question, HookCall):
            left = deadline - time.monotonic()
            waited = self.server.seconds - left
            question = dataclasses.replace(question, seconds=max(0.0, min(question.seconds - waited, left)))
        answer = encode_answer(Allowed() if question is None else self.server.answer(question))
        with contextlib.suppress(OSError):
            self.request.settimeout(max(0.01, min(TALK_SECONDS, deadline - time.monotonic())))
            self.request.sendall(answer)


def _read(peer: socket.socket, deadline: float) -> bytes:
    """All that *peer* says until it ends.

    :raises TimeoutError: when it has not ended by *deadline*. :raises ValueError: when it says too much.
    """
    text = bytearray()
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        peer.settimeout(left)
        part = peer.recv(1 << 16)
        if not part:
            if time.monotonic() >= deadline:  # the server has cut it
                raise TimeoutError
            return bytes(text)
        text += part
        if len(text) > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES} bytes")


def _file_at(path: Path) -> tuple[int, int] | None:
    try:
        there = path.lstat()
    except OSError:
        return None
    return there.st_dev, there.st_ino


def _make_directory(path: Path, gid: int | None) -> None:
    """Make the socket's directory where it is not there: for the agent's user, and for those in the socket's group.

    One that is there stays as the operator, systemd or Kolla made it.
    """
    if path.is_dir():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(0o700)
    if gid is not None:
        os.chown(path, -1, gid)
    path.chmod(0o750)


def _remove_dead(path: Path) -> None:
    """Remove a socket that an agent left when it was killed.

    :raises ConfigError: when another agent listens on it, or when it is no socket.
    """
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConfigError(
                [
                    f"[hook]socket {path} is there and is no socket, so the agent does not replace it; choose another "
                    f"path."
                ]
            )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, contextlib.suppress(TimeoutError, BlockingIOError):
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            path.unlink()
            return
    raise ConfigError([f"[hook]socket {path} is in use by another agent; stop that one, or choose another path."])


def _peer(peer: socket.socket) -> _Peer:
    """Who connected, by the kernel (unix(7)).

    :raises OSError: when the kernel does not tell.
    """
    _, uid, gid = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    try:
        raw = peer.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_GROUPS * struct.calcsize("I"))
    except OSError as error:  # of a process in more groups, by a kernel before 4.13
        LOG.debug("The supplementary groups of a process of user %d cannot be told: %s", uid, error)
        raw = b""
    return _Peer(uid, frozenset({gid, *(group for (group,) in struct.iter_unpack("I", raw))}))


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
