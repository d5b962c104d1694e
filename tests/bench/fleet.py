"""What a whole cloud costs: nova's queries, the agent's quiet pass and ``openstack usb``, on a real Placement.

::

    python -m tests.bench.fleet                    1000 hosts with 16 devices each, single and pooled
    python -m tests.bench.fleet --hosts 10000      takes some gigabytes of memory, and half an hour
    python -m tests.bench.fleet --only nova --only "device list"
                                                   a part of it
    python -m tests.bench.fleet --check            exit code 1 when a figure is past its limit
    python -m tests.bench.fleet --times FILE       writes the service times for "python -m tests.bench.fleet_load"

Placement runs on MariaDB, in two processes. ``seconds`` are the median of some runs, by the clock. ``CPU s`` are the
processor seconds of the command, Placement and MariaDB together: on a machine that does other things too, these say
more. ``its own`` are those of the same GETs by a client that throws the answers away, in turn with the command. ``MiB``
is the largest resident memory of the command. Limits are on processor seconds, on their ratios, and on memory.
"""

import argparse
import contextlib
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from tests.bench import fleet_rows, fleet_table
from tests.bench.fleet_cloud import TOKEN, BenchPlacement, Served, running_placement
from tests.bench.fleet_load import Times
from tests.bench.fleet_rows import KEY, Shape, host_name, host_uuid, servers
from tests.fixtures.keystone import Keystone
from tests.fixtures.openstack import Nova
from usb_provider.agent.reporter import Reporter
from usb_provider.agent.store import StateStore
from usb_provider.model.devices.device import Speed, UsbDevice
from usb_provider.model.devices.spec import parse_specs
from usb_provider.model.reporting.host_state import ReportSettings
from usb_provider.openstack.session import with_token
from usb_provider.osc.model.flavor import Size, parse_extra_specs
from usb_provider.placement.client import PlacementClient
from usb_provider.placement.observe import QUIET_LOOKS
from usb_provider.placement.root import RootFinder, RootHints

LISTING_LIMIT = 1.5
"""How many times Placement's own answers ``device list`` may take."""

LARGE = 10
"""Where Placement's own answers take less than so many starts of ``openstack``, its start is not counted."""

LISTING_MIB_LIMIT = 450
FEW_LIMIT = 3.0
"""Seconds of a listing of few devices."""

NOVA_POOLED_LIMIT = 1.1
NOVAS_LIMIT = "1000"
NOVAS_MICROVERSION = "1.36"

NO_USB, ONE, TWO = "no USB", "one device", "two devices"
START = "--help"
"""What makes a command end when Python, openstackclient and the plugin are loaded."""

KINDS = ("single", "pooled")
_FINE_SECONDS = 3.0
_MOST_ROUNDS = 30
_PASSES = 30
"""The kernel counts a process's time in hundredths of a second, so what takes less is measured so often."""

FEW = (
    ("device", "list", "--state", "drained"),
    ("device", "list", "--trait", "CUSTOM_USB_VENDOR_2C7C"),
    ("device", "list", "--resource-class", "MODEM"),
    ("device", "list", "--state", "free", "--resource-class", "MODEM"),
)
"""The listings that give few devices of a large cloud."""

MEASURED_HOST = 1
"""A host without a drained or an absent device, where the agent's passes and --host are measured."""


@dataclass(frozen=True)
class Figures:
    """One measurement. ``own_seconds`` and ``own_cpu`` are those of the same GETs without the command."""

    seconds: float
    cpu: float
    requests: int
    bytes: int
    memory_mib: float | None = None
    own_seconds: float | None = None
    own_cpu: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times the processor seconds of Placement's own answers."""
        return self.cpu / self.own_cpu if self.own_cpu else None


