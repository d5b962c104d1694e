r"""Whatever happens to a host, its agent and its Placement, in any order: nothing is lost, taken or given away twice.

Hypothesis makes up the story (plugs, claims, operators, faults, restarts, a nova that starts over), planner and
reporter live through it against the real Placement, and this module knows what must hold:

* at every look: an allocated device that stayed plugged in keeps its key, no device inherits another one's claim;
* after every pass, also one that failed: what is not ours is untouched, claims stand, no device can be had twice;
* when all is quiet: exactly the right providers are schedulable, and a further pass costs one request.

An ordinary run takes well under a minute. To run it for longer::

    USB_PROVIDER_MODEL_EXAMPLES=2000 USB_PROVIDER_MODEL_STEPS=60 pytest \
        tests/functional/agent/reporter/test_state_machine.py

Where the environment has ``CI`` the same stories are told every time; elsewhere they are new ones, and hypothesis
prints a failing one as Python. One thread sends the requests here, so that a story can be told again.
"""

import contextlib
import datetime
import enum
import os
import random
import shutil
import tempfile
import types
import uuid as uuidlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from keystoneauth1 import adapter, session, token_endpoint
from placement import db_api

from tests.fixtures.placement import CUT, CUT_AFTER, PlacementServer
from usb_provider.agent import reporter as reporter_module
from usb_provider.agent.reporter import Pass, Reporter
from usb_provider.agent.store import RuleTraitStore
from usb_provider.exception import Conflict, RootMissing, Unavailable
from usb_provider.model.devices.device import HostUse, Speed, UsbDevice, UseKind
from usb_provider.model.devices.spec import parse_specs
from usb_provider.model.reporting.host_state import ReportSettings
from usb_provider.model.reporting.provider import Assessment
from usb_provider.model.reporting.tree import ObservedTree
from usb_provider.placement.client import PlacementClient
from usb_provider.placement.root import RootFinder, RootHints

EXAMPLES = int(os.environ.get("USB_PROVIDER_MODEL_EXAMPLES", "40"))
STEPS = int(os.environ.get("USB_PROVIDER_MODEL_STEPS", "12"))
IS_LONG = "USB_PROVIDER_MODEL_EXAMPLES" in os.environ

ROOT_NAME = "compute-1"
MANAGED = "CUSTOM_USB_MANAGED"
ABSENT = "CUSTOM_USB_STATE_ABSENT"
WITHDRAWN = "CUSTOM_USB_STATE_WITHDRAWN"
DRAINED = "CUSTOM_USB_STATE_DRAINED"
SITES = ("CUSTOM_SITE_A", "CUSTOM_SITE_B")
OPERATORS_OWN = "CUSTOM_RACK_7"
CLASSES = ("CUSTOM_USB_KEY", "CUSTOM_USB_TOKEN")
WRITES = "^(PUT|POST|DELETE) "


# --- The hardware ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Thing:
    """A device that somebody could hold in their hands."""

    usb_id: str
    serial: str | None

    @property
    def has_usable_serial(self) -> bool:
        return self.serial is not None and not self.serial.startswith("0123")

    @property
    def known_as(self) -> tuple[str, str | None]:
        return self.usb_id, self.serial if self.has_usable_serial else None


KEY, DISK = "1050:0407", "0781:5581"
THINGS = {
    "key": Thing(KEY, "S1"),
    "twin": Thing(KEY, "S1"),
    "triplet": Thing(KEY, "S1"),
    "other-key": Thing(KEY, "S2"),
    "bare": Thing(KEY, None),
    "bare-too": Thing(KEY, None),
    "junk": Thing(KEY, "0123456789"),
    "disk": Thing(DISK, "D1"),
}
# 2-1 is the SuperSpeed half of the socket whose other half is 1-1: one controller, two buses, one port number.
PORTS = {
    "1-1": "0000:00:14.0",
    "1-2": "0000:00:14.0",
    "1-3.1": "0000:00:14.0",
    "2-1": "0000:00:14.0",
    "3-1": "0000:00:1a.0",
}


class Use(enum.Enum):
    """What the host does with a device, as far as it matters."""

    NONE = ()
    MOUNTED = (HostUse(UseKind.MOUNTED, "sdb1 is mounted on /mnt"),)
    SIGNED = (HostUse(UseKind.MEMBER, "sdb1 has the signature of an LVM volume"),)


@dataclass
class Plugged:
    """A thing in a port. *plug* is another number each time that it is plugged in."""

    thing: str
    plug: int
    devnum: int
    use: Use = Use.NONE
    authorized: bool = True
    settled: bool = True


def serial_key(thing: Thing) -> str:
    return f"{thing.usb_id}:{thing.serial}"


def port_keys(thing: Thing, port: str) -> tuple[str, str]:
    """The key by port, and the one that it has when the other half of the socket is taken by its like."""
    bus, path = port.split("-")
    plain = f"{thing.usb_id}@{PORTS[port]}-{path}"
    return plain, f"{plain}+{'usb3' if bus == '2' else 'usb2'}"


def candidate_keys(thing: Thing, port: str) -> tuple[str, ...]:
    return (*((serial_key(thing),) if thing.has_usable_serial else ()), *port_keys(thing, port))


# --- The operator's rules ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OfferRule:
    """What the operator says of one vendor's devices."""

    resource_class: str = "CUSTOM_USB_KEY"
    traits: tuple[str, ...] = ()
    identity: str = "auto"
    exclude: bool = False


