"""The hook as libvirt runs it, against the agent's own listener on a real socket."""

import contextlib
import errno
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
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.domain_xml import a_domain_xml, a_hostdev_xml, an_alias
from tests.fixtures.fake_host import FakeHost, a_uuid
from usb_provider.cmd.install_hook import hook_text
from usb_provider.exception import ConfigError
from usb_provider.virt.listener import MAX_BYTES, Listener, ListenOptions
from usb_provider.virt.protocol import Allowed, Refused

ASKS = {"resources:CUSTOM_USB_KEY": "1", "hw:usb_model": "qemu-xhci"}
TIMEOUT = 3.0


class Hook:
    """The hook, installed for a socket of its own."""

    def __init__(self, directory: Path, timeout: float = TIMEOUT) -> None:
        self.socket = directory / "hook.sock"
        self.path = directory / "usb-provider"
        self.path.write_text(hook_text(self.socket, timeout))
        self.path.chmod(0o755)

    def run(self, operation: str, xml: str = "", sub: str = "begin") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.path, "vm", operation, sub, "-"], input=xml, text=True, capture_output=True, timeout=30, check=False
        )


@pytest.fixture
def hook(tmp_path: Path) -> Hook:
    return Hook(tmp_path)


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


@pytest.fixture
def agent(hook: Hook, host: FakeHost) -> Iterator[Listener]:
    listener = Listener(ListenOptions(hook.socket, TIMEOUT), host.answer)
    yield listener
    listener.stop()


def _xml(**facts: object) -> str:
    return a_domain_xml("vm", a_uuid("vm"), **facts)  # type: ignore[arg-type]


