"""Every command as a process, against a real udev and a real Placement: what it prints, where, and its exit code.

:meth:`Program.run` checks for each that there is no traceback and nothing that a terminal would act on.
"""

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.keystone import Keystone, keystone
from tests.fixtures.placement import PlacementServer, assert_usb_view, placement, placement_server, usb_view
from tests.fixtures.processes import (
    KEY,
    KEY_NAME,
    KEY_RULE,
    KEY_TRAITS,
    PROGRAM,
    Program,
    as_at_a_terminal,
    environment,
    program,
)
from tests.fixtures.testbed import eventually, needs_umockdev, testbed
from usb_provider.demo import recording
from usb_provider.demo.description import usb_device
from usb_provider.demo.recording import Recording
from usb_provider.demo.testbed import Testbed

__all__ = ["keystone", "placement", "placement_server", "program", "testbed"]

pytestmark = [needs_umockdev, pytest.mark.usefixtures("testbed")]

COMMANDS = ("agent", "devices", "plan", "sync", "status", "doctor", "install-hook", "demo")

DEVICE_KEYS = {
    *("sys_name", "busnum", "devnum", "vendor_id", "product_id", "serial", "manufacturer", "product", "classes"),
    *("speed", "port_path", "controller", "key", "identity", "offered", "reason", "resource_class", "traits"),
    *("provider_uuid", "provider_name", "consumer", "domain"),
}

TERMINAL_ESCAPES = "\x1b[31mAcme\x1b]0;owned\x07\u202e"


@pytest.fixture
def root(placement: PlacementServer, program: Program) -> str:
    """The UUID of host1's compute node provider in the Placement that the program is configured for."""
    program.use(placement)
    return placement.create_root("host1")


@pytest.fixture
def key(testbed: Testbed, program: Program) -> str:
    """A security key that the only rule offers."""
    program.rules = [KEY_RULE]
    return testbed.add(KEY)


def busy(testbed: Testbed) -> Recording:
    """Plug in all devices of the bundled recording."""
    recorded = Recording.read(recording.bundled())
    testbed.load(recorded)
    return recorded


def is_sentence(text: str) -> bool:
    """Whether it is one, as far as a machine can tell."""
    return len(text) > 20 and (text[0].isupper() or text.startswith(("[", "http://"))) and text.endswith(".")


def all_offered(program: Program) -> list[bool]:
    """For each device that is no hub, whether it is offered."""
    return [each["offered"] for each in program.run("devices", "--json").json if "hub" not in each["reason"]]


# Help


@pytest.mark.parametrize("words", [(), *((command,) for command in COMMANDS)], ids=lambda words: "-".join(words) or "-")
def test_help_names_every_argument_and_explains_it(program: Program, words: tuple[str, ...]) -> None:
    done = program.run(*words, "--help", configured=False)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"usage: {' '.join(('usb-provider', *words))} [-h] ")
    options = re.findall(r"^  (-\S.*?)(?:$|  )", done.out, re.MULTILINE)
    for option in options:
        explained = re.search(rf"^  {re.escape(option)}\s+([^-\s].+)", done.out, re.MULTILINE)
        assert explained and len(explained[1]) > 10, option
    assert {"--config-file FILE", "--config-dir DIR", "--debug", "-h, --help"} <= set(options)
    if not words:
        assert all(re.search(rf"^    {command} +\w+", done.out, re.MULTILINE) for command in COMMANDS)


def test_the_version_is_told(program: Program) -> None:
    done = program.run("--version", configured=False)
    assert done.code == 0
    assert re.fullmatch(r"usb-provider \d+\.\d+\S*\n", done.out)


@pytest.mark.parametrize("words", [(), ("pln",), ("plan", "--jason"), ("devices", "--json", "--suggest")])
def test_a_slip_of_the_pen_exits_with_2_and_shows_the_usage(program: Program, words: tuple[str, ...]) -> None:
    done = program.run(*words, configured=False)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("usage: usb-provider")
    assert "error: " in done.err


