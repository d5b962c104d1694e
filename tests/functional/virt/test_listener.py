"""The agent's socket: many calls at once, few threads, slow peers, and who is answered."""

import contextlib
import grp
import json
import os
import pwd
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from usb_provider.exception import ConfigError
from usb_provider.virt.listener import Answerer, Listener, ListenOptions
from usb_provider.virt.protocol import Allowed, Answer, HookCall, Question, Refused

PREPARE = b'{"operation": "prepare", "guest": "vm", "xml": "<domain/>"}'


@contextlib.contextmanager
def listening(path: Path, answer: Answerer, *, timeout: float = 3.0, group: str | None = None) -> Iterator[None]:
    listener = Listener(ListenOptions(path, timeout, group=group), answer)
    try:
        yield
    finally:
        listener.stop()


def allow(question: Question) -> Answer:
    return Allowed()


def ask(path: Path, message: bytes = PREPARE) -> bytes:
    """What is answered; nothing where the call is dropped."""
    with socket.socket(socket.AF_UNIX) as peer, contextlib.suppress(ConnectionError):
        peer.connect(str(path))
        peer.sendall(message)
        peer.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: peer.recv(4096), b""))
    return b""


def ask_at_once(path: Path, number: int) -> list[bytes]:
    """What *number* calls at once are answered."""
    together, answers = threading.Barrier(number), list[bytes]()

    def call() -> None:
        together.wait()
        answers.append(ask(path))

    threads = [threading.Thread(target=call) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return answers


def test_sixty_four_calls_at_once_are_all_answered(tmp_path: Path) -> None:
    lock, at_once = threading.Lock(), [0]

    def answer(question: Question) -> Answer:
        with lock:
            at_once.append(at_once[-1] + 1)
        time.sleep(0.1)
        with lock:
            at_once.append(at_once[-1] - 1)
        return Allowed()

    with listening(tmp_path / "hook.sock", answer, timeout=30.0):
        assert ask_at_once(tmp_path / "hook.sock", 64) == [b"{}"] * 64
    assert 1 < max(at_once) <= 16


def test_a_call_whose_time_is_over_before_its_turn_comes_is_dropped_and_said_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, go_on = tmp_path / "hook.sock", threading.Event()

    def answer(question: Question) -> Answer:
        go_on.wait(10)
        return Allowed()

    with listening(path, answer, timeout=1.5):
        began = time.monotonic()
        answers = ask_at_once(path, 20)
        assert time.monotonic() - began < 4.0, "a hook waits no longer than it would anyway"
        go_on.set()
        assert answers == [b""] * 20
        dropped = "A hook call has waited for more than 1.5 s for its turn; it is dropped."
        assert [record.getMessage() for record in caplog.records].count(dropped) >= 4
        assert ask(path) == b"{}"


def test_more_calls_than_may_wait_are_dropped_and_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from usb_provider.virt import listener

    monkeypatch.setattr(listener._Server, "at_once", 1)
    monkeypatch.setattr(listener._Server, "most_waiting", 1)
    path, go_on = tmp_path / "hook.sock", threading.Event()

    def answer(question: Question) -> Answer:
        go_on.wait(10)
        return Allowed()

    with listening(path, answer):
        threading.Timer(0.5, go_on.set).start()
        assert sorted(ask_at_once(path, 4)) == [b"", b"", b"{}", b"{}"]
    assert "More than 1 hook calls wait for an answer; one is dropped." in caplog.text


def test_a_thread_that_cannot_be_started_costs_no_call_its_answer_and_no_turn_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, failures = tmp_path / "hook.sock", iter(range(40))
    start = threading.Thread.start

    def few(self: threading.Thread) -> None:
        if self.name == "peer" and next(failures, None) is not None:
            raise RuntimeError("can't start new thread")
        start(self)

    with listening(path, allow, timeout=30.0):
        monkeypatch.setattr(threading.Thread, "start", few)
        assert ask_at_once(path, 40) == [b"{}"] * 40
        assert next(failures, None) is None
        assert ask_at_once(path, 16) == [b"{}"] * 16


def test_a_failure_of_one_answer_costs_no_turn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def answer(question: Question) -> Answer:
        raise KeyError("a bug")

    path = tmp_path / "hook.sock"
    with listening(path, answer):
        assert ask_at_once(path, 20) == [b""] * 20
    with listening(path, allow):
        assert ask(path) == b"{}"
    assert "A hook call could not be answered." in caplog.text


def test_a_peer_that_sends_a_byte_now_and_then_is_given_up_when_its_time_is_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "hook.sock"
    with listening(path, allow, timeout=0.5), socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(path))
        began = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - began < 5.0:
                peer.sendall(b" ")
                time.sleep(0.02)
        assert time.monotonic() - began < 4.0
        assert "A hook call was too slow (more than 0.5 s); it is dropped." in caplog.text


def test_a_slow_peer_keeps_its_turn_for_seconds_however_long_an_answer_may_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from usb_provider.virt import listener

    monkeypatch.setattr(listener, "TALK_SECONDS", 0.5)
    path = tmp_path / "hook.sock"
    with listening(path, allow, timeout=30.0), contextlib.ExitStack() as stack:
        began = time.monotonic()
        for _ in range(16):
            slow = stack.enter_context(socket.socket(socket.AF_UNIX))
            slow.connect(str(path))
            slow.sendall(b"{")
        assert ask(path) == b"{}"
        assert time.monotonic() - began < 10.0
        assert "A hook call was too slow (more than 0.5 s); it is dropped." in caplog.text


