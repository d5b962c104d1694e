"""Fuzzes for some minutes, each kind of input in turn, and prints how many inputs were tried.

::

    python -m tests.fuzz.fuzz MINUTES

An input that fails is kept in ``.fuzz/``, which git ignores, and is tried first the next time; it is printed as well,
and the exit code is 1.
"""

import argparse
import logging
import sys
import time
import traceback
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

KEPT = Path(__file__).parents[2] / ".fuzz"
_AT_ONCE = 100
"""Inputs of one kind before it is the next one's turn."""

settings.register_profile(
    "fuzz",
    max_examples=_AT_ONCE,
    deadline=None,
    database=DirectoryBasedExampleDatabase(KEPT),
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)


def main() -> int:
    """Fuzz, and give the exit code."""
    parser = argparse.ArgumentParser(description="Fuzz for some minutes.")
    parser.add_argument("minutes", type=float, nargs="?", default=1.0)
    minutes = parser.parse_args().minutes
    settings.load_profile("fuzz")
    logging.disable()
    # After the profile is loaded: a test takes its settings when it is decorated.
    from tests.fuzz.targets import TARGETS, TRIED

    end = time.monotonic() + 60 * minutes
    failed: set[str] = set()
    took = dict.fromkeys(TARGETS, 0.0)
    while time.monotonic() < end:
        # The kind that had least time comes next, so that slow ones do not take it all.
        name = min((each for each in TARGETS if each not in failed), key=took.__getitem__, default=None)
        if name is None:
            break
        began = time.monotonic()
        try:
            TARGETS[name]()
        except Exception:
            traceback.print_exc()
            failed.add(name)
        took[name] += time.monotonic() - began
    print("\n| Input | tried | seconds | |\n| --- | --- | --- | --- |")
    for name, tried in TRIED.items():
        print(f"| {name} | {tried} | {took[name]:.0f} | {'FAILED' if name in failed else 'holds'} |")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
