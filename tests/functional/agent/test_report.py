"""SIGUSR2: the agent says all that it knows, and goes on as if nothing had been."""

import signal
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.keystone import Keystone, keystone
from tests.fixtures.placement import PlacementServer, placement, placement_server
from tests.fixtures.processes import KEY, KEY_NAME, KEY_RULE, AgentProcess, Program, agents, program
from tests.fixtures.testbed import needs_umockdev, testbed
from usb_provider.demo.testbed import Testbed

__all__ = ["agents", "keystone", "placement", "placement_server", "program", "testbed"]

pytestmark = needs_umockdev

CONSUMER = "5f3f2a80-6b1c-4b1e-8f43-6f2c6a1d9a10"


@pytest.fixture
def start(placement: PlacementServer, testbed: Testbed, program: Program, agents: list[AgentProcess]) -> Any:
    """Starts an agent that reports a security key."""
    if not program.groups["placement"]:
        program.use(placement)
    program.groups["agent"]["debounce"] = "0.05"
    program.rules = [KEY_RULE]
    testbed.add(KEY)

    def started(**how: Any) -> AgentProcess:
        agent = AgentProcess(program, **how)
        agents.append(agent)
        agent.wait_ready()
        return agent

    return started


def reported(agent: AgentProcess) -> None:
    """Return when a pass has succeeded."""
    agent.eventually(lambda: "STATUS=Reporting 1 of 2 USB devices below host1" in agent.systemd.heard, "a pass")


def test_the_report_tells_the_last_pass_the_devices_and_why_and_every_thread(
    placement: PlacementServer, start: Any
) -> None:
    root = placement.create_root("host1")
    agent = start()
    reported(agent)
    agent.signal(signal.SIGUSR2)
    agent.eventually(lambda: "Configuration" in agent.output and "state_dir" in agent.output, "the report")
    text = agent.output
    assert "Guru Meditation of usb-provider agent" in text
    assert f"Compute node: host1 ({root})" in text
    assert f"done: create provider {KEY_NAME}" in text
    assert "1-2 1050:0407 bus 1 device 9 1050:0407:Y1: Offered by device_spec rule 1." in text
    assert "Guests are not served: [libvirt]enabled is false" in text
    assert "usb_provider/agent/loop.py" in text and "_work" in text
    for name in ("MainThread", "report", "udev", "reports"):
        assert f" {name}\n" in text
    assert "cannot be told" not in text


def test_the_agent_goes_on_after_many_reports_and_ends_at_once_when_asked(
    placement: PlacementServer, start: Any, testbed: Testbed
) -> None:
    placement.create_root("host1")
    agent = start()
    reported(agent)
    for _ in range(50):
        agent.signal(signal.SIGUSR2)
    agent.eventually(lambda: "state_dir" in agent.output, "a report")
    agent.forget()
    testbed.unplug("1-2")
    agent.eventually(lambda: "STATUS=Reporting 0 of 1 USB devices below host1" in agent.systemd.heard, "a pass")
    agent.signal(signal.SIGUSR2)
    assert agent.stop() == 0
    assert "Traceback" not in agent.output


def test_a_report_in_the_first_moment_says_that_there_was_no_pass_yet(placement: PlacementServer, start: Any) -> None:
    with placement.down():
        agent = start()
        agent.eventually(lambda: "STATUS=Waiting: " in "".join(agent.systemd.heard), "it waits")
        agent.signal(signal.SIGUSR2)
        agent.eventually(lambda: "state_dir" in agent.output, "the report")
    assert "No pass has succeeded yet." in agent.output
    assert f": {placement.endpoint} does not answer (Connection refused)" in agent.output.partition("Last pass")[2]


def test_the_report_goes_to_the_directory_for_it_and_is_for_its_owner_only(
    placement: PlacementServer, program: Program, start: Any, tmp_path: Path
) -> None:
    placement.create_root("host1")
    (tmp_path / "reports").mkdir()
    program.groups["oslo_reports"] = {"log_dir": str(tmp_path / "reports")}
    agent = start()
    reported(agent)
    agent.signal(signal.SIGUSR2)
    agent.eventually(lambda: agent.logged("The report that SIGUSR2 asked for is in"), "the report")
    (file,) = (tmp_path / "reports").iterdir()
    assert file.name.startswith("usb-provider-agent_gurumeditation_")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert KEY_NAME in file.read_text()
    assert "Guru Meditation" not in agent.output


def test_a_directory_that_cannot_be_written_is_said_and_the_report_is_not_lost(
    placement: PlacementServer, program: Program, start: Any, tmp_path: Path
) -> None:
    placement.create_root("host1")
    program.groups["oslo_reports"] = {"log_dir": str(tmp_path / "nowhere")}
    agent = start()
    reported(agent)
    agent.signal(signal.SIGUSR2)
    agent.eventually(lambda: "state_dir" in agent.output, "the report")
    assert agent.logged("since it cannot write to")
    assert KEY_NAME in agent.output


def test_no_secret_is_in_the_report(
    placement: PlacementServer, keystone: Keystone, program: Program, start: Any
) -> None:
    placement.create_root("host1")
    keystone.catalogue = {"placement": placement.endpoint}
    program.groups["placement"] = keystone.options()
    agent = start()
    reported(agent)
    agent.signal(signal.SIGUSR2)
    agent.eventually(lambda: "state_dir" in agent.output, "the report")
    assert "password" in agent.output
    assert keystone.password not in agent.output
    assert keystone.token not in agent.output


def test_the_library_is_loaded_for_a_report_only_and_nothing_green_with_it(
    placement: PlacementServer, start: Any
) -> None:
    placement.create_root("host1")
    agent = start(flags=["-X", "importtime"])
    reported(agent)
    assert "oslo_reports" not in agent.output
    agent.signal(signal.SIGUSR2)
    agent.eventually(lambda: "state_dir" in agent.output, "the report")
    assert "oslo_reports" in agent.output
    assert "greenlet" not in Path("/proc", str(agent.process.pid), "maps").read_text()
