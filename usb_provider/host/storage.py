"""Which block devices the host has plans for: signatures, files of /etc and /run that name them, disks to come.

usage.py asks it about the block devices of USB devices. It reads what every user may read, and opens no device.
"""

import os
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from usb_provider.host.files import names_in, text_in
from usb_provider.model.text import printable

MOVED_TYPE = "USB_PROVIDER_FS_TYPE"
"""The property to which conf/udev/61-usb-provider.rules moves ID_FS_TYPE, so that the host activates nothing."""

LEFT_ALONE_TYPE = "usb_provider"
"""What that rule has for ID_FS_TYPE instead, on each disk that is for guests."""

_SCSI_DISKS = frozenset({"0", "4", "5", "7", "14"})
"""SCSI device types that get a block device: disk, write-once, CD, optical, simplified disk (scsi/scsi_proto.h)."""

_SCSI_DEVICE = re.compile(r"\d+:\d+:\d+:\d+")

# Signatures by which libblkid knows storage that a kernel or a daemon takes into service by itself, and of which udev
# does not say ID_FS_USAGE=raid. Names: libblkid/src/superblocks of util-linux.
_IN_SERVICE = frozenset(
    {
        "DM_integrity",
        "DM_snapshot_cow",
        "DM_verity_hash",
        "VMFS",
        "bcache",
        "ceph_bluestore",
        "drbd",
        "drbdproxy_datalog",
        "gfs2",
        "jbd",
        "mpool",
        "ocfs2",
        "stratis",
        "swap",
        "swsuspend",
        "ubi",
        "vdo",
        "xfs_external_log",
    }
)

# Partitions of Ceph that carry no signature: ceph-disk's table, and src/../udev/95-ceph-osd.rules of Ceph.
_PARTITION_TYPES: Mapping[str, str] = {
    "4fbd7e29-9d25-41b8-afd0-062c0ceff05d": "Ceph OSD",
    "4fbd7e29-9d25-41b8-afd0-5ec00ceff05d": "Ceph OSD",
    "4fbd7e29-8ae0-4982-bf9d-5a8d867af560": "Ceph OSD",
    "45b0969e-9b03-4f30-b4c6-b4b80ceff106": "Ceph journal",
    "45b0969e-9b03-4f30-b4c6-5ec00ceff106": "Ceph journal",
    "45b0969e-8ae0-4982-bf9d-5a8d867af560": "Ceph journal",
    "cafecafe-9b03-4f30-b4c6-b4b80ceff106": "Ceph block",
    "30cd0809-c2b2-499c-8879-2d6b78529876": "Ceph block.db",
    "5ce17fce-4087-4169-b7ff-056cc58473f9": "Ceph block.wal",
    "fb3aabf9-d25f-47cc-bf5e-721d1816496b": "Ceph lockbox",
}

_TAGS: Mapping[str, tuple[str, ...]] = {
    "UUID": ("ID_FS_UUID", "ID_FS_UUID_ENC", "ID_FS_UUID_SUB"),
    "LABEL": ("ID_FS_LABEL", "ID_FS_LABEL_ENC"),
    "PARTUUID": ("ID_PART_ENTRY_UUID",),
    "PARTLABEL": ("ID_PART_ENTRY_NAME",),
}
"""The tags of fstab(5), and the properties of udev that have them."""

FSTAB = "/etc/fstab"
CRYPTTAB = "/etc/crypttab"
UNITS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/generator",
    "/run/systemd/generator.early",
    "/run/systemd/generator.late",
    "/run/systemd/transient",
    "/usr/local/lib/systemd/system",
)
AUTOFS = ("/etc", "/etc/auto.master.d")


def is_storage_driver(name: str) -> bool:
    """Whether a disk can come of an interface with this driver: usb-storage, its ums-… siblings, or uas."""
    return name in ("usb-storage", "uas") or name.startswith("ums-")


def is_disk_awaited(sys_path: str, disks: Collection[str]) -> bool:
    """Whether below the USB device at *sys_path* is a SCSI disk that has no block device in *disks* yet.

    The kernel adds the block device when the disk answers, which takes many seconds where it has to start turning.
    """
    return any(
        not any(disk.startswith(f"{scsi}/") for disk in disks)
        for scsi in _scsi_devices(sys_path)
        if text_in(f"{scsi}/type").strip() in _SCSI_DISKS
    )


