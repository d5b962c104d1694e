"""Placement's REST calls that we need, one method each, answers as values and refusals as our errors.

transport.py sends the requests. It does not retry a refused write, cache, or decide: a 409 means that the
caller's picture is old. Every call names the same microversion, since openstacksdk's resource classes stop below
what is needed (reserved equal to total wants 1.26; docs/adr/0004-placement-client.md).
"""

import email.utils
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, NoReturn, TypeVar

from keystoneauth1 import adapter as ksa_adapter

from usb_provider import exception
from usb_provider.model.reporting.tree import Inventory, ProviderRecord
from usb_provider.openstack.transport import CONFIGURED, Settings, Transport

MICROVERSION = "1.28"
"""Rocky (2018): 1.14 for parents, 1.20 POST's answer, 1.23 error codes, 1.26 reserved == total, 1.28 generations."""

_T = TypeVar("_T")


class PlacementClient:
    """Placement as seen through one keystoneauth1 adapter; safe to share between threads.

    Every method raises :class:`~usb_provider.exception.Unavailable` when Placement or Keystone does not answer,
    :class:`~usb_provider.exception.AccessRefused` when they refuse us, and
    :class:`~usb_provider.exception.Incompatible` when Placement cannot do what is asked.
    """

    microversion: ClassVar[str] = MICROVERSION
    release: ClassVar[str] = "Rocky"

    def __init__(
        self,
        adapter: ksa_adapter.Adapter,
        settings: Settings = CONFIGURED,
        *,
        requested: Callable[[str, str], None] | None = None,
    ) -> None:
        """Use *adapter*; *requested* is told of each request, as :class:`Transport` says."""
        self._transport = Transport(
            adapter, service="Placement", microversion=self.microversion, settings=settings, requested=requested
        )

    @property
    def requests(self) -> int:
        """How many requests have been made to Placement, those for tokens not among them."""
        return self._transport.requests

    def microversions(self) -> tuple[str, str]:
        """The lowest and the highest microversion that this Placement speaks."""

        def read(body: Any) -> tuple[str, str]:
            entry = body["versions"][0]
            return str(entry["min_version"]), str(entry["max_version"])

        # Without a microversion of our own, which an old Placement would refuse here as well.
        response = self._transport.send("GET", "/", microversion=None)
        if response.status_code != 200:
            self._refused(response, "")
        return self._transport.read(response, read)

    def tree(self, root_uuid: str) -> tuple[ProviderRecord, ...]:
        """Every provider of the tree of *root_uuid*; empty when there is no such provider."""
        return self._get(
            "/resource_providers",
            lambda body: tuple(_record(entry) for entry in body["resource_providers"]),
            {"in_tree": root_uuid},
        )

    def provider_named(self, name: str) -> ProviderRecord | None:
        """The provider called exactly *name*, or None."""
        return self._get(
            "/resource_providers",
            lambda body: next((_record(entry) for entry in body["resource_providers"]), None),
            {"name": name},
        )

    def inventories(self, uuid: str) -> tuple[int, dict[str, Inventory]]:
        """Generation and inventories by class. :raises Conflict: when the provider is gone; look again."""

        def read(body: Any) -> tuple[int, dict[str, Inventory]]:
            found = {name: Inventory.from_json(entry) for name, entry in body["inventories"].items()}
            return body["resource_provider_generation"], found

        return self._get(f"/resource_providers/{uuid}/inventories", read, uuid=uuid)

    def traits(self, uuid: str) -> tuple[int, frozenset[str]]:
        """Generation and traits. :raises Conflict: when the provider is gone; look again."""

        def read(body: Any) -> tuple[int, frozenset[str]]:
            return body["resource_provider_generation"], frozenset(body["traits"])

        return self._get(f"/resource_providers/{uuid}/traits", read, uuid=uuid)

    def allocations(self, uuid: str) -> tuple[int, dict[str, dict[str, int]]]:
        """Generation and ``{consumer: {class: amount}}``. :raises Conflict: when the provider is gone; look again."""

        def read(body: Any) -> tuple[int, dict[str, dict[str, int]]]:
            return body["resource_provider_generation"], _resources(body["allocations"])

        return self._get(f"/resource_providers/{uuid}/allocations", read, uuid=uuid)

    def consumer(self, uuid: str) -> dict[str, dict[str, int]]:
        """What the consumer holds, ``{provider: {class: amount}}``; nothing when there is no such consumer."""
        return self._get(f"/allocations/{uuid}", lambda body: _resources(body["allocations"]))

    def last_modified(self, uuid: str) -> datetime | None:
        """When the provider was last written, by Placement's clock; None when it does not say.

        :raises Conflict: when the provider is gone; look again.
        """
        response = self._transport.send("GET", f"/resource_providers/{uuid}")
        if response.status_code != 200:
            self._refused(response, uuid)
        try:
            return email.utils.parsedate_to_datetime(response.headers.get("last-modified", ""))
        except ValueError:
            return None

    def resource_classes(self) -> frozenset[str]:
        """Names of all resource classes of the cloud."""
        return self._get(
            "/resource_classes", lambda body: frozenset(entry["name"] for entry in body["resource_classes"])
        )

    def trait_names(self, prefix: str) -> frozenset[str]:
        """Names of all traits of the cloud that start with *prefix*."""
        return self._get("/traits", lambda body: frozenset(body["traits"]), {"name": f"startswith:{prefix}"})

    def ensure_resource_class(self, name: str) -> None:
        """Create the resource class unless it exists."""
        self._ensure(f"/resource_classes/{name}")

    def ensure_trait(self, name: str) -> None:
        """Create the trait unless it exists."""
        self._ensure(f"/traits/{name}")

    def create_provider(self, uuid: str, name: str, parent_uuid: str) -> int:
        """Create a provider and give its generation.

        :raises NameTaken: when another provider has the name or the UUID; look again, then tell the operator.
        :raises Conflict: when the parent is gone; look again.
        """
        body = {"uuid": uuid, "name": name, "parent_provider_uuid": parent_uuid}
        return self._write("POST", "/resource_providers", lambda answer: int(answer["generation"]), body, uuid=uuid)

    def set_traits(self, uuid: str, generation: int, traits: Collection[str]) -> int:
        """Replace the provider's traits and give its new generation.

        :raises Conflict: when it is past *generation*; look again. :raises UnknownName: when a trait does not exist.
        """
        body = {"resource_provider_generation": generation, "traits": sorted(traits)}
        return self._write("PUT", f"/resource_providers/{uuid}/traits", _generation, body, uuid=uuid)

    def set_inventories(self, uuid: str, generation: int, inventories: Mapping[str, Inventory]) -> int:
        """Replace the provider's inventories and give its new generation.

        :raises Conflict: when it is past *generation*; look again. :raises InUse: when a class to be dropped has
            allocations. :raises UnknownName: when a class does not exist.
        """
        body = {
            "resource_provider_generation": generation,
            "inventories": {name: inventory.to_json() for name, inventory in inventories.items()},
        }
        return self._write("PUT", f"/resource_providers/{uuid}/inventories", _generation, body, uuid=uuid)

    def delete_provider(self, uuid: str) -> None:
        """Delete the provider; one that is gone already is fine. :raises InUse: when it has allocations."""
        self._delete(f"/resource_providers/{uuid}", accept=(404,), uuid=uuid)

    def _get(
        self,
        path: str,
        read: Callable[[Any], _T],
        query: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        *,
        uuid: str = "",
    ) -> _T:
        response = self._transport.send("GET", path, params=query)
        if response.status_code != 200:
            self._refused(response, uuid)
        return self._transport.read(response, read)

    def _write(self, method: str, path: str, read: Callable[[Any], _T], body: Mapping[str, Any], *, uuid: str) -> _T:
        response = self._transport.send(method, path, json=body)
        if response.status_code not in (200, 201):
            self._refused(response, uuid)
        return self._transport.read(response, read)

    def _delete(self, path: str, *, accept: Collection[int], uuid: str = "") -> None:
        response = self._transport.send("DELETE", path)
        if response.status_code != 204 and response.status_code not in accept:
            self._refused(response, uuid)

    def _ensure(self, path: str) -> None:
        response = self._transport.send("PUT", path)
        if response.status_code not in (201, 204):
            self._refused(response, "")

    def _refused(self, response: Any, uuid: str) -> NoReturn:
        status = response.status_code
        detail, code = _error(response)
        asked = f"{response.request.method} {response.request.path_url}"
        said = f"Placement answers {status} to {asked}" + (f": {detail.rstrip('.')}" if detail else "")
        if status in (401, 403):
            raise exception.AccessRefused(
                f"{said}; {self._transport.settings.user} needs the role service (or admin) in its project.",
                lacks_role=status == 403,
            )
        if status >= 500 or status == 429:
            raise exception.Unavailable(f"{said}.")
        if status == 409 or (status == 404 and uuid):
            kinds: dict[str, type[exception.PlacementConflict]] = {
                "placement.inventory.inuse": exception.InUse,
                "placement.resource_provider.inuse": exception.InUse,
                "placement.resource_provider.cannot_delete_parent": exception.InUse,
                "placement.duplicate_name": exception.NameTaken,
            }
            raise kinds.get(code, exception.Conflict)(f"{said}.", provider_uuid=uuid, code=code)
        if status == 400 and uuid and response.request.method == "PUT":
            raise exception.UnknownName(f"{said}.", provider_uuid=uuid, code=code)
        if status == 400 and uuid and response.request.method == "POST":
            # The parent is gone: what we send of a provider is always well formed.
            raise exception.Conflict(f"{said}.", provider_uuid=uuid, code=code)
        if status == 406:
            raise exception.Incompatible(
                f"This Placement does not speak microversion {self.microversion}, which it does since {self.release}; "
                f"upgrade it."
            )
        if status == 404:
            raise exception.Incompatible(
                f"{said}; check that {self._transport.settings.place} has Placement's address, path included."
            )
        raise exception.Incompatible(f"{said}.")


def _record(entry: Mapping[str, Any]) -> ProviderRecord:
    return ProviderRecord(entry["uuid"], entry["name"], entry["generation"], entry.get("parent_provider_uuid"))


def _generation(body: Any) -> int:
    return int(body["resource_provider_generation"])


def _resources(allocations: Any) -> dict[str, dict[str, int]]:
    return {uuid: dict(entry["resources"]) for uuid, entry in allocations.items()}


def _error(response: Any) -> tuple[str, str]:
    """Detail and code of Placement's error body, empty where a proxy answered instead."""
    try:
        entry = response.json()["errors"][0]
        detail = " ".join(str(entry.get("detail", "")).split())
        return detail.rstrip("."), str(entry.get("code", ""))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return "", ""
