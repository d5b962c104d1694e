"""``make cloud``: a cloud with devices in it, left running for a person, who plugs and unplugs them with "hands".

It says that the cloud is there when the first section of the walk-through works as printed.
"""

import contextlib
import os
import shlex
import shutil
import socketserver
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.e2e.lab.cloud import Cloud
from tests.e2e.lab.controller import KEYSTONE
from tests.e2e.lab.stay import stay
from tests.fixtures.pages import Shell, Step, differs, steps
from tests.integration.lab.errors import LabError
from tests.integration.lab.progress import Progress

TOP = Path(__file__).parents[3]
WALK_THROUGH = TOP / "docs" / "walkthrough.md"
DEVICES: Mapping[str, Mapping[str, Any]] = {
    "stick": {"serial": "STICK-1"},
    "reader": {"driver": "usb-ccid"},
}
"""What is plugged in, by the names that "hands" knows."""
_PROVIDERS = ("46f4:0001", "08e6:4433")
_FIRST_CHANGE = "\n## A server with a device\n"
"""Where the walk-through begins to change something."""
_SETTLES_SECONDS = 240
_HANDS = """\
#!{python}
# What hands do to the compute node: "hands plug stick", "hands unplug stick", "hands look".
import socket, sys
with socket.socket(socket.AF_UNIX) as hands:
    hands.connect("{socket}")
    hands.sendall(" ".join(sys.argv[1:]).encode() + b"\\n")
    sys.stdout.write(hands.makefile().read())
"""
_COMPUTE = """\
#!/bin/sh
# A command on the compute node, as root: "compute virsh list".
exec ssh {options} root@testhost "$@"
"""


class Playground:
    """A cloud that has its devices and the commands "compute" and "hands"; :meth:`close` takes the latter away."""

    def __init__(self, cloud: Cloud) -> None:
        """Plug the devices in; return when Placement offers them."""
        self._cloud = cloud
        self._write_commands()
        for name in DEVICES:
            self._plug(name)
        self._server = self._serve_hands()
        for part in _PROVIDERS:
            cloud.offered(part)

    def close(self) -> None:
        """Listen to "hands" no more."""
        self._server.shutdown()
        self._server.server_close()

    @property
    def _socket(self) -> Path:
        return self._cloud.directory / "hands.sock"

    def _write_commands(self) -> None:
        """Put "compute" and "hands" where openrc's PATH finds them."""
        commands = self._cloud.controller.directory / "bin"
        ssh = shlex.join(self._cloud.vm.ssh_options())
        for name, text in (
            ("compute", _COMPUTE.format(options=ssh)),
            ("hands", _HANDS.format(python=sys.executable, socket=self._socket)),
        ):
            (commands / name).write_text(text)
            (commands / name).chmod(0o755)

    def _serve_hands(self) -> socketserver.BaseServer:
        playground = self
        self._socket.unlink(missing_ok=True)

        class Handler(socketserver.StreamRequestHandler):
            """One command."""

            def handle(self) -> None:
                words = self.rfile.readline().decode().split()
                self.wfile.write(playground.do(*words).encode())

        server = socketserver.UnixStreamServer(str(self._socket), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    def do(self, verb: str = "look", name: str = "", *_: str) -> str:
        """Plug or unplug one of DEVICES, or say what is plugged in."""
        vm = self._cloud.vm
        try:
            if verb == "plug":
                self._plug(name)
            elif verb == "unplug":
                vm.unplug(name)
            elif verb != "look":
                return f"hands can plug, unplug and look, not {verb}\n"
        except (LabError, KeyError, StopIteration) as error:
            return f"{verb} {name}: {error}\n"
        return "".join(f"{each}: {'plugged in' if each in vm.plugged else 'not plugged in'}\n" for each in DEVICES)

    def _plug(self, name: str) -> None:
        self._cloud.vm.plug(name, **DEVICES[name])


def first_steps(page: str) -> list[Step]:
    """The commands of the walk-through before it changes anything, with their outputs, for the ports in use here."""
    before, _, _ = page.partition(_FIRST_CHANGE)
    return list(steps(before.replace(":5000/", f":{KEYSTONE}/")))


def try_first_steps(openrc: Path, page: str, seconds: float = _SETTLES_SECONDS) -> None:
    """Type the walk-through's first commands until all of them print what it says.

    :raises LabError: when one still fails or prints something else after *seconds*; it has both outputs.
    """
    deadline = time.monotonic() + seconds
    while wrong := _first_difference(openrc, page):
        if time.monotonic() > deadline:
            raise LabError(wrong)
        time.sleep(1)


def _first_difference(openrc: Path, page: str) -> str | None:
    shell = Shell()
    with contextlib.closing(shell):
        for step in first_steps(page):
            code, output = shell.run(step.command.replace("…/openrc", str(openrc)))
            if code or differs(step.output, output):
                return (
                    "the walk-through's first commands do not print what it says:\n"
                    f"$ {step.command}\n{output}\n-- {WALK_THROUGH} says:\n{step.output}"
                )
    return None


def main() -> int:
    """Start a cloud with some devices, say how to use it, and leave nothing of it when it is ended."""
    directory = Path(tempfile.mkdtemp(prefix="usb-cloud-"))
    progress = Progress(sys.stdout)

    def start() -> None:
        cloud = Cloud.start(directory, progress)
        with progress.step("The devices are plugged in and come into Placement"):
            Playground(cloud)
        openrc = cloud.controller.openrc
        with progress.step("The walk-through's first commands are tried"):
            try_first_steps(openrc, WALK_THROUGH.read_text())
        progress.say(
            f"The cloud is there. In another terminal:\n\n    source {openrc}\n\n"
            f"docs/walkthrough.md says what to try. Logs are in {cloud.controller.log}\n"
            f"To end it: Enter, Ctrl-C or kill {os.getpid()}"
        )

    code = stay(start, before_the_end=progress.stop)
    if code:
        _leave_logs(directory)
        print(f"What was logged is kept in {directory}", file=sys.stderr)
    else:
        shutil.rmtree(directory)
    return code


def _leave_logs(directory: Path) -> None:
    """Remove the databases, images and disks, and keep what says why a cloud did not start."""
    shutil.rmtree(directory / "controller" / "data", ignore_errors=True)
    shutil.rmtree(directory / "wheel", ignore_errors=True)
    for disk in (*directory.glob("vm*/*.qcow2"), *directory.glob("vm*/*.img"), directory / "disk.raw"):
        disk.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
