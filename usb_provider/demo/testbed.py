"""A recorded or described host, replayed through umockdev, so that code meets udev without devices.

Its one job: make ``/sys``, ``/dev``, a few ``/proc`` files and the udev monitor of *this process
and its children* show the devices of a folder of ``*.umockdev`` files, and let a caller plug and
unplug them. It feeds pyudev from below and never imports it. It writes to a temporary directory
only; the real host is not touched.

The rule it guards: a replayed host may be poorer than a real one, but never kinder. So ``remove``
and ``unbind`` events carry no ID_* that a real host would have wiped, and sysfs is already empty
when they arrive; ``add`` comes before the interfaces; a second plug gets another device number.

umockdev makes the tree; events.py sends the events, because the library's own ``remove`` events
carry everything, and because it ends the calling process when a listener has more than ten events
unread. One of its limits stays: two processes whose monitors have the same file descriptor number
evict each other, unless the first has had an event.
"""

import atexit
import re
import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path, PurePosixPath
from types import MappingProxyType, TracebackType
from typing import Self

from usb_provider.demo import umockdev
from usb_provider.demo.description import implied
from usb_provider.demo.events import EventSender
from usb_provider.demo.recording import (
    Node,
    RecordedDevice,
    Recording,
    RecordingError,
    bus_and_port,
    parse,
    path_key,
    relocated,
    within,
)
from usb_provider.demo.sysfs import SysfsTree

_PORT = re.compile(r"^(?:(?P<bus>\d+)-)?(?P<path>\d+(?:\.\d+)*)$")


