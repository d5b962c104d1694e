"""The events of a replayed host, as udevd sends them, for the udev monitors of this process and its children.

umockdev makes a socket for each monitor in the testbed's directory. What is sent there waits in a queue of its own,
since umockdev ends the calling process when a monitor has more than ten events unread.
"""

import os
import socket
import struct
import threading
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from queue import SimpleQueue


class _Listener:
    """One udev monitor, of this process or a child. What is sent waits here until it is read."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.connect(path)
        except OSError:
            self._socket.close()
            raise
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="umockdev-events", daemon=True)
        self._thread.start()

    def send(self, message: bytes) -> None:
        self._queue.put(message)

    def close(self) -> None:
        self._closing = True
        self._queue.put(None)

    @property
    def is_gone(self) -> bool:
        """Whether the monitor was closed, as far as we know."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        self._socket.settimeout(0.2)
        with self._socket, suppress(ConnectionError):
            while (message := self._queue.get()) is not None:
                while not self._closing:
                    with suppress(TimeoutError):
                        self._socket.send(message)
                        break


class EventSender:
    """Sends to every monitor that listens in *directory*, in order, but not before a call returns."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._listeners: dict[tuple[str, int, int], _Listener] = {}
        self._sequence = count(1000)

    def send(self, sys_path: str, action: str, subsystem: str, properties: Mapping[str, bytes]) -> None:
        """Send one event of the udev (not the kernel) source to every monitor of this host."""
        own = {"ACTION", "DEVPATH", "SUBSYSTEM", "SEQNUM"}
        pairs = [
            ("ACTION", action.encode()),
            ("DEVPATH", os.fsencode(sys_path.removeprefix("/sys"))),
            ("SUBSYSTEM", subsystem.encode()),
            ("SEQNUM", str(next(self._sequence)).encode()),
            *((key, value) for key, value in properties.items() if key not in own),
        ]
        body = b"".join(b"%s=%s\0" % (key.encode(), value) for key, value in pairs)
        devtype = properties.get("DEVTYPE")
        hashes = (_murmur2(subsystem.encode()), _murmur2(devtype) if devtype else 0)
        header = b"libudev\0" + struct.pack(">I", 0xFEEDCAFE) + struct.pack("=3I", 40, 40, len(body))
        message = header + struct.pack(">4I", *hashes, 0, 0) + body
        for listener in self._current_listeners():
            listener.send(message)

    def _current_listeners(self) -> list[_Listener]:
        self._listeners = {key: listener for key, listener in self._listeners.items() if not listener.is_gone}
        for path in self._directory.glob("event[0-9]*"):
            with suppress(FileNotFoundError):
                status = path.stat()
                key = (str(path), status.st_ino, status.st_ctime_ns)
                if key not in self._listeners:
                    try:
                        self._listeners[key] = _Listener(str(path))
                    except ConnectionRefusedError:  # a monitor that was closed; its file stays
                        path.unlink()
        return list(self._listeners.values())

    def close(self) -> None:
        """Send nothing more; monitors that are still open hear nothing more."""
        for listener in self._listeners.values():
            listener.close()


def _murmur2(data: bytes) -> int:
    """The hash by which libudev's monitors filter on subsystem and devtype."""
    mask, mix = 0xFFFFFFFF, 0x5BD1E995
    value = len(data)
    whole = len(data) & ~3
    for start in range(0, whole, 4):
        word = int.from_bytes(data[start : start + 4], "little") * mix & mask
        word = (word ^ word >> 24) * mix & mask
        value = (value * mix & mask) ^ word
    if rest := data[whole:]:
        value = (value ^ int.from_bytes(rest, "little")) * mix & mask
    value = (value ^ value >> 13) * mix & mask
    return value ^ value >> 15
