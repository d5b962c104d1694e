"""A host for Kolla: Debian with systemd and podman, in namespaces of this machine, and ssh to it.

It has a network of its own, as a machine under QEMU's user networking: loopback of this machine is 10.0.2.2. It has no
USB and no KVM; what needs these is for the virtual test host. Its programs end with this process.
"""

import json
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from tests.integration.lab import child
from tests.integration.lab.errors import CommandFailed, LabError
from tests.integration.lab.ssh import ssh_words
from tests.kolla.engine import STORE
from tests.kolla.images import FILES, debian

ADDRESS = "10.0.2.100"
"""Its own, by slirp4netns."""
NAME = "kollahost"
_PACKAGES = """\
systemd-sysv udev dbus iproute2 procps kmod openssh-server sudo ca-certificates
python3 python3-venv python3-dbus python3-requests podman runc netavark
"""
# Devices, clocks and networks belong to the machine.
_MASKED = """\
systemd-udevd.service systemd-udev-trigger.service systemd-udevd-control.socket systemd-udevd-kernel.socket
systemd-timesyncd.service systemd-logind.service systemd-networkd.service systemd-networkd.socket networking.service
apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer
getty@tty1.service console-getty.service dev-hugepages.mount podman-auto-update.timer podman-restart.service
"""
_STORAGE = """\
[storage]
driver = "overlay"
graphroot = "/var/lib/containers/storage"
runroot = "/run/containers/storage"
[storage.options]
additionalimagestores = ["/srv"]
"""
# Kolla-Ansible wants podman's own network, limits and namespaces, which a machine may not allow here.
_CONTAINERS = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
# As "kolla-ansible bootstrap-servers" has them: podman mounts no directory that is not there.
_TMPFILES = "".join(
    f"d /run/{name} 0755 root root -\n" for name in ("libvirt", "lock/nova", "netns", "nova", "openvswitch")
)
LIMITS: Mapping[str, Any] = {"default_container_dimensions": {}, "nova_libvirt_dimensions": {}}
"""For Kolla-Ansible: this machine may not allow containers higher limits than its own."""
_CONTROLLERS = ("blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids")