# devices


def test_devices_lists_each_device_with_its_verdict(testbed: Testbed, program: Program) -> None:
    recorded = busy(testbed)
    program.rules = [KEY_RULE]
    done = program.run("devices")
    assert (done.code, done.err) == (0, "")
    rows = {line.split()[0]: line for line in done.out.splitlines() if line}
    assert {device.sys_name for device in recorded.devices.values()} <= set(rows)
    assert re.search(
        r"1050:0407 +Yubico YubiKey OTP\+FIDO\+CCID +CUSTOM_USB_KEY +Offered by device_spec rule 1\.", rows["1-1.1"]
    )
    assert re.search(r" - +Never offered while the host uses it: sda1 is mounted on /mnt/backup\.", rows["2-2"])
    assert "31 devices, 1 offered." in done.out


def test_devices_says_so_when_there_is_none(program: Program) -> None:
    done = program.run("devices", configured=False)
    assert done == (0, "No USB device is plugged into this host.\n", "")
    assert program.run("devices", "--json", configured=False).json == []


def test_devices_as_json_has_every_fact(testbed: Testbed, program: Program, root: str, key: str) -> None:
    testbed.add(usb_device("0529", "0001", port="3", devnum=10, speed="unknown"))
    done = program.run("devices", "--json")
    assert (done.code, done.err) == (0, "")
    found = {device["sys_name"]: device for device in done.json}
    assert {frozenset(device) for device in found.values()} == {frozenset(DEVICE_KEYS)}
    assert found["1-2"] == {
        "sys_name": "1-2",
        "busnum": 1,
        "devnum": 9,
        "vendor_id": "1050",
        "product_id": "0407",
        "serial": "Y1",
        "manufacturer": "Yubico",
        "product": "YubiKey",
        "classes": ["00", "03", "0b"],
        "speed": "full",
        "port_path": "2",
        "controller": "0000:00:14.0",
        "key": "1050:0407:Y1",
        "identity": "serial",
        "offered": True,
        "reason": "Offered by device_spec rule 1.",
        "resource_class": "CUSTOM_USB_KEY",
        "traits": sorted(KEY_TRAITS),
        "provider_uuid": found["1-2"]["provider_uuid"],
        "provider_name": KEY_NAME,
        "consumer": None,
        "domain": None,
    }
    other = found["1-3"]
    assert {name for name, value in other.items() if value is None} == {
        *("serial", "manufacturer", "product", "resource_class", "consumer", "domain")
    }
    assert (other["speed"], other["identity"], other["offered"], other["traits"]) == ("unknown", "port", False, [])
    assert (other["devnum"], other["key"]) == (10, "0529:0001@0000:00:14.0-3")
    assert found["1-2"]["provider_uuid"] == str(uuid.uuid5(uuid.UUID(root), "1050:0407:Y1"))


def test_devices_needs_no_placement(program: Program, key: str) -> None:
    done = program.run("devices", "--json")
    assert (done.code, done.err) == (0, "")
    device = done.json[-1]
    assert (device["offered"], device["provider_uuid"], device["provider_name"]) == (True, None, None)


def test_devices_works_while_placement_is_down_and_says_what_is_missing(
    placement: PlacementServer, program: Program, key: str
) -> None:
    program.use(placement)
    with placement.down():
        done = program.run("devices", "--json")
    assert done.code == 0
    assert done.json[-1]["offered"]
    assert done.json[-1]["provider_uuid"] is None
    assert len(done.err.splitlines()) == 1
    assert done.err.startswith("Without Placement: ")
    assert "Connection refused" in done.err


