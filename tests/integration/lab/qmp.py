"""QEMU's monitor, by its own protocol. What is asked of it is vm.py's matter."""

import json
import socket
from pathlib import Path
from typing import IO, Any

from tests.integration.lab.errors import LabError, QmpError


class Qmp:
    """One connection to QEMU's monitor, and the events that it has sent since."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        self._socket.connect(str(path))
        self._stream: IO[bytes] = self._socket.makefile("rb")
        self._events: list[dict[str, Any]] = []
        self._read()
        self("qmp_capabilities")

    def _read(self) -> dict[str, Any]:
        try:
            line = self._stream.readline()
        except OSError as error:  # a time out, and whatever is read after one
            raise LabError(f"QEMU's monitor does not answer: {error}") from error
        if not line:
            raise LabError("QEMU has ended")
        message: dict[str, Any] = json.loads(line)
        return message

    def __call__(self, execute: str, **arguments: Any) -> Any:
        """Give what QEMU returns for the command; an underscore in an argument's name stands for a dash."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        self._socket.sendall(json.dumps({"execute": execute, "arguments": named}).encode() + b"\n")
        while True:
            message = self._read()
            if "error" in message:
                raise QmpError(f"{execute} {named}: {message['error']['desc']}")
            if "return" in message:
                return message["return"]
            self._events.append(message)

    def hmp(self, command: str) -> str:
        """Give what the human monitor prints for *command*."""
        return str(self("human-monitor-command", command_line=command))

    def wait_for(self, event: str, **data: Any) -> None:
        """Return when *event* with *data* has come, now or before; such a one counts once."""
        while True:
            for message in self._events:
                if message["event"] == event and data.items() <= message.get("data", {}).items():
                    self._events.remove(message)
                    return
            self._events.append(self._read())

    def close(self) -> None:
        """Hang up."""
        self._stream.close()
        self._socket.close()
