"""The whole cloud, and what its users do: create servers, look at them, plug and unplug devices.

What there is to see is read from Nova, Placement, libvirt, QEMU and the guests' consoles, never from the product.
"""

import contextlib
import subprocess
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from openstack.connection import Connection

from tests.e2e.lab import release
from tests.e2e.lab.compute import HOST, Compute
from tests.e2e.lab.controller import Controller
from tests.e2e.lab.service import POOL
from tests.integration.lab import domains
from tests.integration.lab import report as lab_report
from tests.integration.lab.agent import build_wheel
from tests.integration.lab.progress import QUIET, Progress
from tests.integration.lab.vm import Vm

CLASS = "CUSTOM_USB_KEY"
USB: Mapping[str, str] = {f"resources:{CLASS}": "1", "hw:usb_model": "qemu-xhci"}
"""The extra specs of a flavor with one device."""
ON_USB: Mapping[str, str] = {"hw_input_bus": "virtio", "hw_cdrom_bus": "usb"}
"""The properties of an image whose servers have a USB controller for their config drive alone."""
_COMMAND_LINE = (
    "console=ttyS0 quiet mitigations=off nokaslr no_timer_check tsc=reliable random.trust_cpu=on cryptomgr.notests"
)


def eventually(look: Callable[[], object], wanted: object, seconds: float = 120) -> None:
    """Pass when *look* gives *wanted* within *seconds*; a cloud is not asked more than once a second."""
    lab_report.eventually(look, wanted, seconds, interval=1)