def test_what_devices_suggests_makes_a_configuration_that_offers_everything(testbed: Testbed, program: Program) -> None:
    busy(testbed)
    done = program.run("devices", "--suggest")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert all(line.startswith(("# ", "device_spec = {")) for line in lines)
    assert len(set(lines)) == len(lines), "a line is there twice"
    program.file.write_text(f"[usb]\n{done.out}")
    found = program.run("devices", "--json", "--config-file", program.file, configured=False).json
    left_out = [device["reason"] for device in found if not device["offered"]]
    assert len(left_out) == 12  # hubs, and what the host uses
    assert all(reason.startswith("Never offered") for reason in left_out)
    again = program.run("devices", "--suggest", "--config-file", program.file, configured=False)
    assert (again.code, again.out) == (0, "")
    assert again.err == "Nothing to suggest: every device here is offered, or never can be.\n"


# plan and sync


def test_a_plan_changes_nothing_anywhere(placement: PlacementServer, program: Program, root: str, key: str) -> None:
    for words in (("plan",), ("sync", "--dry-run", "--json")):
        done = program.run(*words)
        assert (done.code, done.err) == (0, "")
        assert KEY_NAME in done.out
    assert {request.method for request in placement.requests} == {"GET"}
    assert usb_view(placement, root) == {}
    assert not (program.directory / "state").exists()


def test_a_plan_is_what_sync_then_does_and_a_device_names_its_consumer(
    placement: PlacementServer, program: Program, root: str, key: str
) -> None:
    plan = program.run("plan", "--json").json
    assert set(plan) == {"root", "actions", "notes"}
    assert plan["root"] == {"uuid": root, "name": "host1"}
    assert plan["notes"] == []
    assert all(isinstance(action["action"], str) for action in plan["actions"])
    placement.requests.clear()
    done = program.run("sync", "--json")
    assert done.code == 0
    assert set(done.json) == {"root", "actions", "notes", "requests", "seconds"}
    assert sorted(map(json.dumps, done.json["actions"])) == sorted(map(json.dumps, plan["actions"]))
    assert done.json["requests"] == len(placement.requests)
    assert 0 < done.json["seconds"] < 30
    row = {"inventory": {"CUSTOM_USB_KEY": (1, 0)}, "traits": KEY_TRAITS, "used": 0}
    assert_usb_view(placement, root, {KEY_NAME: row})

    consumer = str(uuid.uuid4())
    placement.allocate(consumer, {placement.providers(root)[KEY_NAME]["uuid"]: {"CUSTOM_USB_KEY": 1}})
    assert program.run("devices", "--json").json[-1]["consumer"] == consumer


def test_sync_prints_what_it_did_and_a_second_one_has_nothing_to_do(
    placement: PlacementServer, program: Program, root: str, key: str
) -> None:
    first = program.run("sync")
    assert (first.code, first.err) == (0, "")
    lines = first.out.splitlines()
    assert lines[0] == f"Compute node host1 ({root})"
    assert all(line.startswith("  done: ") for line in lines[1:-1])
    assert re.fullmatch(r"\d+ requests, \d+\.\d\d s\.", lines[-1])
    assert KEY_NAME in first.out
    second = program.run("sync")
    assert second.code == 0
    assert "  nothing to do\n" in second.out
    assert {request.method for request in placement.requests[-2:]} == {"GET"}


def test_sync_exits_with_1_when_a_device_cannot_be_reported_and_says_what_to_do(
    placement: PlacementServer, program: Program, root: str, key: str
) -> None:
    placement.api.must("POST", "/resource_providers", {"name": KEY_NAME})
    done = program.run("sync")
    assert done.code == 1
    (note,) = [line for line in done.out.splitlines() if line.startswith("  note: ")]
    assert KEY_NAME in note
    assert "openstack resource provider" in note


# Where the configuration comes from


def test_the_configuration_file_may_stand_before_or_after_the_command(program: Program, key: str) -> None:
    program.write()
    for words in (("--config-file", program.file, "devices"), ("devices", "--config-file", program.file)):
        assert program.run(*words, "--json", configured=False).json[-1]["offered"]


