"""An agent that is killed between any two writes: after the next start all is as if it had not been killed.

Each story is a host that changes. The agent is killed after each number of writes of the pass that reports the change,
be it to Placement, with eight threads, or to its files. Then something may happen, and an agent starts. What it leaves
must be what an agent leaves that was not killed: providers, inventories, traits, consumers, keys. Where instances take
what they can have at that moment, it must be as they were promised: each has that device, and no device is had twice.

``USB_PROVIDER_CRASH_ROUNDS=20`` tells each story so many times, with all that may happen in between: the eight threads
write in another order each time.
"""

import contextlib
import dataclasses
import os
import types
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.fixtures.placement import CUT, PlacementServer
from tests.fixtures.reporting import ABSENT, KEY_RULE, MANAGED, ROOT_UUID, Host, uuid_of, yubikey
from usb_provider.agent import store
from usb_provider.exception import Unavailable
from usb_provider.model.devices.device import Speed, UsbDevice

ROUNDS = int(os.environ.get("USB_PROVIDER_CRASH_ROUNDS", "1"))

WRITES = "^(PUT|POST|DELETE) "
PORT = "1050:0407@0000:00:14.0-{}"
FIRST, TWIN, OTHER = yubikey("Y1", "1"), yubikey("Y1", "2"), yubikey("Y7", "7")
BARE, JUNK, NEW = (dataclasses.replace(FIRST, serial=serial) for serial in (None, "0123456789", "Y2"))
LOADED = dataclasses.replace(FIRST, vendor_id="18d1", product_id="9302", serial=None)
ALSO = {"vendor_id": "1050", "product_id": "0407", "also": ["18d1:9302"], "resource_class": "CUSTOM_USB_KEY"}
ANY_MODE = {"vendor_id": "18d1", "resource_class": "CUSTOM_USB_KEY"}
BEHIND = {"controller": "0000:00:1c.0/00.0"}


def behind_bridge(bus: int) -> UsbDevice:
    """A key without a serial number behind a bridge, when the card has that number of a PCI bus."""
    name = f"{bus}-1"
    path = f"/sys/devices/pci0000:00/0000:00:1c.0/0000:{bus:02x}:00.0/usb{bus}/{name}"
    address = f"0000:{bus:02x}:00.0"
    return dataclasses.replace(BARE, sys_path=path, sys_name=name, busnum=bus, controller_address=address, **BEHIND)


def fast(device: UsbDevice) -> UsbDevice:
    """*device* on the USB 3 half of its socket."""
    path = device.sys_path.replace("usb1/1-1", "usb2/2-4")
    return dataclasses.replace(
        device, sys_path=path, sys_name="2-4", busnum=2, port_path="4", peer_port="1", speed=Speed.SUPER
    )


@dataclass(frozen=True)
class Story:
    """What is plugged in and held when the agent has come to rest, and what is plugged in, under which rules, then."""

    before: tuple[UsbDevice, ...]
    after: tuple[UsbDevice, ...]
    held: tuple[str, ...] = ()
    rules: tuple[dict[str, object], ...] = (KEY_RULE, ANY_MODE)
    rules_after: tuple[dict[str, object], ...] | None = None


