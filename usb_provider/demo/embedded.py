"""A real Placement of one's own: on loopback, in a directory, for the demo and for trying things.

The service is openstack-placement itself, on a SQLite file, without Keystone: the token "admin"
is its only secret, so it listens on 127.0.0.1 and nowhere else. It runs as a child process (this
module is also the program that the child runs), because Placement keeps global state and because
the parent may live under an LD_PRELOAD that must not reach it.

One thread serves it, always: with more, concurrent writers meet "database is locked" in SQLite and
half of them fail. Only here does this project ever create a root provider; everywhere else the
root is nova-compute's.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib.util
import json
import logging
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

from keystoneauth1 import adapter, session, token_endpoint
from keystoneauth1 import exceptions as ksa_exceptions

from usb_provider.exception import UsbProviderError

MODULE = "usb_provider.demo.embedded"
LOOPBACK = "127.0.0.1"
TOKEN = "admin"
MICROVERSION = "1.39"
LOG_NAME = "placement.log"
DATABASE = "placement.sqlite"
NOT_INSTALLED = "the embedded Placement needs openstack-placement and waitress: pip install usb-provider[demo]"

CONFIG = """\
# Written at each start of the embedded Placement; paths are relative to this directory.
[DEFAULT]
log_file = placement.log
[api]
auth_strategy = noauth2
[placement_database]
connection = sqlite:///placement.sqlite
sync_on_startup = true
# Only a crash of the whole machine could lose data by this, and writes are much faster.
sqlite_synchronous = false
"""

ROOT_INVENTORIES: Mapping[str, Mapping[str, float]] = {
    # Ratios and reserved amounts are nova-compute's defaults.
    "VCPU": {"total": 16, "reserved": 0, "max_unit": 16, "allocation_ratio": 4.0},
    "MEMORY_MB": {"total": 65536, "reserved": 512, "max_unit": 65536, "allocation_ratio": 1.0},
    "DISK_GB": {"total": 500, "reserved": 0, "max_unit": 500, "allocation_ratio": 1.0},
}
ROOT_TRAITS = (
    "COMPUTE_NODE",
    "COMPUTE_DEVICE_TAGGING",
    "COMPUTE_IMAGE_TYPE_QCOW2",
    "COMPUTE_IMAGE_TYPE_RAW",
    "COMPUTE_NET_ATTACH_INTERFACE",
    "COMPUTE_VOLUME_MULTI_ATTACH",
    "HW_ARCH_X86_64",
)


class EmbeddedError(UsbProviderError):
    """The embedded Placement cannot start or went away; the one sentence says why.

    The caller should print it and give up: nothing gets better by trying again.
    """


class EmbeddedPlacement:
    """A running embedded Placement; as a context manager it stops at the end and keeps its data."""

    def __init__(self, process: subprocess.Popen[bytes], endpoint: str, directory: Path) -> None:
        """Take over a child that answers at *endpoint*; use :meth:`start` to get one."""
        self._process = process
        self.endpoint = endpoint
        self.directory = directory
        self.token = TOKEN
        self._adapter = adapter.Adapter(
            session.Session(auth=token_endpoint.Token(endpoint, TOKEN), timeout=30),
            service_type="placement",
            raise_exc=False,
            connect_retries=0,
        )

    @classmethod
    def start(cls, directory: Path, port: int = 0, timeout: float = 60, *, fresh: bool = False) -> Self:
        """Give a Placement that answers and keeps its data in *directory*.

        The directory is made when missing, and its data is continued when not, unless *fresh*. Port 0
        takes a free one. The child ends with this process, however that ends.

        :raises EmbeddedError: when it is not installed, the directory cannot be written or another
            one uses it, the port is taken, or nothing answers within *timeout* seconds; the caller
            should print it and give up.
        """
        require_installed()
        directory = Path(directory).absolute()
        log = directory / LOG_NAME
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as stderr:
                log_start = stderr.tell()
                process = subprocess.Popen(
                    [
                        sys.executable,
                        "-m",
                        MODULE,
                        "--directory",
                        str(directory),
                        "--port",
                        str(port),
                        *(["--fresh"] if fresh else []),
                    ],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    env=_child_environment(os.environ),
                    start_new_session=True,  # Ctrl-C is for the parent, which then stops the child
                )
        except OSError as error:
            raise EmbeddedError(f"the embedded Placement cannot use {directory}: {error.strerror or error}") from error
        try:
            endpoint = _first_line(process, timeout)
            if not endpoint:
                raise EmbeddedError(_why_it_failed(process, log, log_start, timeout))
            placement = cls(process, endpoint, directory)
            placement.request("GET", "/")
        except BaseException:
            _end(process)
            raise
        return placement

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def stop(self) -> None:
        """End the child and wait for it; nothing happens when it has ended already."""
        _end(self._process)

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the child, whatever happened."""
        self.stop()

    def create_root(self, name: str, uuid: str | None = None) -> str:
        """Give the UUID of the root provider *name*, with a host's inventory and traits.

        An existing one is completed, never changed: a root that has an inventory keeps it.

        :raises EmbeddedError: when *name* or *uuid* belongs to another provider already.
        """
        wish = {"name": name} if uuid is None else {"name": name, "uuid": uuid}
        answer = self.request("POST", "/resource_providers", wish, accept=(409,))
        if answer.status_code == 409:
            found = self.request("GET", "/resource_providers", params={"name": name}).json()
            roots = found["resource_providers"]
            if not roots or (uuid is not None and roots[0]["uuid"] != uuid):
                raise EmbeddedError(f"the embedded Placement has another provider of name {name} or UUID {uuid}")
            root = str(roots[0]["uuid"])
        else:
            root = str(answer.json()["uuid"])

        inventories = self.request("GET", f"/resource_providers/{root}/inventories").json()
        if not inventories["inventories"]:
            body = {
                "resource_provider_generation": inventories["resource_provider_generation"],
                "inventories": {
                    name: {**values, "min_unit": 1, "step_size": 1} for name, values in ROOT_INVENTORIES.items()
                },
            }
            self.request("PUT", f"/resource_providers/{root}/inventories", body)
        traits = self.request("GET", f"/resource_providers/{root}/traits").json()
        if not set(ROOT_TRAITS) <= set(traits["traits"]):
            body = {
                "resource_provider_generation": traits["resource_provider_generation"],
                "traits": sorted({*traits["traits"], *ROOT_TRAITS}),
            }
            self.request("PUT", f"/resource_providers/{root}/traits", body)
        return root

    def write_clouds_yaml(self, path: Path, cloud: str = "usb-demo") -> None:
        """Write a file for `OS_CLIENT_CONFIG_FILE=path openstack --os-cloud cloud`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            "# The embedded Placement of usb-provider; it is gone when that has ended.\n"
            "clouds:\n"
            f"  {json.dumps(cloud)}:\n"
            "    auth_type: admin_token\n"
            "    auth:\n"
            f"      endpoint: {self.endpoint}\n"
            f"      token: {self.token}\n"
            f'    placement_api_version: "{MICROVERSION}"\n'
        )

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        params: Mapping[str, str] | None = None,
        accept: Sequence[int] = (),
    ) -> Any:
        """Give the response when its status is 2xx or in *accept*; else raise EmbeddedError."""
        more: dict[str, Any] = {} if body is None else {"json": body}
        if params is not None:
            more["params"] = params
        try:
            answer = self._adapter.request(path, method, microversion=MICROVERSION, **more)
        except ksa_exceptions.ClientException as error:
            raise EmbeddedError(
                "the embedded Placement does not answer; its log ends: " + _last_line(self.directory / LOG_NAME)
            ) from error
        if answer.status_code >= 300 and answer.status_code not in accept:
            raise EmbeddedError(f"embedded Placement refused {method} {path}: {answer.status_code} {answer.text}")
        return answer


def require_installed() -> None:
    """Pass when openstack-placement and waitress can be imported.

    :raises EmbeddedError: with the command that installs them; the caller should print it.
    """
    try:
        found = importlib.util.find_spec("placement.wsgi") and importlib.util.find_spec("waitress")
    except ImportError:
        found = None
    if not found:
        raise EmbeddedError(NOT_INSTALLED)


def _child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Give the child's environment: without umockdev's preload, with this package to import.

    An installed package is found anyway; PYTHONPATH is for a parent that runs from a source tree.
    """
    child = {k: v for k, v in environment.items() if k not in ("LD_PRELOAD", "UMOCKDEV_DIR")}
    tree = str(Path(__file__).parents[2])
    if tree not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        child["PYTHONPATH"] = os.pathsep.join(filter(None, (tree, child.get("PYTHONPATH"))))
    return child


