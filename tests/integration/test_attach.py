"""A guest that holds a stick has it, that very one, and nobody else does. Real libvirt, real udev, real Placement."""

from xml.etree import ElementTree

import pytest

from tests.fixtures.healed import Healed
from tests.integration.lab import domains
from tests.integration.lab.cloud import Cloud
from tests.integration.lab.report import eventually


@pytest.mark.core
def test_the_allocated_one_of_two_like_sticks_is_in_the_guest(cloud: Cloud) -> None:
    first, second = cloud.stick("STICK-1"), cloud.stick("STICK-2")
    cloud.claim("linux", second)
    cloud.boot("linux", linux=True)
    cloud.comes_to_have("linux", "STICK-2")
    (hostdev,) = domains.hostdevs(cloud.vm, "linux")
    stick = domains.host_device(cloud.vm, "STICK-2")
    assert hostdev == domains.Hostdev(f"ua-usb-{second}", "46f4", "0001", stick.bus, stick.device)

    cloud.claim("other", first)
    cloud.boot("other")
    cloud.comes_to_have("other", "STICK-1")
    cloud.boot("bystander", extra_specs={})
    cloud.stays_without("bystander")

    domains.wait_for_linux(cloud.vm, "linux")
    domains.wait_for_console(cloud.vm, "linux", "USB+ 46f4:0001 STICK-2")
    assert domains.usb_in_guest(cloud.vm, "linux") == ["46f4:0001 STICK-2"]
    assert "Device 0.0" not in domains.info_usb(cloud.vm, "linux")
    assert {entry["provider_uuid"] for entry in cloud.audit("attach")} == {first, second}


@pytest.mark.core
def test_a_stick_that_is_unplugged_and_plugged_in_again_is_back_in_the_guest(cloud: Cloud) -> None:
    provider = cloud.stick("STICK-1", port="2")
    cloud.claim("vm", provider)
    cloud.boot("vm")
    cloud.comes_to_have("vm", "STICK-1")
    cloud.vm.unplug("STICK-1")
    eventually(lambda: domains.hostdevs(cloud.vm, "vm"), [], 15)
    assert cloud.placement.used(provider) == 1, "the claim is kept"

    cloud.vm.plug("STICK-1", serial="STICK-1", port="2")
    cloud.comes_to_have("vm", "STICK-1")

    cloud.vm.unplug("STICK-1")
    cloud.vm.plug("STICK-1", serial="STICK-1", port="5", bus="xhci2")
    cloud.comes_to_have("vm", "STICK-1")


def guest_ports(cloud: Cloud, name: str) -> dict[str, str]:
    """At which port of the guest each device is that the agent attached, by its hostdev's alias, as libvirt says."""
    found = {}
    for hostdev in ElementTree.fromstring(domains.virsh(cloud.vm, "dumpxml", name)).iterfind("devices/hostdev"):
        alias, address = hostdev.find("alias"), hostdev.find("address")
        assert alias is not None and address is not None
        found[alias.get("name", "")] = f"{address.get('bus')}:{address.get('port')}"
    return found


def test_sticks_that_come_back_the_other_way_round_are_at_the_guest_ports_that_they_had(cloud: Cloud) -> None:
    places = {"STICK-1": "2", "STICK-2": "5"}
    cloud.claim("vm", *(cloud.stick(serial, port=port) for serial, port in places.items()))
    cloud.boot("vm")
    cloud.comes_to_have("vm", *places)
    before = guest_ports(cloud, "vm")
    assert len(set(before.values())) == 2
    for serial in places:
        cloud.vm.unplug(serial)
    eventually(lambda: domains.hostdevs(cloud.vm, "vm"), [], 15)
    for serial, port in reversed(places.items()):
        cloud.vm.plug(serial, serial=serial, port=port)
        eventually(lambda serial=serial: serial in cloud.has("vm"), True)
    cloud.comes_to_have("vm", *places)
    assert guest_ports(cloud, "vm") == before


@pytest.mark.core
def test_another_stick_in_the_old_port_is_never_attached(cloud: Cloud) -> None:
    cloud.claim("vm", cloud.stick("STICK-1", port="2"))
    cloud.boot("vm")
    cloud.comes_to_have("vm", "STICK-1")
    cloud.vm.unplug("STICK-1")
    cloud.vm.plug("STRANGER", serial="STRANGER", port="2")
    eventually(lambda: domains.hostdevs(cloud.vm, "vm"), [], 15)
    cloud.stays_without("vm")


