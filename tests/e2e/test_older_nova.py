"""What servers get from a Nova before 32 (2025.2), which ignores hw:usb_model: "make test-e2e RELEASE=2025.1".

Only the USB tablet of a console gives a guest a controller, and that is one of USB 1.1.
"""

import xml.etree.ElementTree as ET

import pytest

from tests.e2e.lab import release
from tests.e2e.lab.cloud import CLASS, HOST, Cloud, eventually
from tests.integration.lab import domains
from tests.integration.lab.agent import UNIT

ONE = {f"resources:{CLASS}": "1"}
READER = f"{HOST}_usb_08e6:4433"
LINE = "USB+ 08e6:4433"


@pytest.fixture
def reader(cloud: Cloud) -> str:
    """A card reader, which has full speed; gives its provider's name."""
    cloud.vm.plug("reader", "usb-ccid")
    return cloud.offered("08e6:4433")


def create(cloud: Cloud) -> str:
    return cloud.create("old", flavor=cloud.flavor("one", ONE), image="linux-with-tablet")


def devices(cloud: Cloud, server: str) -> list[str]:
    """Ids of the devices that the guest really has."""
    return [
        f"{each.vendor}:{each.product}"
        for each in domains.hostdevs(cloud.vm, server)
        if each.alias and domains.qom_attached(cloud.vm, server, each.alias)
    ]


def has_the_reader(cloud: Cloud, server: str, times: int = 1) -> None:
    """Pass when the guest has the reader, and has said so *times* times on its console."""
    eventually(lambda: devices(cloud, server), ["08e6:4433"])
    eventually(lambda: cloud.console(server).count(LINE) >= times, True, 300)


def test_a_full_speed_device_is_on_the_tablets_controller(cloud: Cloud, reader: str) -> None:
    server = create(cloud)
    cloud.becomes(server, "ACTIVE")
    assert cloud.holds(server) == {reader}
    has_the_reader(cloud, server)
    domain = ET.fromstring(cloud.compute.virsh("dumpxml", server))
    assert [each.get("model") for each in domain.findall("devices/controller[@type='usb']")] == ["piix3-uhci"]
    assert domain.find("devices/input[@type='tablet'][@bus='usb']") is not None

    cloud.vm.unplug("reader")
    eventually(lambda: domains.hostdevs(cloud.vm, server), [])
    cloud.vm.plug("reader", "usb-ccid")
    has_the_reader(cloud, server, 2)
    cloud.act(server, "reboot", "ACTIVE", type="HARD")
    has_the_reader(cloud, server)
    cloud.delete(server)
    cloud.offered("08e6:4433")


def test_a_faster_device_is_refused_and_the_remedy_is_that_of_this_nova(cloud: Cloud) -> None:
    cloud.stick("A1")
    server = create(cloud)
    cloud.becomes(server, "ERROR")
    said = cloud.compute_log()
    assert "too fast for the instance's USB controller (piix3-uhci)" in said, said
    assert f"Nova {release.NOVA} gives a guest no faster one, so use Nova 32 (2025.2) or newer" in said, said
    assert cloud.holds(server) == set()


def test_without_a_console_input_the_start_is_refused_and_the_remedy_is_that_of_this_nova(
    cloud: Cloud, reader: str
) -> None:
    server = cloud.create("old", flavor=cloud.flavor("one", ONE))  # its image has hw_input_bus=virtio
    cloud.becomes(server, "ERROR")
    said = cloud.compute_log()
    assert "The instance has no USB controller" in said, said
    assert "set hw_pointer_model=usbtablet on the image and remove hw_input_bus from it" in said, said


def test_while_the_agent_is_down_a_server_starts_without_its_device_and_gets_it_afterwards(
    cloud: Cloud, reader: str
) -> None:
    cloud.vm.ssh(f"systemctl stop {UNIT}")
    try:
        server = create(cloud)
        cloud.becomes(server, "ACTIVE")
        assert domains.hostdevs(cloud.vm, server) == []
    finally:
        cloud.vm.ssh(f"systemctl start {UNIT}")
    has_the_reader(cloud, server)
