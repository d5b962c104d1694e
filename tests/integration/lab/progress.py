"""Tells a person who waits what is being done now, and how long each step took. Steps may run side by side."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import TextIO


class Progress:
    """Lines about steps on a stream, each with the seconds since the first one could be printed."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """:param stream: where the lines go; None for nowhere."""
        self._stream = stream
        self._lock = threading.Lock()
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """Print one line."""
        with self._lock:
            if self._stream is not None:
                print(f"[{time.monotonic() - self._began:3.0f} s] {text}", file=self._stream, flush=True)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Print that the step *name* begins, and how long it took when it has ended."""
        began = time.monotonic()
        self.say(f"{name} …")
        try:
            yield
        except BaseException:
            self.say(f"{name}: failed after {time.monotonic() - began:.0f} s")
            raise
        self.say(f"{name}: {time.monotonic() - began:.0f} s")

    def stop(self) -> None:
        """Print nothing from now on: what is being ended would only report failures."""
        with self._lock:
            self._stream = None


QUIET = Progress()
"""For tests: prints nothing."""
