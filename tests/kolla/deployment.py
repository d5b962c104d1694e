"""Kolla-Ansible with our playbook and role, as docs/kolla.md sets them up, for one host.

The cloud runs outside of Kolla: that of the end-to-end tests. So Kolla-Ansible is told where it is, and deploys what a
compute host has: kolla_toolbox, nova_libvirt, nova_compute, and the agent.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.e2e.lab.controller import GLANCE, KEYSTONE, PASSWORD, transport
from tests.integration.lab.vm import LOOPBACK
from tests.kolla.engine import CACHE
from tests.kolla.images import RELEASE, TOP, collections

OURS = TOP / "conf" / "kolla"
KOLLA_ANSIBLE = "23.0.0"
USER = "usb-kolla"
"""The agent's user in Keystone: not that of the end-to-end tests, since the role is to make it."""
GLOBALS: Mapping[str, Any] = {
    "kolla_base_distro": "debian",
    "kolla_container_engine": "podman",
    "openstack_release": RELEASE,
    "kolla_internal_vip_address": LOOPBACK,
    "keystone_internal_url": f"http://{LOOPBACK}:{KEYSTONE}",
    "glance_internal_endpoint": f"http://{LOOPBACK}:{GLANCE}",
    "nova_cell_rpc_transport_url": transport("", LOOPBACK),
    "nova_cell_notify_transport_url": transport("", LOOPBACK),
    "neutron_keystone_user": "nova",
    "nova_console": "none",
    "enable_haproxy": False,
    "enable_fluentd": False,
    "enable_nova_ssh": False,
    "enable_rabbitmq": False,
    "usb_provider_keystone_user": USER,
}
# The cloud's RabbitMQ has no quorum queues; emulated hosts have neither the host's processor nor time.
NOVA = """\
[DEFAULT]
force_config_drive = false
use_cow_images = false
vif_plugging_is_fatal = false
vif_plugging_timeout = 0
report_interval = 5
update_resources_interval = 30
[libvirt]
cpu_mode = none
images_type = raw
hw_machine_type = x86_64=pc
[oslo_messaging_rabbit]
rabbit_quorum_queue = false
rabbit_transient_quorum_queue = false
rabbit_stream_fanout = false
use_queue_manager = false
"""
_PASSWORDS = ("keystone_admin", "nova_keystone", "placement_keystone", "neutron_keystone", "usb_provider_keystone")


class PlaybookFailed(Exception):
    """A playbook failed; the message is what Ansible printed."""


