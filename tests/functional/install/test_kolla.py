"""The Kolla-Ansible role, run by Ansible with Kolla-Ansible's own variables, roles and modules as published.

There is no container engine here. Kolla's two modules that want one are replaced by ones that check their arguments as
the originals do and write them down.
"""

import getpass
import grp
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from oslo_config import cfg

from tests.fixtures.processes import environment
from usb_provider.cmd.configuration import checked
from usb_provider.conf import load

ROOT = Path(__file__).parents[3]
OURS = ROOT / "conf" / "kolla"
KOLLA = Path(sys.prefix) / "share" / "kolla-ansible" / "ansible"
PASSWORDS = KOLLA.parent / "etc_examples" / "kolla" / "passwords.yml"
DEFAULTS = OURS / "ansible" / "roles" / "usb_provider" / "defaults" / "main.yml"
BIN = Path(sys.executable).parent

RECORDER = """
import importlib.util
import json
import pathlib

import ansible.module_utils.basic
import ansible.module_utils.kolla_container_worker  # so that Ansible sends it along for the original

spec = importlib.util.spec_from_file_location("original", {original!r})
original = importlib.util.module_from_spec(spec)
spec.loader.exec_module(original)
module = original.{make}()
with open({calls!r}, "a") as calls:
    calls.write(json.dumps({{"module": {name!r}, **module.params}}, default=str) + "\\n")
if module.params.get("name") == "usb_provider_agent" and "restart" in module.params["action"]:
    for volume in module.params["volumes"]:
        if volume.endswith(":/etc/libvirt/hooks"):  # what the image's extend_start.sh does
            (pathlib.Path(volume.partition(":")[0]) / "qemu.d" / "usb-provider").touch()
module.exit_json(changed=True)
"""

VARIABLES = {
    "kolla_internal_vip_address": "192.0.2.10",
    "kolla_base_distro": "ubuntu",
    "keystone_admin_password": "admin",
    "usb_provider_keystone_password": "secret",
    "ansible_python_interpreter": sys.executable,
    "ansible_become": False,
    "kolla_ansible_setup_gather_subset": "min",
    "service_ks_register_retries": 1,
    "config_owner_user": getpass.getuser(),
    "config_owner_group": grp.getgrgid(os.getgid()).gr_name,
}


SYSTEMCTL = """#!/bin/sh
echo "$@" >> {calls}
[ "$1" = show ] || exit 0
case "$2" in
    {runs}.service) echo LoadState=loaded; echo ActiveState=active ;;
    *) echo LoadState=loaded; echo ActiveState=inactive ;;
esac
"""
"""One of a host where both daemons are installed and *runs* runs."""


class Call(NamedTuple):
    """One use of a module that would have asked the container engine."""

    module: str
    arguments: dict[str, Any]


class Outcome(NamedTuple):
    """What came of a playbook."""

    code: int
    out: str
    calls: list[Call]

    def containers(self, action: str) -> list[dict[str, Any]]:
        """The arguments of each call of kolla_container for *action*."""
        found = [call.arguments for call in self.calls if call.module == "kolla_container"]
        return [arguments for arguments in found if arguments["action"] == action]


