"""What libvirt says of a guest's devices, against what the guest's QEMU has open."""

import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.unit.diagnosis.test_guests import VM, a_guest, the_hostdev
from usb_provider.diagnosis.check import Verdict
from usb_provider.diagnosis.dead_hostdevs import DeadHostdevsCheck, QemuFacts, open_devices
from usb_provider.model.binding.hostdev import Hostdev

CHECK = DeadHostdevsCheck()


def a_process(proc: Path, pid: int, *words: str, nodes: tuple[str, ...] = ()) -> None:
    """A process with this command line that has these nodes open."""
    directory = proc / str(pid)
    (directory / "fd").mkdir(parents=True)
    (directory / "cmdline").write_bytes("\0".join((*words, "")).encode())
    for number, node in enumerate(nodes):
        (directory / "fd" / str(number)).symlink_to(node)


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /proc in which a link to "BUS:DEVICE" is an open USB device."""
    real = Path.stat

    def node(path: Path, *, follow_symlinks: bool = True) -> object:
        if path.parent.name == "fd":
            bus, _, device = os.readlink(path).partition(":")
            if not device:
                raise FileNotFoundError(2, "No such file or directory")
            return SimpleNamespace(
                st_mode=stat.S_IFCHR | 0o600, st_rdev=os.makedev(189, (int(bus) - 1) * 128 + int(device) - 1)
            )
        return real(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", node)
    (tmp_path / "self").mkdir()
    return tmp_path


def test_the_qemu_of_each_guest_is_found_by_its_uuid_with_the_devices_that_it_has_open(proc: Path) -> None:
    a_process(
        proc, 12, "/usr/bin/qemu-system-x86_64", "-uuid", VM.upper(), "-nodefaults", nodes=("1:9", "socket", "3:127")
    )
    a_process(proc, 13, "/usr/bin/qemu-system-x86_64", "-uuid", "another", nodes=("1:8",))
    a_process(proc, 14, "grep", "-uuid")
    assert dict(open_devices(proc, frozenset({VM}))) == {VM: {(1, 9), (3, 127)}}


def test_a_device_that_qemu_has_open_is_alive() -> None:
    row = CHECK.judge(QemuFacts((a_guest(the_hostdev()),), {VM: frozenset({(1, 9)})}))
    assert (row.verdict, row.found) == (Verdict.OK, "QEMU has 1 device of the agent's open, as libvirt says.")


def test_a_device_that_qemu_has_closed_is_dead_and_comes_with_what_to_do() -> None:
    row = CHECK.judge(QemuFacts((a_guest(the_hostdev()),), {VM: frozenset({(1, 8)})}))
    assert row.verdict is Verdict.WRONG
    assert "at bus 1 device 9, but its QEMU does not have that device open." in row.found
    assert row.advice


def test_a_placeholder_and_a_hostdev_of_another_program_are_no_dead_ones() -> None:
    placeholder = Hostdev(the_hostdev().alias, None, None, 255, 255, missing=True)
    theirs = Hostdev("hostdev0", "1050", "0407", 1, 7)
    assert CHECK.judge(QemuFacts((a_guest(placeholder, theirs),), {VM: frozenset()})).verdict is Verdict.OK


def test_a_qemu_that_cannot_be_seen_is_not_judged() -> None:
    row = CHECK.judge(QemuFacts((a_guest(the_hostdev()),), {}))
    assert row.verdict is Verdict.NOT_CHECKED
    assert "QEMU of 1 guest cannot be seen" in row.found
