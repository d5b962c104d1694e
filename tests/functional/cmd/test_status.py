"""The command "status", against the agent's own listener: what it prints for programs and people."""

import contextlib
import errno
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fixtures.processes import Program, program
from usb_provider.cmd import running_agent
from usb_provider.cmd.running_agent import ask_agent
from usb_provider.exception import Unavailable
from usb_provider.model.binding.status import AwaitedNeighbour, BindingState, DeviceStatus, GuestStatus, RefusedStart
from usb_provider.virt.listener import Listener, ListenOptions
from usb_provider.virt.protocol import Answer, StatusAnswer

__all__ = ["program"]

GUESTS = (
    GuestStatus(
        "4cad3336-9f38-4bf2-aaab-199b82e458ea",
        "instance-1",
        (
            DeviceStatus("0a6a5c51", "host1_usb_key", BindingState.ATTACHED, 1_700_000_000.5, None, guest_port="0:2"),
            DeviceStatus("0a6a5c52", "host1_usb_disk", BindingState.WAITING, 1_700_000_001.0, "it is not plugged in"),
        ),
    ),
    GuestStatus("5cad3336-9f38-4bf2-aaab-199b82e458ea", None, (), RefusedStart("It has no USB port.", 1_700_000_002.0)),
)
PRINTED = """\
[
  {
    "uuid": "4cad3336-9f38-4bf2-aaab-199b82e458ea",
    "name": "instance-1",
    "devices": [
      {
        "provider_uuid": "0a6a5c51",
        "provider_name": "host1_usb_key",
        "state": "attached",
        "since": 1700000000.5,
        "reason": null,
        "guest_port": "0:2"
      },
      {
        "provider_uuid": "0a6a5c52",
        "provider_name": "host1_usb_disk",
        "state": "waiting",
        "since": 1700000001.0,
        "reason": "it is not plugged in"
      }
    ]
  },
  {
    "uuid": "5cad3336-9f38-4bf2-aaab-199b82e458ea",
    "name": null,
    "devices": [],
    "refused": {
      "reason": "It has no USB port.",
      "since": 1700000002.0
    }
  }
]
"""


@pytest.fixture
def answer() -> list[Answer]:
    """What the agent answers."""
    return [StatusAnswer(GUESTS, 1_700_000_003.0)]


@pytest.fixture
def path(tmp_path: Path, program: Program, answer: list[Answer]) -> Iterator[Path]:
    """The socket on which it does."""
    path = tmp_path / "hook.sock"
    program.groups["hook"]["socket"] = str(path)
    listener = Listener(ListenOptions(path), lambda question: answer[0])
    yield path
    listener.stop()


def test_programs_get_the_same_json_as_ever(program: Program, path: Path) -> None:
    assert program.run("status", "--json").out == PRINTED


def test_people_get_a_line_for_each_device_and_each_refused_start(program: Program, path: Path) -> None:
    lines = [line.split() for line in program.run("status").out.splitlines()]
    assert ["Guest", "Device", "State", "Port", "Since", "Why"] in lines
    assert [line[:3] for line in lines if "instance-1" in line] == [
        ["instance-1", "host1_usb_key", "attached"],
        ["instance-1", "host1_usb_disk", "waiting"],
    ]
    assert [line[3] for line in lines if "attached" in line] == ["0:2"]
    (refused,) = [line for line in lines if "refused" in line]
    assert refused[0] == GUESTS[1].uuid
    assert refused[-5:] == ["It", "has", "no", "USB", "port."]


def test_a_start_that_only_came_too_early_is_named_with_the_command_that_repeats_it(
    program: Program, path: Path, answer: list[Answer]
) -> None:
    command = f"openstack server reboot --hard {GUESTS[1].uuid}"
    refused = RefusedStart("It is not plugged in.", 1_700_000_002.0, command)
    answer[0] = StatusAnswer((GuestStatus(GUESTS[1].uuid, None, (), refused),))
    (row,) = json.loads(program.run("status", "--json").out)
    assert row["refused"] == {"reason": "It is not plugged in.", "since": 1_700_000_002.0, "command": command}
    assert f"When what {GUESTS[1].uuid} lacks is there, start it: {command}" in program.run("status").out.splitlines()


def test_a_host_without_guests_is_said_to_have_none(program: Program, path: Path, answer: list[Answer]) -> None:
    answer[0] = StatusAnswer(())
    assert json.loads(program.run("status", "--json").out) == []
    assert program.run("status").out == "No guest on this host holds a USB device.\n"


UNREAD = AwaitedNeighbour("Placement", 1_700_000_000.0, "Keystone refuses the user name or the password.")