class Deployment:
    """Kolla-Ansible with our playbook and role linked in, as docs/kolla.md says, and a host below a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tree = root / "ansible"
        self.host = root / "host"
        self.custom = root / "kolla" / "config"
        (self.tree / "roles").mkdir(parents=True)
        (self.tree / "library").mkdir()
        for folder in (self.host, self.host / "tmpfiles.d", self.custom):
            folder.mkdir(parents=True)
        # Kolla's modules import it on the host that they manage, where its package manager has put it.
        (root / "python" / "dbus").mkdir(parents=True)
        (root / "python" / "dbus" / "__init__.py").touch()
        for entry in KOLLA.iterdir():
            if entry.name not in ("roles", "library"):
                (self.tree / entry.name).symlink_to(entry)
        for entry in (KOLLA / "roles").iterdir():
            (self.tree / "roles" / entry.name).symlink_to(entry)
        (self.tree / "usb-provider.yml").symlink_to(OURS / "ansible" / "usb-provider.yml")
        (self.tree / "roles" / "usb_provider").symlink_to(OURS / "ansible" / "roles" / "usb_provider")
        (self.host / "localtime").symlink_to("/usr/share/zoneinfo/Asia/Kathmandu")
        self.library(record=("kolla_container", "kolla_toolbox"))

    @property
    def hooks(self) -> str:
        """Where libvirt of the host looks for hooks."""
        return str(self.host / "hooks")

    def fake_systemctl(self, runs: str | None) -> None:
        """Let the host have a systemd whose daemon *runs* runs."""
        (self.root / "bin").mkdir()
        command = self.root / "bin" / "systemctl"
        command.write_text(SYSTEMCTL.format(calls=self.root / "systemctl.calls", runs=runs or "none"))
        command.chmod(0o755)

    def systemctl(self, verb: str) -> list[str]:
        """The units for which systemctl was called with *verb*."""
        calls = [line.split() for line in (self.root / "systemctl.calls").read_text().splitlines()]
        return [unit for word, *units in calls if word == verb for unit in units]

    @property
    def calls(self) -> Path:
        return self.root / "calls"

    def library(self, record: Sequence[str]) -> None:
        """Kolla's modules, those in *record* replaced."""
        makers = {"kolla_container": "generate_module", "kolla_toolbox": "create_ansible_module"}
        for module in (KOLLA / "library").glob("*.py"):
            here = self.tree / "library" / module.name
            here.unlink(missing_ok=True)
            if module.stem in record:
                words = {"original": str(module), "make": makers[module.stem], "name": module.stem}
                here.write_text(RECORDER.format(calls=str(self.calls), **words))
            else:
                here.symlink_to(module)

    def play(self, action: str, *options: str, **variables: Any) -> Outcome:
        """Run our playbook as "kolla-ansible ACTION" does."""
        paths = {
            "node_config_directory": str(self.host / "etc"),
            "usb_provider_socket_directory": str(self.host / "run"),
            "usb_provider_tmpfiles_directory": str(self.host / "tmpfiles.d"),
            "usb_provider_localtime_path": str(self.host / "localtime"),
            "CONFIG_DIR": str(self.root / "kolla"),
        }
        command = self._command("ansible-playbook", "-i", str(KOLLA / "inventory" / "all-in-one"), *options)
        for words in (VARIABLES, paths, {"kolla_action": action}, variables):
            command += ["-e", json.dumps(words)]
        return self._run([*command, "usb-provider.yml"])

    def value(self, expression: str, *files: Path, **variables: Any) -> Any:
        """What *expression* is with Kolla's variables, our sample of globals, *files* and *variables*."""
        command = self._command("ansible", "localhost", "-c", "local", "--playbook-dir", ".", "-o", files=files)
        command += ["-e", json.dumps(VARIABLES | variables), "-m", "debug", "-a", f"var={expression}"]
        outcome = self._run(command)
        assert outcome.code == 0, outcome.out
        value, _ = json.JSONDecoder().raw_decode(outcome.out.partition("=> ")[2])
        return value[expression]

    def _command(self, name: str, *options: str, files: Sequence[Path] = ()) -> list[str]:
        words = [str(BIN / name), *options]
        for file in (*files, PASSWORDS, OURS / "globals.d" / "usb-provider.yml"):
            words += ["-e", f"@{file}"]
        return words

    def _run(self, command: Sequence[str]) -> Outcome:
        self.calls.write_text("")
        done = subprocess.run(
            command, text=True, capture_output=True, cwd=self.tree, env=self.environment(), check=False
        )
        told = [json.loads(line) for line in self.calls.read_text().splitlines()]
        return Outcome(done.returncode, done.stdout + done.stderr, [Call(each.pop("module"), each) for each in told])

    def environment(self) -> dict[str, str]:
        """Nothing of the developer's own Ansible, and no replayed devices for Ansible's facts."""
        clean = environment(HOME=str(self.root), ANSIBLE_HOME=str(self.root / "ansible-home"), NO_COLOR="1")
        clean["PATH"] = f"{self.root / 'bin'}:{BIN}:{clean['PATH']}"
        clean |= {"PYTHONPATH": str(self.root / "python"), "ANSIBLE_PIPELINING": "true"}
        return {
            name: value for name, value in clean.items() if name != "LD_PRELOAD" and not name.startswith("UMOCKDEV")
        }


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment(tmp_path)


