"""Nova and Placement in this process, our agents outside of it.

Nova's API, conductor, scheduler and computes (fake driver) and Placement come from the fixtures that
these projects ship for their own functional tests. Both use one Placement, which
:class:`~tests.fixtures.placement.PlacementServer` also serves over HTTP. The agent of each compute host
is a process of its own, under umockdev, that knows nothing of all this.

One rule: a test looks at what Nova and Placement answer, never into the agent.
"""

import contextlib
import json
import logging
import os
import selectors
import shutil
import signal
import socketserver
import subprocess
import sys
import sysconfig
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

# Read when nova is imported. Up to 32 nova-compute needs eventlet: on threads it fails to copy its tree of providers.
os.environ.setdefault("OS_NOVA_DISABLE_EVENTLET_PATCHING", str(int(version("nova").partition(".")[0]) > 32))

import sqlalchemy.exc
from nova import monkey_patch
from oslo_db import exception as db_exception
from oslo_db.sqlalchemy import exc_filters
from oslo_utils.fixture import uuidsentinel
from placement import deploy

from tests.fixtures.placement import PlacementServer, WsgiApp
from tests.functional.nova.hands import Hands, environment
from usb_provider.demo import umockdev

# Importing nova's tests sets logging up for the whole process; other tests are to be as quiet as before.
log = logging.getLogger()
before = log.level, log.handlers[:]
# It refuses to go on where other tests have imported eventlet, which does no harm as long as nothing is patched.
with contextlib.ExitStack() as patched:
    if hasattr(monkey_patch, "poison_eventlet") and "eventlet" in sys.modules:
        patched.enter_context(mock.patch.object(monkey_patch, "poison_eventlet", lambda: None))
    # Before other parts of Nova, whose import may choose threads or eventlet by itself.
    if hasattr(monkey_patch, "patch"):
        monkey_patch.patch()
    from nova.tests.functional import integrated_helpers

    # isort: split
    # Nova's functional tests come first: with their import they choose threads.
    from nova import context, objects
log.level, log.handlers[:] = before
if not hasattr(selectors, "PollSelector"):
    # Eventlet has removed it, since it would block the process, but socketserver was imported before and still has it.
    vars(socketserver)["_ServerSelector"] = selectors.SelectSelector


@exc_filters.filters("sqlite", sqlalchemy.exc.OperationalError, r"^.*database is locked.*$")
def _is_a_deadlock(error: Exception, *about: object) -> None:
    """Say of SQLite what MySQL says itself, so that Nova tries again, as it does there.

    Two of Nova's threads that each read and then write in one transaction are a deadlock to SQLite, which fails one of
    them at once (https://sqlite.org/lang_transaction.html). The word for it is of MySQL and PostgreSQL only.
    """
    raise db_exception.DBDeadlock(error)


KEY_SPEC = {"vendor_id": "1050", "resource_class": "CUSTOM_USB_KEY"}

CONFIG = """\
[placement]
auth_type = admin_token
endpoint = {endpoint}
token = {token}
[agent]
root_provider_name = {host}
compute_id_file = {directory}/compute_id
state_dir = {directory}
resync_interval = {resync_interval}
start_spread = 0
[libvirt]
enabled = false
[hook]
socket = {directory}/hook.sock
[usb]
"""


def agent_command(config_file: Path) -> list[str]:
    """Give the command that runs the agent; it is started under umockdev's preload."""
    return [
        sys.executable,
        "-m",
        "usb_provider.cmd.main",
        "--config-file",
        str(config_file),
        "agent",
    ]


