"""OpenStack's control plane on loopback: RabbitMQ, MariaDB, Keystone, Placement, Glance and Nova, from their packages.

Everything runs as the user who starts it, keeps what it has below one directory, and ends with this process. Public
endpoints are on 127.0.0.1, internal ones on the address at which the compute node reaches the same ports.
"""

import configparser
import contextlib
import functools
import io
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import openstack
from openstack.connection import Connection

from tests.e2e.lab import release
from tests.e2e.lab.service import POOL, Service, answers, run
from tests.integration.lab.progress import QUIET, Progress
from tests.integration.lab.vm import LOOPBACK, LabError

_SHIFT = int(os.environ.get("USB_PROVIDER_LAB_PORTS", "0"))
"""What is added to each port, so that a second cloud can run on a machine that has one."""
KEYSTONE, PLACEMENT, GLANCE, NEUTRON, NOVA = (_SHIFT + port for port in (5000, 8778, 9292, 9696, 8774))
RABBIT, RABBIT_PEERS, MARIADB, EPMD = (_SHIFT + port for port in (5673, 25673, 3307, 4370))
PASSWORD = "secret"
REGION = "RegionOne"
TOKEN_SECONDS = 240
"""How long a token lasts: short, so that everybody has to get a new one many times in a test run. keystoneauth takes a
token for spent that has less than 120 seconds left: with no more than that at first, each call would log in anew."""
CELL2_HOST = "cell2-host"

_BIN = Path(sysconfig.get_path("scripts"))
_WSGI = Path(__file__).with_name("wsgi.py")
_RABBIT = "/usr/lib/rabbitmq/bin"
# Only the loopback interface, and not more of the machine than it needs.
_ERLANG = "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none"

Config = Mapping[str, Mapping[str, Any]]


def config_text(groups: Config) -> str:
    """Give *groups* as the text of an INI file."""
    parser = configparser.RawConfigParser(default_section="no section is the default")
    parser.read_dict(groups)
    stream = io.StringIO()
    parser.write(stream)
    return stream.getvalue()


def write_config(path: Path, groups: Config) -> None:
    """Write *groups* as an INI file at *path*, readable to its owner."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(config_text(groups))


def credentials(user: str, *, address: str = "127.0.0.1", project: str = "service") -> dict[str, str]:
    """Options of keystoneauth for *user*, as they stand in a service's configuration file."""
    return {
        "auth_type": "password",
        "auth_url": f"http://{address}:{KEYSTONE}/v3",
        "username": user,
        "password": PASSWORD,
        "project_name": project,
        "user_domain_id": "default",
        "project_domain_id": "default",
        "region_name": REGION,
    }