@dataclass
class Report:
    """All figures by name, single and pooled, and what is past its limit."""

    figures: dict[str, dict[str, Figures]] = field(default_factory=dict)
    exceeded: list[str] = field(default_factory=list)

    def put(self, name: str, kind: str, figures: Figures) -> None:
        """Enter *figures*."""
        self.figures.setdefault(name, {})[kind] = figures

    def judge(self, what: str, value: float, limit: float) -> None:
        """Compare *value*."""
        if value > limit:
            self.exceeded.append(f"{what}: {value:.2f} is past {limit:g}")

    def print(self) -> None:
        """Print one table."""
        table = fleet_table.made("", "", "seconds", "CPU s", "its own", "ratio", "requests", "MB", "MiB", left=2)
        for name, kinds in self.figures.items():
            for number, (kind, each) in enumerate(kinds.items()):
                table.add_row(
                    name if number == 0 else "",
                    kind,
                    f"{each.seconds:.2f}",
                    f"{each.cpu:.2f}",
                    "" if each.own_cpu is None else f"{each.own_cpu:.2f}",
                    "" if each.ratio is None else f"{each.ratio:.2f}",
                    str(each.requests),
                    f"{each.bytes / 1e6:.2f}",
                    "" if each.memory_mib is None else f"{each.memory_mib:.0f}",
                )
        fleet_table.show(table)


@dataclass(frozen=True)
class _Spent:
    seconds: float
    cpu: float
    served: tuple[Served, ...]
    memory_mib: float | None = None


