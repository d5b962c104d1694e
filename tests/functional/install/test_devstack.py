"""The DevStack plugin, sourced phase by phase as stack.sh does, with functions that write down how they were called."""

import getpass
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.processes import environment
from usb_provider.conf import load
from usb_provider.conf.opts import register_opts

ROOT = Path(__file__).parents[3]
PLUGIN = ROOT / "devstack"

# The functions of DevStack that the plugin uses, with their arguments. What writes the configuration really writes it.
FUNCTIONS = r"""
set -e
say() { local IFS=$'\t'; echo "$*" >> "$CALLS"; }
define_plugin() { say define_plugin "$@"; }
enable_service() { say enable_service "$@"; ENABLED_SERVICES+=",$1"; }
is_service_enabled() { [[ ",$ENABLED_SERVICES," == *",$1,"* ]]; }
get_python_exec_prefix() { echo "$PREFIX"; }
setup_develop() { say setup_develop "$@"; }
create_service_user() { say create_service_user "$@"; }
restart_service() { say restart_service "$@"; }
run_process() { is_service_enabled "$1" && say run_process "$@"; }
stop_process() { say stop_process "$@"; }
echo_summary() { :; }
setup_logging() { iniset "$1" DEFAULT log_color False; }
sudo() { say sudo "$@"; "$@"; }
iniset() { printf '[%s]\n%s = %s\n' "$2" "$3" "$4" >> "$1"; }
configure_keystoneauth() {
    iniset "$1" "$3" auth_type password
    iniset "$1" "$3" interface public
    iniset "$1" "$3" auth_url http://192.0.2.1/identity
    iniset "$1" "$3" username "$2"
    iniset "$1" "$3" password secret
    iniset "$1" "$3" user_domain_name Default
    iniset "$1" "$3" project_name service
    iniset "$1" "$3" project_domain_name Default
}
source "$PLUGIN/settings"
source "$PLUGIN/plugin.sh" "$@"
"""

ALL_IN_ONE = "keystone,placement-api,n-api,n-cpu"