class Cloud:
    """A control plane and a compute node, and a second one where :meth:`add_compute` was called.

    What is said of "the" compute node, as by :attr:`vm`, is the first.
    """

    def __init__(self, directory: Path, controller: Controller, compute: Compute, wheel: Path) -> None:
        self.directory = directory
        self.controller = controller
        self.compute = compute
        self.computes = [compute]
        self.vm = compute.vm
        self.wheel = wheel
        self.admin = controller.connect()

    @classmethod
    def start(cls, directory: Path, progress: Progress = QUIET) -> "Cloud":
        """Give a cloud whose scheduler knows its compute node, with images in it. *directory*'s path must be short.

        The compute node is prepared while the control plane starts; both take all of two processors for a while.
        """
        controller = Controller(directory / "controller", progress)
        vm = POOL.submit(Vm.start, directory / "vm", progress=progress)
        wheel = POOL.submit(build_wheel, directory / "wheel")
        prepared = POOL.submit(cls._prepare, vm, wheel, progress)
        try:
            controller.start_core()
            others = POOL.submit(controller.start_others)
            cloud = cls(directory, controller, prepared.result(), wheel.result())
            services = POOL.submit(cloud.compute.start_services)
            others.result()
            with progress.step("Images are uploaded"):
                cloud.upload_images()
            with progress.step("nova-compute starts, and the scheduler comes to know it"):
                services.result()
                cloud.wait_for_host(HOST)
        except BaseException:
            with contextlib.suppress(Exception):
                vm.result().stop()
            controller.stop()
            raise
        return cloud

    @staticmethod
    def _prepare(vm: "Future[Vm]", wheel: "Future[Path]", progress: Progress) -> Compute:
        compute = Compute(vm.result())
        with progress.step("The agent and nova-compute are set up in the virtual machine"):
            compute.prepare(wheel.result())
        return compute

    def stop(self) -> None:
        """Stop everything."""
        for each in self.computes:
            each.vm.stop()
        self.controller.stop()

    def add_compute(self) -> Compute:
        """Give a second compute node, which the scheduler knows, with nothing plugged into it."""
        compute = Compute(Vm.start(self.directory / "vm2", number=2))
        self.computes.append(compute)
        compute.prepare(self.wheel)
        compute.start_services()
        self.wait_for_host(compute.name)
        return compute

    def wait_for_host(self, name: str, seconds: float = 300) -> None:
        """Return when nova-compute of host *name* is up, and mapped."""
        eventually(lambda: self.state_of(name), "up", seconds)
        self.controller.discover_hosts()

    def revive(self, compute: Compute) -> None:
        """Return when a compute node that was lost has booted, and its nova-compute has reported since."""
        before = self._service(compute.name).updated_at
        compute.vm.revive()
        # Nova takes a compute service for up for a minute after its last report: that one may be of before.
        eventually(lambda: self._service(compute.name).updated_at != before, True, 300)
        self.wait_for_host(compute.name)

    def restart_nova_compute(self) -> None:
        """Restart nova-compute; return when it has reported again, since nova takes it for up for a while without."""
        self.vm.ssh("systemctl stop nova-compute", timeout=120)
        before = self._service(HOST).updated_at
        self.vm.ssh("systemctl start nova-compute", timeout=120)
        eventually(lambda: self._service(HOST).updated_at != before, True, 300)

    def _service(self, host: str) -> Any:
        return next(iter(self.admin.compute.services(binary="nova-compute", host=host)), None)

    def close_host(self, name: str) -> None:
        """Have the scheduler put no more servers on host *name*."""
        self.admin.compute.disable_service(self._service(name))

    def state_of(self, name: str) -> str | None:
        """Whether nova-compute of host *name* is "up" or "down"; None when there is none."""
        service = self._service(name)
        return None if service is None else str(service.state)

    def upload_images(self) -> None:
        """Upload a Linux that says which USB devices it has, and the same without the property that a console needs."""
        files = self.vm.image.directory
        image = self.admin.image
        ids = {
            name: image.create_image(
                name, filename=str(files / name), disk_format=kind, container_format=kind, wait=True
            ).id
            for name, kind in (("vmlinux", "aki"), ("guest-initrd", "ari"))
        }
        disk = self.directory / "disk.raw"
        with disk.open("wb") as stream:
            stream.truncate(1 << 20)
        linux = {"kernel_id": ids["vmlinux"], "ramdisk_id": ids["guest-initrd"], "os_command_line": _COMMAND_LINE}
        for name, properties in (
            ("linux", {**linux, "hw_input_bus": "virtio"}),
            ("linux-with-tablet", linux),
            ("linux-with-drive", {**linux, **ON_USB}),
            # No system at all: it starts in no time, and its firmware takes what it is given.
            ("empty", {"hw_input_bus": "virtio"}),
            ("empty-with-tablet", {}),
            ("empty-with-drive", ON_USB),
        ):
            image.create_image(
                name,
                filename=str(disk),
                disk_format="raw",
                container_format="bare",
                visibility="public",
                wait=True,
                **properties,
            )

    # Hands

    def stick(self, serial: str, *, on: Compute | None = None, **where: Any) -> str:
        """Plug a stick in, and give its provider's name, once it can be scheduled."""
        (on or self.compute).vm.plug(serial, serial=serial, **where)
        return self.offered(f"_usb_46f4:0001:{serial}")

    def offered(self, part: str) -> str:
        """Give the name of the provider whose name has *part*, once it can be scheduled."""
        eventually(lambda: [self.is_free(uuid) for name, uuid in self.providers().items() if part in name], [True])
        return next(name for name in self.providers() if part in name)

    def unplug_all(self) -> None:
        """Unplug everything; return when none of it can be scheduled, lest the next server be given what is gone."""
        for each in self.computes:
            each.vm.unplug_all()
        ours = tuple(f"{each.name}_usb_" for each in self.computes)
        eventually(lambda: [n for n, uuid in self.providers().items() if n.startswith(ours) and self.is_free(uuid)], [])

    # Placement

    def placement(self, path: str) -> Any:
        """What Placement answers to a GET."""
        answer = self.admin.placement.get(path, microversion="1.39")
        assert answer.ok, answer.text
        return answer.json()

    def providers(self) -> dict[str, str]:
        """UUIDs of all providers by name."""
        return {each["name"]: each["uuid"] for each in self.placement("/resource_providers")["resource_providers"]}

    def is_free(self, provider: str) -> bool:
        """Whether the provider with this UUID is offered, and not reserved."""
        found = self.placement(f"/resource_providers/{provider}/inventories")["inventories"]
        return bool(found) and all(each["reserved"] < each["total"] for each in found.values())

    def holds(self, consumer: str) -> set[str]:
        """Names of the USB providers that *consumer* holds."""
        names = {uuid: name for name, uuid in self.providers().items()}
        held = self.placement(f"/allocations/{consumer}")["allocations"]
        return {names[uuid] for uuid in held if "_usb_" in names[uuid]}

    # Nova

    def openstack(self, words: str) -> str:
        """Give what the command ``openstack *words*`` prints, run by the admin."""
        done = subprocess.run(
            ["bash", "-c", f"source {self.controller.openrc} && exec openstack {words}"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def flavor(self, name: str, specs: Mapping[str, str] = USB, *, ram: int = 256, disk: int = 0) -> str:
        """Make a flavor with *specs*, unless there is one of that name; gives its id."""
        compute = self.admin.compute
        found = compute.find_flavor(name)
        if found is None:
            found = compute.create_flavor(name=name, ram=ram, vcpus=1, disk=disk)
            if specs:
                compute.create_flavor_extra_specs(found, dict(specs))
        return str(found.id)

    def create(
        self,
        name: str,
        *,
        flavor: str,
        image: str = "empty",
        by: Connection | None = None,
        wait: bool = True,
        **more: Any,
    ) -> str:
        """Create a server and give its UUID; when *wait*, once it is ACTIVE or in ERROR."""
        cloud = by or self.admin
        uuid: str = cloud.compute.create_server(
            name=name, flavor_id=flavor, image_id=self.admin.image.find_image(image).id, networks="none", **more
        ).id
        if wait:
            self.settled(uuid)
        return uuid

    def server(self, uuid: str) -> Any:
        """The server as Nova has it. :raises HostPanicked: where waiting for a change of it is in vain."""
        for each in self.computes:
            each.vm.raise_if_panicked()
        return self.admin.compute.get_server(uuid)

    def settles(self, uuid: str, seconds: float) -> str | None:
        """Give the server's status once nova has nothing to do with it any more; None when that is not so in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            server = self.server(uuid)
            if server.task_state is None and server.status not in ("BUILD", "HARD_REBOOT", "REBOOT", "REBUILD"):
                return str(server.status)
            time.sleep(1)
        return None

    def settled(self, uuid: str, seconds: float = 300) -> str:
        """Give the server's status once nova has nothing to do with it any more."""
        status = self.settles(uuid, seconds)
        assert status is not None, f"{self.server(uuid).status} after {seconds} s"
        return status

    def becomes(self, uuid: str, status: str, seconds: float = 300) -> None:
        """Pass when the server settles as *status*."""
        found = self.settled(uuid, seconds)
        assert found == status, (found, self.fault(uuid), self.compute_log())

    def request(self, uuid: str, action: str, **arguments: Any) -> None:
        """Have nova begin to do *action* ("reboot", …) to the server."""
        nothing = {} if action == "evacuate" else None  # nova wants an object here, and none at unshelve
        body = {action: arguments or nothing}
        answer = self.admin.compute.post(f"/servers/{uuid}/action", json=body, microversion=release.MICROVERSION)
        assert answer.ok, answer.text

    def act(self, uuid: str, action: str, wanted: str, **arguments: Any) -> None:
        """Do *action* to the server; pass when it settles as *wanted*."""
        self.request(uuid, action, **arguments)
        eventually(lambda: (self.settled(uuid), self.server(uuid).status)[1], wanted, 300)

    def fault(self, uuid: str) -> str:
        """What Nova says about a server in ERROR."""
        return str((self.server(uuid).fault or {}).get("message"))

    def delete(self, *uuids: str) -> None:
        """Delete servers; return when they are gone."""
        for uuid in uuids:
            self.admin.compute.delete_server(uuid, ignore_missing=True)
        for uuid in uuids:
            eventually(lambda uuid=uuid: self.admin.compute.find_server(uuid), None)

    def delete_all(self) -> None:
        """Delete every server."""
        self.delete(*(server.id for server in self.admin.compute.servers(details=False, all_projects=True)))

    def console(self, uuid: str) -> str:
        """What the guest has printed, by Nova."""
        return str(self.admin.compute.get_server_console_output(uuid)["output"]).replace("\r", "")

    # The compute node

    def has(self, uuid: str, *serials: str, on: Compute | None = None, seconds: float = 120) -> None:
        """Pass when the guest has exactly these sticks, alive, and Placement says that it holds them."""
        compute = on or self.compute
        eventually(lambda: compute.serials(uuid), sorted(serials), seconds)
        eventually(lambda: len(domains.hostdevs(compute.vm, uuid)), len(serials))
        eventually(lambda: self.holds(uuid), {f"{compute.name}_usb_46f4:0001:{serial}" for serial in serials})

    def all_run(self, servers: Mapping[str, str], seconds: float = 300) -> None:
        """Pass when each of the first compute node's *servers* is ACTIVE and runs with its stick, its value."""
        eventually(lambda: [domains.is_running(self.vm, server) for server in servers], [True] * len(servers), seconds)
        for server, serial in servers.items():
            self.has(server, serial)
            eventually(lambda server=server: self.settled(server), "ACTIVE")

    def compute_log(self, on: Compute | None = None) -> str:
        """The last warnings and errors of nova-compute."""
        # A panic of the kernel leaves zeros in it, and without -a grep prints nothing of what it takes for binary.
        return (on or self.compute).vm.ssh(
            "grep -aE ' (WARNING|ERROR) ' /var/log/nova/nova-compute.log | tail -n 300", check=False
        )