SERIAL, BY_PORT = "1050:0407:Y1", PORT.format(1)
STORIES = {
    "a device is plugged in": Story((), (FIRST,)),
    "a free device is unplugged": Story((FIRST,), ()),
    "a held device is unplugged": Story((FIRST,), (), (SERIAL,)),
    "a held device moves": Story((FIRST,), (TWIN,), (SERIAL,)),
    "a held device moves and another takes its place": Story((FIRST,), (BARE, TWIN), (SERIAL,)),
    "a free device changes its mode": Story((BARE,), (LOADED,)),
    "a held device changes its mode": Story((BARE,), (LOADED,), (BY_PORT,)),
    "a held device changes to a mode that its rule has": Story((BARE,), (LOADED,), (BY_PORT,), (ALSO,)),
    "a twin of a free device comes": Story((FIRST,), (FIRST, TWIN)),
    "a twin of a held device comes": Story((FIRST,), (FIRST, TWIN), (SERIAL,)),
    "a free twin goes": Story((FIRST, TWIN), (FIRST,)),
    "a held twin goes": Story((FIRST, TWIN), (TWIN,), (BY_PORT,)),
    "a free device gets a serial number": Story((BARE,), (FIRST,)),
    "a held device gets a serial number": Story((BARE,), (FIRST,), (BY_PORT,)),
    "a held device loses its serial number": Story((FIRST,), (JUNK,), (SERIAL,)),
    "a held device has another serial number": Story((FIRST,), (NEW,), (SERIAL,)),
    "the rule of a free device gets to know its modes": Story((FIRST,), (FIRST,), rules_after=(ALSO,)),
    "the rule of a held device gets to know its modes": Story(
        (LOADED,), (LOADED,), ("18d1:9302@0000:00:14.0-1",), rules_after=(ALSO,)
    ),
    "the rule of a free device goes by port": Story((FIRST,), (FIRST,), rules_after=(KEY_RULE | {"identity": "port"},)),
    "the rule of a held device goes by port": Story(
        (FIRST,), (FIRST,), (SERIAL,), rules_after=(KEY_RULE | {"identity": "port"},)
    ),
    "the buses are numbered anew and a twin has come": Story(
        (behind_bridge(3),), (behind_bridge(4), BARE), (f"1050:0407@{BEHIND['controller']}-1",)
    ),
    "a held device falls back to USB 2 in another mode": Story((fast(BARE),), (LOADED,), (BY_PORT,)),
}
BETWEEN: dict[str, Callable[["Life"], None]] = {
    "nothing": lambda life: None,
    "it is as before": lambda life: life.show(life.story.before),
    "all is unplugged and plugged in again": lambda life: life.replug(),
}


SOME = ("a free device changes its mode", "a twin of a free device comes", "the rule of a free device goes by port")
"""The stories that an ordinary run, which takes about a minute, tells with all that may happen in between."""


def _ids(device: UsbDevice) -> tuple[str, str]:
    return device.vendor_id, device.product_id


class Killed(BaseException):
    """The process is gone."""


@dataclass
class Kill:
    """Lets *left* writes happen, to Placement and to files, and none after them."""

    server: PlacementServer
    left: int | None = None
    done: int = field(default=0, init=False)

    def arm(self, left: int | None) -> None:
        self.left, self.done = left, 0
        self.server.before(WRITES, self._count, times=None)
        self._stop_if_due()

    def disarm(self) -> None:
        self.left = None
        self.server.calm()

    def before_file(self) -> None:
        if self.left is not None and self.done >= self.left:
            raise Killed
        self._count()

    def _count(self) -> None:
        self.done += 1
        self._stop_if_due()

    def _stop_if_due(self) -> None:
        if self.left is not None and self.done == self.left:
            self.server.fail_next(WRITES, CUT, times=None)


