"""Placement on MariaDB, which compares names without case and without spaces at their end: SQLite does not."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fixtures.mariadb import mariadb
from tests.fixtures.placement import PlacementServer
from tests.fixtures.reporting import ROOT_UUID, Host, yubikey

ROOT_NAME = "host1"


@pytest.fixture(scope="module")
def cloud(placement_server: PlacementServer) -> Iterator[PlacementServer]:
    """A Placement on a MariaDB."""
    with mariadb() as database, placement_server.fresh(database):
        yield placement_server


@pytest.fixture
def host(cloud: PlacementServer, workers: ThreadPoolExecutor, tmp_path: Path) -> Host:
    """host1, whose rule offers keys of vendor 1050."""
    if not cloud.providers(ROOT_UUID):
        cloud.create_root(ROOT_NAME, ROOT_UUID)
    return Host(cloud, tmp_path, workers)


def test_this_database_takes_names_for_the_same_that_differ_in_case_or_in_spaces_at_the_end(
    cloud: PlacementServer, host: Host
) -> None:
    for name in (ROOT_NAME.upper(), f"{ROOT_NAME} "):
        assert cloud.api.post("/resource_providers", {"name": name}).status_code == 409


def test_serial_numbers_that_differ_in_case_alone_are_two_devices_at_once_and_one_after_the_other(
    cloud: PlacementServer, host: Host
) -> None:
    """A clone must not block the device whose serial number it has in other letters."""
    clone = yubikey("abc123")
    host.plug(clone)
    host.run()
    host.unplug(clone)
    host.run()
    host.plug(yubikey("ABC123"), yubikey("Abc123", port="2"))
    done = host.run()
    assert [note.text for note in done.notes] == []
    names = sorted(name for name in cloud.providers(ROOT_UUID) if name != ROOT_NAME)
    assert len(names) == 3
    assert len({name.lower() for name in names}) == 3
    assert f"{ROOT_NAME}_usb_1050:0407:abc123" in names
    assert not host.run().actions, "a quiet pass"