def test_later_files_win_directories_come_last_and_rules_of_all_count_in_order(
    testbed: Testbed, program: Program, tmp_path: Path, key: str
) -> None:
    testbed.add(usb_device("0529", "0001", port="3"))
    second = tmp_path / "second.conf"
    second.write_text('[usb]\nreport_serial_trait = true\ndevice_spec = {"vendor_id": "0529"}\n')
    directory = tmp_path / "conf.d"
    directory.mkdir()
    (directory / "third.conf").write_text("[usb]\nreport_serial_trait = false\n")
    (directory / "notes.txt").write_text("not read")

    def look(*words: Any) -> tuple[bool, list[str]]:
        found = program.run("devices", "--json", *words).json
        return "CUSTOM_USB_SERIAL_Y1" in found[-2]["traits"], [each["reason"] for each in found[-2:]]

    rules = ["Offered by device_spec rule 1.", "Offered by device_spec rule 2."]
    assert look() == (False, [rules[0], "Not offered: none of the 1 device_spec rules matches it."])
    assert look("--config-file", second) == (True, rules)
    assert look("--config-file", second, "--config-dir", directory) == (False, rules)


def test_without_any_file_nothing_is_offered_and_placement_is_asked_for(program: Program, key: str) -> None:
    done = program.run("devices", "--json", configured=False)
    assert done.json[-1]["reason"] == "Not offered: no [usb]device_spec rule is set."
    done = program.run("plan", configured=False)
    assert (done.code, done.out) == (2, "")
    (complaint,) = done.complaints
    assert complaint.startswith("[placement]auth_type is not set")
    assert is_sentence(complaint)


# Bad input

WRONG_RULES = {
    '{"vendor_id": "1050", "vednor_id": "1050"}': 'unknown key "vednor_id"',
    '{"vendor_id": "1050"': "not valid JSON at character 21",
    '["1050"]': "not a JSON object",
    '{"vendor_id": "10g0"}': "vendor_id must be a string of four hex digits",
    '{"vendor_id": 1050}': "vendor_id must be a string of four hex digits",
    '{"product_id": "1"}': "product_id must be a string of four hex digits",
    '{"vendor_id": "0001", "resource_class": "USB_KEY"}': "resource_class: ",
    '{"vendor_id": "0002", "traits": ["CUSTOM_%%"]}': "traits: ",
    '{"vendor_id": "0003", "traits": ["OWNER_NOVA"]}': "the trait OWNER_NOVA means something else",
    '{"vendor_id": "0004", "traits": "CUSTOM_A"}': "traits must be a list of strings",
    '{"vendor_id": "0005", "speed": "warp"}': "speed must be one of low, full, high, super, super-plus",
    '{"vendor_id": "0006", "class": "keyboards"}': "class: ",
    '{"vendor_id": "0007", "identity": "name"}': "identity must be one of auto, serial, port",
    '{"vendor_id": "0008", "exclude": "yes"}': "exclude must be true or false",
    '{"vendor_id": "0009", "exclude": true, "resource_class": "CUSTOM_A"}': "exclude leaves the device out",
    '{"resource_class": "CUSTOM_A"}': "it has nothing to match by",
    '{"serial": ""}': "serial must be a non-empty string",
}

WRONG_OPTIONS = {
    ("agent", "root_provider_uuid", "compute1"): "[agent]root_provider_uuid is not a UUID: 'compute1'.",
    ("agent", "resync_interval", "often"): "[agent]resync_interval has a value that is not allowed: ",
    ("agent", "debounce", "11"): "[agent]debounce has a value that is not allowed: ",
    ("agent", "purge_absent_after", "-1"): "[agent]purge_absent_after has a value that is not allowed: ",
    ("usb", "report_serial_trait", "perhaps"): "[usb]report_serial_trait has a value that is not allowed: ",
    ("placement", "auth_type", "passwort"): "[placement]auth_type names no plugin that is installed: ",
}


