"""What sysfs says of a device's directory and of its port, which udev does not know. Reads files alone."""

import os
from pathlib import Path

from usb_provider.model.devices.place import peer_port


def inode_of(sys_path: str) -> int | None:
    """The inode of the device's directory; None when it is not there, or cannot be read."""
    try:
        return os.stat(sys_path).st_ino
    except OSError:
        return None


def descriptors_of(sys_path: str) -> bytes:
    """The descriptors of the device and of all its configurations; empty where they cannot be read.

    Not by libudev: it gives the value of an attribute as text, which ends at the first zero.
    """
    try:
        return Path(sys_path, "descriptors").read_bytes()
    except OSError:
        return b""


def port_of_other_bus(sys_path: str) -> str | None:
    """The port path, on the other bus, of the socket in which the device at *sys_path* is; None where sysfs says none.

    The ports of a hub are directories below its interface: ``usb2/2-0:1.0/usb2-port3`` for ``usb2/2-3``, and
    ``usb2/2-3/2-3:1.0/2-3-port1`` for ``usb2/2-3/2-3.1`` (drivers/usb/core/port.c).
    """
    above, name = os.path.split(sys_path)
    hub = os.path.basename(above)
    bus = name.partition("-")[0]
    port = name[len(bus) + 1 :].rpartition(".")[2]
    interface = f"{bus}-0:1.0" if hub == f"usb{bus}" else f"{hub}:1.0"
    try:
        return peer_port(os.readlink(f"{above}/{interface}/{hub}-port{port}/peer"))
    except OSError:
        return None
