"""Small files that are read and written whole: what a crash, a full disk or another user leaves there does no harm.

The caller knows what is in them, and what a failure means.
"""

import contextlib
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_STALE_SECONDS = 600.0
"""How old a temporary file is that a crash has left, and no process still writes."""


class NoRegularFile(OSError):
    """The file is not a regular one, or larger than the caller wants to read; it was not read."""


def read_whole(path: Path, *, limit: int) -> bytes:
    """What is in the regular file *path*, which has *limit* bytes at most. A symbolic link is not followed.

    A FIFO, a socket or a device is left unread, so that nothing waits.

    :raises FileNotFoundError, NotADirectoryError: when nothing is there.
    :raises NoRegularFile: when it is no regular file, or larger. :raises OSError: when it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NoRegularFile(0, "it is no regular file", str(path))
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(limit + 1)
    finally:
        os.close(descriptor)
    if len(content) > limit:
        raise NoRegularFile(0, f"it is larger than {limit} bytes", str(path))
    return content


def write_whole(
    path: Path,
    content: bytes,
    *,
    mode: int = 0o644,
    as_directory: bool = False,
    dated: os.stat_result | None = None,
    beside: Path | None = None,
    tried: Callable[[Path], object] = lambda path: None,
) -> None:
    """Make *content* the whole of *path*, or leave it as it was, also at a power failure.

    :param as_directory: give the file the owner of its directory, where this process may.
    :param dated: give the file these times instead of the present.
    :param beside: the directory for the temporary file, on the same filesystem; that of *path* if None.
    :param tried: gets the temporary file when it is complete; what it raises keeps the old file.
    :raises OSError: when it cannot be written; no temporary file is left then.
    """
    directory = path.parent if beside is None else beside
    prefix = f".{path.name}."
    _remove_stale(directory, prefix)
    temporary = directory / f"{prefix}{secrets.token_hex(8)}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if as_directory and os.geteuid() == 0:
                owner = path.parent.stat()
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            os.fchmod(descriptor, mode)
            if dated is not None:
                os.utime(descriptor, ns=(dated.st_atime_ns, dated.st_mtime_ns))
            os.fsync(descriptor)
        tried(temporary)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync(path.parent)


def make_directory(path: Path, *, mode: int) -> None:
    """Make the directory *path* with this *mode*, whatever the umask is; one that is there stays as it is.

    :raises OSError: when it cannot be made.
    """
    if path.is_dir():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(0o700, exist_ok=True)
    path.chmod(mode)


def _sync(directory: Path) -> None:
    """Write the name of the new file to the disk as well. A filesystem that cannot do that still has the file."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_stale(directory: Path, prefix: str) -> None:
    """Remove temporary files that killed writers of the same file have left, but none that a writer still uses."""
    for left in _temporary(directory, prefix):
        with contextlib.suppress(OSError):
            if time.time() - left.lstat().st_mtime > _STALE_SECONDS:
                left.unlink()


def _temporary(directory: Path, prefix: str) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            if name.startswith(prefix) and name.endswith(".tmp"):
                yield directory / name


def text_in(path: str) -> str:
    """The text in *path*, other bytes as escapes; empty where it is not there or cannot be read."""
    try:
        # Not read_text(), which makes a newline of a carriage return.
        return Path(path).read_bytes().decode("utf-8", "backslashreplace")
    except OSError:
        return ""


def names_in(path: str) -> list[str]:
    """The names in the directory *path*, sorted; none where it is not there or cannot be read."""
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []
