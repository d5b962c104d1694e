"""The openstack commands in a cloud of the real Nova and Placement, without agents."""

import json
import threading
from collections.abc import Callable, Iterable
from typing import Any

import waitress
from waitress import wasyncore

from tests.fixtures import openstack
from tests.fixtures.keystone import Keystone
from tests.fixtures.openstack import KEY, YUBIKEY_TRAITS
from tests.fixtures.reporting import Operator
from tests.functional.nova.base import Host, NovaTestCase


class CommandLineTestCase(NovaTestCase):
    """An operator at the command line of a cloud with two hosts."""

    def setUp(self) -> None:
        super().setUp()
        self.operator = Operator(self.server)
        self.keystone = Keystone()
        self.addCleanup(self.keystone.close)
        self.keystone.token = self.server.token
        self.keystone.catalogue = {"placement": self.server.endpoint, "compute": f"{self.serve_nova()}/v2.1"}
        auth = {name: value for name, value in self.keystone.options().items() if name != "auth_type"}
        self.clouds = self.directory / "clouds.yaml"
        self.clouds.write_text(json.dumps({"clouds": {"test": {"auth": auth, "interface": "internal"}}}))
        self.hosts = [self.start_host("host1"), self.start_host("host2")]

    def serve_nova(self) -> str:
        """Serve the fixture's Nova over HTTP, for the user admin, one request at a time, and give its address."""
        app = self.api_fixture.app()

        def as_admin(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            environ |= {
                "HTTP_X_AUTH_USER": "admin",
                "HTTP_X_USER_ID": "admin",
                "HTTP_X_AUTH_PROJECT_ID": self.api_fixture.project_id,
                "HTTP_X_ROLES": "reader,member,admin",
            }
            return app(environ, start_response)

        server = waitress.create_server(as_admin, host="127.0.0.1", port=0, threads=1)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        self.addCleanup(thread.join, 10)
        self.addCleanup(server.trigger.pull_trigger, lambda: wasyncore.close_all(server._map))
        return f"http://127.0.0.1:{server.effective_port}"

    def openstack(self, *words: str) -> openstack.Answer:
        """Run ``openstack usb`` with these words."""
        env = {"OS_CLIENT_CONFIG_FILE": str(self.clouds), "OS_CLOUD": "test"}
        answer = openstack.run("usb", *words, env=env)
        self.assertNotIn("Nova does not say", answer.err)
        return answer

    def plug(self, host: Host, key: str, traits: frozenset[str] = YUBIKEY_TRAITS) -> str:
        """Give *host* a device, as its agent would report it."""
        root = self.root(host)
        device = self.operator.create(f"{host.name}_usb_{key}", root)
        self.operator.set_traits(device, traits)
        self.operator.set_inventory(device, KEY)
        return device
