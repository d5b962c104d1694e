"""Fixtures of the integration tests: a virtual test host, the product installed in it, and a Placement that it reaches.

``vm`` runs for the whole session; after each test its guests and its USB devices are gone. ``placement`` is empty for
each test and listens on loopback, which is 10.0.2.2 for the test host. ``agent`` is the installed agent, running for
one test.
"""

import shutil
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.fixtures.placement import PlacementServer, placement, placement_server
from tests.integration.lab import domains
from tests.integration.lab.agent import ROOT_NAME, ROOT_UUID, UNIT, Agent
from tests.integration.lab.cloud import Cloud
from tests.integration.lab.vm import LabError, Vm

__all__ = ["placement", "placement_server"]

TOP = Path(__file__).parents[2]
TIMEOUT_SECONDS = 1800
"""For one test, the making of the image and of the saved host included."""
RUNNING = pytest.StashKey[Vm]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT_SECONDS))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what the test host has to say about it."""
    report = yield
    host = item.config.stash.get(RUNNING, None)
    if report.failed and host is not None:
        looks = {
            "the agent's journal": f"journalctl --no-pager --output=short-precise --lines=60 --unit={UNIT}",
            "libvirtd's journal": "journalctl --no-pager --output=short-precise --lines=20 --unit=libvirtd",
            "the kernel on refused system calls and crashes": "dmesg | grep -E 'type=1326|segfault|Out of memory'",
            "USB and guests of the test host": "lsusb; virsh list --all",
        }
        for title, command in looks.items():
            try:
                report.sections.append((title, host.ssh(command, check=False, timeout=60)))
            except LabError as error:
                report.sections.append((title, str(error)))
        report.sections.append(("the test host's console", str(host.console)))
    return report


@pytest.fixture(scope="session")
def running_vm(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Vm]:
    """The test host of the session."""
    running = pytestconfig.stash[RUNNING] = Vm.start(tmp_path_factory.mktemp("lab"))
    yield running
    del pytestconfig.stash[RUNNING]
    running.stop()


@pytest.fixture
def vm(running_vm: Vm) -> Iterator[Vm]:
    """The test host, with no USB device and no guest; after the test they are gone again."""
    yield running_vm
    domains.destroy_all(running_vm)
    running_vm.unplug_all()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, made from a copy of this working tree: setuptools would take up what an older build left."""
    directory = tmp_path_factory.mktemp("wheel")
    source = directory / "source"
    left_out = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "tests", "__pycache__")
    shutil.copytree(TOP, source, ignore=left_out)
    words = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(directory), str(source))
    subprocess.run([sys.executable, *words], check=True)
    (built,) = directory.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def installed(running_vm: Vm, wheel: Path) -> Vm:
    """The test host with the wheel and the agent's unit installed; the agent does not run."""
    Agent.install(running_vm, wheel)
    return running_vm


@pytest.fixture
def root(placement: PlacementServer, vm: Vm) -> str:
    """The UUID of the compute node provider, in Placement and where nova-compute leaves it on the host."""
    vm.put(ROOT_UUID + "\n", "/var/lib/nova/compute_id")
    return placement.create_root(ROOT_NAME, ROOT_UUID)


@pytest.fixture
def agent(installed: Vm, vm: Vm, placement: PlacementServer, root: str) -> Iterator[Agent]:
    """The installed agent, configured to offer sticks and running; after the test it has never been there."""
    agent = Agent(vm, placement)
    agent.configure()
    agent.start()
    yield agent
    agent.forget()


@pytest.fixture(scope="session")
def hook(installed: Vm) -> None:
    """libvirt's hook, installed by the product's own command; libvirt has been restarted, so that it knows it."""
    installed.ssh("usb-provider install-hook && systemctl restart libvirtd")
    installed.wait_for("virsh list >/dev/null")


@pytest.fixture
def cloud(vm: Vm, hook: None, agent: Agent, placement: PlacementServer, root: str) -> Cloud:
    """The test host with everything in it, and what a scheduler does to it."""
    agent.configure(options={"agent": {"resync_interval": "2"}})
    agent.reload()
    return Cloud(vm, agent, placement, root)
