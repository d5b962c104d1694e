"""The command that puts the hook where libvirt finds it, and nothing beside it."""

import os
import shutil
import stat
from collections.abc import Callable
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


def test_what_a_power_cut_made_of_the_hook_is_replaced(program: Program, directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / NAME).write_bytes(b"\xff\xfe\0" + b"\0" * 4096)
    assert program.run("install-hook", "--dry-run", "--directory", directory).out.startswith("Would update")
    assert program.run("install-hook", "--directory", directory).code == 0
    assert (directory / NAME).read_text() == hook_text(Path("/nonexistent/hook.sock"), 30.0)


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


# A hook that does not run


def test_a_socket_whose_line_goes_on_below_is_refused_and_the_old_hook_stays(program: Program, directory: Path) -> None:
    """An indented line continues the option above it."""
    assert program.run("install-hook", "--directory", directory).code == 0
    before = (directory / NAME).read_text()
    program.groups["hook"]["socket"] = "/run/usb-provider/hook.sock\n  timeout = 5"
    done = program.run("install-hook", "--directory", directory)
    assert done.code == 2
    assert done.complaints == [
        "[hook]socket has a value that is not allowed: it has a second line (an indented line continues the option "
        "above it)."
    ]
    assert (directory / NAME).read_text() == before


@pytest.mark.parametrize("value", ["hook.sock", "./hook.sock", "run/hook.sock"])
def test_a_socket_that_is_no_absolute_path_is_refused(program: Program, directory: Path, value: str) -> None:
    program.groups["hook"]["socket"] = value
    done = program.run("install-hook", "--directory", directory)
    assert done.code == 2
    assert done.complaints == [f"[hook]socket has a value that is not allowed: '{value}' is no absolute path."]
    assert everything(directory) == []


@pytest.fixture
def path_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Give a function that makes the text of a program the only python3 that the hook finds."""

    def make(text: str) -> None:
        programs = tmp_path / "programs"
        programs.mkdir()
        for name in ("cat", "grep"):
            (programs / name).symlink_to(shutil.which(name) or "")
        if text:
            (programs / "python3").write_text(text)
            (programs / "python3").chmod(0o755)
        monkeypatch.setenv("PATH", str(programs))

    return make


@pytest.mark.parametrize(
    ("python", "why"),
    [
        ("", "python3 ended with 127: "),
        ("#!/bin/sh\necho 'SyntaxError: invalid syntax' >&2\nexit 1\n", "python3 ended with 1: SyntaxError: invalid"),
    ],
    ids=["none", "broken"],
)
def test_a_hook_that_does_not_run_replaces_no_other(
    program: Program, directory: Path, path_with: Callable[[str], None], python: str, why: str
) -> None:
    directory.mkdir(parents=True)
    (directory / NAME).write_text("#!/bin/sh\n# an older hook\n")
    path_with(python)
    done = program.run("install-hook", "--directory", directory)
    assert done.code == 2
    (complaint,) = done.complaints
    assert complaint.startswith(f"The hook does not run here, so {directory / NAME} stays as it was: {why}")
    assert (directory / NAME).read_text() == "#!/bin/sh\n# an older hook\n"
    assert everything(directory) == [f"qemu.d/{NAME}"]