@dataclass(frozen=True)
class Rules:
    """All of the operator's rules."""

    excluded_port: str | None = None
    by_vendor: tuple[tuple[str, OfferRule], ...] = (("1050", OfferRule()), ("0781", OfferRule()))

    def of(self, thing: Thing, port: str) -> OfferRule | None:
        """The rule that offers *thing*, if one does."""
        found = dict(self.by_vendor).get(thing.usb_id[:4])
        if port.split("-")[1] == self.excluded_port or found is None or found.exclude:
            return None
        return found

    def texts(self) -> list[str]:
        lines = [] if self.excluded_port is None else [f'{{"port": "{self.excluded_port}", "exclude": true}}']
        for vendor, offer in self.by_vendor:
            if offer.exclude:
                lines.append(f'{{"vendor_id": "{vendor}", "exclude": true}}')
                continue
            traits = ", ".join(f'"{name}"' for name in offer.traits)
            lines.append(
                f'{{"vendor_id": "{vendor}", "resource_class": "{offer.resource_class}", "traits": [{traits}], '
                f'"identity": "{offer.identity}"}}'
            )
        return lines


def _both(rules: Rules, **change: Any) -> Rules:
    return replace(rules, by_vendor=tuple((vendor, replace(offer, **change)) for vendor, offer in rules.by_vendor))


def _gone(rules: Rules, vendor: str) -> Rules:
    """*rules* without the one of *vendor*, or with a plain one again."""
    left = tuple(each for each in rules.by_vendor if each[0] != vendor)
    return replace(rules, by_vendor=left if len(left) < len(rules.by_vendor) else (*left, (vendor, OfferRule())))


RULE_CHANGES: Sequence[Callable[[Rules], Rules]] = (
    lambda rules: Rules(),
    lambda rules: _both(rules, resource_class=CLASSES[1]),
    lambda rules: _both(rules, resource_class=CLASSES[0]),
    lambda rules: _both(rules, traits=SITES[:1]),
    lambda rules: _both(rules, traits=SITES[1:]),
    lambda rules: _both(rules, identity="port"),
    lambda rules: _both(rules, identity="serial"),
    lambda rules: _both(rules, identity="auto"),
    lambda rules: _both(rules, exclude=not all(offer.exclude for _, offer in rules.by_vendor)),
    lambda rules: replace(rules, excluded_port=None if rules.excluded_port else "1"),
    lambda rules: replace(rules, excluded_port=None if rules.excluded_port else "2"),
    lambda rules: _gone(rules, "1050"),
)


# --- Placement as the test sees it -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One provider, in full."""

    uuid: str
    name: str
    generation: int
    parent: str | None
    root: str
    inventory: dict[str, tuple[int, int]]
    traits: frozenset[str]
    allocations: dict[str, dict[str, int]]

    @property
    def is_managed(self) -> bool:
        return MANAGED in self.traits

    @property
    def is_free(self) -> bool:
        """Whether the scheduler could give it to somebody."""
        return not self.allocations and self.is_schedulable

    @property
    def is_schedulable(self) -> bool:
        """Whether a unit could be given away, if nobody had it yet."""
        return any(reserved < total for total, reserved in self.inventory.values())


INVENTORIES = """
    SELECT resource_provider_id, name, total, reserved
    FROM inventories JOIN resource_classes ON resource_classes.id = resource_class_id"""
TRAITS = "SELECT resource_provider_id, name FROM resource_provider_traits JOIN traits ON traits.id = trait_id"
ALLOCATIONS = """
    SELECT resource_provider_id, consumer_id, name, used
    FROM allocations JOIN resource_classes ON resource_classes.id = resource_class_id"""
PROVIDERS = """
    SELECT one.id, one.uuid, one.name, one.generation, parent.uuid, root.uuid
    FROM resource_providers one
    LEFT JOIN resource_providers parent ON parent.id = one.parent_provider_id
    JOIN resource_providers root ON root.id = one.root_provider_id"""


@dataclass
class Story:
    """What happened that the providers must show: who has what, and what operators did by hand."""

    claims: dict[str, tuple[str, str]] = field(default_factory=dict)
    reserved: set[str] = field(default_factory=set)
    drained: set[str] = field(default_factory=set)
    marked: set[str] = field(default_factory=set)
    foreign: dict[str, Row] = field(default_factory=dict)
    was_disowned: set[str] = field(default_factory=set)

    def forget(self, uuid: str) -> None:
        for names in (self.reserved, self.drained, self.marked, self.was_disowned):
            names.discard(uuid)
        self.foreign.pop(uuid, None)

    def holders(self, uuid: str) -> list[str]:
        return [consumer for consumer, (provider, _) in self.claims.items() if provider == uuid]


