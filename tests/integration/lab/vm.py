"""Runs the virtual test host: a machine under QEMU's emulator with real udev and libvirt, whose USB devices tests plug.

:meth:`Vm.start` takes seconds, because the host is booted once for each state of the recipe and saved when it is ready;
every start goes on from there, on a disk of its own. Loopback of the machine that runs the tests is 10.0.2.2 inside.

A second one, with number 2, is another host for the first: a wire between the two is there from the start, and
:meth:`Vm.join_lan` gives them names and addresses on it, so that guests can be migrated.

QEMU and ssh are children that the kernel kills when this process ends, however that comes about.

To look around in one: ``python -m tests.integration.lab.vm``.
"""

import fcntl
import hashlib
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from tests.integration.lab import child

LOOPBACK = "10.0.2.2"
"""The address at which the test host reaches what listens on 127.0.0.1 of the machine that runs the tests."""
LAN = {1: "10.9.0.1", 2: "10.9.0.2"}
"""Addresses of the test hosts on the wire between them, by number."""
CONTROLLERS = ("xhci", "xhci2")
"""The host's USB controllers by QEMU's id; each is two buses of eight ports, USB 2 and USB 3."""
PORTS = 8

# Emulated throughout, so that no /dev/kvm is needed; the processor that QEMU emulates virtualizes in turn (AMD's SVM),
# so the guests inside run under KVM. Without la57 there is one level of page tables less to emulate.
_MACHINE = [
    *shlex.split(
        "-machine q35,usb=off,vmport=off -accel tcg,thread=multi,tb-size=1024 -cpu max,la57=off -smp 2 -m 3072 "
        "-nodefaults -no-user-config -display none -rtc base=utc -device virtio-rng-pci "
        "-device virtio-blk-pci,drive=disk -device virtio-net-pci,netdev=net,romfile="
    ),
    # The documents name a device by the first controller's place, 00:04.0; what is new comes after the controllers.
    *(word for id in CONTROLLERS for word in ("-device", f"qemu-xhci,id={id},p2={PORTS},p3={PORTS}")),
    *("-device", "virtio-net-pci,netdev=lan,romfile="),
    "-append",
    # The clock is the HPET: a TSC that was measured while the machine is busy would be wrong by far, and be saved so.
    "console=ttyS0 quiet rw mitigations=off nokaslr random.trust_cpu=on no_timer_check tsc=reliable clocksource=hpet "
    "net.ifnames=0 systemd.show_status=0 selinux=0 apparmor=0",
]
# What is slow the first time is done before the host is saved: libvirt finds out what its QEMU can do, and the files of
# the product's dependencies are read.
_MAKE_READY = """\
until virsh list >/dev/null 2>&1; do sleep 0.3; done
virsh domcapabilities --virttype qemu >/dev/null && virsh domcapabilities --virttype kvm >/dev/null
/opt/usb-provider/bin/python -c 'import keystoneauth1.loading, libvirt, oslo_config.cfg, oslo_log.log, pyudev'
udevadm settle
until [ "$(systemctl is-system-running)" != starting ]; do sleep 0.3; done
sync
"""
# Both hosts go on from the same saved one: what libvirt and the wire tell them apart by is set here, for good.
# The sockets stop too: an agent that asks for libvirt would start it again, and it takes no new socket while it runs.
_JOIN_LAN = """\
set -e
cat > /etc/systemd/system/lan.service <<'UNIT'
[Unit]
Before=libvirtd.service
[Service]
Type=oneshot
ExecStart=/bin/ip link set eth1 address 52:54:00:00:09:0{number}
ExecStart=/bin/ip address replace {address}/24 dev eth1
ExecStart=/bin/ip link set eth1 up
[Install]
WantedBy=multi-user.target
UNIT
echo {name} > /etc/hostname && hostname {name}
printf '%s\\n' '127.0.0.1 localhost' {hosts} > /etc/hosts
sed -i '/^host_uuid\\|^auth_tcp/d' /etc/libvirt/libvirtd.conf
echo 'host_uuid = "00000000-0000-4000-8000-00000000000{number}"' >> /etc/libvirt/libvirtd.conf
echo 'auth_tcp = "none"' >> /etc/libvirt/libvirtd.conf
systemctl daemon-reload
systemctl enable --quiet --now lan
systemctl stop libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd
systemctl enable --now libvirtd-tcp.socket
systemctl start libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd
until virsh list >/dev/null 2>&1; do sleep 0.3; done
sync
"""
_BOOT_SECONDS = 300
_ANSWER_SECONDS = 90
"""A host that has not answered for so long hangs: emulated as it is, it may be slow, but not so slow."""
_NO_CONNECTION = 255
"""What ssh ends with when it was not the command that failed."""