class Deployment:
    """Kolla-Ansible's configuration below *directory* for a host that *connection*, variables of Ansible, reaches."""

    def __init__(self, directory: Path, name: str, connection: Mapping[str, str], **variables: Any) -> None:
        self.directory = directory
        self.name = name
        self.config = directory / "kolla"
        self.log = directory / "ansible.log"
        self.environment = environment()
        (self.config / "globals.d").mkdir(parents=True)
        (self.config / "config").mkdir()
        share = Path(self.environment["VIRTUAL_ENV"]) / "share" / "kolla-ansible"
        self.ansible = share / "ansible"
        link(OURS / "ansible" / "usb-provider.yml", self.ansible / "usb-provider.yml")
        link(OURS / "ansible" / "roles" / "usb_provider", self.ansible / "roles" / "usb_provider")
        shutil.copy(OURS / "globals.d" / "usb-provider.yml", self.config / "globals.d")
        self.set("globals.yml", {**GLOBALS, **variables})
        passwords = (share / "etc_examples" / "kolla" / "passwords.yml").read_text()
        for each in _PASSWORDS:
            line = f"{each}_password: {PASSWORD}"
            passwords, found = re.subn(rf"(?m)^{each}_password:.*$", line, passwords)
            passwords += "" if found else f"{line}\n"
        (self.config / "passwords.yml").write_text(passwords)
        (self.config / "config" / "nova.conf").write_text(NOVA)
        self._run("kolla-genpwd", "-p", str(self.config / "passwords.yml"))
        self._write_inventory(connection)

    def set(self, name: str, variables: Mapping[str, Any]) -> None:
        """Write *variables* as the file *name* of Kolla's configuration."""
        (self.config / name).write_text("---\n" + json.dumps(variables, indent=1) + "\n")

    def rules(self, *rules: Mapping[str, Any]) -> None:
        """Write the sample of globals with other rules, as an operator edits it."""
        sample = (OURS / "globals.d" / "usb-provider.yml").read_text()
        text, found = re.subn(
            r"(?m)^usb_provider_device_spec:\n(?:  .*\n)+",
            lambda _: f"usb_provider_device_spec: {json.dumps(rules)}\n",
            sample,
        )
        assert found == 1
        (self.config / "globals.d" / "usb-provider.yml").write_text(text)

    def ours(self, action: str, *options: str) -> str:
        """Run ``kolla-ansible ACTION`` with our playbook; give what it prints."""
        return self._kolla(action, "-p", str(self.ansible / "usb-provider.yml"), *options)

    def nova_cell(self, *options: str) -> None:
        """Deploy nova_libvirt and nova_compute.

        Not with "deploy" itself, which makes Nova's databases in Kolla's own and asks a conductor of Kolla's.
        """
        for action in ("genconfig", "deploy-containers"):
            self._kolla(action, "--tags", "nova-cell", *options)

    def toolbox(self) -> None:
        """Deploy kolla_toolbox, in which Kolla-Ansible asks the cloud."""
        self._kolla("deploy", "--tags", "common")

    def _kolla(self, action: str, *options: str) -> str:
        where = ("-i", str(self.directory / "inventory"), "--configdir", str(self.config))
        return self._run("kolla-ansible", action, *where, "--limit", self.name, *options)

    def _run(self, *words: str) -> str:
        done = subprocess.run(
            words,
            env=self.environment,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        with self.log.open("a") as log:
            log.write(f"\n$ {shlex.join(words)}\n{done.stdout}")
        if done.returncode:
            raise PlaybookFailed(f"{shlex.join(words)}:\n{done.stdout}")
        return done.stdout

    def _write_inventory(self, connection: Mapping[str, str]) -> None:
        """Kolla's own, with one host; "toolbox" is the same host, for what Kolla-Ansible asks on a conductor's."""
        text = (self.ansible / "inventory" / "multinode").read_text()
        reached = " ".join(f"{name}={shlex.quote(value)}" for name, value in connection.items())
        hosts = {"control": "toolbox", "network": "", "compute": self.name, "monitoring": "", "storage": ""}
        for group, host in hosts.items():
            lines = f"[{group}]\n{host} {reached}\n" if host else f"[{group}]\n"
            text = re.sub(rf"(?m)^\[{group}\]\n(?:(?!\[).*\n)*", lambda _, lines=lines: lines + "\n", text)
        (self.directory / "inventory").write_text(text)


def environment() -> dict[str, str]:
    """The variables of the virtual environment with Kolla-Ansible, made when it is not there."""
    directory = CACHE / f"kolla-ansible-{KOLLA_ANSIBLE}"
    if not (directory / "bin" / "kolla-ansible").exists():
        shutil.rmtree(directory, ignore_errors=True)
        subprocess.run([python(), "-m", "venv", str(directory)], check=True)
        pip = [directory / "bin/pip", "install", "--quiet"]
        subprocess.run([*pip, f"kolla-ansible=={KOLLA_ANSIBLE}", "netaddr"], check=True)
    variables = {name: value for name, value in os.environ.items() if name in ("HOME", "LANG", "TMPDIR")}
    return variables | {
        "VIRTUAL_ENV": str(directory),
        "PATH": f"{directory}/bin:{os.environ['PATH']}",
        "ANSIBLE_COLLECTIONS_PATH": str(collections()),
        "ANSIBLE_PIPELINING": "true",
        "NO_COLOR": "1",
    }


def python() -> str:
    """A Python that Kolla-Ansible takes. :raises LookupError: when the machine has none."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    paths = []
    for version in ("3.14", "3.13", "3.12"):
        found = shutil.which(f"python{version}")
        paths += [found] if found else []
        paths += map(str, sorted(pyenv.glob(f"versions/{version}.*/bin/python")))
    for path in paths:
        # A shim of pyenv is there for each version that is installed, and runs only the one that is chosen.
        if subprocess.run([path, "-c", "import venv"], capture_output=True, check=False).returncode == 0:
            return path
    raise LookupError(f"Kolla-Ansible {KOLLA_ANSIBLE} needs Python 3.12 or newer, and this machine has none")


def link(source: Path, target: Path) -> None:
    """Make the symbolic link *target* anew."""
    target.unlink(missing_ok=True)
    target.symlink_to(source)
