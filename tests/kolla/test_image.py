"""Our image on Kolla's openstack-base, run by podman as Kolla-Ansible's containers are."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kolla.deployment import OURS, environment
from tests.kolla.engine import environment as podmans
from tests.kolla.engine import podman
from tests.kolla.images import TOP, image

IMAGE = image("usb-provider")
PRELOAD = Path("/usr/lib/x86_64-linux-gnu/libumockdev-preload.so.0")
# No cloud and no libvirt: the agent says so, and goes on.
CONF = """\
[usb]
device_spec = {"vendor_id": "152d", "resource_class": "CUSTOM_USB_STORAGE"}
[placement]
auth_type = none
endpoint = http://127.0.0.1:1
"""


def rendered(directory: Path) -> Path:
    """The config.json of our role, rendered with Kolla-Ansible's own variables."""
    dest = directory / "config.json"
    template = OURS / "ansible/roles/usb_provider/templates/usb-provider-agent.json.j2"
    variables = {"kolla_copy_ca_into_containers": False, "container_config_directory": "/var/lib/kolla/config_files"}
    subprocess.run(
        [
            *("ansible", "localhost", "-m", "ansible.builtin.template", "-a", f"src={template} dest={dest}"),
            *("-e", json.dumps(variables)),
        ],
        env=environment(),
        check=True,
        capture_output=True,
    )
    return dest


class Agent:
    """The container with the agent; its volumes are below *directory*."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.hook = directory / "hooks" / "qemu.d" / "usb-provider"
        for each in ("config", "hooks/qemu.d", "log"):
            (directory / each).mkdir(parents=True)

    def start(self) -> None:
        """Start it as Kolla-Ansible does, and return when the agent has begun."""
        volumes = {
            "config": "/var/lib/kolla/config_files:ro",
            "hooks": "/etc/libvirt/hooks",
            "log": "/var/log/kolla",
        }
        if (self.directory / "dev-mode").exists():
            volumes["dev-mode"] = "/dev-mode"
        words = [word for name, where in volumes.items() for word in ("-v", f"{self.directory / name}:{where}")]
        strategy = ("-e", "KOLLA_CONFIG_STRATEGY=COPY_ALWAYS", "-e", "TZ=Asia/Kathmandu")
        podman("run", "-d", "--name=usb_provider_agent", *strategy, *words, IMAGE)
        self.wait_for("does not answer")

    def wait_for(self, words: str, seconds: float = 240) -> str:
        """Give the container's log once it has *words*."""
        deadline = time.monotonic() + seconds
        while True:
            log = podman("logs", "usb_provider_agent", check=False)
            if words in log:
                return log
            assert time.monotonic() < deadline, log
            time.sleep(1)

    def run(self, *words: str) -> str:
        """Give what a command in the container prints."""
        return podman("exec", "usb_provider_agent", *words)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    podman("rm", "-f", "usb_provider_agent", check=False)
    yield Agent(tmp_path)
    podman("rm", "-f", "-t", "5", "usb_provider_agent", check=False)


def test_the_program_runs_on_kollas_openstack_base() -> None:
    assert podman("run", "--rm", IMAGE, "usb-provider", "--version").startswith("usb-provider ")


def test_the_agent_has_an_environment_of_its_own_and_libvirts_client_from_the_distribution() -> None:
    code = "import libvirt, sys, usb_provider; print(sys.prefix, libvirt.__file__, usb_provider.__file__)"
    prefix, libvirt, ours = podman("run", "--rm", IMAGE, "python3", "-c", code).split()
    assert prefix == "/var/lib/kolla/venv"
    assert libvirt.startswith("/usr/lib/python3/dist-packages/")
    assert ours.startswith("/var/lib/kolla/venv/")


def test_it_finds_a_device_that_is_replayed_to_it() -> None:
    recording = TOP / "tests/fixtures/recordings/backup-disk-noauto.umockdev"
    inside = f"podman run --rm -v $UMOCKDEV_DIR:$UMOCKDEV_DIR -v {PRELOAD}:/umockdev.so:ro -e UMOCKDEV_DIR "
    inside += f"-e LD_PRELOAD=/umockdev.so {IMAGE} usb-provider devices --suggest"
    done = subprocess.run(
        ["umockdev-run", "--device", str(recording), "--", "env", "--unset=LD_PRELOAD", "sh", "-c", inside],
        env=podmans(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"vendor_id": "152d"' in done.stdout


def test_kollas_start_script_puts_everything_in_place(agent: Agent) -> None:
    rendered(agent.directory / "config")
    (agent.directory / "config" / "usb-provider.conf").write_text(CONF)
    agent.start()
    assert os.access(agent.hook, os.X_OK)
    assert agent.run("stat", "-c", "%a %U", "/etc/usb-provider/usb-provider.conf").strip() == "600 root"
    assert agent.run("stat", "-c", "%a", "/var/log/kolla/usb-provider").strip() == "755"
    assert "+0545" in agent.run("date", "+%z")
    before = time.monotonic()
    podman("stop", "-t", "60", "usb_provider_agent")
    assert time.monotonic() - before < 30, "the agent ends when it is asked to"
    assert "Ended." in podman("logs", "usb_provider_agent")


def test_dev_mode_installs_the_source_at_the_start_of_the_container(agent: Agent) -> None:
    source = agent.directory / "dev-mode" / "usb-provider"
    source.mkdir(parents=True)
    for name in ("LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(TOP / name, source)
    for name in ("conf", "placement_traits", "usb_provider"):
        shutil.copytree(TOP / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    rendered(agent.directory / "config")
    (agent.directory / "config" / "usb-provider.conf").write_text(CONF)
    hook = source / "usb_provider" / "virt" / "hook.py"
    hook.write_text(hook.read_text() + "# edited\n")
    agent.start()
    assert agent.hook.read_text().endswith("# edited\n")
