"""The command that puts the hook where libvirt finds it, and nothing beside it."""

import os
import stat
from pathlib import Path

import pytest

from tests.fixtures.processes import Program, program
from usb_provider.cmd.install_hook import NAME, hook_text

__all__ = ["program"]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """libvirt's qemu.d, which is not there yet, in the directory of all hooks."""
    return tmp_path / "hooks" / "qemu.d"


def everything(directory: Path) -> list[str]:
    """Every file in the directory of hooks and below."""
    return sorted(str(path.relative_to(directory.parent)) for path in directory.parent.rglob("*") if path.is_file())


def test_the_hook_is_installed_whole_and_leaves_no_other_file(program: Program, directory: Path) -> None:
    done = program.run("install-hook", "--directory", directory)
    assert done.code == 0
    assert everything(directory) == [f"qemu.d/{NAME}"]
    assert (directory / NAME).read_text() == hook_text(Path("/nonexistent/hook.sock"), 30.0)
    assert stat.S_IMODE((directory / NAME).stat().st_mode) == 0o755


def test_a_hook_that_is_updated_keeps_its_date_and_leaves_no_other_file(program: Program, directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / NAME).write_text("#!/bin/sh\n")
    os.utime(directory / NAME, (1000, 1000))
    assert program.run("install-hook", "--directory", directory).code == 0
    assert everything(directory) == [f"qemu.d/{NAME}"]
    assert (directory / NAME).stat().st_mtime == 1000
    assert (directory / NAME).read_text().startswith("#!")


def test_a_hook_that_cannot_be_written_leaves_no_other_file(program: Program, directory: Path) -> None:
    (directory / NAME).mkdir(parents=True)
    done = program.run("install-hook", "--directory", directory)
    assert done.code == 2
    assert everything(directory) == []


def test_what_a_crash_has_left_is_removed(program: Program, directory: Path) -> None:
    directory.mkdir(parents=True)
    left = directory.parent / f".{NAME}.0123.tmp"
    left.write_text("half a hook")
    os.utime(left, (1000, 1000))
    assert program.run("install-hook", "--directory", directory).code == 0
    assert everything(directory) == [f"qemu.d/{NAME}"]
