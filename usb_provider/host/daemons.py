"""libvirt's daemons on this host: which run, since when, and their labels by a security module. Reads /proc."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# What runs guests, and so the hook: libvirt's modular daemon and its monolithic one.
_NAMES = ("virtqemud", "libvirtd")


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon of libvirt: since when it runs, in seconds since 1970, and its label by a security module."""

    name: str
    pid: int
    started: float
    label: str | None = None


def daemons(proc: Path = Path("/proc")) -> tuple[Daemon, ...]:
    """Libvirt's daemons that run guests, as far as this process may see processes.

    :raises OSError: when *proc* cannot be read.
    """
    boot = re.search(r"^btime (\d+)$", (proc / "stat").read_text(), re.MULTILINE)
    return tuple(_daemons(proc, float(boot[1]) if boot else 0.0))


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
        if name in _NAMES:
            ticks = int(rest.split()[19])
            yield Daemon(name, int(directory.name), boot + ticks / os.sysconf("SC_CLK_TCK"), _label(directory))


def _label(process: Path) -> str | None:
    try:
        return (process / "attr/current").read_text(errors="replace").strip("\0\n ") or None
    except OSError:
        return None
