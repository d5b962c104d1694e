"""The main promise: a server whose flavor asks for a USB device has that device, and nobody else has it."""

import pytest

from tests.e2e.lab.cloud import CLASS, HOST, Cloud, eventually
from tests.integration.lab import domains


@pytest.mark.core
def test_a_server_has_the_stick_that_was_allocated_to_it_and_the_third_server_finds_no_host(cloud: Cloud) -> None:
    sticks = {f"{HOST}_usb_46f4:0001:{serial}": serial for serial in ("A1", "A2")}
    for serial in sticks.values():
        cloud.stick(serial)
    flavor = cloud.flavor("usb")
    first = cloud.create("first", flavor=flavor, image="linux")
    cloud.becomes(first, "ACTIVE")
    (held,) = cloud.holds(first)
    cloud.has(first, sticks[held])
    eventually(lambda: f"USB+ 46f4:0001 {sticks[held]}" in cloud.console(first).splitlines(), True, 300)
    assert "Device 0.0" not in domains.info_usb(cloud.vm, first)

    second = cloud.create("second", flavor=flavor)
    cloud.becomes(second, "ACTIVE")
    (other,) = cloud.holds(second)
    assert other != held
    cloud.has(second, sticks[other])

    third = cloud.create("third", flavor=flavor)
    cloud.becomes(third, "ERROR")
    assert "No valid host was found" in cloud.fault(third)
    cloud.delete(first, third)
    third = cloud.create("third", flavor=flavor)
    cloud.becomes(third, "ACTIVE")
    cloud.has(third, sticks[held])


def test_a_server_whose_flavor_asks_for_no_device_gets_none(cloud: Cloud) -> None:
    cloud.stick("A1")
    plain = cloud.create("plain", flavor=cloud.flavor("plain", {"hw:usb_model": "qemu-xhci"}))
    cloud.becomes(plain, "ACTIVE")
    assert domains.hostdevs(cloud.vm, plain) == []


def test_without_hw_input_bus_in_the_image_the_start_is_refused_and_nova_says_so(cloud: Cloud) -> None:
    # A console makes nova add a USB tablet, and with it a USB 1.1 controller, whatever hw:usb_model says.
    cloud.stick("A1", bus="xhci")
    server = cloud.create("tablet", flavor=cloud.flavor("usb"), image="linux-with-tablet")
    cloud.becomes(server, "ERROR")
    said = cloud.compute_log()
    assert "hw_input_bus=virtio in the image" in said and "hw:usb_model=qemu-xhci" in said, said
    assert cloud.holds(server) == set()
    assert domains.hostdevs(cloud.vm, server) == [] if domains.is_running(cloud.vm, server) else True


@pytest.mark.parametrize("which", ["required", "forbidden"])
def test_a_trait_chooses_among_devices_of_a_class(cloud: Cloud, which: str) -> None:
    cloud.stick("A1")
    cloud.vm.plug("reader", "usb-ccid")
    reader = cloud.offered("08e6:4433")
    specs = {
        "resources_USB1:" + CLASS: "1",
        "trait_USB1:CUSTOM_USB_VENDOR_08E6": which,
        "hw:usb_model": "qemu-xhci",
    }
    server = cloud.create("chooser", flavor=cloud.flavor(f"reader-{which}", specs))
    cloud.becomes(server, "ACTIVE")
    assert cloud.holds(server) == {reader if which == "required" else f"{HOST}_usb_46f4:0001:A1"}


def test_two_groups_with_a_policy_are_two_devices_in_one_guest(cloud: Cloud) -> None:
    for serial in ("A1", "A2"):
        cloud.stick(serial)
    specs = {
        f"resources_USB1:{CLASS}": "1",
        f"resources_USB2:{CLASS}": "1",
        "group_policy": "isolate",
        "hw:usb_model": "qemu-xhci",
    }
    server = cloud.create("two", flavor=cloud.flavor("usb-two", specs), image="linux")
    cloud.becomes(server, "ACTIVE")
    cloud.has(server, "A1", "A2")
    for serial in ("A1", "A2"):
        eventually(lambda serial=serial: f"USB+ 46f4:0001 {serial}" in cloud.console(server).splitlines(), True, 300)
