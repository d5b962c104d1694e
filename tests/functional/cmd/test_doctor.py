"""``usb-provider doctor`` on hosts that are broken in one way each: the row that says so, and the exit code.

Placement is real; libvirt is a stand-in with the two things that are asked of it, since none runs where tests do.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests_mock

from tests.fixtures.fake_host import FakeHost
from tests.fixtures.keystone import Keystone, keystone
from tests.fixtures.placement import PlacementServer, placement, placement_server
from tests.fixtures.processes import KEY, KEY_RULE, Program, Result, program
from tests.fixtures.testbed import needs_umockdev, testbed
from usb_provider.cmd.doctor import make_context
from usb_provider.cmd.install_hook import hook_text
from usb_provider.conf import load
from usb_provider.demo.recording import Recording, bundled
from usb_provider.demo.testbed import Testbed
from usb_provider.diagnosis import compute_node, hook, libvirt
from usb_provider.diagnosis.check import Finding, Verdict, diagnose
from usb_provider.diagnosis.checks import CHECKS
from usb_provider.diagnosis.compute_node import ComputeNodeNameCheck
from usb_provider.diagnosis.context import Places
from usb_provider.diagnosis.hook import hook_since
from usb_provider.diagnosis.placement import MicroversionCheck, PlacementCheck, ask_placement
from usb_provider.diagnosis.trouble import Trouble, TroubleKind
from usb_provider.exception import Unavailable
from usb_provider.host.daemons import daemons
from usb_provider.model.binding.guests import GuestsNow
from usb_provider.placement.client import connect
from usb_provider.placement.root import RootFinder, RootHints
from usb_provider.virt.listener import Listener, ListenOptions

__all__ = ["keystone", "placement", "placement_server", "program", "testbed"]

pytestmark = [needs_umockdev, pytest.mark.usefixtures("testbed")]

Rows = dict[str, dict[str, Any]]


def rows(done: Result) -> Rows:
    """The rows by check; the exit code must fit them."""
    found = {row["check"]: row for row in done.json}
    assert done.code == int(any(row["result"] == "wrong" for row in found.values()))
    for row in found.values():
        assert (row["advice"] is not None) == (row["result"] in ("wrong", "warning")), row
    return found


def results(found: Rows, *checks: str) -> list[str]:
    return [found[check]["result"] for check in checks]


class HostWithLibvirt:
    """A compute node on which all is well, for a test to break; what /proc, /run and /etc hold are the test's own."""

    def __init__(self, directory: Path, program: Program) -> None:
        self.program = program
        self.proc, self.run, self.hooks = directory / "proc", directory / "run", directory / "hooks" / "qemu.d"
        self.socket = directory / "hook.sock"
        self.libvirt = FakeHost()
        self.hostname = "host1"
        self.away: str | None = None
        self.hangs = 0.0
        for path in (self.proc, self.run / "udev", self.hooks):
            path.mkdir(parents=True)
        (self.run / "udev" / "control").touch()
        (self.proc / "stat").write_text("cpu  1 2 3\nbtime 1000000000\n")
        self.install_hook()
        self.start_libvirt(time.time() + 60)

    @property
    def hook(self) -> Path:
        return self.hooks / "usb-provider"

    def install_hook(self) -> None:
        self.hook.write_text(hook_text(self.socket, 3.0))
        self.hook.chmod(0o755)

    def start_libvirt(self, when: float, name: str = "libvirtd") -> None:
        """Let a daemon of libvirt run since *when*, in seconds since 1970."""
        shutil.rmtree(self.proc / "611", ignore_errors=True)
        (self.proc / "611").mkdir()
        ticks = int((when - 1_000_000_000) * os.sysconf("SC_CLK_TCK"))
        numbers = " ".join(["S", *["1"] * 18, str(ticks), *["0"] * 30])
        (self.proc / "611" / "stat").write_text(f"611 ({name}) {numbers}\n")

    def guests(self) -> GuestsNow:
        time.sleep(self.hangs)
        if self.away:
            raise Unavailable(self.away)
        return self.libvirt.guests()

    def look(self, seconds: float = 20.0) -> dict[str, Finding]:
        """What the doctor finds."""
        words = ["--config-file", str(self.program.write())]
        places = Places(proc=self.proc, run=self.run)
        context = make_context(words, hooks=self.hooks, places=places, seconds=seconds)
        return {each.check: each for each in diagnose(CHECKS, context)}


