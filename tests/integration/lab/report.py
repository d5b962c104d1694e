"""What the suites with a test host have in common: time to wait, and what to show when a test fails."""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest

from tests.integration.lab.vm import CommandFailed, LabError, Vm

TIMEOUT_SECONDS = 1800
"""For one test, the making of the image, of the saved host and of a cloud included."""


def eventually(look: Callable[[], object], wanted: object, seconds: float = 60, interval: float = 0.3) -> None:
    """Pass when *look* gives *wanted* within *seconds*."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = look()
        except (CommandFailed, KeyError, StopIteration) as error:
            found = error
        if found == wanted:
            return
        assert time.monotonic() < deadline, f"{found!r} after {seconds} s, not {wanted!r}"
        time.sleep(interval)


def give_time(items: Iterable[pytest.Item], folder: Path) -> None:
    """Let the tests of *folder* take as long as an emulated host needs."""
    for item in items:
        if folder in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT_SECONDS))


def try_again_with_another_host(items: Iterable[pytest.Item], folder: Path, hosts: Callable[[], Iterable[Vm]]) -> None:
    """Let the tests of *folder* run once more, four times at most, when one of *hosts* was lost: it panicked, or hangs.

    The processor that QEMU 7.2 emulates now and then lets an interrupt through between a guest's exit and the moment
    at which the host's kernel is itself again. No other failure is tried again. The suite's conftest revives the host.
    """

    def lost() -> bool:
        return any(host.is_lost for host in hosts())

    for item in items:
        if folder in item.path.parents:
            item.add_marker(pytest.mark.flaky(reruns=4, condition=lost))


def show(report: pytest.TestReport, hosts: Iterable[Vm], looks: Mapping[str, str]) -> None:
    """Add to a failure's *report* what commands on the test hosts print, by title, and where their consoles are."""
    for host in hosts:
        for title, command in looks.items():
            try:
                text = host.ssh(command, check=False, timeout=60)
            except LabError as error:
                text = str(error)
            report.sections.append((f"{host.name}: {title}", text))
        report.sections.append((f"{host.name}: console", str(host.console)))
