"""The daemon as a process: hands at the USB ports, a real Placement that comes and goes, signals, and systemd."""

import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.keystone import Keystone, keystone
from tests.fixtures.placement import CUT, PlacementServer, assert_usb_view, placement, placement_server, usb_view
from tests.fixtures.processes import KEY, KEY_NAME, KEY_RULE, KEY_TRAITS, AgentProcess, Program, agents, program
from tests.fixtures.testbed import needs_umockdev, testbed
from usb_provider.demo.description import usb_device
from usb_provider.demo.testbed import Testbed

__all__ = ["agents", "keystone", "placement", "placement_server", "program", "testbed"]

pytestmark = needs_umockdev

Start = Callable[..., AgentProcess]

FREE = {"inventory": {"CUSTOM_USB_KEY": (1, 0)}, "traits": KEY_TRAITS, "used": 0}
GONE = {"inventory": {}, "traits": KEY_TRAITS | {"CUSTOM_USB_STATE_ABSENT"}, "used": 0}
SECOND = usb_device("1050", "0407", serial="Y2", port="3", devnum=10, speed="12", interfaces=(("03", "00", "00"),))
SECOND_NAME = "host1_usb_1050:0407:Y2"
CONSUMER = "5f3f2a80-6b1c-4b1e-8f43-6f2c6a1d9a10"


@pytest.fixture
def start(
    placement: PlacementServer, testbed: Testbed, program: Program, agents: list[AgentProcess]
) -> Iterator[Start]:
    """Starts an agent and waits until systemd would know that it is up."""
    if not program.groups["placement"]:
        program.use(placement)
    program.groups["agent"]["debounce"] = "0.05"
    program.rules = [KEY_RULE]

    def started(**how: Any) -> AgentProcess:
        agent = AgentProcess(program, **how)
        agents.append(agent)
        agent.wait_ready()
        return agent

    yield started


@pytest.fixture
def root(placement: PlacementServer) -> str:
    """The UUID of host1's compute node provider."""
    return placement.create_root("host1")


def offered(placement: PlacementServer, root: str) -> list[str]:
    """Names of the providers that have an inventory."""
    return sorted(name for name, row in usb_view(placement, root).items() if row["inventory"])


def wait_offered(agent: AgentProcess, placement: PlacementServer, root: str, *names: str) -> None:
    """Return when exactly *names* are offered and the pass that did it is over."""
    agent.eventually(lambda: offered(placement, root) == sorted(names), f"{names} are offered")
    status = f"STATUS=Reporting {len(names)} of "
    agent.eventually(lambda: any(line.startswith(status) for line in agent.systemd.heard[-1:]), status)


def writes(placement: PlacementServer) -> list[str]:
    """What was written, in order."""
    return [f"{request.method} {request.path}" for request in placement.requests if request.method != "GET"]


def passes(placement: PlacementServer) -> int:
    """How often somebody looked at the tree."""
    return sum("in_tree=" in request.path for request in placement.requests)


def proc(agent: AgentProcess, name: str) -> Path:
    """A file of the process under /proc."""
    return Path("/proc", str(agent.process.pid), name)


# Its life


def test_it_reports_at_start_tells_systemd_is_one_process_and_ends_when_asked(
    placement: PlacementServer, testbed: Testbed, start: Start, root: str
) -> None:
    testbed.add(KEY)
    agent = start()
    wait_offered(agent, placement, root, KEY_NAME)
    assert_usb_view(placement, root, {KEY_NAME: FREE})
    assert agent.systemd.heard[0] == "READY=1"
    assert agent.systemd.heard[-1] == "STATUS=Reporting 1 of 2 USB devices below host1"

    # One INFO line for each write, and nothing else but what the root is.
    said = agent.logged("Placement: ")
    assert len(said) == len(writes(placement))
    assert [entry for entry in agent.log if entry not in said] == [
        f"INFO usb_provider.agent.root_watch: The compute node provider is host1 ({root})."
    ]
    assert len(agent.output.splitlines()) == len(agent.log), "something else than log lines was written"

    children = "".join(file.read_text() for file in proc(agent, "task").glob("*/children"))
    assert children == ""
    assert "greenlet" not in proc(agent, "maps").read_text(), "eventlet was imported"

    began = time.monotonic()
    assert agent.stop() == 0
    assert time.monotonic() - began < 5
    assert agent.systemd.heard[-1] == "STOPPING=1"
    assert_usb_view(placement, root, {KEY_NAME: FREE})
    assert "Traceback" not in agent.output


