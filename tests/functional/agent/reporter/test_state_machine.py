r"""Whatever happens to a host, its agent and its Placement, in any order: nothing is lost, taken or given away twice.

Hypothesis makes up the story (plugs, modes, serial numbers, claims, operators, faults, restarts, reboots that renumber
the buses, a nova that starts over), planner and reporter live through it against the real Placement, and this module
knows what must hold. tests/fixtures/reporter_machine has the world that it happens in, the oracle that knows each
device's key, and the promises that hold for each physical thing:

Some stories begin with pools or bundles, and rules make and undo them.

* at every look: each held device has its key, what may be a held device is withheld, no device inherits a claim;
* after every pass, also one that failed: what is not ours is untouched, claims stand, no device can be had twice;
* an agent that starts now sees with its few requests what full reads show, but for fields that summaries lack;
* when all is quiet: exactly the right providers are schedulable, and a further pass costs one request.

An ordinary run takes well under a minute. To run it for longer::

    USB_PROVIDER_MODEL_EXAMPLES=2000 USB_PROVIDER_MODEL_STEPS=60 pytest \
        tests/functional/agent/reporter/test_state_machine.py

Each run tells new stories, in CI too. Hypothesis prints a failing one as Python, and a line such as
``@reproduce_failure('6.170.17', b'AXic…')``. To tell the same story again, with the same release of hypothesis, change
the call at the end of this module into::

    run_state_machine_as_test(hypothesis.reproduce_failure("6.170.17", b"AXic…")(machine), settings=…)

and remove it again when a plain test tells the story. One thread sends the requests here, so that it can be told again.
The same oracle judges the pure model in tests/unit/model/reporting/test_stories.py, which is much faster.
"""

import contextlib
import dataclasses
import datetime
import os
import random
import shutil
import tempfile
import types
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from placement_traits import PURGED
from tests.fixtures.placement import CUT, CUT_AFTER, PlacementServer
from tests.fixtures.reporter_machine.hardware import DISK, PORTS, THINGS, Plugged, Use
from tests.fixtures.reporter_machine.oracle import KeyOracle
from tests.fixtures.reporter_machine.promises import Promises
from tests.fixtures.reporter_machine.rules import GROUP_CHANGES, RULE_CHANGES, SITES, OfferRule
from tests.fixtures.reporter_machine.tables import MANAGED, Row, all_rows
from tests.fixtures.reporter_machine.world import (
    ABSENT,
    AMIDST,
    DRAINED,
    EDITORS_OWN,
    EVENTS,
    OPERATORS_OWN,
    ROOT_NAME,
    WITHDRAWN,
    World,
)
from usb_provider.agent import purge
from usb_provider.agent.reporter import Pass, Preview, Reporter
from usb_provider.agent.store import StateStore
from usb_provider.exception import Conflict, RootMissing, Unavailable
from usb_provider.model.devices.offer import OfferReason
from usb_provider.model.devices.spec import parse_specs
from usb_provider.model.reporting.host_state import ReportSettings
from usb_provider.model.reporting.provider import Assessment
from usb_provider.model.reporting.tree import Inventory, ObservedProvider, ObservedTree
from usb_provider.openstack.session import with_token
from usb_provider.placement import observe
from usb_provider.placement.client import PlacementClient
from usb_provider.placement.root import RootFinder, RootHints

EXAMPLES = int(os.environ.get("USB_PROVIDER_MODEL_EXAMPLES", "40"))
STEPS = int(os.environ.get("USB_PROVIDER_MODEL_STEPS", "12"))
IS_LONG = "USB_PROVIDER_MODEL_EXAMPLES" in os.environ

GROUPS = ("pool_hasp", "bundle_desk")
WRITES = "^(PUT|POST|DELETE) "

indexes = st.integers(0, 15)

events = st.tuples(st.sampled_from(EVENTS), indexes, indexes)
disturbances = st.tuples(
    st.integers(1, 6),
    st.booleans(),
    st.one_of(st.sampled_from([503, 429, CUT, CUT_AFTER]), st.tuples(st.sampled_from(AMIDST), indexes, indexes)),
)
"""Before which request, whether all are counted or only those that write, and what then."""


class _Tomorrow(datetime.datetime):
    """The clock of an agent that finds every absent device expired."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
        return datetime.datetime.now(tz) + datetime.timedelta(days=1)


_AReporter = TypeVar("_AReporter", bound=Reporter)


def by_summary(tree: ObservedTree) -> dict[str, ObservedProvider]:
    """*tree*'s providers, with every inventory as the one that the agent would write for its capacity."""
    return {
        uuid: dataclasses.replace(
            each,
            inventories={name: Inventory(reserved=int(not inv.schedulable)) for name, inv in each.inventories.items()},
        )
        for uuid, each in tree.providers.items()
    }