def test_a_guest_that_holds_a_device_that_is_there_may_start(hook: Hook, host: FakeHost, agent: Listener) -> None:
    host.plug("1-2")
    host.hold("1-2", "vm")
    done = hook.run("prepare", _xml(extra_specs=ASKS))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_guest_that_holds_nothing_may_start(hook: Hook, agent: Listener) -> None:
    done = hook.run("prepare", _xml(usb_model="none"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("spoil", "facts", "sentence"),
    [
        (lambda host: host.unplug("1-2"), {}, "is allocated to this instance, but it is not plugged in."),
        (lambda host: None, {"usb_model": "none"}, "The instance has no USB controller for"),
        (lambda host: None, {"usb_model": "none"}, "set hw:usb_model=qemu-xhci in the flavor (nova 32 or newer)"),
        (lambda host: None, {"usb_model": None}, "The instance has no USB controller for"),
        (lambda host: None, {"usb_model": "piix3-uhci"}, "is a super-speed device, too fast for the instance's USB"),
        (
            lambda host: None,
            {"ports": 1, "devices": ["<input type='tablet' bus='usb'><address type='usb' bus='0' port='1'/></input>"]},
            "The instance has no free USB port for",
        ),
        (
            lambda host: setattr(host, "placement_up", False),
            {},
            "The agent cannot ask Placement what this instance holds",
        ),
    ],
)
def test_a_start_that_cannot_have_its_device_is_refused_in_one_sentence(
    hook: Hook, host: FakeHost, agent: Listener, *, spoil: object, facts: dict[str, object], sentence: str
) -> None:
    host.plug("1-2", speed="super")
    host.hold("1-2", "vm")
    spoil(host)  # type: ignore[operator]
    done = hook.run("prepare", _xml(extra_specs=ASKS, **facts))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("usb-provider: ")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.removeprefix("usb-provider: ").rstrip(".\n") in host.statuses()[-1].refused.reason


def test_a_device_that_another_guest_has_is_not_there_for_this_one(hook: Hook, host: FakeHost, agent: Listener) -> None:
    host.plug("1-2")
    host.start("other")
    host.hold("1-2", "other")
    host.binder.run()
    host.hold("1-2", "vm")
    done = hook.run("prepare", _xml(extra_specs=ASKS))
    assert done.returncode == 1
    assert "but another guest has it." in done.stderr
    assert "other " not in done.stderr.replace("another ", ""), "its owner may be another project"


def test_without_the_agent_only_a_guest_that_asks_for_usb_is_refused(hook: Hook) -> None:
    started = time.monotonic()
    refused = hook.run("prepare", _xml(extra_specs=ASKS))
    fine = hook.run("prepare", _xml(extra_specs={"hw:usb_model": "qemu-xhci"}))
    zero = hook.run("prepare", _xml(extra_specs={"resources:CUSTOM_USB_KEY": "0"}))
    suffixed = hook.run("prepare", _xml(extra_specs={"resources_USB1:CUSTOM_USB_KEY": "1"}))
    assert (refused.returncode, fine.returncode, zero.returncode, suffixed.returncode) == (1, 0, 0, 1)
    assert "the flavor asks for a USB device, but the agent did not answer" in refused.stderr
    assert fine.stderr == ""
    assert time.monotonic() - started < 4 * TIMEOUT


@pytest.mark.parametrize("operation", ["reconnect", "start", "stopped", "release", "attach", "nonsense"])
def test_other_operations_are_none_of_its_business(hook: Hook, operation: str) -> None:
    done = hook.run(operation, _xml(extra_specs=ASKS, devices=[a_hostdev_xml(an_alias())]))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("operation", ["migrate", "restore"])
def test_our_hostdevs_become_placeholders_and_others_stay_as_they_are(
    hook: Hook, host: FakeHost, agent: Listener, operation: str
) -> None:
    for port in ("1-2", "1-3"):  # an instance that moves live holds as many devices here as it brings
        host.plug(port)
        host.hold(port, "vm")
    ours = [a_hostdev_xml(an_alias(number), device=number) for number in (3, 4)]
    theirs = a_hostdev_xml("hostdev0", device=9)
    done = hook.run(operation, _xml(devices=[*ours, theirs]))
    assert done.returncode == 0
    first, second, third = ET.fromstring(done.stdout).findall("devices/hostdev")
    places = [
        (each.find("source/address").get("bus"), each.find("source/address").get("device")) for each in (first, second)
    ]  # type: ignore[union-attr]
    assert places == [("255", "255"), ("255", "254")]
    assert all(each.find("source/vendor") is None for each in (first, second))
    assert [each.find("source").get("startupPolicy") for each in (first, second)] == ["optional", "optional"]  # type: ignore[union-attr]
    assert [each.find("alias").get("name") for each in (first, second)] == [an_alias(3), an_alias(4)]  # type: ignore[union-attr]
    assert third.find("source/address").get("device") == "9"  # type: ignore[union-attr]


def test_an_incoming_guest_without_our_hostdevs_passes_unchanged(hook: Hook, agent: Listener) -> None:
    done = hook.run("migrate", _xml(devices=[a_hostdev_xml("hostdev0")]))
    assert (done.returncode, done.stdout) == (0, "")


def test_without_the_agent_an_incoming_guest_with_our_hostdevs_is_refused(hook: Hook) -> None:
    refused = hook.run("migrate", _xml(devices=[a_hostdev_xml(an_alias())]))
    passed = hook.run("migrate", _xml(devices=[a_hostdev_xml("hostdev0")]))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert (passed.returncode, passed.stdout) == (0, "")


@pytest.mark.alone
def test_a_hook_call_never_takes_longer_than_its_timeout(tmp_path: Path) -> None:
    hook = Hook(tmp_path)
    hook.path.write_text(hook_text(hook.socket, 0.6))
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(hook.socket))
        deaf.listen()
        started = time.monotonic()
        done = hook.run("prepare", _xml(extra_specs=ASKS))
        assert time.monotonic() - started < 2.5
    assert done.returncode == 1


@pytest.mark.alone
def test_a_process_that_keeps_its_end_open_holds_up_nobody_else(hook: Hook, host: FakeHost, agent: Listener) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            slow = stack.enter_context(socket.socket(socket.AF_UNIX))
            slow.connect(str(hook.socket))
            slow.sendall(b'{"operation": ')
        started = time.monotonic()
        assert hook.run("prepare", _xml()).returncode == 0
        assert time.monotonic() - started < TIMEOUT


@pytest.mark.parametrize("message", [b"", b"nonsense", b"[]", b'{"operation": 1}', b"[" * 5000, b"x" * (MAX_BYTES + 1)])
def test_a_message_that_makes_no_sense_is_dropped(hook: Hook, agent: Listener, message: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(hook.socket))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            peer.sendall(message)
            peer.shutdown(socket.SHUT_WR)
            assert peer.recv(100) == b""
    assert hook.run("prepare", _xml()).returncode == 0


def test_xml_that_is_no_domain_refuses_the_start(hook: Hook, agent: Listener) -> None:
    done = hook.run("prepare", "<not-closed>")
    assert done.returncode == 1
    assert "the agent cannot read the domain" in done.stderr


def test_the_socket_is_for_its_owner_and_group_only(hook: Hook, agent: Listener) -> None:
    assert stat.S_IMODE(hook.socket.stat().st_mode) == 0o660