def _scsi_devices(sys_path: str) -> Iterator[str]:
    """``…/1-2:1.0/host9/target9:0:0/9:0:0:0`` for each SCSI device of the USB device at *sys_path*."""
    name = os.path.basename(sys_path)
    for interface in _listing(sys_path, f"{name}:"):
        for host in _listing(f"{sys_path}/{interface}", "host"):
            for target in _listing(f"{sys_path}/{interface}/{host}", "target"):
                directory = f"{sys_path}/{interface}/{host}/{target}"
                yield from (f"{directory}/{each}" for each in _listing(directory) if _SCSI_DEVICE.fullmatch(each))


@dataclass(frozen=True, slots=True)
class UdevDisk:
    """A disk in udev's database: when udev first saw it, by the wall clock, and whether the host leaves it alone."""

    name: str
    seen_at: float
    is_left_alone: bool


def udev_disks(sys_path: str, run: Path) -> list[UdevDisk]:
    """The disks of the USB device at *sys_path* as udev's database below *run* has them; without those it has not.

    Its form is that of src/libsystemd/sd-device/device-private.c: ``I:`` microseconds since the boot, ``E:`` property.
    """
    booted_at = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
    found = []
    for scsi in _scsi_devices(sys_path):
        for name in _listing(f"{scsi}/block"):
            number = text_in(f"{scsi}/block/{name}/dev").strip()
            lines = text_in(f"{run}/udev/data/b{number}").split("\n")
            seen = next((line[2:] for line in lines if re.fullmatch(r"I:\d+", line)), None)
            if seen is not None:
                is_left_alone = f"E:ID_FS_TYPE={LEFT_ALONE_TYPE}" in lines
                found.append(UdevDisk(name, booted_at + int(seen) / 1e6, is_left_alone))
    return found


def signature(properties: Mapping[str, str]) -> tuple[str, str] | None:
    """What a block device is marked as, in words, and a text that tells this signature from every other.

    None where the signature is one of those that mean nothing to a host that does not mount it, or where there is none.
    """
    kind = properties.get(MOVED_TYPE) or properties.get("ID_FS_TYPE", "")
    usage = properties.get("ID_FS_USAGE")
    label = properties.get("ID_FS_LABEL", "")
    part = properties.get("ID_PART_ENTRY_TYPE", "").lower()
    identified = (properties.get("ID_FS_UUID", ""), properties.get("ID_FS_UUID_SUB", ""))
    if kind in _IN_SERVICE or kind.endswith("_member") or usage in ("raid", "other"):
        return printable(kind) or "a member of an array", " ".join((kind, *identified))
    if kind == "crypto_LUKS" and "ceph_fsid=" in label + properties.get("ID_FS_SUBSYSTEM", ""):
        return "an encrypted Ceph OSD", " ".join((kind, *identified))
    if part in _PARTITION_TYPES:
        return _PARTITION_TYPES[part], f"{part} {properties.get('ID_PART_ENTRY_UUID', '')}"
    return None


def names_of(paths: Iterable[str], properties: Mapping[str, str]) -> frozenset[str]:
    """By which names files such as /etc/fstab can mean the block device with these *paths* and udev *properties*."""
    tags = (f"{tag}={properties[name]}" for tag, names in _TAGS.items() for name in names if properties.get(name))
    return frozenset(each for name in (*paths, *tags) for each in spellings(name))


def named_devices() -> dict[str, str]:
    """``{name of a block device: which file names it}`` of this host's fstab, crypttab, systemd units and command line.

    Names are as :func:`names_of` gives them. In a container, /run/systemd may be the host's where /etc is not.
    """
    named: dict[str, str] = {}
    for path, parse in ((FSTAB, fstab_names), (CRYPTTAB, crypttab_names)):
        _add(named, parse(text_in(path)), path)
    for directory in AUTOFS:
        for name in _listing(directory, "auto.") + _listing("/etc/auto.master.d"):
            _add(named, autofs_names(text_in(f"{directory}/{name}")), f"{directory}/{printable(name)}")
    _add(named, cmdline_names(text_in("/proc/cmdline")), "the kernel's command line")
    _add(named, resume_names(text_in("/etc/initramfs-tools/conf.d/resume")), "/etc/initramfs-tools/conf.d/resume")
    for directory in UNITS:
        for unit in _listing(directory):
            if unit.endswith((".mount", ".swap")):
                _add(named, unit_names(text_in(f"{directory}/{unit}")), f"the systemd unit {printable(unit)}")
    return named


