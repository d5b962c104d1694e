"""Programs that run in the background: started, waited for, stopped, and killed with the process that started them."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.integration.lab import child
from tests.integration.lab.vm import LabError

POOL = ThreadPoolExecutor(12)
"""For starting things side by side. The kernel kills a child that asked for it when the *thread* that made it ends, so
these threads must live as long as the process."""


def answers(port: int) -> bool:
    """Whether something listens on *port* of loopback."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class Service:
    """One program.

    :param ready: whether it does its work, asked while it starts; None for one whose start nobody waits for.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        ready: Callable[[], bool] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._environment = environment or {}
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True, timeout: float = 120) -> None:
        """Start it; return when it is ready, if *wait*. One that runs is left alone.

        :raises LabError: when it ends, or is not ready in *timeout* seconds; the sentence names its log.
        """
        if self._process is not None and self._process.poll() is None:
            return
        self._process = child.start(self._command, self.log, environment=self._environment)
        if wait:
            self.wait(timeout)

    def wait(self, timeout: float = 120) -> None:
        """Return when it is ready. :raises LabError: as :meth:`start` does."""
        deadline = time.monotonic() + timeout
        while self._ready is not None and not self._ready():
            if self._process is None or self._process.poll() is not None:
                raise LabError(f"{self.name} has ended; see {self.log}")
            if time.monotonic() > deadline:
                raise LabError(f"{self.name} is not ready after {timeout:.0f} s; see {self.log}")
            time.sleep(0.1)

    def stop(self, *, by: signal.Signals = signal.SIGTERM, timeout: float = 15) -> None:
        """Stop it and what it started; nothing happens when it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(by)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def run(command: Sequence[str], log: Path, **environment: str) -> None:
    """Run *command* to its end. :raises LabError: when it fails; the sentence has its last lines."""
    with log.open("ab") as output:
        start = output.tell()
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
            check=False,
        )
    if done.returncode:
        said = log.read_text(errors="replace")[start:].strip()[-1500:]
        raise LabError(f"{' '.join(command)} failed with {done.returncode}: {said}")
