"""The files of a replayed host: what is in its ``/sys``, and which links lead there.

It adds no device: libumockdev does (umockdev.py), when testbed.py tells it to.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from usb_provider.demo.recording import USB_MAJOR, Node


class SysfsTree:
    """The devices whose files are below *directory*. Paths of devices begin with ``/sys``, as udev gives them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def file(self, sys_path: str) -> Path:
        """Where the directory of *sys_path* really is."""
        return self._directory / sys_path.lstrip("/")

    def exists(self, sys_path: str) -> bool:
        """Whether there is a device at *sys_path*."""
        return (self.file(sys_path) / "uevent").exists()

    def usb_path(self, sys_name: str) -> str | None:
        """The path of the USB device that the kernel calls *sys_name*, such as ``1-4``; None when there is none."""
        link = self._directory / "sys/bus/usb/devices" / sys_name
        return f"/{link.resolve().relative_to(self._directory.resolve())}" if link.exists() else None

    def is_used(self, bus: int, devnum: int) -> bool:
        """Whether a device of *bus* has the number *devnum*."""
        minor = (bus - 1) * 128 + devnum - 1
        return (self._directory / f"sys/dev/char/{USB_MAJOR}:{minor}").is_symlink()

    def properties(self, sys_path: str) -> dict[str, bytes]:
        """The properties of a device that is there, from its ``uevent`` file."""
        lines = (self.file(sys_path) / "uevent").read_bytes().split(b"\n")
        pairs = (line.partition(b"=") for line in lines if b"=" in line)
        return {key.decode(): value for key, _, value in pairs}

    def subsystem(self, sys_path: str) -> str:
        """The subsystem of a device that is there."""
        return PurePosixPath(os.readlink(self.file(sys_path) / "subsystem")).name

    def below(self, sys_path: str) -> Iterator[str]:
        """The devices at and below *sys_path*, deepest first."""
        with os.scandir(self.file(sys_path)) as entries:
            children = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        for child in children:
            yield from self.below(f"{sys_path}/{child}")
        if self.exists(sys_path):
            yield sys_path

    def taken(self, node: Node, subsystem: str, device_node: str) -> str | None:
        """What is in the way of *node*: libumockdev would end the process over it."""
        name = PurePosixPath(node.path).name
        if self.exists(f"/sys{node.path}"):
            return f"/sys{node.path}"
        links = [f"sys/class/{subsystem}/{name}", f"sys/bus/{subsystem}/devices/{name}"]
        if subsystem == "block":
            links.append(f"sys/block/{name}")
        if device_node and node.get("A", "dev") is not None:
            links.append(f"dev/.node/{device_node.replace('/', '_')}")
        return next((f"/{link}" for link in links if (self._directory / link).is_symlink()), None)

    def unlink(self, sys_path: str, properties: Mapping[str, bytes], subsystem: str) -> None:
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
