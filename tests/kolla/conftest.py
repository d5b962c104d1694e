"""The tests' time: Ansible and emulated machines are slow."""

from pathlib import Path

import pytest

from tests.integration.lab.report import give_time


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    give_time(items, Path(__file__).parent)
