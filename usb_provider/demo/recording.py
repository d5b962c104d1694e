"""A recorded host, read from a folder of ``*.umockdev`` files; and a device of it with another number or port.

Pure except that it reads files. testbed.py replays it; description.py describes a device from words.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Self

from usb_provider.exception import UsbProviderError

USB_MAJOR = 189
"""The character devices of usbfs (Documentation/admin-guide/devices.txt)."""
_LINE = re.compile(r"^(?:[PS]: .+|[EAHL]: [^=]+=.*|N: [^=]+(?:=[0-9A-F]+)?)$")


class RecordingError(UsbProviderError):
    """A recording cannot be read or replayed; the message is one sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class Node:
    """One kernel device of a description: its ``P:`` path, and its lines with that one first."""

    path: str
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """The paragraph as umockdev reads it."""
        return "".join(f"{line}\n" for line in self.lines) + "\n"

    def get(self, kind: str, key: str) -> str | None:
        """The raw value of the first *kind* (``E``, ``A``, …) line for *key*."""
        prefix = f"{kind}: {key}="
        return next((line[len(prefix) :] for line in self.lines if line.startswith(prefix)), None)

    @property
    def is_usb_device(self) -> bool:
        """Whether this is a USB device: not one of its interfaces, nor anything below."""
        return self.get("E", "DEVTYPE") == "usb_device"


@dataclass(frozen=True, slots=True)
class RecordedDevice:
    """A USB device with its interfaces and their child nodes, as it was when recorded."""

    name: str
    nodes: tuple[Node, ...]

    @property
    def sys_path(self) -> str:
        """Where it was: ``/sys/devices/pci0000:00/0000:00:14.0/usb1/1-4``."""
        return f"/sys{self.nodes[0].path}"

    @property
    def sys_name(self) -> str:
        """Its port as the kernel names it: ``1-4``."""
        return PurePosixPath(self.sys_path).name

    @property
    def text(self) -> str:
        """All of it as umockdev reads it."""
        return "".join(node.text for node in self.nodes)


@dataclass(frozen=True, slots=True)
class Recording:
    """A folder of ``*.umockdev`` files and, beside them, ``proc/``.

    A USB device is named after its file. In a file that holds several (``umockdev-record`` adds the
    hubs above a device, ``--all`` writes everything) each is named by its port, such as ``1-4``,
    except the one that has no other below it, if there is only one.

    :ivar platform: nodes that belong to no USB device: PCI controllers, device-mapper volumes.
    :ivar devices: by name, parents before their children.
    :ivar proc: what ``/proc`` files hold, by name: ``self/mountinfo``.
    """

    directory: Path
    platform: tuple[Node, ...]
    devices: Mapping[str, RecordedDevice]
    proc: Mapping[str, bytes] = field(default_factory=dict)

    @classmethod
    def read(cls, directory: Path | str) -> Self:
        """Read *directory*, and check each line as far as umockdev would stop at it.

        :raises RecordingError: when there is no such folder or no ``*.umockdev`` file in it, or a
            file is not what ``umockdev-record`` writes; the caller should show the message.
        """
        folder = Path(directory)
        files = sorted(folder.glob("*.umockdev"))
        if not files:
            raise RecordingError(
                f"{folder} holds no *.umockdev file: name a folder made with "
                "'umockdev-record --all > FOLDER/host.umockdev', or use the bundled one, "
                f"{bundled().name}."
            )
        nodes: dict[str, Node] = {}
        names: dict[str, str] = {}
        for file in files:
            read = parse(file.read_text(encoding="utf-8", errors="surrogateescape"), source=str(file))
            usb = [node.path for node in read if node.is_usb_device]
            leaves = [path for path in usb if not any(other.startswith(f"{path}/") for other in usb)]
            if len(leaves) == 1:
                names[leaves[0]] = file.stem
            for node in read:
                nodes.setdefault(node.path, node)
        ordered = [nodes[path] for path in sorted(nodes, key=path_key)]
        owners = [node.path for node in ordered if node.is_usb_device]
        platform: list[Node] = []
        owned: dict[str, list[Node]] = {path: [] for path in owners}
        for node in ordered:
            owner = max((path for path in owners if within(node.path, path)), key=len, default=None)
            (platform if owner is None else owned[owner]).append(node)
        devices: dict[str, RecordedDevice] = {}
        for path in sorted(owners, key=lambda path: (path.count("/"), path_key(path))):
            name = names.get(path, PurePosixPath(path).name)
            if name in devices:
                raise RecordingError(f"Two USB devices of {folder} are called {name}: rename {name}.umockdev.")
            devices[name] = RecordedDevice(name, tuple(owned[path]))
        proc = folder / "proc"
        contents = {
            file.relative_to(proc).as_posix(): file.read_bytes() for file in sorted(proc.rglob("*")) if file.is_file()
        }
        return cls(folder, tuple(platform), MappingProxyType(devices), MappingProxyType(contents))

    def file_of(self, path: str) -> Path | None:
        """The file that describes the node at *path*; None when there is none."""
        for file in sorted(self.directory.glob("*.umockdev")):
            if f"P: {path}\n" in file.read_text(encoding="utf-8", errors="surrogateescape"):
                return file
        return None


def bundled() -> Path:
    """The folder of the recording that is installed with this package: a host with many devices."""
    return Path(str(resources.files("usb_provider.demo").joinpath("recordings", "busy-host")))


