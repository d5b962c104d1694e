"""Fixtures of the end-to-end tests: one cloud for all of them; after each test its servers and USB devices are gone."""

import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.e2e.lab import release
from tests.e2e.lab.cloud import Cloud
from tests.fixtures.healed import healed, write_table
from tests.integration.lab.agent import UNIT
from tests.integration.lab.report import give_time, show, try_again_with_another_host
from tests.integration.lab.vm import Vm
from usb_provider.model.guest_controllers import USB_MODEL_SINCE

__all__ = ["healed"]

# An older Nova has one controller for guests, which most tests are not written for.
OLDER = "test_older_nova.py"
collect_ignore = (
    [OLDER]
    if release.NOVA >= USB_MODEL_SINCE
    else [each.name for each in Path(__file__).parent.glob("test_*.py") if each.name != OLDER]
)
RUNNING = pytest.StashKey[Cloud]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    write_table(terminalreporter)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    give_time(items, here)
    try_again_with_another_host(items, here, lambda: hosts_of(config))
    # The walk-throughs want a cloud that nobody has used yet; a second compute node is for the moves only.
    order = {"test_pages.py": 0, "test_server_devices.py": 2, "test_moves.py": 3, "test_disturbed_moves.py": 4}
    items.sort(key=lambda item: (here in item.path.parents, order.get(item.path.name, 1)))


def hosts_of(config: pytest.Config) -> tuple[Vm, ...]:
    """The machines of the compute nodes."""
    cloud = config.stash.get(RUNNING, None)
    return () if cloud is None else tuple(each.vm for each in cloud.computes)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Make a compute node that panicked or hangs usable again, as if the test before had not been."""
    cloud = item.config.stash.get(RUNNING, None)
    if cloud is None:
        return
    lost = [each for each in cloud.computes if each.vm.is_frozen or each.vm.is_lost]
    for each in lost:
        cloud.revive(each)
    if lost:
        clear(cloud)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what the compute node has to say about it."""
    report = yield
    cloud = item.config.stash.get(RUNNING, None)
    if report.failed and cloud is not None:
        looks = {
            "the agent's journal": f"journalctl --no-pager --output=short-precise --lines=60 --unit={UNIT}",
            "nova-compute's log": "grep -av DEBUG /var/log/nova/nova-compute.log | tail -n 60",
            "USB and guests": "lsusb; virsh list --all; usb-provider status",
        }
        show(report, hosts_of(item.config), looks)
        report.sections.append(("logs of the control plane", str(cloud.controller.log)))
    return report


@pytest.fixture(scope="session")
def running_cloud(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Cloud]:
    """The cloud of the session."""
    started = time.monotonic()
    running = pytestconfig.stash[RUNNING] = Cloud.start(tmp_path_factory.mktemp("e2e"))
    print(f"\nThe cloud was up after {time.monotonic() - started:.0f} s.")
    yield running
    del pytestconfig.stash[RUNNING]
    running.stop()


@pytest.fixture
def cloud(running_cloud: Cloud) -> Iterator[Cloud]:
    """The cloud, with no server and no USB device; after the test they are gone again."""
    yield running_cloud
    clear(running_cloud)


def clear(cloud: Cloud) -> None:
    """Leave no server and no USB device."""
    cloud.delete_all()
    cloud.unplug_all()
