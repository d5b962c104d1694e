"""Podman with a store of its own, which runs also in a container without systemd, and a service for Kolla's tools."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "usb-provider-kolla"
STORE = CACHE / "storage"
_SOCKET = Path("/run/usb-provider-kolla.sock")
SERVICE = f"unix://{_SOCKET}"
"""Where :func:`service` listens, for Kolla's tools."""
# Kolla's containers have the host's network. Podman's own limits and namespaces may be more than this machine allows.
_CONTAINERS = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
netns = "host"
pidns = "host"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
_STORAGE = f"""\
[storage]
driver = "overlay"
graphroot = "{STORE}"
runroot = "/run/usb-provider-kolla"
"""


class PodmanFailed(Exception):
    """A command of podman ended with another code than 0; the message is what it printed."""


def environment() -> dict[str, str]:
    """The environment in which podman uses the store of its own."""
    CACHE.mkdir(parents=True, exist_ok=True)
    variables = dict(os.environ)
    # Without user namespaces and cgroups of its own, a build can still change its root.
    variables["BUILDAH_ISOLATION"] = "chroot"
    for variable, name, text in (
        ("CONTAINERS_CONF", "containers.conf", _CONTAINERS),
        ("CONTAINERS_STORAGE_CONF", "storage.conf", _STORAGE),
    ):
        (CACHE / name).write_text(text)
        variables[variable] = str(CACHE / name)
    variables.pop("LD_PRELOAD", None)
    return variables


def podman(*words: str, check: bool = True, timeout: float = 600) -> str:
    """Give what podman prints, on both of its streams.

    :raises PodmanFailed: when it ends with another code than 0, and *check*.
    """
    done = subprocess.run(
        ("podman", *words),
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    if check and done.returncode:
        raise PodmanFailed(f"podman {' '.join(words)}: {done.stdout}")
    return done.stdout


def has(image: str) -> bool:
    """Whether the store has *image*."""
    with contextlib.suppress(PodmanFailed):
        podman("image", "exists", image)
        return True
    return False


@contextlib.contextmanager
def service() -> Iterator[str]:
    """Run podman's service within the block, and give its address."""
    _SOCKET.unlink(missing_ok=True)
    running = subprocess.Popen(("podman", "system", "service", "--time=0", SERVICE), env=environment())
    try:
        deadline = time.monotonic() + 60
        while not _SOCKET.exists():
            if running.poll() is not None or time.monotonic() > deadline:
                raise PodmanFailed("podman's service does not start")
            time.sleep(0.1)
        yield SERVICE
    finally:
        running.terminate()
        running.wait()
        _SOCKET.unlink(missing_ok=True)