@pytest.fixture
def host(
    tmp_path: Path, program: Program, placement: PlacementServer, testbed: Testbed, monkeypatch: pytest.MonkeyPatch
) -> Iterator[HostWithLibvirt]:
    """All is well on it, and the agent answers."""
    made = HostWithLibvirt(tmp_path, program)
    program.use(placement)
    placement.create_root("host1")
    testbed.add(KEY)
    program.rules = [KEY_RULE]
    program.groups["libvirt"]["enabled"] = "true"
    program.groups["hook"] |= {"socket": str(made.socket), "timeout": "3.0"}

    class LibvirtHost:
        """libvirt as far as the doctor asks it."""

        def __init__(self, uri: str, changed: Callable[[], None]) -> None:
            self.guests = made.guests

        def version(self) -> tuple[int, int, int]:
            return 9, 0, 0

        def hostname(self) -> str:
            return made.hostname

        def close(self) -> None:
            pass

    module = types.ModuleType("usb_provider.virt.domain")
    module.LibvirtHost = LibvirtHost  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "usb_provider.virt.domain", module)
    listener = Listener(ListenOptions(made.socket), made.libvirt.answer)
    yield made
    listener.stop()


def wrong(found: dict[str, Finding]) -> list[str]:
    return [check for check, row in found.items() if row.verdict is Verdict.WRONG]


# A host with libvirt


def test_where_all_is_well_nothing_is_wrong(host: HostWithLibvirt) -> None:
    found = host.look()
    assert {check: row for check, row in found.items() if row.verdict not in (Verdict.OK, Verdict.NOT_CHECKED)} == {}
    assert found["hook loaded"].found == "The hook was already there when libvirtd (process 611) started."


def test_a_hook_that_is_missing_is_told(host: HostWithLibvirt) -> None:
    host.hook.unlink()
    found = host.look()
    assert wrong(found) == ["hook"]
    assert "usb-provider install-hook" in (found["hook"].advice or "")
    assert found["hook loaded"].verdict is Verdict.NOT_CHECKED


def test_a_hook_that_is_not_executable_is_told(host: HostWithLibvirt) -> None:
    host.hook.chmod(0o644)
    found = host.look()
    assert wrong(found) == ["hook"]
    assert "is not executable" in found["hook"].found
    assert found["hook loaded"].verdict is Verdict.NOT_CHECKED


def test_a_hook_for_another_socket_is_told(host: HostWithLibvirt) -> None:
    host.hook.write_text(hook_text(Path("/some/where else/hook.sock"), 3.0))
    found = host.look()
    assert wrong(found) == ["hook"]
    assert "asks the agent at /some/where else/hook.sock" in found["hook"].found


def test_a_hook_of_another_version_is_a_warning(host: HostWithLibvirt) -> None:
    host.hook.write_text(host.hook.read_text() + "# of old\n")
    assert host.look()["hook"].verdict is Verdict.WARNING


@pytest.mark.parametrize("text", ["", "#!/no/such/interpreter\n", "#!/bin/sh\nexit 7\n", "#!/bin/sh\necho hello\n"])
def test_a_hook_that_does_not_run_is_told(host: HostWithLibvirt, text: str) -> None:
    """An empty one is what a power cut can leave."""
    host.hook.write_text(text)
    found = host.look()
    assert wrong(found) == ["hook"]
    assert "does not run (it " in found["hook"].found


