"""The commands that people type while they wait answer at once: what they load, and what CPU time they take."""

import re
import resource
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.processes import PROGRAM, environment
from usb_provider.model.binding.status import BindingState, DeviceStatus, GuestStatus
from usb_provider.virt.listener import Listener, ListenOptions
from usb_provider.virt.protocol import StatusAnswer

MOST_CPU_SECONDS = 0.25
RUNS = 5

HEAVY = {
    "keystoneauth1",
    "libvirt",
    "oslo_log.log",
    "oslo_service",
    "prometheus_client",
    "pyudev",
    "requests",
    "urllib3",
}
"""What takes long to load, and what neither help nor a question to the running agent needs."""

THE_AGENTS = {f"usb_provider.{name}" for name in ("agent", "placement", "model.reporting", "model.binding.decision")}
"""Ours, but only the agent's: each of them loads much of the rest."""

GUEST = GuestStatus("6a1c", "vm1", (DeviceStatus("41ce", "host1_usb_Y1", BindingState.ATTACHED, 1.0, None),))

QUICK = pytest.mark.parametrize(
    "words",
    [["--help"], ["status", "--help"], ["status"], ["status", "--json"]],
    ids=["help", "status-help", "status", "status-json"],
)


@pytest.fixture
def configuration(tmp_path: Path) -> Iterator[list[str]]:
    """Give the arguments for a configuration with Placement, rules and an agent that answers."""
    file = tmp_path / "usb-provider.conf"
    file.write_text(
        "[placement]\nauth_type = password\nauth_url = http://192.0.2.1/v3\nusername = usb-provider\n"
        f'[hook]\nsocket = {tmp_path}/hook.sock\n[usb]\ndevice_spec = {{"vendor_id": "1050"}}\n'
    )
    agent = Listener(ListenOptions(tmp_path / "hook.sock"), lambda question: StatusAnswer((GUEST,)))
    yield ["--config-file", str(file)]
    agent.stop()


def run(*command: str) -> tuple[subprocess.CompletedProcess[str], float]:
    """Run a command, and give the seconds of CPU time that it took."""
    # umockdev's library is the tests' own.
    variables = {name: value for name, value in environment().items() if name != "LD_PRELOAD"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=60, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.alone
@QUICK
def test_help_and_status_start_in_a_quarter_of_a_second(configuration: list[str], words: list[str]) -> None:
    command = [*PROGRAM, *configuration, *words]
    run(*command)  # which compiles what has changed
    taken = []
    for _ in range(RUNS):
        done, seconds = run(*command)
        assert done.returncode == 0, done.stderr
        taken.append(seconds)
    assert statistics.median(taken) <= MOST_CPU_SECONDS, taken


@QUICK
def test_help_and_status_load_nothing_heavy(configuration: list[str], words: list[str]) -> None:
    told = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr))"
    program = f"{told}; from usb_provider.cmd.main import main; sys.exit(main(sys.argv[1:]))"
    done, _ = run(sys.executable, "-c", program, *configuration, *words)
    assert done.returncode == 0, done.stderr
    assert not (HEAVY | THE_AGENTS) & set(done.stderr.splitlines()[-1].split())


def test_status_does_not_mind_what_is_wrong_in_placements_group(tmp_path: Path) -> None:
    file = tmp_path / "usb-provider.conf"
    file.write_text(f"[placement]\nauth_type = unheard-of\n[hook]\nsocket = {tmp_path}/hook.sock\n")
    done, _ = run(*PROGRAM, "--config-file", str(file), "status")
    assert done.returncode == 1
    assert done.stderr.startswith(f"usb-provider: No agent answers at {tmp_path}/hook.sock")


def test_status_prints_each_device_of_each_guest_with_its_state(configuration: list[str]) -> None:
    done, _ = run(*PROGRAM, *configuration, "status")
    head, row = (re.split(r" {2,}", line.strip()) for line in done.stdout.splitlines() if re.search(r"\w", line))
    assert head == ["Guest", "Device", "State", "Port", "Since", "Why"]
    assert row[:3] == ["vm1", "host1_usb_Y1", "attached"]