def decisions(devices: Sequence[Assessment]) -> list[tuple[str, str, bool]]:
    """For each device its port, its key, and whether it is offered."""
    return [(each.device.sys_name, each.identity.key, each.offered) for each in devices]


class Host(RuleBasedStateMachine):
    """One compute node with its agent."""

    server: PlacementServer
    client: PlacementClient
    executor: ThreadPoolExecutor

    def __init__(self) -> None:
        super().__init__()
        self.state_dir = Path(tempfile.mkdtemp(prefix="usb-provider-model-"))
        self.world = World(self.server, self.state_dir / "compute_id")
        self.oracle = KeyOracle(self.world.hardware, lambda: self.world.rules, self.world.uuid)
        self.promises = Promises(self.oracle)
        self.oracle.also.append(self.promises.judge)
        self.by_name = False
        self.set_aside: set[str] = set()
        self.life = contextlib.ExitStack()
        with _own_randomness():
            self.life.enter_context(self.server.fresh())

    def teardown(self) -> None:
        self.life.close()
        shutil.rmtree(self.state_dir, ignore_errors=True)

    @initialize(
        by_name=st.booleans(),
        grouped=st.integers(0, 2 * len(GROUP_CHANGES) - 1),
        things=st.lists(st.sampled_from(sorted(THINGS)), min_size=3, max_size=len(PORTS) - 1, unique=True),
        ports=st.permutations(sorted(PORTS)),
    )
    def begin(self, by_name: bool, grouped: int, things: list[str], ports: list[str]) -> None:
        self.by_name = by_name
        if grouped < len(GROUP_CHANGES):
            self.world.rules = GROUP_CHANGES[grouped](self.world.rules)
        for thing, port in zip(things, ports, strict=False):
            if port in self.world.hardware.free_ports():
                self.world.hardware.plug(thing, port)
        self.world.make_root(same=False)
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
        planned = self._what_a_command_sees()
        if planned is not None:
            self._check_what_an_agent_sees_that_starts_now(planned)
        last = self._pass()
        if self.world.root is None:
            return
        if last is not None and planned is not None:
            assert decisions(planned.devices) == decisions(last.devices), (
                "a command beside the agent decides otherwise than the agent"
            )
        for _ in range(12):
            if last is not None and not last.actions and not self._has_yet_to_read():
                break
            last = self._pass()
        assert last is not None
        assert not last.actions, f"not at rest: {[str(action) for action in last.actions]}"
        last = self._pass()
        assert last is not None
        assert not last.actions, f"not at rest for long: {[str(action) for action in last.actions]}"
        if not self._names_taken(last) and not self.world.purge:
            self._check_what_it_asked(last)
        self._check_safety()
        self._check_everything(last)

    def _happen(self, what: str, at: int, other: int) -> None:
        world = self.world
        if what == "rules":
            world.rules = (*RULE_CHANGES, *GROUP_CHANGES)[at](world.rules)
            self._start_agent() if other == 0 else self._reload()
        elif what in ("restart", "reboot"):
            if what == "reboot":
                world.happen(what, at, other)
            self._start_agent()
        elif what == "purge":
            world.purge = not world.purge
            self._reload()
        else:
            if what == "root":
                self.oracle.forget_keys()
                self.promises.forget()
            world.happen(what, at, other)

    def _what_a_command_sees(self) -> Preview | None:
        """What "usb-provider plan", started now, sees; None where it does not find the root."""
        try:
            return self._new(Reporter, in_full=True).preview()
        except RootMissing:
            return None

    def _check_what_an_agent_sees_that_starts_now(self, full: Preview) -> None:
        short = self._new(Reporter).preview()
        assert by_summary(short.tree) == by_summary(full.tree)
        assert decisions(short.devices) == decisions(full.devices)
        assert short.plan.notes == full.plan.notes
        seen, there = short.tree.providers, full.tree.providers
        unlike = {uuid for uuid in there if seen[uuid] != there[uuid]}
        sequences = [each for each in full.plan.sequences if each[0].provider_uuid not in unlike]
        assert list(short.plan.sequences) == sequences

    def _has_yet_to_read(self) -> bool:
        """Whether the agent, since it started, has read of some provider only what a summary shows."""
        return bool(self.reporter._observer._summarised)

    def _start_agent(self) -> None:
        self.reporter = self._new(_Watched)
        self.reporter.oracle = self.oracle

    def _new(self, kind: type[_AReporter], *, in_full: bool = False) -> _AReporter:
        return kind(
            self.world.devices,
            self.client,
            RootFinder(
                self.client,
                RootHints(name=ROOT_NAME) if self.by_name else RootHints(compute_id_file=self.world.compute_id),
            ),
            self._settings(),
            store=StateStore(self.state_dir),
            executor=self.executor,
            in_full=in_full,
        )

    def _reload(self) -> None:
        self.reporter.settings = self._settings()

    def _settings(self) -> ReportSettings:
        return ReportSettings(
            specs=parse_specs(self.world.rules.texts()), purge_absent_after=60 if self.world.purge else 0
        )

    def _pass(self, *, disturbed: bool = False) -> Pass | None:
        """One pass; None when it could not be made, which only a disturbance or a missing root excuses."""
        self.server.requests.clear()
        root = self.world.root
        try:
            return self.reporter.run()
        except RootMissing:
            assert disturbed or root is None or self.by_name
        except (Unavailable, Conflict) as error:
            assert disturbed, repr(error)
        finally:
            self.executor.submit(int).result()  # a request that the pass gave up may be under way still
            self.server.calm()
            self.oracle.note_who_has_moved(self.world.view())
            self._note_what_was_purged()
            errors, self.server.errors[:] = list(self.server.errors), []
            for error in errors:
                raise error
        return None

    def _note_what_was_purged(self) -> None:
        """A purge takes what operators wrote on a provider with it; what is held or reserved has to stay.

        It does so when it sets the provider aside, and deletes it in a later pass.
        """
        set_aside = {row.uuid for row in all_rows() if PURGED in row.traits}
        asked = {
            each.path.rpartition("/")[2]
            for each in self.server.requests
            if each.method == "DELETE" and each.path.startswith("/resource_providers/")
        }
        deleted = {uuid for uuid in asked if self.world.row(uuid) is None}
        for uuid in (set_aside - self.set_aside) | deleted:
            story = self.world.story
            assert self.world.purge and uuid not in story.reserved and uuid not in story.foreign, uuid
            story.forget(uuid)
        self.set_aside = set_aside

    def _at(self, nth: int, any_request: bool, disturbance: int | str | tuple[str, int, int]) -> None:
        """Let it happen at the *nth* request, or the nth that writes."""
        count = iter(range(1, 1000))

        def tick() -> None:
            if next(count) != nth:
                return
            if isinstance(disturbance, tuple):
                self.world.interfere(*disturbance)
            else:
                self.server.fail_next("", disturbance)

        self.server.before("" if any_request else WRITES, tick, times=None)

    def _check_safety(self) -> None:
        """What holds at any moment, however badly the last pass went."""
        if self.world.root is None:
            return
        everything = {row.uuid: row for row in all_rows()}
        rows = self.world.view()
        for uuid, foreign in self.world.story.foreign.items():
            there = everything.get(uuid)
            assert there == foreign, f"{foreign.name} is not ours: {foreign} became {there}"
        for consumer, (uuid, rc) in self.world.story.claims.items():
            assert uuid in rows, f"the provider {uuid} of consumer {consumer} is gone"
            has = self.world.story.allocations(uuid)
            assert rows[uuid].allocations == has, rows[uuid]
            used = sum(amounts[rc] for amounts in has.values())
            assert rows[uuid].inventory.get(rc, (0, 0))[0] >= used, f"{rows[uuid]} lost units of {consumer}"
        for uuid in self.world.story.marked - self.world.story.foreign.keys():
            assert OPERATORS_OWN in rows[uuid].traits, f"an operator's trait is gone: {rows[uuid]}"
        for uuid in (self.world.story.reserved | self.world.story.drained) - self.world.story.foreign.keys():
            row = rows[uuid]
            assert uuid not in self.world.story.drained or DRAINED in row.traits, f"no longer drained: {row}"
            if uuid in self.world.story.reserved:
                assert row.inventory and not any(r < t for t, r in row.inventory.values()), f"not reserved: {row}"
        self.promises.check(
            {uuid: row for uuid, row in rows.items() if uuid not in self.world.story.foreign}, self._holders
        )
        self._check_groups(rows)

    def _holders(self, uuid: str) -> list[str]:
        """The consumers of a device, alone or as a member, by the UUID that its own provider has."""
        shares = self.reporter._remembered.pools.shares
        return self.world.story.holders(uuid) or [
            share.consumer
            for key, share in shares.items()
            if self.world.uuid(key) == uuid and share.consumer in self.world.story.claims
        ]

    def _check_groups(self, rows: dict[str, Row]) -> None:
        """No consumer has more members than it holds units, and no member of a consumer can be had alone."""
        shares = self.reporter._remembered.pools.shares
        for group in GROUPS:
            claims = self.world.story.allocations(self.world.uuid(group))
            mine = Counter(share.consumer for share in shares.values() if share.group == group)
            for consumer, has in claims.items():
                assert group.startswith("bundle_") or mine[consumer] <= sum(has.values()), (consumer, shares)
        for key, share in shares.items():
            row = rows.get(self.world.uuid(key))
            assert row is None or row.uuid in self.world.story.foreign or not row.is_free, (share, row)

    def _check_everything(self, last: Pass) -> None:
        """What holds once the agent is through."""
        rows = self.world.view()
        ports = {self.world.hardware.sys_name(port): port for port in self.world.plugged}
        assert ports.keys() == {each.device.sys_name for each in last.devices}
        verdicts = {ports[each.device.sys_name]: each for each in last.devices}
        expected: set[str] = set()
        at_hand: set[str] = set()
        members: dict[str, list[Assessment]] = {}
        for port, each in self.world.plugged.items():
            key = verdicts[port].identity.key
            uuid = str(verdicts[port].provider_uuid)
            if verdicts[port].group is not None or verdicts[port].stays:
                members.setdefault(uuid, []).append(verdicts[port])
                continue
            offer = self._offer(port, each, verdicts[port])
            assert verdicts[port].offered == (offer is not None), (port, verdicts[port].reason)
            if offer is None:
                if uuid in rows and rows[uuid].is_managed:
                    at_hand.add(uuid)
                    self._check_gone(rows[uuid], WITHDRAWN)
                continue
            at_hand.add(uuid)
            if uuid in self.world.story.foreign:
                assert any(note.blocks for note in last.notes)
                continue
            if uuid not in rows:
                assert self.world.is_taken(key) and any(note.blocks for note in last.notes), f"{key} is not reported"
                continue
            self._check_offered(rows[uuid], port, offer)
            if not rows[uuid].allocations and uuid not in self.world.story.reserved | self.world.story.drained:
                expected.add(uuid)
        for uuid, found in members.items():
            if any(each.verdict is not OfferReason.INCOMPLETE for each in found):
                at_hand.add(uuid)
            self._check_members(rows.get(uuid), found)
        expected |= {uuid for uuid in members if uuid in rows and rows[uuid].is_free}
        for uuid, row in rows.items():
            if row.is_managed and uuid not in at_hand:
                self._check_gone(row, ABSENT)
        free = {uuid for uuid, row in rows.items() if row.is_free and uuid not in self.world.story.foreign}
        assert free == expected, {uuid: rows.get(uuid) for uuid in free ^ expected}
        for rc in sorted({rc for uuid in expected for rc in rows[uuid].inventory}):
            query = f"resources={rc}:1&in_tree={self.world.root}&required={MANAGED}"
            offered = {uuid for candidate in self.server.candidates(query) for uuid in candidate}
            partly = {uuid for uuid, row in rows.items() if row.is_group and row.allocations}
            assert offered - partly == {uuid for uuid in expected if rc in rows[uuid].inventory}

    def _check_members(self, row: Row | None, members: list[Assessment]) -> None:
        """The provider of the pool, the bundle or the held device that waits for one has its units."""
        units = self._units(members)
        if row is None:
            assert not units, f"{members} is not reported"
        elif units:
            total = max(units, sum(sum(has.values()) for has in row.allocations.values()))
            assert list(row.inventory.values()) == [(total, total - units)], (units, row)
        else:
            is_there = any(each.verdict is not OfferReason.INCOMPLETE for each in members)
            self._check_gone(row, WITHDRAWN if is_there else ABSENT)

    def _units(self, members: list[Assessment]) -> int:
        """How many units these members of one pool or bundle are."""
        if members[0].group is None:
            return 0
        able = [each for each in members if each.offered and not each.stays]
        if members[0].group.startswith("pool_"):
            return len(able)
        return int(len(able) == len(members))

    def _check_what_it_asked(self, last: Pass) -> None:
        """A quiet pass asks for the tree, and for the holders of those providers that claims keep as they are."""
        assert {each.method for each in self.server.requests} == {"GET"}, self.server.requests
        assert last.requests == len(self.server.requests) <= 1 + len(self.world.story.claims)
        ordinary = {}
        for port in self.world.plugged:
            each = next(each for each in last.devices if each.device.sys_name == self.world.hardware.sys_name(port))
            if each.identity.key == self.oracle.key_by_rule(port) and each.offered:
                ordinary[self.world.uuid(each.identity.key)] = each.resource_class
        uses = {use for each in self.world.plugged.values() for use in each.use.uses}
        is_grouped = any(offer.group for _, offer in self.world.rules.by_vendor)
        if (
            not uses
            and not is_grouped
            and all(ordinary.get(uuid) == rc for uuid, rc in self.world.story.claims.values())
        ):
            assert last.requests == 1, self.server.requests

    def _offer(self, port: str, each: Plugged, verdict: Assessment) -> OfferRule | None:
        """The rule that must offer the device in *port*."""
        offer = self.world.rules.of(each.shown, port).offer
        if offer is None or not each.authorized or not each.settled or each.use is Use.MOUNTED:
            return None
        is_held = bool(self.world.story.holders(self.world.uuid(verdict.identity.key)))
        if each.use is Use.SIGNED and not is_held:
            return None
        if port in self.oracle.withheld:
            return None
        if offer.identity == "serial" and not is_held and not self.oracle.is_told_apart(port):
            return None
        return offer

    def _check_offered(self, row: Row, port: str, offer: OfferRule) -> None:
        usb_id = self.world.plugged[port].shown.usb_id
        reserved = int(row.uuid in self.world.story.reserved | self.world.story.drained)
        rc = next((rc for uuid, rc in self.world.story.claims.values() if uuid == row.uuid), offer.resource_class)
        assert row.inventory == {rc: (1, reserved)}, (port, row)
        vendor, product = usb_id.upper().split(":")
        required = {
            MANAGED,
            f"CUSTOM_USB_VENDOR_{vendor}",
            f"CUSTOM_USB_PRODUCT_{vendor}_{product}",
            "CUSTOM_USB_CLASS_MASS_STORAGE" if usb_id == DISK else "CUSTOM_USB_CLASS_HID",
            "CUSTOM_USB_SPEED_SUPER" if PORTS[port].is_usb3 else "CUSTOM_USB_SPEED_HIGH",
            *offer.traits,
            *([OPERATORS_OWN] if row.uuid in self.world.story.marked else []),
            *([EDITORS_OWN] if row.uuid in self.world.story.edited else []),
            *([DRAINED] if row.uuid in self.world.story.drained else []),
        }
        allowed = set(SITES) if row.uuid in self.world.story.was_disowned else set()
        assert required <= row.traits <= required | allowed, (port, row.traits ^ required)

    def _check_gone(self, row: Row, state: str) -> None:
        """What is left of a device that is not offered cannot be allocated, and says why."""
        assert not any(reserved < total for total, reserved in row.inventory.values()), row
        assert row.traits & {ABSENT, WITHDRAWN} == {state}, row
        keeps = row.allocations or row.uuid in self.world.story.reserved | self.world.story.drained
        assert keeps or not row.inventory, row

    def _names_taken(self, last: Pass) -> bool:
        return any(note.topic.startswith("name:") for note in last.notes)


@contextlib.contextmanager
def _own_randomness() -> Iterator[None]:
    """Hypothesis seeds :mod:`random` alike for each story, but oslo.db's fixture takes names from there."""
    state = random.getstate()
    random.seed()
    yield
    random.setstate(state)


class _Watched(Reporter):
    """A reporter whose every look is judged, also those of passes that fail later."""

    oracle: KeyOracle

    def _look(self) -> Any:
        self.oracle.looks()
        look = super()._look()
        self.oracle.judge(look.devices, look.tree, self._remembered.pools.shares)
        return look


@pytest.fixture
def machine(placement_server: PlacementServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Host]]:
    """The state machine on the one server, with a database for each story, and with nothing to wait for."""
    http = with_token(placement_server.endpoint, placement_server.token, PlacementClient.service)
    no_time = types.SimpleNamespace(sleep=lambda seconds: None)
    monkeypatch.setattr(purge, "datetime", types.SimpleNamespace(datetime=_Tomorrow, UTC=datetime.UTC))
    monkeypatch.setattr(observe, "QUIET_LOOKS", 2)  # so that a story soon comes to rest after a restart
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
            database=None,
            print_blob=True,
            suppress_health_check=list(hypothesis.HealthCheck),
        ),
    )
