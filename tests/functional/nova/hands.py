"""Hands at the USB ports of one replayed host, in a process of their own.

umockdev shows one host to a process and its children, by an environment variable. Where one test
needs several hosts, each gets such a process: it holds a :class:`~usb_provider.demo.testbed.Testbed`
and does what it is told, one JSON line at a time, and the agent of that host is started with the same
``UMOCKDEV_DIR``.
"""

import json
import os
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from usb_provider.demo import umockdev
from usb_provider.demo.recording import Recording, RecordingError
from usb_provider.demo.testbed import Testbed

SOURCE_TREE = Path(__file__).parents[3]


def environment(umockdev_dir: Path | None = None) -> dict[str, str]:
    """Give the environment for a child that is to see the host at *umockdev_dir*, or the real one.

    Nothing of the umockdev that this process itself may run under is left in it.
    """
    child = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "UMOCKDEV_DIR")}
    child["PYTHONPATH"] = os.pathsep.join(filter(None, (str(SOURCE_TREE), child.get("PYTHONPATH"))))
    if umockdev_dir is not None:
        child["UMOCKDEV_DIR"] = str(umockdev_dir)
    return child


class Hands:
    """An empty host to plug devices into; see Testbed for what each method does.

    :raises RecordingError: from every method, as Testbed does.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            umockdev.wrap([sys.executable, "-m", __name__]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
            start_new_session=True,
        )
        self.directory = Path(self._answer())

    def add(self, text: str) -> str:
        """Plug what *text* describes, usually a usb_device(...), and give its sysfs path."""
        return str(self._tell("add", text=text))

    def load(self, directory: Path, devices: Collection[str] | None = None) -> None:
        """Take over a recorded host."""
        names = None if devices is None else list(devices)
        self._tell("load", directory=str(directory), devices=names)

    def plug(self, name: str, devnum: int | None = None, port: str | None = None) -> str:
        """Plug a recorded device in and give its sysfs path."""
        return str(self._tell("plug", name=name, devnum=devnum, port=port))

    def unplug(self, name: str) -> None:
        """Pull a device out: a recorded name, a port, or a sysfs path."""
        self._tell("unplug", name=name)

    def write_proc(self, name: str, content: str) -> None:
        """Let ``/proc/<name>`` hold *content*."""
        self._tell("write_proc", name=name, content=content)

    def close(self) -> None:
        """Remove the host."""
        self._process.communicate(timeout=30)

    def _tell(self, what: str, **how: object) -> object:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([what, how]) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RecordingError(f"The hands have gone: exit code {self._process.wait(10)}.")
        answer = json.loads(line)
        if "error" in answer:
            raise RecordingError(answer["error"])
        return answer["result"]


def main() -> None:
    """Do what standard input says until it ends."""
    with Testbed.create() as testbed:
        _say(result=str(testbed.directory))
        for line in sys.stdin:
            what, how = json.loads(line)
            try:
                _say(result=_do(testbed, what, how))
            except RecordingError as error:
                _say(error=str(error))


def _do(testbed: Testbed, what: str, how: Mapping[str, Any]) -> object:
    if what == "load":
        return testbed.load(Recording.read(how["directory"]), how["devices"])
    return getattr(testbed, what)(**how)


def _say(**answer: object) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