def parse(text: str, *, source: str = "the description") -> tuple[Node, ...]:
    """The nodes of *text*, in its order.

    Input: ``P: /devices/…/1-4``, ``E: SUBSYSTEM=usb``, ``A: serial=X\\n``, blank line, …
    Output: ``(Node("/devices/…/1-4", (…)), …)``

    :raises RecordingError: when a line is none that umockdev knows, a node has no ``SUBSYSTEM``, or
        there is no node.
    """
    nodes: list[Node] = []
    lines: list[str] = []
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        if line:
            first = not lines
            if not _LINE.match(line) or first != line.startswith("P: ") or (first and line[3:12] != "/devices/"):
                raise RecordingError(
                    f"{source}, line {number}, is not what umockdev-record writes ({line[:60]!r}): record it again."
                )
            lines.append(line)
        elif lines:
            node = Node(lines[0][3:], tuple(lines))
            if node.get("E", "SUBSYSTEM") is None:
                raise RecordingError(f"{source}: {node.path} has no line 'E: SUBSYSTEM=…': record it again.")
            nodes.append(node)
            lines = []
    if not nodes:
        raise RecordingError(f"{source} describes no device: record it again.")
    return tuple(nodes)


def path_key(path: str) -> list[list[str | int]]:
    """Sorts a parent before its children and port 2 before port 10."""
    return [
        [int(piece) if index % 2 else piece for index, piece in enumerate(re.split(r"(\d+)", part))]
        for part in path.split("/")
    ]


def within(path: str, ancestor: str) -> bool:
    """Whether *path* is *ancestor* or below it."""
    return path == ancestor or path.startswith(f"{ancestor}/")


def relocated(nodes: Sequence[Node], path: str, devnum: int) -> tuple[Node, ...]:
    """The same USB device, whose first node is *nodes[0]*, at *path* with *devnum*.

    Everything that names the port follows: paths, ID_PATH and links made of it, HID_PHYS, ``port``,
    relative links.
    """
    device = nodes[0]
    old_name, name = PurePosixPath(device.path).name, PurePosixPath(path).name
    bus, port = bus_and_port(path)
    controller = controller_of(path)
    replacements = [(re.compile(rf"(?<![\w.-]){re.escape(old_name)}(?=:\d)"), name)]
    old_id_path = device.get("E", "ID_PATH")
    if old_id_path is not None and port != "0":
        id_path = f"pci-{controller}-usb-0:{port}"
        for old, new in ((old_id_path, id_path), (id_path_tag(old_id_path), id_path_tag(id_path))):
            replacements.append((re.compile(rf"(?<![\w]){re.escape(old)}(?![\d.])"), new))
    old_phys = f"usb-{controller_of(device.path)}-{bus_and_port(device.path)[1]}/"
    replacements.append((re.compile(re.escape(old_phys)), f"usb-{controller}-{port}/"))
    replacements.append((re.compile(r"^(E: ID_NET_NAME_PATH=\w*?)u[\du]+"), rf"\1u{port.replace('.', 'u')}"))
    deeper = path.count("/") - device.path.count("/")

    def rewritten(line: str) -> str:
        if line.startswith("L: "):
            line = relinked(line, deeper)
        if not line.startswith(("H: ", "A: ")) or line.startswith("A: phys="):
            for pattern, text in replacements:
                line = pattern.sub(text, line)
        return line

    moved = []
    for node in nodes:
        below = re.sub(rf"/{re.escape(old_name)}(?=:\d)", f"/{name}", node.path[len(device.path) :])
        moved.append(Node(path + below, (f"P: {path}{below}", *map(rewritten, node.lines[1:]))))
    minor = (bus - 1) * 128 + devnum - 1
    node_name = f"bus/usb/{bus:03}/{devnum:03}"
    parent = f"{bus}-0:1.0/usb{bus}" if "." not in port else f"{(hub := name.rpartition('.')[0])}:1.0/{hub}"
    moved[0] = _with_values(
        moved[0],
        {
            "E: BUSNUM": f"{bus:03}",
            "E: DEVNUM": f"{devnum:03}",
            "E: DEVNAME": f"/dev/{node_name}",
            "E: MINOR": str(minor),
            "A: busnum": f"{bus}\\n",
            "A: devnum": f"{devnum}\\n",
            "A: devpath": f"{port}\\n",
            "A: dev": f"{USB_MAJOR}:{minor}\\n",
            "L: port": f"../{parent}-port{port.rpartition('.')[2]}",
        },
        node_name,
    )
    return tuple(moved)


def _with_values(node: Node, values: Mapping[str, str], node_name: str) -> Node:
    """*node* with other values for keys that it has, and with *node_name* as its device node."""

    def changed(line: str) -> str:
        key, equals, value = line.partition("=")
        if key.startswith("N: "):
            return f"N: {node_name}{equals}{value}"
        return f"{key}={values[key]}" if key in values else line

    return replace(node, lines=tuple(map(changed, node.lines)))


def relinked(line: str, deeper: int) -> str:
    """A link that climbs to the root of sysfs, now that it starts so many steps *deeper*."""
    match = re.match(r"^(L: [^=]+=)((?:\.\./)+)((?:bus|class|devices)/.*)$", line)
    if match is None:
        return line
    return match[1] + "../" * (match[2].count("../") + deeper) + match[3]


def id_path_tag(id_path: str) -> str:
    """The ID_PATH_TAG that udev makes of an ID_PATH."""
    return re.sub(r"_+", "_", re.sub(r"[^A-Za-z0-9-]", "_", id_path))


def bus_and_port(path: str) -> tuple[int, str]:
    """``…/usb1/1-1/1-1.4`` → ``(1, "1.4")``; a root hub, ``…/usb1`` → ``(1, "0")``."""
    name = PurePosixPath(path).name
    if name.startswith("usb"):
        return int(name[3:]), "0"
    bus, _, port = name.partition("-")
    return int(bus), port


def controller_of(path: str) -> str:
    """The last PCI address in *path*, or nothing for a controller that is not on PCI."""
    found = re.findall(r"/([0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])(?=/)", path)
    return found[-1] if found else ""
