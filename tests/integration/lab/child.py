"""Programs that end with this process, however that comes about."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_NOT_FOR_CHILDREN = ("LD_PRELOAD", "UMOCKDEV_DIR")


def start(
    command: Sequence[str], log: Path, *, environment: Mapping[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """Start *command* so that the kernel kills it when the thread that started it ends, and Ctrl-C leaves it to us.

    It runs in the directory of *log*, where a crash leaves its dump, in the tests' environment and *environment*.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_CHILDREN}
    with log.open("ab") as output:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=inherited | dict(environment or {}),
            cwd=log.parent,
            start_new_session=True,
        )
