"""The calls of Nova that the openstack commands need, and Glance's one; answers as values, refusals as our errors.

Every listing is read in pages to its end. Decides nothing, and does not retry what was refused.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote

from usb_provider import exception
from usb_provider.openstack.transport import CALLERS, Transport
from usb_provider.osc.model.audit import Migration, Server
from usb_provider.osc.model.flavor import Size

MICROVERSION = "2.69"
"""Stein (2019): 2.47 and 2.61 have extra specs in listings, 2.53 UUIDs of compute nodes, 2.59 those of migrations,
2.69 tells of cells that do not answer."""

_PAGE = 1000
"""Nova's [api]max_limit, by default."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Flavor:
    """A flavor with all that the scheduler reads of it."""

    id: str
    name: str
    size: Size
    extra_specs: Mapping[str, str]


class _Service:
    """What the two have in common; errors as of :class:`Transport`, and Incompatible for what is refused otherwise."""

    service = ""
    microversion: str | None = None

    def __init__(self, adapter: Any) -> None:
        self._transport = Transport(adapter, service=self.service, microversion=self.microversion, settings=CALLERS)

    def _get(self, path: str, read: Callable[[Any], _T], query: Mapping[str, str] | None = None) -> _T:
        response = self._transport.send("GET", path, params=dict(query or {}))
        if response.status_code != 200:
            self._refused(response)
        return self._transport.read(response, read)

    def _find(self, path: str, name_or_id: str, read: Callable[[Any], _T]) -> _T | None:
        """What *read* makes of the thing of that id below *path*; None when there is none, as when it is a name."""
        response = self._transport.send("GET", f"{path}/{quote(name_or_id, safe='')}")
        if response.status_code in (400, 404):
            return None
        if response.status_code != 200:
            self._refused(response)
        return self._transport.read(response, read)

    def _refused(self, response: Any) -> NoReturn:
        status = response.status_code
        asked = f"{response.request.method} {response.request.path_url}"
        detail = _detail(response)
        said = f"{self.service} answers {status} to {asked}" + (f": {detail}" if detail else "")
        if status in (401, 403):
            raise exception.AccessRefused(f"{said}; your user needs the role admin, or a policy that allows it.")
        if status >= 500 or status == 429:
            raise exception.Unavailable(f"{said}.")
        if status == 406:
            raise exception.Incompatible(
                f"This {self.service} does not speak microversion {self.microversion}, which it does since Stein; "
                f"upgrade it."
            )
        raise exception.Incompatible(f"{said}.")


