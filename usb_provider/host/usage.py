"""What the host itself uses: mounts, swap, volume groups, networks, serial ports and the console keyboard.

Reads /proc and sysfs; model/devices/offer.py says which use keeps a device from being offered. proc(5) describes the
files. What has a file of its own: storage.py, network.py and terminals.py.
"""

import functools
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import placement_traits
from usb_provider.host.files import names_in, text_in
from usb_provider.host.network import NETWORK_DRIVERS, flags, interfaces_in_use
from usb_provider.host.storage import named_devices, names_of, signature
from usb_provider.host.terminals import terminals_in_use
from usb_provider.model.devices.device import HostUse, Triplet, UsbDevice, UseKind
from usb_provider.model.text import printable

BOOT_KEYBOARD: Triplet = ("03", "01", "01")
# What a keyboard may have beside its keys: a slot for smart cards or memory cards, a maker's own interface, firmware
# update. A headset with buttons has something else.
_OF_KEYBOARDS = frozenset({"03", "08", "0b", "fe", "ff"})
_KEYBOARD_DRIVERS = frozenset({"usbhid", "usbkbd"})
# Most devices have one of these, so that nothing more is read of them.
_NEVER_NETWORK = frozenset({"ftdi_sio", "hub", "snd-usb-audio", "uas", "usb-storage", "usbfs", "usbhid", "uvcvideo"})

_RTF_UP = 0x1
_RTF_REJECT = 0x200

Below = tuple[str, str, Mapping[str, str]]
"""A kernel device below a USB device: subsystem, sysfs path, udev properties."""


@dataclass(frozen=True, slots=True)
class HostUsage:
    """What is in use on this host now.

    ``mounts`` and ``swaps`` map a block device, by path (/dev/sdb1) or number (8:17), to where it is used;
    ``spans`` are names of block devices (sdb1) that a mounted filesystem of several devices has;
    ``default_routes`` are interface names; ``networks`` tells how each interface is used;
    ``terminals`` are uses of serial ports, by the sysfs path of their USB device;
    ``named`` gives which file names a block device, and is called only when a USB device has one.
    """

    mounts: Mapping[str, str] = field(default_factory=dict)
    spans: Collection[str] = ()
    swaps: Collection[str] = ()
    default_routes: Collection[str] = ()
    networks: Mapping[str, str] = field(default_factory=dict)
    terminals: Mapping[str, Iterable[HostUse]] = field(default_factory=dict)
    named: Callable[[], Mapping[str, str]] = dict

    @classmethod
    def read(cls) -> Self:
        """From /proc. In a container, only PID 1's mounts may show those of the host, so both files are read."""
        mounts = parse_mountinfo(text_in("/proc/self/mountinfo")) | parse_mountinfo(text_in("/proc/1/mountinfo"))
        networks = interfaces_in_use()
        return cls(
            mounts=mounts,
            spans=btrfs_devices(Path("/sys/fs/btrfs")),
            swaps=parse_swaps(text_in("/proc/swaps")),
            default_routes=parse_routes(text_in("/proc/net/route"), text_in("/proc/net/ipv6_route")),
            networks=networks,
            terminals=terminals_in_use(networks),
            named=functools.cache(named_devices),
        )

    def of(
        self, device: UsbDevice, drivers: Mapping[Triplet, str | None], below: Iterable[Below]
    ) -> tuple[HostUse, ...]:
        """Every use of *device*, from what hangs *below* it and the *drivers* of its interfaces, where known."""
        uses: list[HostUse] = [*self.terminals.get(device.sys_path, ())]
        is_token = placement_traits.is_security_token(device.vendor_id, device.product_id, device.interfaces)
        typed_on = has_network = False
        for subsystem, sys_path, properties in below:
            if subsystem == "block":
                uses += self._of_block(sys_path, properties)
            elif subsystem == "net":
                has_network = True
                uses += self._of_interface(sys_path)
            elif subsystem == "hidraw":
                is_token = is_token or "1" in (properties.get("ID_FIDO_TOKEN"), properties.get("ID_SECURITY_TOKEN"))
            elif subsystem == "input":
                typed_on = typed_on or properties.get("ID_INPUT_KEYBOARD") == "1"
        if not has_network and _is_network_elsewhere(device):
            what = "its network interface is in another network namespace, or not there yet"
            uses.append(HostUse(UseKind.NAMESPACE, what))
        if (typed_on or _is_keyboard(device, drivers)) and not is_token:
            uses.append(HostUse(UseKind.CONSOLE_KEYBOARD, "it is a keyboard of the console"))
        return tuple(uses)

    def _of_block(self, sys_path: str, properties: Mapping[str, str]) -> Iterable[HostUse]:
        name = os.path.basename(sys_path)
        paths = {properties.get("DEVNAME", f"/dev/{name}"), *properties.get("DEVLINKS", "").split()}
        number = f"{properties.get('MAJOR')}:{properties.get('MINOR')}"
        where = self.mounts.get(number) or next((self.mounts[path] for path in paths if path in self.mounts), None)
        if where is not None:
            yield HostUse(UseKind.MOUNTED, f"{name} is mounted on {printable(where)}")
        elif name in self.spans:
            yield HostUse(UseKind.MOUNTED, f"{name} is a part of a mounted filesystem")
        if paths & set(self.swaps):
            yield HostUse(UseKind.SWAP, f"{name} is swap space")
        for holder in names_in(f"{sys_path}/holders"):
            yield HostUse(UseKind.HELD, f"{name} is held by {holder}")
        named = self.named()
        file = next((named[each] for each in names_of(paths, properties) if each in named), None) if named else None
        if file is not None:
            yield HostUse(UseKind.NAMED, f"{name} is a disk that {file} names")
        marked = signature(properties)
        if marked is not None:
            yield HostUse(UseKind.MEMBER, f"{name} is marked as {marked[0]}", marked[1])

    def _of_interface(self, sys_path: str) -> Iterable[HostUse]:
        name = os.path.basename(sys_path)
        if name in self.default_routes:
            yield HostUse(UseKind.DEFAULT_ROUTE, f"network interface {name} carries the default route")
        elif name in self.networks:
            yield HostUse(UseKind.NETWORK, f"network interface {name} {self.networks[name]}")
        # "master" and "upper_…" are links to the bridge, bond, switch or VLAN on top (net/core/dev.c).
        uppers = [
            entry.removeprefix("upper_") for entry in names_in(sys_path) if entry == "master" or entry[:6] == "upper_"
        ]
        if uppers:
            yield HostUse(UseKind.ENSLAVED, f"network interface {name} is a part of {printable(uppers[-1])}")


