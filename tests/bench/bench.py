"""How much it costs: requests, seconds, memory and latency, measured against a real Placement in a process of its own.

::

    python -m tests.bench.bench            a table, in about ten minutes
    python -m tests.bench.bench --check    the same, and exit code 1 when a figure is past its limit
    python -m tests.bench.bench --quick    few devices, in about a minute; ratio and idle CPU are not judged then

The reporter's figures are made in this process, with devices that are plain values. The agent's are made by agent.py
in a process under umockdev, with udev and all. The raw client, with which the reporter is compared, does nothing but
the same writes: it knows them beforehand, and reads nothing. Measure on a machine that is otherwise idle.
"""

import argparse
import functools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import requests
from rich import box
from rich.console import Console
from rich.table import Table

from usb_provider.agent.reporter import Pass, Reporter
from usb_provider.agent.store import StateStore
from usb_provider.cmd.setup import WORKERS
from usb_provider.conf import load
from usb_provider.demo.embedded import EmbeddedPlacement
from usb_provider.demo.umockdev import UMOCKDEV_PACKAGES, wrap
from usb_provider.model.devices.device import Speed, UsbDevice
from usb_provider.model.devices.spec import parse_specs
from usb_provider.model.reporting.host_state import ReportSettings
from usb_provider.model.reporting.plan import CreateProvider, Plan, ProviderAction, SetInventory, SetTraits
from usb_provider.placement.client import MICROVERSION, PlacementClient, connect
from usb_provider.placement.root import RootFinder, RootHints

SIZES = (1, 10, 100, 1000)
QUICK_SIZES = (1, 10)
COMPARED = 100
COMPARISONS = 7

RATIO_LIMIT = 1.3
MEMORY_LIMIT = 68
IDLE_LIMIT = 0.5
PLUG_LIMIT, UNPLUG_LIMIT = 450, 200

Write = tuple[str, str, dict[str, object]]


@dataclass
class Figures:
    """The table: rows by name, values by size; and what is judged."""

    rows: dict[str, dict[int, str]] = field(default_factory=dict)
    limits: dict[str, str] = field(default_factory=dict)
    exceeded: list[str] = field(default_factory=list)

    def put(self, name: str, size: int, value: float, form: str = "{:.0f}", *, limit: float | None = None) -> None:
        """Enter *value*; with a *limit*, judge it."""
        self.rows.setdefault(name, {})[size] = form.format(value)
        if limit is not None:
            self.limits[name] = f"{limit:g}"
            if value > limit:
                self.exceeded.append(f"{name}: {form.format(value)} is past {limit:g}")

    def print(self) -> None:
        sizes = sorted({size for row in self.rows.values() for size in row})
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("devices")
        for size in sizes:
            table.add_column(str(size), justify="right")
        table.add_column("limit", justify="right")
        for name, row in self.rows.items():
            table.add_row(name, *(row.get(size, "") for size in sizes), self.limits.get(name, ""))
        Console(width=None if sys.stdout.isatty() else 120).print(table)


# The reporter ----------------------------------------------------------------------------------------------------


def devices(count: int) -> list[UsbDevice]:
    """As many security keys, each with a serial number of its own, fifteen to a bus."""
    made = []
    for number in range(count):
        bus, port = number // 15 + 1, number % 15 + 1
        controller = f"0000:{bus // 32:02x}:{bus % 32:02x}.0"
        made.append(
            UsbDevice(
                sys_path=f"/sys/devices/pci0000:00/{controller}/usb{bus}/{bus}-{port}",
                sys_name=f"{bus}-{port}",
                vendor_id="1050",
                product_id="0407",
                busnum=bus,
                devnum=port + 1,
                serial=f"{number:08}",
                manufacturer="Yubico",
                product="YubiKey OTP+FIDO+CCID",
                interfaces=(("03", "01", "01"), ("0b", "00", "00")),
                speed=Speed.FULL,
                port_path=str(port),
                controller=controller,
            )
        )
    return made


