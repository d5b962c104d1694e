"""The command ``demo``: everything on one machine, with a Placement of its own and, without devices, recorded ones."""

import argparse
import contextlib
import json
import os
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from usb_provider.agent.reporter import Pass, Reporter
from usb_provider.cmd import output
from usb_provider.demo import recording, testbed, umockdev
from usb_provider.demo import scheduler as stand_in
from usb_provider.demo.embedded import EmbeddedPlacement
from usb_provider.exception import ConfigError, UsbProviderError
from usb_provider.host.udev import UdevHost
from usb_provider.model.devices.offer import guard
from usb_provider.model.reporting.provider import Assessment

TEXT = """\
Show everything on this machine: USB devices, a Placement of its own, and what the scheduler would do with them.

The Placement is real (openstack-placement on SQLite) but embedded: on loopback only, without Keystone.
Nothing else on the machine or in a cloud is touched. Where the machine has no USB devices, recorded ones of a busy
host are shown, and said to be recorded."""

CLOUD = "usb-demo"
ROOT_NAME = "demo-host"

_CLASS = "CUSTOM_USB_KEY"

# What an operator of the recorded host might write. Two identical licence dongles are the whole of CUSTOM_USB_KEY, so
# that the third claim has to be refused.
_RECORDED_RULES = (
    {"vendor_id": "0529", "resource_class": "CUSTOM_USB_KEY", "traits": ["CUSTOM_LICENCE_HASP"]},
    {"vendor_id": "064f", "resource_class": "CUSTOM_USB_CODEMETER"},
    {"vendor_id": "1050", "resource_class": "CUSTOM_USB_FIDO"},
    {"class": "printer", "exclude": True},
    {"class": "video", "resource_class": "CUSTOM_USB_CAMERA"},
    {"class": "mass-storage", "resource_class": "CUSTOM_USB_STORAGE"},
    {"vendor_id": "1546", "resource_class": "CUSTOM_USB_GNSS", "identity": "port"},
    {"vendor_id": "0403", "product_id": "6001"},
    {"vendor_id": "2c7c"},
    {"class": "smart-card"},
)