class Life:
    """One telling of a story."""

    def __init__(self, server: PlacementServer, directory: Path, kill: Kill, story: Story) -> None:
        self.server, self.kill, self.story = server, kill, story
        self.threads = ThreadPoolExecutor(8)
        self.host = host = Host(server, directory, self.threads)
        self.keys: dict[str, str] = {}
        self._claims = 0
        host.rules(*story.rules)
        self.show(story.before)
        self.rest()
        for key in story.held:
            self._claim(uuid_of(key))
        self.rest()
        host.restart()

    def show(self, devices: tuple[UsbDevice, ...]) -> None:
        self.host.devices = {each.sys_name: each for each in (*devices, OTHER)}

    def replug(self) -> None:
        self.show(())
        self.pass_()
        self.show(self.story.after)

    def pass_(self) -> int:
        """One pass; gives how much it wrote."""
        done = self.host.run()
        self.keys = {each.device.sys_name: f"{each.identity.key} {each.offered}" for each in done.devices}
        return len(done.actions)

    def rest(self) -> None:
        assert any(not self.pass_() for _ in range(8)), "not at rest"

    def change(self, killed_after: int | None) -> int:
        """The change, and the pass that reports it; gives the number of its writes."""
        self.show(self.story.after)
        self.host.rules(*(self.story.rules_after or self.story.rules))
        self.kill.arm(killed_after)
        with contextlib.suppress(Unavailable, Killed):
            self.host.run()
        # The threads of a process that was killed send nothing more.
        self.host._executor.shutdown(cancel_futures=True)
        self.kill.disarm()
        self.host.restart()
        self.host._executor = self.threads = ThreadPoolExecutor(8)
        return self.kill.done

    def promised(self) -> dict[str, str]:
        """Keys of all that an instance can have now, by UUID of its provider."""
        begin = "host1_usb_"
        named = {each["uuid"]: name.removeprefix(begin) for name, each in self.server.providers(ROOT_UUID).items()}
        return {uuid: key for uuid, key in named.items() if uuid != ROOT_UUID and self._is_free(uuid)}

    def take(self, uuids: Iterable[str]) -> None:
        """Instances claim these providers."""
        for uuid in uuids:
            self._claim(uuid)

    def has(self, key: str) -> list[str]:
        """The ports of the devices that have *key*."""
        return [port for port, text in self.keys.items() if text.split(" ")[0] == key]

    def where_is(self, device: UsbDevice) -> str | None:
        """The port in which *device* is now: its own while its ids are there, else where its serial number has come.

        A twin that was plugged in before, in another port, is not *device*.
        """
        same = {port: each for port, each in self.host.devices.items() if _ids(each) == _ids(device)}
        there = same.get(device.sys_name)
        if there is not None and (there.serial == device.serial or BARE.serial in (there.serial, device.serial)):
            return device.sys_name
        twins = {each.sys_name for each in self.story.before if each.serial == device.serial}
        come = {port: each for port, each in same.items() if port not in twins}
        moved = [port for port, each in come.items() if device.serial is not None and each.serial == device.serial]
        return moved[0] if len(moved) == 1 and there is None else None

    def _is_free(self, uuid: str) -> bool:
        rows = self.server.inventory(uuid).values()
        return any(row["reserved"] < row["total"] for row in rows) and not self.server.used(uuid)

    def _claim(self, uuid: str) -> None:
        self._claims += 1
        consumer = f"00000000-0000-4000-8000-{self._claims:012}"
        self.server.allocate(consumer, {uuid: {"CUSTOM_USB_KEY": 1}})

    def view(self, *, leftovers: bool) -> dict[str, object]:
        """What is there: keys, and for each provider its inventory, traits, and use; *leftovers*: absent ones too."""
        there: dict[str, object] = {"keys": self.keys}
        for name, each in self.server.providers(ROOT_UUID).items():
            uuid = each["uuid"]
            traits, inventory, used = self.server.traits(uuid), self.server.inventory(uuid), self.server.used(uuid)
            amounts = {rc: (row["total"], row["reserved"]) for rc, row in inventory.items()}
            if MANAGED in traits and (leftovers or amounts or ABSENT not in traits):
                there[name] = amounts, sorted(traits), used
        return there


