"""What holds for every test: how hard hypothesis tries, where nova's tests come, and what a skip means in CI.

Hypothesis tries little by default; ``--hypothesis-profile=thorough`` is for a night's worth.
"""

import os
from collections.abc import Generator

import pytest
from hypothesis import settings

settings.register_profile("quick", max_examples=50, deadline=None)
settings.register_profile("thorough", max_examples=5000, deadline=None)
settings.load_profile("quick")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Nova's tests come last: their fixtures change logging and warnings for all that comes after."""
    items.sort(key=lambda item: "functional/nova/" in item.nodeid)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skipped test has failed: what a suite needs, the suite brings."""
    report = yield
    if report.skipped and "CI" in os.environ and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report
