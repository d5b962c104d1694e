"""Every command as a process, against a real udev and a real Placement: what it prints, where, and its exit code.

:meth:`Program.run` checks for each that there is no traceback and nothing that a terminal would act on.
"""

import json
import re
import uuid
from pathlib import Path

import pytest

from tests.fixtures.placement import PlacementServer, assert_usb_view, usb_view
from tests.fixtures.processes import KEY_NAME, KEY_RULE, KEY_TRAITS, Program, is_sentence
from tests.fixtures.testbed import busy, needs_umockdev
from usb_provider.demo.description import usb_device
from usb_provider.demo.testbed import Testbed

pytestmark = [needs_umockdev, pytest.mark.usefixtures("testbed")]

COMMANDS = ("agent", "devices", "plan", "sync", "status", "doctor", "install-hook", "demo")

DEVICE_KEYS = {
    *("sys_name", "busnum", "devnum", "vendor_id", "product_id", "serial", "manufacturer", "product", "classes"),
    *(
        "speed",
        "port_path",
        "controller",
        "controller_address",
        "place",
        "key",
        "identity",
        "offered",
        "reason",
        "resource_class",
        "traits",
    ),
    *("provider_uuid", "provider_name", "pool", "bundle", "member_id", "drained", "consumer", "domain"),
}


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


def test_devices_tells_both_names_of_a_controller_that_has_two(testbed: Testbed, program: Program) -> None:
    busy(testbed)
    lines = program.run("devices").out.splitlines()
    assert [line for line in lines if "controller 0" in line] == [
        "usb3, usb4: controller 0000:00:1c.0/00.0 (now 0000:03:00.0)"
    ]
    found = {each["sys_name"]: each for each in program.run("devices", "--json").json}
    assert (found["usb3"]["controller"], found["usb3"]["controller_address"]) == ("0000:00:1c.0/00.0", "0000:03:00.0")


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
        "controller_address": "0000:00:14.0",
        "place": "0000:00:14.0-2",
        "key": "1050:0407:Y1",
        "identity": "serial",
        "offered": True,
        "reason": "Offered by device_spec rule 1.",
        "resource_class": "CUSTOM_USB_KEY",
        "traits": sorted(KEY_TRAITS),
        "provider_uuid": found["1-2"]["provider_uuid"],
        "provider_name": KEY_NAME,
        "pool": None,
        "bundle": None,
        "member_id": None,
        "drained": False,
        "consumer": None,
        "domain": None,
    }
    other = found["1-3"]
    assert {name for name, value in other.items() if value is None} == {
        *("serial", "manufacturer", "product", "resource_class", "pool", "bundle", "member_id"),
        *("consumer", "domain"),
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
    assert again.err == "There is nothing to suggest: every device here is offered already, or can never be offered.\n"


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

    def look(*words: str | Path) -> tuple[bool, list[str]]:
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