def test_all_mistakes_are_said_at_once_each_in_a_sentence(program: Program) -> None:
    program.rules = list(WRONG_RULES)
    for group, name, value in WRONG_OPTIONS:
        program.groups[group][name] = value
    for command in ("plan", "agent"):
        done = program.run(command)
        assert (done.code, done.out) == (2, "")
        complaints = done.complaints
        assert len(complaints) == len(WRONG_RULES) + len(WRONG_OPTIONS)
        for number, words in enumerate(WRONG_RULES.values(), start=1):
            start = f"[usb]device_spec rule {number} ("
            assert any(line.startswith(start) and words in line for line in complaints), words
        for words in WRONG_OPTIONS.values():
            assert any(line.startswith(words) for line in complaints), words
        assert [line for line in complaints if not is_sentence(line)] == []
        assert "LocationInfo" not in done.err


def test_a_rule_that_can_never_match_is_a_mistake(program: Program) -> None:
    program.rules = [{"vendor_id": "1050"}, {"vendor_id": "1050", "product_id": "0407", "traits": ["CUSTOM_A"]}]
    done = program.run("devices")
    assert (done.code, done.out) == (2, "")
    (complaint,) = done.complaints
    assert complaint.startswith("[usb]device_spec rule 2 can never match: rule 1 comes first")


def file_that_is_missing(path: Path) -> Path:
    return path / "missing.conf"


def file_that_is_a_directory(path: Path) -> Path:
    (path / "directory.conf").mkdir()
    return path / "directory.conf"


def file_that_is_not_utf8(path: Path) -> Path:
    (path / "latin1.conf").write_bytes("[usb]\n# für später\n".encode("latin-1"))
    return path / "latin1.conf"


def file_that_cannot_be_parsed(path: Path) -> Path:
    (path / "broken.conf").write_text("[usb\ndevice_spec\n")
    return path / "broken.conf"


def file_that_fails_to_be_read(path: Path) -> Path:
    return Path("/proc/self/mem")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (file_that_is_missing, "does not exist"),
        (file_that_is_a_directory, "Is a directory"),
        (file_that_is_not_utf8, "is not UTF-8 text"),
        (file_that_cannot_be_parsed, "cannot be parsed"),
        (file_that_fails_to_be_read, "cannot be read"),
    ],
)
def test_a_configuration_file_of_no_use_is_named(
    program: Program, tmp_path: Path, make: Callable[[Path], Path], words: str
) -> None:
    file = make(tmp_path)
    done = program.run("devices", "--config-file", file, configured=False)
    assert (done.code, done.out) == (2, "")
    (complaint,) = done.complaints
    assert words in complaint
    assert str(file) in complaint or "permission" in complaint
    assert is_sentence(complaint)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "[placement]auth_type is not set"),
        ({"auth_type": "password"}, "[placement] lacks what auth_type password needs: auth_url"),
        (
            {"auth_type": "passwort"},
            "[placement]auth_type names no plugin that is installed: passwort; the usual one is password.",
        ),
        ({"auth_section": "keystone_authtoken"}, "[placement]auth_section names [keystone_authtoken], where no"),
        ({"auth_type": "admin_token", "token": "x", "timeout": "soon"}, "[placement] cannot be used: "),
    ],
    ids=["nothing", "incomplete", "unknown-plugin", "empty-section", "bad-number"],
)
def test_a_placement_group_that_cannot_work_is_a_mistake(program: Program, options: dict[str, str], words: str) -> None:
    program.groups["placement"] = options
    done = program.run("plan")
    assert (done.code, done.out) == (2, "")
    (complaint,) = done.complaints
    assert complaint.startswith(words)
    assert is_sentence(complaint)
    assert "LocationInfo" not in complaint


def test_a_compute_id_file_that_holds_no_uuid_is_a_mistake(program: Program, root: str) -> None:
    (program.directory / "compute_id").write_text("compute1\n")
    done = program.run("plan")
    assert (done.code, done.out) == (2, "")
    assert done.complaints == [
        f"[agent]compute_id_file {program.directory}/compute_id holds no UUID; point it at nova's "
        f"<state_path>/compute_id."
    ]