class FleetBench:
    """One Placement, filled, with all that is measured on it."""

    def __init__(
        self, placement: BenchPlacement, shape: Shape, directory: Path, repeats: int, only: Sequence[str] = ()
    ) -> None:
        """Fill *placement*. *only* are texts of which one is in the name of what is to be measured; none means all."""
        self._placement = placement
        self._shape = shape
        self._directory = directory
        self._repeats = repeats
        self._only = only
        self._kind = "pooled" if shape.pooled else "single"
        type_id = placement.type_id()
        placement.fill(
            lambda classes, traits: fleet_rows.rows(shape, classes, traits, type_id), new_names=fleet_rows.NEW_NAMES
        )

    def measure(self, report: Report) -> None:
        """Everything, into *report*."""
        if self._is_wanted("agent"):
            say(f"{self._kind}: the agent's passes")
            report.put("agent: start", self._kind, self._start())
            report.put("agent: quiet pass", self._kind, self._quiet_pass())
        commands = [words for words in self._commands() if self._is_wanted(" ".join(words))]
        with self._client() if commands else contextlib.nullcontext({}) as environment:
            for words in commands:
                say(f"{self._kind}: openstack usb {' '.join(words)}")
                report.put(" ".join(words), self._kind, self._command(words, environment))
        if self._is_wanted("nova"):
            self._nova(report)

    def _is_wanted(self, name: str) -> bool:
        return not self._only or any(text in name for text in self._only)

    def times(self) -> Times:
        """The mean processor seconds of the requests that the simulation makes, of one after another."""
        root = host_uuid(MEASURED_HOST)
        paths = {
            "one": f"/resource_providers/{root}/inventories",
            "tree": f"/resource_providers?in_tree={root}",
            "summary": f"/allocation_candidates?resources=MEMORY_MB:1&in_tree={root}&limit=1",
        }
        found = {name: self._mean(lambda path=path: self._get(path)) for name, path in paths.items()}
        return Times(**found, write=self._mean(self._write))

    def _mean(self, do: Callable[[], object], times: int = 100) -> float:
        before = processors()
        for _ in range(times):
            do()
        return (processors() - before) / times

    def _get(self, path: str) -> None:
        with self._placement.session() as session:
            session.get(self._placement.endpoint + path).raise_for_status()

    def _write(self) -> None:
        """One PUT of what is there already."""
        path = f"{self._placement.endpoint}/resource_providers/{host_uuid(0)}/inventories"
        with self._placement.session() as session:
            body = session.get(path).json()
            session.put(path, json=body).raise_for_status()

    def _flavors(self) -> dict[str, dict[str, str]]:
        """Extra specs by what is measured."""
        one = {f"resources:{KEY}": "1"}
        groups = {f"resources_USB1:{KEY}": "1", f"resources_USB2:{KEY}": "1", "group_policy": "none"}
        two = {f"resources:{KEY}": "2"}
        return {
            NO_USB: {},
            ONE: one,
            TWO: two if self._shape.pooled else groups,
            "two in one group": two,
        }

    def _nova(self, report: Report) -> None:
        """Nova's queries, in turn: at least as often as asked for, and until the clock of processors is fine enough."""
        asks = {name: self._asks(specs) for name, specs in self._flavors().items()}
        spent: dict[str, list[_Spent]] = {name: [] for name in asks}
        rounds = 0
        while rounds < self._repeats or (rounds < _MOST_ROUNDS and _total(spent[NO_USB]) < _FINE_SECONDS):
            for name, ask in asks.items():
                say(f"{self._kind}: nova's query: {name}")
                spent[name].append(self._spent(ask))
                report.put(f"nova: {name}", self._kind, self._figures(spent[name]))
            rounds += 1

    def _asks(self, extra_specs: dict[str, str]) -> Callable[[], None]:
        query = parse_extra_specs(extra_specs, Size(1, 256, 1)).query()

        def ask() -> None:
            with self._placement.session(NOVAS_MICROVERSION) as session:
                url = f"{self._placement.endpoint}/allocation_candidates"
                session.get(url, params=[*query, ("limit", NOVAS_LIMIT)]).raise_for_status()

        return ask

    def _start(self) -> Figures:
        """The first pass of an agent that finds what it left."""
        with self._reporters() as made:
            return self._figures([self._spent(made().run) for _ in range(_PASSES)])

    def _quiet_pass(self) -> Figures:
        """The agent's own pass that finds no change, once it has read in full what summaries described at its start."""
        with self._reporters() as made:
            one = made()
            for _ in range(1 + min(self._shape.devices, QUIET_LOOKS)):
                one.run()
            return self._figures([self._spent(one.run) for _ in range(_PASSES)])

    @contextlib.contextmanager
    def _reporters(self) -> Iterator[Callable[[], Reporter]]:
        """What makes reporters of one host, as agents that are started one after another."""
        client = PlacementClient(with_token(self._placement.endpoint, TOKEN, PlacementClient.service))
        with ThreadPoolExecutor(8) as executor:
            yield lambda: reporter(client, self._shape, MEASURED_HOST, self._directory, executor)

    def _commands(self) -> Sequence[tuple[str, ...]]:
        return (
            ("device", "list", START),
            ("device", "list"),
            *FEW,
            ("device", "list", "--host", host_name(MEASURED_HOST)),
            ("host", "list"),
            ("flavor", "check", "one-device"),
            ("audit",),
        )

    @contextlib.contextmanager
    def _client(self) -> Iterator[dict[str, str]]:
        """The environment of an operator's client, with a Keystone, and a Nova that has the hosts and the servers."""
        keystone, nova = Keystone(), Nova()
        nova.flavor("one-device", **{f"resources__{KEY}": "1", "hw__usb_model": "qemu-xhci"})
        for host in range(self._shape.hosts):
            nova.hypervisors.append({"id": host_uuid(host), "hypervisor_hostname": host_name(host)})
        for uuid, host in servers(self._shape):
            specs = {f"resources:{KEY}": "1"}
            nova.server(uuid, flavor=specs, host=host_name(host), id=uuid)
        with nova.serving(), contextlib.closing(keystone):
            keystone.token = TOKEN
            keystone.catalogue = {"placement": self._placement.endpoint, "compute": f"{nova.url}/v2.1"}
            clouds = self._directory / "clouds.yaml"
            auth = {name: value for name, value in keystone.options().items() if name != "auth_type"}
            clouds.write_text(json.dumps({"clouds": {"bench": {"auth": auth, "interface": "internal"}}}))
            yield {"OS_CLIENT_CONFIG_FILE": str(clouds), "OS_CLOUD": "bench"}

    def _command(self, words: Sequence[str], environment: dict[str, str]) -> Figures:
        whole = words in (("device", "list"), ("host", "list"))
        runs, own = [], []
        for _ in range(self._repeats if whole else 1):
            runs.append(self._run(words, environment))
            if whole:
                # A lambda, since each run is replayed before the next one.
                own.append(self._spent(lambda asked=runs[-1].served: self._placement.replay(asked)))
        return self._figures(runs, own)

    def _run(self, words: Sequence[str], environment: dict[str, str]) -> _Spent:
        """The real client in a process of its own."""
        usage: list[resource.struct_rusage] = []
        peak = self._directory / "client.mib"

        def run() -> None:
            as_json = () if START in words else ("-f", "json")
            command = [sys.executable, "-m", "tests.bench.fleet_client", str(peak), "usb", *words, *as_json]
            with (self._directory / "client.err").open("wb") as errors:
                process = subprocess.Popen(
                    command,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    env={**os.environ, **environment},
                    cwd=Path(__file__).parents[2],
                )
                _, status, used = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode not in (0, 1) or (process.returncode and words[0] == "device"):
                raise RuntimeError((self._directory / "client.err").read_text()[-2000:])
            usage.append(used)

        spent = self._spent(run)
        (used,) = usage
        cpu = used.ru_utime + used.ru_stime
        return _Spent(spent.seconds, spent.cpu + cpu, spent.served, float(peak.read_text()))

    def _spent(self, do: Callable[[], object]) -> _Spent:
        before, own_before, started = processors(), time.thread_time(), time.perf_counter()
        served = self._placement.served(do)
        seconds, own = time.perf_counter() - started, time.thread_time() - own_before
        return _Spent(seconds, processors() - before + own, tuple(served))

    def _figures(self, runs: Sequence[_Spent], own: Sequence[_Spent] = ()) -> Figures:
        middle, mean = statistics.median, statistics.fmean
        return Figures(
            middle(run.seconds for run in runs),
            mean(run.cpu for run in runs),
            len(runs[-1].served),
            sum(each.bytes for each in runs[-1].served),
            max((run.memory_mib for run in runs if run.memory_mib is not None), default=None),
            middle(run.seconds for run in own) if own else None,
            mean(run.cpu for run in own) if own else None,
        )