@pytest.mark.alone
def test_it_follows_every_plug_and_unplug_within_a_second(
    placement: PlacementServer, testbed: Testbed, start: Start, root: str
) -> None:
    agent = start()
    wait_offered(agent, placement, root)

    def seconds(hands: Callable[[], object], view: dict[str, Any]) -> float:
        placement.requests.clear()
        agent.forget()
        began = time.monotonic()
        hands()
        agent.eventually(lambda: usb_view(placement, root) == {KEY_NAME: view}, "the change is reported")
        took = time.monotonic() - began
        agent.eventually(lambda: "STATUS=Reporting" in "".join(agent.systemd.heard), "the pass is over")
        assert agent.log == agent.logged("INFO usb_provider.placement.apply: Placement: ")
        assert len(agent.log) == len(writes(placement))
        return took

    took = []
    for _ in range(3):  # the machine that runs the tests may be busy
        took += [seconds(lambda: testbed.add(KEY), FREE), seconds(lambda: testbed.unplug("1-2"), GONE)]
        if max(took[-2:]) < 1:
            break
    assert max(took[-2:]) < 1, took


def test_a_quiet_pass_costs_one_request_and_says_nothing(
    placement: PlacementServer, testbed: Testbed, program: Program, start: Start, root: str
) -> None:
    testbed.add(KEY)
    program.groups["agent"]["resync_interval"] = 1
    agent = start()
    wait_offered(agent, placement, root, KEY_NAME)
    agent.forget()
    placement.requests.clear()
    agent.eventually(lambda: len(placement.requests) >= 2, "two more passes")
    assert {(request.method, request.path) for request in placement.requests} == {
        ("GET", f"/resource_providers?in_tree={root}")
    }
    assert agent.log == []


def test_a_hub_with_many_devices_is_few_passes_and_nothing_is_left_open(
    placement: PlacementServer, testbed: Testbed, program: Program, start: Start, root: str
) -> None:
    agent = start()
    wait_offered(agent, placement, root)
    program.groups["agent"]["debounce"] = "0.5"
    program.write()
    agent.signal(signal.SIGHUP)
    agent.eventually(lambda: agent.logged("The configuration was read again."), "the new debounce")

    def burst() -> None:
        before = passes(placement)
        for port in range(1, 16):
            testbed.add(usb_device("1050", "0407", serial=f"S{port}", port=f"1.{port}", devnum=port + 2))
        wait_offered(agent, placement, root, *(f"host1_usb_1050:0407:S{port}" for port in range(1, 16)))
        testbed.unplug("1-1")
        wait_offered(agent, placement, root)
        assert passes(placement) - before <= 8, "thirty events of thirty devices were not put together"

    burst()
    files, threads = len(list(proc(agent, "fd").iterdir())), len(list(proc(agent, "task").iterdir()))
    burst()
    assert len(list(proc(agent, "fd").iterdir())) <= files
    assert len(list(proc(agent, "task").iterdir())) <= threads


# Neighbours that are away


def test_it_waits_for_placement_at_start_and_lives_through_its_absence_later(
    placement: PlacementServer, testbed: Testbed, start: Start, root: str
) -> None:
    testbed.add(KEY)
    refused = f"WARNING usb_provider.agent.notices: {placement.endpoint} does not answer (Connection refused)"
    with placement.down():
        agent = start()
        agent.eventually(lambda: agent.systemd.heard[-1].startswith("STATUS=Waiting: "), "it waits")
        testbed.unplug("1-2")
        testbed.add(KEY)
        time.sleep(0.5)
    wait_offered(agent, placement, root, KEY_NAME)
    assert [entry for entry in agent.log if not entry.startswith("INFO")] == agent.logged(refused)
    assert len(agent.logged(refused)) == 1
    assert len(agent.logged("INFO usb_provider.agent.notices: Resolved: ")) == 1

    agent.forget()
    with placement.down():
        testbed.add(SECOND)
        agent.eventually(lambda: agent.logged(refused), "it notices")
        time.sleep(0.5)
    wait_offered(agent, placement, root, KEY_NAME, SECOND_NAME)
    assert len(agent.logged(refused)) == 1
    assert len(agent.logged("INFO usb_provider.agent.notices: Resolved: ")) == 1
    assert agent.logged("ERROR") == []


