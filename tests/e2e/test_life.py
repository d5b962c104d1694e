"""What users do to a server: after each, guest, libvirt and Placement agree."""

import pytest

from tests.e2e.lab.cloud import Cloud, eventually
from tests.fixtures.healed import Healed
from tests.integration.lab import domains


@pytest.fixture
def server(cloud: Cloud) -> str:
    """A server with the stick A1."""
    cloud.stick("A1")
    uuid = cloud.create("alice", flavor=cloud.flavor("usb"))
    cloud.becomes(uuid, "ACTIVE")
    cloud.has(uuid, "A1")
    return uuid


def test_a_server_keeps_its_stick_through_everything_that_its_user_does(cloud: Cloud, server: str) -> None:
    image = cloud.admin.image.find_image("empty").id
    for step in (
        [("reboot", "ACTIVE", {"type": "HARD"})],
        [("os-stop", "SHUTOFF", {}), ("os-start", "ACTIVE", {})],
        [("pause", "PAUSED", {}), ("unpause", "ACTIVE", {})],
        [("suspend", "SUSPENDED", {}), ("resume", "ACTIVE", {})],
        [("rebuild", "ACTIVE", {"imageRef": image})],
        [("rescue", "RESCUE", {}), ("unrescue", "ACTIVE", {})],
        [("shelve", "SHELVED_OFFLOADED", {}), ("unshelve", "ACTIVE", {})],
    ):
        for action, wanted, arguments in step:
            print(action, flush=True)
            cloud.act(server, action, wanted, **arguments)
            if wanted in ("ACTIVE", "PAUSED", "RESCUE"):
                cloud.has(server, "A1")
            elif wanted == "SHELVED_OFFLOADED":
                assert cloud.holds(server) == set()
            else:
                assert cloud.holds(server) != set()


def test_a_soft_reboot_leaves_the_stick_in_the_guest(cloud: Cloud) -> None:
    cloud.stick("A1")
    server = cloud.create("linux", flavor=cloud.flavor("usb"), image="linux")
    cloud.becomes(server, "ACTIVE")
    eventually(lambda: "USB+ 46f4:0001 A1" in cloud.console(server).splitlines(), True, 300)
    cloud.act(server, "reboot", "ACTIVE", type="SOFT")
    cloud.has(server, "A1")


def test_a_resize_takes_another_stick_and_gives_back_the_one_that_is_not_wanted_any_more(cloud: Cloud) -> None:
    for serial in ("A1", "A2"):
        cloud.stick(serial)
    server = cloud.create("grower", flavor=cloud.flavor("usb"))
    cloud.becomes(server, "ACTIVE")
    (had,) = cloud.compute.serials(server)
    other = {"A1": "A2", "A2": "A1"}[had]
    bigger = cloud.flavor("usb-bigger", ram=320)

    cloud.act(server, "resize", "VERIFY_RESIZE", flavorRef=bigger)
    cloud.has(server, other)
    cloud.act(server, "revertResize", "ACTIVE")
    cloud.has(server, had)

    cloud.act(server, "resize", "VERIFY_RESIZE", flavorRef=bigger)
    cloud.has(server, other)
    cloud.act(server, "confirmResize", "ACTIVE")
    cloud.has(server, other)
    heir = cloud.create("heir", flavor=cloud.flavor("usb"))
    cloud.becomes(heir, "ACTIVE")
    cloud.has(heir, had)


def test_an_unplugged_stick_is_back_in_the_running_server_when_it_is_plugged_in_again(
    cloud: Cloud, server: str, healed: Healed
) -> None:
    with healed.within("a device is unplugged: the server runs on without it"):
        cloud.vm.unplug("A1")
        eventually(lambda: domains.hostdevs(cloud.vm, server), [])
    assert cloud.server(server).status == "ACTIVE"
    with healed.within("… and plugged in again, in another port"):
        cloud.vm.plug("A1", serial="A1", port="5")
        cloud.has(server, "A1")
    assert cloud.server(server).status == "ACTIVE"


def test_a_hard_reboot_without_the_stick_is_refused_and_the_next_with_it_succeeds(cloud: Cloud, server: str) -> None:
    cloud.vm.unplug("A1")
    eventually(lambda: domains.hostdevs(cloud.vm, server), [])
    cloud.act(server, "reboot", "ERROR", type="HARD")
    assert "is allocated to this instance, but it is not plugged in" in cloud.compute_log()
    assert cloud.fault(server) == "libvirtError"
    cloud.vm.plug("A1", serial="A1")
    cloud.vm.wait_for("usb-provider devices | grep -q 46f4:0001")
    cloud.act(server, "reboot", "ACTIVE", type="HARD")
    cloud.has(server, "A1")


def test_a_start_and_a_rescue_without_the_stick_are_refused_and_a_hard_reboot_with_it_succeeds(
    cloud: Cloud, server: str
) -> None:
    cloud.vm.unplug("A1")
    eventually(lambda: domains.hostdevs(cloud.vm, server), [])
    cloud.act(server, "rescue", "ERROR")
    # Nova keeps 255 characters of the fault: it ends before our sentence.
    assert "Hook script execution failed" in cloud.fault(server)
    assert "not plugged in" not in cloud.fault(server)
    assert "it is not plugged in" in cloud.vm.ssh("usb-provider status")
    cloud.vm.plug("A1", serial="A1")
    cloud.vm.wait_for("usb-provider devices | grep -q 46f4:0001")
    cloud.act(server, "reboot", "ACTIVE", type="HARD")
    cloud.has(server, "A1")

    cloud.act(server, "os-stop", "SHUTOFF")
    cloud.vm.unplug("A1")
    cloud.vm.wait_for("! usb-provider devices | grep -q 46f4:0001")
    cloud.act(server, "os-start", "SHUTOFF")
    assert cloud.server(server).fault is None
    cloud.vm.plug("A1", serial="A1")
    cloud.vm.wait_for("usb-provider devices | grep -q 46f4:0001")
    cloud.act(server, "reboot", "ACTIVE", type="HARD")
    cloud.has(server, "A1")


def test_a_server_that_is_deleted_while_its_stick_is_unplugged_leaves_a_stick_that_can_be_had(
    cloud: Cloud, server: str
) -> None:
    cloud.vm.unplug("A1")
    eventually(lambda: domains.hostdevs(cloud.vm, server), [])
    cloud.delete(server)
    cloud.stick("A1")
    heir = cloud.create("heir", flavor=cloud.flavor("usb"))
    cloud.becomes(heir, "ACTIVE")
    cloud.has(heir, "A1")


def test_a_stick_that_an_operator_has_reserved_stays_with_its_server_and_goes_to_no_other(
    cloud: Cloud, server: str
) -> None:
    path = f"/resource_providers/{cloud.providers()[cloud.offered('A1')]}/inventories"

    def reserve(amount: int) -> None:
        found = cloud.placement(path)
        found["inventories"]["CUSTOM_USB_KEY"]["reserved"] = amount
        answer = cloud.admin.placement.put(path, json=found, microversion="1.39")
        assert answer.ok, answer.text

    reserve(1)
    cloud.act(server, "reboot", "ACTIVE", type="HARD")
    cloud.has(server, "A1")
    cloud.delete(server)
    other = cloud.create("other", flavor=cloud.flavor("usb"))
    cloud.becomes(other, "ERROR")
    assert "No valid host" in cloud.fault(other)
    reserve(0)
