"""Which devices the files of a host name, and whether a disk is still to come."""

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usb_provider.host import storage
from usb_provider.host.storage import (
    autofs_names,
    cmdline_names,
    crypttab_names,
    fstab_names,
    is_disk_awaited,
    is_storage_driver,
    resume_names,
    unit_names,
)

FSTAB = """\
# /etc/fstab: static file system information
/dev/mapper/vg0-root / ext4 errors=remount-ro 0 1
UUID=1234-ABCD /mnt/backup vfat noauto,user 0 0
LABEL=my\\040disk#1 /srv xfs logdev=/dev/sdc2,nofail 0 2
server:/export /nfs nfs defaults 0 0
tmpfs /tmp tmpfs defaults 0 0
"""


def test_fstab_names_the_devices_of_each_line_and_those_in_its_options() -> None:
    assert fstab_names(FSTAB) == ["/dev/mapper/vg0-root", "UUID=1234-ABCD", "LABEL=my disk#1", "/dev/sdc2"]


def test_crypttab_names_encrypted_devices_and_those_that_keep_keys_and_headers() -> None:
    text = (
        "# name device key options\n"
        "data UUID=aa none luks\n"
        "more /dev/sdb2 /key:LABEL=KEYSTICK luks,header=/header:UUID=bb\n"
        "odd\n"
    )
    assert crypttab_names(text) == ["UUID=aa", "/dev/sdb2", "LABEL=KEYSTICK", "UUID=bb"]


def test_a_systemd_unit_names_what_it_mounts() -> None:
    assert unit_names("[Mount]\nWhat=/dev/disk/by-uuid/aa\nWhere=/mnt\n") == ["/dev/disk/by-uuid/aa"]
    assert unit_names("[Mount]\nWhat = tmpfs\n") == []


def test_a_map_of_autofs_names_what_is_mounted_when_it_is_wanted() -> None:
    text = "# :/dev/sda1\nbackup -fstype=ext4,noatime :/dev/disk/by-label/BACKUP\nhome server:/home\n* :/dev/sdb2\n"
    assert autofs_names(text) == ["/dev/disk/by-label/BACKUP", "/dev/sdb2"]


def test_the_command_line_names_the_root_file_system_and_where_the_host_hibernates() -> None:
    assert cmdline_names("ro root=UUID=aa resume=/dev/sdb3 quiet rd.luks.uuid=luks-cc") == [
        "UUID=aa",
        "/dev/sdb3",
        "UUID=cc",
    ]
    assert cmdline_names(
        "rd.luks.name=aa=root cryptdevice=UUID=bb:root:allow-discards cryptkey=LABEL=KEY:ext4:/key"
    ) == [
        "UUID=aa",
        "UUID=bb",
        "LABEL=KEY",
    ]
    assert "LABEL=KEYSTICK" in cmdline_names("rd.luks.key=aa=/key:LABEL=KEYSTICK luks.uuid=aa luks.uuid=bb")
    assert "UUID=dd" in cmdline_names("rd.luks.key=/key:UUID=dd:UUID=ee rd.luks.data=ff=/dev/sdb1")
    assert "/dev/sdb1" in cmdline_names("rd.luks.data=ff=/dev/sdb1")
    assert resume_names('# x\nRESUME="UUID=dd"\n') == ["UUID=dd"]


@given(st.text(" #=/\\:,0123456789\n\tUIDLABEvkm"))
def test_files_of_any_form_are_read(text: str) -> None:
    for parse in (autofs_names, fstab_names, crypttab_names, unit_names, cmdline_names, resume_names):
        parse(text)


def test_each_file_that_is_there_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fstab").write_text("UUID=AA /mnt ext4 noauto 0 0\n")
    (tmp_path / "mnt-x.mount").write_text("[Mount]\nWhat=/dev/disk/by-label/x\\x20y\n")
    monkeypatch.setattr(storage, "FSTAB", str(tmp_path / "fstab"))
    monkeypatch.setattr(storage, "UNITS", (str(tmp_path),))
    named = storage.named_devices()
    assert named["UUID=aa"] == str(tmp_path / "fstab")
    assert named["LABEL=x y"] == "the systemd unit mnt-x.mount"


@pytest.mark.parametrize("name", ["usb-storage", "uas", "ums-realtek", "ums-eneub6250"])
def test_the_siblings_of_usb_storage_bring_disks_too(name: str) -> None:
    assert is_storage_driver(name)


def test_a_scsi_disk_without_its_block_device_is_waited_for(tmp_path: Path) -> None:
    device = tmp_path / "2-2"
    scsi = device / "2-2:1.0" / "host9" / "target9:0:0" / "9:0:0:0"
    scsi.mkdir(parents=True)
    (scsi / "type").write_text("0\n")
    assert is_disk_awaited(str(device), [])
    assert not is_disk_awaited(str(device), [f"{scsi}/block/sdx"])
    second = scsi.parent / "9:0:0:1"
    second.mkdir()
    (second / "type").write_text("0\n")
    assert is_disk_awaited(str(device), [f"{scsi}/block/sdx"])
    (second / "type").write_text("13\n")
    assert not is_disk_awaited(str(device), [f"{scsi}/block/sdx"])


@pytest.mark.parametrize("kind", ["usb_provider", "LVM2_member"])
def test_what_udev_knows_of_a_disk_is_read_from_its_database(tmp_path: Path, kind: str) -> None:
    disk = tmp_path / "1-2/1-2:1.0/host9/target9:0:0/9:0:0:0/block/sdb"
    disk.mkdir(parents=True)
    (disk / "dev").write_text("8:16\n")
    data = tmp_path / "run/udev/data"
    data.mkdir(parents=True)
    assert storage.udev_disks(str(tmp_path / "1-2"), tmp_path / "run") == []
    (data / "b8:16").write_text(f"S:disk/by-id/x\nI:60000000\nE:ID_FS_TYPE={kind}\nG:systemd\n")
    (found,) = storage.udev_disks(str(tmp_path / "1-2"), tmp_path / "run")
    booted_at = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
    assert (found.name, found.is_left_alone) == ("sdb", kind == "usb_provider")
    assert found.seen_at == pytest.approx(booted_at + 60, abs=5)