def test_it_waits_for_the_compute_node_and_for_the_file_that_names_it(
    placement: PlacementServer, testbed: Testbed, program: Program, start: Start
) -> None:
    testbed.add(KEY)
    agent = start()
    missing = "WARNING usb_provider.agent.notices: Placement has no compute node provider named host1"
    agent.eventually(lambda: agent.logged(missing), "it says so")
    root = "9a0c5f0e-2f5b-4a52-b1a5-d1d7a6f6c5f2"
    (program.directory / "compute_id").write_text(root + "\n")
    by_uuid = f"Placement has no compute node provider {root} (from {program.directory}/compute_id)"
    agent.eventually(lambda: any(by_uuid in line for line in agent.systemd.heard), "it reads the file")
    placement.create_root("another-name", root)
    name = KEY_NAME.replace("host1", "another-name")
    wait_offered(agent, placement, root, name)
    assert len(agent.logged(missing)) == 1
    assert len(agent.logged("INFO usb_provider.agent.notices: Resolved: ")) == 1


def test_refused_access_is_said_once_and_repaired_by_itself(
    placement: PlacementServer, testbed: Testbed, start: Start, root: str
) -> None:
    testbed.add(KEY)
    placement.fail_next(".", 401, times=None)
    agent = start()
    refused = "ERROR usb_provider.agent.notices: Placement answers 401 "
    agent.eventually(lambda: len(placement.requests) >= 2, "it tries again")
    placement.calm()
    wait_offered(agent, placement, root, KEY_NAME)
    assert len(agent.logged(refused)) == 1
    assert len(agent.logged("INFO usb_provider.agent.notices: Resolved: ")) == 1
    assert "Traceback" not in agent.output


def test_no_credentials_are_logged_even_when_all_is_and_tokens_are_renewed(
    *, placement: PlacementServer, keystone: Keystone, testbed: Testbed, program: Program, start: Start, root: str
) -> None:
    keystone.catalogue = {"placement": placement.endpoint}
    program.groups["placement"] = keystone.options()
    secret, keystone.password = keystone.password, "not yet"
    testbed.add(KEY)
    agent = start(words=["--debug"])
    refused = "ERROR usb_provider.agent.notices: Keystone refuses the credentials in [placement]"
    agent.eventually(lambda: agent.logged(refused), "it is refused")
    keystone.password = secret
    wait_offered(agent, placement, root, KEY_NAME)
    assert len(agent.logged(refused)) == 1

    first, keystone.token = keystone.token, keystone.token + "-second"
    placement.fail_next("GET .*in_tree", 401)  # as for a token that is over
    testbed.add(SECOND)
    wait_offered(agent, placement, root, KEY_NAME, SECOND_NAME)
    assert keystone.tokens_given == 2
    assert agent.logged("DEBUG") != []
    assert [word for word in (secret, first, first.partition(":")[2], keystone.token) if word in agent.output] == []


# Signals


def test_a_hang_up_reads_rules_and_log_level_again_and_a_bad_file_leaves_everything(
    placement: PlacementServer, testbed: Testbed, program: Program, start: Start, root: str
) -> None:
    testbed.add(KEY)
    rules, program.rules = program.rules, []
    agent = start()
    wait_offered(agent, placement, root)

    def hang_up() -> None:
        agent.forget()
        agent.signal(signal.SIGHUP)
        agent.eventually(lambda: "READY=1" in agent.systemd.heard, "it is ready again")

    program.rules = rules
    program.groups["DEFAULT"]["debug"] = "true"
    program.write()
    hang_up()
    heard = agent.systemd.heard
    assert heard[0] == "RELOADING=1"
    assert re.fullmatch(r"MONOTONIC_USEC=\d{5,}", heard[1])
    wait_offered(agent, placement, root, KEY_NAME)
    assert agent.logged("INFO usb_provider.agent.process: The configuration was read again.")
    assert agent.logged("DEBUG usb_provider.agent.process: Pass: ")

    stays = "ERROR usb_provider.agent.process: The configuration stays as it was: "
    program.rules = [{"vendor_id": "10"}, {"class": "keys"}]
    program.groups["DEFAULT"]["debug"] = "false"
    program.write()
    hang_up()
    assert [entry.removeprefix(stays)[:26] for entry in agent.logged(stays)] == [
        "[usb]device_spec rule 1 ({",
        "[usb]device_spec rule 2 ({",
    ]
    testbed.add(SECOND)
    wait_offered(agent, placement, root, KEY_NAME, SECOND_NAME)
    agent.eventually(lambda: agent.logged("DEBUG usb_provider.agent.process: Pass: "), "the log level is as it was")

    program.file.write_bytes(b"[usb]\n\xff\n")
    hang_up()
    (entry,) = agent.logged(stays)
    assert "is not UTF-8 text" in entry
    program.file.unlink()
    hang_up()
    (entry,) = agent.logged(stays)
    assert "does not exist" in entry

    program.rules = [KEY_RULE | {"serial": "Y2"}]
    program.write()
    hang_up()
    wait_offered(agent, placement, root, SECOND_NAME)
    agent.eventually(lambda: len(agent.systemd.heard) >= 4, "the pass is over")
    agent.forget()
    testbed.unplug("1-3")
    wait_offered(agent, placement, root)
    assert agent.logged("DEBUG") == []