def _total(runs: Sequence[_Spent]) -> float:
    return sum(run.cpu for run in runs)


def processors() -> float:
    """The processor seconds of Placement and MariaDB so far, which are this process's only children now."""
    total = 0.0
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            used = child.cpu_times()
            total += used.user + used.system
    return total


def keys(shape: Shape, host: int) -> list[UsbDevice]:
    """The devices that the agent of *host* sees."""
    return [
        UsbDevice(
            sys_path=f"/sys/devices/pci0000:00/0000:00:14.0/usb1/1-{device + 1}",
            sys_name=f"1-{device + 1}",
            vendor_id="1050",
            product_id="0407",
            busnum=1,
            devnum=device + 2,
            serial=fleet_rows.serial(host, device),
            interfaces=(("03", "01", "01"), ("0b", "00", "00")),
            speed=Speed.FULL,
            port_path=str(device + 1),
            controller="0000:00:14.0",
        )
        for device in range(shape.devices)
    ]


def reporter(
    client: PlacementClient, shape: Shape, host: int, directory: Path, executor: ThreadPoolExecutor
) -> Reporter:
    """The reporter of one host, whose rule makes single devices or a pool of them."""
    pool = {"pool": fleet_rows.POOL} if shape.pooled else {}
    specs = parse_specs([json.dumps({"vendor_id": "1050", "resource_class": KEY} | pool)])
    devices = tuple(keys(shape, host))
    return Reporter(
        lambda fresh=False: devices,
        client,
        RootFinder(client, RootHints(uuid=host_uuid(host))),
        ReportSettings(specs=specs),
        store=StateStore(directory / f"state-{host}-{'pooled' if shape.pooled else 'single'}"),
        executor=executor,
    )