def declare(command: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``demo``."""
    command.add_argument("--once", action="store_true", help="end after the show instead of staying, live")
    command.add_argument(
        "--recording",
        metavar="DIR",
        type=Path,
        help="show these recorded devices (umockdev-record --all > DIR/host.umockdev) instead of this host's",
    )
    command.add_argument(
        "--state-dir",
        metavar="DIR",
        type=Path,
        default=_state_dir(),
        help="where the embedded Placement keeps its data (default: %(default)s)",
    )
    command.add_argument("--port", type=int, default=0, help="port of the embedded Placement (default: a free one)")


def run(arguments: argparse.Namespace) -> int:
    """Show everything; stay until interrupted unless --once."""
    source = arguments.recording or (None if _has_devices() else recording.bundled())
    if source is not None and not umockdev.is_active():
        _again_under_umockdev()
    with contextlib.ExitStack() as stack:
        show = Show(output.console())
        bed = stack.enter_context(_recorded(source)) if source is not None else None
        show.source(source)
        host = UdevHost()
        with show.step("Starting a Placement of its own"):
            placement = stack.enter_context(
                EmbeddedPlacement.start(arguments.state_dir / "placement", arguments.port, fresh=True)
            )
        root = placement.create_root(ROOT_NAME)
        place = _write_files(arguments.state_dir, placement, root, _rules(host, recorded=bed is not None))
        show.placement(placement, root)
        report = stack.enter_context(_reporter(place, host))
        _show_all(show, report, placement, bed)
        if not arguments.once:
            _print_commands(show, place, placement, report.run(), recorded=bed is not None)
            with contextlib.suppress(KeyboardInterrupt):
                _stay(show, report, host, bed)
            show.say("The demo has ended, and its Placement with it.")
    return 0


@dataclass(frozen=True, slots=True)
class Files:
    """What the demo leaves for other terminals."""

    configuration: Path
    clouds: Path


class Show:
    """What is on the screen, one heading after another."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._number = 0

    def heading(self, text: str) -> None:
        """Begin the next part."""
        self._number += 1
        self.console.print()
        self.console.print(Text(f"{self._number}. {text}", style="bold cyan"))

    def say(self, text: str, style: str = "") -> None:
        """One paragraph."""
        self.console.print(Text(text, style=style))

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Something that takes a while."""
        if self.console.is_terminal:
            with self.console.status(Text(f"{text} …")):
                yield
        else:
            self.say(f"{text} …")
            yield

    def source(self, directory: Path | None) -> None:
        """Where the devices come from."""
        if directory is None:
            self.say("The devices are this machine's own.")
        else:
            self.say(
                f"These devices are RECORDED, not plugged into this machine: they come from {directory}.", "yellow"
            )

    def placement(self, placement: EmbeddedPlacement, root: str) -> None:
        """Where the Placement is."""
        self.say(f"Placement answers at {placement.endpoint}; the compute node there is {ROOT_NAME} ({root}).")

    def changes(self, done: Pass) -> None:
        """What a pass wrote."""
        for action in done.actions:
            self.say(f"  {action}", "green")
        for note in done.notes:
            self.say(f"  {note.text}", "yellow")
        self.say(f"  {len(done.actions)} changes, {done.requests} requests, {done.seconds:.2f} s", "dim")

    def tree(self, done: Pass) -> None:
        """The provider tree as Placement has it."""
        top = Tree(Text(f"{done.root.name}  {done.root.uuid}", style="bold"))
        for provider in sorted(done.tree.providers.values(), key=lambda provider: provider.name):
            branch = top.add(Text(f"{provider.name}  {provider.uuid}"))
            for name, inventory in sorted(provider.inventories.items()):
                branch.add(Text(f"{name}: total {inventory.total}, reserved {inventory.reserved}", style="green"))
            branch.add(Text(" ".join(sorted(provider.traits)), style="dim"))
        self.console.print(top, soft_wrap=True)


def _show_all(show: Show, report: Reporter, placement: EmbeddedPlacement, bed: testbed.Testbed | None) -> None:
    found = report.preview().devices
    show.heading("The USB devices of this host, and why each one is offered or not")
    show.console.print(output.device_table(found))
    show.heading("One reporting pass")
    with show.step("Reporting"):
        done = report.run()
    show.say(f"  {len(done.actions)} changes, {done.requests} requests, {done.seconds:.2f} s", "dim")
    show.tree(done)
    wanted = _shown_class(found)
    if wanted is None:
        show.say("No device is offered, so there is nothing to schedule. Plug one in, or try --recording.")
        return
    show.heading(f"What the scheduler is told for a flavor with resources:{wanted}=1")
    names = {provider.uuid: provider.name for provider in done.tree.providers.values()}
    for candidate in stand_in.candidates(placement, wanted):
        show.say("  " + " and ".join(names.get(uuid_, uuid_) for uuid_ in candidate.providers))
    show.heading("Instances claim devices until none is left")
    held = _claim_all(show, placement, wanted, names)
    if bed is not None:
        show.heading("Unplug and replug: one device that an instance holds, and one that nobody holds")
        _unplug_and_replug(show, report, bed, found, held)


def _claim_all(show: Show, placement: EmbeddedPlacement, wanted: str, names: dict[str, str]) -> list[str]:
    held: list[str] = []
    number = 0
    while True:
        number += 1
        consumer = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"instance-{number}.usb-demo"))
        answers = stand_in.candidates(placement, wanted)
        if not answers:
            show.say(f"  instance {number}: refused, no host has a free {wanted} (nova says: No valid host was found)")
            return held
        if stand_in.claim(placement, consumer, answers[0]):
            held += answers[0].providers
            show.say(f"  instance {number}: gets {' and '.join(names[uuid_] for uuid_ in answers[0].providers)}")


def _unplug_and_replug(
    show: Show, report: Reporter, bed: testbed.Testbed, found: tuple[Assessment, ...], held: list[str]
) -> None:
    by_path = {path: name for name, path in bed.plugged.items()}
    offered = [each for each in found if each.offered and each.device.sys_path in by_path]
    chosen = [
        next((each for each in offered if each.provider_uuid in held), None),
        next((each for each in offered if each.provider_uuid not in held), None),
    ]
    for each in chosen:
        if each is None:
            continue
        name = by_path[each.device.sys_path]
        show.say(f"Unplug {name} ({each.device.label}, {'held' if each.provider_uuid in held else 'free'}):")
        bed.unplug(name)
        show.changes(report.run())
        show.say(f"Plug {name} in again:")
        bed.plug(name)
        show.changes(report.run())


def _print_commands(show: Show, place: Files, placement: EmbeddedPlacement, done: Pass, *, recorded: bool) -> None:
    client = f"OS_CLIENT_CONFIG_FILE={place.clouds} {_program('openstack')} --os-cloud {CLOUD}"
    ours = f"{_program('usb-provider')} --config-file {place.configuration}"
    if recorded:
        ours = f"UMOCKDEV_DIR={os.environ['UMOCKDEV_DIR']} umockdev-wrapper {ours}"
    lines = [f"{client} usb device list", f"{client} resource provider list"]
    if (wanted := _shown_class(done.devices)) is not None:
        device = next(each.provider_uuid for each in done.devices if each.resource_class == wanted)
        lines += [
            f"{client} usb device set --drain --reason 'new firmware' {device}",
            f"{client} usb device show {device}",
            f"{client} resource provider inventory list {device}",
            f"{client} resource provider trait list {device}",
            f"{client} resource provider show --allocations {device}",
            f"{client} allocation candidate list --resource {wanted}=1",
        ]
    lines += [f"{ours} devices", f"{ours} plan"]
    show.heading("Try it yourself, in another terminal, while this runs")
    for line in lines:
        show.console.print(Text(f"  {line}"), soft_wrap=True)
    show.say(f"Placement itself, with curl: curl -H 'X-Auth-Token: {placement.token}' {placement.endpoint}/")


def _stay(show: Show, report: Reporter, host: UdevHost, bed: testbed.Testbed | None) -> None:
    """Follow the hardware until interrupted."""
    changed = threading.Event()
    watcher = host.watch(changed.set)
    show.heading("Live: changes appear here; Ctrl-C ends it")
    if bed is not None:
        show.say("Type: unplug NAME, plug NAME, or list.")
        threading.Thread(target=_hands, args=(show, bed), daemon=True).start()
    try:
        while True:
            done = report.run()
            if done.actions:
                show.changes(done)
            changed.wait(timeout=10)
            while changed.is_set():
                changed.clear()
                changed.wait(timeout=0.2)
    finally:
        watcher.stop()


def _hands(show: Show, bed: testbed.Testbed) -> None:
    """Do what is typed to the recorded devices."""
    for line in sys.stdin:
        words = line.split()
        try:
            match words:
                case ["unplug", name]:
                    bed.unplug(name)
                case ["plug", name]:
                    bed.plug(name)
                case ["list"]:
                    show.say("plugged in: " + " ".join(sorted(bed.plugged)))
                case []:
                    pass
                case _:
                    show.say("Type: unplug NAME, plug NAME, or list.")
        except UsbProviderError as error:
            show.say(str(error), "red")


def _shown_class(found: tuple[Assessment, ...]) -> str | None:
    classes = sorted({each.resource_class for each in found if each.offered and each.resource_class})
    return _CLASS if _CLASS in classes else next(iter(classes), None)


def _rules(host: UdevHost, *, recorded: bool) -> list[str]:
    """Rules for the recorded host, or one for each device of this one that a guard does not keep."""
    if recorded:
        return [json.dumps(rule) for rule in _RECORDED_RULES]
    kinds = {(device.vendor_id, device.product_id) for device in host.devices() if guard(device) is None}
    return [json.dumps({"vendor_id": vendor, "product_id": product}) for vendor, product in sorted(kinds)]


def _write_files(directory: Path, placement: EmbeddedPlacement, root: str, rules: list[str]) -> Files:
    files = Files(directory / "usb-provider.conf", directory / "clouds.yaml")
    lines = [
        "# Written at each start of usb-provider demo.",
        "[agent]",
        f"root_provider_uuid = {root}",
        f"state_dir = {directory / 'agent'}",
        "[usb]",
        *(f"device_spec = {rule}" for rule in rules),
        "[placement]",
        "auth_type = admin_token",
        f"endpoint = {placement.endpoint}",
        f"token = {placement.token}",
    ]
    files.configuration.write_text("\n".join(lines) + "\n")
    placement.write_clouds_yaml(files.clouds, CLOUD)
    return files


@contextlib.contextmanager
def _reporter(place: Files, host: UdevHost) -> Iterator[Reporter]:
    from usb_provider.cmd.setup import reporter
    from usb_provider.conf import load

    conf = load.open_files(["--config-file", str(place.configuration)])
    with reporter(conf, load.read(conf), host) as made:
        yield made


@contextlib.contextmanager
def _recorded(source: Path) -> Iterator[testbed.Testbed]:
    try:
        read = recording.Recording.read(source)
    except (recording.RecordingError, OSError) as error:
        raise ConfigError([f"--recording cannot be shown: {error}"]) from error
    with testbed.Testbed.create() as bed:
        bed.load(read)
        yield bed


def _has_devices() -> bool:
    return any(guard(device) is None or not device.is_hub for device in UdevHost().devices())


def _again_under_umockdev() -> None:
    """Run this very command again, with umockdev's library loaded before any other."""
    words = umockdev.wrap([sys.executable, "-m", "usb_provider.cmd.main", *sys.argv[1:]])
    os.execvp(words[0], words)


def _program(name: str) -> str:
    beside = Path(sys.executable).parent / name
    if not beside.exists():
        return name
    with contextlib.suppress(ValueError):
        return str(beside.relative_to(Path.cwd()))
    return str(beside)


def _state_dir() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "usb-provider" / "demo"
