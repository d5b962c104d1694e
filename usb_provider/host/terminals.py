"""Which serial ports of USB devices the host uses: consoles, logins, and locks of programs such as pppd.

usage.py asks it. It reads what every user may read; which files a program has open is not among that.
"""

import os
import re
from collections.abc import Iterator, Mapping

from usb_provider.host.files import names_in, text_in
from usb_provider.host.network import dial_up
from usb_provider.model.devices.device import HostUse, UseKind
from usb_provider.model.text import printable

_TTY_CLASS = "/sys/class/tty"
_BUILT_IN = re.compile(r"(tty\d*|ttyS\d+|console|ptmx|[pt]ty[a-ep-z][0-9a-f]|hvc\d+|ttyprintk)")
_USB_DEVICE = re.compile(r"(.*/usb\d+(?:/\d+-[\d.]+)+)/")
_LOCKS = ("/run/lock", "/var/lock")


def terminals_in_use(in_use: Mapping[str, str]) -> dict[str, list[HostUse]]:
    """``{sysfs path of a USB device: uses of its serial ports}``. *in_use* are the network interfaces of the host."""
    ports = dict(_usb_ports())
    if not ports:
        return {}
    consoles = parse_consoles(text_in("/proc/consoles")) | set(text_in(f"{_TTY_CLASS}/console/active").split())
    locks = {port: owner for port in ports if (owner := _lock_owner(port)) is not None}
    controlling = _controlling_terminals()
    ppp = dial_up(in_use)
    if any(owner == "pppd" for owner in locks.values()):
        ppp = None
    found: dict[str, list[HostUse]] = {}
    for port, (device, number) in sorted(ports.items()):
        uses = found.setdefault(device, [])
        if port in consoles:
            uses.append(HostUse(UseKind.TERMINAL, f"{port} is a console of this host"))
        elif number in controlling:
            uses.append(HostUse(UseKind.TERMINAL, f"{port} is a terminal on which a session or a login prompt runs"))
        elif port in locks:
            uses.append(HostUse(UseKind.TERMINAL, f"{port} is locked by {locks[port]}"))
        elif ppp is not None:
            uses.append(HostUse(UseKind.DIAL_UP, f"{ppp} may run over its serial port {port}"))
    return found


def _usb_ports() -> Iterator[tuple[str, tuple[str, int]]]:
    """Each serial port of a USB device, with that device's sysfs path and the port's number as the kernel packs it."""
    for name in names_in(_TTY_CLASS):
        if _BUILT_IN.fullmatch(name):
            continue
        path = os.path.realpath(f"{_TTY_CLASS}/{name}")
        device = _USB_DEVICE.match(path)
        number = re.fullmatch(r"(\d+):(\d+)", text_in(f"{path}/dev").strip())
        if device and number:
            yield name, (device[1], packed(int(number[1]), int(number[2])))


def parse_consoles(text: str) -> set[str]:
    """The names in /proc/consoles, whose lines begin with them."""
    return {line.split()[0] for line in text.split("\n") if line.strip()}


def packed(major: int, minor: int) -> int:
    """A terminal's number as tty_nr of /proc/PID/stat has it (new_encode_dev in linux/kdev_t.h)."""
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)


def _controlling_terminals() -> frozenset[int]:
    """The number of each terminal that controls a process: getty and a login shell have one (proc(5), stat)."""
    found = set()
    for pid in names_in("/proc"):
        if pid.isdigit():
            # The name in parentheses may have any character, parentheses included.
            fields = text_in(f"/proc/{pid}/stat").rpartition(")")[2].split()
            if len(fields) > 4 and fields[4].lstrip("-").isdigit():
                found.add(int(fields[4]) & 0xFFFFFFFF)
    return frozenset(found)


def _lock_owner(port: str) -> str | None:
    """The program that locked *port* with a UUCP lock file, as pppd does (FHS 3.0, /var/lock); None when none has."""
    for directory in _LOCKS:
        pid = text_in(f"{directory}/LCK..{port}").strip().split(" ")[0]
        if pid.isdigit() and (name := text_in(f"/proc/{pid}/comm").strip()):
            return printable(name)
    return None