class Testbed:
    """A host whose devices are plugged and unplugged by method calls. The latest open one is what this process sees.

    Real udev's order is kept: ``add`` of the device, of each interface and of what is below it,
    then ``bind``; ``unbind`` and ``remove``, deepest first. Events are delivered in order but not
    before a call returns.

    Before umockdev 0.19 libudev still reads the real ``/run/udev/data``: on a machine with USB
    devices of its own, a replayed device with the same number then shows their ID_* too. A
    container without them is clean.
    """

    __test__ = False  # pytest takes the name for a test class

    def __init__(self, library: umockdev.Library, handle: int, directory: Path) -> None:
        self._library, self._handle, self._directory = library, handle, directory
        self._sysfs = SysfsTree(directory)
        self._recording: Recording | None = None
        self._where: dict[str, str] = {}
        self._seen: set[str] = set()
        self._last_devnum: dict[int, int] = {}
        self._events = EventSender(directory)
        self._open = True

    @classmethod
    def create(cls) -> Self:
        """An empty host. $UMOCKDEV_DIR is set, so that children that run under the wrapper see it
        too.

        :raises RecordingError: when umockdev is not installed, or this process does not run under
            its preload; the caller should then run itself again with :func:`umockdev.wrap`.
        """
        library = umockdev.library()
        if not umockdev.is_active():
            raise RecordingError("This process does not run under umockdev: start it with 'umockdev-wrapper'.")
        handle, directory = library.take()
        testbed = cls(library, handle, directory)
        atexit.register(testbed.close)
        return testbed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def directory(self) -> Path:
        """Where the host's files are: processes see what is in ``sys/``, ``dev/`` and ``proc/``."""
        return self._directory

    @property
    def plugged(self) -> Mapping[str, str]:
        """Sysfs path of each device of the recording that is plugged in, by name."""
        return MappingProxyType(self._where)

    def close(self) -> None:
        """Remove the host. Monitors that are still open hear nothing more."""
        if not self._open:
            return
        self._open = False
        atexit.unregister(self.close)
        self._events.close()
        self._library.give_back(self._handle, self._directory)

    def load(self, recording: Recording, devices: Collection[str] | None = None) -> None:
        """Take over a recorded host: its ``/proc`` files, its controllers, and *devices* by name
        (all by default).

        :raises RecordingError: when umockdev refuses a node; the message names its file.
        """
        self._recording = recording
        for name, content in recording.proc.items():
            self.write_proc(name, content)
        self._plug_nodes([node for node in recording.platform if not self._sysfs.exists(f"/sys{node.path}")])
        for name in recording.devices if devices is None else devices:
            if name not in self._where:
                self.plug(name)

    def write_proc(self, name: str, content: str | bytes) -> None:
        """Write *content* to the replayed ``/proc/<name>``; *name* is, for example, ``self/mountinfo``."""
        file = self._directory / "proc" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)

    def plug(self, name: str, devnum: int | None = None, port: str | None = None) -> str:
        """Plug the recorded device *name* in and give its sysfs path; hubs between it and the
        controller come first.

        :param devnum: its number on the bus. By default the recorded one at the first plug, and
            later, as in the kernel, the next one that was not used yet.
        :param port: another port than the recorded one, such as ``1-2.4``, or ``2.4`` for the same
            bus.
        :raises RecordingError: when there is no such device, it is plugged in, or the port is taken
            or not there.
        """
        device = self._device(name)
        if name in self._where:
            raise RecordingError(f"{name} is plugged in at {self._where[name]}: unplug it first.")
        recorded = device.nodes[0].path
        path = recorded if port is None else self._port_path(recorded, port)
        if self._sysfs.exists(f"/sys{path}"):
            raise RecordingError(f"{path} is occupied: unplug what is there, or name another port.")
        self._ensure_parents(path)
        bus, _ = bus_and_port(path)
        if devnum is None:
            number = (device.nodes[0].get("E", "DEVNUM") or "1").lstrip("0")
            fresh = name not in self._seen and bus == bus_and_port(recorded)[0]
            free = not self._sysfs.is_used(bus, int(number))
            devnum = int(number) if fresh and free else self._next_devnum(bus)
        self._plug_nodes(relocated(device.nodes, path, devnum))
        self._seen.add(name)
        self._where[name] = f"/sys{path}"
        return f"/sys{path}"

    def add(self, text: str) -> str:
        """Plug what *text* describes, usually a :func:`usb_device`, and give the sysfs path of its
        first node.

        A controller, root hub or hub that the path implies and that is not there yet is made up.

        :raises RecordingError: when *text* is no description, or a node or name of it is there
            already.
        """
        nodes = sorted(parse(text), key=lambda node: path_key(node.path))
        self._ensure_parents(nodes[0].path)
        self._plug_nodes(nodes)
        return f"/sys{nodes[0].path}"

    def unplug(self, name: str) -> None:
        """Pull the device out, with all that hangs on it; *name* is a recorded name, a port
        (``1-4``) or a sysfs path.

        As on a real host nothing is left in sysfs when the first event arrives, and the events
        carry what the kernel knows, and ID_PATH. No other ID_* is left, even on block or input
        devices, where udev does keep some.

        :raises RecordingError: when there is no such device.
        """
        path = self._where.get(name) or (name if name.startswith("/sys/") else self._sysfs.usb_path(name))
        if path is None or not self._sysfs.exists(path):
            there = ", ".join(self._where) or "none"
            raise RecordingError(f"No device called {name} is plugged in: there are {there}.")
        gone = [
            (found, self._sysfs.properties(found), self._sysfs.subsystem(found)) for found in self._sysfs.below(path)
        ]
        for found, properties, subsystem in gone:
            self._sysfs.unlink(found, properties, subsystem)
        shutil.rmtree(self._sysfs.file(path))
        self._where = {name: at for name, at in self._where.items() if not within(at, path)}
        for found, properties, subsystem in gone:
            left = {key: value for key, value in properties.items() if _survives_removal(key)}
            if "DRIVER" in properties:
                self._events.send(found, "unbind", subsystem, left)
            self._events.send(found, "remove", subsystem, left)

    def uevent(self, sys_path: str, action: str, **properties: str) -> None:
        """Send one more event for a device that is there, with what it has and *properties* on top.

        :raises RecordingError: when there is no device at *sys_path*.
        """
        if not self._sysfs.exists(sys_path):
            raise RecordingError(f"There is no device at {sys_path}: plug it in first.")
        everything = self._sysfs.properties(sys_path) | {key: value.encode() for key, value in properties.items()}
        self._events.send(sys_path, action, self._sysfs.subsystem(sys_path), everything)

    def _device(self, name: str) -> RecordedDevice:
        known = {} if self._recording is None else self._recording.devices
        if name not in known:
            has = ", ".join(known) or "none"
            raise RecordingError(f"The recording has no device called {name}: it has {has}.")
        return known[name]

    def _port_path(self, recorded: str, port: str) -> str:
        match = _PORT.match(port)
        if match is None:
            raise RecordingError(f"{port!r} is no USB port: 1-2.4 is bus 1, port 2, port 4 of a hub.")
        bus = match["bus"] or str(bus_and_port(recorded)[0])
        hub, _, _ = match["path"].rpartition(".")
        above = f"{bus}-{hub}" if hub else f"usb{bus}"
        parent = self._sysfs.usb_path(above)
        if parent is None:
            raise RecordingError(f"There is no hub {above} to plug into: plug that in first.")
        return f"{parent.removeprefix('/sys')}/{bus}-{match['path']}"

    def _next_devnum(self, bus: int) -> int:
        last = self._last_devnum.get(bus, 1)
        for number in chain(range(last + 1, 128), range(2, last + 1)):
            if not self._sysfs.is_used(bus, number):
                return number
        raise RecordingError(f"Bus {bus} has no free device number: unplug something first.")

    def _ensure_parents(self, path: str) -> None:
        """Make what a device at *path* hangs on: from the recording, else something plausible."""
        known = {} if self._recording is None else self._recording.devices
        for parent in reversed(PurePosixPath(path).parents):
            at = str(parent)
            if self._sysfs.exists(f"/sys{at}"):
                continue
            recorded = next((device.name for device in known.values() if device.sys_path == f"/sys{at}"), None)
            if recorded is not None:
                self.plug(recorded)
            elif (text := implied(at)) is not None:
                self._plug_nodes(parse(text))

    def _plug_nodes(self, nodes: Iterable[Node]) -> None:
        """Add *nodes*, which come parents first, with the events that a real host sends."""
        bound: list[Node] = []
        for node in nodes:
            while bound and not within(node.path, bound[-1].path):
                self._bind(bound.pop())
            self._add_node(node)
            if node.get("E", "DRIVER") is not None:
                bound.append(node)
        while bound:
            self._bind(bound.pop())

    def _bind(self, node: Node) -> None:
        self.uevent(f"/sys{node.path}", "bind")

    def _add_node(self, node: Node) -> None:
        subsystem = node.get("E", "SUBSYSTEM") or ""
        device_node = (node.get("E", "DEVNAME") or "").removeprefix("/dev/")
        taken = self._sysfs.taken(node, subsystem, device_node)
        if taken:
            raise RecordingError(f"{node.path} cannot be added, {taken} is there already: give it another name.")
        try:
            self._library.add(self._handle, _without_pty(node).text.encode("utf-8", errors="surrogateescape"))
        except RecordingError as error:
            source = None if self._recording is None else self._recording.file_of(node.path)
            raise RecordingError(f"{source or node.path}: {error}") from error
        for line in node.lines:
            if line.startswith("S: "):  # as udev makes them; absolute ones would lead out of the host
                link = self._directory / "dev" / line[3:]
                if device_node and link.is_symlink():
                    link.unlink()
                    link.symlink_to("../" * line.count("/") + device_node)
        if node.is_usb_device:
            bus, number = int(node.get("E", "BUSNUM") or 0), int(node.get("E", "DEVNUM") or 0)
            self._last_devnum[bus] = max(number, self._last_devnum.get(bus, 1))
        properties = self._sysfs.properties(f"/sys{node.path}")
        properties.pop("DRIVER", None)  # comes with "bind"
        self._events.send(f"/sys{node.path}", "add", subsystem, properties)


def _without_pty(node: Node) -> Node:
    """*node* with a plain file for a device node: a pty made again would end the process."""
    lines = [f"{line}=00" if line.startswith("N: ") and "=" not in line else line for line in node.lines]
    return replace(node, lines=tuple(lines))


def _survives_removal(key: str) -> bool:
    """Whether udev's last events for a device still carry this property."""
    if key in {"ID_PATH", "ID_PATH_TAG"}:
        return True
    return key not in {"DRIVER", "DEVLINKS", "TAGS", "CURRENT_TAGS"} and not key.startswith(("ID_", "SYSTEMD_"))
