"""The embedded Placement keeps its data, says why it failed, and never outlives its parent."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fixtures.ports import reserved_port
from usb_provider.demo import embedded, embedded_service
from usb_provider.demo.embedded import EmbeddedPlacement
from usb_provider.demo.embedded_service import EmbeddedError

ROOT = "8c6ec88c-8bc9-4331-accd-1a968514fa28"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """One that runs, for the tests that do not end it."""
    with EmbeddedPlacement.start(tmp_path_factory.mktemp("embedded") / "made" / "for me") as it:
        yield it


def openstack(placement: EmbeddedPlacement, clouds: Path, *command: str) -> object:
    """Give what `openstack --os-cloud usb-demo COMMAND -f json` prints."""
    placement.write_clouds_yaml(clouds)
    program = Path(sys.executable).with_name("openstack")
    run = subprocess.run(
        [program, "--os-cloud", "usb-demo", *command, "-f", "json"],
        env={**os.environ, "OS_CLIENT_CONFIG_FILE": str(clouds)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    return json.loads(run.stdout)


def gone(pid: int, within: float = 10) -> bool:
    """Tell whether the process *pid* ends in time."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_it_listens_on_loopback_and_answers(running):
    assert running.endpoint.startswith("http://127.0.0.1:")
    version = running.request("GET", "/").json()["versions"][0]
    assert float(version["max_version"][2:]) >= 39


def test_a_root_is_made_as_nova_compute_makes_it_and_only_once(running):
    root = running.create_root("lab1")
    assert running.create_root("lab1") == root == running.create_root("lab1", root)
    inventories = running.request("GET", f"/resource_providers/{root}/inventories").json()
    assert {
        name: (i["total"] > i["reserved"], i["max_unit"] == i["total"], i["allocation_ratio"])
        for name, i in inventories["inventories"].items()
    } == {"VCPU": (True, True, 4.0), "MEMORY_MB": (True, True, 1.0), "DISK_GB": (True, True, 1.0)}
    traits = running.request("GET", f"/resource_providers/{root}/traits").json()["traits"]
    assert "COMPUTE_NODE" in traits
    assert running.create_root("lab2", ROOT) == ROOT


def test_a_root_that_an_operator_changed_is_left_as_it_is(running):
    root = running.create_root("lab3")
    path = f"/resource_providers/{root}/inventories"
    generation = running.request("GET", path).json()["resource_provider_generation"]
    wish = {"VCPU": {"total": 2}}
    running.request("PUT", path, {"resource_provider_generation": generation, "inventories": wish})
    running.create_root("lab3")
    assert list(running.request("GET", path).json()["inventories"]) == ["VCPU"]


def test_a_name_or_uuid_of_another_provider_is_refused(running):
    taken = running.create_root("lab4")
    with pytest.raises(EmbeddedError, match="another provider of name lab4"):
        running.create_root("lab4", "8c6ec88c-8bc9-4331-accd-1a968514fa29")
    with pytest.raises(EmbeddedError, match=f"another provider .* UUID {taken}"):
        running.create_root("lab5", taken)


def test_the_openstack_command_finds_it_by_clouds_yaml(running, tmp_path):
    root = running.create_root("lab6")
    clouds = tmp_path / "new" / "clouds.yaml"
    listed = openstack(running, clouds, "resource", "provider", "list", "--name", "lab6")
    assert [(p["name"], p["uuid"]) for p in listed] == [("lab6", root)]
    inventory = openstack(running, clouds, "resource", "provider", "inventory", "list", root)
    assert "VCPU" in [i["resource_class"] for i in inventory]
    running.request("PUT", "/resource_classes/CUSTOM_USB_KEY")
    wish = ("--resource", "CUSTOM_USB_KEY=1")
    assert openstack(running, clouds, "allocation", "candidate", "list", *wish) == []


def test_another_start_on_the_directory_goes_on_with_its_data(tmp_path):
    with reserved_port() as port:
        with EmbeddedPlacement.start(tmp_path, port=port) as first:
            root = first.create_root("lab1")
        with EmbeddedPlacement.start(tmp_path, port=port) as second:
            assert second.endpoint == first.endpoint == f"http://127.0.0.1:{port}"
            assert second.request("GET", f"/resource_providers/{root}").json()["name"] == "lab1"


