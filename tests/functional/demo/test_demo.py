"""What a newcomer sees first: the show, run as it is typed, and ended in each way that a user may end it."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.fixtures.processes import PROGRAM, as_at_a_terminal, environment
from tests.fixtures.testbed import eventually, needs_umockdev

pytestmark = needs_umockdev


class Demo:
    """A demo that stays; its output goes to a file, and its standard input stays open."""

    def __init__(self, directory: Path, start: AbstractContextManager[None]) -> None:
        """Start it in the context of *start*, where the signals are as it shall find them."""
        self.state_dir = directory / "state"
        self._output = directory / "output"
        outside = environment()
        outside.pop("UMOCKDEV_DIR", None)
        with self._output.open("wb") as output, start:
            self.process = subprocess.Popen(
                [*PROGRAM, "demo", "--state-dir", self.state_dir],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=outside,
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    def wait_for(self, words: str) -> None:
        def said() -> bool:
            assert self.process.poll() is None, self.output
            return words in self.output

        eventually(said, 60, words)

    @property
    def placements(self) -> list[int]:
        """The processes that serve its Placement."""
        words = os.fsencode(self.state_dir / "placement")
        return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline") if words in _content(path)]

    @property
    def devices_directory(self) -> Path:
        """Where the files of its recorded devices are, by the commands that it prints."""
        found = re.search(r"UMOCKDEV_DIR=(\S+)", self.output)
        assert found is not None, self.output
        return Path(found[1])


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # the process has ended meanwhile
        return b""


@contextmanager
def _as_by_nohup() -> Iterator[None]:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


@contextmanager
def started(directory: Path, start: AbstractContextManager[None]) -> Iterator[Demo]:
    """A demo that is killed at the end, should it still run."""
    demo = Demo(directory, start)
    with demo.process:
        try:
            yield demo
        finally:
            demo.process.kill()


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    with started(tmp_path, as_at_a_terminal()) as made:
        yield made


def test_a_show_that_ends_gives_no_commands_for_a_placement_that_is_gone(tmp_path: Path) -> None:
    done = subprocess.run(
        [*PROGRAM, "demo", "--once", "--state-dir", tmp_path], capture_output=True, text=True, timeout=120, check=True
    )
    assert "instance 3: refused" in done.stdout
    assert "--os-cloud" not in done.stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_demo_that_is_ended_takes_its_placement_and_its_devices_along(
    demo: Demo, number: signal.Signals, code: int
) -> None:
    demo.wait_for("Live:")
    assert len(demo.placements) == 1
    assert demo.devices_directory.is_dir()
    demo.process.send_signal(number)
    assert demo.process.wait(20) == code, demo.output
    assert demo.placements == []
    assert not demo.devices_directory.exists()
    assert "Traceback" not in demo.output
    assert "Fatal" not in demo.output


def test_a_demo_that_is_ended_while_its_placement_starts_takes_it_along(demo: Demo) -> None:
    eventually(lambda: demo.placements, 30)
    demo.process.send_signal(signal.SIGTERM)
    assert demo.process.wait(20) == 143, demo.output
    eventually(lambda: not demo.placements)
    assert "Traceback" not in demo.output


def test_a_demo_that_nohup_started_outlives_its_terminal(tmp_path: Path) -> None:
    with started(tmp_path, _as_by_nohup()) as demo:
        demo.wait_for("Live:")
        demo.process.send_signal(signal.SIGHUP)
        demo.process.send_signal(signal.SIGTERM)
        assert demo.process.wait(20) == 143, demo.output