class Deployed(NamedTuple):
    """A deployment, and what came of "kolla-ansible deploy"."""

    deployment: Deployment
    outcome: Outcome

    @property
    def configuration(self) -> Path:
        """What is mounted into the container, for Kolla's start script."""
        return self.deployment.host / "etc" / "usb-provider-agent"

    @property
    def container(self) -> dict[str, Any]:
        """What the agent's container was made with."""
        (made,) = self.outcome.containers("recreate_or_restart_container")
        return made


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    deployment = Deployment(tmp_path_factory.mktemp("kolla"))
    outcome = deployment.play("deploy", "--diff")
    assert outcome.code == 0, outcome.out
    yield Deployed(deployment, outcome)


def _read(path: Path) -> tuple[load.Options, cfg.ConfigOpts]:
    """What the program reads, having looked at [placement] as well, and that."""
    conf = load.open_files(["--config-file", str(path)])
    return checked(conf), conf


def test_a_dry_run_against_localhost_says_what_would_change_and_changes_nothing(deployment: Deployment) -> None:
    # Kolla's own module for containers, which leaves itself out of a dry run.
    deployment.library(record=("kolla_toolbox",))
    outcome = deployment.play("deploy", "--check", "--diff")
    assert outcome.code == 0, outcome.out
    assert re.search(r"failed=0 .*rescued=0", outcome.out)
    assert not list(deployment.host.rglob("usb-provider*"))


def test_the_user_in_keystone_has_the_role_service_and_no_other(deployed: Deployed) -> None:
    toolbox = [call.arguments for call in deployed.outcome.calls if call.module == "kolla_toolbox"]
    granted = [each["module_args"] for each in toolbox if each["module_name"] == "openstack.cloud.role_assignment"]
    assert [(each["user"], each["role"], each["project"]) for each in granted] == [
        ("usb-provider", "service", "service")
    ]
    (user,) = [each["module_args"] for each in toolbox if each["module_name"] == "openstack.cloud.identity_user"]
    assert (user["name"], user["default_project"]) == ("usb-provider", "service")


def test_the_configuration_that_is_rendered_is_one_that_the_program_accepts(deployed: Deployed) -> None:
    options, conf = _read(deployed.configuration / "usb-provider.conf")
    (rule,) = options.usb.specs
    assert rule.resource_class == "CUSTOM_USB_KEY"
    assert options.libvirt.enabled
    assert str(options.hook.socket) == "/run/usb-provider/hook.sock"
    assert conf.placement.auth_url == "http://192.0.2.10:5000"
    assert conf.placement.username == "usb-provider"
    assert conf.placement.valid_interfaces == ["internal"]


def test_kollas_start_script_is_told_the_command_and_where_the_configuration_goes(deployed: Deployed) -> None:
    told = json.loads((deployed.configuration / "config.json").read_text())
    assert told["command"] == "usb-provider agent"
    (file,) = told["config_files"]
    assert file["source"] == "/var/lib/kolla/config_files/usb-provider.conf"
    assert file["dest"] == "/etc/usb-provider/usb-provider.conf"
    assert file["perm"] == "0600", "it holds a password"


def test_the_container_sees_what_the_agent_reads_and_is_not_privileged(deployed: Deployed) -> None:
    made = deployed.container
    host = deployed.deployment.host
    assert re.fullmatch(r"quay\.io/openstack\.kolla/usb-provider:[\w.]+-ubuntu-\w+", made["image"])
    assert made["pid_mode"] == "host", "for /proc/1/mountinfo"
    assert not made["privileged"]
    assert set(made["volumes"]) == {
        f"{host}/etc/usb-provider-agent/:/var/lib/kolla/config_files/:ro",
        "kolla_logs:/var/log/kolla/",
        "/run/udev:/run/udev:ro",
        "/sys:/sys:ro",
        "nova_compute:/var/lib/nova:ro",
        "usb_provider:/var/lib/usb-provider/",
        "/run/libvirt:/run/libvirt",
        f"{host}/run:/run/usb-provider",
        f"{host}/etc/usb-provider-hooks:/etc/libvirt/hooks",
    }
    assert made["healthcheck"]["test"] == ["CMD-SHELL", "usb-provider status"]


def test_the_container_has_the_time_zone_of_the_host_and_not_its_link(deployed: Deployed) -> None:
    assert deployed.container["environment"]["TZ"] == "Asia/Kathmandu"