def test_a_hang_up_is_heard_while_it_waits_and_a_term_ends_it_at_once(
    placement: PlacementServer, testbed: Testbed, program: Program, start: Start
) -> None:
    testbed.add(KEY)
    agent = start()
    # With each attempt it waits longer; after some it is in the middle of a long wait.
    agent.eventually(lambda: len(placement.requests) >= 4, "it has tried a few times")
    program.groups["DEFAULT"]["debug"] = "true"
    program.write()
    began = time.monotonic()
    agent.signal(signal.SIGHUP)
    agent.eventually(lambda: "RELOADING=1" in agent.systemd.heard, "it reads again")
    assert time.monotonic() - began < 5
    began = time.monotonic()
    assert agent.stop() == 0
    assert time.monotonic() - began < 5
    assert "STOPPING=1" in agent.systemd.heard
    assert writes(placement) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_agent_ends_with_0_at_either_signal_and_leaves_placement_as_it_is(
    placement: PlacementServer, testbed: Testbed, start: Start, root: str, number: signal.Signals
) -> None:
    # Some releases of oslo.service have no handler for SIGTERM, and all of them end abruptly at SIGINT.
    testbed.add(KEY)
    agent = start()
    wait_offered(agent, placement, root, KEY_NAME)
    agent.signal(number)
    assert agent.process.wait(15) == 0
    agent.eventually(lambda: agent.systemd.heard[-1] == "STOPPING=1", "systemd is told")
    assert agent.logged("INFO usb_provider.agent.process: Ended. Placement is left as it is.")
    assert "Traceback" not in agent.output
    assert_usb_view(placement, root, {KEY_NAME: FREE})


def test_a_second_signal_while_the_agent_ends_changes_nothing(placement: PlacementServer, start: Start) -> None:
    agent = start()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        agent.signal(number)
    assert agent.process.wait(15) == 0
    assert "Traceback" not in agent.output


def test_a_hang_up_that_goes_wrong_in_a_way_that_nobody_thought_of_does_not_end_the_passes(
    placement: PlacementServer, testbed: Testbed, program: Program, start: Start, root: str
) -> None:
    agent = start()
    wait_offered(agent, placement, root)
    # oslo.log reads this file at once, and raises an error of its own.
    program.groups["DEFAULT"]["log_config_append"] = "/nonexistent/logging.conf"
    program.write()
    agent.signal(signal.SIGHUP)
    agent.eventually(lambda: agent.logged("The configuration stays as it was: LogConfigError"), "it says so")
    testbed.add(KEY)
    wait_offered(agent, placement, root, KEY_NAME)


# What should not be


def test_an_allocated_device_that_is_unplugged_is_said_once_and_once_when_it_is_back(
    placement: PlacementServer, testbed: Testbed, program: Program, start: Start, root: str
) -> None:
    testbed.add(KEY)
    program.groups["agent"]["resync_interval"] = 1
    agent = start()
    wait_offered(agent, placement, root, KEY_NAME)
    placement.allocate(CONSUMER, {placement.providers(root)[KEY_NAME]["uuid"]: {"CUSTOM_USB_KEY": 1}})
    agent.forget()
    testbed.unplug("1-2")
    agent.eventually(lambda: agent.logged("WARNING"), "it warns")
    placement.requests.clear()
    agent.eventually(lambda: passes(placement) >= 2, "two more passes")
    assert_usb_view(
        placement,
        root,
        {KEY_NAME: GONE | {"inventory": {"CUSTOM_USB_KEY": (1, 1)}, "used": 1}},
    )
    (warning,) = agent.logged("WARNING")
    assert KEY_NAME in warning
    assert CONSUMER in warning or "allocat" in warning or "instance" in warning

    agent.forget()
    testbed.add(KEY)
    agent.eventually(lambda: agent.logged("Resolved: "), "it says that this is over")
    placement.requests.clear()
    agent.eventually(lambda: passes(placement) >= 2, "two more passes")
    assert len(agent.logged("Resolved: ")) == 1
    assert agent.logged("WARNING") == []
    assert_usb_view(placement, root, {KEY_NAME: FREE | {"used": 1}})


