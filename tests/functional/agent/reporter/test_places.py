"""Recorded situations of the field, from udev to Placement: no device is promised twice, whoever restarts when."""

import contextlib
import re
from pathlib import Path

import pytest

from tests.fixtures.reporting import ABSENT, consumer, uuid_of
from tests.fixtures.testbed import needs_umockdev, no_use_by_the_host, testbed
from usb_provider.demo.testbed import Testbed
from usb_provider.host.udev import UdevHost

__all__ = ["testbed"]

pytestmark = needs_umockdev

CASES = Path(__file__).parents[3] / "fixtures" / "cases"
ANY = {"resource_class": "CUSTOM_USB_KEY"}
BEHIND = "/devices/pci0000:00/0000:00:1c.{bridge}/0000:0{bus}:00.0/usb{bus}/{bus}-2"


def recorded(name: str) -> str:
    return (CASES / f"{name}.umockdev").read_text()


def behind_bridge(name: str, bridge: int, bus: int) -> str:
    """The recording *name* with its controller behind a bridge, on the PCI bus and the USB bus *bus*."""
    text = re.sub(
        r"/devices/pci0000:0\d/0000:0\d:00\.0/usb1/1-2", BEHIND.format(bridge=bridge, bus=bus), recorded(name)
    )
    for old, new in (("/1-2:1.0", f"/{bus}-2:1.0"), ("usb/001/", f"usb/00{bus}/"), ("BUSNUM=001", f"BUSNUM=00{bus}")):
        text = text.replace(old, new)
    return (
        text.replace("busnum=1", f"busnum={bus}")
        .replace("MINOR=", f"MINOR={bus}")
        .replace("dev=189:", f"dev=189:{bus}")
    )


@pytest.fixture(params=[False, True], ids=["running", "restarted"])
def restarts(request):
    """Whether the agent restarts whenever the hardware changes."""
    return request.param


@pytest.fixture
def field(placement, host, root, testbed, restarts):
    """What happens to a host whose recorded devices change."""
    with contextlib.ExitStack() as boots:
        yield Field(placement, host, root, testbed, restarts=restarts, boots=boots)


class Field:
    """A host on which recordings take turns."""

    def __init__(self, placement, host, root, testbed: Testbed, *, restarts: bool, boots) -> None:
        self.placement, self.host, self.root = placement, host, root
        self.testbed, self.restarts, self.boots = testbed, restarts, boots
        self.there: list[str] = []

    def rules(self, *rules):
        self.host.rules(*(ANY | rule for rule in rules))

    def shows(self, *texts: str):
        """Let the host have the devices of *texts*; gives what the agent makes of them, by port."""
        for path in self.there:
            self.testbed.unplug(Path(path).name)
        self.there = [self.testbed.add(text) for text in texts]
        return self.looks()

    def boots_with(self, *texts: str):
        """As :meth:`shows`, after the next boot: the kernel gives numbers anew."""
        self.testbed = self.boots.enter_context(Testbed.create())
        no_use_by_the_host(self.testbed)
        self.there = []
        return self.shows(*texts)

    def looks(self):
        """What the agent makes of the devices as they are."""
        if self.restarts:
            self.host.restart()
        found = [each for each in UdevHost().devices() if not each.is_root_hub]
        self.host.devices = {each.sys_name: each for each in found}
        return {each.device.sys_name: each for each in self.host.run().devices}

    def hold(self, key: str) -> str:
        """Allocate the device; gives the consumer."""
        uuid = consumer()
        self.placement.allocate(uuid, {uuid_of(key): {"CUSTOM_USB_KEY": 1}})
        return uuid

    def free(self) -> list[str]:
        """Keys of the devices that can be had."""
        providers = self.placement.providers(self.root)
        mark = "host1_usb_"
        return sorted(
            name.removeprefix(mark)
            for name, each in providers.items()
            if name.startswith(mark)
            and not self.placement.used(each["uuid"])
            and any(row["reserved"] < row["total"] for row in self.placement.inventory(each["uuid"]).values())
        )

    def is_absent(self, key: str) -> bool:
        return ABSENT in self.placement.traits(uuid_of(key))


CORAL = "1a6e:089a@0000:00:14.0-3"


def test_a_device_whose_firmware_gives_it_other_ids_is_offered_to_no_other_server(field):
    field.rules({"vendor_id": "1a6e"}, {"vendor_id": "18d1"})
    field.shows(recorded("coral-1-cold"))
    claim = field.hold(CORAL)
    found = field.shows(recorded("coral-2-after-firmware"))["2-3"]
    assert not found.offered
    assert claim in found.reason
    assert '"also": ["18d1:9302"]' in found.reason
    assert (field.free(), field.is_absent(CORAL)) == ([], True)
    field.placement.release(claim)
    assert field.looks()["2-3"].offered
    assert field.free() == ["18d1:9302@0000:00:14.0-3"]


