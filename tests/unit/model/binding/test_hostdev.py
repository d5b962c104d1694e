"""A domain's XML as a value: whose hostdev it is, and what is no domain."""

import pytest

from tests.fixtures.domain_xml import a_domain_xml, a_hostdev_xml, an_alias
from usb_provider.model.binding.hostdev import Hostdev, UnreadableDomain, alias, parse_guest

PROVIDER = "0a6a5c51-5b3c-4d0e-8a66-1d1f4f1d4b77"


def test_a_hostdev_that_we_attach_is_ours() -> None:
    assert Hostdev(alias(PROVIDER), "1050", "0407", 1, 3).provider_uuid == PROVIDER


@pytest.mark.parametrize(
    "name",
    [
        None,
        "",
        "hostdev0",
        "ua-usb-",
        "ua-usb-stick",
        f"ua-usb-{PROVIDER}x",
        f"ua-usb-{PROVIDER}\n",
        f"ua-usb-{PROVIDER.upper()}",
        f"ua-usb-{PROVIDER.replace('-', '')}",
        f"xua-usb-{PROVIDER}",
        "ua-usb-../../allocations/0a6a5c51-5b3c",
    ],
)
def test_a_hostdev_with_an_alias_of_another_is_not_ours(name: str | None) -> None:
    assert Hostdev(name, "1050", "0407", 1, 3).provider_uuid is None


def test_another_hostdev_of_a_guest_takes_its_port_and_is_not_detached() -> None:
    guest = parse_guest(a_domain_xml(ports=2, devices=[a_hostdev_xml("ua-usb-stick"), a_hostdev_xml(an_alias())]))
    assert [each.alias for each in guest.ours] == [an_alias()]
    assert guest.controllers[0].free_ports == 1


@pytest.mark.parametrize("uuid", ["", "1", "../resource_providers", f"{PROVIDER}?x=1", f"{PROVIDER}/..", "é"])
def test_a_guest_whose_uuid_is_none_is_no_domain(uuid: str) -> None:
    with pytest.raises(UnreadableDomain):
        parse_guest(a_domain_xml(uuid=uuid))


def test_a_uuid_is_known_in_any_case() -> None:
    assert parse_guest(a_domain_xml(uuid=f" {PROVIDER.upper()}\n")).uuid == PROVIDER