def parse_mountinfo(text: str) -> dict[str, str]:
    """``{source path or major:minor: mount point}`` of /proc/PID/mountinfo; lines of another form are left out.

    Input ``36 35 8:17 / /mnt/backup rw shared:1 - ext4 /dev/sdb1 rw``,
    output ``{"8:17": "/mnt/backup", "/dev/sdb1": "/mnt/backup"}``.
    """
    mounts: dict[str, str] = {}
    # Not splitlines(): the kernel escapes only the newline, and a label may bring any other separator into a path.
    for line in text.split("\n"):
        fields = line.split(" ")
        # Six fields, then any number of optional ones, and "-" after these (proc(5)).
        source = fields[fields.index("-", 6) + 1 :] if "-" in fields[6:] else []
        if len(source) < 2 or not re.fullmatch(r"\d+:\d+", fields[2]):
            continue
        where = _unescape(fields[4])
        # Name the first mount of a device: bind mounts of parts of it come later.
        mounts.setdefault(fields[2], where)
        # bcachefs names all of its devices, with colons between (fs/bcachefs: bch2_show_devname).
        parts = source[1].split(":")
        for path in parts if all(part.startswith("/dev/") for part in parts) else [source[1]]:
            if path.startswith("/dev/"):
                mounts.setdefault(_unescape(path), where)
    return mounts


def btrfs_devices(directory: Path) -> frozenset[str]:
    """Names of the block devices of btrfs filesystems that are mounted, by sysfs's ``fs/btrfs`` (btrfs(5)).

    mountinfo names only one of them, and a device number that none of them has.
    """
    return frozenset(name for each in names_in(str(directory)) for name in names_in(f"{directory}/{each}/devices"))


def parse_swaps(text: str) -> frozenset[str]:
    """Paths in /proc/swaps."""
    return frozenset(_unescape(re.split(r"[ \t]", line)[0]) for line in text.split("\n")[1:] if line.startswith("/"))


def parse_routes(ipv4: str, ipv6: str) -> frozenset[str]:
    """Interfaces that /proc/net/route and /proc/net/ipv6_route give a default route."""
    names = set()
    for line in ipv4.split("\n")[1:]:
        fields = line.split()
        if len(fields) >= 8 and fields[1] == fields[7] == "00000000" and flags(fields[3]) & _RTF_UP:
            names.add(fields[0])
    for line in ipv6.split("\n"):
        fields = line.split()
        if len(fields) < 10 or fields[0] != "0" * 32 or fields[1] != "00":
            continue
        if flags(fields[8]) & _RTF_UP and not flags(fields[8]) & _RTF_REJECT:
            names.add(fields[9])
    return frozenset(names)


def _is_network_elsewhere(device: UsbDevice) -> bool:
    """Whether a driver has made a network interface of *device* that this network namespace does not have.

    sysfs hides it, but shows the directory in which it is (the kernel's class_dir_create_and_add).
    """
    if NETWORK_DRIVERS.intersection(device.drivers):
        return True
    if not device.drivers or _NEVER_NETWORK.issuperset(device.drivers):
        return False
    interfaces = (entry for entry in names_in(device.sys_path) if entry.startswith(f"{device.sys_name}:"))
    return any(os.path.isdir(f"{device.sys_path}/{interface}/net") for interface in interfaces)


def _is_keyboard(device: UsbDevice, drivers: Mapping[Triplet, str | None]) -> bool:
    """Whether its interfaces are those of a keyboard, and no driver shows that the host does not read it."""
    if BOOT_KEYBOARD not in device.interfaces or not _OF_KEYBOARDS.issuperset(each[0] for each in device.interfaces):
        return False
    return BOOT_KEYBOARD not in drivers or drivers[BOOT_KEYBOARD] in _KEYBOARD_DRIVERS


def _unescape(text: str) -> str:
    """Octal escapes of proc(5): a space is ``\\040``."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