def test_a_fresh_start_forgets_the_data_but_not_before_it_is_alone(tmp_path):
    with EmbeddedPlacement.start(tmp_path) as first:
        root = first.create_root("lab1")
        with pytest.raises(EmbeddedError, match="another embedded Placement"):
            EmbeddedPlacement.start(tmp_path, fresh=True)
        assert first.request("GET", f"/resource_providers/{root}").json()["name"] == "lab1"
    with EmbeddedPlacement.start(tmp_path, fresh=True) as second:
        assert second.request("GET", "/resource_providers").json() == {"resource_providers": []}


def test_a_directory_serves_one_at_a_time(running):
    with pytest.raises(
        EmbeddedError,
        match=r"another embedded Placement uses this directory; end that one, or choose another directory$",
    ):
        EmbeddedPlacement.start(running.directory)
    assert running.request("GET", "/").status_code == 200


def test_a_port_in_use_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedError, match=rf"127\.0\.0\.1:{port}: Address already in use$"):
            EmbeddedPlacement.start(tmp_path, port=port)


def test_an_unusable_directory_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedError, match=r"cannot use .*/file/below: Not a directory$"):
        EmbeddedPlacement.start(tmp_path / "file" / "below")


def test_a_child_that_dies_at_start_is_quoted(tmp_path):
    (tmp_path / "placement.sqlite").write_text("this is not a database " * 100)
    with pytest.raises(EmbeddedError, match=r"did not start: .*file is not a database"):
        EmbeddedPlacement.start(tmp_path)


def test_a_start_that_takes_too_long_is_given_up(tmp_path, monkeypatch):
    ended = []
    monkeypatch.setattr(
        embedded,
        "_end",
        lambda process, end=embedded._end: ended.append(end(process) or process.pid),
    )
    with pytest.raises(EmbeddedError, match=r"did not answer within 0\.01 s"):
        EmbeddedPlacement.start(tmp_path, timeout=0.01)
    assert len(ended) == 1 and gone(ended[0])


def test_what_is_missing_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded_service.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedError, match=r"pip install usb-provider\[demo\]$"):
        EmbeddedPlacement.start(tmp_path)


def test_umockdevs_preload_does_not_reach_the_child(tmp_path, monkeypatch):
    monkeypatch.setenv("UMOCKDEV_DIR", str(tmp_path))
    if "LD_PRELOAD" not in os.environ:
        monkeypatch.setenv("LD_PRELOAD", "")
    with EmbeddedPlacement.start(tmp_path / "placement") as placement:
        environment = Path(f"/proc/{placement.pid}/environ").read_bytes()
    names = {entry.partition(b"=")[0] for entry in environment.split(b"\0")}
    assert not names & {b"UMOCKDEV_DIR", b"LD_PRELOAD"}


def test_stop_ends_the_child_and_may_be_repeated(tmp_path):
    placement = EmbeddedPlacement.start(tmp_path)
    placement.stop()
    placement.stop()
    assert not Path(f"/proc/{placement.pid}").exists()
    with pytest.raises(EmbeddedError, match="does not answer"):
        placement.create_root("lab1")


def test_the_child_ends_when_its_parent_is_killed(tmp_path):
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import pathlib, sys, time\n"
            "from usb_provider.demo.embedded import EmbeddedPlacement\n"
            "placement = EmbeddedPlacement.start(pathlib.Path(sys.argv[1]))\n"
            "print(placement.pid, flush=True)\n"
            "time.sleep(60)\n",
            str(tmp_path),
        ],
        stdout=subprocess.PIPE,
        env=embedded._child_environment(os.environ),
    )
    with parent:
        child = int(parent.stdout.readline())
        assert not gone(child, within=0)
        parent.kill()
        assert gone(child)


def test_by_hand_it_prints_its_endpoint_alone_and_ends_on_sigterm(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-m", embedded_service.MODULE, "--directory", str(tmp_path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=embedded._child_environment(os.environ),
    ) as process:
        line = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=10)
    assert line.startswith("http://127.0.0.1:")
    assert (rest, errors, process.returncode) == ("", "", 0)
    assert (tmp_path / "placement.log").exists()


def test_by_hand_a_failure_before_the_log_exists_goes_to_stderr(tmp_path):
    (tmp_path / "file").touch()
    run = subprocess.run(
        [sys.executable, "-m", embedded_service.MODULE, "--directory", str(tmp_path / "file")],
        capture_output=True,
        text=True,
        check=False,
        env=embedded._child_environment(os.environ),
    )
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == f"cannot use {tmp_path / 'file'}: File exists\n"
