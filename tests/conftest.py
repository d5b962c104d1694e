"""What holds for every test: how hard hypothesis tries, where nova's tests come, what runs alone, a skip in CI.

Hypothesis tries little by default; ``--hypothesis-profile=thorough`` is for a night's worth.
"""

import contextlib
import fcntl
import os
import resource
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

HERE = Path(__file__).parent
NOVA = HERE / "functional" / "nova"
# Two files that each worker can open; nothing is written to them.
DOOR, ROOM = HERE / "__init__.py", HERE / "conftest.py"

settings.register_profile("quick", max_examples=50, deadline=None)
settings.register_profile("thorough", max_examples=5000, deadline=None)
settings.load_profile("quick")


# umockdev's preload leaves a socket open for each directory of a replayed host that a test opens.
_, MOST_FILES = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (MOST_FILES, MOST_FILES))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --nova: make runs nova's tests in processes of their own, since they change logging, warnings and more."""
    words = {"choices": ("with", "without", "only"), "default": "with", "help": "whether to run the tests of nova"}
    parser.addoption("--nova", **words)


def _left_out(path: Path, config: pytest.Config) -> bool:
    """Whether --nova leaves the test file *path* out."""
    wanted = config.getoption("--nova")
    return wanted != "with" and path.is_relative_to(NOVA) != (wanted == "only")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import what --nova leaves out: nova's modules change their process when they are imported."""
    return True if collection_path.is_file() and _left_out(collection_path, config) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what --nova leaves out, also when it was named; otherwise nova's tests come last."""
    left_out = [item for item in items if _left_out(item.path, config)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if not _left_out(item.path, config)]
    items.sort(key=lambda item: item.path.is_relative_to(NOVA))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Run no other worker's test beside one that is marked ``alone``.

    Such a test waits in the door, and lets nobody pass, until the room is empty: it has its turn after one test of
    each other worker.
    """
    with contextlib.ExitStack() as room:
        if "PYTEST_XDIST_WORKER" in os.environ:
            with _locked(DOOR, fcntl.LOCK_EX):
                room.enter_context(_locked(ROOM, fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH))
        return (yield)


@contextlib.contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    with path.open("rb") as file:
        fcntl.flock(file, how)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # closing does not unlock what a child has inherited


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skipped test has failed: what a suite needs, the suite brings."""
    report = yield
    if report.skipped and "CI" in os.environ and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report
