"""Placement's REST calls that we need, one method each: answers as values and refusals as our errors.

openstack/transport.py sends the requests, answers.py reads the answers. This does not retry a refused write, cache, or
decide: a 409 means that the caller's picture is old. Every call names the same microversion, since openstacksdk's
resource classes stop below what is needed (reserved equal to total wants 1.26; docs/adr/0004-placement-client.md).
"""

import email.utils
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import ClassVar, TypeVar

from oslo_config import cfg

from placement_traits import PURGED
from usb_provider import exception
from usb_provider.model.reporting.tree import Inventory, ObservedProvider, ProviderRecord, Summary
from usb_provider.openstack import session
from usb_provider.openstack.transport import Query, Response, Service, ServiceRefusal, Transport, segment
from usb_provider.placement import answers

MICROVERSION = "1.31"
"""Stein (2019): 1.14 for parents, 1.20 POST's answer, 1.23 error codes, 1.26 reserved == total, 1.28 generations; and
for summaries of a whole tree 1.27 (all classes), 1.29 (nested providers) and 1.31 (in_tree)."""

NEXT_TO_NOTHING = ("MEMORY_MB:1", "VCPU:1")
"""Resources of which a compute node that takes servers has one unit left, almost always; to be asked in this order."""

UNPARENT = "1.37"
"""Xena (2021): the microversion of :meth:`PlacementClient.set_aside` alone."""

_READS_OF_ONE = 5

_Body = TypeVar("_Body")
_Value = TypeVar("_Value")


def connect(
    conf: cfg.ConfigOpts, *, timeout: float | None = None, requested: Callable[[str, str], None] | None = None
) -> "PlacementClient":
    """A client for the Placement in *conf*; nothing is sent yet. *timeout* in seconds replaces the configured one.

    *requested* is called for each request, as :class:`Transport` says.

    :raises ConfigError: when the group [placement] is incomplete or names something that does not exist.
    """
    return PlacementClient(session.configured(conf, PlacementClient.service, timeout=timeout, requested=requested))


