"""What docs/kolla.md says, done by Kolla-Ansible on a host with systemd and podman: one story, in order."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.lab.controller import Controller
from tests.integration.lab.errors import CommandFailed
from tests.kolla.deployment import USER, Deployment
from tests.kolla.host import LIMITS, NAME, Host
from tests.kolla.images import TAG, TOP, image, make_ours

HOOK = "/etc/kolla/usb-provider-hooks/qemu.d/usb-provider"
UNIT = "kolla-usb_provider_agent-container"
"""Kolla-Ansible's, of systemd: it starts a container again that podman has stopped."""
KEYS = {"vendor_id": "1050", "product_id": "0407", "resource_class": "CUSTOM_USB_KEY"}
STICKS = {"vendor_id": "46f4", "product_id": "0001", "resource_class": "CUSTOM_USB_STORAGE"}


ASKS = """\
<domain type='qemu'><name>x</name><uuid>6f7d4b5c-0d6e-4c3a-9d58-0a4d2f8c7e11</uuid>
<metadata><nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1"><nova:flavor name="usb">
<nova:extraSpecs><nova:extraSpec name="resources:CUSTOM_USB_KEY">1</nova:extraSpec></nova:extraSpecs>
</nova:flavor></nova:instance></metadata>
<devices><controller type='usb' model='qemu-xhci'/></devices></domain>
"""
"""A guest whose flavor asks for a device, as nova writes it."""


@dataclass
class Kolla:
    """A cloud, and a host of it that Kolla-Ansible manages."""

    controller: Controller
    host: Host
    deployment: Deployment

    def podman(self, *words: str, check: bool = True) -> str:
        """Give what podman prints on the host."""
        return self.host.ssh(f"podman {' '.join(words)} 2>/dev/null", check=check).strip()

    def program(self, words: str, *, check: bool = True) -> str:
        """Give what ``usb-provider WORDS`` prints in the agent's container."""
        return self.podman("exec", "usb_provider_agent", "usb-provider", words, check=check)

    def started(self, container: str) -> str:
        """When *container* was last started; empty when there is none."""
        return self.podman("inspect", "--format", "'{{.Id}} {{.State.StartedAt}}'", container, check=False)

    def log(self) -> str:
        """What the agent's container has logged."""
        return self.host.ssh("podman logs usb_provider_agent 2>&1", check=False)

    def eventually(self, command: str, wanted: str, seconds: float = 180) -> None:
        """Pass when what *command* prints on the host has *wanted*."""
        deadline = time.monotonic() + seconds
        while wanted not in (found := self.host.ssh(f"{command} 2>&1", check=False)):
            assert time.monotonic() < deadline, (found, self.log()[-3000:])
            time.sleep(2)


@pytest.fixture(scope="module")
def kolla(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kolla]:
    directory = tmp_path_factory.mktemp("kolla")
    controller = Controller(directory / "cloud")
    host: Host | None = None
    try:
        controller.start_core()
        controller.start_others()
        host = Host.start(directory / "host")
        deployment = Deployment(directory / "ansible", NAME, host.connection(), nova_compute_virt_type="qemu", **LIMITS)
        deployment.toolbox()
        yield Kolla(controller, host, deployment)
    finally:
        if host is not None:
            host.stop()
        controller.stop()


def test_the_commands_of_the_page_deploy_the_agent(kolla: Kolla) -> None:
    kolla.deployment.ours("prechecks")
    kolla.deployment.ours("genconfig")
    kolla.deployment.nova_cell()
    before = kolla.started("nova_libvirt")
    kolla.deployment.ours("deploy")

    assert kolla.host.ssh(f"test -x {HOOK} && echo hook").strip() == "hook"
    assert kolla.podman("exec", "nova_libvirt", "ls", "/etc/libvirt/hooks/qemu.d") == "usb-provider"
    assert kolla.podman("exec", "nova_libvirt", "ls", "/run/usb-provider") == "hook.sock"
    # Restarted, and not made anew.
    after = kolla.started("nova_libvirt")
    assert (before.split()[0], before != after) == (after.split()[0], True)
    kolla.eventually("podman exec usb_provider_agent usb-provider status", "No guest on this host")


def test_the_agents_user_has_the_role_service_and_no_other(kolla: Kolla) -> None:
    identity = kolla.controller.connect().identity
    user = identity.find_user(USER)
    roles = {role.id: role.name for role in identity.roles()}
    assigned = identity.role_assignments(user_id=user.id)
    assert [roles[each.role["id"]] for each in assigned] == ["service"]