def test_a_host_whose_time_zone_is_no_link_gives_utc(deployment: Deployment) -> None:
    zone = deployment.value("usb_provider_timezone", DEFAULTS, usb_provider_localtime={"stat": {"exists": False}})
    assert zone == "UTC"


def test_a_log_directory_below_kollas_belongs_to_the_agents_user(deployed: Deployed) -> None:
    told = json.loads((deployed.configuration / "config.json").read_text())
    assert told["permissions"] == [{"path": "/var/log/kolla/usb-provider", "owner": "root:root", "recurse": True}]


@pytest.mark.parametrize("runs", ["virtqemud", "libvirtd", None])
def test_a_libvirt_of_the_host_is_restarted_by_the_daemon_that_runs(deployment: Deployment, runs: str | None) -> None:
    deployment.fake_systemctl(runs)
    outcome = deployment.play(
        "deploy", enable_nova_libvirt_container=False, usb_provider_hook_directory=deployment.hooks
    )
    assert outcome.code == 0, outcome.out
    assert not outcome.containers("restart_container")
    # Where systemd starts the daemon at the first connection, that one finds the hook by itself.
    assert deployment.systemctl("restart") == ([f"{runs}.service"] if runs else [])


def test_libvirt_is_restarted_once_when_the_hook_is_new(deployed: Deployed) -> None:
    (restarted,) = deployed.outcome.containers("restart_container")
    assert restarted["name"] == "nova_libvirt"
    again = deployed.deployment.play("reconfigure", usb_provider_ks_users=[])
    assert again.code == 0, again.out
    assert not again.containers("restart_container")


def test_the_directory_of_the_socket_is_for_root_and_comes_back_after_a_reboot(deployed: Deployed) -> None:
    host = deployed.deployment.host
    assert (host / "run").stat().st_mode & 0o777 == 0o750
    line = (host / "tmpfiles.d" / "usb-provider.conf").read_text().splitlines()[-1]
    assert line == f"d {host}/run 0750 root root -"


def test_rules_of_one_host_replace_those_of_all_and_reporting_only_prepares_no_hook(deployment: Deployment) -> None:
    mine = deployment.custom / "usb-provider" / "localhost" / "usb-provider.conf"
    mine.parent.mkdir(parents=True)
    mine.write_text(
        '[usb]\ndevice_spec = {"class": "hid", "exclude": true}\ndevice_spec = {"vendor_id": "0529", "port": "2.*"}\n'
    )
    outcome = deployment.play("config", usb_provider_attach=False)
    assert outcome.code == 0, outcome.out
    options, _ = _read(deployment.host / "etc" / "usb-provider-agent" / "usb-provider.conf")
    assert [(spec.exclude, spec.port) for spec in options.usb.specs] == [(True, None), (False, "2.*")]
    assert not options.libvirt.enabled
    assert not (deployment.host / "etc" / "usb-provider-hooks").exists()
    assert not outcome.calls, "generating configuration touches no container"


def test_dev_mode_mounts_the_source_where_kollas_start_script_installs_it(deployment: Deployment) -> None:
    volumes = deployment.value("usb_provider_default_volumes", DEFAULTS, kolla_dev_mode=True)
    assert "/opt/stack//usb-provider:/dev-mode/usb-provider" in volumes


def test_reporting_only_mounts_nothing_of_libvirt(deployment: Deployment) -> None:
    service = deployment.value("usb_provider_services['usb-provider-agent']", DEFAULTS, usb_provider_attach=False)
    assert not [volume for volume in service["volumes"] if "libvirt" in volume or "/run/usb-provider" in volume]
    assert service["healthcheck"]["test"] == "NONE", "without guests the agent has no socket to ask on"


def test_a_cloud_that_does_not_enable_it_is_left_alone(deployment: Deployment) -> None:
    outcome = deployment.play("deploy", enable_usb_provider=False)
    assert outcome.code == 0, outcome.out
    assert not outcome.calls
    assert not list(deployment.host.rglob("usb-provider*"))


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_nova_libvirt_gets_the_hook_and_can_reach_the_socket(deployment: Deployment, engine: str) -> None:
    volumes = deployment.value(
        "nova_cell_services['nova-libvirt'].volumes",
        KOLLA / "roles" / "nova-cell" / "defaults" / "main.yml",
        kolla_container_engine=engine,
    )
    assert "/etc/kolla/usb-provider-hooks/qemu.d:/etc/libvirt/hooks/qemu.d:ro" in volumes
    assert {"/run:/run", "/run:/run:shared"} & set(volumes), "with the directory of the socket"
    assert not [volume for volume in volumes if volume and volume.startswith("/run/usb-provider")]


