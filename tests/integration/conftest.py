"""Fixtures of the integration tests: a virtual test host, the product installed in it, and a Placement that it reaches.

``vm`` runs for the whole session; after each test its guests and its USB devices are gone. ``placement`` is empty for
each test and listens on loopback, which is 10.0.2.2 for the test host. ``agent`` is the installed agent, running for
one test. ``pair`` is that and a second such host, for guests to move to.
"""

import contextlib
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.fixtures.healed import healed, write_table
from tests.fixtures.placement import PlacementServer, placement, placement_server
from tests.integration.lab import domains
from tests.integration.lab.agent import QUICK, ROOT_UUID, UNIT, Agent, build_wheel
from tests.integration.lab.cloud import Cloud
from tests.integration.lab.pair import Pair
from tests.integration.lab.report import give_time, show, try_again_with_another_host
from tests.integration.lab.vm import Vm

__all__ = ["healed", "placement", "placement_server"]

RUNNING = pytest.StashKey[list[Vm]]()
SECOND_ROOT_UUID = "0b5c8e0e-6f1a-4a55-9a0e-5b8f6f3d2c22"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    write_table(terminalreporter)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    give_time(items, Path(__file__).parent)
    try_again_with_another_host(items, Path(__file__).parent, lambda: config.stash.get(RUNNING, ()))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Make a test host that panicked or hangs usable again, as if the test before had not been."""
    for host in item.config.stash.get(RUNNING, ()):
        if host.is_frozen or host.is_lost:
            host.revive()
            Agent.forget(host)
            clear(host)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what the test hosts have to say about it."""
    report = yield
    if report.failed:
        looks = {
            "the agent's journal": f"journalctl --no-pager --output=short-precise --lines=60 --unit={UNIT}",
            "libvirtd's journal": "journalctl --no-pager --output=short-precise --lines=20 --unit=libvirtd",
            "the kernel on refused system calls and crashes": "dmesg | grep -E 'type=1326|segfault|Out of memory'",
            "USB and guests": "lsusb; virsh list --all",
        }
        show(report, item.config.stash.get(RUNNING, ()), looks)
    return report


def clear(host: Vm) -> None:
    """Leave no guest and no USB device."""
    domains.destroy_all(host)
    host.unplug_all()


@contextlib.contextmanager
def running(directory: Path, config: pytest.Config, number: int) -> Iterator[Vm]:
    """A test host that failures tell of."""
    host = Vm.start(directory, number=number)
    hosts = config.stash.setdefault(RUNNING, [])
    hosts.append(host)
    try:
        yield host
    finally:
        hosts.remove(host)
        host.stop()


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the session's test hosts."""
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="session")
def running_vm(lab: Path, pytestconfig: pytest.Config) -> Iterator[Vm]:
    """The test host of the session."""
    with running(lab / "1", pytestconfig, 1) as host:
        yield host


@pytest.fixture
def vm(running_vm: Vm) -> Iterator[Vm]:
    """The test host, with no USB device and no guest; after the test they are gone again."""
    yield running_vm
    clear(running_vm)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def installed(running_vm: Vm, wheel: Path) -> Vm:
    """The test host with the wheel and the agent's unit installed; the agent does not run."""
    Agent.install(running_vm, wheel)
    return running_vm


@pytest.fixture
def root(placement: PlacementServer, vm: Vm) -> str:
    """The UUID of the compute node provider, in Placement and where nova-compute leaves it on the host."""
    return make_root(placement, vm, ROOT_UUID)


def make_root(placement: PlacementServer, host: Vm, uuid: str) -> str:
    """Make the provider of a compute node, and leave its UUID where nova-compute does."""
    host.put(uuid + "\n", "/var/lib/nova/compute_id")
    return placement.create_root(host.name, uuid)


@pytest.fixture
def agent(installed: Vm, vm: Vm, placement: PlacementServer, root: str) -> Iterator[Agent]:
    """The installed agent, configured to offer sticks and running; after the test it has never been there."""
    agent = Agent(vm, placement)
    agent.configure()
    agent.start()
    yield agent
    Agent.forget(vm)


@pytest.fixture(scope="session")
def hook(installed: Vm) -> None:
    """libvirt's hook, installed by the product's own command; libvirt has been restarted, so that it knows it."""
    install_hook(installed)


def install_hook(host: Vm) -> None:
    """Install the hook, and have libvirt know it."""
    host.ssh("usb-provider install-hook && systemctl restart libvirtd && sync")
    host.wait_for("virsh list >/dev/null")


@pytest.fixture
def cloud(vm: Vm, hook: None, agent: Agent, placement: PlacementServer, root: str) -> Cloud:
    """The test host with everything in it, and what a scheduler does to it."""
    agent.configure(options=QUICK)
    agent.reload()
    return Cloud(vm, agent, placement, root)


@pytest.fixture(scope="session")
def running_second(lab: Path, running_vm: Vm, pytestconfig: pytest.Config, wheel: Path) -> Iterator[Vm]:
    """A second test host with all that is installed on the first, and both on one wire."""
    with running(lab / "2", pytestconfig, 2) as host:
        for each in (running_vm, host):
            each.join_lan()
        Agent.install(host, wheel)
        install_hook(host)
        yield host


@pytest.fixture
def pair(cloud: Cloud, running_second: Vm, placement: PlacementServer) -> Iterator[Pair]:
    """Two compute nodes, of which the first has the guests to begin with; the second is empty again after the test."""
    agent = Agent(running_second, placement)
    root = make_root(placement, running_second, SECOND_ROOT_UUID)
    agent.configure(options=QUICK)
    agent.start()
    yield Pair(cloud, Cloud(running_second, agent, placement, root))
    Agent.forget(running_second)
    clear(running_second)
