"""The tables of the benches of a whole cloud: for people at a terminal, and as Markdown for the documents elsewhere."""

import sys

from rich import box
from rich.console import Console
from rich.table import Table

_WIDE = 200


def made(*columns: str, left: int = 1) -> Table:
    """A table without rows; the first *left* columns have texts, the others numbers."""
    form = box.SIMPLE_HEAD if sys.stdout.isatty() else box.MARKDOWN
    table = Table(box=form, pad_edge=not sys.stdout.isatty())
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number < left else "right")
    return table


def show(table: Table) -> None:
    """Print it, in Markdown without line breaks in cells."""
    Console(width=None if sys.stdout.isatty() else _WIDE).print(table)