class LabError(Exception):
    """The test host did not do what the laboratory itself needs; the sentence says what."""


class CommandFailed(LabError):
    """A command in the test host ended with another code than 0, or not in time (code None)."""

    def __init__(self, command: str, code: int | None, output: str) -> None:
        super().__init__(f"{command!r} gave {'no answer in time' if code is None else code}: {output.strip()}")
        self.code = code
        self.output = output


class HostPanicked(LabError):
    """The test host's kernel has panicked; :meth:`Vm.revive` makes it usable again."""


class QmpError(LabError):
    """QEMU refused a command."""


class Qmp:
    """One connection to QEMU's monitor, and the events that it has sent since."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        self._socket.connect(str(path))
        self._stream: IO[bytes] = self._socket.makefile("rb")
        self._events: list[dict[str, Any]] = []
        self._read()
        self("qmp_capabilities")

    def _read(self) -> dict[str, Any]:
        line = self._stream.readline()
        if not line:
            raise LabError("QEMU has ended")
        message: dict[str, Any] = json.loads(line)
        return message

    def __call__(self, execute: str, **arguments: Any) -> Any:
        """Give what QEMU returns for the command; an underscore in an argument's name stands for a dash."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        self._socket.sendall(json.dumps({"execute": execute, "arguments": named}).encode() + b"\n")
        while True:
            message = self._read()
            if "error" in message:
                raise QmpError(f"{execute} {named}: {message['error']['desc']}")
            if "return" in message:
                return message["return"]
            self._events.append(message)

    def hmp(self, command: str) -> str:
        """Give what the human monitor prints for *command*."""
        return str(self("human-monitor-command", command_line=command))

    def wait_for(self, event: str, **data: Any) -> None:
        """Return when *event* with *data* has come, now or before; such a one counts once."""
        while True:
            for message in self._events:
                if message["event"] == event and data.items() <= message.get("data", {}).items():
                    self._events.remove(message)
                    return
            self._events.append(self._read())

    def close(self) -> None:
        """Hang up."""
        self._stream.close()
        self._socket.close()


@dataclass(frozen=True, slots=True)
class Image:
    """What build.sh made: a directory with the disk, the kernel and the key."""

    directory: Path

    @classmethod
    def build(cls) -> Self:
        """Give the image for the recipe and the dependencies as they are now, built if there is none yet.

        :raises LabError: when it cannot be built; build.sh has said why on standard error.
        """
        script = Path(__file__).with_name("build.sh")
        environment = os.environ | {"PYTHON": sys.executable}
        environment.pop("LD_PRELOAD", None)
        done = subprocess.run([script], stdout=subprocess.PIPE, env=environment, text=True, check=False)
        if done.returncode:
            raise LabError(f"{script} failed with {done.returncode}")
        return cls(Path(done.stdout.splitlines()[-1]))

    def saved(self) -> Path:
        """The directory for the booted host as this QEMU and this module would save it."""
        version = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, check=True).stdout
        words = json.dumps([_MACHINE, _MAKE_READY]).encode()
        return self.directory / f"ready-{hashlib.sha256(version + words).hexdigest()[:16]}"


