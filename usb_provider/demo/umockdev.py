"""umockdev on this machine: whether it is in this process, how to run under it, and its library's testbeds.

The only module that calls libumockdev, by ctypes. testbed.py says what is in a testbed.
"""

import atexit
import ctypes
import os
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from usb_provider.demo.recording import RecordingError

UMOCKDEV_PACKAGES = "'apt install umockdev' on Debian and Ubuntu, 'dnf install umockdev' on Fedora and RHEL (EPEL)"


def is_active() -> bool:
    """Whether umockdev's preload library is in this process: it can see a :class:`Testbed`."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        return any("libumockdev-preload" in line for line in maps)


def wrap(argv: Sequence[str]) -> list[str]:
    """The command line that runs *argv* with the preload library: hand it to ``exec`` or
    ``subprocess``.

    :raises RecordingError: when umockdev is not installed.
    """
    wrapper = shutil.which("umockdev-wrapper")
    if wrapper is None:
        raise RecordingError(f"umockdev is not installed: {UMOCKDEV_PACKAGES}.")
    return [wrapper, *argv]


class _GError(ctypes.Structure):
    _fields_ = (("domain", ctypes.c_uint32), ("code", ctypes.c_int), ("message", ctypes.c_char_p))


class Library:
    """libumockdev, and the testbeds that it made for this process.

    A testbed that is done with is emptied and used again, never freed: libumockdev's own threads race with both the
    making and the freeing of one.
    """

    def __init__(self) -> None:
        try:
            umockdev = ctypes.CDLL("libumockdev.so.0")
            glib = ctypes.CDLL("libglib-2.0.so.0")
        except OSError as error:
            raise RecordingError(f"umockdev is not installed ({error}): {UMOCKDEV_PACKAGES}.") from error
        self._new = umockdev.umockdev_testbed_new
        self._new.restype = ctypes.c_void_p
        self._root = umockdev.umockdev_testbed_get_root_dir
        self._root.argtypes, self._root.restype = [ctypes.c_void_p], ctypes.c_void_p
        self._add = umockdev.umockdev_testbed_add_from_string
        self._add.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(ctypes.POINTER(_GError))]
        self._add.restype = ctypes.c_int
        self._free = glib.g_free
        self._free.argtypes = [ctypes.c_void_p]
        self._free_error = glib.g_error_free
        self._free_error.argtypes = [ctypes.POINTER(_GError)]
        self._idle: list[tuple[int, Path]] = []
        self._visible: list[Path] = []
        self._outside = os.environ.pop("UMOCKDEV_DIR", None)
        # The answer, which is no as long as there is no testbed, is remembered by the library, and keeps it from
        # sending events of its own. Where it is yes all the same, each "add" comes twice, which does no harm.
        umockdev.umockdev_in_mock_environment()
        if self._outside is not None:
            os.environ["UMOCKDEV_DIR"] = self._outside
        atexit.register(self._remove_directories)

    def take(self) -> tuple[int, Path]:
        """An empty testbed and its directory; from here on $UMOCKDEV_DIR names that."""
        handle, directory = self._idle.pop() if self._idle else self._made()
        for name in ("bus", "class"):
            (directory / "sys" / name).mkdir(parents=True, exist_ok=True)
        self._visible.append(directory)
        os.environ["UMOCKDEV_DIR"] = str(directory)  # libumockdev told libc only, not Python
        return handle, directory

    def give_back(self, handle: int, directory: Path) -> None:
        """Empty the testbed; $UMOCKDEV_DIR names the one that was taken before it, if any."""
        self._visible.remove(directory)
        now = str(self._visible[-1]) if self._visible else self._outside
        if now is None:
            del os.environ["UMOCKDEV_DIR"]
        else:
            os.environ["UMOCKDEV_DIR"] = now
        for entry in directory.iterdir():
            if entry.name == "ioctl":  # libumockdev listens there
                continue
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        self._idle.append((handle, directory))

    def add(self, handle: int, text: bytes) -> None:
        """:raises RecordingError: with umockdev's own words."""
        error = ctypes.POINTER(_GError)()
        if not self._add(handle, text, ctypes.byref(error)):
            message = error.contents.message.decode(errors="replace") if error else "no reason given"
            if error:
                self._free_error(error)
            raise RecordingError(f"umockdev refuses the description: {message}.")

    def _made(self) -> tuple[int, Path]:
        memory = Path("/dev/shm")  # a host has thousands of files, and disks are slow at these
        quick = "TMPDIR" not in os.environ and _has_room(memory)
        if quick:
            os.environ["TMPDIR"] = str(memory)
        try:
            handle = int(self._new())
        finally:
            if quick:
                del os.environ["TMPDIR"]
        root = self._root(handle)
        directory = Path(os.fsdecode(ctypes.string_at(root)))
        self._free(root)
        return handle, directory

    def _remove_directories(self) -> None:
        for _, directory in self._idle:
            shutil.rmtree(directory, ignore_errors=True)


@cache
def library() -> Library:
    """The library, once in each process.

    :raises RecordingError: when umockdev is not installed; the message names the package.
    """
    return Library()


def _has_room(directory: Path) -> bool:
    """Whether files can be made in *directory*, and 256 MiB of them."""
    try:
        space = os.statvfs(directory)
    except OSError:
        return False
    return os.access(directory, os.W_OK) and space.f_bavail * space.f_frsize > 2**28