def test_a_hook_that_an_older_install_hook_has_spoilt_is_told(host: HostWithLibvirt) -> None:
    old = '#!/bin/sh\n""":"\nexec python3 -I -S "$0" "$@"\n":"""\nSOCKET = "/run/a.sock\ntimeout = 5"\n'
    host.hook.write_text(old)
    found = host.look()
    assert wrong(found) == ["hook"]
    assert "does not run (it is no Python: " in found["hook"].found


def test_a_hook_that_takes_no_answer_from_the_process_that_listens_is_told(host: HostWithLibvirt) -> None:
    """The same process answers the doctor, who checks nothing."""
    text = host.hook.read_text().replace("trusted = {0, directory.st_uid}", "trusted = set()")
    host.hook.write_text(text.replace("trusted.add(", "id("))
    found = host.look()
    assert wrong(found) == ["hook"]
    assert found["hook"].found == (
        f"The hook does not take the agent's answer: a process of user {os.geteuid()} listens there, which is not the "
        f"agent's user."
    )


def test_a_hook_that_does_not_know_a_class_that_a_rule_gives_is_told(host: HostWithLibvirt) -> None:
    host.program.rules = [KEY_RULE, {"vendor_id": "1051", "resource_class": "CUSTOM_DONGLE"}]
    found = host.look()
    assert wrong(found) == ["hook"]
    assert "does not know CUSTOM_DONGLE, which device_spec rules give" in found["hook"].found
    host.program.run("install-hook", "--directory", host.hooks)
    assert wrong(host.look()) == []


def test_a_hook_that_came_after_libvirt_started_is_told_until_libvirt_has_called_it(host: HostWithLibvirt) -> None:
    host.start_libvirt(time.time() - 600)
    found = host.look()
    assert wrong(found) == ["hook loaded"]
    assert found["hook loaded"].advice == "Restart it: systemctl restart libvirtd; guests go on running."
    subprocess.run([host.hook, "vm", "started", "begin", "-"], input=b"<nothing/>", check=False)
    assert wrong(host.look()) == []


def test_a_hook_that_install_hook_has_brought_up_to_date_is_no_new_one(host: HostWithLibvirt) -> None:
    host.hook.write_text("#!/bin/sh\n# an older version\n")
    os.utime(host.hook, (time.time() - 900, time.time() - 900))
    host.start_libvirt(time.time() - 600)
    done = host.program.run("install-hook", "--directory", host.hooks)
    assert "updated" in done.out
    found = host.look()
    assert wrong(found) == []
    assert found["hook loaded"].verdict is Verdict.WARNING


def test_another_hook_that_was_there_before_makes_libvirt_look_for_ours(host: HostWithLibvirt) -> None:
    (host.hooks.parent / "qemu").write_text("#!/bin/sh\n")
    (host.hooks.parent / "qemu").chmod(0o755)
    since = hook_since(host.hooks)
    assert since is not None
    assert since[0] == min(path.stat().st_ctime for path in (host.hook, host.hooks.parent / "qemu"))
    (host.hooks.parent / "qemu").chmod(0o644)
    assert hook_since(host.hooks) == (host.hook.stat().st_ctime, host.hook.stat().st_mtime)


def test_the_modular_daemon_is_known_as_well(host: HostWithLibvirt) -> None:
    host.start_libvirt(time.time() - 600, "virtqemud")
    assert "virtqemud (process 611)" in host.look()["hook loaded"].found


def test_an_agent_that_does_not_run_is_told(host: HostWithLibvirt) -> None:
    host.program.groups["hook"]["socket"] = str(host.socket.with_name("other.sock"))
    assert wrong(host.look()) == ["hook", "socket"]


def test_a_socket_with_another_mode_is_told(host: HostWithLibvirt) -> None:
    host.socket.chmod(0o777)
    found = host.look()
    assert wrong(found) == ["socket"]
    assert "mode 0777" in found["socket"].found


