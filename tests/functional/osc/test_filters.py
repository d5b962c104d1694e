"""Filters of ``openstack usb device list`` that Placement applies: they give what the whole list has, at less cost."""

import itertools
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest

from placement_traits import STATE_ABSENT, STATE_DRAINED, STATE_WITHDRAWN
from tests.fixtures.openstack import KEY, Cloud, named
from usb_provider.model.lifecycle import FleetState
from usb_provider.openstack.session import with_token
from usb_provider.osc import fleet
from usb_provider.osc.model.selection import Selection
from usb_provider.osc.placement import FleetClient
from usb_provider.osc.progress import Progress

MODEM = "CUSTOM_USB_MODEM"
HASP = "CUSTOM_HASP"
STATES = ("free", "allocated", "absent", "drained", "reserved", "withdrawn")


def add_a_device_in_every_state(cloud: Cloud, name: str, resource_class: str, traits: frozenset[str]) -> None:
    """A host of that name, and devices of one class with *traits*."""
    root = cloud.host(name)

    def device(key: str, *state: str, has_inventory: bool = True, reserved: int = 0) -> str:
        return cloud.device(
            root,
            f"{name}-{key}",
            host=name,
            traits={*traits, *state},
            resource_class=resource_class if has_inventory else None,
            reserved=reserved,
        )

    def held(key: str, *state: str) -> None:
        uuid = device(key)
        cloud.placement.allocate(named(uuid), {uuid: {resource_class: 1}})
        if state:
            cloud.operator.add_traits(uuid, *state)
            cloud.operator.set_inventory(uuid, resource_class, reserved=1)

    device("free")
    device("reserved", reserved=1)
    device("drained", STATE_DRAINED, reserved=1)
    device("absent", STATE_ABSENT, has_inventory=False)
    device("absent-drained", STATE_ABSENT, STATE_DRAINED, reserved=1)
    device("withdrawn", STATE_WITHDRAWN, has_inventory=False)
    device("unfinished", has_inventory=False)
    held("held")
    held("held-drained", STATE_DRAINED)
    held("held-absent", STATE_ABSENT)
    held("held-withdrawn", STATE_WITHDRAWN)


def a_cloud_with_everything(cloud: Cloud) -> None:
    """Devices of two classes in every state, on three hosts, some with a trait of their own."""
    add_a_device_in_every_state(cloud, "compute1", KEY, frozenset())
    add_a_device_in_every_state(cloud, "compute2", KEY, frozenset({HASP}))
    add_a_device_in_every_state(cloud, "compute3", MODEM, frozenset({HASP}))


def by_hand(lines: Iterable[dict[str, object]], states: set[str], resource_class: str, trait: str) -> set[object]:
    """ID and host of the lines that the filters should leave; an empty filter leaves all."""

    def traits(line: dict[str, object]) -> list[str]:
        found = line["Traits"]
        assert isinstance(found, list)
        return found

    def is_in(line: dict[str, object], state: str) -> bool:
        if state == "allocated":
            return bool(line["Consumers"])
        if state == "drained":
            return STATE_DRAINED in traits(line)
        return line["State"] == state

    return {
        (line["ID"], line["Host"])
        for line in lines
        if (not states or any(is_in(line, state) for state in states))
        and (not resource_class or line["Resource Class"] == resource_class)
        and (not trait or trait in traits(line))
    }


@pytest.mark.parametrize("few_hosts", [fleet.FEW_HOSTS, 0], ids=["few hosts", "many hosts"])
def test_a_filtered_listing_is_the_whole_listing_filtered_by_hand(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, few_hosts: int
) -> None:
    a_cloud_with_everything(cloud)
    monkeypatch.setattr(fleet, "FEW_HOSTS", few_hosts)
    every = cloud.openstack("usb", "device", "list", "--long", "-f", "json").json
    assert len(every) == 33
    client = FleetClient(with_token(cloud.placement.endpoint, cloud.placement.token, FleetClient.service))
    chosen: list[set[str]] = [set(), *({state} for state in STATES), {"free", "drained"}, {"absent", "withdrawn"}]
    with ThreadPoolExecutor(8) as executor:
        devices = fleet.Fleet(client, executor, Progress()).devices
        for states, resource_class, trait in itertools.product(chosen, ("", MODEM), ("", HASP)):
            wanted = Selection(frozenset({trait} - {""}), resource_class or None, frozenset(map(FleetState, states)))
            found = {(device.uuid, device.host) for device in devices(None, wanted)}
            assert found == by_hand(every, states, resource_class, trait), wanted


def test_the_filters_of_the_command_are_applied_together(cloud: Cloud) -> None:
    a_cloud_with_everything(cloud)
    words = ("--state", "free", "--state", "drained", "--resource-class", "modem", "--trait", HASP)
    found = {line["Device"].removeprefix("compute3-") for line in _short(cloud, *words)}
    assert found == {"free", "drained", "absent-drained", "held-drained"}


def test_what_placement_chooses_on_few_hosts_costs_two_requests_for_each_of_them(cloud: Cloud) -> None:
    keys = [
        cloud.device(cloud.host(f"compute{number}"), f"key{number}", host=f"compute{number}") for number in range(20)
    ]
    for number in (3, 4):
        cloud.operator.add_traits(keys[number], STATE_DRAINED)
    assert [line["Device"] for line in _short(cloud, "--state", "drained")] == ["key3", "key4"]
    assert cloud.requests() == 1 + 2 * 2


def _short(cloud: Cloud, *words: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = cloud.openstack("usb", "device", "list", "-f", "json", *words).json
    return found


def test_where_no_device_was_ever_drained_two_requests_say_so(cloud: Cloud) -> None:
    cloud.device(cloud.host())
    assert _short(cloud, "--state", "drained") == []
    assert cloud.requests() == 2


def test_a_class_that_does_not_exist_has_no_free_devices(cloud: Cloud) -> None:
    cloud.device(cloud.host())
    assert _short(cloud, "--state", "free", "--resource-class", "RADIO") == []
    assert _short(cloud, "--state", "free", "--resource-class", "KEY") != []


def test_a_listing_that_breaks_off_in_the_middle_is_an_error_and_not_a_shorter_list(cloud: Cloud) -> None:
    cloud.device(cloud.host())
    whole = cloud.placement.api.request("GET", "/resource_providers?required=CUSTOM_USB_MANAGED").content
    cloud.placement.fail_next("GET /resource_providers.required=CUSTOM", whole[:-30])
    answer = cloud.openstack("usb", "device", "list")
    assert (answer.code, answer.out) == (1, "")
    assert "answers with something that is not JSON; check that" in answer.err


@pytest.mark.parametrize("body", [b"{}", b"[]", b"<html>", b'{"resource_providers": [{}]}', b""])
def test_an_answer_that_is_no_listing_is_named(cloud: Cloud, body: bytes) -> None:
    cloud.device(cloud.host())
    cloud.placement.fail_next("GET /resource_providers.required=CUSTOM", body)
    answer = cloud.openstack("usb", "device", "list")
    assert (answer.code, answer.out) == (1, "")
    assert "that no proxy is between." in answer.err
