"""Reads a Linux guest's clock of ticks out of its memory: it goes on where a resume kept the memory, and begins anew
with a boot. The guest, whose console is silent after a restore, need not help."""

import functools
import re
import struct
from pathlib import Path

from tests.integration.lab import domains
from tests.integration.lab.vm import Vm

_KERNEL_BASE = 0xFFFFFFFF80000000
"""Where an x86-64 kernel that is not moved (nokaslr) maps the beginning of physical memory."""
_ENTRY = struct.Struct("<iii")
"""Of a kernel's table of exported symbols: value, name and namespace, each from its own place."""


def ticks(vm: Vm, domain: str) -> int:
    """How many ticks of its timer the kernel in *domain* has counted since it booted."""
    where = _address_of("jiffies", vm.image.directory / "vmlinux") - _KERNEL_BASE
    said = domains.virsh(vm, "qemu-monitor-command", domain, "--hmp", f"xp /1gx {where:#x}")
    count = int(said.split(":")[1], 16)
    return (count - _first(count)) & 0xFFFFFFFF


def _first(count: int) -> int:
    """The ticks with which a kernel begins: five minutes before its 32-bit count overflows, whatever its HZ."""
    return min((-300 * hz & 0xFFFFFFFF for hz in (100, 250, 300, 1000)), key=lambda first: (count - first) & 0xFFFFFFFF)


@functools.cache
def _address_of(symbol: str, kernel: Path) -> int:
    """The address of an exported *symbol* in an ELF file that has no other table of symbols."""
    data = kernel.read_bytes()
    sections = _sections(data)
    strings_at, strings_offset, strings_size = sections["__ksymtab_strings"]
    strings = data[strings_offset : strings_offset + strings_size]
    # A name that others end with is stored within one of them.
    names_at = {strings_at + found.start() for found in re.finditer(rb"%b\0" % symbol.encode(), strings)}
    for table in ("__ksymtab", "__ksymtab_gpl"):
        at, offset, size = sections[table]
        for entry in range(0, size, _ENTRY.size):
            value, name, _ = _ENTRY.unpack_from(data, offset + entry)
            if at + entry + 4 + name in names_at:
                return at + entry + value
    raise LookupError(symbol)


def _sections(data: bytes) -> dict[str, tuple[int, int, int]]:
    """Address, offset in the file and size of each section, by name."""
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count, names = struct.unpack_from("<HHH", data, 58)
    headers = [struct.unpack_from("<IIQQQQ", data, table + size * number) for number in range(count)]
    names_offset = headers[names][4]

    def name(offset: int) -> str:
        start = names_offset + offset
        return data[start : data.index(b"\0", start)].decode()

    return {name(header[0]): (header[3], header[4], header[5]) for header in headers}
