"""What 10,000 agents and nova-computes ask of Placement at once: requests a second and waiting times, simulated.

::

    python -m tests.bench.fleet_load                  with the service times that fleet.py measured once
    python -m tests.bench.fleet_load --times FILE     with those that "python -m tests.bench.fleet --times FILE" wrote

Each Placement process serves one request at a time, in the order in which they come. Agents make quiet passes, follow
plugs and are restarted now and then. nova-compute asks one request after another: once a minute for the allocations of
each provider of its tree (SchedulerReportClient.get_allocations_for_provider_tree()), and every five minutes for the
tree, and for inventory, aggregates and traits of each provider (_refresh_associations()).
"""

import argparse
import dataclasses
import json
import random
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path

import simpy
from rich.table import Table

from tests.bench import fleet_table
from usb_provider.agent.loop import start_delay
from usb_provider.conf import agent

Steps = Generator[simpy.Event, object, None]

NOVA, QUIET, PLUG, START = "nova-compute", "quiet passes", "hotplugs", "starts"
INTERVAL = 60.0
"""Seconds: resync_interval of the agent, and update_resources_interval of nova-compute."""

REFRESH_PASSES = 5
"""So many intervals are nova-compute's resource_provider_association_refresh, 300 s."""

START_SPREAD = float(next(option.default for option in agent.opts if option.name == "start_spread"))


@dataclass(frozen=True)
class Times:
    """Seconds of a Placement process for one request: of nova-compute for one provider, and the agent's."""

    one: float
    tree: float
    summary: float
    write: float


MEASURED = {
    "single": Times(one=0.0074, tree=0.0083, summary=0.0167, write=0.0183),
    "pooled": Times(one=0.0077, tree=0.0073, summary=0.0207, write=0.0235),
}
"""As ``python -m tests.bench.fleet --times FILE`` has measured on the machine of docs/scaling.md."""


@dataclass(frozen=True)
class Cloud:
    """The hosts, what they ask, and the Placement.

    :ivar processes: Placement's, of all controllers together.
    :ivar plugs: plugs and unplugs of a host in an hour; *restarts* of its agent in a day.
    :ivar boot: the seconds over which hosts boot after a power cut.
    :ivar outage: the seconds from the first boot until Placement answers.
    :ivar spread: [agent]start_spread.
    :ivar jitter: whether an agent's second pass comes at a random time of its first interval.
    """

    hosts: int
    providers: int
    times: Times
    processes: int
    with_nova: bool = True
    plugs: float = 1.0
    restarts: float = 1.0
    power_cut: bool = False
    boot: float = 1.0
    outage: float = 0.0
    spread: float = START_SPREAD
    jitter: bool = True

    @property
    def has_idle_devices(self) -> bool:
        """Whether a host has a provider that nothing holds, which a pool hardly is."""
        return self.providers > 2


@dataclass
class Seen:
    """What came out: waits and busy seconds by kind, and the requests that arrived in each second."""

    waits: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    busy: Counter[str] = field(default_factory=Counter)
    arrivals: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))

    def of(self, kind: str, first: float, last: float) -> Counter[int]:
        """The requests of *kind* by second, of the seconds from *first* to *last*."""
        return Counter({second: n for second, n in self.arrivals[kind].items() if first <= second < last})


class Simulation:
    """One run."""

    def __init__(self, cloud: Cloud, seed: int = 1) -> None:
        self._cloud = cloud
        self._random = random.Random(seed)
        self._world = simpy.Environment()
        self._placement = simpy.Resource(self._world, cloud.processes)
        self.seen = Seen()

    def run(self, seconds: float) -> Seen:
        """Simulate so many seconds."""
        for _ in range(self._cloud.hosts):
            self._world.process(self._agent())
            if self._cloud.with_nova:
                self._world.process(self._nova())
        self._world.run(until=seconds)
        return self.seen

    def _request(self, kind: str, seconds: float) -> Steps:
        asked = self._world.now
        self.seen.arrivals[kind][int(asked)] += 1
        with self._placement.request() as turn:
            yield turn
            self.seen.waits[kind].append(self._world.now - asked)
            # Requests differ: between half and one and a half of the mean.
            served = seconds * self._random.uniform(0.5, 1.5)
            self.seen.busy[kind] += served
            yield self._world.timeout(served)

    def _agent(self) -> Steps:
        cloud, world = self._cloud, self._world
        if cloud.power_cut:
            yield world.timeout(self._random.uniform(0, cloud.boot))
            yield world.timeout(start_delay(cloud.spread, 0.0, self._random.random))
            yield from self._until_placement_answers()
            yield from self._start()
            yield world.timeout(INTERVAL * (self._random.random() if cloud.jitter else 1.0))
        else:
            yield world.timeout(INTERVAL * self._random.random())
        a_minute = INTERVAL / 3600
        while True:
            if self._random.random() < cloud.restarts / 24 * a_minute:
                yield from self._start()
            elif self._random.random() < cloud.plugs * a_minute:
                yield from self._plug()
            else:
                yield from self._request(QUIET, cloud.times.tree)
            yield world.timeout(INTERVAL)

    def _until_placement_answers(self) -> Steps:
        """As the agent's loop does: pauses at random below a limit that doubles up to a minute."""
        attempt = 0
        while self._world.now < self._cloud.outage:
            self.seen.arrivals["refused"][int(self._world.now)] += 1
            yield self._world.timeout(self._random.uniform(0, min(60.0, 2.0**attempt)))
            attempt += 1

    def _start(self) -> Steps:
        """The root, the tree, summaries of idle devices, and three for what is held: one device, or the pool.

        The agent asks for existing names only when it writes something.
        """
        times = self._cloud.times
        yield from self._request(START, times.tree)
        yield from self._request(START, times.tree)
        if self._cloud.has_idle_devices:
            yield from self._request(START, times.summary)
        for _ in range(3):
            yield from self._request(START, times.one)

    def _plug(self) -> Steps:
        """A pass, and the writes of traits and inventory of one provider."""
        yield from self._request(PLUG, self._cloud.times.tree)
        yield from self._request(PLUG, self._cloud.times.write)
        yield from self._request(PLUG, self._cloud.times.write)

    def _nova(self) -> Steps:
        cloud, world = self._cloud, self._world
        if cloud.power_cut:
            yield world.timeout(self._random.uniform(0, cloud.boot))
            number = 0
        else:
            yield world.timeout(INTERVAL * self._random.random())
            number = self._random.randrange(REFRESH_PASSES)
        while True:
            began = world.now
            if number % REFRESH_PASSES == 0:
                yield from self._request(NOVA, cloud.times.tree)
                for _ in range(3 * cloud.providers):
                    yield from self._request(NOVA, cloud.times.one)
            for _ in range(cloud.providers):
                yield from self._request(NOVA, cloud.times.one)
            number += 1
            yield world.timeout(max(0.0, INTERVAL - (world.now - began)))


