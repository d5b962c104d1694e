"""Fixtures for the openstack commands."""

import types
from collections.abc import Callable

import pytest

from tests.fixtures.keystone import keystone
from tests.fixtures.openstack import Cloud, cloud, nova
from tests.fixtures.placement import placement, placement_server
from usb_provider.osc import server_devices

__all__ = ["cloud", "keystone", "nova", "placement", "placement_server"]


@pytest.fixture
def root(cloud: Cloud) -> str:
    """compute1."""
    return cloud.host()


@pytest.fixture
def key(cloud: Cloud, root: str) -> str:
    """A free key on compute1."""
    return cloud.device(root, "1050:0407:Y1")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Have each pause of a command do what a test says, in no time."""
    slept: list[float] = []

    def set_pause(act: Callable[[], None]) -> None:
        def sleep(seconds: float) -> None:
            slept.append(seconds)
            act()

        monkeypatch.setattr(
            server_devices, "time", types.SimpleNamespace(sleep=sleep, monotonic=lambda: float(sum(slept)))
        )

    return set_pause
