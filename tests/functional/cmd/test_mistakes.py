"""Bad input and neighbours that fail: each is one sentence on standard error, and an exit code.

:meth:`Program.run` checks for each that there is no traceback and nothing that a terminal would act on.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures.keystone import Keystone
from tests.fixtures.placement import PlacementServer, usb_view
from tests.fixtures.processes import KEY_NAME, KEY_RULE, Program, is_sentence
from tests.fixtures.testbed import needs_umockdev

pytestmark = [needs_umockdev, pytest.mark.usefixtures("testbed")]

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
    '{"vendor_id": "0009", "exclude": true, "identity": "port"}': "with exclude the device is never offered",
    '{"resource_class": "CUSTOM_A"}': "it has no matcher",
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


def test_a_state_directory_that_cannot_be_written_is_noted_and_keeps_nothing_from_being_reported(
    placement: PlacementServer, program: Program, root: str
) -> None:
    (program.directory / "file").write_text("")
    program.groups["agent"]["state_dir"] = program.directory / "file" / "state"
    program.rules = [KEY_RULE | {"traits": ["CUSTOM_A"]}]
    done = program.run("sync", "--json")
    assert (done.code, done.err) == (0, "")
    (note,) = done.json["notes"]
    assert note.startswith("[agent]state_dir ")
    assert is_sentence(note)


# Neighbours that fail


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (401, ["Placement answers 401 ", "the user in [placement] needs the role service"]),
        (403, ["Placement answers 403 ", "the user in [placement] needs the role service"]),
        (404, ["Placement answers 404 ", "check that [placement] has Placement's address"]),
        (406, ["does not support microversion", "upgrade it"]),
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
