"""The show: what the demo prints, step by step, from the devices to a replug.

It makes no reporter and no Placement: it gets them, and prints what they do.
"""

import contextlib
import os
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from usb_provider.agent.reporter import Pass, Reporter
from usb_provider.demo import scheduler
from usb_provider.demo.configuration import CLOUD, ROOT_NAME, DemoFiles
from usb_provider.demo.embedded import EmbeddedPlacement
from usb_provider.demo.testbed import Testbed
from usb_provider.model.reporting.provider import Assessment

_CLASS = "CUSTOM_USB_KEY"


class Show:
    """What is on the screen, one heading after another."""

    def __init__(self, console: Console, device_table: Callable[[Sequence[Assessment]], Table]) -> None:
        """Print on *console*; *device_table* makes the list that the command "devices" prints."""
        self.console = console
        self._device_table = device_table
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

    def devices(self, found: Sequence[Assessment]) -> None:
        """Every device, with the verdict on it."""
        self.console.print(self._device_table(found))

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


def show_all(show: Show, report: Reporter, placement: EmbeddedPlacement, bed: Testbed | None) -> None:
    """Show all steps once; without *bed*, the recorded host, no device is unplugged."""
    found = report.preview().devices
    show.heading("The USB devices of this host, and why each one is offered or not")
    show.devices(found)
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
    for candidate in scheduler.candidates(placement, wanted):
        show.say("  " + " and ".join(names.get(uuid_, uuid_) for uuid_ in candidate.providers))
    show.heading("Instances claim devices until none is left")
    held = _claim_all(show, placement, wanted, names)
    if bed is not None:
        show.heading("Unplug and replug: one device that an instance holds, and one that is free")
        _unplug_and_replug(show, report, bed, found, held)


def _claim_all(show: Show, placement: EmbeddedPlacement, wanted: str, names: dict[str, str]) -> list[str]:
    held: list[str] = []
    number = 0
    while True:
        number += 1
        consumer = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"instance-{number}.usb-demo"))
        answers = scheduler.candidates(placement, wanted)
        if not answers:
            show.say(f"  instance {number}: refused, no host has a free {wanted} (nova says: No valid host was found)")
            return held
        if scheduler.claim(placement, consumer, answers[0]):
            held += answers[0].providers
            show.say(f"  instance {number}: gets {' and '.join(names[uuid_] for uuid_ in answers[0].providers)}")


def _unplug_and_replug(
    show: Show, report: Reporter, bed: Testbed, found: tuple[Assessment, ...], held: list[str]
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


def print_commands(show: Show, files: DemoFiles, placement: EmbeddedPlacement, done: Pass, *, recorded: bool) -> None:
    """Print what to type in another terminal; *done* is the last pass."""
    client = f"OS_CLIENT_CONFIG_FILE={files.clouds} {_program('openstack')} --os-cloud {CLOUD}"
    ours = f"{_program('usb-provider')} --config-file {files.configuration}"
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


def _shown_class(found: tuple[Assessment, ...]) -> str | None:
    classes = sorted({each.resource_class for each in found if each.offered and each.resource_class})
    return _CLASS if _CLASS in classes else next(iter(classes), None)


def _program(name: str) -> str:
    beside = Path(sys.executable).parent / name
    if not beside.exists():
        return name
    with contextlib.suppress(ValueError):
        return str(beside.relative_to(Path.cwd()))
    return str(beside)
