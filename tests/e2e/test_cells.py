"""Two cells: the scheduler finds a USB device in whichever cell has it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.lab import second_host
from tests.e2e.lab.cloud import Cloud, eventually
from tests.e2e.lab.controller import CELL2_HOST, credentials, write_config


@pytest.fixture
def cell2(cloud: Cloud) -> Iterator[None]:
    """The second cell; after the test no server is put there any more."""
    cloud.controller.start_cell2()
    cloud.wait_for_host(CELL2_HOST)
    yield
    cloud.close_host(CELL2_HOST)


@pytest.mark.usefixtures("cell2")
def test_a_device_is_found_in_whichever_cell_its_host_is(cloud: Cloud, tmp_path: Path) -> None:
    eventually(lambda: CELL2_HOST in cloud.providers(), True)
    config = tmp_path / "usb-provider.conf"
    rule = '{"vendor_id": "1050", "resource_class": "CUSTOM_USB_CELL2_KEY"}'
    write_config(
        config,
        {
            "agent": {
                "root_provider_name": CELL2_HOST,
                "compute_id_file": tmp_path / "none",
                "state_dir": tmp_path / "state",
            },
            "usb": {"device_spec": rule},
            "placement": {**credentials("usb-provider"), "valid_interfaces": "public"},
        },
    )
    words = ["umockdev-wrapper", sys.executable, "-m", second_host.__name__, str(config)]
    subprocess.run(words, check=True, timeout=120)
    assert any("1050:0407" in name for name in cloud.providers())
    cloud.stick("A1")

    here = cloud.create("in-cell1", flavor=cloud.flavor("usb"))
    there = cloud.create("in-cell2", flavor=cloud.flavor("usb-cell2", {"resources:CUSTOM_USB_CELL2_KEY": "1"}))
    cloud.becomes(here, "ACTIVE")
    cloud.becomes(there, "ACTIVE")
    assert cloud.server(there).compute_host == CELL2_HOST
    assert {name.partition("_usb_")[0] for name in cloud.holds(there)} == {CELL2_HOST}
    cloud.has(here, "A1")