class _Tomorrow(datetime.datetime):
    """The clock of an agent that finds every absent device expired."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
        return datetime.datetime.now(tz) + datetime.timedelta(days=1)


indexes = st.integers(0, 11)
EVENTS = (
    *("plug", "unplug", "move") * 2,
    *("claim", "claim", "release") * 2,
    *("devnum", "mounted", "signed", "unused", "authorized", "settled"),
    *("rules", "rules", "restart", "purge"),
    *("reserve", "unreserve", "drain", "undrain", "mark", "unmark", "delete", "disown", "hand back", "names"),
    *("stranger", "look-alike", "below", "our uuid", "blank", "our name", "edit", "withdraw"),
    *("root",),
)
"""What can happen, weighted. Which device, port, provider or rule it happens to is the two numbers beside it."""
AMIDST = ("claim", "claim", "release", "reserve", "mark", "drain", "disown", "our uuid", "blank", "edit", "delete")
"""What others do while a pass is under way."""

events = st.tuples(st.sampled_from(EVENTS), indexes, indexes)
disturbances = st.tuples(
    st.integers(1, 6),
    st.booleans(),
    st.one_of(st.sampled_from([503, 429, CUT, CUT_AFTER]), st.tuples(st.sampled_from(AMIDST), indexes, indexes)),
)
"""Before which request, whether all are counted or only those that write, and what then."""


class Host(RuleBasedStateMachine):
    """One compute node with its agent."""

    server: PlacementServer
    client: PlacementClient
    executor: ThreadPoolExecutor

    def __init__(self) -> None:
        super().__init__()
        self.state_dir = Path(tempfile.mkdtemp(prefix="usb-provider-model-"))
        self.compute_id = self.state_dir / "compute_id"
        self.plugged: dict[str, Plugged] = {}
        self.rules = Rules()
        self.purge = False
        self.story = Story()
        self.root: str | None = None
        self.roots_made = 0
        self.plugs = 0
        self.consumers = 0
        self.children = 0
        self.looked: dict[str, tuple[str, int]] = {}
        self.keys: dict[tuple[str, int], str] = {}
        self.had: dict[tuple[str, int], set[str]] = {}
        self.moving: dict[tuple[str, int], tuple[str, str, int]] = {}
        self.places: dict[str, tuple[str, int]] = {}
        self.has_looked = False
        self.unsure: set[str] = set()
        self.by_name = False
        self.life = contextlib.ExitStack()
        with _own_randomness():
            self.life.enter_context(self.server.fresh())

    def teardown(self) -> None:
        self.life.close()
        shutil.rmtree(self.state_dir, ignore_errors=True)

    @initialize(
        by_name=st.booleans(),
        things=st.lists(st.sampled_from(sorted(THINGS)), min_size=3, max_size=len(PORTS), unique=True),
        ports=st.permutations(sorted(PORTS)),
    )
    def begin(self, by_name: bool, things: list[str], ports: list[str]) -> None:
        self.by_name = by_name
        for thing, port in zip(things, ports, strict=False):
            self._plug(thing, port)
        self._make_root(same=False)
        self._start_agent()

    @rule(before=st.lists(events, min_size=1, max_size=4), amidst=st.lists(disturbances, max_size=2))
    def make_a_pass(
        self, before: list[tuple[str, int, int]], amidst: list[tuple[int, bool, int | str | tuple[str, int, int]]]
    ) -> None:
        """Something happens, and then a pass is made, in which something may happen too."""
        for what, at, other in before:
            self._happen(what, at, other)
        for nth, any_request, disturbance in amidst:
            self._at(nth, any_request, disturbance)
        self._pass(disturbed=bool(amidst))
        self._check_safety()

    @rule(before=st.lists(events, max_size=2))
    def settle(self, before: list[tuple[str, int, int]]) -> None:
        """Until nothing more happens, and then the whole truth."""
        for what, at, other in before:
            self._happen(what, at, other)
        last = self._pass()
        if self.root is None:
            return
        for _ in range(4):
            if last is not None and not last.actions:
                break
            last = self._pass()
        assert last is not None
        assert not last.actions, f"not at rest: {[str(action) for action in last.actions]}"
        last = self._pass()
        assert last is not None
        assert not last.actions, f"not at rest for long: {[str(action) for action in last.actions]}"
        if not self._names_taken(last) and not self.purge:
            self._check_what_it_asked(last)
        self._check_safety()
        self._check_everything(last)

    # --- What happens

    def _happen(self, what: str, at: int, other: int) -> None:
        if what in ("plug", "unplug", "move"):
            self._move_by_hand(what, at, other)
        elif what in ("devnum", "mounted", "signed", "unused", "authorized", "settled"):
            self._change_device(what, at)
        elif what == "rules":
            self.rules = RULE_CHANGES[at](self.rules)
            self._start_agent() if other == 0 else self._reload()
        elif what == "restart":
            self._start_agent()
        elif what == "purge":
            self.purge = not self.purge
            self._reload()
        elif what == "root":
            self._start_over(at, other)
        else:
            self._interfere(what, at, other)

    def _interfere(self, what: str, at: int, other: int) -> None:
        """What others do in Placement."""
        if self.root is None:
            return
        if what == "claim":
            self._claim(at)
        elif what == "release":
            self._release(at)
        elif what in ("stranger", "look-alike", "below", "our uuid", "blank", "our name", "edit", "withdraw"):
            port = self._pick(sorted(self.plugged) or sorted(PORTS), other)
            thing = self.plugged[port].thing if port in self.plugged else self._pick(sorted(THINGS), at)
            self._meddle(what, at, port, thing)
        else:
            self._operate(what, at)

    def _move_by_hand(self, what: str, at: int, other: int) -> None:
        if what == "plug" and len(self.plugged) < len(PORTS):
            plugged = {each.thing for each in self.plugged.values()}
            self._plug(self._pick(sorted(THINGS.keys() - plugged), at), self._pick(self._free_ports(), other))
        elif what != "plug" and self.plugged:
            moved = self.plugged.pop(self._pick(sorted(self.plugged), at))
            if what == "move":
                self._plug(moved.thing, self._pick(self._free_ports(), other))

    def _change_device(self, what: str, at: int) -> None:
        if not self.plugged:
            return
        device = self.plugged[self._pick(sorted(self.plugged), at)]
        if what == "devnum":  # it was reset, and is the same device still
            self.plugs += 1
            device.devnum = self.plugs % 120 + 1
        elif what == "authorized":
            device.authorized = not device.authorized
        elif what == "settled":
            device.settled = not device.settled
        else:
            device.use = {"mounted": Use.MOUNTED, "signed": Use.SIGNED, "unused": Use.NONE}[what]

    def _start_over(self, at: int, other: int) -> None:
        """Nova deletes the compute node with all that is below it, and maybe makes it again at once."""
        if self.root is not None:
            for consumer in list(self.story.claims):
                self.server.release(consumer)
            rows = self._view()
            self._delete_all([*rows, self.root])
            for uuid in rows:
                self.story.forget(uuid)
            self.story.claims.clear()
            self.unsure.clear()
            self.keys.clear()
            self.had.clear()
            self.moving.clear()
            self.places.clear()
            self.root = None
            if other % 3 == 0:
                return
        self._make_root(same=at % 2 == 0)

    # --- What the agent is made of

    def _plug(self, thing: str, port: str) -> None:
        self.plugs += 1
        self.plugged[port] = Plugged(thing, self.plugs, self.plugs % 120 + 1)

    def _free_ports(self) -> list[str]:
        return sorted(PORTS.keys() - self.plugged.keys())

    def _start_agent(self) -> None:
        self.reporter = _Watched(
            self,
            self._devices,
            self.client,
            RootFinder(
                self.client,
                RootHints(name=ROOT_NAME) if self.by_name else RootHints(compute_id_file=self.compute_id),
            ),
            self._settings(),
            store=RuleTraitStore(self.state_dir),
            executor=self.executor,
        )
        self.has_looked = False

    def _reload(self) -> None:
        self.reporter.settings = self._settings()

    def _settings(self) -> ReportSettings:
        return ReportSettings(specs=parse_specs(self.rules.texts()), purge_absent_after=60 if self.purge else 0)

    def _devices(self, *, fresh: bool = False) -> Sequence[UsbDevice]:
        self.looked = {port: (each.thing, each.plug) for port, each in self.plugged.items()}
        return [self._device(port, each) for port, each in self.plugged.items()]

    def _device(self, port: str, each: Plugged) -> UsbDevice:
        thing, (bus, path) = THINGS[each.thing], port.split("-")
        is_disk = thing.usb_id == DISK
        return UsbDevice(
            sys_path=f"/sys/devices/pci0000:00/{PORTS[port]}/usb{bus}/{port}",
            sys_name=port,
            vendor_id=thing.usb_id[:4],
            product_id=thing.usb_id[5:],
            busnum=int(bus),
            devnum=each.devnum,
            serial=thing.serial,
            interfaces=(("08", "06", "50"),) if is_disk else (("03", "01", "01"),),
            speed=Speed.SUPER if bus == "2" else Speed.HIGH,
            port_path=path,
            controller=PORTS[port],
            authorized=each.authorized,
            settled=each.settled,
            uses=each.use.value,
        )

    def _pass(self, *, disturbed: bool = False) -> Pass | None:
        """One pass; None when it could not be made, which only a disturbance or a missing root excuses."""
        self.server.requests.clear()
        root = self.root
        try:
            done = self.reporter.run()
            self.has_looked = True
            return done
        except RootMissing:
            assert disturbed or root is None or self.by_name
        except (Unavailable, Conflict) as error:
            assert disturbed, repr(error)
        finally:
            self.executor.submit(int).result()  # a request that the pass gave up may be under way still
            self.server.calm()
            self._note_who_has_moved()
            self._note_what_was_purged()
            errors, self.server.errors[:] = list(self.server.errors), []
            for error in errors:
                raise error
        return None

    def _note_what_was_purged(self) -> None:
        """A purge takes what operators wrote on a provider with it; what is held or reserved has to stay."""
        for asked in self.server.requests:
            uuid = asked.path.rpartition("/")[2]
            if asked.method == "DELETE" and self._row(uuid) is None:
                assert self.purge and uuid not in self.story.reserved and uuid not in self.story.foreign, asked
                self.story.forget(uuid)

    def judge(self, devices: Sequence[Assessment], tree: ObservedTree) -> None:
        """Judge what the agent made of one look, which showed it *tree*: the key that each device has now."""

        def is_held(key: str) -> bool:
            provider = tree.providers.get(self._uuid(key))
            return provider is not None and provider.allocated

        keys = [each.identity.key for each in devices]
        assert len(set(keys)) == len(keys), f"two devices are known by one key: {sorted(keys)}"
        self._take_back_moves()
        if not self.has_looked:
            self._note_what_it_cannot_know(tree)
        before, self.keys = self.keys, {self.looked[each.device.sys_name]: each.identity.key for each in devices}
        for (thing, plug), key in self.keys.items():
            port = next(port for port, who in self.looked.items() if who == (thing, plug))
            assert key in candidate_keys(THINGS[thing], port), (thing, key)
            assert self._ordinary_key(port, is_held) in (None, key), (thing, key, self._ordinary_key(port, is_held))
            was = before.get((thing, plug))
            had = self.had.setdefault((thing, plug), self._had_by_its_like(thing, port))
            if was is None or was == key or self._is_unsure(was) or self._is_unsure(key):
                had.add(key)
            else:
                assert not is_held(was), f"{thing} stayed plugged in as {was}, which is allocated, and became {key}"
                # A claim may be made on the key that it is about to lose.
                assert key in had or not is_held(key), f"{thing} was {was} and takes over {key}, which is another's"
                had.add(key)
            was = was or before.get(self._its_like(thing, port))
            if was not in (None, key):
                self.moving[thing, plug] = was, key, len(self.server.requests)
        self.places = dict(self.looked)

    def _take_back_moves(self) -> None:
        """What could not leave its old key at the last look, because Placement failed, does not have its new one."""
        self._note_who_has_moved()
        rows = self._view()
        for who, key in {who: self._key_now(who, rows) for who in self.moving}.items():
            if key != self.keys[who]:
                self.had[who].discard(self.keys[who])
                self.keys[who] = key
        self.moving.clear()

    def _note_who_has_moved(self) -> None:
        """A device whose new key was written has that, whether it has left its old one or, wrongly, not."""
        for who, (_, new, asked) in list(self.moving.items()):
            if any(each.method != "GET" and self._uuid(new) in each.path for each in self.server.requests[asked:]):
                del self.moving[who]

    def _had_by_its_like(self, thing: str, port: str) -> set[str]:
        """Keys of what was in *port* at the last look, if it may be the same."""
        other = self._its_like(thing, port)
        return set() if other is None else set(self.had[other])

    def _its_like(self, thing: str, port: str) -> tuple[str, int] | None:
        """What was in *port* at the last look, if nobody could tell that it is another one now."""
        other = self.places.get(port)
        return other if other is not None and THINGS[other[0]].known_as == THINGS[thing].known_as else None

    def _note_what_it_cannot_know(self, tree: ObservedTree) -> None:
        """A restarted agent knows a device from its like by their providers; where those lack, it has to guess."""

        def is_remembered(key: str) -> bool:
            provider = tree.providers.get(self._uuid(key))
            return provider is not None and provider.managed and not provider.absent

        for consumer, (uuid, _) in self.story.claims.items():
            for port, (thing, plug) in self.looked.items():
                shared = [key for key in candidate_keys(THINGS[thing], port) if self._uuid(key) == uuid]
                others = [key for key in candidate_keys(THINGS[thing], port) if key not in shared]
                is_holder = shared == [self.keys.get((thing, plug))]
                if shared and not is_holder and not any(is_remembered(key) for key in others):
                    self.unsure.add(consumer)

    def _is_unsure(self, key: str) -> bool:
        return any(consumer in self.unsure for consumer in self.story.holders(self._uuid(key)))

    def _ordinary_key(self, port: str, is_held: Callable[[str], bool]) -> str | None:
        """The key of the device in *port* by what is plugged in alone; None where claims may have a say."""
        there = {at: THINGS[thing] for at, (thing, _) in self.looked.items()}
        thing = there[port]
        alike = [
            at
            for at, other in there.items()
            if other == thing or (other.usb_id == thing.usb_id and port_keys(other, at)[0] == port_keys(thing, port)[0])
        ]
        if any(is_held(key) for at in alike for key in candidate_keys(there[at], at)):
            return None
        return self._key_by_rule(port, there)

    def _key_by_rule(self, port: str, there: Mapping[str, Thing]) -> str:
        """The key of the device in *port* if nobody held anything."""
        thing, device = there[port], self.plugged[port]
        offer = self.rules.of(thing, port)
        is_ready = device.authorized and device.settled and not device.use.value
        wants_port = offer is not None and is_ready and offer.identity == "port"
        is_alone = sum(other == thing for other in there.values()) == 1
        if thing.has_usable_serial and is_alone and not wants_port:
            return serial_key(thing)
        plain, longer = port_keys(thing, port)
        bus, path = port.split("-")
        is_second = bus == "2" and f"1-{path}" in there and there[f"1-{path}"].usb_id == thing.usb_id
        return longer if is_second else plain

    # --- What others do

    def _claim(self, at: int) -> None:
        free = [row for row in self._view().values() if row.is_free and row.is_managed]
        if not free:
            return
        row = self._pick(sorted(free, key=lambda row: row.name), at)
        rc = next(name for name, (total, reserved) in sorted(row.inventory.items()) if reserved < total)
        self.consumers += 1
        consumer = str(uuidlib.UUID(int=self.consumers, version=4))
        self.server.allocate(consumer, {row.uuid: {rc: 1}})
        self.story.claims[consumer] = (row.uuid, rc)

    def _release(self, at: int) -> None:
        if not self.story.claims:
            return
        consumer = self._pick(sorted(self.story.claims), at)
        self.server.release(consumer)
        uuid, _ = self.story.claims.pop(consumer)
        self.unsure.discard(consumer)
        if uuid in self.story.foreign:
            self._let_alone(uuid)

    def _operate(self, what: str, at: int) -> None:
        """What an operator does to a provider of ours."""
        story = self.story
        if what == "names":
            self._delete_unused_names()
            return
        rows = [
            row
            for row in self._view().values()
            if (row.is_managed or row.uuid in story.was_disowned) and self._takes(what, row)
        ]
        if not rows:
            return
        row = self._pick(sorted(rows, key=lambda row: row.name), at)
        if what == "reserve":
            self._reserve(row, 1)
            story.reserved.add(row.uuid)
        elif what == "unreserve":
            self._reserve(row, 0)
            story.reserved.discard(row.uuid)
        elif what == "drain":
            self._set_traits(row, row.traits | {DRAINED})
            story.drained.add(row.uuid)
        elif what == "undrain":
            self._set_traits(row, row.traits - {DRAINED})
            story.drained.discard(row.uuid)
            if not row.traits & {ABSENT, WITHDRAWN}:
                self._reserve(self._view()[row.uuid], 0)
        elif what == "mark":
            self._set_traits(row, row.traits | {OPERATORS_OWN})
            story.marked.add(row.uuid)
        elif what == "unmark":
            self._set_traits(row, row.traits - {OPERATORS_OWN})
            story.marked.discard(row.uuid)
        elif what == "delete":
            self._delete_all([row.uuid])
            story.forget(row.uuid)
        elif what == "disown":
            self._set_traits(row, row.traits - {MANAGED})
            story.was_disowned.add(row.uuid)
            self._let_alone(row.uuid)
        elif what == "hand back":
            story.foreign.pop(row.uuid)
            self._set_traits(row, row.traits | {MANAGED})

    def _takes(self, what: str, row: Row) -> bool:
        """Whether an operator could mean *row*, and say so without contradicting what they said before."""
        story = self.story
        if row.uuid in story.foreign:
            return what == "hand back"
        reserves = any(reserved for _, reserved in row.inventory.values())
        return {
            "reserve": bool(row.inventory) and not reserves and row.uuid not in story.drained,
            "unreserve": row.uuid in story.reserved and reserves,
            "drain": row.uuid not in story.drained and row.uuid not in story.reserved,
            "undrain": row.uuid in story.drained,
            "mark": row.uuid not in story.marked,
            "unmark": row.uuid in story.marked,
            "delete": not row.allocations and not self._has_children(row.uuid),
            # Not in the moment of its purge: Placement deletes a provider whatever its generation.
            "disown": bool(row.traits - {MANAGED}) and not (self.purge and ABSENT in row.traits),
            "hand back": False,
        }[what]

    def _meddle(self, what: str, at: int, port: str, thing: str) -> None:
        """What somebody else does beside us, or under our names."""
        assert self.root is not None
        self.children += 1
        key = self._pick(candidate_keys(THINGS[thing], port), at)
        ours = f"{ROOT_NAME}_usb_{key}"
        if what == "stranger":
            self._make_foreign(f"{ROOT_NAME}_PCI_{self.children}")
        elif what == "look-alike":
            self._make_foreign(f"{ROOT_NAME}_usb_look-alike-{self.children}")
        elif what == "below":
            parents = [row for row in self._view().values() if row.is_managed]
            if parents:
                parent = self._pick(sorted(parents, key=lambda row: row.name), at)
                self._make_foreign(f"below-{self.children}", parent=parent.uuid)
        elif what == "our uuid":
            self._make_foreign(f"mine-{self.children}", uuid=self._uuid(key))
        elif what == "blank":
            self.server.api.post(
                "/resource_providers", {"name": ours, "uuid": self._uuid(key), "parent_provider_uuid": self.root}
            )
        elif what == "our name":
            self._make_foreign(ours, parent=None)
        elif self.story.foreign:
            uuid = self._pick(sorted(self.story.foreign), at)
            row = self.story.foreign[uuid]
            if what == "edit":
                self._set_traits(row, row.traits ^ {"CUSTOM_THEIRS_TOO"})
                self._let_alone(uuid)
            elif not row.allocations and not self._has_children(uuid):
                self._delete_all([uuid])
                self.story.forget(uuid)

    def _make_foreign(self, name: str, *, uuid: str | None = None, parent: str | None = "") -> None:
        """A provider of somebody else's, unless Placement refuses it."""
        uuid = uuid or str(uuidlib.UUID(int=0xF0000 + self.children, version=4))
        body = {"name": name, "uuid": uuid}
        if parent is not None:
            body["parent_provider_uuid"] = parent or str(self.root)
        if not self.server.api.post("/resource_providers", body).ok:
            return
        api = self.server.api
        api.must("PUT", "/traits/CUSTOM_THEIRS")
        api.must("PUT", "/resource_classes/CUSTOM_THEIRS")
        self._write(uuid, 0, "inventories", {"inventories": {"CUSTOM_THEIRS": {"total": 2, "reserved": 1}}})
        self._write(uuid, 1, "traits", {"traits": ["CUSTOM_THEIRS"]})
        self._let_alone(uuid)

    def _let_alone(self, uuid: str) -> None:
        """From now on the provider has to stay as it is."""
        row = self._row(uuid)
        assert row is not None
        self.story.foreign[uuid] = row

    def _reserve(self, row: Row, reserved: int) -> None:
        if row.inventory:
            inventories = {rc: _inventory(total, reserved) for rc, (total, _) in row.inventory.items()}
            self._write(row.uuid, row.generation, "inventories", {"inventories": inventories})

    def _set_traits(self, row: Row, traits: frozenset[str]) -> None:
        for name in traits - row.traits:
            self.server.api.must("PUT", f"/traits/{name}")
        self._write(row.uuid, row.generation, "traits", {"traits": sorted(traits)})

    def _write(self, uuid: str, generation: int, what: str, body: dict[str, Any]) -> None:
        self.server.api.must(
            "PUT", f"/resource_providers/{uuid}/{what}", {"resource_provider_generation": generation, **body}
        )

    def _delete_unused_names(self) -> None:
        api = self.server.api
        for name in api.must("GET", "/traits?name=startswith:CUSTOM_&associated=false")["traits"]:
            api.delete(f"/traits/{name}")
        for entry in api.must("GET", "/resource_classes")["resource_classes"]:
            if entry["name"].startswith("CUSTOM_"):
                api.delete(f"/resource_classes/{entry['name']}")

    def _make_root(self, *, same: bool) -> None:
        if not same or not self.roots_made:
            self.roots_made += 1
        self.root = self.server.create_root(ROOT_NAME, str(uuidlib.UUID(int=self.roots_made, version=4)))
        self.compute_id.write_text(f"{self.root}\n")

    def _delete_all(self, uuids: list[str]) -> None:
        """Delete providers, children first."""
        left = list(dict.fromkeys(uuids))
        while left:
            before = len(left)
            left = [uuid for uuid in left if not self.server.api.delete(f"/resource_providers/{uuid}").ok]
            assert len(left) < before, "these cannot be deleted"

    def _at(self, nth: int, any_request: bool, disturbance: int | str | tuple[str, int, int]) -> None:
        """Let it happen at the *nth* request, or the nth that writes."""
        count = iter(range(1, 1000))

        def tick() -> None:
            if next(count) != nth:
                return
            if isinstance(disturbance, tuple):
                self._interfere(*disturbance)
            else:
                self.server.fail_next("", disturbance)

        self.server.before("" if any_request else WRITES, tick, times=None)

    # --- What must hold

    def _view(self) -> dict[str, Row]:
        """What is below the root."""
        return {row.uuid: row for row in self._rows() if row.root == self.root != row.uuid}

    def _row(self, uuid: str) -> Row | None:
        return next((row for row in self._rows() if row.uuid == uuid), None)

    def _rows(self) -> list[Row]:
        """All of Placement's providers, from its tables: its API takes ten times as long."""
        inventories: defaultdict[int, dict[str, tuple[int, int]]] = defaultdict(dict)
        traits: defaultdict[int, set[str]] = defaultdict(set)
        allocations: defaultdict[int, dict[str, dict[str, int]]] = defaultdict(dict)
        with db_api.get_placement_engine().connect() as tables:
            for provider, name, total, reserved in tables.exec_driver_sql(INVENTORIES):
                inventories[provider][name] = (total, reserved)
            for provider, name in tables.exec_driver_sql(TRAITS):
                traits[provider].add(name)
            for provider, consumer, name, used in tables.exec_driver_sql(ALLOCATIONS):
                allocations[provider].setdefault(consumer, {})[name] = used
            return [
                Row(*facts, inventories[number], frozenset(traits[number]), allocations[number])
                for number, *facts in tables.exec_driver_sql(PROVIDERS)
            ]

    def _check_safety(self) -> None:
        """What holds at any moment, however badly the last pass went."""
        if self.root is None:
            return
        everything = {row.uuid: row for row in self._rows()}
        rows = self._view()
        for uuid, foreign in self.story.foreign.items():
            there = everything.get(uuid)
            assert there == foreign, f"{foreign.name} is not ours: {foreign} became {there}"
        for consumer, (uuid, rc) in self.story.claims.items():
            assert uuid in rows, f"the provider {uuid} of consumer {consumer} is gone"
            assert rows[uuid].allocations == {consumer: {rc: 1}}, rows[uuid]
            assert rows[uuid].inventory.get(rc, (0, 0))[0] == 1, f"{rows[uuid]} lost the class of {consumer}"
        for uuid in self.story.marked - self.story.foreign.keys():
            assert OPERATORS_OWN in rows[uuid].traits, f"an operator's trait is gone: {rows[uuid]}"
        for uuid in (self.story.reserved | self.story.drained) - self.story.foreign.keys():
            row = rows[uuid]
            assert uuid not in self.story.drained or DRAINED in row.traits, f"no longer drained: {row}"
            if uuid in self.story.reserved:
                assert row.inventory and not any(r < t for t, r in row.inventory.values()), f"not reserved: {row}"
        for port, each in self.plugged.items():
            free = [rows[uuid].name for uuid in self._providers_of(port, rows) if uuid in rows and rows[uuid].is_free]
            assert len(free) <= 1, f"{each.thing} in {port} can be had twice: {free}"
            key = self._key_now((each.thing, each.plug), rows)
            if key is not None and self.story.holders(self._uuid(key)) and not self._is_unsure(key):
                assert not free, f"{each.thing} in {port} is held as {key} and can be had as {free}"

    def _key_now(self, who: tuple[str, int], rows: Mapping[str, Row]) -> str | None:
        """The key of a device: the old one, if it could not leave that yet and its new one was not written."""
        old, key, _ = self.moving.get(who, (None, self.keys.get(who), 0))
        row = None if old is None or old in self.keys.values() else rows.get(self._uuid(old))
        return old if row is not None and row.is_managed and row.is_schedulable else key

    def _providers_of(self, port: str, rows: Mapping[str, Row]) -> list[str]:
        """Providers by which the device in *port* was known since it was plugged in, and no other device is now."""
        others = [self.keys.get((each.thing, each.plug)) for at, each in self.plugged.items() if at != port]
        who = (self.plugged[port].thing, self.plugged[port].plug)
        known = self.had.get(who, set()) - set(others)
        if self._key_now(who, rows) != self.keys.get(who):
            known.discard(self.keys[who])
        return [uuid for uuid in map(self._uuid, sorted(known)) if uuid not in self.story.foreign]

    def _check_everything(self, last: Pass) -> None:
        """What holds once the agent is through."""
        rows = self._view()
        verdicts = {each.device.sys_name: each for each in last.devices}
        assert verdicts.keys() == self.plugged.keys()
        expected: set[str] = set()
        at_hand: set[str] = set()
        for port, each in self.plugged.items():
            key = verdicts[port].identity.key
            uuid = self._uuid(key)
            offer = self._offer(port, each, verdicts[port])
            assert verdicts[port].offered == (offer is not None), (port, verdicts[port].reason)
            if offer is None:
                if uuid in rows and rows[uuid].is_managed:
                    at_hand.add(uuid)
                    self._check_gone(rows[uuid], WITHDRAWN)
                continue
            at_hand.add(uuid)
            if uuid in self.story.foreign:
                assert any(note.blocks for note in last.notes)
                continue
            if uuid not in rows:
                assert self._is_taken(key) and any(note.blocks for note in last.notes), f"{key} is not reported"
                continue
            self._check_offered(rows[uuid], port, offer)
            if not rows[uuid].allocations and uuid not in self.story.reserved | self.story.drained:
                expected.add(uuid)
        for uuid, row in rows.items():
            if row.is_managed and uuid not in at_hand:
                self._check_gone(row, ABSENT)
        free = {uuid for uuid, row in rows.items() if row.is_free and uuid not in self.story.foreign}
        assert free == expected, {uuid: rows.get(uuid) for uuid in free ^ expected}
        for rc in sorted({rc for uuid in expected for rc in rows[uuid].inventory}):
            query = f"resources={rc}:1&in_tree={self.root}&required={MANAGED}"
            offered = {uuid for candidate in self.server.candidates(query) for uuid in candidate}
            assert offered == {uuid for uuid in expected if rc in rows[uuid].inventory}

    def _check_what_it_asked(self, last: Pass) -> None:
        """A quiet pass asks for the tree, and who holds those providers that would be otherwise if nobody did."""
        assert {each.method for each in self.server.requests} == {"GET"}, self.server.requests
        assert last.requests == len(self.server.requests) <= 1 + len(self.story.claims)
        there = {port: THINGS[each.thing] for port, each in self.plugged.items()}
        ordinary = {}
        for each in last.devices:
            if each.identity.key == self._key_by_rule(each.device.sys_name, there) and each.offered:
                ordinary[self._uuid(each.identity.key)] = each.resource_class
        uses = {use for each in self.plugged.values() for use in each.use.value}
        if not uses and all(ordinary.get(uuid) == rc for uuid, rc in self.story.claims.values()):
            assert last.requests == 1, self.server.requests

    def _offer(self, port: str, each: Plugged, verdict: Any) -> OfferRule | None:
        """The rule that must offer the device in *port*."""
        thing = THINGS[each.thing]
        offer = self.rules.of(thing, port)
        if offer is None or not each.authorized or not each.settled or each.use is Use.MOUNTED:
            return None
        is_held = bool(self.story.holders(self._uuid(verdict.identity.key)))
        if each.use is Use.SIGNED and not is_held:
            return None
        twins = [at for at, other in self.plugged.items() if THINGS[other.thing] == thing]
        is_told_apart = thing.has_usable_serial and len(twins) == 1
        if offer.identity == "serial" and verdict.identity.kind == "port" and not is_told_apart:
            return None
        return offer

    def _check_offered(self, row: Row, port: str, offer: OfferRule) -> None:
        thing = THINGS[self.plugged[port].thing]
        reserved = int(row.uuid in self.story.reserved | self.story.drained)
        rc = next((rc for uuid, rc in self.story.claims.values() if uuid == row.uuid), offer.resource_class)
        assert row.inventory == {rc: (1, reserved)}, (port, row)
        vendor, product = thing.usb_id.split(":")
        required = {
            MANAGED,
            f"CUSTOM_USB_VENDOR_{vendor}",
            f"CUSTOM_USB_PRODUCT_{vendor}_{product}",
            "CUSTOM_USB_CLASS_MASS_STORAGE" if thing.usb_id == DISK else "CUSTOM_USB_CLASS_HID",
            "CUSTOM_USB_SPEED_SUPER" if port.startswith("2-") else "CUSTOM_USB_SPEED_HIGH",
            *offer.traits,
            *([OPERATORS_OWN] if row.uuid in self.story.marked else []),
            *([DRAINED] if row.uuid in self.story.drained else []),
        }
        allowed = set(SITES) if row.uuid in self.story.was_disowned else set()
        assert required <= row.traits <= required | allowed, (port, row.traits ^ required)

    def _check_gone(self, row: Row, state: str) -> None:
        """What is left of a device that is not offered can be had by nobody, and says why."""
        assert not any(reserved < total for total, reserved in row.inventory.values()), row
        assert row.traits & {ABSENT, WITHDRAWN} == {state}, row
        keeps = row.allocations or row.uuid in self.story.reserved | self.story.drained
        assert keeps or not row.inventory, row

    def _is_taken(self, key: str) -> bool:
        return any(row.name == f"{ROOT_NAME}_usb_{key}" for row in self.story.foreign.values())

    def _names_taken(self, last: Pass) -> bool:
        return any(note.topic.startswith("name:") for note in last.notes)

    def _has_children(self, uuid: str) -> bool:
        return any(row.parent == uuid for row in self._rows())

    def _uuid(self, key: str) -> str:
        return str(uuidlib.uuid5(uuidlib.UUID(self.root), key))

    @staticmethod
    def _pick(among: Sequence[Any], at: int) -> Any:
        return among[at % len(among)]