class Host:
    """A running host in *directory*."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / "root"
        self.key = directory / "id_ed25519"
        self._children: list[subprocess.Popen[bytes]] = []
        self.port = 0

    @classmethod
    def start(cls, directory: Path) -> "Host":
        """Give a host that answers ssh. :raises LabError: when it does not come up."""
        host = cls(directory)
        host.directory.mkdir(parents=True, exist_ok=True)
        host._make_root()
        try:
            host._boot()
        except BaseException:
            host.stop()
            raise
        return host

    def _make_root(self) -> None:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)
        make_root(self.root, NAME, ADDRESS, self.key.with_suffix(".pub").read_text())

    def _boot(self) -> None:
        groups = [Path("/sys/fs/cgroup", each, "usb-provider-kolla") for each in _CONTROLLERS]
        for group in groups:
            group.mkdir(exist_ok=True)
        for name in ("cpus", "mems"):  # without these no process may enter a group of cpuset's
            every = Path(f"/sys/fs/cgroup/cpuset/cpuset.{name}").read_text()
            Path(f"/sys/fs/cgroup/cpuset/usb-provider-kolla/cpuset.{name}").write_text(every)
        enter = "".join(f"echo $$ > {group}/cgroup.procs; " for group in groups)
        spaces = "--pid --mount --uts --ipc --cgroup --net --fork --kill-child"
        init = shlex.join([str(FILES / "host-init"), str(self.root), str(STORE)])
        log = self.directory / "init.log"
        outer = child.start(["sh", "-c", f"{enter} exec unshare {spaces} {init}"], log)
        self._children.append(outer)
        first = self._wait_for_init(outer)
        api = self.directory / "net.sock"
        net = ["slirp4netns", "--configure", "--mtu=65520", f"--api-socket={api}", str(first), "tap0"]
        self._children.append(child.start(net, self.directory / "net.log"))
        deadline = time.monotonic() + 300
        while not api.exists():
            if time.monotonic() > deadline:
                raise LabError(f"slirp4netns does not start: {(self.directory / 'net.log').read_text()}")
            time.sleep(0.1)
        self.port = _forward(api)
        while True:
            try:
                self.ssh("systemctl is-system-running --wait", check=False, timeout=60)
                self.ssh("systemctl start podman.socket")
            except CommandFailed as error:
                if outer.poll() is not None or time.monotonic() > deadline:
                    raise LabError(f"the host does not come up: {log.read_text(errors='replace')}") from error
                time.sleep(1)
            else:
                return

    @staticmethod
    def _wait_for_init(outer: "subprocess.Popen[bytes]") -> int:
        path = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and outer.poll() is None:
            if found := path.read_text().split():
                return int(found[0])
            time.sleep(0.1)
        raise LabError("the host's first process does not start")

    def stop(self) -> None:
        """End everything in it, and remove its files."""
        for each in reversed(self._children):
            each.kill()
            each.wait()
        self._children.clear()
        for controller in _CONTROLLERS:
            top = Path("/sys/fs/cgroup", controller, "usb-provider-kolla")
            for group in (*sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True), top):
                _remove(group)
        subprocess.run(["rm", "-rf", "--one-file-system", str(self.root)], check=False)

    # Commands

    def ssh_words(self) -> list[str]:
        """Options of ssh that reach the host."""
        return ssh_words(self.key, Port=str(self.port))

    def connection(self) -> dict[str, str]:
        """How Ansible reaches the host."""
        return {
            "ansible_connection": "ssh",
            "ansible_host": "127.0.0.1",
            "ansible_port": str(self.port),
            "ansible_user": "root",
            "ansible_ssh_common_args": shlex.join(self.ssh_words()),
            "ansible_python_interpreter": "/opt/kolla/bin/python",
            "network_interface": "tap0",
        }

    def ssh(self, command: str, *, check: bool = True, timeout: float = 300, stdin: IO[bytes] | None = None) -> str:
        """Give what root's *command* prints on standard output.

        :raises CommandFailed: when it ends with another code than 0 (and *check*), or not within *timeout* seconds.
        """
        words = ["ssh", *self.ssh_words(), "root@127.0.0.1", command]
        try:
            done = subprocess.run(
                words, stdin=stdin or subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise CommandFailed(command, None, str(error.stdout)) from error
        if (check and done.returncode) or done.returncode == 255:
            raise CommandFailed(command, done.returncode, (done.stdout + done.stderr).decode(errors="replace"))
        return done.stdout.decode(errors="replace")


def _remove(group: Path, seconds: float = 30) -> None:
    """Remove a control group once the last of its processes, which have been killed, is gone."""
    deadline = time.monotonic() + seconds
    while group.exists():
        try:
            group.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _forward(api: Path) -> int:
    """Have slirp4netns forward a free port of loopback to the host's ssh; gives the port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    arguments = {"proto": "tcp", "host_addr": "127.0.0.1", "host_port": port, "guest_port": 22}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(api))
        connection.sendall(json.dumps({"execute": "add_hostfwd", "arguments": arguments}).encode())
        connection.shutdown(socket.SHUT_WR)
        answer = json.loads(connection.recv(4096))
    if "error" in answer:
        raise LabError(f"slirp4netns: {answer['error']}")
    return port


def make_root(root: Path, name: str, address: str, key: str) -> None:
    """Make the root directory of a host that systemd boots, and that lets the owner of *key* in as root."""
    root.mkdir()
    tar = debian("host", *_PACKAGES.split())
    subprocess.run(["tar", "-x", "-f", str(tar), "-C", str(root), "--numeric-owner"], check=True)
    for unit in _MASKED.split():
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    for file, text in {
        "etc/hostname": f"{name}\n",
        "etc/hosts": f"127.0.0.1 localhost\n{address} {name}\n",
        "etc/fstab": "",
        "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
        "etc/resolv.conf": "nameserver 10.0.2.3\n",
        "etc/tmpfiles.d/kolla.conf": _TMPFILES,
        "etc/containers/storage.conf": _STORAGE,
        "etc/containers/containers.conf": _CONTAINERS,
        "root/.ssh/authorized_keys": key,
    }.items():
        path = root / file
        path.parent.mkdir(mode=0o700 if ".ssh" in file else 0o755, parents=True, exist_ok=True)
        path.write_text(text)
    # Podman's library, which Kolla-Ansible's modules import, in an environment for Ansible.
    venv = ("-m", "venv", "--system-site-packages", "--without-pip", "/opt/kolla")
    subprocess.run(["chroot", str(root), "python3", *venv], check=True)
    (site,) = root.glob("opt/kolla/lib/python3.*/site-packages")
    words = ("install", "--quiet", "--no-deps", "--target", str(site), "--upgrade", "podman")
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