def test_a_host_of_which_nothing_is_known_is_not_said_to_have_no_guest(
    program: Program, path: Path, answer: list[Answer]
) -> None:
    answer[0] = StatusAnswer((), None, (UNREAD,))
    first, second = program.run("status").out.splitlines()
    assert first == "The agent shows no guest, since it does not know which guests hold a USB device now."
    assert second.startswith("The agent has waited for Placement since 2023-11-1")
    assert second.endswith(": Keystone refuses the user name or the password.")


def test_what_was_read_a_while_ago_is_said_to_be_of_then(program: Program, path: Path, answer: list[Answer]) -> None:
    answer[0] = StatusAnswer(GUESTS, None, (UNREAD,), 1_699_999_990.0)
    said = program.run("status").out
    assert "instance-1" in said
    assert "It last read Placement at 2023-11-1" in said.splitlines()[-1]


def test_programs_get_what_is_missing_where_they_ask_for_it_and_people_see_it_anyway(
    program: Program, path: Path, answer: list[Answer]
) -> None:
    answer[0] = StatusAnswer((), None, (UNREAD,), 5.5)
    done = program.run("status", "--json")
    assert json.loads(done.out) == []
    assert "The agent has waited for Placement since " in done.err
    assert json.loads(program.run("status", "--json", "--awaited").out) == {
        "guests": [],
        "hook_called_at": None,
        "awaited": [{"name": UNREAD.name, "since": UNREAD.since, "said": UNREAD.said}],
        "read_at": 5.5,
    }


def test_a_state_that_an_agent_found_when_it_started_is_said_to_be_at_least_as_old(
    program: Program, path: Path, answer: list[Answer]
) -> None:
    device = replace(GUESTS[0].devices[0], is_older=True)
    answer[0] = StatusAnswer((replace(GUESTS[0], devices=(device,)),))
    assert "at least since 2023-11-1" in program.run("status").out
    (row,) = json.loads(program.run("status", "--json").out)
    assert row["devices"][0]["since_at_least"] is True


def test_without_an_agent_it_says_what_to_do(program: Program, tmp_path: Path) -> None:
    program.groups["hook"]["socket"] = str(tmp_path / "none.sock")
    done = program.run("status")
    assert done.code == 1
    assert f"No agent answers at {tmp_path / 'none.sock'}" in done.err


# What answers


def test_what_is_asked_is_had_as_values(path: Path, answer: list[Answer]) -> None:
    assert ask_agent(path, 3.0) == answer[0]


@pytest.mark.parametrize("said", [b"{}", b"nonsense", b'{"guests": 1}', b'{"guests": [{}]}', b"[]", b"\xff"])
def test_what_is_not_the_agent_is_told_from_it(tmp_path: Path, said: bytes) -> None:
    with listening(tmp_path / "other.sock") as (path, server):
        threading.Thread(target=speak, args=(server, [said]), daemon=True).start()
        with pytest.raises(
            Unavailable, match=r"^The process that answers at .*other\.sock is not the agent; choose another"
        ):
            ask_agent(path, 3.0)


def test_an_agent_that_does_not_answer_this_user_says_nothing(tmp_path: Path) -> None:
    with listening(tmp_path / "hook.sock") as (path, server):
        threading.Thread(target=speak, args=(server, []), daemon=True).start()
        with pytest.raises(Unavailable, match=r"^The agent at .*hook\.sock does not answer this user; run this as"):
            ask_agent(path, 3.0)


def test_an_agent_that_says_a_byte_now_and_then_is_not_waited_for_any_longer(tmp_path: Path) -> None:
    with listening(tmp_path / "hook.sock") as (path, server):
        threading.Thread(target=speak, args=(server, [b" "] * 200), daemon=True).start()
        began = time.monotonic()
        with pytest.raises(
            Unavailable, match=r"^No agent answers at .*hook\.sock \(timed out\); systemctl restart usb-"
        ):
            ask_agent(path, 0.5)
        assert time.monotonic() - began < 2.0


@contextlib.contextmanager
def listening(path: Path) -> Iterator[tuple[Path, socket.socket]]:
    """A socket on which something else listens."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        yield path, server


def speak(server: socket.socket, parts: list[bytes]) -> None:
    """Say *parts* to the first peer, one after the other."""
    peer, _ = server.accept()
    with peer:
        while peer.recv(4096):
            pass
        for part in parts:
            try:
                peer.sendall(part)
            except OSError:
                return
            time.sleep(0.05)


def test_only_a_user_who_may_not_open_the_socket_is_told_to_be_root(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def denied(*words: object) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    with pytest.raises(Unavailable, match=r"starts it\.$"):
        running_agent.ask_agent(tmp_path / "none.sock")
    monkeypatch.setattr(running_agent, "_asked", denied)
    with pytest.raises(Unavailable, match=r"^This user may not ask the agent at .*; run this as root"):
        running_agent.ask_agent(tmp_path / "hook.sock")
