"""A real server with a real stick on a Kolla host: the virtual machine, with USB and KVM. One story, in order."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.lab.cloud import Cloud, eventually
from tests.e2e.lab.compute import Compute
from tests.e2e.lab.controller import Controller
from tests.integration.lab.vm import Vm
from tests.kolla import vm as machine
from tests.kolla.deployment import Deployment

STICKS = {"vendor_id": "46f4", "product_id": "0001", "resource_class": "CUSTOM_USB_KEY"}
# Emulation is slow.
_OPTIONS = "[agent]\nresync_interval = 20\n[hook]\ntimeout = 30\n"
# The other suites' helpers look at guests with these; nova_libvirt has them.
_WRAPPER = '#!/bin/sh\nexec podman exec -i nova_libvirt {} "$@" 2>/dev/null\n'


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    directory = tmp_path_factory.mktemp("k")
    controller = Controller(directory / "cloud")
    vm: Vm | None = None
    try:
        controller.start_core()
        controller.start_others()
        vm = machine.start(directory / "vm")
        vm.put(_WRAPPER.format("virsh"), "/usr/local/bin/virsh", 0o755)
        deployment = Deployment(
            directory / "ansible", machine.NAME, machine.connection(vm), nova_compute_virt_type="kvm"
        )
        deployment.rules(STICKS)
        (deployment.config / "config" / "usb-provider.conf").write_text(_OPTIONS)
        deployment.toolbox()
        deployment.ours("genconfig")
        deployment.nova_cell()
        deployment.ours("deploy")
        cloud = Cloud(directory, controller, Compute(vm), Path())
        cloud.wait_for_host(machine.NAME)
        cloud.upload_images()
        yield cloud
    finally:
        if vm is not None:
            vm.stop()
        controller.stop()


def test_a_server_gets_a_stick_and_keeps_it_while_libvirt_and_the_agent_restart(cloud: Cloud) -> None:
    cloud.stick("K1")
    server = cloud.create("alice", flavor=cloud.flavor("usb"))
    cloud.becomes(server, "ACTIVE")
    cloud.has(server, "K1")
    cloud.vm.ssh("podman restart nova_libvirt", timeout=300)
    cloud.vm.ssh("podman restart usb_provider_agent", timeout=300)
    cloud.has(server, "K1", seconds=300)


def test_a_stick_that_is_plugged_in_again_comes_back(cloud: Cloud) -> None:
    (server,) = (each.id for each in cloud.admin.compute.servers())
    cloud.vm.unplug("K1")
    eventually(lambda: cloud.compute.serials(server), [])
    cloud.vm.plug("K1", serial="K1")
    cloud.has(server, "K1", seconds=300)


def test_without_the_agent_a_server_with_a_stick_is_refused(cloud: Cloud) -> None:
    cloud.delete_all()
    cloud.vm.ssh("systemctl stop kolla-usb_provider_agent-container", timeout=300)
    server = cloud.create("bob", flavor=cloud.flavor("usb"))
    cloud.becomes(server, "ERROR")