class DevStack:
    """A host with DevStack below a temporary directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.conf = root / "etc" / "usb-provider.conf"
        self.hook = root / "hooks" / "qemu.d" / "usb-provider"
        self.calls = root / "calls"
        prefix = root / "bin"
        prefix.mkdir()
        (prefix / "usb-provider").write_text(f'#!/bin/sh\nexec {sys.executable} -m usb_provider.cmd.main "$@"\n')
        (prefix / "usb-provider").chmod(0o755)

    def run(self, *phase: str, services: str = ALL_IN_ONE, driver: str = "libvirt", **local_conf: str) -> list[str]:
        """Source the plugin for one *phase* and give what it called, words apart by tabs."""
        self.calls.write_text("")
        variables = {
            "CALLS": str(self.calls),
            "PLUGIN": str(PLUGIN),
            "PREFIX": str(self.root / "bin"),
            "DEST": "/opt/stack",
            "DATA_DIR": str(self.root / "data"),
            "NOVA_STATE_PATH": str(self.root / "data" / "nova"),
            "STACK_USER": getpass.getuser(),
            "ENABLE_DEBUG_LOG_LEVEL": "True",
            "ENABLED_SERVICES": services,
            "VIRT_DRIVER": driver,
            "LIBVIRT_GROUP": "libvirt",
            "REGION_NAME": "RegionOne",
            "USB_PROVIDER_CONF_DIR": str(self.conf.parent),
            "USB_PROVIDER_HOOK_DIR": str(self.hook.parent),
        }
        command = ("bash", "-c", FUNCTIONS, "stack.sh", *phase)
        subprocess.run(command, check=True, timeout=60, env=environment(**variables, **local_conf))
        return self.calls.read_text().splitlines()

    def options(self) -> load.Options:
        """What the program reads from the configuration that was written."""
        conf = load.open_files(["--config-file", str(self.conf), "--config-dir", f"{self.conf}.d"])
        register_opts(conf)
        self.placement = conf.placement
        return load.read(conf)


@pytest.fixture
def devstack(tmp_path: Path) -> DevStack:
    return DevStack(tmp_path)


def test_stacking_installs_the_checkout_and_enables_the_service(devstack: DevStack) -> None:
    calls = devstack.run("stack", "install")
    assert "define_plugin\tusb-provider" in calls
    assert "enable_service\tusb-provider-agent" in calls
    assert "setup_develop\t/opt/stack/usb-provider" in calls


def test_the_user_gets_the_service_role_and_no_other(devstack: DevStack) -> None:
    # create_service_user gives the role "service"; a second argument would be one more.
    assert "create_service_user\tusb-provider" in devstack.run("stack", "post-config")


def test_the_configuration_that_is_written_is_one_that_the_program_accepts(devstack: DevStack) -> None:
    rules = '{"vendor_id": "1050", "resource_class": "CUSTOM_USB_KEY"}\n\n{"class": "hid", "exclude": true}\n'
    devstack.run("stack", "post-config", USB_PROVIDER_DEVICE_SPEC=rules)
    options = devstack.options()
    assert [spec.exclude for spec in options.usb.specs] == [False, True]
    assert options.agent.compute_id_file == devstack.root / "data" / "nova" / "compute_id"
    assert options.agent.state_dir == devstack.root / "data" / "usb-provider"
    assert options.libvirt.enabled
    assert options.hook.socket.parent == options.agent.state_dir
    assert devstack.placement.auth_type == "password"
    assert devstack.placement.region_name == "RegionOne"
    assert devstack.conf.parent.stat().st_mode & 0o007 == 0, "it holds a password"


def test_stacking_twice_leaves_each_rule_once(devstack: DevStack) -> None:
    for _ in range(2):
        devstack.run("stack", "post-config", USB_PROVIDER_DEVICE_SPEC='{"vendor_id": "1050"}')
    assert len(devstack.options().usb.specs) == 1


def test_without_rules_nothing_is_offered(devstack: DevStack) -> None:
    devstack.run("stack", "post-config")
    assert devstack.options().usb.specs == ()


def test_a_compute_node_that_is_told_its_uuid_is_known_by_it(devstack: DevStack) -> None:
    uuid = "4e8e5957-649f-477b-9e5b-f1f75b21c03c"
    devstack.run("stack", "post-config", NOVA_CPU_UUID=uuid)
    assert devstack.options().agent.root_provider_uuid == uuid


def test_with_tls_the_agent_trusts_devstacks_own_authority(devstack: DevStack) -> None:
    devstack.run("stack", "post-config", services=f"{ALL_IN_ONE},tls-proxy", SSL_BUNDLE_FILE="/opt/stack/ca.pem")
    devstack.options()
    assert devstack.placement.cafile == "/opt/stack/ca.pem"


def test_libvirt_is_restarted_after_the_hook_is_there(devstack: DevStack) -> None:
    calls = devstack.run("stack", "post-config")
    assert os.access(devstack.hook, os.X_OK)
    assert str(devstack.options().hook.socket) in devstack.hook.read_text()
    (installed,) = [number for number, call in enumerate(calls) if "install-hook" in call]
    assert calls[installed].startswith("sudo\t")
    assert calls.index("restart_service\tlibvirtd") > installed


def test_the_agent_runs_as_devstacks_user_in_libvirts_group(devstack: DevStack) -> None:
    (call,) = [call for call in devstack.run("stack", "extra") if call.startswith("run_process")]
    name, command, group = call.split("\t")[1:]
    assert (name, group) == ("usb-provider-agent", "libvirt")
    assert command.startswith("/"), "systemd wants an absolute path"
    assert command.endswith(f"--config-file {devstack.conf} --config-dir {devstack.conf}.d agent")


def test_a_node_without_nova_compute_only_makes_the_user(devstack: DevStack) -> None:
    calls = devstack.run("stack", "post-config", services="keystone") + devstack.run(
        "stack", "extra", services="keystone"
    )
    assert "create_service_user\tusb-provider" in calls
    assert not devstack.conf.exists()
    assert not [call for call in calls if call.startswith(("run_process", "restart_service"))]


def test_a_compute_node_without_keystone_makes_no_user(devstack: DevStack) -> None:
    calls = devstack.run("stack", "post-config", services="n-cpu")
    assert not [call for call in calls if call.startswith("create_service_user")]
    assert devstack.conf.exists()


def test_with_another_hypervisor_the_agent_only_reports(devstack: DevStack) -> None:
    calls = devstack.run("stack", "post-config", driver="fake")
    assert not devstack.options().libvirt.enabled
    assert not devstack.hook.exists()
    assert "restart_service\tlibvirtd" not in calls


def test_unstack_stops_the_agent_and_clean_leaves_nothing(devstack: DevStack) -> None:
    devstack.run("stack", "post-config")
    assert "stop_process\tusb-provider-agent" in devstack.run("unstack")
    calls = devstack.run("clean")
    assert "restart_service\tlibvirtd" in calls
    assert not devstack.hook.exists()
    assert not devstack.conf.parent.exists()
    assert not (devstack.root / "data" / "usb-provider").exists()


def test_a_disabled_service_does_nothing(devstack: DevStack) -> None:
    # disable_service in local.conf has the last word in DevStack; here the function that enables does nothing.
    script = FUNCTIONS.replace('ENABLED_SERVICES+=",$1"', ":")
    variables = {"CALLS": str(devstack.calls), "PLUGIN": str(PLUGIN), "ENABLED_SERVICES": ALL_IN_ONE, "DEST": "/opt"}
    subprocess.run(("bash", "-c", script, "stack.sh", "stack", "install"), check=True, env=environment(**variables))
    assert "setup_develop" not in devstack.calls.read_text()


@pytest.mark.parametrize("name", ["devstack/plugin.sh", "devstack/settings", "conf/kolla/extend_start.sh"])
def test_the_linters_of_shell_scripts_have_no_complaint(name: str) -> None:
    # As DevStack calls bashate, but for what it says of files that are sourced.
    subprocess.run((sys.executable, "-m", "bashate.bashate", "-iE005,E006,E042", ROOT / name), check=True)
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed (bindep.txt, profile test)")
    subprocess.run((shellcheck, ROOT / name), check=True)