def _add(named: dict[str, str], names: Iterable[str], where: str) -> None:
    for name in names:
        for each in spellings(name):
            named.setdefault(each, where)
        if name.startswith("/dev/"):
            # An administrator's own link; udev's are properties of the device.
            named.setdefault(os.path.realpath(name), where)


def fstab_names(text: str) -> list[str]:
    """The devices in the first field of fstab(5), and those that options name (a journal, another disk of btrfs)."""
    names = []
    for line in text.split("\n"):
        # Only a "#" that begins the line begins a comment: a label may have one inside.
        fields = [] if line.lstrip().startswith("#") else [_unescape(field) for field in line.split()]
        names += _devices_in([*fields[:1], *_option_values(fields[3:4])])
    return names


def crypttab_names(text: str) -> list[str]:
    """The devices in crypttab(5): encrypted ones, those that keep a key (``path:device``), and detached headers."""
    names = []
    for line in text.split("\n"):
        fields = line.split()
        if len(fields) < 2 or fields[0].startswith("#"):
            continue
        key_device = fields[2].rpartition(":")[2] if len(fields) > 2 else ""
        values = _option_values(fields[3:4])
        names += _devices_in([fields[1], key_device, *values, *(value.rpartition(":")[2] for value in values)])
    return names


def unit_names(text: str) -> list[str]:
    """The devices that a systemd mount or swap unit names (systemd.mount(5), systemd.swap(5))."""
    found = (re.match(r"\s*What\s*=\s*(.*)", line) for line in text.split("\n"))
    return _devices_in(match[1].strip().strip('"').replace("%%", "%") for match in found if match)


def autofs_names(text: str) -> list[str]:
    """The devices in a map of autofs(5), whose lines are ``key -options :/dev/sdb1``."""
    lines = (line for line in text.split("\n") if not line.lstrip().startswith("#"))
    return _devices_in(field[1:] for line in lines for field in line.split()[1:] if field[:1] == ":")


def cmdline_names(text: str) -> list[str]:
    """The devices that the kernel's command line names, for dracut, systemd and initramfs-tools.

    These are the root file system, the space for hibernation, and what is encrypted, or has a key or header for that.
    """
    names = []
    for word in text.split():
        option, _, value = word.partition("=")
        value = value.strip('"')
        option = option.removeprefix("rd.")
        if option in ("root", "resume", "usr", "mount.usr", "cryptdevice", "cryptkey"):
            names.append(value.partition(":")[0])
        elif option in ("luks.uuid", "luks.name", "luks.key", "luks.data", "luks.options"):
            # systemd: "UUID", "UUID=NAME", "UUID=DEVICE", "UUID=/key:DEVICE"; dracut: "/key:DEVICE:DEVICE".
            pieces = re.split("[:,]", value)
            names += [f"UUID={value.partition('=')[0].removeprefix('luks-')}", *pieces]
            names += [piece.partition("=")[2] for piece in pieces]
    return _devices_in(names)


def resume_names(text: str) -> list[str]:
    """The device for hibernation in initramfs-tools' conf.d/resume, ``RESUME=UUID=…``."""
    return _devices_in(line.partition("=")[2].strip().strip('"') for line in text.split("\n") if line[:7] == "RESUME=")


def _option_values(fields: Iterable[str]) -> list[str]:
    return [option.partition("=")[2] for field in fields for option in field.split(",") if "=" in option]


def _devices_in(texts: Iterable[str]) -> list[str]:
    return [text for text in texts if text.startswith("/dev/") or text.partition("=")[0] in (*_TAGS, "ID")]


def spellings(name: str) -> Iterator[str]:
    """*name* in the forms in which two names of one device are equal: links of udev are also tags, UUIDs lower-case."""
    tag, _, value = name.partition("=")
    link = re.fullmatch(r"/dev/disk/by-(uuid|label|partuuid|partlabel|id)/(.+)", name)
    if link:
        yield name
        tag, value = link[1].upper(), link[2]
    elif name.startswith("/"):
        yield name
        return
    value = re.sub(r"\\x([0-9a-fA-F]{2})", lambda match: chr(int(match[1], 16)), value.strip('"'))
    yield f"{tag}={value.lower() if tag in ('UUID', 'PARTUUID') else value}"


def _unescape(text: str) -> str:
    r"""Octal escapes of fstab(5): a space is ``\040``."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _listing(path: str, begin: str = "") -> list[str]:
    return [name for name in names_in(path) if name.startswith(begin)]