_ASK = """\
import os, socket, sys
if os.geteuid() == 0:
    os.setuid(int(sys.argv[2]))
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[1])
try:
    peer.sendall(b'{"operation": "status"}')
    peer.shutdown(socket.SHUT_WR)
    print(peer.recv(100).decode())
except ConnectionError:  # it was closed before it was read
    print()
"""


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory into which every user may look."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def ask_as(user: str, path: Path) -> str:
    """What *user* is answered on the socket *path*; without root, who runs the tests."""
    words = [sys.executable, "-I", "-S", "-c", _ASK, str(path), str(pwd.getpwnam(user).pw_uid)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user wants root")
def test_the_user_that_the_operator_named_owns_the_socket_and_is_answered_and_no_other_is(open_directory: Path) -> None:
    path = open_directory / "hook.sock"
    listener = Listener(ListenOptions(path, TIMEOUT, owner="nobody"), lambda question: Refused(type(question).__name__))
    try:
        assert (path.owner(), stat.S_IMODE(path.stat().st_mode)) == ("nobody", 0o660)
        assert ask_as("nobody", path) == '{"refuse": "StatusQuestion"}'
        path.chmod(0o666)  # so that it is not the file's mode that keeps others off
        assert ask_as("daemon", path) == ""
    finally:
        listener.stop()


def test_an_agent_that_may_not_give_its_socket_away_says_so(
    open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chown(path: Path, uid: int, gid: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "chown", chown)
    options = ListenOptions(open_directory / "hook.sock", TIMEOUT, owner="nobody")
    with pytest.raises(
        ConfigError, match=r"cannot be given to .*socket_owner and socket_group \(Operation not permitted"
    ):
        Listener(options, lambda question: Allowed())


def test_a_socket_that_a_killed_agent_left_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "hook.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    Listener(ListenOptions(path), lambda question: Allowed()).stop()
    assert not path.exists()


def test_a_socket_on_which_another_agent_answers_is_left_to_it(hook: Hook, agent: Listener) -> None:
    with pytest.raises(ConfigError, match="in use by another agent"):
        Listener(ListenOptions(hook.socket), lambda question: Allowed())
    assert hook.run("prepare", _xml()).returncode == 0


def test_many_calls_at_once_are_all_answered(hook: Hook, host: FakeHost, agent: Listener) -> None:
    host.plug("1-2")
    host.hold("1-2", "vm")
    codes: list[int] = []
    threads = [
        threading.Thread(target=lambda: codes.append(hook.run("prepare", _xml(extra_specs=ASKS)).returncode))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0] * 8


def test_a_call_waits_for_an_agent_whose_socket_holds_no_more_calls(hook: Hook) -> None:
    with contextlib.ExitStack() as stack:
        busy = stack.enter_context(socket.socket(socket.AF_UNIX))
        busy.bind(str(hook.socket))
        busy.listen(0)
        busy.settimeout(10.0)
        first = stack.enter_context(socket.socket(socket.AF_UNIX))
        first.connect(str(hook.socket))  # and no other can, until it is accepted

        def answer() -> None:
            busy.accept()[0].close()  # the first
            peer, _ = busy.accept()
            with peer:
                while peer.recv(4096):
                    pass
                peer.sendall(b"{}")

        timer = threading.Timer(0.5, answer)
        timer.start()
        stack.callback(timer.join)
        assert hook.run("prepare", _xml(extra_specs=ASKS)).returncode == 0


@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8", "en_US.ISO-8859-1"])
def test_letters_of_every_script_come_through_whatever_the_locale(
    hook: Hook, agent: Listener, monkeypatch: pytest.MonkeyPatch, locale: str
) -> None:
    monkeypatch.setenv("LC_ALL", locale)
    monkeypatch.setenv("PYTHONUTF8", "0")
    xml = a_domain_xml("vm-äß-世", a_uuid("vm"), devices=[a_hostdev_xml(an_alias())])
    done = subprocess.run(
        [hook.path, "vm", "restore", "begin", "-"], input=xml.encode(), capture_output=True, check=True
    )
    assert ET.fromstring(done.stdout).findtext("name") == "vm-äß-世"


def test_status_answers_on_the_same_socket(hook: Hook, host: FakeHost, agent: Listener) -> None:
    host.plug("1-2")
    host.start("vm")
    host.hold("1-2", "vm")
    host.binder.run()
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(hook.socket))
        peer.sendall(b'{"operation": "status"}')
        peer.shutdown(socket.SHUT_WR)
        answer = json.loads(peer.makefile().read())
    assert answer["guests"][0]["devices"][0]["state"] == "attached"