def test_a_stick_whose_number_changes_between_look_up_and_attach_is_attached_at_the_next_try(cloud: Cloud) -> None:
    """The agent is held at its attach while the stick gets another number and a twin takes the old one's place."""
    cloud.claim("vm", cloud.stick("STICK-1", port="2"))
    cloud.agent.stop()
    cloud.agent.run_with(
        "real = LibvirtHost.attach\n"
        "def attach(self, guest, xml):\n"
        "    if not os.path.exists('/tmp/gap'):\n"
        "        open('/tmp/gap', 'w').close()\n"
        "        while not os.path.exists('/tmp/go'): time.sleep(0.05)\n"
        "    return real(self, guest, xml)\n"
        "LibvirtHost.attach = attach\n"
    )
    cloud.boot("vm")
    cloud.vm.wait_for("[ -e /tmp/gap ]")
    cloud.vm.unplug("STICK-1")
    cloud.vm.plug("STRANGER", serial="STRANGER", port="2")
    cloud.vm.plug("STICK-1", serial="STICK-1", port="3")
    domains.host_device(cloud.vm, "STICK-1")
    cloud.vm.ssh("touch /tmp/go")
    cloud.comes_to_have("vm", "STICK-1")
    assert [hostdev.alias for hostdev in domains.hostdevs(cloud.vm, "vm")] == [f"ua-usb-{cloud.provider('STICK-1')}"]


def test_an_allocation_that_is_removed_takes_the_stick_within_five_resyncs(cloud: Cloud, healed: Healed) -> None:
    cloud.claim("vm", cloud.stick("STICK-1"))
    cloud.boot("vm")
    cloud.comes_to_have("vm", "STICK-1")
    # Deleting an allocation raises no generation: the agent asks who holds what is attached every 10 s here.
    with healed.within("a person deletes the allocation of a running server: the agent detaches its device"):
        cloud.release("vm")
        eventually(lambda: domains.hostdevs(cloud.vm, "vm"), [], 30)
    assert cloud.audit("detach")[-1]["reason"] == "the guest no longer holds its allocation"
    assert domains.is_running(cloud.vm, "vm")


def test_an_allocation_that_moves_to_an_unknown_consumer_leaves_the_stick_in_the_guest(cloud: Cloud) -> None:
    provider = cloud.stick("STICK-1")
    cloud.claim("vm", provider)
    cloud.boot("vm")
    cloud.comes_to_have("vm", "STICK-1")
    cloud.release("vm")
    cloud.placement.allocate(domains.uuid_of("a migration"), {provider: {"CUSTOM_USB_STORAGE": 1}})
    cloud.vm.ssh("sleep 6")
    cloud.comes_to_have("vm", "STICK-1")


@pytest.mark.parametrize("what", ["hub", "mounted disk", "device without a rule"])
def test_what_may_not_be_offered_is_never_attached_even_with_a_forged_allocation(cloud: Cloud, what: str) -> None:
    """Whoever can write to Placement makes a provider and an allocation for it by hand."""
    vm = cloud.vm
    if what == "hub":
        vm.plug("hub", "usb-hub", port="4")
        key = "0409:55aa@{controller}-4"
        vm.wait_for("lsusb | grep -q 0409:55aa")
    elif what == "mounted disk":
        vm.plug("MOUNTED", serial="MOUNTED", port="4")
        domains.host_device(vm, "MOUNTED")
        vm.wait_for("[ -b /dev/disk/by-id/usb-*MOUNTED*0 ]")
        vm.ssh(
            "d=$(readlink -f /dev/disk/by-id/usb-*MOUNTED*0) && mkfs.ext2 -q $d && mkdir -p /tmp/m && mount $d /tmp/m"
        )
        key = "46f4:0001:MOUNTED"
    else:
        vm.plug("tablet", "usb-tablet", serial="TABLET", port="4")
        domains.host_device(vm, "TABLET")
        key = "0627:0001:TABLET"
    if "{controller}" in key:
        controller = vm.ssh(
            "basename $(dirname $(dirname $(readlink -f $(dirname $(grep -l 0409 /sys/bus/usb/devices/*/idVendor)))))"
        )
        key = key.format(controller=controller.strip())
    cloud.agent.stop()
    cloud.claim("vm", cloud.forge(key))
    cloud.agent.start()
    vm.ssh("sleep 4")
    said = cloud.refused("vm")
    assert "but this host does not offer it now" in said
    cloud.agent.stop()
    cloud.boot("vm", extra_specs={})
    cloud.agent.start()
    cloud.stays_without("vm")
    vm.ssh("umount /tmp/m", check=False)
