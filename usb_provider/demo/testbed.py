"""A recorded or described host, replayed through umockdev, so that code meets udev without devices.

Its one job: make ``/sys``, ``/dev``, a few ``/proc`` files and the udev monitor of *this process
and its children* show the devices of a folder of ``*.umockdev`` files, and let a caller plug and
unplug them. It feeds pyudev from below and never imports it. It writes to a temporary directory
only; the real host is not touched.

The rule it guards: a replayed host may be poorer than a real one, but never kinder. So ``remove``
and ``unbind`` events carry no ID_* that a real host would have wiped, and sysfs is already empty
when they arrive; ``add`` comes before the interfaces; a second plug gets another device number.

umockdev makes the tree; the events are sent from here, because the library's own ``remove`` events
carry everything, and because it ends the calling process when a listener has more than ten events
unread. One of its limits stays: two processes whose monitors have the same file descriptor number
evict each other, unless the first has had an event.
"""

import atexit
import ctypes
import os
import re
import shutil
import socket
import struct
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from itertools import chain, count
from pathlib import Path, PurePosixPath
from queue import SimpleQueue
from types import MappingProxyType, TracebackType
from typing import Self

from usb_provider.demo.description import implied
from usb_provider.demo.recording import (
    USB_MAJOR,
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

UMOCKDEV_PACKAGES = "'apt install umockdev' on Debian and Ubuntu, 'dnf install umockdev' on Fedora and RHEL (EPEL)"

_PORT = re.compile(r"^(?:(?P<bus>\d+)-)?(?P<path>\d+(?:\.\d+)*)$")


def is_active() -> bool:
    """Whether umockdev's preload library is in this process: it can see a :class:`Testbed`."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        return any("libumockdev-preload" in line for line in maps)


def wrap(argv: Sequence[str]) -> list[str]:
    """The command line that runs *argv* with the preload library: hand it to ``exec`` or
    ``subprocess``.

    :raises RecordingError: when umockdev is not installed.
    """
    wrapper = shutil.which("umockdev-wrapper")
    if wrapper is None:
        raise RecordingError(f"umockdev is not installed: {UMOCKDEV_PACKAGES}.")
    return [wrapper, *argv]


class _GError(ctypes.Structure):
    _fields_ = (("domain", ctypes.c_uint32), ("code", ctypes.c_int), ("message", ctypes.c_char_p))


class _Library:
    """libumockdev, and the testbeds that it made for this process.

    A testbed that is done with is emptied and used again, never freed: libumockdev's own threads race with both the
    making and the freeing of one.
    """

    def __init__(self) -> None:
        try:
            umockdev = ctypes.CDLL("libumockdev.so.0")
            glib = ctypes.CDLL("libglib-2.0.so.0")
        except OSError as error:
            raise RecordingError(f"umockdev is not installed ({error}): {UMOCKDEV_PACKAGES}.") from error
        self._new = umockdev.umockdev_testbed_new
        self._new.restype = ctypes.c_void_p
        self._root = umockdev.umockdev_testbed_get_root_dir
        self._root.argtypes, self._root.restype = [ctypes.c_void_p], ctypes.c_void_p
        self._add = umockdev.umockdev_testbed_add_from_string
        self._add.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(ctypes.POINTER(_GError))]
        self._add.restype = ctypes.c_int
        self._free = glib.g_free
        self._free.argtypes = [ctypes.c_void_p]
        self._free_error = glib.g_error_free
        self._free_error.argtypes = [ctypes.POINTER(_GError)]
        self._idle: list[tuple[int, Path]] = []
        self._visible: list[Path] = []
        self._outside = os.environ.pop("UMOCKDEV_DIR", None)
        # The answer, which is no as long as there is no testbed, is remembered by the library, and keeps it from
        # sending events of its own. Where it is yes all the same, each "add" comes twice, which does no harm.
        umockdev.umockdev_in_mock_environment()
        if self._outside is not None:
            os.environ["UMOCKDEV_DIR"] = self._outside
        atexit.register(self._remove_directories)

    def take(self) -> tuple[int, Path]:
        """An empty testbed and its directory; from here on $UMOCKDEV_DIR names that."""
        handle, directory = self._idle.pop() if self._idle else self._made()
        for name in ("bus", "class"):
            (directory / "sys" / name).mkdir(parents=True, exist_ok=True)
        self._visible.append(directory)
        os.environ["UMOCKDEV_DIR"] = str(directory)  # libumockdev told libc only, not Python
        return handle, directory

    def give_back(self, handle: int, directory: Path) -> None:
        """Empty the testbed; $UMOCKDEV_DIR names the one that was taken before it, if any."""
        self._visible.remove(directory)
        now = str(self._visible[-1]) if self._visible else self._outside
        if now is None:
            del os.environ["UMOCKDEV_DIR"]
        else:
            os.environ["UMOCKDEV_DIR"] = now
        for entry in directory.iterdir():
            if entry.name == "ioctl":  # libumockdev listens there
                continue
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        self._idle.append((handle, directory))

    def add(self, handle: int, text: bytes) -> None:
        """:raises RecordingError: with umockdev's own words."""
        error = ctypes.POINTER(_GError)()
        if not self._add(handle, text, ctypes.byref(error)):
            message = error.contents.message.decode(errors="replace") if error else "no reason given"
            if error:
                self._free_error(error)
            raise RecordingError(f"umockdev refuses the description: {message}.")

    def _made(self) -> tuple[int, Path]:
        memory = Path("/dev/shm")  # a host has thousands of files, and disks are slow at these
        quick = "TMPDIR" not in os.environ and _has_room(memory)
        if quick:
            os.environ["TMPDIR"] = str(memory)
        try:
            handle = int(self._new())
        finally:
            if quick:
                del os.environ["TMPDIR"]
        root = self._root(handle)
        directory = Path(os.fsdecode(ctypes.string_at(root)))
        self._free(root)
        return handle, directory

    def _remove_directories(self) -> None:
        for _, directory in self._idle:
            shutil.rmtree(directory, ignore_errors=True)


@cache
def _library() -> _Library:
    return _Library()


def _has_room(directory: Path) -> bool:
    """Whether files can be made in *directory*, and 256 MiB of them."""
    try:
        space = os.statvfs(directory)
    except OSError:
        return False
    return os.access(directory, os.W_OK) and space.f_bavail * space.f_frsize > 2**28


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

    def __init__(self, library: _Library, handle: int, directory: Path) -> None:
        self._library, self._handle, self._directory = library, handle, directory
        self._recording: Recording | None = None
        self._where: dict[str, str] = {}
        self._seen: set[str] = set()
        self._last_devnum: dict[int, int] = {}
        self._listeners: dict[tuple[str, int, int], _Listener] = {}
        self._sequence = count(1000)
        self._open = True

    @classmethod
    def create(cls) -> Self:
        """An empty host. $UMOCKDEV_DIR is set, so that children that run under the wrapper see it
        too.

        :raises RecordingError: when umockdev is not installed, or this process does not run under
            its preload; the caller should then run itself again with :func:`wrap`.
        """
        library = _library()
        if not is_active():
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
        for listener in self._listeners.values():
            listener.close()
        self._library.give_back(self._handle, self._directory)

    def load(self, recording: Recording, devices: Collection[str] | None = None) -> None:
        """Take over a recorded host: its ``/proc`` files, its controllers, and *devices* by name
        (all by default).

        :raises RecordingError: when umockdev refuses a node; the message names its file.
        """
        self._recording = recording
        for name, content in recording.proc.items():
            self.write_proc(name, content)
        self._plug_nodes([node for node in recording.platform if not self._exists(f"/sys{node.path}")])
        for name in recording.devices if devices is None else devices:
            if name not in self._where:
                self.plug(name)

    def write_proc(self, name: str, content: str | bytes) -> None:
        """Let ``/proc/<name>`` hold *content*, where *name* is such as ``self/mountinfo``."""
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
        if self._exists(f"/sys{path}"):
            raise RecordingError(f"{path} is occupied: unplug what is there, or name another port.")
        self._ensure_parents(path)
        bus, _ = bus_and_port(path)
        if devnum is None:
            number = (device.nodes[0].get("E", "DEVNUM") or "1").lstrip("0")
            fresh = name not in self._seen and bus == bus_and_port(recorded)[0]
            free = not self._is_used(bus, int(number))
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
        path = self._where.get(name) or (name if name.startswith("/sys/") else self._usb_path(name))
        if path is None or not self._exists(path):
            there = ", ".join(self._where) or "none"
            raise RecordingError(f"No device called {name} is plugged in: there are {there}.")
        gone = [(found, self._properties(found), self._subsystem(found)) for found in self._below(path)]
        for found, properties, subsystem in gone:
            self._unlink(found, properties, subsystem)
        shutil.rmtree(self._real(path))
        self._where = {name: at for name, at in self._where.items() if not within(at, path)}
        for found, properties, subsystem in gone:
            left = {key: value for key, value in properties.items() if _survives_removal(key)}
            if "DRIVER" in properties:
                self._send(found, "unbind", subsystem, left)
            self._send(found, "remove", subsystem, left)

    def uevent(self, sys_path: str, action: str, **properties: str) -> None:
        """Send one more event for a device that is there, with what it has and *properties* on top.

        :raises RecordingError: when there is no device at *sys_path*.
        """
        if not self._exists(sys_path):
            raise RecordingError(f"There is no device at {sys_path}: plug it in first.")
        everything = self._properties(sys_path) | {key: value.encode() for key, value in properties.items()}
        self._send(sys_path, action, self._subsystem(sys_path), everything)

    # Finding things

    def _device(self, name: str) -> RecordedDevice:
        known = {} if self._recording is None else self._recording.devices
        if name not in known:
            has = ", ".join(known) or "none"
            raise RecordingError(f"The recording has no device called {name}: it has {has}.")
        return known[name]

    def _real(self, sys_path: str) -> Path:
        return self._directory / sys_path.lstrip("/")

    def _exists(self, sys_path: str) -> bool:
        return (self._real(sys_path) / "uevent").exists()

    def _usb_path(self, sys_name: str) -> str | None:
        link = self._directory / "sys/bus/usb/devices" / sys_name
        return f"/{link.resolve().relative_to(self._directory.resolve())}" if link.exists() else None

    def _port_path(self, recorded: str, port: str) -> str:
        match = _PORT.match(port)
        if match is None:
            raise RecordingError(f"{port!r} is no USB port: 1-2.4 is bus 1, port 2, port 4 of a hub.")
        bus = match["bus"] or str(bus_and_port(recorded)[0])
        hub, _, _ = match["path"].rpartition(".")
        above = f"{bus}-{hub}" if hub else f"usb{bus}"
        parent = self._usb_path(above)
        if parent is None:
            raise RecordingError(f"There is no hub {above} to plug into: plug that in first.")
        return f"{parent.removeprefix('/sys')}/{bus}-{match['path']}"

    def _next_devnum(self, bus: int) -> int:
        last = self._last_devnum.get(bus, 1)
        for number in chain(range(last + 1, 128), range(2, last + 1)):
            if not self._is_used(bus, number):
                return number
        raise RecordingError(f"Bus {bus} has no free device number: unplug something first.")

    def _is_used(self, bus: int, devnum: int) -> bool:
        minor = (bus - 1) * 128 + devnum - 1
        return (self._directory / f"sys/dev/char/{USB_MAJOR}:{minor}").is_symlink()

    def _properties(self, sys_path: str) -> dict[str, bytes]:
        lines = (self._real(sys_path) / "uevent").read_bytes().split(b"\n")
        pairs = (line.partition(b"=") for line in lines if b"=" in line)
        return {key.decode(): value for key, _, value in pairs}

    def _subsystem(self, sys_path: str) -> str:
        return PurePosixPath(os.readlink(self._real(sys_path) / "subsystem")).name

    def _below(self, sys_path: str) -> Iterator[str]:
        """The devices at and below *sys_path*, deepest first."""
        with os.scandir(self._real(sys_path)) as entries:
            children = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        for child in children:
            yield from self._below(f"{sys_path}/{child}")
        if self._exists(sys_path):
            yield sys_path

    # Making and unmaking nodes

    def _ensure_parents(self, path: str) -> None:
        """Make what a device at *path* hangs on: from the recording, else something plausible."""
        known = {} if self._recording is None else self._recording.devices
        for parent in reversed(PurePosixPath(path).parents):
            at = str(parent)
            if self._exists(f"/sys{at}"):
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
        taken = self._taken(node, subsystem, device_node)
        if taken:
            raise RecordingError(f"{node.path} cannot be added, {taken} is there already: give it another name.")
        try:
            self._library.add(self._handle, _without_pty(node).text.encode("utf-8", errors="surrogateescape"))
        except RecordingError as error:
            raise RecordingError(f"{self._source(node)}: {error}") from error
        for line in node.lines:
            if line.startswith("S: "):  # as udev makes them; absolute ones would lead out of the host
                link = self._directory / "dev" / line[3:]
                if device_node and link.is_symlink():
                    link.unlink()
                    link.symlink_to("../" * line.count("/") + device_node)
        if node.is_usb_device:
            bus, number = int(node.get("E", "BUSNUM") or 0), int(node.get("E", "DEVNUM") or 0)
            self._last_devnum[bus] = max(number, self._last_devnum.get(bus, 1))
        properties = self._properties(f"/sys{node.path}")
        properties.pop("DRIVER", None)  # comes with "bind"
        self._send(f"/sys{node.path}", "add", subsystem, properties)

    def _source(self, node: Node) -> str:
        """The file of the recording to look into, or the node itself."""
        if self._recording is not None:
            for file in sorted(self._recording.directory.glob("*.umockdev")):
                if f"P: {node.path}\n" in file.read_text(encoding="utf-8", errors="surrogateescape"):
                    return str(file)
        return node.path

    def _taken(self, node: Node, subsystem: str, device_node: str) -> str | None:
        """What is in the way of *node*: libumockdev would end the process over it."""
        name = PurePosixPath(node.path).name
        if self._exists(f"/sys{node.path}"):
            return f"/sys{node.path}"
        links = [f"sys/class/{subsystem}/{name}", f"sys/bus/{subsystem}/devices/{name}"]
        if subsystem == "block":
            links.append(f"sys/block/{name}")
        if device_node and node.get("A", "dev") is not None:
            links.append(f"dev/.node/{device_node.replace('/', '_')}")
        return next((f"/{link}" for link in links if (self._directory / link).is_symlink()), None)

    def _unlink(self, sys_path: str, properties: Mapping[str, bytes], subsystem: str) -> None:
        """Remove what points at the node from elsewhere: class, bus, /sys/dev and /dev."""
        name = PurePosixPath(sys_path).name
        links = [f"sys/class/{subsystem}/{name}", f"sys/bus/{subsystem}/devices/{name}"]
        if subsystem == "block":
            links.append(f"sys/block/{name}")
        if "MAJOR" in properties:
            number = b":".join((properties["MAJOR"], properties.get("MINOR", b""))).decode()
            links += [f"sys/dev/char/{number}", f"sys/dev/block/{number}"]
        if "DEVNAME" in properties:
            device_node = os.fsdecode(properties["DEVNAME"]).removeprefix("/dev/")
            links += [f"dev/{device_node}", f"dev/.node/{device_node.replace('/', '_')}"]
        links += [os.fsdecode(link).lstrip("/") for link in properties.get("DEVLINKS", b"").split()]
        for link in links:
            (self._directory / link).unlink(missing_ok=True)

    # Events

    def _send(self, sys_path: str, action: str, subsystem: str, properties: Mapping[str, bytes]) -> None:
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


def _without_pty(node: Node) -> Node:
    """*node* with a plain file for a device node: a pty made again would end the process."""
    lines = [f"{line}=00" if line.startswith("N: ") and "=" not in line else line for line in node.lines]
    return replace(node, lines=tuple(lines))


def _survives_removal(key: str) -> bool:
    """Whether udev's last events for a device still carry this property."""
    if key in {"ID_PATH", "ID_PATH_TAG"}:
        return True
    return key not in {"DRIVER", "DEVLINKS", "TAGS", "CURRENT_TAGS"} and not key.startswith(("ID_", "SYSTEMD_"))
