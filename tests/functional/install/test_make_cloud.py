"""What "make cloud" does around its cloud: it stays without a terminal, ends at each signal, and leaves no process."""

import io
import os
import pty
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.lab.playground import WALK_THROUGH, first_steps
from tests.integration.lab.progress import Progress

ROOT = Path(__file__).parents[3]
PROGRAM = """
import subprocess, sys, time
from pathlib import Path
from tests.e2e.lab.stay import stay
from tests.integration.lab import child
from tests.integration.lab.errors import LabError

mark, kind = sys.argv[1:]

def start():
    # One that a database is like, one that does not end when asked to, and one that left its parent, as daemons do.
    child.start(["sh", "-c", "sleep 1000; true", mark], Path(mark))
    child.start(["bash", "-c", "trap '' TERM; while :; do sleep 1; done", mark], Path(mark))
    child.start(["sh", "-c", "setsid sh -c 'sleep 1000; true' $0 & exit", mark], Path(mark))
    if kind == "slow":
        print("starting", flush=True)
        subprocess.run(["sh", "-c", "sleep 1000; true", mark], check=True)
    if kind == "broken":
        raise LabError("ports [5000] are in use")
    print("there", flush=True)

sys.exit(stay(start))
"""


def left(mark: str) -> list[str]:
    """The programs that have *mark* among their arguments."""
    return [each.name() for each in psutil.process_iter(["cmdline"]) if mark in (each.info["cmdline"] or ())]


class Running:
    """The program above."""

    def __init__(self, directory: Path, kind: str = "good", stdin: int = subprocess.DEVNULL) -> None:
        self.mark = str(directory / uuid.uuid4().hex)
        # As a shell without job control starts it in the background, below nohup.
        command = ["sh", "-c", 'trap "" INT HUP; exec "$@"', "sh", sys.executable, "-c", PROGRAM, self.mark, kind]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
        )

    def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> tuple[int, str]:
        """Give its exit code and what it said on standard error, once it has ended; no program of its may be left."""
        _, errors = self.process.communicate(timeout=120)
        assert left(self.mark) == []
        return self.process.returncode, errors


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """The program, started and there, without a terminal."""
    program = Running(tmp_path)
    assert program.line() == "there"
    yield program
    program.process.kill()
    program.process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_without_a_terminal_it_stays_until_a_signal_also_where_the_shell_ignores_it(
    running: Running, number: signal.Signals
) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        running.process.wait(0.5)
    assert {"bash", "sh"} <= set(left(running.mark))
    running.process.send_signal(number)
    assert running.line() == f"{number.name} ends it."
    assert running.end() == (0, "")


def test_below_nohup_it_outlives_its_terminal(running: Running) -> None:
    running.process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        running.process.wait(0.5)
    running.process.terminate()
    assert running.end() == (0, "")


def test_a_signal_ends_a_start_that_is_still_under_way(tmp_path: Path) -> None:
    program = Running(tmp_path, "slow")
    assert program.line() == "starting"
    program.process.terminate()
    assert program.end()[0] == 0


def test_a_start_that_fails_says_why_in_one_sentence_and_ends_what_it_has_started(tmp_path: Path) -> None:
    assert Running(tmp_path, "broken").end() == (1, "ports [5000] are in use\n")


def test_at_a_terminal_enter_ends_it(tmp_path: Path) -> None:
    mark = str(tmp_path / uuid.uuid4().hex)
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-c", PROGRAM, mark, "good"])
    printed = b""
    while b"there" not in printed:
        printed += os.read(terminal, 1000)
    os.write(terminal, b"\n")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(terminal)
    assert left(mark) == []


def test_each_step_says_that_it_begins_and_how_long_it_took() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    with progress.step("Keystone starts"):
        pass
    with pytest.raises(OSError), progress.step("Nova starts"):
        raise OSError
    progress.stop()
    progress.say("no more")
    assert stream.getvalue().splitlines() == [
        "[  0 s] Keystone starts …",
        "[  0 s] Keystone starts: 0 s",
        "[  0 s] Nova starts …",
        "[  0 s] Nova starts: failed after 0 s",
    ]


def test_what_is_tried_before_it_says_that_it_is_there_only_reads() -> None:
    commands = [step.command for step in first_steps(WALK_THROUGH.read_text())]
    assert commands[:2] == ["source …/openrc", "hands look"]
    assert any("resource provider list" in command for command in commands)
    assert not [command for command in commands if re.search(r"create|delete|set |unplug|plug ", command)]
