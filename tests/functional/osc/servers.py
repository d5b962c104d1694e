"""A server and its claim, the commands on it, and an agent that carries out each request: for the tests of servers."""

from collections.abc import Callable
from typing import Any

from placement_traits import detach_requests, detached_trait
from tests.fixtures.openstack import KEY, YUBIKEY_TRAITS, Answer, Cloud

CPU = {"VCPU": 1, "MEMORY_MB": 256}


def a_server(cloud: Cloud, root: str, *held: str, name: str = "vm1", **more: Any) -> str:
    """A server on compute1 that holds CPU, memory, and a unit of each of *held*."""
    uuid = cloud.nova.server(name, **more)
    claim(cloud, root, uuid, *held)
    return uuid


def claim(cloud: Cloud, root: str, server: str, *held: str) -> None:
    units: dict[str, int] = {}
    for each in held:
        units[each] = units.get(each, 0) + 1
    cloud.placement.allocate(server, {root: CPU, **{each: {KEY: number} for each, number in units.items()}})


def holds(cloud: Cloud, server: str) -> dict[str, dict[str, int]]:
    found = cloud.placement.api.must("GET", f"/allocations/{server}")["allocations"]
    return {uuid: entry["resources"] for uuid, entry in found.items()}


def attach(cloud: Cloud, *words: str, server: str = "vm1") -> Answer:
    return cloud.openstack("usb", "server", "attach", server, "--resource-class", "KEY", "-f", "json", *words)


def detach(cloud: Cloud, device: str, *words: str, server: str = "vm1") -> Answer:
    return cloud.openstack("usb", "server", "detach", server, device, *words)


def listed(cloud: Cloud, server: str = "vm1") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cloud.openstack("usb", "server", "list", server, "-f", "json").json
    return found


def refused(answer: Answer, sentence: str) -> None:
    assert answer.err.strip().splitlines()[-1] == sentence
    assert answer.code == 1


def asks(cloud: Cloud, device: str, *traits: str) -> None:
    cloud.operator.set_traits(device, {*YUBIKEY_TRAITS, *traits})


def the_agent(cloud: Cloud, device: str) -> Callable[[], None]:
    """An agent that carries out each request on the device."""

    def act() -> None:
        traits = cloud.placement.traits(device)
        answers = {detached_trait(server, stay) for server, stay in detach_requests(traits).items()}
        waiting = {name for name in traits if name.startswith("CUSTOM_USB_ATTACH_TO_")}
        cloud.operator.set_traits(device, traits - waiting | answers)

    return act
