"""Which devices belong to the host's management controller."""

import pytest

from tests.fixtures.builders import a_device, a_spec
from usb_provider.model.devices.management import is_management
from usb_provider.model.devices.offer import OfferReason, offers
from usb_provider.model.devices.spec import DeviceSpec

HUB = (("09", "00", "00"),)


@pytest.mark.parametrize(
    "ids",
    [
        "046b:ff20",
        "046b:ff40",
        "046b:ffb0",
        "0624:0251",
        "413c:a102",
        "03f0:7029",
        "0557:2419",
        "17ef:b003",
        "0b1f:03ee",
        "04b3:4010",
        "12d1:0001",
        "05a6:0a02",
        "0430:a103",
        "0ea0:1111",
        "14dd:1006",
        "3346:1009",
    ],
)
def test_what_the_controllers_of_common_makers_show_is_known(ids: str) -> None:
    assert is_management(a_device(vendor_id=ids[:4], product_id=ids[5:]))


@pytest.mark.parametrize("ids", ["046b:0001", "0557:2008", "12d1:14db", "413c:2113", "17ef:6007", "1d6b:0104"])
def test_other_products_of_the_same_makers_are_not(ids: str) -> None:
    assert not is_management(a_device(vendor_id=ids[:4], product_id=ids[5:]))


@pytest.mark.parametrize(
    "maker", ["OpenBMC", "Linux 5.4.62 with aspeed_vhub", "Linux 3.18.0 with ast_vhub", "BMC", "PiKVM", "JetKVM"]
)
def test_a_gadget_that_such_a_controller_makes_is_known_by_its_text(maker: str) -> None:
    assert is_management(a_device(vendor_id="1d6b", product_id="0104", manufacturer=maker))


@pytest.mark.parametrize(
    "product",
    [
        *(
            "Virtual Keyboard and Mouse",
            "Virtual CDROM Device",
            "Virtual CD-ROM",
            "Virtual Media",
            "Virtual HDisk Device",
        ),
        *("Virtual Hard Disk", "Virtual_Floppy_Device", "USB Virtual Ethernet", "AMI Virtual Network"),
    ],
)
def test_what_calls_itself_a_virtual_device_of_a_server_is_known_for_makers_that_no_list_has(product: str) -> None:
    assert is_management(a_device(vendor_id="abcd", product_id="0001", product=product))


@pytest.mark.parametrize(
    "product", ["Virtual COM Port", "STM32 Virtual ComPort", "Virtual reality camera", "CD writer"]
)
def test_virtual_alone_says_nothing(product: str) -> None:
    assert not is_management(a_device(vendor_id="abcd", product_id="0001", product=product))


def test_what_hangs_on_the_virtual_hub_of_such_a_controller_is_its_own() -> None:
    hub = a_device("1-4", vendor_id="1d6b", product_id="0107", interfaces=HUB)
    media = a_device("1-4.1", sys_path=f"{hub.sys_path}/1-4.1")
    beside = a_device("1-5")
    assert [offer.verdict for offer in offers([hub, media, beside], [DeviceSpec(1)])] == [
        OfferReason.HUB,
        OfferReason.MANAGEMENT,
        OfferReason.OFFERED,
    ]


def test_no_rule_frees_it() -> None:
    spec = a_spec(1, vendor_id="046b", product_id="ff20")
    (offer,) = offers([a_device(vendor_id="046b", product_id="ff20")], [spec])
    assert offer.verdict is OfferReason.MANAGEMENT