class PlacementClient:
    """Placement as seen through one transport; safe to share between threads.

    Every method raises :class:`~usb_provider.exception.Unavailable` when Placement or Keystone does not answer,
    :class:`~usb_provider.exception.AccessRefused` when they refuse us, and
    :class:`~usb_provider.exception.Incompatible` when Placement cannot do what is asked.
    """

    service: ClassVar[Service] = Service(
        "Placement",
        "placement",
        role="the role service (or admin) in its project",
        microversion=MICROVERSION,
        release="Stein",
    )

    def __init__(self, transport: Transport) -> None:
        """Use *transport*, which is one to :attr:`service`."""
        self._transport = transport

    @property
    def requests(self) -> int:
        """The number of requests to Placement so far, without those for tokens."""
        return self._transport.requests

    def microversions(self) -> tuple[str, str]:
        """The lowest and the highest microversion that this Placement supports."""
        # Without a microversion: an old Placement would refuse ours here, too.
        response = self._transport.send("GET", "/", versioned=False)
        if response.status_code != 200:
            raise self._refused(response)
        return self._transport.read(response, answers.microversions)

    def tree(self, root_uuid: str) -> tuple[ProviderRecord, ...]:
        """Every provider of the tree of *root_uuid*; empty when there is no such provider."""
        return self._get("/resource_providers", answers.records, {"in_tree": root_uuid})

    def provider_named(self, name: str) -> ProviderRecord | None:
        """The provider called exactly *name*, or None."""
        return next(iter(self._get("/resource_providers", answers.records, {"name": name})), None)

    def set_aside_providers(self) -> tuple[ProviderRecord, ...]:
        """Every provider of the cloud that a purge has begun to delete; none while the trait does not exist."""
        response = self._checked("GET", "/resource_providers", query={"required": PURGED}, accept=(200, 400))
        return self._transport.read(response, answers.records) if response.status_code == 200 else ()

    def inventories(self, uuid: str) -> tuple[int, dict[str, Inventory]]:
        """Generation and inventories by class. :raises Conflict: when the provider is gone; look again."""
        return self._get(f"/resource_providers/{segment(uuid)}/inventories", answers.inventories, uuid=uuid)

    def traits(self, uuid: str) -> tuple[int, frozenset[str]]:
        """Generation and traits. :raises Conflict: when the provider is gone; look again."""
        return self._get(f"/resource_providers/{segment(uuid)}/traits", answers.traits, uuid=uuid)

    def allocations(self, uuid: str) -> tuple[int, dict[str, dict[str, int]]]:
        """Generation and ``{consumer: {class: amount}}``. :raises Conflict: when the provider is gone; look again."""
        return self._get(f"/resource_providers/{segment(uuid)}/allocations", answers.allocations, uuid=uuid)

    def observe(self, uuid: str, name: str) -> ObservedProvider:
        """The provider *uuid*, called *name*, in full: three answers of one generation.

        :raises Conflict: when the provider is gone, or changes faster than it can be read; look again.
        """
        for _ in range(_READS_OF_ONE):
            generation, inventories = self.inventories(uuid)
            traits_at, traits = self.traits(uuid)
            allocations_at, allocations = self.allocations(uuid)
            if generation == traits_at == allocations_at:
                return ObservedProvider(uuid, name, generation, inventories, traits, allocations)
        raise exception.Conflict(
            f"{name} changes faster than the agent can read it; find the other program that writes it.",
            provider_uuid=uuid,
        )

    def summaries(self, query: Query) -> dict[str, Summary]:
        """Every provider of every tree that has a candidate for *query*, by UUID, also those that have no inventory.

        :raises Incompatible: when *query* names a class or a trait that does not exist.
        """
        return self._get("/allocation_candidates", answers.summaries, query)

    def consumer(self, uuid: str) -> dict[str, dict[str, int]]:
        """What the consumer holds, ``{provider: {class: amount}}``; nothing when there is no such consumer."""
        return self._get(f"/allocations/{segment(uuid)}", answers.consumer)

    def last_modified(self, uuid: str) -> datetime | None:
        """When the provider was last written, by Placement's clock; None when it does not say.

        :raises Conflict: when the provider is gone; look again.
        """
        response = self._checked("GET", f"/resource_providers/{segment(uuid)}", uuid=uuid)
        try:
            return email.utils.parsedate_to_datetime(response.headers.get("last-modified", ""))
        except ValueError:
            return None

    def resource_classes(self) -> frozenset[str]:
        """Names of all resource classes of the cloud."""
        return self._get("/resource_classes", answers.resource_classes)

    def trait_names(self, prefix: str) -> frozenset[str]:
        """Names of all traits of the cloud that start with *prefix*."""
        return self._get("/traits", answers.trait_names, {"name": f"startswith:{prefix}"})

    def ensure_resource_class(self, name: str) -> None:
        """Create the resource class unless it exists."""
        self._checked("PUT", f"/resource_classes/{segment(name)}", accept=(201, 204))

    def ensure_trait(self, name: str) -> bool:
        """Create the trait unless it exists, and give whether this has created it."""
        return self._checked("PUT", f"/traits/{segment(name)}", accept=(201, 204)).status_code == 201

    def delete_unused_trait(self, name: str) -> None:
        """Delete the trait, unless it is gone or some provider has it."""
        self._checked("DELETE", f"/traits/{segment(name)}", accept=(204, 404, 409))

    def create_provider(self, uuid: str, name: str, parent_uuid: str) -> int:
        """Create a provider and give its generation.

        :raises NameTaken: when another provider has the name or the UUID; look again, then tell the operator.
        :raises Conflict: when the parent is gone; look again.
        """
        body = {"uuid": uuid, "name": name, "parent_provider_uuid": parent_uuid}
        response = self._checked("POST", "/resource_providers", body=body, accept=(200, 201), uuid=uuid)
        return self._transport.read(response, answers.created_generation)

    def set_traits(self, uuid: str, generation: int, traits: Collection[str]) -> int:
        """Replace the provider's traits and give its new generation.

        :raises Conflict: when it is past *generation*; look again. :raises UnknownName: when a trait does not exist.
        """
        body = {"resource_provider_generation": generation, "traits": sorted(traits)}
        return self._put(f"/resource_providers/{segment(uuid)}/traits", body, uuid=uuid)

    def set_inventories(self, uuid: str, generation: int, inventories: Mapping[str, Inventory]) -> int:
        """Replace the provider's inventories and give its new generation.

        :raises Conflict: when it is past *generation*; look again. :raises InUse: when a class to be dropped has
            allocations. :raises UnknownName: when a class does not exist.
        """
        body = {
            "resource_provider_generation": generation,
            "inventories": {name: inventory.to_json() for name, inventory in inventories.items()},
        }
        return self._put(f"/resource_providers/{segment(uuid)}/inventories", body, uuid=uuid)

    def set_aside(self, uuid: str, name: str) -> None:
        """Take the provider out of its tree: it becomes a root, and keeps its UUID and name.

        :raises Conflict: when the provider is gone; look again.
        :raises Incompatible: when Placement is older than Xena; the caller should leave the provider.
        """
        body = {"name": name, "parent_provider_uuid": None}
        self._checked("PUT", f"/resource_providers/{segment(uuid)}", body=body, uuid=uuid, microversion=UNPARENT)

    def take_back(self, uuid: str, name: str, parent_uuid: str) -> int | None:
        """Put a provider that a purge has set aside below *parent_uuid* again, and give its generation.

        None when there is no such provider, or no purge has set it aside.

        :raises Conflict: when it or the parent is gone meanwhile; look again.
        """
        response = self._checked("GET", f"/resource_providers/{segment(uuid)}/traits", accept=(200, 404), uuid=uuid)
        if response.status_code == 404:
            return None
        generation, traits = self._transport.read(response, answers.traits)
        if PURGED not in traits:
            return None
        body = {"name": name, "parent_provider_uuid": parent_uuid}
        self._checked("PUT", f"/resource_providers/{segment(uuid)}", body=body, uuid=uuid)
        return generation

    def delete_provider(self, uuid: str) -> None:
        """Delete the provider; one that is gone already is fine. :raises InUse: when it has allocations."""
        self._checked("DELETE", f"/resource_providers/{segment(uuid)}", accept=(204, 404), uuid=uuid)

    def _get(self, path: str, read: Callable[[_Body], _Value], query: Query = (), *, uuid: str = "") -> _Value:
        return self._transport.read(self._checked("GET", path, query=query, uuid=uuid), read)

    def _put(self, path: str, body: Mapping[str, object], *, uuid: str) -> int:
        """The provider's new generation."""
        response = self._checked("PUT", path, body=body, uuid=uuid)
        return self._transport.read(response, answers.generation)

    def _checked(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: object = None,
        accept: Collection[int] = (200,),
        uuid: str = "",
        microversion: str | None = None,
        stream: bool = False,
    ) -> Response:
        """The answer, if its status is one of *accept*; *uuid* is the provider that the request is about, if any.

        *microversion* takes the place of the service's; *stream* is as of :meth:`Transport.send`.
        """
        response = self._transport.send(method, path, query=query, body=body, microversion=microversion, stream=stream)
        if response.status_code not in accept:
            raise self._refused(response, uuid)
        return response

    def _refused(self, response: Response, uuid: str = "") -> exception.UsbProviderError:
        refusal = self._transport.refusal(response)
        if conflict := _conflict(refusal, uuid):
            return conflict
        if refusal.status == 404:
            return exception.Incompatible(
                f"{refusal.text}; check that {self._transport.settings.address} has Placement's address, path included."
            )
        return self._transport.error(refusal)


_CONFLICTS: Mapping[str, type[exception.PlacementConflict]] = {
    "placement.inventory.inuse": exception.InUse,
    "placement.resource_provider.inuse": exception.InUse,
    "placement.resource_provider.cannot_delete_parent": exception.InUse,
    "placement.duplicate_name": exception.NameTaken,
}


def _conflict(refusal: ServiceRefusal, uuid: str) -> exception.PlacementConflict | None:
    """The conflict that *refusal* is about, or None; *uuid* is the provider that the request is about, if any."""
    kind: type[exception.PlacementConflict]
    if refusal.status == 409:
        kind = _CONFLICTS.get(refusal.code, exception.Conflict)
    elif uuid and refusal.status == 404:
        kind = exception.Conflict
    elif uuid and refusal.status == 400 and refusal.method == "PUT":
        kind = exception.UnknownName
    elif uuid and refusal.status == 400 and refusal.method == "POST":
        # The parent is gone: what we send is always well formed.
        kind = exception.Conflict
    else:
        return None
    return kind(f"{refusal.text}.", provider_uuid=uuid, code=refusal.code)