def test_the_agent_takes_the_root_provider_from_nova_computes_file(kolla: Kolla) -> None:
    uuid = kolla.podman("exec", "nova_compute", "cat", "/var/lib/nova/compute_id")
    cloud = kolla.controller.connect()
    deadline = time.monotonic() + 180
    while not (found := _providers(cloud)) and time.monotonic() < deadline:
        time.sleep(2)
    assert found == {NAME: uuid}
    kolla.eventually("podman exec usb_provider_agent usb-provider plan", "nothing to do")


def test_the_hook_reaches_the_agent_from_inside_nova_libvirt(kolla: Kolla) -> None:
    (kolla.host.root / "root" / "domain.xml").write_text(ASKS)
    hook = "x prepare begin - < /root/domain.xml"
    kolla.host.ssh(f"podman exec -i nova_libvirt /etc/libvirt/hooks/qemu.d/usb-provider {hook}")
    # The same hook, in the same image, where the socket is not.
    volume = "--entrypoint /hooks/usb-provider -v /etc/kolla/usb-provider-hooks/qemu.d:/hooks:ro"
    with pytest.raises(CommandFailed, match="asks for a USB device, but the agent did not answer"):
        kolla.host.ssh(f"podman run --rm -i --network host {volume} {image('nova-libvirt')} {hook}")


def test_another_run_changes_nothing(kolla: Kolla) -> None:
    before = [kolla.started(name) for name in ("nova_libvirt", "usb_provider_agent")]
    out = kolla.deployment.ours("reconfigure")
    assert [kolla.started(name) for name in ("nova_libvirt", "usb_provider_agent")] == before, out


def test_a_changed_rule_restarts_the_agent_and_not_libvirt(kolla: Kolla) -> None:
    libvirt, agent = kolla.started("nova_libvirt"), kolla.started("usb_provider_agent")
    kolla.deployment.rules(KEYS, STICKS)
    kolla.deployment.ours("reconfigure")
    assert kolla.started("nova_libvirt") == libvirt
    assert kolla.started("usb_provider_agent") != agent
    assert "46f4" in kolla.podman("exec", "usb_provider_agent", "cat", "/etc/usb-provider/usb-provider.conf")


def test_dev_mode_shows_an_edited_file_after_a_restart(kolla: Kolla) -> None:
    source = kolla.host.root / "opt" / "stack" / "usb-provider"
    for name in ("conf", "placement_traits", "usb_provider"):
        shutil.copytree(TOP / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(TOP / name, source)
    kolla.deployment.ours("reconfigure", "-e", "usb_provider_dev_mode=true")
    hook = source / "usb_provider" / "virt" / "hook.py"
    hook.write_text(hook.read_text() + "# edited\n")
    kolla.host.ssh("podman restart usb_provider_agent", timeout=300)
    kolla.eventually(f"tail -n 1 {HOOK}", "# edited")


def test_an_upgrade_runs_the_new_image(kolla: Kolla) -> None:
    make_ours(f"{TAG}-next", "--label", "edition=next")
    libvirt = kolla.started("nova_libvirt")
    kolla.deployment.ours("upgrade", "-e", f"usb_provider_tag={TAG}-next")
    assert kolla.podman("inspect", "--format", "'{{.ImageName}}'", "usb_provider_agent").endswith("-next")
    assert kolla.started("nova_libvirt") == libvirt
    kolla.eventually("podman exec usb_provider_agent usb-provider status", "No guest on this host")


def test_removing_it_leaves_nothing(kolla: Kolla) -> None:
    kolla.deployment.rules()
    kolla.deployment.ours("reconfigure")
    kolla.eventually("podman exec usb_provider_agent usb-provider plan", "nothing to do")
    kolla.host.ssh(f"rm {HOOK}")
    (kolla.deployment.config / "globals.d" / "usb-provider.yml").unlink()
    kolla.deployment.nova_cell()
    volumes = json.loads(kolla.podman("inspect", "nova_libvirt"))[0]["Mounts"]
    assert not [each for each in volumes if "usb-provider" in each["Source"]]
    kolla.host.ssh(f"systemctl disable --now {UNIT} && rm /etc/systemd/system/{UNIT}.service")
    kolla.podman("rm", "-f", "usb_provider_agent")
    kolla.podman("volume", "rm", "usb_provider")
    kolla.host.ssh(
        "rm -r /etc/kolla/usb-provider-agent /etc/kolla/usb-provider-hooks /etc/tmpfiles.d/usb-provider.conf"
    )
    kolla.host.ssh("systemctl daemon-reload")
    left = kolla.host.ssh("podman ps -a; systemctl list-units --all; find /etc -name '*usb*provider*'", check=False)
    assert not [line for line in left.splitlines() if re.search("usb.provider", line)]


def _providers(cloud: Any) -> dict[str, str]:
    answer = cloud.placement.get("/resource_providers", microversion="1.39")
    return {each["name"]: each["uuid"] for each in answer.json()["resource_providers"]}
