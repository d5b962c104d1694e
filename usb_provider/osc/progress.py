"""Tells a person at a terminal what a command waits for when that takes more than two seconds.

It writes to standard error, and only where that is a terminal: a script sees nothing of it.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TextIO

from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

PATIENCE = 2.0
"""Seconds without a word."""


class Progress:
    """What is under way, on *stream*. One thing at a time; the counts may come from any thread."""

    def __init__(self, stream: TextIO | None = None, patience: float = PATIENCE) -> None:
        """Write to *stream*, standard error if None, what takes more than *patience* seconds."""
        self._stream = stream
        self._patience = patience

    @contextlib.contextmanager
    def of(self, text: str, total: int | None = None) -> Iterator[Callable[[], None]]:
        """Show *text* while the context lasts; the caller calls what it is given for each of *total* steps."""
        console = Console(file=self._stream, stderr=self._stream is None)
        if not console.is_terminal:
            yield lambda: None
            return
        columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False)]
        if total is not None:
            columns.append(TextColumn("{task.completed} of {task.total}"))
        bar = Bar(*columns, TimeElapsedColumn(), console=console, transient=True, redirect_stdout=False)
        task = bar.add_task(text, total=total)
        timer = threading.Timer(self._patience, bar.start)
        timer.daemon = True
        timer.start()
        try:
            yield lambda: bar.advance(task)
        finally:
            timer.cancel()
            timer.join()
            if bar.live.is_started:
                bar.stop()
