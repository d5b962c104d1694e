"""What people, devices and hosts do, in any order: no thing is promised twice, and each claim stays with its thing.

The pure model lives through the stories, without a Placement. The oracle and the promises are those of the reporter's
state machine (tests/functional/agent/reporter/test_state_machine.py). To tell more stories::

    USB_PROVIDER_STORIES=20000 pytest tests/unit/model/reporting/test_stories.py
"""

import dataclasses
import json
import os
from collections.abc import Callable
from functools import cache

import hypothesis
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fixtures.applier import carried_out
from tests.fixtures.builders import ROOT, a_consumer, a_tree
from tests.fixtures.reporter_machine.hardware import PORTS, THINGS, Hardware, pick
from tests.fixtures.reporter_machine.oracle import KeyOracle
from tests.fixtures.reporter_machine.promises import Promises
from tests.fixtures.reporter_machine.rules import RULE_CHANGES, Rules
from tests.fixtures.reporter_machine.tables import Row
from usb_provider.model.devices.sightings import Sightings
from usb_provider.model.devices.spec import parse_specs
from usb_provider.model.reporting.host_state import HostState, ReportSettings
from usb_provider.model.reporting.plan import diff
from usb_provider.model.reporting.provider import provider_uuid
from usb_provider.model.reporting.tree import ObservedProvider

STORIES = int(os.environ.get("USB_PROVIDER_STORIES", "60"))

Step = tuple[str, int, int]
EVENTS = (
    *("pass", "pass", "interrupted pass", "claim", "release") * 2,
    *("plug", "unplug", "move", "mode", "serial") * 2,
    *("speed", "reboot", "restart", "rules", "devnum", "mounted", "unused", "authorized", "settled"),
)
steps = st.tuples(st.sampled_from(EVENTS), st.integers(0, 11), st.integers(0, 11))
placed = st.tuples(st.sampled_from(sorted(THINGS)), st.sampled_from(sorted(PORTS)))


@cache
def settings(rules: Rules) -> ReportSettings:
    return ReportSettings(specs=parse_specs(rules.texts()))


class Host:
    """A host, the agent's memory, and Placement's tree of it."""

    def __init__(self) -> None:
        self.hardware = Hardware()
        self.rules = Rules()
        self.tree = a_tree()
        self.sightings = Sightings()
        self.oracle = KeyOracle(self.hardware, lambda: self.rules, lambda key: provider_uuid(ROOT.uuid, key))
        self.promises = Promises(self.oracle)
        self.oracle.also.append(self.promises.judge)
        self._claims = 0

    def go(self, what: str, at: int, other: int) -> None:
        if what == "pass":
            self.make_a_pass()
        elif what == "interrupted pass":
            self.make_a_pass(writes=other)
        elif what == "claim":
            self._claim(at)
        elif what == "release":
            held = self._providers(lambda each: each.allocated)
            if held:
                self._put(dataclasses.replace(pick(held, at), allocations={}))
        elif what == "rules":
            self.rules = RULE_CHANGES[at](self.rules)
        elif what == "restart":
            self.sightings = Sightings.from_json(json.loads(json.dumps(self.sightings.to_json())))
        else:
            self.hardware.happen(what, at, other)

    def make_a_pass(self, writes: int | None = None) -> None:
        """A pass of the agent, which does no more than *writes* actions of its plan."""
        self.oracle.looks()
        self.sightings = self.sightings.moved(self._state().is_offered)
        state = self._state()
        found = state.assess(self.hardware.devices())
        self.sightings = state.sightings_after(found)
        self.oracle.judge(found, self.tree)
        plugged = {each.provider_uuid for each in found if each.provider_uuid}
        plan = diff(self.tree, [each.desired for each in found if each.desired], plugged=plugged)
        self.tree = carried_out(plan.actions[:writes], self.tree)
        self.sightings = self.sightings.moved(self._state().is_offered)
        rows = {uuid: _row(each) for uuid, each in self.tree.providers.items()}
        self.oracle.note_who_has_moved(rows)
        self.promises.check(rows, lambda uuid: rows[uuid].allocations if uuid in rows else ())

    def _state(self) -> HostState:
        return HostState(self.tree, self.sightings, settings(self.rules))

    def _claim(self, at: int) -> None:
        free = self._providers(lambda each: _row(each).is_free)
        if free:
            self._claims += 1
            provider = pick(free, at)
            unit = dict.fromkeys(provider.inventories, 1)
            self._put(dataclasses.replace(provider, allocations={a_consumer(str(self._claims)): unit}))

    def _providers(self, suits: Callable[[ObservedProvider], bool]) -> list[ObservedProvider]:
        return sorted((each for each in self.tree.providers.values() if suits(each)), key=lambda each: each.name)

    def _put(self, provider: ObservedProvider) -> None:
        self.tree = dataclasses.replace(self.tree, providers={**self.tree.providers, provider.uuid: provider})


def _row(each: ObservedProvider) -> Row:
    inventory = {name: (held.total, held.reserved) for name, held in each.inventories.items()}
    allocations = {consumer: dict(held) for consumer, held in each.allocations.items()}
    return Row(
        each.uuid, each.name, each.generation, ROOT.uuid, ROOT.uuid, inventory, frozenset(each.traits), allocations
    )


# What random stories found once: the place is taken by a path of the last boot, by a device of the other half of the
# socket, by a twin that has its serial key back.
A_PATH_OF_THE_LAST_BOOT: list[Step] = [
    *(("reboot", 2, 6), ("pass", 5, 9), ("move", 0, 1), ("serial", 0, 5), ("claim", 6, 4), ("reboot", 0, 0)),
]
THE_OTHER_HALF: list[Step] = [("pass", 0, 0), ("claim", 9, 0), ("unplug", 11, 4), ("plug", 2, 5)]
A_TWIN_THAT_STAYS: list[Step] = [("pass", 0, 0), ("claim", 0, 0), ("unplug", 0, 0), ("pass", 0, 0), ("pass", 0, 0)]


@hypothesis.settings(max_examples=STORIES, deadline=None, print_blob=True)
@given(st.lists(placed, min_size=2, max_size=6), st.lists(steps, max_size=25))
@example([("key", "a1")], A_PATH_OF_THE_LAST_BOOT)
@example([("bare-too", "c1"), ("triplet", "a2")], THE_OTHER_HALF)
@example([("key", "a1"), ("twin", "a2")], A_TWIN_THAT_STAYS)
def test_whatever_happens_no_thing_is_promised_twice(begin: list[tuple[str, str]], story: list[Step]) -> None:
    host = Host()
    for thing, port in begin:
        if port in host.hardware.free_ports() and thing not in {each.thing for each in host.hardware.plugged.values()}:
            host.hardware.plug(thing, port)
    for step in [*story, ("pass", 0, 0), ("pass", 0, 0)]:
        host.go(*step)