def _first_line(process: subprocess.Popen[bytes], timeout: float) -> str:
    """Give the first line that the child prints; "" when it ends, or *timeout* passes, before."""
    assert process.stdout is not None
    deadline = time.monotonic() + timeout
    line = b""
    with process.stdout as stdout:
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([stdout], [], [], left)[0]:
                return ""
            piece = os.read(stdout.fileno(), 4096)
            if not piece:  # it holds this open as long as it lives
                process.wait(10)
                return ""
            line += piece
    return line.decode().strip()


def _why_it_failed(process: subprocess.Popen[bytes], log: Path, log_start: int, timeout: float) -> str:
    """Give the sentence for a child that did not come up, with the last line that it logged."""
    last = _last_line(log, log_start) or "it logged nothing"
    if process.poll() is None:
        return f"the embedded Placement did not answer within {timeout:g} s; its log ends: {last}"
    return f"the embedded Placement did not start: {last}"


def _last_line(log: Path, start: int = 0) -> str:
    """Give the last line of *log* after the offset *start* that is not empty, or ""."""
    try:
        with log.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(start, size - 8192))
            lines = stream.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the child (in order, and by force after 10 s) and reap it."""
    if process.stdin is not None:
        process.stdin.close()
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# From here on: the child.


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve Placement from a directory until SIGTERM; give the exit code.

    It also ends when standard input does, if that is a pipe: so no parent, however it ends, leaves
    one behind. Prints the endpoint, alone on one line, once it answers; all else is in its log.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {MODULE}",
        description="Serve an embedded Placement (SQLite, no Keystone, token 'admin') on loopback.",
    )
    parser.add_argument("--directory", type=Path, required=True, help="where its data and its log live")
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    parser.add_argument("--fresh", action="store_true", help="begin without the data of the last time")
    options = parser.parse_args(arguments)

    for end in (signal.SIGTERM, signal.SIGINT):
        signal.signal(end, _exit)
    try:
        require_installed()
        options.directory.mkdir(parents=True, exist_ok=True)
        os.chdir(options.directory)
        answer = _only_the_log_speaks()
        if stat.S_ISFIFO(os.fstat(0).st_mode):
            threading.Thread(target=_end_with_parent, daemon=True).start()
        _serve(options.port, answer, fresh=options.fresh)
    except EmbeddedError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"cannot use {options.directory}: {error.strerror or error}", file=sys.stderr)
        return 1
    except Exception as error:  # Placement's own; the parent quotes the last line of the log
        traceback.print_exc()
        print(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}", file=sys.stderr)
        return 1
    return 0


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    """End in order: waitress closes its sockets on SystemExit."""
    raise SystemExit(0)


def _only_the_log_speaks() -> int:
    """Send stdout and stderr to the log; give a descriptor of the old stdout, for the endpoint."""
    answer = os.dup(1)
    with Path(LOG_NAME).open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    return answer


def _end_with_parent() -> None:
    """End this process when standard input ends, which it does when the parent is gone."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _serve(port: int, answer: int, *, fresh: bool) -> None:
    """Load Placement, tell *answer* the endpoint, and serve until the process is told to end."""
    lock = Path("lock").open("ab")  # noqa: SIM115 - held, and so open, as long as the process lives
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise EmbeddedError(
            "another embedded Placement uses this directory; end that one, or choose another directory"
        ) from error
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EmbeddedError(f"cannot listen on {LOOPBACK}:{port}: {reason}") from error
    if fresh:
        for file in Path().glob(f"{DATABASE}*"):
            file.unlink()

    Path("placement.conf").write_text(CONFIG)
    os.environ["OS_PLACEMENT_CONFIG_DIR"] = "."
    # Not at the top: the parent never needs them, they may be missing, and loading takes a second.
    waitress = importlib.import_module("waitress")
    wsgi = importlib.import_module("placement.wsgi")

    server = waitress.create_server(wsgi.init_application(), sockets=[listener], threads=1)
    # It warns for each request that waits; with one thread that is the normal course.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    os.write(answer, f"http://{LOOPBACK}:{listener.getsockname()[1]}\n".encode())
    os.close(answer)
    server.run()


if __name__ == "__main__":
    sys.exit(main())
