"""Whose answer the hook takes, and what of it: a forged one never ends in a domain."""

import json
import os
import socket
import struct
from pathlib import Path

import pytest

from usb_provider.virt import hook

AGENT, STRANGER = 4711, 4712


class Peer:
    """A socket of which the kernel says that a process of *user* listens on it."""

    def __init__(self, user: int) -> None:
        self.user = user

    def getsockopt(self, level: int, name: int, size: int) -> bytes:
        assert (level, name) == (socket.SOL_SOCKET, socket.SO_PEERCRED)
        return struct.pack("3i", 99, self.user, self.user)


@pytest.mark.parametrize(
    ("user", "directory", "path", "mode", "is_trusted"),
    [
        (0, AGENT, AGENT, 0o755, True),
        (AGENT, AGENT, AGENT, 0o750, True),
        (AGENT, AGENT, STRANGER, 0o750, True),  # [hook]socket_owner
        (AGENT, 0, AGENT, 0o770, True),
        (AGENT, 0, AGENT, 0o1777, False),
        (STRANGER, AGENT, AGENT, 0o750, False),
        (STRANGER, AGENT, STRANGER, 0o777, False),
        (STRANGER, 0, STRANGER, 0o1777, False),
        (0, 0, 0, 0o1777, True),
    ],
)
def test_an_answer_is_taken_from_root_and_from_the_user_of_the_agent_alone(
    monkeypatch: pytest.MonkeyPatch, *, user: int, directory: int, path: int, mode: int, is_trusted: bool
) -> None:
    def owned_by(owner: int) -> os.stat_result:
        return os.stat_result((mode, 1, 1, 1, owner, 0, 0, 0, 0, 0))

    monkeypatch.setattr(hook, "SOCKET", "/some/hook.sock")
    monkeypatch.setattr(hook.os, "stat", lambda name: owned_by({"/some": directory}[name]))
    monkeypatch.setattr(hook.os, "lstat", lambda name: owned_by({"/some/hook.sock": path}[name]))
    if is_trusted:
        hook.check_peer(Peer(user))
    else:
        with pytest.raises(PermissionError, match=f"a process of user {user} listens there"):
            hook.check_peer(Peer(user))


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"null",
        b"nonsense",
        b"[" * 100_000,
        b'{"xml": 5}',
        b'{"refuse": ["no"]}',
        b'{"xml": "\\ud800"}',
        b'{"xml": "\xff"}',
        b"9" * 5000,
    ],
)
def test_what_is_no_answer_of_an_agent_is_none(answer: bytes) -> None:
    with pytest.raises(ValueError):
        hook.parsed(answer)


@pytest.mark.parametrize("answer", [{}, {"refuse": "No."}, {"xml": "<domain/>"}, {"of a newer agent": 1}])
def test_what_an_agent_answers_is_taken(answer: dict[str, object]) -> None:
    assert hook.parsed(json.dumps(answer).encode()) == answer


def test_a_stranger_who_listens_in_a_directory_of_all_gets_no_domain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "hook.sock"
    monkeypatch.setattr(hook, "SOCKET", str(path))
    monkeypatch.setattr(hook, "check_peer", refuse)
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(str(path))
        stranger.listen()
        with pytest.raises(PermissionError):
            hook.ask_once({"operation": "restore", "guest": "vm", "xml": "<secret/>"}, hook.time.monotonic() + 5)
        peer, _ = stranger.accept()
        with peer:
            assert peer.recv(100) == b""


def refuse(agent: socket.socket) -> None:
    raise PermissionError("a stranger")
