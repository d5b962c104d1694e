"""Another client writes between two requests of the agent: in the end all is as if it had come before or after.

Each story is a host that changes. Right before each request of the pass that reports the change, reads included,
another client of Placement writes: Nova, an operator, or the agent of another host. What the agent leaves when it has
come to rest must be what it leaves where that client came before the pass, or after it.

``USB_PROVIDER_WRITER_ROUNDS=5`` tells each story so many times with the agent's eight threads, which send their
requests in another order each time; an ordinary run has one thread.
"""

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from tests.fixtures.placement import PlacementServer
from tests.fixtures.reporter_machine.tables import Row, all_rows
from tests.fixtures.reporting import ABSENT, DRAINED, KEY_RULE, KEY_UUID, ROOT_UUID, Host, yubikey
from usb_provider.exception import Conflict
from usb_provider.model.devices.device import UsbDevice
from usb_provider.placement.client import PlacementClient

ROUNDS = int(os.environ.get("USB_PROVIDER_WRITER_ROUNDS", "1"))
THREADS = 1 if ROUNDS == 1 else 8

KEY, TWIN = yubikey("Y1", "1"), yubikey("Y1", "2")
INSTANCE = "00000000-0000-4000-8000-000000000001"
OTHER_ROOT, OTHER_KEY = ("00000000-0000-4000-9000-00000000000" + each for each in "12")
OWN = "CUSTOM_RACK_7"
BY_PORT = KEY_RULE | {"identity": "port"}


@dataclass(frozen=True)
class Story:
    """What is plugged in and held when the agent has come to rest, and what is plugged in, under which rules, then."""

    before: tuple[UsbDevice, ...]
    after: tuple[UsbDevice, ...]
    rule: dict[str, object] = dataclasses.field(default_factory=lambda: KEY_RULE)
    rule_after: dict[str, object] | None = None
    is_held: bool = False
    was_unplugged: bool = False


STORIES = {
    "a device is plugged in": Story((), (KEY,)),
    "a free device is unplugged": Story((KEY,), ()),
    "a held device is unplugged": Story((KEY,), (), is_held=True),
    "a device comes back": Story((KEY,), (KEY,), was_unplugged=True),
    "a held device comes back": Story((KEY,), (KEY,), is_held=True, was_unplugged=True),
    "its rule gives another class": Story((KEY,), (KEY,), rule_after=KEY_RULE | {"resource_class": "CUSTOM_USB_TOKEN"}),
    "a twin comes": Story((KEY,), (KEY, TWIN)),
    "another serial number is in the port": Story((KEY,), (yubikey("Y2", "1"),), rule=BY_PORT),
}


class OneClientHost(Host):
    """A host whose reporters share one client: a story is told some thousand times, and each client has sockets."""

    clients: ClassVar[dict[str, PlacementClient]] = {}

    def client(self) -> PlacementClient:
        return self.clients.setdefault(self.server.endpoint, super().client())


class Telling:
    """One host, its agent and its Placement, while a story is told."""

    def __init__(self, server: PlacementServer, directory: Path, story: Story) -> None:
        self.server, self.story = server, story
        self.threads = ThreadPoolExecutor(THREADS)
        self.host = OneClientHost(server, directory, self.threads)
        self.host.rules(story.rule, serial_trait=True)
        self.show(story.before)
        self.rest()
        if story.is_held:
            assert claim(self)
            self.rest()
        if story.was_unplugged:
            self.show(())
            self.rest()

    def show(self, devices: tuple[UsbDevice, ...]) -> None:
        self.host.devices = {each.sys_name: each for each in devices}

    def change(self) -> int:
        """The change, and the pass that reports it; gives the number of its requests."""
        self.show(self.story.after)
        self.host.rules(self.story.rule_after or self.story.rule, serial_trait=True)
        self.pass_()
        return len(self.server.requests)

    def pass_(self) -> bool:
        """Whether a pass ended and wrote nothing."""
        try:
            return not self.host.run().actions
        except Conflict:
            return False

    def rest(self) -> None:
        assert any(self.pass_() for _ in range(8)), "not at rest"

    def rows(self) -> dict[str, Row]:
        return {row.uuid: row for row in all_rows()}

    def ours(self) -> Row | None:
        """The provider of the story's first device, if it is there."""
        return next((row for row in self.rows().values() if row.is_managed and row.root == ROOT_UUID), None)

    def write(self, uuid: str, what: str, body: dict[str, object]) -> None:
        generation = self.rows()[uuid].generation
        self.server.api.must(
            "PUT", f"/resource_providers/{uuid}/{what}", {"resource_provider_generation": generation, **body}
        )

    def reserve(self, row: Row) -> None:
        if row.inventory:
            self.write(
                row.uuid, "inventories", {"inventories": {rc: {"total": 1, "reserved": 1} for rc in row.inventory}}
            )

    def add_trait(self, row: Row, name: str) -> None:
        self.server.api.must("PUT", f"/traits/{name}")
        self.write(row.uuid, "traits", {"traits": sorted(row.traits | {name})})


# The other clients. Each gives whether there was something for it to do.


def claim(told: Telling) -> bool:
    row = told.ours()
    if row is None or not row.is_free:
        return False
    told.server.allocate(INSTANCE, {row.uuid: dict.fromkeys(row.inventory, 1)})
    return True