@pytest.fixture
def tell(
    placement_server: PlacementServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Story], contextlib.AbstractContextManager[Life]]]:
    """Begins a story, with an empty Placement and no files."""
    kill = Kill(placement_server)
    write_whole = store.write_whole

    def write(path: Path, content: bytes, *, mode: int, as_directory: bool) -> None:
        kill.before_file()
        write_whole(path, content, mode=mode, as_directory=as_directory)

    monkeypatch.setattr(store, "write_whole", write)
    no_time = types.SimpleNamespace(sleep=lambda seconds: None)
    monkeypatch.setattr("keystoneauth1.session.time", no_time)
    monkeypatch.setattr("oslo_db.sqlalchemy.engines.time", no_time)
    monkeypatch.setattr("jsonschema.Draft202012Validator.check_schema", lambda *args, **how: None)
    lives = iter(range(10**6))

    @contextlib.contextmanager
    def begin(story: Story) -> Iterator[Life]:
        directory = tmp_path / str(next(lives))
        directory.mkdir()
        with placement_server.fresh():
            placement_server.api.must("POST", "/resource_providers", {"name": "host1", "uuid": ROOT_UUID})
            life = Life(placement_server, directory, kill, story)
            yield life
            life.threads.shutdown()

    yield begin


@pytest.mark.timeout(0 if ROUNDS > 1 else 600)
@pytest.mark.parametrize(
    ("name", "between"),
    [(name, between) for between in BETWEEN for name in STORIES if ROUNDS > 1 or between == "nothing" or name in SOME],
)
def test_a_crash_between_any_two_writes_makes_no_difference(tell, name: str, between: str) -> None:
    def told(killed_after: int | None) -> tuple[dict[str, object], int]:
        with tell(STORIES[name]) as life:
            writes = life.change(killed_after)
            BETWEEN[between](life)
            life.rest()
            return life.view(leftovers=between == "nothing"), writes

    expected, writes = told(None)
    for _ in range(ROUNDS):
        for killed_after in range(writes):
            found, _ = told(killed_after)
            assert found == expected, f"killed after write {killed_after} of {writes}"


@pytest.mark.timeout(0 if ROUNDS > 1 else 600)
@pytest.mark.parametrize("how_many", ["all", "one"])
@pytest.mark.parametrize("name", STORIES if ROUNDS > 1 else SOME)
def test_what_is_claimed_when_an_agent_is_killed_is_had_by_the_device_that_was_promised(
    tell, name: str, how_many: str
) -> None:
    """The kill is before each write, also before the first and after the last."""
    story = STORIES[name]
    with tell(story) as life:
        before = {port: text.split(" ")[0] for port, text in life.keys.items()}
        writes = life.change(None)
        life.rest()
        after = {port: text.split(" ")[0] for port, text in life.keys.items()}
    things = max(len(story.before), len(story.after)) + 1

    for round_ in range(ROUNDS):
        for killed_after in range(writes + 1):
            with tell(story) as life:
                life.change(killed_after)
                promised = life.promised()
                taken = sorted(promised)
                if how_many == "one" and taken:
                    taken = [taken[(killed_after + round_) % len(taken)]]
                life.take(taken)
                life.rest()
                said = (
                    f"killed after write {killed_after} of {writes}, then {[promised[uuid] for uuid in taken]} claimed"
                )
                assert len(life.promised()) + len(taken) + len(story.held) <= things, f"a device is had twice: {said}"
                for uuid in taken:
                    assert life.server.used(uuid) == 1, said
                    assert life.server.inventory(uuid)["CUSTOM_USB_KEY"]["total"] == 1, said
                    _check_who_has(life, promised[uuid], before, after, said)


def _check_who_has(life: Life, key: str, before: dict[str, str], after: dict[str, str], said: str) -> None:
    """The device that *key* was told of before the change has it, while it is there; else the one after the change."""
    devices = {each.sys_name: each for each in (*life.story.before, OTHER)}
    meant = [devices[port] for port, name in before.items() if name == key]
    if not meant:
        devices = life.host.devices
        meant = [devices[port] for port, name in after.items() if name == key]
    assert len(meant) == 1, said
    port = life.where_is(meant[0])
    assert life.has(key) == ([] if port is None else [port]), f"{meant[0].serial} was in {meant[0].sys_name}: {said}"
