"""What a command tells a person at a terminal that it waits for, where a large cloud lets it take seconds."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.fixtures.openstack import KEY, Cloud, named
from usb_provider.osc import cloud as services
from usb_provider.osc.progress import Progress

DEVICES = "Reading the devices from Placement"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What would be told if it took long, with how many steps of how many were made."""
    found: list[str] = []

    class Telling(Progress):
        @contextlib.contextmanager
        def of(self, text: str, total: int | None = None) -> Iterator[Callable[[], None]]:
            steps: list[None] = []
            yield lambda: steps.append(None)
            found.append(text if total is None else f"{text}: {len(steps)} of {total}")

    monkeypatch.setattr(services, "Progress", Telling)
    return found


def test_a_list_with_holders_tells_of_placement_and_of_nova(cloud: Cloud, told: list[str]) -> None:
    root = cloud.host()
    for key in ("key1", "key2"):
        uuid = cloud.device(root, key)
        cloud.placement.allocate(cloud.nova.server(f"server of {key}"), {uuid: {KEY: 1}})
    assert cloud.openstack("usb", "device", "list", "--long", "-f", "json").code == 0
    assert told == [
        DEVICES,
        "Reading from Placement who holds the devices: 2 of 2",
        "Reading the names of servers from Nova: 2 of 2",
    ]


def test_an_audit_tells_of_each_listing(cloud: Cloud, told: list[str]) -> None:
    uuid = cloud.device(cloud.host())
    cloud.placement.allocate(named("no server"), {uuid: {KEY: 1}})
    assert cloud.openstack("usb", "audit").code == 1
    assert {text.partition(":")[0] for text in told} == {
        "Reading the servers from Nova",
        DEVICES,
        "Reading from Placement who holds the devices",
        "Reading the names of servers from Nova",
        "Reading the migrations from Nova",
        "Reading the compute nodes from Nova",
    }


def test_a_flavor_check_tells_that_it_asks_what_the_scheduler_asks(cloud: Cloud, told: list[str]) -> None:
    cloud.device(cloud.host())
    cloud.nova.flavor("small", **{f"resources__{KEY}": "1", "hw__usb_model": "qemu-xhci"})
    assert cloud.openstack("usb", "flavor", "check", "small").code == 0
    assert told == [DEVICES, "Asking Placement what nova-scheduler would ask it"]