def test_a_file_in_the_place_of_the_socket_and_a_socket_that_a_dead_agent_left_are_told(
    host: HostWithLibvirt, tmp_path: Path
) -> None:
    for name, words in (("file", "is no socket"), ("dead.sock", "Connection refused")):
        path = tmp_path / name
        if name == "file":
            path.touch()
        else:
            with socket.socket(socket.AF_UNIX) as left:
                left.bind(str(path))
        host.program.groups["hook"]["socket"] = str(path)
        assert words in host.look()["socket"].found


def test_a_libvirt_that_does_not_answer_is_told_and_its_guests_are_not_checked(host: HostWithLibvirt) -> None:
    host.away = "libvirt at qemu:///system does not answer: Connection refused."
    found = host.look()
    assert wrong(found) == ["libvirt"]
    assert found["controller models"].verdict is found["stale hostdevs"].verdict is Verdict.NOT_CHECKED


def test_a_libvirt_that_hangs_holds_up_nothing_else(host: HostWithLibvirt) -> None:
    host.hangs = 30.0
    began = time.monotonic()
    found = host.look(seconds=4.0)
    assert time.monotonic() - began < 10
    assert wrong(found) == ["libvirt"]
    assert found["libvirt"].found == "libvirt at qemu:///system has not answered in 4 s."
    assert found["compute node"].verdict is found["hook"].verdict is found["socket"].verdict is Verdict.OK


def test_a_libvirt_that_has_another_name_for_the_host_is_a_warning(host: HostWithLibvirt) -> None:
    host.hostname = "host1.example.org"
    row = host.look()["compute node's name"]
    assert row.verdict is Verdict.WARNING
    assert row.found == "The compute node is called host1, but libvirt calls this host host1.example.org."


def test_a_hostdev_that_the_guest_should_not_have_is_told(host: HostWithLibvirt) -> None:
    fake = host.libvirt
    fake.plug("1-9", serial="Z")
    fake.start("vm")
    fake.hold("1-9", "vm")
    fake.binder.run()
    # In the real Placement the guest holds nothing.
    found = host.look()
    assert wrong(found) == ["stale hostdevs"]
    assert "Guest vm has ua-usb-" in found["stale hostdevs"].found