def judge(report: Report) -> None:
    """Compare with the limits."""
    figures = report.figures

    for kind, listing in figures.get("device list", {}).items():
        own, start = listing.own_cpu or 0.0, figures[f"device list {START}"][kind].cpu
        uncounted = start if own < LARGE * start else 0.0
        report.judge(f"device list, {kind}: ratio", (listing.cpu - uncounted) / own, LISTING_LIMIT)
        report.judge(f"device list, {kind}: MiB", listing.memory_mib or 0.0, LISTING_MIB_LIMIT)
        for words in FEW:
            few = figures.get(" ".join(words), {}).get(kind)
            if few is not None:
                report.judge(f"{' '.join(words)}, {kind}: CPU s", few.cpu - uncounted, FEW_LIMIT)
    pooled = {name: figures.get(f"nova: {name}", {}).get("pooled") for name in (NO_USB, ONE, TWO)}
    without = pooled.pop(NO_USB)
    for name, query in pooled.items():
        if query is not None and without is not None:
            report.judge(f"nova, pooled: {name} / {NO_USB}", query.cpu / without.cpu, NOVA_POOLED_LIMIT)


def say(text: str) -> None:
    """Tell what is being measured."""
    print(f"measuring: {text}", file=sys.stderr, flush=True)


def run(
    hosts: int,
    devices: int,
    *,
    repeats: int,
    times: Path | None = None,
    only: Sequence[str] = (),
    kinds: Sequence[str] = KINDS,
    report: Report | None = None,
) -> Report:
    """Measure a cloud of *hosts* with *devices* each, single and pooled; *only* as of :class:`FleetBench`.

    *report* gets each figure as soon as it is measured.
    """
    report = report or Report()
    measured = {}
    with tempfile.TemporaryDirectory(prefix="bench-fleet-") as name:
        buffer_pool = f"{min(2048, max(64, hosts * devices // 160))}M"
        with running_placement(buffer_pool=buffer_pool) as placement:
            for kind in kinds:
                pooled = kind == "pooled"
                say(f"{kind}: filling {hosts} hosts with {devices} devices")
                bench = FleetBench(placement, Shape(hosts, devices, pooled), Path(name), repeats, only)
                bench.measure(report)
                if times is not None:
                    measured[kind] = asdict(bench.times())
    if times is not None:
        times.write_text(json.dumps(measured, indent=2) + "\n")
    return report


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.fleet", description=__doc__.partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--devices", type=int, default=16, help="of each host")
    parser.add_argument("--repeats", type=int, default=3, help="of nova's queries and of whole listings")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a figure is past its limit")
    parser.add_argument(
        "--only", action="append", default=[], help="a part of the name of what is measured; repeatable"
    )
    parser.add_argument("--kind", choices=KINDS, action="append", help="single or pooled alone")
    parser.add_argument("--times", type=Path, help="where to write the service times for the simulation")
    options = parser.parse_args()
    # Like Ctrl-C: MariaDB is a process of its own, and would stay.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    report = Report()
    try:
        run(
            options.hosts,
            options.devices,
            repeats=options.repeats,
            times=options.times,
            only=options.only,
            kinds=options.kind or KINDS,
            report=report,
        )
    finally:
        report.print()  # also what was measured until Ctrl-C
    judge(report)
    for line in report.exceeded:
        print(line, file=sys.stderr)
    return 1 if options.check and report.exceeded else 0


if __name__ == "__main__":
    sys.exit(main())
