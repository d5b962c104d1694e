"""Where a USB device is plugged in, by what stays the same when cards are added, buses are numbered anew or hosts boot.

A controller is known by its topology: the way that a PCI request takes to it, or the device that the board has. Its
name in sysfs may change at a boot, since it has the number of a PCI bus or a counter of the kernel in it. Pure: the
caller gives sysfs' paths. Which device is in a place is sightings.py's.
"""

import re
from dataclasses import dataclass

_ROOT_HUB = re.compile(r"usb\d+\Z")
_PCI = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:(?P<slot>[0-9a-f]{2}\.[0-7])\Z")
_PCI_ROOT = re.compile(r"pci[0-9a-f]{4,8}:[0-9a-f]{2}\Z")
# "xhci-hcd.0.auto", "ci_hdrc.1": the kernel counts devices that have no name of their own (drivers/base/platform.c,
# platform_device_add). "a600000.usb" is a name of the board's: an address, and what is there.
_COUNTED = re.compile(r"[\w-]+\.\d+(\.auto)?\Z")
_NO_DEVICE = frozenset({"", "sys", "devices", "platform", "virtual"})
_PORT = re.compile(r"(?:usb(?P<bus>\d+)|(?P<hub>\d+-[\d.]+))-port(?P<port>\d+)\Z")


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A socket of this host: the *controller* by its topology, and the *port* path from its root hub down.

    A USB 3 socket is a port of two buses. Where sysfs says which two belong together, *port* is that of the USB 2 bus,
    whichever of the two the device uses. Where it does not, *is_usb3* tells the ports of one number apart.
    """

    controller: str
    port: str
    is_usb3: bool = False

    def __str__(self) -> str:
        return f"{self.controller}-{self.port}{'+usb3' if self.is_usb3 else ''}"


def controller_address(sys_path: str) -> str | None:
    """The name in sysfs of the controller: ``0000:00:14.0`` for ``/sys/devices/pci0000:00/0000:00:14.0/usb1/1-2``.

    The next boot may give another one. None when the path has no bus in it.
    """
    above = _above_bus(sys_path)
    return above[-1] if above and above[-1] else None


def controller(sys_path: str) -> str | None:
    """The controller by its topology, which a new card or another order of drivers does not change.

    A PCI controller on a root bus: its address, ``0000:00:14.0``. One behind bridges: the address of the first bridge,
    and slot and function of each device on the way down, ``0000:00:1c.4/00.0``. Any other: the device that the board
    has, ``a800000.usb`` for ``/sys/devices/platform/soc@0/a800000.usb/xhci-hcd.0.auto/usb1``. None when the path has
    no bus in it.
    """
    above = _above_bus(sys_path)
    if not above or not above[-1]:
        return None
    named = list(above)
    while len(named) > 1 and _COUNTED.match(named[-1]):
        named.pop()
    if named[-1] in _NO_DEVICE:
        return above[-1]
    if not _PCI.match(named[-1]):
        return named[-1]
    chain: list[str] = []
    for part in reversed(named):
        if _PCI.match(part):
            chain.insert(0, part)
        elif not _PCI_ROOT.match(part):
            # A root bridge below a PCI device, as Intel's VMD has, is a step of the way like any other.
            break
    return "/".join([chain[0], *(part[part.rindex(":") + 1 :] for part in chain[1:])])


def peer_port(port_path: str) -> str | None:
    """The port path of a port's directory in sysfs: ``6`` for ``…/1-0:1.0/usb1-port6``, ``6.1`` for ``…/1-6-port1``.

    None for anything else. The link ``peer`` of a port names the one that is the same socket on the other bus
    (Documentation/ABI/testing/sysfs-bus-usb).
    """
    found = _PORT.match(port_path.rpartition("/")[2])
    if found is None:
        return None
    above = (found["hub"] or "").partition("-")[2]
    return f"{above}.{found['port']}" if above else found["port"]


def _above_bus(sys_path: str) -> list[str]:
    """The directories above the root hub in *sys_path*; empty when there is none."""
    parts = sys_path.split("/")
    return next((parts[:index] for index, part in enumerate(parts) if index and _ROOT_HUB.match(part)), [])
