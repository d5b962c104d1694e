"""Runs the virtual test host: a machine under QEMU's emulator with real udev and libvirt, whose USB devices tests plug.

:meth:`Vm.start` takes seconds, because the host is booted once for each state of the recipe and saved when it is ready;
every start goes on from there, on a disk of its own. Loopback of the machine that runs the tests is 10.0.2.2 inside.

A second one, with number 2, is another host for the first: a wire between the two is there from the start, and
:meth:`Vm.join_lan` gives them names and addresses on it, so that guests can be migrated.

QEMU and ssh are children that the kernel kills when this process ends, however that comes about.

To look around in one: ``python -m tests.integration.lab.vm``.
"""

import fcntl
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Self

from tests.integration.lab import child
from tests.integration.lab.errors import CommandFailed, HostPanicked, LabError, QmpError
from tests.integration.lab.machine import JOIN_LAN, LAN, MACHINE, MAKE_READY, PORTS, Image, host_name
from tests.integration.lab.progress import QUIET, Progress
from tests.integration.lab.qmp import Qmp
from tests.integration.lab.ssh import ssh_words

LOOPBACK = "10.0.2.2"
"""The address at which the test host reaches what listens on 127.0.0.1 of the machine that runs the tests."""
_BOOT_SECONDS = 300
_ANSWER_SECONDS = 90
"""A host that has not answered for so long hangs: emulated as it is, it may be slow, but not so slow."""
_NO_CONNECTION = 255
"""What ssh ends with when it was not the command that failed."""


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
    def start(cls, directory: Path, *, snapshot: bool = True, number: int = 1, progress: Progress = QUIET) -> Self:
        """Give a host that answers ssh and whose libvirt does.

        :param number: 1, or 2 for a second one, whose directory must be beside the first one's.

        :param snapshot: go on from the saved host, which is made when there is none yet; otherwise boot.
        :raises LabError: when it cannot be built or does not come up; the caller should give up.
        """
        with progress.step("The virtual machine's image is looked for, and built if there is none"):
            image = Image.build()
        saved = image.saved()
        if snapshot:
            with (image.directory / "saving").open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not saved.exists():
                    with progress.step("The virtual machine boots for the first time, and is saved"):
                        cls(image, directory)._boot_and_save(saved)
        vm = cls(image, directory, number)
        try:
            if snapshot:
                vm._run(saved / "disk.qcow2", "qcow2", "-incoming", f"exec:cat {shlex.quote(str(saved / 'memory'))}")
                vm._wait_until_running()
                vm._connect(60)
                vm.ssh(f"date -s @{time.time():.0f} >/dev/null")
            else:
                vm.boot()
                vm.ssh(MAKE_READY, timeout=_BOOT_SECONDS)
        except BaseException:
            vm.stop()
            raise
        return vm

    def _boot_and_save(self, saved: Path) -> None:
        """Boot, and keep disk and memory as *saved*."""
        try:
            self.boot()
            self.ssh(MAKE_READY, timeout=_BOOT_SECONDS)
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

    def boot(self) -> None:
        """Start the host from the image's disk; return when it answers ssh."""
        self._run(self.image.directory / "host.ext4", "raw")
        self._connect(_BOOT_SECONDS)

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
                *("qemu-system-x86_64", "-name", "testhost", *MACHINE),
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
        self.ssh(JOIN_LAN.format(number=self.number, name=self.name, address=LAN[self.number], hosts=hosts))

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
        """Whether the host is of no more use: its kernel has panicked, or stands still though no test wanted it to."""
        if self.is_frozen:
            return False
        if self.has_panicked:
            return True
        try:
            self.ssh("true", timeout=_ANSWER_SECONDS)
        except LabError:
            self._hangs = not self.has_panicked
            if self._hangs:
                self._note_processors()
            return True
        return False

    def _note_processors(self) -> None:
        """Write down where the processors of a host that hangs stand, for a reader who looks for the cause."""
        assert self._qmp is not None
        with (self.directory / "hung.txt").open("a") as stream:
            try:
                for _ in range(3):
                    stream.write(self._qmp.hmp("info registers -a") + "\n")
                    time.sleep(1)
            except LabError as error:  # QEMU itself hangs
                stream.write(f"{error}\n")

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
        self.ssh(MAKE_READY, timeout=_BOOT_SECONDS)

    # Commands

    def ssh(self, command: str, *, check: bool = True, timeout: float = 120, stdin: IO[bytes] | None = None) -> str:
        """Give what root's *command* prints on standard output.

        :raises CommandFailed: when it ends with another code than 0 (and *check*), or not within *timeout* seconds.
        :raises HostPanicked: when the kernel has panicked, so that trying again is of no use.
        """
        if self._master is not None and self._master.poll() is not None:
            self.raise_if_panicked()
            self._connect(_ANSWER_SECONDS)  # the login ended, which says nothing of the host: it may well live on
        words = ["ssh", *self.ssh_options(), "-o", "ControlMaster=no", "root@testhost", command]
        try:
            done = subprocess.run(
                words, stdin=stdin or subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired as error:
            self.raise_if_panicked()
            output = (error.stdout or b"") + (error.stderr or b"")
            raise CommandFailed(command, None, output.decode(errors="replace")) from error
        if done.returncode == _NO_CONNECTION:
            self.raise_if_panicked()
        if check and done.returncode:
            raise CommandFailed(command, done.returncode, (done.stdout + done.stderr).decode(errors="replace"))
        return done.stdout.decode(errors="replace")

    def raise_if_panicked(self) -> None:
        """:raises HostPanicked: when the host's kernel has given up; a caller need not wait for it any more."""
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
        return ssh_words(
            self.image.directory / "id_ed25519",
            ControlPath=str(self.directory / "ssh.sock"),
            ServerAliveInterval="15",
            ServerAliveCountMax="8",
        )

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
