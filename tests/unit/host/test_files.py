"""Small files that are read and written whole, whatever is there and whatever fails."""

import os
import socket
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from usb_provider.host.files import NoRegularFile, make_directory, read_whole, write_whole


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", b"one")
    write_whole(tmp_path / "file", b"other")
    assert read_whole(tmp_path / "file", limit=5) == b"other"
    assert os.listdir(tmp_path) == ["file"]
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def make_link(path: Path) -> None:
    target = path.parent / "target"
    target.write_bytes(b"another user's")
    path.symlink_to(target)


@pytest.mark.parametrize("make", [make_fifo, make_socket, make_link, Path.mkdir])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "file")
    started = time.monotonic()
    with pytest.raises(OSError, match="file"):
        read_whole(tmp_path / "file", limit=100)
    assert time.monotonic() - started < 1


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"123456")
    assert read_whole(tmp_path / "file", limit=6) == b"123456"
    with pytest.raises(NoRegularFile) as refused:
        read_whole(tmp_path / "file", limit=5)
    assert refused.value.strerror == "it is larger than 5 bytes"


def test_a_file_that_is_not_there_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_whole(tmp_path / "file", limit=5)


@pytest.mark.parametrize("step", ["fsync", "fchmod", "replace", "utime"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_what_was_there_and_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    def fail(*args: object, **how: object) -> None:
        raise error

    path = tmp_path / "file"
    path.write_bytes(b"before")
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(error)):
        write_whole(path, b"after", dated=path.stat())
    monkeypatch.undo()
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["file"]


def test_file_and_directory_are_synced_before_and_after_the_new_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, steps = tmp_path / "file", []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        kind = "directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        steps.append(f"sync {kind}, new name {path.exists()}")
        real_fsync(descriptor)

    def replace(source: Path, target: Path) -> None:
        steps.append("replace")
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    write_whole(path, b"new")
    assert steps == ["sync file, new name False", "replace", "sync directory, new name True"]


def test_what_a_crash_has_left_is_removed_and_what_another_writes_is_not(tmp_path: Path) -> None:
    old, new, foreign = tmp_path / ".file.a.tmp", tmp_path / ".file.b.tmp", tmp_path / ".other.a.tmp"
    for path in (old, new, foreign):
        path.write_bytes(b"half")
    hour_ago = time.time() - 3600
    for path in (old, foreign):
        os.utime(path, (hour_ago, hour_ago))
    write_whole(tmp_path / "file", b"whole")
    assert sorted(os.listdir(tmp_path)) == [".file.b.tmp", ".other.a.tmp", "file"]


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path, over = tmp_path / "file", threading.Event()
    contents = [bytes([letter]) * 200_000 for letter in b"ab"]
    write_whole(path, contents[0])

    def write() -> None:
        while not over.is_set():
            for content in contents:
                write_whole(path, content)

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        seen = {read_whole(path, limit=1 << 20) for _ in range(200)}
    finally:
        over.set()
        for writer in writers:
            writer.join()
    assert seen <= set(contents)
    assert os.listdir(tmp_path) == ["file"]


def test_the_temporary_file_may_be_beside_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, seen = tmp_path / "qemu.d", []
    directory.mkdir()
    real = os.replace

    def replace(source: Path, target: Path) -> None:
        seen.append((os.listdir(directory), source.parent))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    write_whole(directory / "hook", b"#!", mode=0o755, beside=tmp_path)
    assert seen == [([], tmp_path)]
    assert os.access(directory / "hook", os.X_OK)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_what_root_writes_for_another_user_is_that_users(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12346)
    write_whole(tmp_path / "theirs", b"", as_directory=True)
    write_whole(tmp_path / "roots", b"")
    owners = [((tmp_path / name).stat().st_uid, (tmp_path / name).stat().st_gid) for name in ("theirs", "roots")]
    assert owners == [(12345, 12346), (0, 0)]


def test_a_file_may_keep_the_date_of_another(tmp_path: Path) -> None:
    before = tmp_path / "before"
    before.write_bytes(b"")
    os.utime(before, (1000, 1000))
    write_whole(before, b"new", dated=before.stat())
    assert before.stat().st_mtime == 1000


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_directory_is_made_with_its_mode_whatever_the_umask_is(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        make_directory(tmp_path / "a" / "b", mode=0o750)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o750


def test_a_directory_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there").chmod(0o711)
    make_directory(tmp_path / "there", mode=0o750)
    assert stat.S_IMODE((tmp_path / "there").stat().st_mode) == 0o711


@pytest.mark.parametrize("make", [make_fifo, make_socket])
def test_what_is_no_directory_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "file")
    with pytest.raises(OSError):
        make_directory(tmp_path / "file" / "state", mode=0o750)


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    make_link(tmp_path / "file")
    write_whole(tmp_path / "file", b"ours", mode=0o640)
    assert (tmp_path / "target").read_bytes() == b"another user's"
    assert stat.S_IMODE((tmp_path / "file").lstat().st_mode) == 0o640
