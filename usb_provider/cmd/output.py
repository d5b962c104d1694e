"""How commands print: tables for people by rich, JSON for programs. Descriptor text is made safe here at the latest."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from usb_provider.model.plan import Action, Note
from usb_provider.model.provider import Assessment, Root
from usb_provider.model.text import printable


_UNLIMITED = 100_000


def console(*, error: bool = False) -> Console:
    """A console on the standard streams as they are now; plain when they are not a terminal."""
    stream = sys.stderr if error else sys.stdout
    return Console(file=stream, highlight=False, soft_wrap=not stream.isatty(), width=None)


def say(text: str, *, error: bool = False) -> None:
    """Print one line as it is, without markup."""
    console(error=error).print(Text(text))


def print_json(value: Any) -> None:
    """Print *value* as JSON in ASCII, so that no descriptor reaches the terminal raw."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=True) + "\n")


def table(*columns: str) -> Table:
    """An empty table with *columns*."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def print_table(made: Table, *, to: Console | None = None) -> None:
    """Print a table, as wide as it needs where no terminal limits it."""
    out = to or console()
    if not out.is_terminal:
        out = Console(file=out.file, highlight=False, width=_UNLIMITED)
    out.print(made)


def device_table(found: Iterable[Assessment]) -> Table:
    """Devices, one a line, with the verdict."""
    made = table("Port", "ID", "Device", "Offered as", "Why")
    for each in found:
        device = each.device
        made.add_row(
            Text(device.sys_name),
            Text(device.usb_id),
            Text(device.label),
            Text(each.resource_class or "-", style="green" if each.offered else "dim"),
            Text(printable(each.reason, 200), style="" if each.offered else "dim"),
        )
    return made


def print_devices(found: Sequence[Assessment]) -> None:
    """The list for people."""
    if not found:
        say("No USB device is plugged into this host.")
        return
    print_table(device_table(found))
    offered = sum(each.offered for each in found)
    say(f"{len(found)} devices, {offered} offered.")


def print_actions(root: Root, actions: Sequence[Action], notes: Sequence[Note], *, done: bool) -> None:
    """A plan or what came of it, one action a line."""
    say(f"Compute node {root.name} ({root.uuid})")
    for action in actions:
        say(f"  {'done: ' if done else ''}{printable(str(action), 1000)}")
    for note in notes:
        say(f"  note: {note.text}")
    if not actions:
        say("  nothing to do")
