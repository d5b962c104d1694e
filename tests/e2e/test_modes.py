"""A device that comes back with other ids, while a server holds it: Nova, guest, libvirt and Placement agree."""

import json
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.lab.cloud import Cloud, eventually
from tests.e2e.lab.compute import RULES
from tests.integration.lab import domains

STICK = {"vendor_id": "46f4", "product_id": "0001", "resource_class": "CUSTOM_USB_KEY"}
ADAPTER = {"vendor_id": "0403", "product_id": "6001", "resource_class": "CUSTOM_USB_KEY"}
PORT = "3"


@pytest.fixture
def offer(cloud: Cloud) -> Iterator[Callable[..., None]]:
    """Has the agent offer by rules of the test's own, until the test ends."""

    def write(text: str) -> None:
        cloud.compute.configure(text)
        cloud.vm.ssh("systemctl reload usb-provider-agent")

    yield lambda *rules: write(
        "[usb]\n" + "".join(f"device_spec = {json.dumps(rule).replace('$', '$$')}\n" for rule in rules)
    )
    write(RULES)


@pytest.fixture
def server(cloud: Cloud) -> str:
    """A server with the stick A1."""
    cloud.stick("A1", port=PORT)
    uuid = cloud.create("alice", flavor=cloud.flavor("usb"))
    cloud.becomes(uuid, "ACTIVE")
    cloud.has(uuid, "A1")
    return uuid


def load_firmware(cloud: Cloud) -> None:
    """The stick A1 comes back as a serial adapter, in the same port."""
    cloud.vm.unplug("A1")
    cloud.vm.plug("A1", "usb-serial", serial="A1", port=PORT)
    cloud.vm.wait_for("usb-provider devices | grep -q 0403:6001")


def offered(cloud: Cloud) -> list[str]:
    """The host's USB providers that are neither reserved nor without inventory, also those that a server holds."""
    ours = f"{cloud.compute.name}_usb_"
    return [name for name, uuid in cloud.providers().items() if name.startswith(ours) and cloud.is_free(uuid)]


def verdict(cloud: Cloud) -> str:
    """The agent's sentence on the adapter."""
    (found,) = [each for each in json.loads(cloud.vm.ssh("usb-provider devices --json")) if each["vendor_id"] == "0403"]
    return str(found["reason"])


def test_what_a_held_device_has_become_goes_to_no_other_server(
    cloud: Cloud, offer: Callable[..., None], server: str
) -> None:
    offer(STICK, ADAPTER)
    (held,) = cloud.holds(server)
    load_firmware(cloud)
    eventually(lambda: domains.hostdevs(cloud.vm, server), [])
    eventually(lambda: '"also": ["0403:6001"]' in verdict(cloud), True)
    assert held.rpartition("_usb_")[2] in verdict(cloud)
    thief = cloud.create("thief", flavor=cloud.flavor("usb"))
    cloud.becomes(thief, "ERROR")
    assert "No valid host" in cloud.fault(thief)
    assert offered(cloud) == []
    cloud.vm.ssh("systemctl restart usb-provider-agent")
    eventually(lambda: '"also": ["0403:6001"]' in verdict(cloud), True)

    reset(cloud)
    cloud.has(server, "A1")

    load_firmware(cloud)
    cloud.delete(server, thief)
    cloud.offered("_usb_0403:6001")
    heir = cloud.create("heir", flavor=cloud.flavor("usb"))
    cloud.becomes(heir, "ACTIVE")
    eventually(lambda: cloud.compute.serials(heir), ["A1"])


def test_a_server_gets_its_device_in_each_mode_that_the_rule_names(cloud: Cloud, offer: Callable[..., None]) -> None:
    offer({**STICK, "also": ["0403:6001"]})
    cloud.vm.plug("A1", serial="A1", port=PORT)
    provider = cloud.offered("_usb_46f4:0001@")
    server = cloud.create("alice", flavor=cloud.flavor("usb"))
    cloud.becomes(server, "ACTIVE")

    def has_it_as(ids: str) -> None:
        eventually(lambda: [f"{each.vendor}:{each.product}" for each in domains.hostdevs(cloud.vm, server)], [ids])
        eventually(lambda: cloud.compute.serials(server), ["A1"])
        assert cloud.holds(server) == {provider}
        eventually(lambda: offered(cloud), [provider])

    has_it_as("46f4:0001")
    for _ in range(2):
        load_firmware(cloud)
        has_it_as("0403:6001")
        reset(cloud)
        has_it_as("46f4:0001")
    load_firmware(cloud)
    cloud.act(server, "reboot", "ACTIVE", type="HARD")
    has_it_as("0403:6001")
    cloud.delete(server)
    assert cloud.offered(provider) == provider


def reset(cloud: Cloud) -> None:
    """The adapter A1 comes back as the stick, in the same port."""
    cloud.vm.unplug("A1")
    cloud.vm.plug("A1", serial="A1", port=PORT)
