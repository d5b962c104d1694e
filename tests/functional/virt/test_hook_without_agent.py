"""The hook while the agent restarts, and where no agent runs: what it waits for, and what it does without an answer."""

import contextlib
import socket
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.domain_xml import a_domain_xml, a_hostdev_xml, an_alias
from tests.fixtures.fake_host import FakeHost, a_uuid
from tests.functional.virt.test_hook import ASKS, Hook
from usb_provider.virt.listener import Listener, ListenOptions
from usb_provider.virt.protocol import Allowed, Answer, Question, Refused

XML = a_domain_xml("vm", a_uuid("vm"), extra_specs=ASKS)
WITHOUT_USB = a_domain_xml("vm", a_uuid("vm"))


@contextlib.contextmanager
def agent_after(seconds: float, hook: Hook) -> Iterator[list[Question]]:
    """An agent that listens when these *seconds* are over, and what it is asked."""
    asked: list[Question] = []
    listeners: list[Listener] = []

    def answer(question: Question) -> Answer:
        asked.append(question)
        return Allowed()

    timer = threading.Timer(seconds, lambda: listeners.append(Listener(ListenOptions(hook.socket, 10.0), answer)))
    timer.start()
    try:
        yield asked
    finally:
        timer.join()
        for each in listeners:
            each.stop()


def canonical(xml: str) -> str:
    """*xml*, whatever prefixes it has for its namespaces."""
    return ET.canonicalize(xml, rewrite_prefixes=True)


def test_a_start_while_the_agent_restarts_waits_for_it(tmp_path: Path) -> None:
    hook = Hook(tmp_path, 20.0)
    with agent_after(1.0, hook) as asked:
        done = hook.run("prepare", XML)
        assert (done.returncode, done.stderr, len(asked)) == (0, "", 1)


def test_a_start_while_the_socket_of_an_agent_that_was_killed_is_left_waits_for_the_next_agent(tmp_path: Path) -> None:
    hook = Hook(tmp_path, 20.0)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(hook.socket))
    with agent_after(1.0, hook) as asked:
        assert (hook.run("prepare", XML).returncode, len(asked)) == (0, 1)


def test_a_start_that_an_agent_has_heard_before_it_ended_is_asked_again(tmp_path: Path) -> None:
    hook = Hook(tmp_path, 20.0)
    with socket.socket(socket.AF_UNIX) as ending:
        ending.bind(str(hook.socket))
        ending.listen()

        def end() -> None:
            peer, _ = ending.accept()
            with peer:
                while peer.recv(4096):
                    pass
            hook.socket.unlink()
            ending.close()

        thread = threading.Thread(target=end)
        thread.start()
        with agent_after(1.0, hook) as asked:
            assert (hook.run("prepare", XML).returncode, len(asked)) == (0, 1)
        thread.join()


def test_without_an_agent_a_start_that_asks_for_usb_is_refused_at_the_deadline_and_not_before(tmp_path: Path) -> None:
    began = time.monotonic()
    done = Hook(tmp_path, 1.5).run("prepare", XML)
    assert 1.5 <= time.monotonic() - began < 6.0
    assert done.returncode == 1
    assert "the flavor asks for a USB device, but the agent did not answer" in done.stderr


@pytest.mark.parametrize("operation", ["prepare", "started", "migrate", "restore"])
def test_without_an_agent_a_guest_without_usb_waits_for_nothing(tmp_path: Path, operation: str) -> None:
    began = time.monotonic()
    done = Hook(tmp_path, 25.0).run(operation, WITHOUT_USB)
    assert time.monotonic() - began < 10.0
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("has_hostdev", [True, False])
def test_without_an_agent_a_guest_from_a_save_file_goes_on_as_with_one(tmp_path: Path, has_hostdev: bool) -> None:
    hook = Hook(tmp_path, 25.0)
    devices = [a_hostdev_xml(an_alias()), a_hostdev_xml("hostdev0", device=9)][0 if has_hostdev else 1 :]
    xml = a_domain_xml("vm", a_uuid("vm"), extra_specs=ASKS, devices=devices)
    began = time.monotonic()
    restored = hook.run("restore", xml)
    assert (restored.returncode, restored.stderr) == (0, "")
    assert canonical(restored.stdout) == canonical(FakeHost().ask("restore", xml)["xml"]), "as the agent answers"
    prepared = hook.run("prepare", restored.stdout)
    assert (prepared.returncode, prepared.stdout, prepared.stderr) == (0, "", "")
    assert time.monotonic() - began < 10.0


@pytest.mark.parametrize("xml", ["", "<not-closed>", "\x00"])
def test_without_an_agent_a_restore_of_whatever_goes_on(tmp_path: Path, xml: str) -> None:
    done = Hook(tmp_path).run("restore", xml)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_restore_that_an_agent_of_an_older_release_refuses_goes_on(tmp_path: Path) -> None:
    hook = Hook(tmp_path)
    xml = a_domain_xml("vm", a_uuid("vm"), devices=[a_hostdev_xml(an_alias())])
    listener = Listener(ListenOptions(hook.socket), lambda question: Refused("No."))
    try:
        done = hook.run("restore", xml)
    finally:
        listener.stop()
    assert (done.returncode, done.stderr) == (0, "")
    assert "startupPolicy" in done.stdout