class Bench:
    """One Placement, and hosts with devices, each below a root of its own."""

    def __init__(self, placement: EmbeddedPlacement, client: PlacementClient, directory: Path) -> None:
        self.placement = placement
        self.client = client
        self.directory = directory
        self.executor = ThreadPoolExecutor(WORKERS)
        self._roots = 0
        self._specs = parse_specs(['{"vendor_id": "1050", "resource_class": "CUSTOM_USB_KEY"}'])

    def root(self) -> str:
        self._roots += 1
        return self.placement.create_root(f"host{self._roots}")

    def reporter(self, root: str, plugged: Sequence[UsbDevice]) -> Reporter:
        """A reporter that has not looked yet. *plugged* may change under it."""
        return Reporter(
            lambda fresh=False: tuple(plugged),
            self.client,
            RootFinder(self.client, RootHints(uuid=root)),
            ReportSettings(specs=self._specs),
            store=StateStore(self.directory / f"state-{root}"),
            executor=self.executor,
        )

    def measure(self, size: int, repeats: int, figures: Figures) -> None:
        """Everything about a host with *size* devices."""
        firsts, quiets, plugs, unplugs, restarts = [], [], [], [], []
        for _ in range(repeats):
            root, plugged = self.root(), devices(size)
            reporter = self.reporter(root, plugged)
            firsts.append(timed(reporter.run))
            quiets += [timed(reporter.run) for _ in range(5)]
            further = devices(size + 1)[-1]
            for _ in range(2):
                plugged.append(further)
                plugs.append(timed(reporter.run))
                plugged.remove(further)
                unplugs.append(timed(reporter.run))
            restarts.append(timed(self.reporter(root, plugged).run))
        figures.put("first sync: requests", size, median(run.requests for run in firsts))
        figures.put("first sync: seconds", size, median(run.seconds for run in firsts), "{:.2f}")
        figures.put("first sync: CPU seconds", size, median(run.cpu for run in firsts), "{:.2f}")
        for name, runs in (
            ("quiet pass", quiets),
            ("plug in one", plugs),
            ("unplug one", unplugs),
            ("pass after a restart", restarts),
        ):
            figures.put(f"{name}: requests", size, median(run.requests for run in runs))
            figures.put(f"{name}: ms", size, median(run.seconds for run in runs) * 1000, "{:.1f}")

    def compare(self, size: int, repeats: int) -> tuple[float, float]:
        """How much longer the first sync takes than a raw client's writes, one by one and *WORKERS* at a time.

        The three take turns, each on a fresh root; the medians are compared.
        """
        ours, one_by_one, at_once = [], [], []
        for _ in range(repeats):
            ours.append(timed(self.reporter(self.root(), devices(size)).run).seconds)
            with raw_session(self.placement) as session:
                sequences = self._writes(size)
                started = time.perf_counter()
                for writes in sequences:
                    self._send(session, writes)
                one_by_one.append(time.perf_counter() - started)
            with raw_session(self.placement) as session:
                sequences = self._writes(size)
                started = time.perf_counter()
                list(self.executor.map(functools.partial(self._send, session), sequences))
                at_once.append(time.perf_counter() - started)
        return median(ours) / median(one_by_one), median(ours) / median(at_once)

    def _send(self, session: requests.Session, writes: Iterable[Write]) -> None:
        for method, path, body in writes:
            session.request(method, self.placement.endpoint + path, json=body).raise_for_status()

    def _writes(self, size: int) -> list[list[Write]]:
        """What the reporter would write for as many devices below a fresh root, by provider."""
        plan = self.reporter(self.root(), devices(size)).preview().plan
        assert not plan.names, "resource class and traits exist by now"
        return raw_writes(plan)


@dataclass(frozen=True)
class Run:
    """What one pass took; *cpu* is this process's, which does not include Placement."""

    requests: int
    seconds: float
    cpu: float


def timed(run: Callable[[], Pass]) -> Run:
    wall, cpu = time.perf_counter(), time.process_time()
    done = run()
    return Run(done.requests, time.perf_counter() - wall, time.process_time() - cpu)


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


# The raw client --------------------------------------------------------------------------------------------------


def raw_writes(plan: Plan) -> list[list[Write]]:
    """The HTTP requests of *plan*, which must be that of a first sync: generations count from 0."""
    return [[_raw(action, generation - 1) for generation, action in enumerate(each)] for each in plan.sequences]