def test_a_state_directory_that_cannot_be_written_is_a_mistake(
    placement: PlacementServer, program: Program, root: str
) -> None:
    (program.directory / "file").write_text("")
    program.groups["agent"]["state_dir"] = program.directory / "file" / "state"
    program.rules = [KEY_RULE | {"traits": ["CUSTOM_A"]}]
    done = program.run("sync")
    assert (done.code, done.out) == (2, "")
    (complaint,) = done.complaints
    assert complaint.startswith("[agent]state_dir ")
    assert is_sentence(complaint)


# Neighbours that fail


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (401, ["Placement answers 401 ", "the user in [placement] needs the role service"]),
        (403, ["Placement answers 403 ", "the user in [placement] needs the role service"]),
        (404, ["Placement answers 404 ", "check that [placement] has Placement's address"]),
        (406, ["does not speak microversion", "upgrade it"]),
        (500, ["Placement answers 500 to GET /resource_providers"]),
        (b"<html>hello</html>", ["something that is not JSON", "check that [placement] has Placement's address"]),
        (b'{"versions": []}', ["JSON that is not Placement's", "check that [placement] has Placement's address"]),
        (b"[]", ["JSON that is not Placement's", "check that [placement] has Placement's address"]),
    ],
    ids=["401", "403", "404", "406", "500", "html", "another-service", "list"],
)
def test_an_answer_of_no_use_exits_with_1_and_one_sentence(
    placement: PlacementServer, program: Program, root: str, answer: int | bytes, words: list[str]
) -> None:
    placement.fail_next(".", answer)
    done = program.run("plan")
    assert (done.code, done.out) == (1, "")
    (complaint,) = done.complaints
    assert is_sentence(complaint)
    assert all(part in complaint for part in words), complaint


def test_a_placement_that_is_down_exits_with_1_and_one_sentence(
    placement: PlacementServer, program: Program, root: str
) -> None:
    with placement.down():
        done = program.run("plan")
    assert (done.code, done.out) == (1, "")
    assert done.complaints == [
        f"{placement.endpoint} does not answer (Connection refused); check that it runs, that this host reaches it, "
        f"and that [placement] has its address."
    ]


def test_a_compute_node_that_is_not_there_exits_with_1_and_says_when_it_appears(
    placement: PlacementServer, program: Program
) -> None:
    program.use(placement)
    done = program.run("sync")
    assert (done.code, done.out) == (1, "")
    (complaint,) = done.complaints
    assert complaint.startswith(
        "Placement has no compute node provider named host1; it appears when nova-compute starts"
    )
    assert {request.method for request in placement.requests} == {"GET"}


def test_keystone_gives_the_token_and_the_address_or_a_reason(
    placement: PlacementServer, keystone: Keystone, program: Program, root: str, key: str
) -> None:
    program.groups["placement"] = keystone.options()
    done = program.run("sync")
    assert done.code == 1
    (complaint,) = done.complaints
    assert "no Placement endpoint" in complaint

    keystone.catalogue = {"placement": placement.endpoint}
    assert program.run("sync").code == 0
    assert list(usb_view(placement, root)) == [KEY_NAME]

    secret, keystone.password = keystone.password, "another"
    done = program.run("sync", "--debug")
    assert done.code == 1
    assert "Keystone refuses the credentials in [placement]" in done.err
    assert secret not in done.err

    keystone.close()
    done = program.run("sync")
    assert done.code == 1
    (complaint,) = done.complaints
    assert keystone.auth_url.removesuffix("/v3") in complaint
    assert is_sentence(complaint)


# Streams