def test_the_prechecks_accept_the_sample_of_globals(deployment: Deployment) -> None:
    # With the paths of a real host, which the sample names.
    where = {"node_config_directory": "/etc/kolla", "usb_provider_socket_directory": "/run/usb-provider"}
    outcome = deployment.play("precheck", kolla_container_engine="podman", **where)
    assert outcome.code == 0, outcome.out


def test_the_prechecks_say_which_volumes_nova_libvirt_lacks(deployment: Deployment) -> None:
    where = {"node_config_directory": "/etc/kolla", "usb_provider_socket_directory": "/run/usb-provider"}
    outcome = deployment.play("precheck", nova_libvirt_extra_volumes=[], **where)
    assert outcome.code != 0
    said = " ".join(outcome.out.split())
    assert "add /etc/kolla/usb-provider-hooks/qemu.d:/etc/libvirt/hooks/qemu.d:ro to nova_libvirt_extra_volumes" in said


def test_the_prechecks_say_that_the_password_is_missing(deployment: Deployment) -> None:
    outcome = deployment.play("precheck", usb_provider_keystone_password=None)
    assert outcome.code != 0
    assert "usb_provider_keystone_password is not set" in outcome.out


def test_ansible_lint_has_no_complaint_in_its_strictest_profile(deployment: Deployment) -> None:
    # A copy, since ansible-lint looks at where a link points to, which is outside of Kolla-Ansible's folder.
    (deployment.tree / "roles" / "usb_provider").unlink()
    (deployment.tree / "usb-provider.yml").unlink()
    shutil.copytree(OURS / "ansible", deployment.tree, dirs_exist_ok=True)
    kinds = {"LIBRARY": "library", "MODULE_UTILS": "module_utils", "FILTER_PLUGINS": "filter_plugins"}
    kollas = {f"ANSIBLE_{name}": str(KOLLA / folder) for name, folder in kinds.items()}
    kollas["ANSIBLE_ACTION_PLUGINS"] = str(KOLLA / "action_plugins")
    done = subprocess.run(
        (BIN / "ansible-lint", "-c", ".ansible-lint", "usb-provider.yml", "roles/usb_provider"),
        text=True,
        capture_output=True,
        cwd=deployment.tree,
        env=deployment.environment() | kollas,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Profile 'production' was required, and it passed" in done.stdout + done.stderr


def test_what_the_dockerfile_copies_is_there_and_builds_the_wheel() -> None:
    text = (OURS / "Dockerfile").read_text()
    copied = [source for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE) for source in line.split()[:-1]]
    assert {"pyproject.toml", "conf", "placement_traits", "usb_provider"} <= set(copied)
    assert not [source for source in copied if not (ROOT / source).exists()]


def test_the_image_takes_no_constraints_of_kollas_release() -> None:
    commands = re.sub("^#.*$", "", (OURS / "Dockerfile").read_text(), flags=re.MULTILINE)
    assert "constraints" not in commands, "those up to 2025.1 do not fit what the agent requires"
    assert "-m venv --clear --system-site-packages /var/lib/kolla/venv" in commands


def test_what_the_container_runs_at_its_start_installs_the_hook(tmp_path: Path) -> None:
    script = OURS / "extend_start.sh"
    subprocess.run(("bash", "-n", script), check=True)
    (tmp_path / "qemu.d").mkdir()
    command = tmp_path / "usb-provider"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m usb_provider.cmd.main "$@"\n')
    command.chmod(0o755)
    # As Kolla's start script sources it, but for where the hooks are.
    text = script.read_text().replace("/etc/libvirt/hooks", str(tmp_path)).replace("/var/log", str(tmp_path / "log"))
    path = f"{tmp_path}:{os.environ['PATH']}"
    subprocess.run(("bash", "-euo", "pipefail", "-c", text), check=True, env=environment(PATH=path), cwd=ROOT)
    assert os.access(tmp_path / "qemu.d" / "usb-provider", os.X_OK)
    assert (tmp_path / "log" / "kolla" / "usb-provider").is_dir()