@contextlib.contextmanager
def _own_randomness() -> Iterator[None]:
    """Hypothesis seeds :mod:`random` alike for each story, but oslo.db's fixture takes names from there."""
    state = random.getstate()
    random.seed()
    yield
    random.setstate(state)


def _inventory(total: int, reserved: int) -> dict[str, Any]:
    return {"total": total, "reserved": reserved, "min_unit": 1, "max_unit": 1, "step_size": 1, "allocation_ratio": 1.0}


class _Watched(Reporter):
    """A reporter whose every look is judged, also those of passes that fail later."""

    def __init__(self, host: Host, *args: Any, **how: Any) -> None:
        super().__init__(*args, **how)
        self._host = host

    def _look(self) -> Any:
        look = super()._look()
        self._host.judge(look.devices, look.tree)
        return look


@pytest.fixture
def machine(placement_server: PlacementServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Host]]:
    """The state machine on the one server, with a database for each story, and with nothing to wait for."""
    token = token_endpoint.Token(placement_server.endpoint, placement_server.token)
    http = adapter.Adapter(session.Session(auth=token), service_type="placement")
    no_time = types.SimpleNamespace(sleep=lambda seconds: None)
    monkeypatch.setattr(reporter_module, "datetime", types.SimpleNamespace(datetime=_Tomorrow, UTC=datetime.UTC))
    monkeypatch.setattr("keystoneauth1.session.time", no_time)
    # Half of Placement's own time goes here: it yields to other processes after each query, and checks its schemas.
    monkeypatch.setattr("oslo_db.sqlalchemy.engines.time", no_time)
    monkeypatch.setattr("jsonschema.Draft202012Validator.check_schema", lambda *args, **how: None)
    with ThreadPoolExecutor(1) as workers:

        class Machine(Host):
            server = placement_server
            client = PlacementClient(http)
            executor = workers

        yield Machine


@pytest.mark.timeout(0 if IS_LONG else 900)  # hypothesis takes its time to find a short story for a failure
def test_nothing_is_lost_taken_or_given_away_twice(machine: type[Host]) -> None:
    run_state_machine_as_test(
        machine,
        settings=hypothesis.settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize="CI" in os.environ and not IS_LONG,
            database=None,
            print_blob=True,
            suppress_health_check=list(hypothesis.HealthCheck),
        ),
    )