def test_hostile_devices_reach_no_terminal(
    placement: PlacementServer, testbed: Testbed, program: Program, root: str
) -> None:
    for port in ("1", "2"):
        path = testbed.add(usb_device("6666", "dead", port=port, serial="", manufacturer="", product=""))
        for name in ("serial", "manufacturer", "product"):
            text = f"{TERMINAL_ESCAPES}{port}[bold]{{0}}%s\r\n\u2028{name}\n"
            (testbed.directory / path.lstrip("/") / name).write_bytes(text.encode() + b"\xff\n")
    program.rules = [{"vendor_id": "6666", "port": "1"}]
    for words in (("devices",), ("devices", "--suggest"), ("plan", "--json"), ("sync",)):
        done = program.run("--debug", *words)  # checks what it prints
        assert done.code == 0
    found = program.run("devices", "--json").json[-1]
    assert found["serial"].startswith(TERMINAL_ESCAPES)  # as it is, for programs


def test_what_placement_says_reaches_no_terminal_raw(placement: PlacementServer, program: Program, key: str) -> None:
    program.use(placement)
    root = placement.create_root("host1\x1b[31m\u202e")
    program.groups["agent"]["root_provider_uuid"] = root
    for words in (("plan",), ("sync",)):
        assert program.run("--debug", *words).code == 0


def test_a_terminal_gets_colours_and_nothing_of_the_devices_own(testbed: Testbed, program: Program) -> None:
    path = testbed.add(usb_device(port="1", product=""))
    (testbed.directory / path.lstrip("/") / "product").write_bytes(TERMINAL_ESCAPES.encode())
    ours, theirs = pty.openpty()
    process = program.start("devices", stdout=theirs, TERM="xterm", COLUMNS="150", LINES="50")
    os.close(theirs)
    printed = b""
    try:
        while piece := os.read(ours, 65536):
            printed += piece
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert process.wait(10) == 0
    assert "1-1" in printed.decode()
    assert re.search(rb"\x1b\[[\d;]*m", printed)
    assert re.sub(rb"\x1b\[(\d+;)*\d+m", b"", printed).find(b"\x1b") < 0
    assert b"\x1b[31mAcme" not in printed
    assert "\u202e" not in printed.decode()


@pytest.mark.parametrize("variables", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "LANG": "C"}, {"NO_COLOR": "1"}])
def test_any_terminal_can_show_the_list(testbed: Testbed, program: Program, variables: dict[str, str]) -> None:
    testbed.add(usb_device(port="1", product="Schlüssel \N{KEY}" * 20))
    done = program.run("devices", configured=False, **variables)
    assert (done.code, done.err) == (0, "")
    assert "1-1" in done.out


@pytest.mark.parametrize(
    "words", [("devices",), ("devices", "--json"), ("devices", "--suggest"), ("plan", "--json"), ("plan", "--help")]
)
def test_a_reader_who_has_enough_is_no_mistake(
    testbed: Testbed, program: Program, root: str, key: str, words: tuple[str, ...]
) -> None:
    testbed.add(usb_device("0529", "0001", port="3"))
    reading, writing = os.pipe()
    os.close(reading)
    process = program.start(*words, stdout=writing)
    os.close(writing)
    _, complaints = process.communicate(timeout=30)
    assert (process.returncode, complaints) == (0, b"")


def test_the_first_line_of_a_long_list_can_be_had(testbed: Testbed, program: Program) -> None:
    busy(testbed)
    command = f"{shlex.join(PROGRAM)} devices | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, check=False, timeout=60, env=environment()
    )
    assert done.stdout.decode().split() == ["Port", "ID", "Device", "Offered", "as", "Why"]
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_interrupt_ends_a_command_without_a_word(
    placement: PlacementServer, program: Program, root: str, key: str
) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        asked.set()
        go_on.wait(20)

    placement.before("GET", hold)
    with as_at_a_terminal():
        process = program.start("plan", stdout=subprocess.PIPE)
    eventually(asked.is_set)
    process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=5)
    except subprocess.TimeoutExpired:
        # CPython sleeps through a signal that comes right before it waits for the answer; the user types it again.
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=5)
    finally:
        go_on.set()
    assert (process.returncode, out, err) == (130, b"", b"")
