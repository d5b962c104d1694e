"""Keeps something running until a signal or a person ends it, and then leaves no process behind.

It knows nothing of clouds: a test runs it with other programs.
"""

import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future

import psutil

from tests.e2e.lab.service import POOL
from tests.integration.lab.errors import LabError

_PR_SET_CHILD_SUBREAPER = 36
_GRACE_SECONDS = 2
"""Databases end in less. Nova's graceful stop takes half a minute, and it has nothing to save here."""
_STARTED, _ENTER = 0, 255
"""What is written where the interpreter writes the number of a signal. No signal has one of these numbers."""


def stay(start: Callable[[], None], *, before_the_end: Callable[[], None] = lambda: None) -> int:
    """Run *start* and stay until SIGTERM, SIGINT, SIGHUP or, at a terminal, Enter; give the process's exit code.

    A signal also ends *start* while it runs. A shell without job control has SIGINT ignored in what it starts in the
    background, and nohup has SIGHUP ignored: the first is heeded all the same, the second stays ignored.

    :param start: it must give up when a program that it started has ended.
    :param before_the_end: called once, before the programs are ended.
    """
    # A signal's Python handler runs when the main thread runs again. If the signal comes right before the thread waits,
    # that is never. The interpreter writes the signal's number into this socket at once.
    hears, tells = socket.socketpair()
    tells.setblocking(False)
    signal.set_wakeup_fd(tells.fileno())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    _adopt_orphans()
    starting = POOL.submit(start)
    starting.add_done_callback(lambda _: _write(tells, _STARTED))
    end = hears.recv(1)[0]
    failed = end == _STARTED and starting.exception() is not None
    if end == _STARTED and not failed:
        if _is_at_a_terminal():
            threading.Thread(target=_wait_for_enter, args=(tells,), daemon=True).start()
        end = hears.recv(1)[0]
    before_the_end()
    if failed:
        _tell(starting.exception())
    else:
        print(f"{'Enter' if end == _ENTER else signal.Signals(end).name} ends it.", flush=True)
    _end_children(starting)
    return int(failed)


def _write(tells: socket.socket, number: int) -> None:
    with contextlib.suppress(BlockingIOError):  # it is full of numbers that nothing waits for any more
        tells.send(bytes([number]))


def _is_at_a_terminal() -> bool:
    """Whether a person can press Enter: a process in the background would be stopped when it reads."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        return sys.stdin.isatty() and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    return False


def _wait_for_enter(tells: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sys.stdin.readline()
        _write(tells, _ENTER)


def _tell(error: BaseException | None) -> None:
    if isinstance(error, LabError):
        print(error, file=sys.stderr, flush=True)
    else:
        traceback.print_exception(error)


def _adopt_orphans() -> None:
    """Become the parent of each program whose own parent ends, so that a daemon is found too."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _has_children() -> bool:
    """Ask the kernel: a list that is read while a program passes from its parent to this process may lack it."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _end_children(starting: "Future[None]") -> None:
    """Return when *starting* has given up and no process below this one runs."""
    while not starting.done() or _has_children():
        children = psutil.Process().children(recursive=True)
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.terminate()
        _, alive = psutil.wait_procs(children, timeout=_GRACE_SECONDS)
        for child in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(alive, timeout=_GRACE_SECONDS)
        with contextlib.suppress(TimeoutError):
            starting.exception(timeout=0.1)