class Agent:
    """A running agent process of one compute host."""

    def __init__(self, command: Sequence[str], hands: Hands, log: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                umockdev.wrap(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment(hands.directory),
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def stop(self) -> int:
        """Ask it to end, wait, and give its exit code; -9 when it did not end within 15 s."""
        if self.running:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.wait()

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.wait()


class Host:
    """A compute host: nova's service, the hands at its ports and, when started, its agent."""

    def __init__(self, name: str, hands: Hands) -> None:
        self.name = name
        self.hands = hands
        self.compute: Any = None
        self.agent: Agent | None = None


class NovaTestCase(integrated_helpers.ProviderUsageBaseTestCase):  # type: ignore[misc]
    """A cloud without hosts; see the module's docstring.

    :ivar server: Placement, for looking into it; what it recorded are the agents' requests only.
    """

    compute_driver = "fake.MediumFakeDriver"
    agent_command: Callable[[Path], list[str]] = staticmethod(agent_command)

    def setUp(self) -> None:
        self._require_umockdev()
        self.directory = Path(tempfile.mkdtemp(prefix="usb-provider-nova-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self._agents: list[Agent] = []
        self.addCleanup(log.setLevel, log.level)  # nova's fixture leaves it at DEBUG
        self.server = PlacementServer()
        self.addCleanup(self.server.close)
        # The wheel installs it where nova itself looks in a source tree only.
        paste = Path(sysconfig.get_path("data")) / "etc/nova/api-paste.ini"
        self.flags(api_paste_config=str(paste), group="wsgi")
        with mock.patch.object(deploy, "loadapp", self._share(deploy.loadapp)):
            super().setUp()
        logging.getLogger("placement.requestlog").setLevel(logging.WARNING)  # mostly of our own looking
        # Nova's fixture makes SQLAlchemy's warnings errors, and SQLAlchemy has new ones by now.
        warnings.filterwarnings("ignore", category=sqlalchemy.exc.SADeprecationWarning)
        self.addCleanup(self._print_logs)

    def _clear_attrs(self) -> None:
        """Nova deletes attributes to save memory; pytest has put the test method among them."""

    def _require_umockdev(self) -> None:
        if shutil.which("umockdev-wrapper") is None:
            assert not os.environ.get("CI"), "umockdev is not installed, and CI must not skip"
            self.skipTest(f"umockdev is not installed: {umockdev.UMOCKDEV_PACKAGES}")

    def _share(self, loadapp: Callable[..., WsgiApp]) -> Callable[..., WsgiApp]:
        """Let the server serve the very application that nova is given, each in its turn."""

        def load(*args: Any, **more: Any) -> WsgiApp:
            app = loadapp(*args, **more)
            serving = self.server.serving(app)
            serving.__enter__()
            self.addCleanup(serving.__exit__, None, None, None)
            return self.server.in_turn(app)

        return load

    def _print_logs(self) -> None:
        """Print what helps with a failure; pytest shows it only then."""
        for agent in self._agents:
            print(f"--- {agent.log.name}\n{agent.log.read_text(errors='replace')}")
        print(f"--- requests of the agents\n{json.dumps(self.server.requests, indent=0)}")
        serious = [line for line in self.nova_log().splitlines() if " ERROR " in line or " WARNING [nova" in line]
        print("--- nova", *serious, sep="\n")

    # The cloud

    def start_host(self, name: str, *, compute: bool = True) -> Host:
        """Give a new host without USB devices and without an agent; start_compute() makes it a compute host later."""
        hands = Hands()
        self.addCleanup(hands.close)
        host = Host(name, hands)
        if compute:
            self.start_compute(host)
        return host

    def start_compute(self, host: Host) -> None:
        """Start nova-compute, which makes the host's root provider."""
        host.compute = self._start_compute(host.name)

    def start_agent(
        self,
        host: Host,
        device_spec: Sequence[Mapping[str, object]] = (KEY_SPEC,),
        resync_interval: int = 60,
    ) -> Agent:
        """Start the agent of *host*; an earlier one has to be stopped first."""
        directory = self.directory / host.name
        directory.mkdir(exist_ok=True)
        config_file = directory / "usb-provider.conf"
        config_file.write_text(
            CONFIG.format(
                endpoint=self.server.endpoint,
                token=self.server.token,
                host=host.name,
                directory=directory,
                resync_interval=resync_interval,
            )
            + "".join(f"device_spec = {json.dumps(dict(spec))}\n" for spec in device_spec)
        )
        log = self.directory / f"{host.name}-agent-{len(self._agents)}.log"
        agent = Agent(type(self).agent_command(config_file), host.hands, log)
        self._agents.append(agent)
        self.addCleanup(agent.stop)
        host.agent = agent
        return agent

    def restart_compute(self, host: Host) -> None:
        """Restart nova-compute; the hypervisor, and so its servers, stay."""
        host.compute = self.restart_compute_service(host.compute)
        self.computes[host.name] = host.compute

    def delete_service(self, host: Host) -> None:
        """Stop nova-compute and delete its service, with which nova deletes the whole tree."""
        host.compute.stop()
        (service,) = self.api.get_services(binary="nova-compute", host=host.name)
        self.api.api_delete(f"/os-services/{service['id']}")
        del self.computes[host.name]

    def recreate_service(self, host: Host) -> None:
        """Start nova-compute again after its service was deleted."""
        cell = self.host_mappings[host.name].cell_mapping
        mapping = objects.HostMapping(context.get_admin_context(), host=host.name, cell_mapping=cell)
        mapping.create()  # what nova-manage cell_v2 discover_hosts does
        self.host_mappings[host.name] = mapping
        self.start_compute(host)

    def lose_the_node_uuids(self) -> None:
        """Let each nova-compute that starts from now on take another node, and so root, UUID than before."""
        self.stub_out("nova.virt.fake.uuids", type(uuidsentinel)())

    def let_nova_see_the_tree(self) -> None:
        """Let every nova-compute read its whole tree anew, and so keep the devices in its cache."""
        for compute in self.computes.values():
            compute.manager.rt.reportclient.clear_provider_cache()
        self._run_periodics()

    def nova_log(self) -> str:
        """Give all that nova has logged so far."""
        return str(self.stdlog.logger.output)

    def log_of_periodics(self) -> str:
        """Run nova's periodic update on every host and give what it logs."""
        before = len(self.nova_log())
        self._run_periodics()
        return self.nova_log()[before:]

    # What is in Placement

    def root(self, host: Host) -> str:
        """Give the UUID of the host's compute node provider."""
        found = self.server.api.must("GET", f"/resource_providers?name={host.name}")
        (root,) = found["resource_providers"]
        return str(root["uuid"])

    def device(self, host: Host, key: str) -> str:
        """Give the UUID that the provider of the device with this key must have."""
        return str(uuid.uuid5(uuid.UUID(self.root(host)), key))

    def devices(self, host: Host) -> dict[str, dict[str, Any]]:
        """Give inventories by provider UUID of each CUSTOM_USB_* provider below the host's root."""
        root = self.root(host)
        inventories = {
            provider["uuid"]: self.server.inventory(provider["uuid"])
            for provider in self.server.providers(root).values()
            if provider["uuid"] != root
        }
        return {
            child: inventory
            for child, inventory in inventories.items()
            if any(name.startswith("CUSTOM_USB_") for name in inventory)
        }

    def allocations(self, server: Mapping[str, Any]) -> dict[str, dict[str, int]]:
        """Give what a server holds: {provider UUID: {resource class: amount}}."""
        found = self.server.api.must("GET", f"/allocations/{server['id']}")["allocations"]
        return {provider: entry["resources"] for provider, entry in found.items()}

    def devices_of(self, server: Mapping[str, Any]) -> set[str]:
        """Give the UUIDs of the CUSTOM_USB_* providers that a server holds one unit of."""
        held = self.allocations(server)
        return {p for p, resources in held.items() if resources == {"CUSTOM_USB_KEY": 1}}

    # Waiting

    def wait_until(self, condition: Callable[[], object], what: str, timeout: float = 60) -> None:
        """Return as soon as *condition* holds; fail when it does not in time or an agent has died."""
        end = time.monotonic() + timeout
        while not condition():
            for agent in self._agents:
                if not agent.running and agent._process.returncode not in (0, -9, -15):
                    self.fail(f"an agent has died while waiting for {what}")
            if time.monotonic() > end:
                self.fail(f"not within {timeout:g} s: {what}")
            time.sleep(0.05)

    def wait_for_devices(self, host: Host, number: int, timeout: float = 60) -> None:
        """Wait until *number* devices of the host can be scheduled, or are scheduled already."""

        def offered() -> int:
            try:
                inventories = self.devices(host).values()
            except ValueError:  # the root is not there (yet)
                return 0
            return sum(i["total"] > i["reserved"] for each in inventories for i in each.values())

        self.wait_until(lambda: offered() == number, f"{number} devices of {host.name}", timeout)

    # Servers

    def _wait_for_state_change(self, server: Any, expected_status: str, max_retries: int = 120, **more: Any) -> Any:
        """Nova's own waits for 5 s, which is short on a busy machine."""
        return super()._wait_for_state_change(server, expected_status, max_retries, **more)

    def boot(self, specs: Mapping[str, str], *, expect: str = "ACTIVE") -> dict[str, Any]:
        """Boot a server of a new flavor with these extra specs, wait, and give it."""
        flavor = self._create_flavor(vcpu=1, memory_mb=128, disk=1, ephemeral=0, extra_spec=dict(specs))
        server = self._create_server(flavor_id=flavor, networks="none", expected_state=expect)
        return dict(server)

    def no_valid_host(self, specs: Mapping[str, str]) -> None:
        """Check that a server with these extra specs cannot be placed, and remove it."""
        server = self.boot(specs, expect="ERROR")
        self.assertIn("No valid host", server["fault"]["message"])
        self.assertEqual({}, self.allocations(server))
        self._delete_server(server)

    def host_of(self, server: Mapping[str, Any]) -> str:
        """Give the name of the host that a server is on."""
        return str(server["OS-EXT-SRV-ATTR:host"])
