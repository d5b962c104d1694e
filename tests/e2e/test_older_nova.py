"""What servers get from a Nova before 32 (2025.2), which ignores hw:usb_model: "make test-e2e RELEASE=2025.1".

Only what needs USB gives a guest a controller, one of USB 1.1: a config drive, or the USB tablet of a console. Most
guests here are only firmware: a Linux that drives a UHCI controller sometimes makes the emulated host panic.
"""

import xml.etree.ElementTree as ET

import pytest

from tests.e2e.lab import release
from tests.e2e.lab.cloud import CLASS, Cloud, eventually
from tests.integration.lab import domains
from tests.integration.lab.agent import UNIT
from tests.integration.lab.machine import USB_2_PORT

ONE = {f"resources:{CLASS}": "1"}


@pytest.fixture
def reader(cloud: Cloud) -> str:
    """A card reader, which has full speed; gives its provider's name."""
    cloud.vm.plug("reader", "usb-ccid")
    return cloud.offered("08e6:4433")


def create(cloud: Cloud, image: str = "empty-with-drive") -> str:
    return cloud.create("old", flavor=cloud.flavor("one", ONE), image=image, config_drive=True)


def devices(cloud: Cloud, server: str) -> list[str]:
    """Ids of the devices that the guest really has."""
    return [
        f"{each.vendor}:{each.product}"
        for each in domains.hostdevs(cloud.vm, server)
        if each.alias and domains.qom_attached(cloud.vm, server, each.alias)
    ]


def has_the_reader(cloud: Cloud, server: str) -> None:
    """Pass when the guest has the reader."""
    eventually(lambda: devices(cloud, server), ["08e6:4433"])


def test_a_server_with_a_config_drive_on_usb_has_a_full_speed_device_and_keeps_it(cloud: Cloud, reader: str) -> None:
    server = create(cloud)
    cloud.becomes(server, "ACTIVE")
    assert cloud.holds(server) == {reader}
    has_the_reader(cloud, server)
    domain = ET.fromstring(cloud.compute.virsh("dumpxml", server))
    assert [each.get("model") for each in domain.findall("devices/controller[@type='usb']")] == ["piix3-uhci"]
    assert domain.findall("devices/input[@bus='usb']") == []

    cloud.vm.unplug("reader")
    eventually(lambda: domains.hostdevs(cloud.vm, server), [])
    cloud.vm.plug("reader", "usb-ccid")
    has_the_reader(cloud, server)
    for _ in range(2):
        cloud.act(server, "reboot", "ACTIVE", type="HARD")
        has_the_reader(cloud, server)
    cloud.delete(server)
    cloud.offered("08e6:4433")


def test_a_high_speed_disk_is_in_such_a_server_as_a_full_speed_one(cloud: Cloud) -> None:
    cloud.stick("A1", port=USB_2_PORT)
    server = create(cloud, "linux-with-drive")
    cloud.becomes(server, "ACTIVE")
    cloud.has(server, "A1")
    eventually(lambda: "USB+ 46f4:0001 A1" in cloud.console(server).splitlines(), True, 300)


def test_a_tablet_alone_leaves_a_port_until_the_first_hard_reboot_and_doctor_says_so_before(
    cloud: Cloud, reader: str
) -> None:
    server = create(cloud, "empty-with-tablet")
    cloud.becomes(server, "ACTIVE")
    has_the_reader(cloud, server)
    said = cloud.vm.ssh("usb-provider doctor --json", check=False)
    assert "from its next hard reboot on: The instance has no free USB port" in said, said
    cloud.act(server, "reboot", "ERROR", type="HARD")
    said = cloud.compute_log()
    assert f"with Nova {release.NOVA} an instance can have one device: ask for one, and create the server with" in said


def test_a_faster_device_is_refused_and_the_remedy_is_that_of_this_nova(cloud: Cloud) -> None:
    cloud.stick("A1")
    server = create(cloud)
    cloud.becomes(server, "ERROR")
    said = cloud.compute_log()
    assert "too fast for the instance's USB controller (piix3-uhci)" in said, said
    assert f"Nova {release.NOVA} gives a guest no faster one, so use Nova 32 (2025.2) or newer" in said, said
    assert cloud.holds(server) == set()


def test_without_a_usb_controller_the_start_is_refused_and_the_remedy_is_that_of_this_nova(
    cloud: Cloud, reader: str
) -> None:
    server = create(cloud, "empty")  # it has hw_input_bus=virtio
    cloud.becomes(server, "ERROR")
    said = cloud.compute_log()
    assert "The instance has no USB controller" in said, said
    assert "create the server with a config drive, from an image with hw_input_bus=virtio and hw_cdrom" in said, said


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