@pytest.mark.parametrize("write", ["PUT /resource_providers/.*/traits", "PUT .*/inventories"])
def test_an_agent_that_is_killed_between_two_writes_is_completed_by_the_next(
    placement: PlacementServer, testbed: Testbed, start: Start, root: str, write: str
) -> None:
    agent = start()
    wait_offered(agent, placement, root)
    placement.before(write, agent.process.kill)
    placement.fail_next(write, CUT)
    testbed.add(KEY)
    assert agent.process.wait(15) == -signal.SIGKILL
    assert offered(placement, root) == []
    assert list(usb_view(placement, root)) == [KEY_NAME]

    agent = start()
    wait_offered(agent, placement, root, KEY_NAME)
    assert_usb_view(placement, root, {KEY_NAME: FREE})
    assert agent.logged("WARNING") == agent.logged("ERROR") == []


def test_a_restart_changes_nothing_when_nothing_has_changed(
    placement: PlacementServer, testbed: Testbed, start: Start, root: str
) -> None:
    testbed.add(KEY)
    agent = start()
    wait_offered(agent, placement, root, KEY_NAME)
    assert agent.stop() == 0
    placement.requests.clear()
    testbed.unplug("1-2")
    testbed.add(KEY.replace("DEVNUM=009", "DEVNUM=011").replace("A: devnum=9", "A: devnum=11"))
    agent = start()
    wait_offered(agent, placement, root, KEY_NAME)
    assert writes(placement) == []


def test_a_state_directory_that_cannot_be_written_is_said_once_and_keeps_nothing_from_being_reported(
    placement: PlacementServer, testbed: Testbed, program: Program, start: Start, root: str
) -> None:
    testbed.add(KEY)
    obstacle = program.directory / "obstacle"
    obstacle.write_text("")
    program.groups["agent"]["state_dir"] = obstacle / "state"
    program.rules = [KEY_RULE | {"traits": ["CUSTOM_SITE_A"]}]
    agent = start()
    wait_offered(agent, placement, root, KEY_NAME)
    agent.eventually(lambda: agent.logged("WARNING usb_provider.agent.notices: [agent]state_dir "), "it says so")
    obstacle.unlink()
    agent.process.send_signal(signal.SIGHUP)  # which makes a pass
    agent.eventually(lambda: agent.logged("Resolved: [agent]state_dir "), "it says that this is over")
    assert len(agent.logged("WARNING usb_provider.agent.notices: [agent]state_dir ")) == 1
    assert "Traceback" not in agent.output


# What is logged


def test_debug_explains_each_verdict_once_until_it_changes(
    placement: PlacementServer, testbed: Testbed, program: Program, start: Start, root: str
) -> None:
    testbed.add(KEY)
    testbed.add(usb_device("0529", "0001", port="4", devnum=12))
    program.groups["agent"]["resync_interval"] = 1
    agent = start(words=["--debug"])
    wait_offered(agent, placement, root, KEY_NAME)
    placement.requests.clear()
    agent.eventually(lambda: passes(placement) >= 2, "two more passes")
    (entry,) = agent.logged("Device 1-2, ")
    assert "Device 1-2, 1050:0407, key 1050:0407:Y1: Offered by device_spec rule 1." in entry
    (other,) = agent.logged("Device 1-4, ")
    assert "Not offered: " in other
    testbed.unplug("1-4")
    agent.eventually(lambda: agent.logged("Device 1-4 was unplugged."), "it says that it went")


def test_debug_before_or_behind_the_command_is_the_same(
    placement: PlacementServer, testbed: Testbed, program: Program, root: str
) -> None:
    testbed.add(KEY)
    program.use(placement)
    program.rules = [KEY_RULE]
    for words in (("--debug", "plan"), ("plan", "--debug")):
        done = program.run(*words)
        assert done.code == 0
        assert "Device 1-2, 1050:0407, key 1050:0407:Y1: Offered by device_spec rule 1." in done.err
