"""How commands print: tables for people by rich, JSON for programs. Descriptor text is made safe here at the latest."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from usb_provider.model.devices.controllers import host_controllers
from usb_provider.model.text import printable

if TYPE_CHECKING:
    # Only named below; a command that prints no plan need not load it.
    from usb_provider.model.reporting.plan import Action, Note
    from usb_provider.model.reporting.provider import Assessment, Root

_UNLIMITED = 100_000
_LONGEST_LINE = 2000


class _Console(Console):
    """Lets main() handle a reader that has closed the pipe; rich would end the process with 1."""

    def on_broken_pipe(self) -> None:
        """Called where a write failed."""
        raise BrokenPipeError


def console(*, error: bool = False) -> Console:
    """A console on the standard streams as they are now; plain, and as wide as need be, where no terminal is."""
    stream = sys.stderr if error else sys.stdout
    return _Console(file=stream, highlight=False, width=None if stream.isatty() else _UNLIMITED)


def say(text: str, *, error: bool = False) -> None:
    """Print one line without markup, and with what a terminal would act on escaped."""
    console(error=error).print(Text(printable(text, _LONGEST_LINE)))


def print_json(value: object) -> None:
    """Print *value* as JSON in ASCII, so that no descriptor reaches the terminal raw."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=True) + "\n")


def table(*columns: str) -> Table:
    """An empty table with *columns*."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def holder_key(each: Assessment) -> str:
    """By what it is known who has the device: its provider, or, of a pool or bundle, the device's own key."""
    return each.identity.key if each.group is not None else each.provider_uuid or ""


def device_table(
    found: Iterable[Assessment],
    *,
    consumers: Mapping[str, str] | None = None,
    guests: Mapping[str, str] | None = None,
) -> Table:
    """Devices, one a line, with the verdict and, if any device is held, the consumer or guest that has each."""
    made = table("Port", "ID", "Device", "Offered as", *(["Held by"] if consumers else []), "Why")
    for each in found:
        device, held_as = each.device, holder_key(each)
        holder = (guests or {}).get(held_as) or (consumers or {}).get(held_as) or "-"
        made.add_row(
            Text(device.sys_name),
            Text(device.usb_id),
            Text(device.label),
            Text(each.resource_class or "-", style="green" if each.offered else "dim"),
            *([Text(printable(holder))] if consumers else []),
            Text(printable(each.reason, 200), style="" if each.offered else "dim"),
        )
    return made


def print_devices(found: Sequence[Assessment], *, consumers: Mapping[str, str], guests: Mapping[str, str]) -> None:
    """The list for people."""
    if not found:
        say("No USB device is plugged into this host.")
        return
    console().print(device_table(found, consumers=consumers, guests=guests))
    for each in host_controllers(one.device for one in found):
        if each.has_two_names:
            say(f"{', '.join(each.buses)}: controller {each}")
    offered = sum(each.offered for each in found)
    say(f"{len(found)} devices, {offered} offered.")


def print_actions(root: Root, actions: Sequence[Action], notes: Sequence[Note], *, done: bool) -> None:
    """A plan or its result, one action a line."""
    say(f"Compute node {root.name} ({root.uuid})")
    for action in actions:
        say(f"  {'done: ' if done else ''}{printable(str(action), 1000)}")
    for note in notes:
        say(f"  note: {note.text}")
    if not actions:
        say("  nothing to do")