def _milliseconds(values: list[float], cut: int) -> str:
    return f"{statistics.quantiles(values, n=100, method='inclusive')[cut - 1] * 1000:.0f}" if len(values) > 1 else ""


def steady(cloud: Cloud, seconds: float, table: Table, name: str) -> None:
    """Rows about a usual time: each kind's requests a second, the processes that it keeps busy, and its waits."""
    seen = Simulation(cloud).run(seconds)
    for kind in (NOVA, QUIET, PLUG, START):
        if waits := seen.waits.get(kind):
            table.add_row(
                name,
                kind,
                f"{len(waits) / seconds:.1f}",
                f"{seen.busy[kind] / seconds:.2f}",
                *(_milliseconds(waits, cut) for cut in (50, 99)),
            )


def power_cut(cloud: Cloud, table: Table, name: str) -> None:
    """A row about a boot of all hosts at once: how much comes in a second, and when the agents have been served."""
    cloud = dataclasses.replace(cloud, power_cut=True, with_nova=False, plugs=0, restarts=0)
    end = int(cloud.outage + 60 + 5 * INTERVAL)
    seen = Simulation(cloud).run(end)
    starts, late = seen.arrivals[START], seen.of(QUIET, end - 2 * INTERVAL, end)
    table.add_row(
        name,
        str(max(starts.values())),
        f"{max(starts) - cloud.outage:.0f}",
        f"{max(seen.waits[START]):.1f}",
        f"{sum(late.values()) / (2 * INTERVAL):.0f}",
        str(max(late.values(), default=0)),
        _milliseconds(seen.waits[QUIET][-int(2 * cloud.hosts) :], 99),
    )


def beside_nova(cloud: Cloud, table: Table, name: str, seconds: float = 120.0) -> None:
    """A row about such a boot where every nova-compute starts in the same second, too."""
    cloud = dataclasses.replace(cloud, power_cut=True, plugs=0, restarts=0)
    seen = Simulation(cloud).run(seconds)
    starts, nova = seen.arrivals[START], seen.arrivals[NOVA]
    table.add_row(
        name,
        str(max(nova.values())),
        f"{sum(nova.values()):,}",
        f"{sum(starts.values()):,}",
        f"{max(starts)}",
        f"{max(seen.waits[START]):.1f}",
    )


def main(arguments: list[str] | None = None) -> int:
    """Print two tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.fleet_load", description=__doc__.partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=10_000)
    parser.add_argument("--devices", type=int, default=16, help="of each host")
    parser.add_argument("--processes", type=int, default=64, help="of Placement, on all controllers (default 64)")
    parser.add_argument("--seconds", type=float, default=300, help="simulated seconds of the usual time (default 300)")
    parser.add_argument("--times", type=Path, help="measured service times")
    options = parser.parse_args(arguments)
    times = MEASURED
    if options.times:
        times = {name: Times(**each) for name, each in json.loads(options.times.read_text()).items()}

    def cloud(name: str, **more: float | bool) -> Cloud:
        providers = 1 + (options.devices if name == "single" else 1)
        made = Cloud(options.hosts, providers, times[name], options.processes)
        return dataclasses.replace(made, **more)  # type: ignore[arg-type]

    usual = fleet_table.made(
        "a usual time", "asked by", "requests/s", "processes busy", "wait p50: ms", "p99: ms", left=2
    )
    for name in ("single", "pooled"):
        steady(cloud(name), options.seconds, usual, name)
    fleet_table.show(usual)

    after = fleet_table.made(
        "all hosts boot at once",
        "starts: most requests/s",
        "last: s",
        "longest wait: s",
        "later passes/s",
        "most/s",
        "wait p99: ms",
    )
    cases: tuple[tuple[str, Callable[[str], Cloud]], ...] = (
        ("at once", lambda name: cloud(name, spread=0.0, jitter=False)),
        ("start_spread 0", lambda name: cloud(name, spread=0.0)),
        ("as it is", cloud),
        ("as it is, Placement 2 min later", lambda name: cloud(name, outage=120.0)),
    )
    for what, made in cases:
        for name in ("single", "pooled"):
            power_cut(made(name), after, f"{name}, {what}")
    fleet_table.show(after)

    beside = fleet_table.made(
        "all hosts boot at once, with nova-compute",
        "nova-compute: most requests/s",
        "its requests in 2 min",
        "agents' starts: requests",
        "last: s",
        "longest wait: s",
    )
    for name in ("single", "pooled"):
        beside_nova(cloud(name), beside, name)
    fleet_table.show(beside)
    return 0


if __name__ == "__main__":
    sys.exit(main())