def test_a_device_whose_rule_knows_both_its_ids_is_one_provider_in_both_modes(field):
    field.rules({"vendor_id": "1a6e", "product_id": "089a", "also": ["18d1:9302"]})
    for held in (False, True):
        if held:
            field.hold(CORAL)
        for name in ("coral-1-cold", "coral-2-after-firmware", "coral-1-cold"):
            found = field.shows(recorded(name))["2-3"]
            assert (found.identity.key, found.offered) == (CORAL, True)
            assert (field.free(), field.is_absent(CORAL)) == ([] if held else [CORAL], False)


def test_a_serial_number_that_comes_with_the_firmware_and_goes_again_changes_no_claim(field):
    cold, loaded = recorded("b210-1-cold"), recorded("b210-2-firmware")
    field.rules({"vendor_id": "2500"})
    field.shows(cold)
    by_port = "2500:0020@0000:00:14.0-3"
    claim = field.hold(by_port)
    for text in (loaded, cold, loaded):
        assert field.shows(text)["2-3"].identity.key == by_port
        assert (field.free(), field.is_absent(by_port)) == ([], False)
    field.placement.release(claim)
    by_serial = field.looks()["2-3"].identity.key
    assert by_serial == "2500:0020:3000001"
    field.hold(by_serial)
    for text in (cold, loaded):
        assert field.shows(text)["2-3"].identity.key == by_serial
        assert (field.free(), field.is_absent(by_serial)) == ([], False)


def test_a_new_card_that_shifts_the_bus_numbers_leaves_each_claim_with_its_dongle(field):
    field.rules({"vendor_id": "0529"})
    before = field.shows(behind_bridge("pci-renumber-1", 0, 3), behind_bridge("pci-renumber-1", 4, 4))
    first, second = (before[name].identity.key for name in ("3-2", "4-2"))
    assert (first, second) == ("0529:0001@0000:00:1c.0/00.0-2", "0529:0001@0000:00:1c.4/00.0-2")
    field.hold(second)
    after = field.boots_with(behind_bridge("pci-renumber-2", 0, 4), behind_bridge("pci-renumber-2", 4, 5))
    assert {name: each.identity.key for name, each in after.items()} == {"4-2": first, "5-2": second}
    assert (field.free(), field.is_absent(second)) == ([first], False)


def test_controllers_that_the_kernel_counts_in_another_order_keep_their_devices(field):
    field.rules({"vendor_id": "0529"})
    both = recorded("dwc3-boot1")
    second = both.index("P: /devices/platform/soc@0/a6f8800")
    found = field.shows(both[:second], both[second:])
    keys = {name: each.identity.key for name, each in found.items()}
    assert keys == {"1-1": "0529:0001@a800000.usb-1", "3-1": "0529:0001@a600000.usb-1"}
    field.hold(keys["1-1"])
    found = field.boots_with(recorded("dwc3-boot2"))
    assert {name: each.identity.key for name, each in found.items()} == {"3-1": keys["1-1"]}
    assert (field.free(), field.is_absent(keys["1-1"]), field.is_absent(keys["3-1"])) == ([], False, True)


def test_a_device_that_falls_back_to_usb_2_is_the_same_device(field):
    field.rules({"vendor_id": "18d1"})
    bus = field.testbed.directory / "sys/devices/pci0000:00/0000:00:14.0"
    port = bus / "usb2/2-0:1.0/usb2-port2"
    port.mkdir(parents=True)
    (port / "peer").symlink_to("../../../usb1/1-0:1.0/usb1-port6")
    key = field.shows(recorded("peer-ports-1-super"))["2-2"].identity.key
    assert key == "18d1:9302@0000:00:14.0-6"
    field.hold(key)
    assert field.shows(recorded("peer-ports-2-high"))["1-6"].identity.key == key
    assert (field.free(), field.is_absent(key)) == ([], False)


def test_an_adapter_with_the_serial_number_of_all_its_kind_inherits_no_claim(field):
    field.rules({"vendor_id": "10c4"})
    key = field.shows(recorded("cp2102-0001-a"))["2-3"].identity.key
    assert key == "10c4:ea60@0000:00:14.0-3"
    field.hold(key)
    found = field.shows(recorded("cp2102-0001-b-other-port"))["1-5"]
    assert (found.identity.key, field.is_absent(key)) == ("10c4:ea60@0000:00:14.0-5", True)
    assert field.free() == ["10c4:ea60@0000:00:14.0-5"]