def test_an_answer_is_told_how_long_the_hook_still_waits(tmp_path: Path) -> None:
    told: list[float] = []

    def answer(question: Question) -> Answer:
        assert isinstance(question, HookCall)
        told.append(question.seconds)
        return Allowed()

    path = tmp_path / "hook.sock"
    with listening(path, answer, timeout=5.0):
        for seconds in (b"4.0", b"9.0", b"0.001"):
            assert ask(path, PREPARE.replace(b"}", b', "seconds": ' + seconds + b"}")) == b"{}"
        assert ask(path) == b"{}", "a hook of an older release"
    assert 1.0 < told[0] <= 4.0
    assert 1.0 < told[1] <= 5.0, "no longer than the listener waits"
    assert told[2] <= 0.001
    assert told[3] == 0.0


def test_an_operation_that_this_agent_does_not_know_is_let_pass_and_not_asked_about(tmp_path: Path) -> None:
    asked: list[Question] = []

    def answer(question: Question) -> Answer:
        asked.append(question)
        return Refused("no")

    path = tmp_path / "hook.sock"
    with listening(path, answer):
        assert ask(path, b'{"operation": "attach", "guest": "vm", "xml": ""}') == b"{}"
        assert asked == []
        assert json.loads(ask(path)) == {"refuse": "no"}


def test_a_listener_whose_thread_cannot_be_started_leaves_the_socket_to_the_next_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    path = tmp_path / "hook.sock"
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError):
            Listener(ListenOptions(path), allow)
    with listening(path, allow):
        assert ask(path) == b"{}"


# What is at the path


def a_regular_file(path: Path) -> None:
    path.write_text("worth keeping")


def a_link(path: Path) -> None:
    path.with_name("target").write_text("worth keeping")
    path.symlink_to("target")


def a_link_to_nothing(path: Path) -> None:
    path.symlink_to("nothing")


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("make", [a_regular_file, a_link, a_link_to_nothing, a_fifo, Path.mkdir])
def test_what_is_no_socket_is_not_deleted(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "hook.sock"
    make(path)
    before = path.lstat()
    with pytest.raises(ConfigError, match="is no socket, so the agent does not replace it"):
        Listener(ListenOptions(path), allow)
    assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)


def test_what_another_program_has_put_in_the_place_of_the_socket_stays_there(tmp_path: Path) -> None:
    path = tmp_path / "hook.sock"
    with listening(path, allow):
        path.unlink()
        path.write_text("another's")
    assert path.read_text() == "another's"


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_directory_that_the_agent_makes_is_for_its_user_and_the_group_of_the_socket(
    tmp_path: Path, umask: int
) -> None:
    path, group = tmp_path / "a" / "b" / "hook.sock", grp.getgrgid(os.getgid()).gr_name
    before = os.umask(umask)
    try:
        with listening(path, allow, group=group):
            made = path.parent.stat()
            assert (stat.S_IMODE(made.st_mode), made.st_gid) == (0o750, os.getgid())
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
    finally:
        os.umask(before)


def test_a_directory_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    with listening(tmp_path / "hook.sock", allow):
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o711


# Who is answered

_ASK = """\
import os, socket, sys
path, user, group, *groups = sys.argv[1:]
os.setgroups([int(each) for each in groups])
os.setgid(int(group))
os.setuid(int(user))
peer = socket.socket(socket.AF_UNIX)
peer.connect(path)
try:
    peer.sendall(b'{"operation": "status"}')
    peer.shutdown(socket.SHUT_WR)
    print(peer.recv(100).decode())
except ConnectionError:  # it was closed before it was read
    print()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user wants root")
@pytest.mark.parametrize(
    ("group", "groups", "answered"),
    [("daemon", [], True), ("nogroup", ["daemon"], True), ("nogroup", ["sys"], False), ("nogroup", [], False)],
)
def test_members_of_the_group_that_the_operator_named_are_answered_and_no_others(
    group: str, groups: list[str], answered: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)  # every user may look into it
        path = Path(name) / "hook.sock"
        with listening(path, lambda question: Refused(type(question).__name__), group="daemon"):
            assert (path.group(), stat.S_IMODE(path.stat().st_mode)) == ("daemon", 0o660)
            path.chmod(0o666)  # so that it is not the file's mode that keeps others off
            numbers = [pwd.getpwnam("nobody").pw_uid, *(grp.getgrnam(each).gr_gid for each in (group, *groups))]
            words = [sys.executable, "-I", "-S", "-c", _ASK, str(path), *map(str, numbers)]
            said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    assert said == ('{"refuse": "StatusQuestion"}' if answered else "")


@pytest.mark.parametrize("replaced", [False, True])
def test_a_socket_that_was_removed_is_noticed_and_what_took_its_place_is_left_alone(
    tmp_path: Path, replaced: bool
) -> None:
    path, lost = tmp_path / "hook.sock", threading.Event()
    listener = Listener(ListenOptions(path), allow, lost.set)
    time.sleep(1.2)
    assert listener.is_there()
    assert not lost.is_set()
    path.unlink()
    if replaced:
        path.write_text("another program's")
    assert lost.wait(2.0)
    assert not listener.is_there()
    listener.stop()
    assert path.exists() == replaced
