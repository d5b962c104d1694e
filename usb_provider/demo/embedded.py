"""A real Placement of its own: on loopback, in a directory, for the demo and for tests.

The service is openstack-placement itself, on a SQLite file, without Keystone: the token "admin"
is its only secret, so it listens on 127.0.0.1 and nowhere else. It runs as a child process
(embedded_service.py), because Placement keeps global state and because the parent may live under an
LD_PRELOAD that must not reach it.

Only here does this project ever create a root provider; everywhere else the root is nova-compute's.
"""

import json
import os
import select
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from usb_provider.demo.embedded_service import LOG_NAME, MODULE, EmbeddedError, require_installed
from usb_provider.exception import Unavailable
from usb_provider.openstack.session import with_token
from usb_provider.openstack.transport import Response, Service

TOKEN = "admin"
EMBEDDED_MICROVERSION = "1.39"
_SERVICE = Service("Placement", "placement", role="the role admin", microversion=EMBEDDED_MICROVERSION)

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


def clouds_yaml(cloud: str, endpoint: str, token: str) -> str:
    """A file for ``OS_CLIENT_CONFIG_FILE=… openstack --os-cloud cloud`` that names only a Placement."""
    return (
        "# The embedded Placement of usb-provider; it is gone when that has ended.\n"
        "clouds:\n"
        f"  {json.dumps(cloud)}:\n"
        "    auth_type: admin_token\n"
        # Beside auth as well: an openstacksdk before 4.5 loses the one below it.
        f"    token: {token}\n"
        "    auth:\n"
        f"      endpoint: {endpoint}\n"
        f"      token: {token}\n"
        f'    placement_api_version: "{EMBEDDED_MICROVERSION}"\n'
    )


class EmbeddedPlacement:
    """A running embedded Placement; as a context manager it stops at the end and keeps its data."""

    def __init__(self, process: subprocess.Popen[bytes], endpoint: str, directory: Path) -> None:
        """Take over a child that answers at *endpoint*; use :meth:`start` to get one."""
        self._process = process
        self.endpoint = endpoint
        self.directory = directory
        self.token = TOKEN
        self._transport = with_token(endpoint, TOKEN, _SERVICE)

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
        path.write_text(clouds_yaml(cloud, self.endpoint, self.token))

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        params: Mapping[str, str] | None = None,
        accept: Sequence[int] = (),
    ) -> Response:
        """Give what Placement answers when the status is 2xx or in *accept*.

        :raises EmbeddedError: when Placement does not answer, or with another status.
        """
        try:
            answer = self._transport.send(method, path, query=params or {}, body=body)
        except Unavailable as error:
            raise EmbeddedError(
                "the embedded Placement does not answer; its log ends: " + _last_line(self.directory / LOG_NAME)
            ) from error
        if answer.status_code >= 300 and answer.status_code not in accept:
            raise EmbeddedError(f"embedded Placement refused {method} {path}: {answer.status_code} {answer.text}")
        return answer


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
        poll = select.poll()  # select() takes no descriptor above 1023
        poll.register(stdout, select.POLLIN)
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                return ""
            piece = os.read(stdout.fileno(), 4096)
            if not piece:  # it holds this open as long as it lives
                process.wait(10)
                return ""
            line += piece
    return line.decode().strip()


def _why_it_failed(process: subprocess.Popen[bytes], log: Path, log_start: int, timeout: float) -> str:
    """Give the sentence for a child that did not start, with the last line that it logged."""
    last = _last_line(log, log_start) or "it logged nothing"
    if process.poll() is None:
        return f"the embedded Placement did not answer within {timeout:g} s; its log ends: {last}"
    return f"the embedded Placement did not start: {last}"


def _last_line(log: Path, start: int = 0) -> str:
    """Give the last non-empty line of *log* after the offset *start*; "" if there is none."""
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
