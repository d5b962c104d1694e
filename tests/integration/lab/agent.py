"""The product in the test host: installed as an operator does it, and its agent's unit."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.fixtures.placement import PlacementServer
from tests.integration.lab.vm import LOOPBACK, Vm

TOP = Path(__file__).parents[3]
ROOT_NAME = "testhost"
ROOT_UUID = "6f7d4b5c-0d6e-4c3a-9d58-0a4d2f8c7e11"
STICKS: Mapping[str, Any] = {"vendor_id": "46f4", "product_id": "0001", "resource_class": "CUSTOM_USB_STORAGE"}
"""A rule that offers QEMU's USB sticks."""

QUICK = {"agent": {"resync_interval": "2"}}

UNIT = "usb-provider-agent.service"
_FILES = {
    f"systemd/{UNIT}": "/etc/systemd/system",
    "sysusers.d/usb-provider.conf": "/etc/sysusers.d",
    "udev/61-usb-provider.rules": "/etc/udev/rules.d",
}
"""What of conf/ is where on the host."""

# What pip does with a wheel that has no dependencies to find, without pip's own half a minute under emulation.
_INSTALL = """\
import compileall, importlib.metadata, pathlib, sys, sysconfig, zipfile

library = sysconfig.get_path("purelib")
zipfile.ZipFile(sys.argv[1]).extractall(library)
for path in importlib.metadata.files("usb-provider"):
    if path.suffix == ".py":
        compileall.compile_file(path.locate(), quiet=1)
for entry in importlib.metadata.distribution("usb-provider").entry_points.select(group="console_scripts"):
    script = pathlib.Path(sysconfig.get_path("scripts"), entry.name)
    script.write_text(
        f"#!{sys.executable}\\nimport sys\\nfrom {entry.module} import {entry.attr}\\nsys.exit({entry.attr}())\\n"
    )
    script.chmod(0o755)
"""


def build_wheel(directory: Path) -> Path:
    """Build the wheel in *directory*, from a copy of this working tree: setuptools would take up an older build's."""
    source = directory / "source"
    left_out = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "tests", "__pycache__")
    shutil.copytree(TOP, source, ignore=left_out)
    words = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(directory), str(source))
    subprocess.run([sys.executable, *words], check=True)
    (built,) = directory.glob("*.whl")
    return built


class Agent:
    """The agent of a test host that reports to *placement*."""

    def __init__(self, vm: Vm, placement: PlacementServer) -> None:
        self.vm = vm
        self.placement = placement

    @staticmethod
    def install(vm: Vm, wheel: Path) -> None:
        """Install *wheel* and what conf/ has for systemd and udev; the unit is enabled and not yet started."""
        vm.put(wheel, f"/tmp/{wheel.name}")
        for name, where in _FILES.items():
            vm.put(TOP / "conf" / name, f"{where}/{Path(name).name}")
        vm.put(_INSTALL, "/tmp/install.py")
        vm.ssh(
            f"/opt/usb-provider/bin/python /tmp/install.py /tmp/{wheel.name} && "
            "systemd-sysusers && install -d -m 750 -g usb-provider /etc/usb-provider && "
            f"systemctl daemon-reload && systemctl enable --quiet {UNIT} && sync",
            timeout=300,
        )

    def configure(
        self,
        rules: Iterable[Mapping[str, Any]] = (STICKS,),
        *,
        options: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """Write the configuration: *rules* are the whole of ``device_spec``, *options* are added to their groups.

        A running agent has it from :meth:`reload` or :meth:`restart` on.
        """
        port = self.placement.endpoint.rpartition(":")[2]
        groups: dict[str, dict[str, str]] = {
            "DEFAULT": {"debug": "true"},
            "agent": {"start_spread": "0"},  # the test host has just booted
            "placement": {
                "auth_type": "admin_token",
                "endpoint": f"http://{LOOPBACK}:{port}",
                "token": self.placement.token,
            },
        }
        for group, more in (options or {}).items():
            groups.setdefault(group, {}).update(more)
        lines = []
        for group, values in groups.items():
            lines += [f"[{group}]", *(f"{name} = {value}" for name, value in values.items())]
        lines += ["[usb]", *(f"device_spec = {json.dumps(rule).replace('$', '$$')}" for rule in rules)]
        self.vm.put("\n".join(lines) + "\n", "/etc/usb-provider/usb-provider.conf", 0o640)
        self.vm.ssh("chgrp usb-provider /etc/usb-provider/usb-provider.conf")

    def start(self) -> None:
        """Start the unit; return when the agent says that it is ready."""
        self._systemctl("start")

    def stop(self) -> None:
        """Stop the unit."""
        self._systemctl("stop")

    def restart(self) -> None:
        """Stop the unit and start it."""
        self._systemctl("restart")

    def reload(self) -> None:
        """Send the agent SIGHUP."""
        self._systemctl("reload")

    def kill(self) -> None:
        """Kill the agent as nothing but the kernel does; systemd starts it again."""
        self._systemctl("kill --signal=KILL --kill-whom=main")

    def run_with(self, code: str) -> None:
        """Run the agent once, as the unit "usb-provider-try", after the Python *code*: it makes what tests need happen.

        The code finds ``LibvirtHost`` and the modules os, threading and time.
        """
        self.vm.put(
            "import os, sys, threading, time\n"
            "from usb_provider.cmd.main import main\n"
            "from usb_provider.virt.domain import LibvirtHost\n"
            f"{code}"
            "sys.exit(main(['agent']))\n",
            "/tmp/try.py",
        )
        self.vm.ssh(
            "rm -f /tmp/gap /tmp/go; systemctl reset-failed usb-provider-try 2>/dev/null; "
            "systemd-run --quiet --unit=usb-provider-try --service-type=notify --property=NotifyAccess=main "
            "--property=RuntimeDirectory=usb-provider --property=RuntimeDirectoryPreserve=yes "
            "/opt/usb-provider/bin/python /tmp/try.py",
            timeout=180,
        )

    def _systemctl(self, verb: str) -> None:
        self.vm.ssh(f"systemctl {verb} {UNIT}", timeout=180)

    def run(self, *words: str, timeout: float = 120) -> str:
        """Give what ``usb-provider *words*`` prints, run by root."""
        return self.vm.ssh(" ".join(["usb-provider", *words]), timeout=timeout)

    def log(self) -> str:
        """Give what the agent has logged since its last start."""
        invocation = f"$(systemctl show --property=InvocationID --value {UNIT})"
        return self.vm.ssh(f"journalctl --no-pager --output=cat _SYSTEMD_INVOCATION_ID={invocation}")

    @staticmethod
    def forget(vm: Vm) -> None:
        """Stop the agent and remove what it keeps."""
        vm.ssh(
            f"systemctl stop {UNIT} usb-provider-try; systemctl reset-failed {UNIT}; rm -rf /var/lib/usb-provider/*",
            check=False,
        )
