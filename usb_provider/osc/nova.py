"""The client of Nova for the openstack commands: answers as values, refusals as our errors.

Every listing is read in pages to its end. Decides nothing, and does not retry what Nova refuses.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, NotRequired, TypedDict, TypeVar

from usb_provider.exception import UnknownArgument, UsbProviderError
from usb_provider.openstack.transport import Service
from usb_provider.osc.model.audit import Migration, Server
from usb_provider.osc.model.flavor import Size
from usb_provider.osc.service import ServiceClient

_PAGE = 1000
"""Nova's [api]max_limit, by default."""

_Body = TypeVar("_Body")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Flavor:
    """A flavor with everything that the scheduler reads of it."""

    id: str
    name: str
    size: Size
    extra_specs: Mapping[str, str]


class Nova(ServiceClient):
    """Nova as the caller reaches it; safe to share between threads. Errors as of :class:`ServiceClient`."""

    service: ClassVar[Service] = Service(
        "Nova",
        "compute",
        role="the role admin, or a policy that allows it",
        microversion="2.69",
        release="Stein",
        version="2.1",
    )
    """Stein (2019): 2.47 and 2.61 have extra specs in listings, 2.53 UUIDs of compute nodes, 2.59 those of migrations,
    2.69 tells of cells that do not answer."""

    def newest_microversion(self) -> tuple[float, ...] | None:
        """The newest microversion of the API, which tells Nova's release; None where it does not say."""
        return self._transport.newest_microversion()

    def server(self, uuid: str) -> Server | None:
        """The server, with little but its UUID where its cell does not answer; None when there is no such server."""
        return self._find("/servers", uuid, _the_server)

    def server_name(self, uuid: str) -> str | None:
        """The server's name; empty where its cell does not answer, None when there is no such server."""
        found = self.server(uuid)
        return None if found is None else found.name

    def servers_named(self, name: str, *, of_all_projects: bool = False) -> list[Server]:
        """The servers of that name, of the caller's project or of all, without those in a cell that does not answer."""
        every = {"all_tenants": "1"} if of_all_projects else {}
        # Nova takes the name for a regular expression.
        found = self._pages("/servers/detail", _servers, lambda server: server.uuid, name=re.escape(name), **every)
        return [server for server in found if server.name == name]

    def servers(self) -> list[Server]:
        """All servers of all projects, without those in a cell that does not answer."""
        return self._pages("/servers/detail", _servers, lambda server: server.uuid, all_tenants="1")

    def migrations(self) -> dict[str, Migration]:
        """All migrations that Nova remembers, by their own UUID, without those in a cell that does not answer."""
        found = self._pages("/os-migrations", _migrations, lambda migration: migration.uuid)
        return {migration.uuid: migration for migration in found}

    def compute_nodes(self) -> frozenset[str]:
        """The UUIDs of all compute nodes, which are those of their providers."""
        return frozenset(self._pages("/os-hypervisors", _hypervisors, lambda uuid: uuid))

    def a_cell_is_down(self) -> bool:
        """Whether the database of some cell does not answer, so that Nova's listings lack its servers."""
        return self._get("/os-services", _a_cell_is_down)

    def flavor(self, name_or_id: str) -> Flavor:
        """The flavor. :raises UnknownArgument: when there is none, or several; the caller should name another."""
        found = self._find("/flavors", name_or_id, _the_flavor)
        if found is None:
            found = next((each for each in self.flavors() if each.name == name_or_id), None)
        if found is None:
            raise UnknownArgument(f'Nova has no flavor {name_or_id}; "openstack flavor list --all" shows them.')
        return found

    def flavors(self) -> list[Flavor]:
        """All flavors of all projects."""
        return self._pages("/flavors/detail", _flavors, lambda flavor: flavor.id, is_public="None")

    def create_flavor(self, name: str, size: Size, extra_specs: Mapping[str, str], *, public: bool) -> Flavor:
        """Create a flavor with its extra specs; where Nova refuses these, the flavor is deleted again."""
        body = {
            "name": name,
            "vcpus": size.vcpus,
            "ram": size.memory_mb,
            "disk": size.disk_gb,
            "os-flavor-access:is_public": public,
        }
        made = self._post("/flavors", {"flavor": body}, _the_flavor)
        try:
            self._post(f"/flavors/{made.id}/os-extra_specs", {"extra_specs": dict(extra_specs)}, _anything)
        except UsbProviderError:
            self._transport.send("DELETE", f"/flavors/{made.id}")
            raise
        return Flavor(made.id, made.name, made.size, dict(extra_specs))

    def _pages(
        self,
        path: str,
        read: Callable[[_Body], list[_Value]],
        marker: Callable[[_Value], str],
        **query: str,
    ) -> list[_Value]:
        """What *read* makes of every page, up to an empty one: Nova may give a shorter page than was asked for."""
        found: list[_Value] = []
        asked = {**query, "limit": str(_PAGE)}
        while page := self._get(path, read, asked):
            found += page
            asked["marker"] = marker(page[-1])
        return found


# The form of Nova's answers, as far as we read them.


class _FlavorOfServerJson(TypedDict):
    extra_specs: NotRequired[Mapping[str, str]]


_ServerJson = TypedDict(
    "_ServerJson",
    {
        "id": str,
        "status": str,
        # Where the server's cell does not answer, Nova leaves the rest out.
        "name": NotRequired[str | None],
        "OS-EXT-SRV-ATTR:host": NotRequired[str | None],
        "OS-EXT-SRV-ATTR:hypervisor_hostname": NotRequired[str | None],
        "OS-EXT-STS:task_state": NotRequired[str | None],
        "tenant_id": NotRequired[str | None],
        "flavor": NotRequired[_FlavorOfServerJson],
    },
)

_FlavorJson = TypedDict(
    "_FlavorJson",
    {
        "id": str,
        "name": str,
        "vcpus": int,
        "ram": int,
        "disk": int,
        "OS-FLV-EXT-DATA:ephemeral": NotRequired[int],
        "swap": NotRequired[int | str],
        "extra_specs": NotRequired[Mapping[str, str] | None],
    },
)


class _MigrationJson(TypedDict):
    uuid: str
    instance_uuid: str
    status: str


def _the_server(body: Mapping[str, _ServerJson]) -> Server:
    return _server(body["server"])


def _servers(body: Mapping[str, list[_ServerJson]]) -> list[Server]:
    return [_server(entry) for entry in body["servers"]]


def _server(entry: _ServerJson) -> Server:
    return Server(
        entry["id"],
        entry.get("name") or "",
        entry["status"],
        entry.get("OS-EXT-SRV-ATTR:host") or "",
        dict(entry.get("flavor", {}).get("extra_specs", {})),
        entry.get("OS-EXT-SRV-ATTR:hypervisor_hostname") or "",
        entry.get("OS-EXT-STS:task_state") or "",
        entry.get("tenant_id") or "",
    )


def _migrations(body: Mapping[str, list[_MigrationJson]]) -> list[Migration]:
    return [Migration(entry["uuid"], entry["instance_uuid"], entry["status"]) for entry in body["migrations"]]


def _hypervisors(body: Mapping[str, list[Mapping[str, object]]]) -> list[str]:
    return [str(entry["id"]) for entry in body["hypervisors"]]


def _a_cell_is_down(body: Mapping[str, list[Mapping[str, object]]]) -> bool:
    return any(entry["status"] == "UNKNOWN" for entry in body["services"])


def _the_flavor(body: Mapping[str, _FlavorJson]) -> Flavor:
    return _flavor(body["flavor"])


def _flavors(body: Mapping[str, list[_FlavorJson]]) -> list[Flavor]:
    return [_flavor(entry) for entry in body["flavors"]]


def _flavor(entry: _FlavorJson) -> Flavor:
    size = Size(
        entry["vcpus"],
        entry["ram"],
        entry["disk"] + entry.get("OS-FLV-EXT-DATA:ephemeral", 0),
        int(entry.get("swap") or 0),  # an empty text before 2.75
    )
    return Flavor(entry["id"], entry["name"], size, dict(entry.get("extra_specs") or {}))


def _anything(body: object) -> object:
    return body