def release(told: Telling) -> bool:
    return told.server.api.delete(f"/allocations/{INSTANCE}").ok


def reserve(told: Telling) -> bool:
    row = told.ours()
    if row is None or not row.is_schedulable:
        return False
    told.reserve(row)
    return True


def drain(told: Telling) -> bool:
    row = told.ours()
    if row is None:
        return False
    told.add_trait(row, DRAINED)
    told.reserve(row)
    return True


def mark(told: Telling) -> bool:
    row = told.ours()
    if row is None:
        return False
    told.add_trait(row, OWN)
    return True


def delete(told: Telling) -> bool:
    row = told.ours()
    return row is not None and told.server.api.delete(f"/resource_providers/{row.uuid}").ok


def update_root(told: Telling) -> bool:
    told.write(ROOT_UUID, "inventories", {"inventories": {"VCPU": {"total": 16}}})
    return True


def delete_names(told: Telling) -> bool:
    api = told.server.api
    for name in api.must("GET", "/traits?name=startswith:CUSTOM_&associated=false")["traits"]:
        api.delete(f"/traits/{name}")
    for entry in api.must("GET", "/resource_classes")["resource_classes"]:
        api.delete(f"/resource_classes/{entry['name']}")
    return True


def report_elsewhere(told: Telling) -> bool:
    api = told.server.api
    api.must("POST", "/resource_providers", {"name": "host2", "uuid": OTHER_ROOT})
    body = {"name": "host2_usb_1050:0407:Y1", "uuid": OTHER_KEY, "parent_provider_uuid": OTHER_ROOT}
    api.must("POST", "/resource_providers", body)
    names = ["CUSTOM_USB_MANAGED", "CUSTOM_USB_VENDOR_1050", "CUSTOM_USB_SERIAL_Y1", "CUSTOM_USB_SERIAL_Y2"]
    for name in names:
        api.must("PUT", f"/traits/{name}")
    told.write(OTHER_KEY, "traits", {"traits": names})
    return True


WRITERS: dict[str, Callable[[Telling], bool]] = {
    "Nova claims it": claim,
    "Nova releases it": release,
    "an operator reserves it": reserve,
    "an operator drains it": drain,
    "an operator gives it a trait": mark,
    "an operator deletes it": delete,
    "nova-compute updates its compute node": update_root,
    "an operator deletes the names that are not in use": delete_names,
    "the agent of another host reports a device": report_elsewhere,
}


@pytest.fixture
def tell(
    placement_server: PlacementServer, tmp_path: Path
) -> Iterator[Callable[[Story, Callable[[Telling], bool], int | None], dict[str, object] | None]]:
    """Tells a story with *act* before the nth request of its pass, or after the pass.

    It gives what there is in the end, or None where the pass had not so many requests.
    """
    tellings = iter(range(10**6))

    def tell(story: Story, act: Callable[[Telling], bool], nth: int | None) -> dict[str, object] | None:
        directory = tmp_path / str(next(tellings))
        directory.mkdir()
        acted = False
        with placement_server.fresh():
            placement_server.api.must("POST", "/resource_providers", {"name": "host1", "uuid": ROOT_UUID})
            told = Telling(placement_server, directory, story)
            count = iter(range(10**6))

            def tick() -> None:
                nonlocal acted
                if next(count) == nth:
                    acted = act(told)

            placement_server.before("", tick, times=None)
            requests = told.change()
            placement_server.calm()
            if nth is None:
                acted = act(told)
            elif nth >= requests:
                return None
            told.rest()
            check_what_must_hold(told, act, acted=acted)
            told.threads.shutdown()
            assert placement_server.errors == []
            return {
                row.name: (row.inventory, sorted(row.traits), row.allocations)
                for row in told.rows().values()
                if row.uuid != ROOT_UUID
            }

    yield tell


def check_what_must_hold(told: Telling, act: Callable[[Telling], bool], *, acted: bool) -> None:
    """What the other client did is there, unless a later step of the story may undo it, and no unit is given twice."""
    rows = told.rows()
    for row in rows.values():
        for rc in {rc for each in row.allocations.values() for rc in each}:
            assert row.inventory[rc][0] == 1, f"{row} lost the class that is held"
        assert len(row.allocations) <= 1
    if not acted:
        return
    ours = [row for row in rows.values() if row.root == ROOT_UUID and row.uuid != ROOT_UUID]
    if act is claim:
        assert any(INSTANCE in row.allocations for row in ours), "the claim is gone"
    elif act is reserve:
        assert not any(row.is_free for row in ours if row.uuid == KEY_UUID and ABSENT not in row.traits)
    elif act in (mark, drain):
        assert any({OWN, DRAINED} & row.traits for row in ours), "the operator's trait is gone"
    elif act is report_elsewhere:
        assert "CUSTOM_USB_SERIAL_Y1" in rows[OTHER_KEY].traits


@pytest.mark.timeout(0 if ROUNDS > 1 else 600)
@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("name", STORIES)
def test_another_client_between_any_two_requests_makes_no_difference(tell, name: str, writer: str) -> None:
    story, act = STORIES[name], WRITERS[writer]
    first_or_last = tell(story, act, 0), tell(story, act, None)
    assert None not in first_or_last
    for _ in range(ROUNDS):
        for nth in itertools.count(1):
            found = tell(story, act, nth)
            if found is None:
                break
            assert found in first_or_last, f"{writer} before request {nth}"
