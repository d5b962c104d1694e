"""What tests of moves share: a second compute node, a server that has where to go, and looks at both.

A test module imports the fixtures that its tests take.
"""

from typing import Any

import pytest

from tests.e2e.lab.cloud import Cloud, eventually
from tests.e2e.lab.compute import Compute


@pytest.fixture
def second(cloud: Cloud) -> Compute:
    """The second compute node, which stays for the rest of the session."""
    return cloud.computes[1] if len(cloud.computes) > 1 else cloud.add_compute()


@pytest.fixture
def server(cloud: Cloud, second: Compute) -> str:
    """A server with the stick A1 on the first host; B1 is free on the second."""
    cloud.stick("A1")
    uuid = cloud.create("mover", flavor=cloud.flavor("usb"))
    cloud.becomes(uuid, "ACTIVE")
    cloud.has(uuid, "A1")
    cloud.stick("B1", on=second)
    return uuid


def migrations(cloud: Cloud, server: str) -> list[Any]:
    """The server's migrations as nova has them, the oldest first."""
    answer = cloud.admin.compute.get(f"/os-migrations?instance_uuid={server}", microversion="2.80")
    return sorted(answer.json()["migrations"], key=lambda each: each["id"])


def is_on(cloud: Cloud, server: str, host: str) -> None:
    """Pass when nova says that the server is on *host*."""
    eventually(lambda: cloud.server(server).compute_host, host)


def can_be_had(cloud: Cloud, serial: str) -> None:
    """Pass when no consumer holds the stick any more."""
    provider = next(uuid for name, uuid in cloud.providers().items() if name.endswith(f":{serial}"))
    eventually(lambda: cloud.placement(f"/resource_providers/{provider}/allocations")["allocations"], {})
    cloud.offered(serial)


def migrate_live(cloud: Cloud, server: str, leaves: str = "ACTIVE") -> Any:
    """Have nova migrate the server live, which then is as *leaves* says; gives the migration when it is over."""
    before = migrations(cloud, server)
    cloud.act(server, "os-migrateLive", leaves, host=None, block_migration="auto")
    over = ("completed", "error", "failed", "cancelled")
    eventually(lambda: [each["status"] in over for each in migrations(cloud, server)[len(before) :]], [True], 300)
    return migrations(cloud, server)[-1]