def _raw(action: ProviderAction, generation: int) -> Write:
    at = {"resource_provider_generation": generation}
    match action:
        case CreateProvider(provider_uuid, name, parent):
            return "POST", "/resource_providers", {"uuid": provider_uuid, "name": name, "parent_provider_uuid": parent}
        case SetTraits():
            return "PUT", f"/resource_providers/{action.provider_uuid}/traits", at | {"traits": sorted(action.traits)}
        case SetInventory():
            inventories = {name: inventory.to_json() for name, inventory in action.inventories}
            return "PUT", f"/resource_providers/{action.provider_uuid}/inventories", at | {"inventories": inventories}
    raise AssertionError(f"a first sync does not {action}")


def raw_session(placement: EmbeddedPlacement) -> requests.Session:
    """A client that keeps its connections alive, and does nothing else."""
    session = requests.Session()
    session.headers["X-Auth-Token"] = placement.token
    session.headers["OpenStack-API-Version"] = f"placement {MICROVERSION}"
    session.headers["Accept"] = "application/json"
    session.get(placement.endpoint).raise_for_status()
    return session


# The agent -------------------------------------------------------------------------------------------------------


def agent_figures(size: int, idle_seconds: float, plugs: int) -> dict[str, float]:
    """What agent.py measured under umockdev."""
    words = [sys.executable, "-m", "tests.bench.agent", str(size), str(idle_seconds), str(plugs)]
    try:
        done = subprocess.run(wrap(words), stdout=subprocess.PIPE, check=True)
    except FileNotFoundError:
        sys.exit(f"The agent's figures need umockdev: {UMOCKDEV_PACKAGES}.")
    return dict(json.loads(done.stdout))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 when a figure is past its limit")
    parser.add_argument("--quick", action="store_true", help="few devices and little time")
    options = parser.parse_args()
    compared, figures = (QUICK_SIZES[-1] if options.quick else COMPARED), Figures()

    with tempfile.TemporaryDirectory(prefix="usb-provider-bench-") as name:
        directory = Path(name)
        with EmbeddedPlacement.start(directory / "placement") as placement:
            bench = Bench(placement, connect_to(placement, directory), directory)
            bench.reporter(bench.root(), devices(1)).run()  # the names that all share, and warm connections
            for size in QUICK_SIZES if options.quick else SIZES:
                say(f"reporter, {size} devices")
                bench.measure(size, 3 if size <= 100 else 1, figures)
            say("reporter beside a raw client")
            one_by_one, at_once = bench.compare(compared, 3 if options.quick else COMPARISONS)
            limit = None if options.quick else RATIO_LIMIT
            figures.put("first sync / raw client, one by one", compared, one_by_one, "{:.2f}", limit=limit)
            figures.put(f"first sync / raw client, {WORKERS} at a time", compared, at_once, "{:.2f}", limit=limit)

    say("agent")
    found = agent_figures(compared, 5 if options.quick else 65, 5 if options.quick else 30)
    figures.put("agent, idle: MiB", compared, found["memory"], "{:.1f}", limit=MEMORY_LIMIT)
    figures.put(
        "agent, idle: % of one CPU", compared, found["cpu"], "{:.2f}", limit=None if options.quick else IDLE_LIMIT
    )
    figures.put("plugged in to schedulable, p50: ms", compared, found["plug_p50"])
    figures.put("plugged in to schedulable, p95: ms", compared, found["plug_p95"], limit=PLUG_LIMIT)
    figures.put("unplugged to not schedulable, p50: ms", compared, found["unplug_p50"])
    figures.put("unplugged to not schedulable, p95: ms", compared, found["unplug_p95"], limit=UNPLUG_LIMIT)
    figures.print()
    for line in figures.exceeded:
        print(line, file=sys.stderr)
    return 1 if options.check and figures.exceeded else 0


def connect_to(placement: EmbeddedPlacement, directory: Path) -> PlacementClient:
    """A client as the agent makes it, from a configuration file."""
    path = directory / "usb-provider.conf"
    path.write_text(
        f"[placement]\nauth_type = admin_token\nendpoint = {placement.endpoint}\ntoken = {placement.token}\n"
    )
    return connect(load.open_files(["--config-file", str(path)]))


def say(text: str) -> None:
    print(f"measuring: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