def test_a_check_that_fails_for_a_bug_hides_no_other(host: HostWithLibvirt, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(libvirt, "daemons", fail)
    for name in ("hook_since", "hook_file"):
        monkeypatch.setattr(hook, name, fail)
    found = host.look()
    assert found["hook"].verdict is found["hook loaded"].verdict is Verdict.NOT_CHECKED
    assert found["hook"].found == "This could not be checked (KeyError: 'a bug')."
    assert found["libvirt"].verdict is found["socket"].verdict is found["role"].verdict is Verdict.OK


def test_a_directory_that_is_for_root_alone_is_not_checked(
    host: HostWithLibvirt, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied", str(host.hook))

    monkeypatch.setattr(hook, "hook_file", denied)
    row = host.look()["hook"]
    assert (row.verdict, row.found) == (Verdict.NOT_CHECKED, f"This user may not read {host.hook}: run this as root.")


def test_it_changes_nothing(host: HostWithLibvirt, placement: PlacementServer, tmp_path: Path) -> None:
    before = sorted(path for path in tmp_path.rglob("*") if "usb-provider.conf" not in path.name)
    placement.requests.clear()
    host.look()
    assert {request.method for request in placement.requests} == {"GET"}
    assert sorted(path for path in tmp_path.rglob("*") if "usb-provider.conf" not in path.name) == before


def test_a_process_of_that_name_is_found_with_its_time(tmp_path: Path) -> None:
    shutil.copy(shutil.which("sleep") or "/bin/sleep", tmp_path / "libvirtd")
    with subprocess.Popen([tmp_path / "libvirtd", "60"]) as process:
        try:
            started = time.time()
            found = {each.pid: each for each in daemons()}
            assert found[process.pid].name == "libvirtd"
            assert abs(found[process.pid].started - started) < 5
        finally:
            process.kill()


# Placement


def test_a_placement_that_is_away_is_told_and_udev_is_checked_all_the_same(
    placement: PlacementServer, program: Program
) -> None:
    program.use(placement)
    with placement.down():
        found = rows(program.run("doctor", "--json"))
    assert "does not answer (Connection refused)" in found["placement"]["found"]
    assert results(found, "placement", "credentials", "role", "microversion", "compute node") == [
        "wrong",
        "not checked",
        "not checked",
        "not checked",
        "not checked",
    ]
    assert found["authorized_default"]["result"] in ("ok", "not checked")


def test_a_wrong_password_is_told(placement: PlacementServer, keystone: Keystone, program: Program) -> None:
    keystone.catalogue = {"placement": placement.endpoint}
    program.groups["placement"] = keystone.options(password="wrong")
    found = rows(program.run("doctor", "--json"))
    assert results(found, "placement", "credentials", "role") == ["not checked", "wrong", "not checked"]
    assert found["credentials"]["found"].startswith("Keystone refuses the credentials in [placement]")
    assert "wrong" not in json.dumps(found["credentials"]["found"])


def test_a_user_without_the_role_is_told(placement: PlacementServer, program: Program) -> None:
    placement.create_root("host1")
    program.use(placement)
    program.groups["placement"]["token"] = "nobody:project"
    found = rows(program.run("doctor", "--json"))
    assert results(found, "placement", "credentials", "role", "compute node") == ["ok", "ok", "wrong", "not checked"]
    assert "403" in found["role"]["found"]
    assert "openstack role add" in found["role"]["advice"]


def test_a_token_that_placement_refuses_is_told(placement: PlacementServer, program: Program) -> None:
    program.use(placement)
    placement.fail_next("GET /resource_providers", 401, times=None)
    found = rows(program.run("doctor", "--json"))
    assert results(found, "credentials", "role") == ["wrong", "not checked"]


def test_a_compute_node_that_is_not_there_is_told(placement: PlacementServer, program: Program) -> None:
    program.use(placement)
    found = rows(program.run("doctor", "--json"))
    assert results(found, "credentials", "role", "microversion", "compute node") == ["ok", "ok", "ok", "wrong"]
    assert "named host1" in found["compute node"]["found"]


def test_a_catalogue_without_placement_is_told(keystone: Keystone, program: Program) -> None:
    program.groups["placement"] = keystone.options()
    found = rows(program.run("doctor", "--json"))
    assert "catalogue has no Placement endpoint" in found["placement"]["found"]


def test_a_placement_that_is_too_old_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text("[placement]\nauth_type = admin_token\nendpoint = http://old.test\ntoken = x\n")
    client = connect(load.open_files(["--config-file", str(tmp_path / "a.conf")]))
    with requests_mock.Mocker() as http:
        version = {"id": "v1.0", "min_version": "1.0", "max_version": "1.10", "status": "CURRENT", "links": []}
        http.get("http://old.test/", json={"versions": [version]})
        http.get("http://old.test/resource_providers", status_code=406, json={"errors": [{"detail": "Not acceptable"}]})
        facts = ask_placement(client, RootFinder(client, RootHints(name="host1")))
    assert facts.versions == ("1.0", "1.10")
    assert isinstance(facts.root, Trouble) and facts.root.kind is TroubleKind.INCOMPATIBLE
    assert MicroversionCheck().judge(facts).verdict is Verdict.WRONG
    assert PlacementCheck().judge(facts).verdict is Verdict.OK


def test_what_is_no_placement_is_told(placement: PlacementServer, program: Program) -> None:
    program.use(placement)
    program.groups["placement"]["endpoint"] = f"{placement.endpoint}/elsewhere"
    found = rows(program.run("doctor", "--json"))
    assert found["placement"]["result"] == "wrong"


# Configuration and the command


def test_every_mistake_in_the_configuration_is_in_one_row_and_the_rest_is_checked(
    placement: PlacementServer, program: Program
) -> None:
    placement.create_root("host1")
    program.use(placement)
    program.groups["hook"]["timeout"] = "soon"
    program.groups["metrics"] = {"listen": "9753"}
    program.rules = [{"vendor_id": "10"}]
    found = rows(program.run("doctor", "--json"))
    assert found["configuration"]["result"] == "wrong"
    for words in ("[hook]timeout", "[metrics]listen", "[usb]device_spec rule 1"):
        assert words in found["configuration"]["found"]
    assert results(found, "role", "compute node") == ["ok", "ok"]


@pytest.mark.parametrize("content", ["not a configuration", None])
def test_a_file_that_cannot_be_read_is_a_row_like_any_other(program: Program, content: str | None) -> None:
    file = program.directory / "bad.conf"
    if content is not None:
        file.write_text(content)
    found = rows(program.run("--config-file", file, "doctor", "--json", configured=False))
    assert found["configuration"]["result"] == "wrong"
    assert found["placement"]["result"] == "not checked"
    assert len(found) == 23


def test_where_libvirt_is_not_to_be_asked_its_checks_say_so(program: Program) -> None:
    found = rows(program.run("doctor", "--json"))
    assert {found[check]["result"] for check in ("libvirt", "hook", "socket", "stale hostdevs")} == {"not checked"}
    assert found["hook"]["found"] == "[libvirt]enabled is false, so the agent serves no guests."


def test_libvirt_without_its_python_module_is_told(program: Program) -> None:
    (program.directory / "without").mkdir()
    (program.directory / "without" / "libvirt.py").write_text("raise ModuleNotFoundError('No module named it')\n")
    program.groups["libvirt"]["enabled"] = "true"
    found = rows(program.run("doctor", "--json", PYTHONPATH=str(program.directory / "without")))
    assert found["libvirt"]["result"] == "wrong"
    assert "libvirt's Python module is missing" in found["libvirt"]["found"]
    assert results(found, "controller models", "stale hostdevs") == ["not checked", "not checked"]


def test_a_rule_that_names_a_controller_by_an_address_that_may_change_is_told(
    testbed: Testbed, program: Program
) -> None:
    testbed.load(Recording.read(bundled()))
    program.rules = [KEY_RULE | {"controller": name} for name in ("0000:00:14.0", "0000:03:00.0")]
    found = rows(program.run("doctor", "--json"))["host controllers"]
    assert found["result"] == "warning"
    assert found["found"].startswith("device_spec rule 2 names the controller 0000:03:00.0. ")
    assert found["advice"] == 'Write "controller": "0000:00:1c.0/00.0", which stays the same.'


def test_the_table_has_each_check_in_a_line_and_a_sum(placement: PlacementServer, program: Program) -> None:
    program.use(placement)
    done = program.run("doctor")
    assert done.code == 1
    assert done.err == ""
    lines = done.out.splitlines()
    assert "What to do" in lines[0]
    assert len([line for line in lines if line.startswith(("configuration ", "compute node ", "udev "))]) == 3
    assert lines[-1].startswith("23 checks: ")


def test_a_keystone_that_never_answers_holds_it_up_for_less_than_a_minute(program: Program) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        program.groups["placement"] = {
            "auth_type": "admin_token",
            "endpoint": f"http://127.0.0.1:{deaf.getsockname()[1]}",
            "token": "x",
        }
        began = time.monotonic()
        found = rows(program.run("doctor", "--json"))
    assert time.monotonic() - began < 40
    assert found["placement"]["result"] == "wrong"
    assert found["configuration"]["result"] == "warning"


def test_a_resolver_that_never_answers_holds_it_up_no_longer_than_anything_else(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()

    def hangs() -> tuple[str, ...]:
        answers.wait(30.0)
        return ("host1.example.org", "host1")

    monkeypatch.setattr(compute_node, "hypervisor_hostnames", hangs)
    context = make_context(["--config-file", str(program.write())], hooks=Path("/nonexistent"), seconds=0.5)
    began = time.monotonic()
    assert ComputeNodeNameCheck().read(context).hostnames == (socket.gethostname(),)
    assert time.monotonic() - began < 3.0
    assert context.threads.unfinished
    answers.set()