class Controller:
    """The control plane in *directory*.

    :ivar services: its programs by name; a test may stop and start each.
    """

    def __init__(self, directory: Path, progress: Progress = QUIET) -> None:
        self.directory = directory
        self._progress = progress
        self.log = directory / "log"
        self.services: dict[str, Service] = {}
        self.openrc = directory / "openrc"
        self._slow_placement = directory / "slow-placement"
        for each in ("log", "etc", "data", "data/glance", "data/nova/instances", "data/cell2/instances", "bin"):
            (directory / each).mkdir(parents=True, exist_ok=True)
        self._declare()

    # Its life

    def start_core(self) -> None:
        """Make the databases and start what nova-compute needs to begin: RabbitMQ, Keystone and Placement.

        :raises LabError: when a port is taken or something does not start.
        """
        ports = (KEYSTONE, PLACEMENT, GLANCE, NEUTRON, NOVA, RABBIT, RABBIT_PEERS, MARIADB, EPMD)
        taken = [port for port in ports if answers(port)]
        if taken:
            raise LabError(
                f"ports {taken} of 127.0.0.1 are in use: end what listens there (another cloud?), "
                "or set USB_PROVIDER_LAB_PORTS to a number that is to be added to each port"
            )
        step = self._progress.step
        rabbit = POOL.submit(self._start_rabbit)
        with step("MariaDB starts"):
            self._start_mariadb()
        nova = POOL.submit(self._sync_nova)
        glance = POOL.submit(self._manage, "glance-manage", "glance-api.conf", "db_sync")
        with step("Keystone starts"):
            self._start_keystone()
            self._fill_catalogue()
        with step("Placement starts"):
            self.services["placement"].start()
        for each in (glance, rabbit, nova):
            each.result()

    def start_others(self) -> None:
        """Start everything else but the second cell's; return when all of it answers.

        :raises LabError: when something does not start.
        """
        starting = ("neutron", "glance", "nova-api", "nova-scheduler", "nova-conductor")
        with self._progress.step("Glance and nova's control plane start"):
            for name in starting:
                self.services[name].start(wait=False)
            for name in starting:
                self.services[name].wait()

    def start_cell2(self) -> None:
        """Start the second cell, once: a conductor, and a compute service whose hypervisor is made up."""
        self._rabbitctl("add_vhost", "cell2")
        self._rabbitctl("set_permissions", "-p", "cell2", "guest", ".*", ".*", ".*")
        self._create_cell("cell2", "nova_cell2", "cell2")
        self._manage("nova-manage", "nova-cell2.conf", "db", "sync", "--local_cell")
        # Both read the list of cells when they start.
        for name in ("nova-api", "nova-scheduler"):
            self.services[name].stop(timeout=1)
        for name in ("nova-api", "nova-scheduler", "nova-conductor-cell2", "nova-compute-cell2"):
            self.services[name].start(wait=False)
        self.services["nova-api"].wait()

    def stop(self) -> None:
        """Stop everything."""
        # Nova's graceful stop takes half a minute, and nobody needs it here.
        list(POOL.map(lambda service: service.stop(timeout=1), self.services.values()))

    @contextlib.contextmanager
    def slow_placement(self, seconds: float, *, to: str = "") -> Iterator[None]:
        """Have each answer of Placement take *seconds* longer within the block; those that wait at its end come then.

        :param to: how the User-Agent of the clients begins that wait: the name of their program.
        """
        written = self._slow_placement.with_suffix(".new")
        written.write_text(f"{seconds} {to}")
        written.rename(self._slow_placement)
        try:
            yield
        finally:
            self._slow_placement.unlink()

    def discover_hosts(self) -> None:
        """Map compute hosts to their cells."""
        self.manage("cell_v2", "discover_hosts")

    def manage(self, *words: str) -> None:
        """Run ``nova-manage``."""
        self._manage("nova-manage", "nova.conf", *words)

    def connect(self, user: str = "admin", project: str = "admin", **more: Any) -> Connection:
        """A session of openstacksdk for *user*."""
        return openstack.connect(
            load_yaml_config=False,
            load_envvars=False,
            auth_type="password",
            auth={
                name: value
                for name, value in credentials(user, project=project).items()
                if name not in ("auth_type", "region_name")
            },
            region_name=REGION,
            interface="public",
            compute_api_version=release.MICROVERSION,
            compute_default_microversion=release.MICROVERSION,
            placement_api_version="1.39",
            placement_default_microversion="1.39",
            **more,
        )

    # What it consists of

    def _declare(self) -> None:
        etc, data = self.directory / "etc", self.directory / "data"
        nova = self._nova("nova_cell1", "", "controller", data / "nova")
        cell2 = self._nova("nova_cell2", "cell2", CELL2_HOST, data / "cell2")
        cell2["DEFAULT"]["compute_driver"] = "fake.FakeDriverWithoutFakeNodes"
        del cell2["api_database"]
        token = {
            **credentials("nova"),
            "www_authenticate_uri": f"http://127.0.0.1:{KEYSTONE}/v3",
            "interface": "public",
        }
        files: dict[str, Config] = {
            "keystone/keystone.conf": {
                "database": {"connection": _database("keystone")},
                "fernet_tokens": {"key_repository": etc / "keystone/fernet-keys"},
                "credential": {"key_repository": etc / "keystone/credential-keys"},
                "token": {"provider": "fernet", "expiration": TOKEN_SECONDS},
                "identity": {"password_hash_rounds": 4},
                # Every request to every service asks Keystone about its token.
                "cache": {"enabled": "true", "backend": "dogpile.cache.memory"},
            },
            "placement/placement.conf": {
                "api": {"auth_strategy": "keystone"},
                "placement_database": {"connection": _database("placement"), "sync_on_startup": "true"},
                "keystone_authtoken": {**token, "username": "placement"},
            },
            "glance/glance-api.conf": {
                "DEFAULT": {
                    "enabled_backends": "fs:file",
                    "enabled_import_methods": "[]",
                    "enforce_secure_rbac": "true",
                    "node_staging_uri": f"file://{data}/glance/staging",
                    "worker_self_reference_url": f"http://127.0.0.1:{GLANCE}",
                },
                "database": {"connection": _database("glance")},
                "glance_store": {"default_backend": "fs"},
                "fs": {"filesystem_store_datadir": data / "glance/images"},
                "os_glance_staging_store": {"filesystem_store_datadir": data / "glance/staging"},
                "os_glance_tasks_store": {"filesystem_store_datadir": data / "glance/tasks"},
                "keystone_authtoken": {**token, "username": "glance"},
                "paste_deploy": {"flavor": "keystone", "config_file": etc / "glance/glance-api-paste.ini"},
            },
            "nova/nova.conf": {**nova, "keystone_authtoken": token},
            "nova/nova-cell2.conf": {**cell2, "keystone_authtoken": token},
        }
        for name, groups in files.items():
            write_config(etc / name, groups)
        for where, name in (
            (Path(sys.prefix) / "etc", "glance/glance-api-paste.ini"),
            (release.ETC, "nova/api-paste.ini"),
        ):
            shutil.copy(where / name, etc / name)
        (etc / "rabbit.conf").write_text(
            "vm_memory_high_watermark.absolute = 512MB\ndisk_free_limit.absolute = 50MB\nlog.console.level = warning\n"
        )
        (etc / "rabbit-plugins").write_text("[].\n")
        self._write_openrc()

        # Erlang would start one that outlives it, and us.
        self._service("epmd", ["epmd", "-port", str(EPMD), "-address", "127.0.0.1"], port=EPMD)
        self._service("rabbit", [f"{_RABBIT}/rabbitmq-server"], port=RABBIT, environment=self._rabbit_environment())
        self._service(
            "mariadb",
            [
                shutil.which("mariadbd") or "/usr/sbin/mariadbd",
                *("--no-defaults", f"--datadir={data}/mysql", f"--socket={self.directory}/mysql.sock"),
                *("--bind-address=127.0.0.1", f"--port={MARIADB}", "--skip-name-resolve", "--max-connections=300"),
                *("--innodb-buffer-pool-size=64M", "--innodb-flush-log-at-trx-commit=0", "--performance-schema=OFF"),
                *("--innodb-doublewrite=0", "--sync-binlog=0", *(["--user=root"] if os.geteuid() == 0 else [])),
            ],
            ready=lambda: self._mariadb("select 1"),
        )
        self._wsgi(
            "keystone",
            "keystone.wsgi.api:application",
            KEYSTONE,
            2,
            OS_KEYSTONE_CONFIG_DIR=str(etc / "keystone"),
            OS_KEYSTONE_CONFIG_FILES="keystone.conf",
        )
        # More threads than others: some wait where a test makes it slow.
        self._wsgi(
            "placement",
            release.PLACEMENT_API,
            PLACEMENT,
            6,
            python=release.PYTHON,
            slow=self._slow_placement,
            OS_PLACEMENT_CONFIG_DIR=str(etc / "placement"),
        )
        self._wsgi(
            "glance",
            "glance.wsgi.api:application",
            GLANCE,
            2,
            OS_GLANCE_CONFIG_DIR=str(etc / "glance"),
            OS_GLANCE_CONFIG_FILES="glance-api.conf",
        )
        self._wsgi("neutron", "neutron:application", NEUTRON, 2, PYTHONPATH=str(_WSGI.parent))
        self._wsgi(
            "nova-api",
            release.COMPUTE_API,
            NOVA,
            4,
            python=release.PYTHON,
            OS_NOVA_CONFIG_DIR=str(etc / "nova"),
            **release.ENVIRONMENT,
        )
        for name, file in (
            ("nova-scheduler", "nova.conf"),
            ("nova-conductor", "nova.conf"),
            ("nova-conductor-cell2", "nova-cell2.conf"),
            ("nova-compute-cell2", "nova-cell2.conf"),
        ):
            program = name.removesuffix("-cell2")
            self._service(name, [str(release.BIN / program), "--config-file", str(etc / "nova" / file)])

    def _nova(self, database: str, vhost: str, host: str, state: Path) -> dict[str, dict[str, Any]]:
        public = {**credentials("nova"), "valid_interfaces": "public"}
        return {
            "DEFAULT": {
                "host": host,
                "my_ip": "127.0.0.1",
                "state_path": state,
                "transport_url": transport(vhost),
                "concurrency_backend": "threading",
                "osapi_compute_workers": 1,
                "allow_resize_to_same_host": "true",
                "report_interval": 5,
                "service_down_time": 20,
            },
            "api": {"auth_strategy": "keystone"},
            "api_database": {"connection": _database("nova_api")},
            "database": {"connection": _database(database)},
            "service_user": {"send_service_user_token": "true", **credentials("nova")},
            "placement": public,
            "glance": public,
            "neutron": public,
            "keystone": public,
            "cinder": credentials("nova"),
            "oslo_limit": {
                **credentials("nova"),
                "endpoint_service_type": "compute",
                "endpoint_region_name": REGION,
            },
            "quota": release.QUOTA,
            "scheduler": {"workers": 1, "discover_hosts_in_cells_interval": 10},
            "conductor": {"workers": 1},
            "filter_scheduler": {"track_instance_changes": "false"},
            "oslo_concurrency": {"lock_path": state / "lock"},
        }

    def _service(
        self,
        name: str,
        command: list[str],
        *,
        port: int | None = None,
        ready: Callable[[], bool] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        if port is not None:
            ready = functools.partial(answers, port)
        self.services[name] = Service(name, command, self.log / f"{name}.log", ready=ready, environment=environment)

    def _wsgi(
        self,
        name: str,
        application: str,
        port: int,
        threads: int,
        *,
        python: Path = Path(sys.executable),
        slow: Path | None = None,
        **environment: str,
    ) -> None:
        command = [str(python), str(_WSGI), application, str(port), str(threads), *([str(slow)] if slow else [])]
        self._service(name, command, port=port, environment=environment)

    # Its databases and its catalogue

    def _rabbit_environment(self) -> dict[str, str]:
        data = self.directory / "data/rabbit"
        data.mkdir(exist_ok=True)
        return {
            "HOME": str(data),
            # Erlang in the place of the script that starts it: it must end when we do.
            "NOTIFY_SOCKET": "",
            "RUNNING_UNDER_SYSTEMD": "1",
            "RABBITMQ_NODENAME": "usb-cloud@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(RABBIT),
            "RABBITMQ_DIST_PORT": str(RABBIT_PEERS),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _ERLANG,
            "RABBITMQ_LOG_BASE": str(self.log),
            "RABBITMQ_MNESIA_BASE": str(data),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "etc/rabbit-plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.directory / "etc/rabbit"),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(EPMD),
        }

    def _rabbitctl(self, *words: str) -> None:
        run([f"{_RABBIT}/rabbitmqctl", *words], self.log / "rabbitmqctl.log", **self._rabbit_environment())

    def _start_rabbit(self) -> None:
        with self._progress.step("RabbitMQ starts"):
            self.services["epmd"].start()
            self.services["rabbit"].start()

    def _mariadb(self, statement: str) -> bool:
        command = ["mariadb", "--no-defaults", f"--socket={self.directory}/mysql.sock", "--user=root", "-e", statement]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _start_mariadb(self) -> None:
        user = ["--user=root"] if os.geteuid() == 0 else []
        run(
            [
                "mariadb-install-db",
                "--no-defaults",
                f"--datadir={self.directory}/data/mysql",
                *user,
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ],
            self.log / "mariadb.log",
        )
        self.services["mariadb"].start()
        for name in ("keystone", "placement", "glance", "nova_api", "nova_cell0", "nova_cell1", "nova_cell2"):
            if not self._mariadb(f"create database {name} character set utf8mb4"):
                raise LabError(f"the database {name} cannot be made; see {self.log}/mariadb.log")

    def _manage(self, program: str, file: str, *words: str) -> None:
        config = self.directory / "etc" / program.partition("-")[0] / file
        where = release.BIN if program == "nova-manage" else _BIN
        run([str(where / program), "--config-file", str(config), *words], self.log / f"{program}.log")

    def _sync_nova(self) -> None:
        with self._progress.step("Nova's databases are made"):
            self.manage("api_db", "sync")
            self.manage("cell_v2", "map_cell0", "--database_connection", _database("nova_cell0"))
            self.manage("db", "sync")
            self._create_cell("cell1", "nova_cell1", "")

    def _create_cell(self, name: str, database: str, vhost: str) -> None:
        where = ("--database_connection", _database(database), "--transport-url", transport(vhost))
        self.manage("cell_v2", "create_cell", "--name", name, *where)

    def _start_keystone(self) -> None:
        for each in ("fernet-keys", "credential-keys"):
            (self.directory / "etc/keystone" / each).mkdir(mode=0o700)
        url = f"http://127.0.0.1:{KEYSTONE}/v3"
        owner = ("--keystone-user", str(os.geteuid()), "--keystone-group", str(os.getegid()))
        for words in (
            ("db_sync",),
            ("fernet_setup", *owner),
            ("credential_setup", *owner),
            (
                "bootstrap",
                "--bootstrap-password",
                PASSWORD,
                "--bootstrap-public-url",
                url,
                "--bootstrap-internal-url",
                f"http://{LOOPBACK}:{KEYSTONE}/v3",
                "--bootstrap-region-id",
                REGION,
            ),
        ):
            self._manage("keystone-manage", "keystone.conf", *words)
        self.services["keystone"].start()

    def _fill_catalogue(self) -> None:
        """Users, roles and endpoints, as a deployment tool makes them."""
        cloud = self.connect().identity
        roles = {role.name: role for role in cloud.roles()}
        service, demo = (cloud.create_project(name=name, domain_id="default") for name in ("service", "demo"))
        for name, project, wanted in (
            ("nova", service, ("service", "admin")),
            ("placement", service, ("service",)),
            ("glance", service, ("service",)),
            # All that the agent needs.
            ("usb-provider", service, ("service",)),
            ("demo", demo, ("member", "reader")),
        ):
            user = cloud.create_user(name=name, password=PASSWORD, default_project_id=project.id, domain_id="default")
            for role in wanted:
                cloud.assign_project_role_to_user(project, user, roles[role])
            if name == "nova":
                # Unified limits: nova reads everybody's.
                cloud.put(f"/system/users/{user.id}/roles/{roles['reader'].id}")
        for name, kind, port, path in (
            ("placement", "placement", PLACEMENT, ""),
            ("nova", "compute", NOVA, "/v2.1"),
            ("glance", "image", GLANCE, ""),
            ("neutron", "network", NEUTRON, ""),
        ):
            made = cloud.create_service(name=name, type=kind)
            for interface, address in (("public", "127.0.0.1"), ("internal", LOOPBACK)):
                cloud.create_endpoint(
                    service_id=made.id, interface=interface, url=f"http://{address}:{port}{path}", region_id=REGION
                )

    def _write_openrc(self) -> None:
        lines = {
            "OS_AUTH_URL": f"http://127.0.0.1:{KEYSTONE}/v3",
            "OS_USERNAME": "admin",
            "OS_PASSWORD": PASSWORD,
            "OS_PROJECT_NAME": "admin",
            "OS_USER_DOMAIN_ID": "default",
            "OS_PROJECT_DOMAIN_ID": "default",
            "OS_IDENTITY_API_VERSION": "3",
            "OS_REGION_NAME": REGION,
            "OS_COMPUTE_API_VERSION": release.MICROVERSION,
            "OS_PLACEMENT_API_VERSION": "1.39",
        }
        text = "".join(f"export {name}={value}\n" for name, value in lines.items())
        self.openrc.write_text(text + f'export PATH="{self.directory}/bin:{_BIN}:$PATH"\n')


def _database(name: str) -> str:
    return f"mysql+pymysql://root@127.0.0.1:{MARIADB}/{name}?charset=utf8mb4"


def transport(vhost: str, address: str = "127.0.0.1") -> str:
    """The URL at which RabbitMQ is reached from *address*'s side."""
    return f"rabbit://guest:guest@{address}:{RABBIT}/{vhost}"
