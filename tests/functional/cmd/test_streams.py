"""What commands do to terminals, pipes and the user who interrupts them, whatever devices and Placement say.

:meth:`Program.run` checks for each that there is no traceback and nothing that a terminal would act on.
"""

import os
import pty
import re
import shlex
import signal
import subprocess
import threading

import pytest

from tests.fixtures.placement import PlacementServer
from tests.fixtures.processes import PROGRAM, Program, as_at_a_terminal, environment
from tests.fixtures.testbed import busy, eventually, needs_umockdev
from usb_provider.demo.description import usb_device
from usb_provider.demo.testbed import Testbed

pytestmark = [needs_umockdev, pytest.mark.usefixtures("testbed")]

TERMINAL_ESCAPES = "\x1b[31mAcme\x1b]0;owned\x07\u202e"


def test_hostile_devices_reach_no_terminal(
    placement: PlacementServer, testbed: Testbed, program: Program, root: str
) -> None:
    for port in ("1", "2"):
        path = testbed.add(usb_device("6666", "dead", port=port, serial="", manufacturer="", product=""))
        for name in ("serial", "manufacturer", "product"):
            text = f"{TERMINAL_ESCAPES}{port}[bold]{{0}}%s\r\n\u2028{name}\n"
            (testbed.directory / path.lstrip("/") / name).write_bytes(text.encode() + b"\xff\n")
    program.rules = [{"vendor_id": "6666", "port": "1"}]
    for words in (("devices",), ("devices", "--suggest"), ("plan", "--json"), ("sync",)):
        done = program.run("--debug", *words)  # checks what it prints
        assert done.code == 0
    found = program.run("devices", "--json").json[-1]
    assert found["serial"].startswith(TERMINAL_ESCAPES)  # as it is, for programs


def test_what_placement_says_reaches_no_terminal_raw(placement: PlacementServer, program: Program, key: str) -> None:
    program.use(placement)
    root = placement.create_root("host1\x1b[31m\u202e")
    program.groups["agent"]["root_provider_uuid"] = root
    for words in (("plan",), ("sync",)):
        assert program.run("--debug", *words).code == 0


def test_a_terminal_gets_colours_and_nothing_of_the_devices_own(testbed: Testbed, program: Program) -> None:
    path = testbed.add(usb_device(port="1", product=""))
    (testbed.directory / path.lstrip("/") / "product").write_bytes(TERMINAL_ESCAPES.encode())
    ours, theirs = pty.openpty()
    process = program.start("devices", stdout=theirs, TERM="xterm", COLUMNS="150", LINES="50")
    os.close(theirs)
    printed = b""
    try:
        while piece := os.read(ours, 65536):
            printed += piece
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert process.wait(10) == 0
    assert "1-1" in printed.decode()
    assert re.search(rb"\x1b\[[\d;]*m", printed)
    assert re.sub(rb"\x1b\[(\d+;)*\d+m", b"", printed).find(b"\x1b") < 0
    assert b"\x1b[31mAcme" not in printed
    assert "\u202e" not in printed.decode()


@pytest.mark.parametrize("variables", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "LANG": "C"}, {"NO_COLOR": "1"}])
def test_any_terminal_can_show_the_list(testbed: Testbed, program: Program, variables: dict[str, str]) -> None:
    testbed.add(usb_device(port="1", product="Schlüssel \N{KEY}" * 20))
    done = program.run("devices", configured=False, **variables)
    assert (done.code, done.err) == (0, "")
    assert "1-1" in done.out


@pytest.mark.parametrize(
    "words", [("devices",), ("devices", "--json"), ("devices", "--suggest"), ("plan", "--json"), ("plan", "--help")]
)
def test_a_reader_who_has_enough_is_no_mistake(
    testbed: Testbed, program: Program, root: str, key: str, words: tuple[str, ...]
) -> None:
    testbed.add(usb_device("0529", "0001", port="3"))
    reading, writing = os.pipe()
    os.close(reading)
    process = program.start(*words, stdout=writing)
    os.close(writing)
    _, complaints = process.communicate(timeout=30)
    assert (process.returncode, complaints) == (0, b"")


def test_the_first_line_of_a_long_list_can_be_had(testbed: Testbed, program: Program) -> None:
    busy(testbed)
    command = f"{shlex.join(PROGRAM)} devices | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, check=False, timeout=60, env=environment()
    )
    assert done.stdout.decode().split() == ["Port", "ID", "Device", "Offered", "as", "Why"]
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_interrupt_ends_a_command_without_a_word(
    placement: PlacementServer, program: Program, root: str, key: str
) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        asked.set()
        go_on.wait(20)

    placement.before("GET", hold)
    with as_at_a_terminal():
        process = program.start("plan", stdout=subprocess.PIPE)
    eventually(asked.is_set)
    process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=5)
    except subprocess.TimeoutExpired:
        # CPython sleeps through a signal that comes right before it waits for the answer; the user types it again.
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=5)
    finally:
        go_on.set()
    assert (process.returncode, out, err) == (130, b"", b"")
