"""What else of this host the binding depends on: libvirt's daemons, the hook's file, security modules, the kernel's
authorisation of devices.

Reads /proc, /sys and /etc; what it means is model/diagnosis.py's. Facts for "usb-provider doctor", not for the agent.
"""

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from usb_provider.diagnosis.checks import (
    AuthorizationFacts,
    Daemon,
    HookFacts,
    SocketFacts,
    UdevFacts,
)
from usb_provider.model.devices.device import UsbDevice

DAEMONS = ("virtqemud", "libvirtd")
"""Who runs guests, and so the hook: libvirt's modular daemon and its monolithic one."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where to look; a test has its own."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    run: Path = Path("/run")


def daemons(places: Places) -> tuple[Daemon, ...]:
    """Libvirt's daemons that run guests, as far as this process may see processes.

    :raises OSError: when /proc cannot be read.
    """
    boot = re.search(r"^btime (\d+)$", (places.proc / "stat").read_text(), re.MULTILINE)
    return tuple(_daemons(places.proc, float(boot[1]) if boot else 0.0))


def _daemons(proc: Path, boot: float) -> Iterator[Daemon]:
    for directory in proc.iterdir():
        if not directory.name.isdecimal():
            continue
        try:
            text = (directory / "stat").read_text(errors="replace")
        except OSError:
            continue  # it has ended meanwhile
        # The name stands in parentheses and may hold some (proc(5)).
        name, _, rest = text.partition("(")[2].rpartition(")")
        if name in DAEMONS:
            ticks = int(rest.split()[19])
            yield Daemon(name, int(directory.name), boot + ticks / os.sysconf("SC_CLK_TCK"), _label(directory))


def _label(process: Path) -> str | None:
    try:
        return (process / "attr/current").read_text(errors="replace").strip("\0\n ") or None
    except OSError:
        return None


def hook_file(path: Path, wanted: str) -> HookFacts:
    """The hook at *path*, compared with the text that it should have.

    :raises OSError: when this user may not look.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return HookFacts(str(path), exists=False)
    text = path.read_text(encoding="utf-8", errors="replace")
    socket = re.search(r'^SOCKET = "((?:[^"\\]|\\.)*)"$', text, re.MULTILINE)
    return HookFacts(
        str(path),
        exists=True,
        executable=stat.S_ISREG(mode) and bool(mode & 0o111),
        current=text == wanted,
        socket=re.sub(r"\\(.)", r"\1", socket[1]) if socket else None,
        has_python=shutil.which("python3") is not None,
    )


def hook_since(directory: Path) -> tuple[float, float] | None:
    """Since when the oldest of the hooks that libvirt would run has been as it is, and the oldest date of one.

    In seconds since 1970; None where there is no hook. *directory* is qemu.d; libvirt's other hook, the file qemu, is
    beside it.

    :raises OSError: when this user may not look.
    """
    found = []
    candidates = [directory.with_suffix("")]
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        candidates += directory.iterdir()
    for path in candidates:
        try:
            entry = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISREG(entry.st_mode) and entry.st_mode & 0o111:
            # ctime also moves when the mode changes, and nobody can set it.
            found.append((entry.st_ctime, entry.st_mtime))
    return (min(changed for changed, _ in found), min(dated for _, dated in found)) if found else None


def selinux(places: Places) -> str | None:
    """``enforcing`` or ``permissive``; None where SELinux is off."""
    try:
        return "enforcing" if (places.sys / "fs/selinux/enforce").read_text().strip() == "1" else "permissive"
    except OSError:
        return None


def apparmor(places: Places) -> bool:
    """Whether AppArmor is on."""
    try:
        return (places.sys / "module/apparmor/parameters/enabled").read_text().strip() == "Y"
    except OSError:
        return False


def authorization(places: Places, devices: tuple[UsbDevice, ...]) -> AuthorizationFacts:
    """What the kernel does with newly plugged devices, by root hub, and who of *devices* is not authorised."""
    defaults = {}
    for file in sorted((places.sys / "bus/usb/devices").glob("usb*/authorized_default")):
        try:
            defaults[file.parent.name] = file.read_text().strip()
        except OSError:
            continue  # the controller went
    return AuthorizationFacts(defaults, tuple(each.sys_name for each in devices if not each.authorized))


def udev(places: Places, devices: tuple[UsbDevice, ...]) -> UdevFacts:
    """Whether *devices* is all that there can be."""
    return UdevFacts(
        has_usb=(places.sys / "bus/usb").is_dir(),
        runs=(places.run / "udev/control").exists(),
        devices=len(devices),
        unsettled=tuple(each.sys_name for each in devices if not each.settled),
    )


def socket_file(path: Path) -> SocketFacts:
    """What is at the agent's socket; whether somebody answers is not asked here."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return SocketFacts(str(path), exists=False)
    except PermissionError:
        return SocketFacts(str(path), exists=True, denied=True)
    return SocketFacts(str(path), exists=True, is_socket=stat.S_ISSOCK(mode), mode=stat.S_IMODE(mode))