class Nova(_Service):
    """Nova as the caller reaches it; safe to share between threads."""

    service = "Nova"
    microversion = MICROVERSION

    def server(self, uuid: str) -> Server | None:
        """The server, with little but its UUID where its cell does not answer; None when there is no such server."""
        return self._find("/servers", uuid, lambda body: _server(body["server"]))

    def server_name(self, uuid: str) -> str | None:
        """The server's name; empty where its cell does not answer, None when there is no such server."""
        found = self.server(uuid)
        return None if found is None else found.name

    def servers(self) -> list[Server]:
        """All servers of all projects, but for those in a cell that does not answer."""
        return self._pages("/servers/detail", "servers", _server, all_tenants="1")

    def migrations(self) -> dict[str, Migration]:
        """All migrations that Nova remembers, by their own UUID, but for those in a cell that does not answer."""
        found = self._pages("/os-migrations", "migrations", _migration, "uuid")
        return {migration.uuid: migration for migration in found}

    def compute_nodes(self) -> frozenset[str]:
        """The UUIDs of all compute nodes, which are those of their providers."""
        return frozenset(self._pages("/os-hypervisors", "hypervisors", lambda entry: str(entry["id"])))

    def a_cell_is_down(self) -> bool:
        """Whether Nova cannot say everything now, since the database of some cell does not answer."""
        return self._get("/os-services", lambda body: any(each["status"] == "UNKNOWN" for each in body["services"]))

    def flavor(self, name_or_id: str) -> Flavor:
        """The flavor. :raises UnknownArgument: when there is none, or several; the caller should name another."""
        found = self._find("/flavors", name_or_id, lambda body: _flavor(body["flavor"]))
        if found is None:
            every = self._pages("/flavors/detail", "flavors", _flavor, is_public="None")
            found = next((each for each in every if each.name == name_or_id), None)
        if found is None:
            raise exception.UnknownArgument(
                f'Nova has no flavor {name_or_id}; "openstack flavor list --all" shows them.'
            )
        return found

    def create_flavor(self, name: str, size: Size, extra_specs: Mapping[str, str], *, public: bool) -> Flavor:
        """Create a flavor with its extra specs; one that cannot have them is deleted again."""
        body = {
            "name": name,
            "vcpus": size.vcpus,
            "ram": size.memory_mb,
            "disk": size.disk_gb,
            "os-flavor-access:is_public": public,
        }
        made = self._post("/flavors", {"flavor": body}, lambda answer: _flavor(answer["flavor"]))
        try:
            self._post(f"/flavors/{made.id}/os-extra_specs", {"extra_specs": dict(extra_specs)}, lambda answer: answer)
        except exception.UsbProviderError:
            self._transport.send("DELETE", f"/flavors/{made.id}")
            raise
        return Flavor(made.id, made.name, made.size, dict(extra_specs))

    def _post(self, path: str, body: Mapping[str, Any], read: Callable[[Any], _T]) -> _T:
        response = self._transport.send("POST", path, json=body)
        if response.status_code != 200:
            self._refused(response)
        return self._transport.read(response, read)

    def _pages(
        self, path: str, what: str, read: Callable[[Mapping[str, Any]], _T], marker: str = "id", **query: str
    ) -> list[_T]:
        """What *read* makes of every entry; ends with an empty page, since Nova gives shorter ones than asked for."""
        found: list[_T] = []
        asked = {**query, "limit": str(_PAGE)}
        while page := self._get(path, lambda body: [(str(entry[marker]), read(entry)) for entry in body[what]], asked):
            found += [value for _, value in page]
            asked["marker"] = page[-1][0]
        return found


class Glance(_Service):
    """Glance as the caller reaches it."""

    service = "Glance"

    def image(self, name_or_id: str) -> dict[str, str]:
        """The image's properties. :raises UnknownArgument: when there is none, or several; name another."""
        found = self._find("/images", name_or_id, lambda body: [dict(body)])
        if found is None:
            found = self._get("/images", lambda body: [dict(each) for each in body["images"]], {"name": name_or_id})
        if not found or len(found) > 1:
            number = "several images" if found else "no image"
            raise exception.UnknownArgument(
                f'Glance has {number} {name_or_id}; "openstack image list" shows their ids.'
            )
        return {name: value for name, value in found[0].items() if isinstance(value, str)}


def _server(entry: Mapping[str, Any]) -> Server:
    """A server as a listing has it; where its cell does not answer, nova leaves most of it out."""
    return Server(
        entry["id"],
        entry.get("name") or "",
        entry["status"],
        entry.get("OS-EXT-SRV-ATTR:host") or "",
        dict(entry.get("flavor", {}).get("extra_specs", {})),
    )


def _migration(entry: Mapping[str, Any]) -> Migration:
    return Migration(entry["uuid"], entry["instance_uuid"], entry["status"])


def _flavor(entry: Mapping[str, Any]) -> Flavor:
    size = Size(
        entry["vcpus"],
        entry["ram"],
        entry["disk"] + entry.get("OS-FLV-EXT-DATA:ephemeral", 0),
        entry.get("swap") or 0,  # an empty text before 2.75
    )
    return Flavor(entry["id"], entry["name"], size, dict(entry.get("extra_specs") or {}))


def _detail(response: Any) -> str:
    """What Nova says in its error body; nothing where Glance or a proxy answers."""
    try:
        (entry,) = response.json().values()
        return " ".join(str(entry["message"]).split()).rstrip(".")
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