class Vm:
    """A running test host.

    :ivar console: the file with all that its kernel and its first process said.
    :ivar name: what it is called.
    """

    def __init__(self, image: Image, directory: Path, number: int = 1) -> None:
        """Prepare a host in *directory*, whose path must be short: it holds sockets; :meth:`start` gives one."""
        self.image = image
        self.directory = directory
        self.number = number
        self.name = host_name(number)
        self.console = directory / "console.log"
        self.plugged: dict[str, tuple[str, str]] = {}
        self._disk = directory / "disk.qcow2"
        self._qemu: subprocess.Popen[bytes] | None = None
        self._master: subprocess.Popen[bytes] | None = None
        self._qmp: Qmp | None = None
        self.is_frozen = False
        self._hangs = False
        self._booted_at = 0
        """Where the console's file was when the host was last started."""
        self._in_use = (image.directory / "in-use").open("rb")  # build.sh removes no image in use
        fcntl.flock(self._in_use, fcntl.LOCK_SH)

    # Its life

    @classmethod
    def start(cls, directory: Path, *, snapshot: bool = True, number: int = 1) -> Self:
        """Give a host that answers ssh and whose libvirt does.

        :param number: 1, or 2 for a second one, whose directory must be beside the first one's.

        :param snapshot: go on from the saved host, which is made when there is none yet; otherwise boot.
        :raises LabError: when it cannot be built or does not come up; the caller should give up.
        """
        image = Image.build()
        saved = image.saved()
        if snapshot:
            with (image.directory / "saving").open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not saved.exists():
                    cls(image, directory)._boot_and_save(saved)
        vm = cls(image, directory, number)
        try:
            if snapshot:
                vm._run(saved / "disk.qcow2", "qcow2", "-incoming", f"exec:cat {shlex.quote(str(saved / 'memory'))}")
                vm._wait_until_running()
                vm._connect(60)
                vm.ssh(f"date -s @{time.time():.0f} >/dev/null")
            else:
                vm._run(image.directory / "host.ext4", "raw")
                vm._connect(_BOOT_SECONDS)
                vm.ssh(_MAKE_READY, timeout=_BOOT_SECONDS)
        except BaseException:
            vm.stop()
            raise
        return vm

    def _boot_and_save(self, saved: Path) -> None:
        """Boot, and keep disk and memory as *saved*."""
        try:
            self._run(self.image.directory / "host.ext4", "raw")
            self._connect(_BOOT_SECONDS)
            self.ssh(_MAKE_READY, timeout=_BOOT_SECONDS)
            self._disconnect()
            part = saved.with_suffix(".part")
            part.mkdir(exist_ok=True)
            self.qmp("stop")
            self.qmp("migrate-set-parameters", max_bandwidth=1 << 40)
            self.qmp("migrate", uri=f"exec:cat > {shlex.quote(str(part / 'memory'))}")
            while (state := self.qmp("query-migrate")["status"]) != "completed":
                if state == "failed":
                    raise LabError("the booted test host could not be saved")
                time.sleep(0.2)
            self.stop(keep_disk=True)
            self._disk.replace(part / "disk.qcow2")
            for old in saved.parent.glob("ready-*"):
                if old != part:
                    shutil.rmtree(old)
            part.replace(saved)
        finally:
            self.stop()

    def _run(self, disk: Path, disk_format: str, *more: str) -> None:
        """Start QEMU with a disk of its own on top of *disk*."""
        self.directory.mkdir(parents=True, exist_ok=True)
        create = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(disk), "-F", disk_format, str(self._disk)]
        subprocess.run(create, check=True)
        self._power_on(*more)

    def _power_on(self, *more: str) -> None:
        """Start QEMU with the disk as it is."""
        self._note_start()
        files = self.image.directory
        monitor = self.directory / "qmp.sock"
        wire = {number: self.directory.parent / f"lan-{number}" for number in LAN}
        for leftover in (monitor, wire[self.number]):
            leftover.unlink(missing_ok=True)
        log = self.directory / "qemu.log"
        self._qemu = child.start(
            [
                *("qemu-system-x86_64", "-name", "testhost", *_MACHINE),
                *("-kernel", str(files / "vmlinux"), "-initrd", str(files / "initrd")),
                *("-drive", f"file={self._disk},format=qcow2,if=none,id=disk,cache=unsafe,discard=unmap"),
                *("-netdev", "user,id=net,hostfwd=tcp:127.0.0.1:0-10.0.2.15:22"),
                *(
                    "-netdev",
                    f"dgram,id=lan,{_end('local', wire[self.number])},{_end('remote', wire[3 - self.number])}",
                ),
                *("-chardev", f"file,id=console,path={self.console},append=on", "-serial", "chardev:console"),
                *("-qmp", f"unix:{monitor},server=on,wait=off", *more),
            ],
            log,
        )
        deadline = time.monotonic() + 30
        while self._qmp is None:
            if self._qemu.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"QEMU did not start: {log.read_text(errors='replace')}")
            try:
                self._qmp = Qmp(monitor)
            except OSError:
                time.sleep(0.05)

    def _wait_until_running(self) -> None:
        """Return when the saved memory has been read, and let the host go on."""
        while self.qmp("query-status")["status"] == "inmigrate":
            time.sleep(0.05)
        self.qmp("cont")

    def stop(self, *, keep_disk: bool = False) -> None:
        """Cut the power and forget the disk; the console's file stays. Nothing happens when it is off already."""
        self._power_off()
        self._in_use.close()
        if not keep_disk:
            for leftover in (self._disk, *self.directory.glob("*.img")):
                leftover.unlink(missing_ok=True)

    def _power_off(self) -> None:
        self._disconnect()
        if self._qmp is not None:
            self._qmp.close()
            self._qmp = None
        if self._qemu is not None:
            self._qemu.terminate()
            try:
                self._qemu.wait(20)
            except subprocess.TimeoutExpired:
                self._qemu.kill()
                self._qemu.wait()
            self._qemu = None

    def reboot(self, *, cleanly: bool = True, timeout: float = _BOOT_SECONDS) -> None:
        """Return when the host has been shut down (or reset, if not *cleanly*), has booted, and answers ssh."""
        before = self.ssh("cat /proc/sys/kernel/random/boot_id")
        if cleanly:
            self.ssh("systemctl --no-block reboot", check=False)
        else:
            self.qmp("system_reset")
        deadline = time.monotonic() + timeout
        while True:
            self._disconnect()
            self._connect(deadline - time.monotonic())
            try:
                if self.ssh("cat /proc/sys/kernel/random/boot_id", timeout=10) != before:
                    return
            except CommandFailed:
                pass
            time.sleep(0.5)

    def join_lan(self) -> None:
        """Give the host its name, and its address on the wire to the other one; libvirtd restarts, guests go on."""
        hosts = shlex.join(f"{address} {host_name(number)}" for number, address in LAN.items())
        self.ssh(_JOIN_LAN.format(number=self.number, name=self.name, address=LAN[self.number], hosts=hosts))

    def _note_start(self) -> None:
        self._booted_at = self.console.stat().st_size if self.console.exists() else 0

    @property
    def has_panicked(self) -> bool:
        """Whether the host's kernel has given up since it was last started."""
        with self.console.open("rb") as stream:
            stream.seek(self._booted_at)
            return b"Kernel panic" in stream.read()

    @property
    def is_lost(self) -> bool:
        """Whether nobody is there any more: the kernel has panicked, or stands still though no test wanted it to."""
        if self.is_frozen:
            return False
        if self.has_panicked:
            return True
        try:
            self.ssh("true", timeout=_ANSWER_SECONDS)
        except LabError:
            self._hangs = not self.has_panicked
            return True
        return False

    def freeze(self) -> None:
        """Let the host stand still: to others it is as dead as if its power had been cut, until :meth:`revive`."""
        self.qmp("stop")
        self.is_frozen = True

    def revive(self) -> None:
        """Return when a host that panicked, was frozen or hangs has booted, with the disk that it had.

        One that hangs would not hear of a reset: its power is cut, and what was plugged into it is not any more.
        """
        if self._hangs:
            self._power_off()
            self.plugged.clear()
            self._power_on()
            self._hangs = False
        else:
            self._note_start()
            self.qmp("system_reset")
            self.qmp("cont")
            self._disconnect()
        self.is_frozen = False
        self._connect(_BOOT_SECONDS)
        self.ssh(_MAKE_READY, timeout=_BOOT_SECONDS)

    # Commands

    def ssh(self, command: str, *, check: bool = True, timeout: float = 120, stdin: IO[bytes] | None = None) -> str:
        """Give what root's *command* prints on standard output.

        :raises CommandFailed: when it ends with another code than 0 (and *check*), or not within *timeout* seconds.
        :raises HostPanicked: when there is nobody any more to run it; trying again is of no use.
        """
        words = ["ssh", *self.ssh_options(), "-o", "ControlMaster=no", "root@testhost", command]
        try:
            done = subprocess.run(
                words, stdin=stdin or subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired as error:
            self._raise_if_panicked()
            output = (error.stdout or b"") + (error.stderr or b"")
            raise CommandFailed(command, None, output.decode(errors="replace")) from error
        if done.returncode == _NO_CONNECTION:
            self._raise_if_panicked()
        if check and done.returncode:
            raise CommandFailed(command, done.returncode, (done.stdout + done.stderr).decode(errors="replace"))
        return done.stdout.decode(errors="replace")

    def _raise_if_panicked(self) -> None:
        if self.has_panicked:
            raise HostPanicked(f"the test host's kernel panicked; see {self.console}")

    def put(self, local: Path | bytes | str, remote: str, mode: int = 0o644) -> None:
        """Make the file *remote*, and directories for it, of a local file or of the text itself."""
        name = shlex.quote(remote)
        command = f"mkdir -p $(dirname {name}) && cat > {name} && chmod {mode:o} {name}"
        local_file = self.directory / "put"
        if not isinstance(local, Path):
            local_file.write_bytes(local if isinstance(local, bytes) else local.encode())
        with (local if isinstance(local, Path) else local_file).open("rb") as stream:
            self.ssh(command, stdin=stream)

    def wait_for(self, command: str, timeout: float = 60, interval: float = 0.3) -> str:
        """Give what *command* prints once it succeeds; it is tried again until then.

        :raises CommandFailed: the last one, when it still fails after *timeout* seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                return self.ssh(command, timeout=max(10, deadline - time.monotonic()))
            except CommandFailed:
                if time.monotonic() > deadline:
                    raise
            time.sleep(interval)

    def ssh_options(self) -> list[str]:
        """Give the options with which ssh shares the one login."""
        options = {
            "ControlPath": str(self.directory / "ssh.sock"),
            "IdentityFile": str(self.image.directory / "id_ed25519"),
            "IdentitiesOnly": "yes",
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "LogLevel": "ERROR",
            "BatchMode": "yes",
            "ConnectTimeout": "10",
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "8",
        }
        return ["-F", "none", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]

    def _connect(self, timeout: float) -> None:
        """Log in, once for all commands."""
        assert self._qmp is not None
        port = next(line.split()[3] for line in self._qmp.hmp("info usernet").splitlines() if "HOST_FORWARD" in line)
        command = ["ssh", *self.ssh_options(), "-o", "ControlMaster=yes", "-N", "-p", port, "root@127.0.0.1"]
        path = self.directory / "ssh.sock"
        deadline = time.monotonic() + timeout
        while True:
            path.unlink(missing_ok=True)
            self._master = child.start(command, self.directory / "ssh.log")
            while self._master.poll() is None:
                if path.exists():
                    return
                if time.monotonic() > deadline:
                    self._disconnect()
                    raise LabError(f"the test host did not answer ssh within {timeout:.0f} s; see {self.console}")
                time.sleep(0.05)
            if time.monotonic() > deadline or self._qemu is None or self._qemu.poll() is not None:
                raise LabError(f"the test host does not answer ssh; see {self.console} and {self.directory}/qemu.log")
            time.sleep(0.2)

    def _disconnect(self) -> None:
        if self._master is not None:
            self._master.kill()
            self._master.wait()
            self._master = None

    # Hardware

    def qmp(self, execute: str, **arguments: Any) -> Any:
        """Give what QEMU's monitor returns; an underscore in an argument's name stands for a dash."""
        if self._qmp is None:
            raise LabError("the test host is off")
        return self._qmp(execute, **arguments)

    def plug(
        self, id: str, driver: str = "usb-storage", *, bus: str = "xhci", port: str | None = None, **properties: Any
    ) -> str:
        """Plug a USB device in and give its port; ``serial="…"`` is a property of most.

        A disk (``usb-storage``) is 16 MiB in ``<id>.img`` of the directory, which is kept when it is unplugged.

        :param id: the name by which to unplug it.
        :param port: "2", or "2.1" behind a hub at 2; the first one that is free when it is not given.
        """
        used = {p for b, p in self.plugged.values() if b == bus}
        port = port or next(str(number) for number in range(1, PORTS + 1) if str(number) not in used)
        extra: Mapping[str, Any] = {}
        if driver == "usb-storage":
            disk = self.directory / f"{id}.img"
            if not disk.exists():
                with disk.open("wb") as stream:
                    stream.truncate(16 << 20)
            self.qmp("blockdev-add", driver="raw", node_name=f"{id}-disk", file=_file(disk))
            extra = {"drive": f"{id}-disk"}
        elif driver == "usb-serial":
            self.qmp("chardev-add", id=f"{id}-line", backend={"type": "null", "data": {}})
            extra = {"chardev": f"{id}-line", "always_plugged": True}
        try:
            self.qmp("device_add", driver=driver, id=id, bus=f"{bus}.0", port=port, **extra, **properties)
        except QmpError:
            self._remove_backend(id)
            raise
        self.plugged[id] = (bus, port)
        return port

    def unplug(self, id: str) -> None:
        """Unplug the device that was plugged in as *id*."""
        self.qmp("device_del", id=id)
        assert self._qmp is not None
        self._qmp.wait_for("DEVICE_DELETED", device=id)
        del self.plugged[id]
        self._remove_backend(id)

    def _remove_backend(self, id: str) -> None:
        nodes = {node["node-name"] for node in self.qmp("query-named-block-nodes", flat=True)}
        if f"{id}-disk" in nodes:
            self.qmp("blockdev-del", node_name=f"{id}-disk")
        if f"{id}-line" in {line["label"] for line in self.qmp("query-chardev")}:
            self.qmp("chardev-remove", id=f"{id}-line")

    def unplug_all(self) -> None:
        """Unplug everything, what is behind hubs before the hubs, and forget the disks' content."""
        for id in sorted(self.plugged, key=lambda id: self.plugged[id][1].count("."), reverse=True):
            self.unplug(id)
        for disk in self.directory.glob("*.img"):
            disk.unlink()


def host_name(number: int) -> str:
    """Give the name of the test host with this number."""
    return "testhost" if number == 1 else f"testhost{number}"


def _end(which: str, path: Path) -> str:
    return f"{which}.type=unix,{which}.path={path}"


def _file(path: Path) -> dict[str, str]:
    # QEMU's own lock would outlive an unplugged device by a moment.
    return {"driver": "file", "filename": str(path), "locking": "off"}


def main() -> None:
    """Start a host with two sticks, say how to reach it, and stop it when Enter is pressed."""
    with tempfile.TemporaryDirectory(prefix="usb-lab-") as directory:
        vm = Vm.start(Path(directory))
        try:
            for serial in ("STICK-1", "STICK-2"):
                vm.plug(serial.lower(), serial=serial)
            print("ssh", shlex.join(vm.ssh_options()), "root@testhost")
            input("Enter ends it. ")
        finally:
            vm.stop()


if __name__ == "__main__":
    main()
