"""A start that cannot have its device fails with a sentence that an operator can act on; no other start does."""

import time
from pathlib import Path

import pytest

from tests.integration.lab import domains
from tests.integration.lab.cloud import ASKS, Cloud
from tests.integration.lab.report import eventually

TOP = Path(__file__).parents[2]
DROP_IN = "/etc/systemd/system/usb-provider-agent.service.d/owner.conf"


@pytest.mark.core
def test_a_stick_that_is_not_plugged_in_refuses_the_start(cloud: Cloud) -> None:
    cloud.claim("vm", cloud.stick("STICK-1"))
    cloud.vm.unplug("STICK-1")
    eventually(lambda: cloud.schedulable("STICK-1"), False)
    said = cloud.refused("vm")
    assert "testhost_usb_46f4:0001:STICK-1 is allocated to this instance, but it is not plugged in." in said
    assert cloud.agent.log().count("The start of guest vm is refused") == 1
    assert "it is not plugged in" in cloud.agent.run("status", "--json")


def test_a_stick_that_another_guest_has_refuses_the_start(cloud: Cloud) -> None:
    cloud.stick("STICK-1")
    cloud.boot("thief", extra_specs={})
    domains.attach(cloud.vm, "thief", domains.host_device(cloud.vm, "STICK-1"))
    cloud.claim("vm", cloud.provider("STICK-1"))
    cloud.vm.ssh("sleep 3")
    assert "but another guest has it." in cloud.refused("vm")


def test_a_stick_that_another_guest_got_a_moment_before_refuses_the_start(cloud: Cloud) -> None:
    cloud.claim("vm", cloud.stick("STICK-1"))
    cloud.boot("thief", extra_specs={})
    domains.define(cloud.vm, domains.domain_xml("vm", linux=False, extra_specs=ASKS))
    domains.attach(cloud.vm, "thief", domains.host_device(cloud.vm, "STICK-1"))
    domains.detach(cloud.vm, "thief", domains.host_device(cloud.vm, "STICK-1"))
    cloud.vm.ssh("sleep 3")
    said = cloud.vm.ssh("virsh attach-device thief /tmp/hostdev.xml --live && virsh start vm 2>&1 || true", timeout=180)
    assert "but another guest has it." in said
    assert not domains.is_running(cloud.vm, "vm")


def test_guests_that_start_at_once_do_not_wait_for_each_other(cloud: Cloud) -> None:
    names = [f"vm{number}" for number in range(1, 4)]
    for number, name in enumerate(names, start=1):
        cloud.claim(name, cloud.stick(f"STICK-{number}"))
        domains.define(cloud.vm, domains.domain_xml(name, linux=False, extra_specs=ASKS))
    started = time.monotonic()
    cloud.vm.ssh(" & ".join(f"virsh start {name}" for name in names) + " & wait", timeout=180)
    assert time.monotonic() - started < 30
    for number, name in enumerate(names, start=1):
        cloud.comes_to_have(name, f"STICK-{number}")


def test_a_guest_without_a_usb_controller_is_refused_with_the_remedy(cloud: Cloud) -> None:
    cloud.claim("vm", cloud.stick("STICK-1"))
    said = cloud.refused("vm", usb_model="none")
    assert "The instance has no USB controller" in said
    assert "set hw:usb_model=qemu-xhci in the flavor and" in said
    assert "hw_input_bus=virtio in the image" in said


def test_a_superspeed_stick_on_a_usb_1_controller_is_refused(cloud: Cloud) -> None:
    cloud.claim("vm", cloud.stick("STICK-1"))
    assert "too fast for the instance's USB controller (piix3-uhci)" in cloud.refused("vm", usb_model="piix3-uhci")


def test_a_guest_with_no_port_left_is_refused(cloud: Cloud) -> None:
    sticks = [cloud.stick(f"STICK-{number}") for number in range(1, 6)]
    cloud.claim("vm", *sticks)
    assert "The instance has no free USB port" in cloud.refused("vm")


def test_with_the_drop_in_of_the_documents_a_libvirt_that_is_not_root_is_answered(cloud: Cloud) -> None:
    page = (TOP / "docs/configure.md").read_text()
    _, header, rest = page.partition("[Service]\n")
    cloud.vm.put(header + rest.partition("```")[0], DROP_IN)
    cloud.agent.configure(options={"hook": {"socket_owner": "nobody"}})
    ask = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/usb-provider/hook.sock'); "
    ask += 's.sendall(b\'{"operation": "status"}\'); s.shutdown(1); print(s.recv(65536).decode())'
    cloud.vm.put(ask, "/tmp/ask.py")
    try:
        cloud.vm.ssh("systemctl daemon-reload")
        cloud.agent.restart()
        cloud.vm.wait_for("[ $(stat -c %U /run/usb-provider/hook.sock) = nobody ]")
        assert '"guests"' in cloud.vm.ssh("runuser -u nobody -- python3 /tmp/ask.py")
    finally:
        cloud.vm.ssh(f"rm {DROP_IN}; systemctl daemon-reload")


def test_a_start_while_placement_is_down_is_refused_only_when_it_needs_placement(cloud: Cloud) -> None:
    cloud.claim("vm", cloud.stick("STICK-1"))
    with cloud.placement.down():
        started = time.monotonic()
        said = cloud.refused("vm")
        assert time.monotonic() - started < 60, "it waits for Placement no longer than the hook does"
        assert "The agent cannot ask Placement what this instance holds" in said
        cloud.boot("bystander", extra_specs={})
    cloud.vm.ssh("sleep 2")
    domains.start(cloud.vm, "vm")
    cloud.comes_to_have("vm", "STICK-1")


@pytest.mark.core
def test_without_the_agent_only_a_guest_that_asks_for_usb_is_refused(cloud: Cloud) -> None:
    cloud.claim("vm", cloud.stick("STICK-1"))
    cloud.agent.stop()
    started = time.monotonic()
    said = cloud.refused("vm", extra_specs=ASKS)
    assert "the flavor asks for a USB device, but the agent did not answer" in said
    cloud.boot("bystander", extra_specs={"hw:usb_model": "qemu-xhci"})
    assert time.monotonic() - started < 60
    cloud.agent.start()
    domains.start(cloud.vm, "vm")
    cloud.comes_to_have("vm", "STICK-1")
