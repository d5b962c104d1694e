"""The client of Placement for the openstack commands: the listings of the whole fleet, with a caller's credentials.

Decides nothing; fleet.py puts the answers together.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar

from placement_traits import MANAGED
from placement_traits.usb import PREFIX
from usb_provider.model.reporting.tree import Amount, Summary
from usb_provider.openstack.transport import Query, Service, segment
from usb_provider.osc import large
from usb_provider.osc.model.server import ServerClaim
from usb_provider.placement import answers
from usb_provider.placement.client import PlacementClient

_CLAIM = "1.36"
"""Nova's own microversion for claims. From 1.38 on a write must name the consumer's type, and Placement refuses the
word "unknown", which is the type of what Nova claims. Below that, the type stays as it is."""

_USAGES = "1.37"
"""From 1.38 on, usages are by the consumers' types."""

_SHARED = "MISC_SHARES_VIA_AGGREGATE"
_NOVAS_LIMIT = 1000
"""Nova's [scheduler]max_placement_results, by default: it reads no more candidates than that."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of a listing of providers."""

    uuid: str
    name: str
    root_uuid: str


class FleetClient(PlacementClient):
    """Placement's calls that only an operator's commands need; errors as of :class:`PlacementClient`."""

    service: ClassVar[Service] = dataclasses.replace(PlacementClient.service, microversion="1.38", release="Wallaby")
    """Wallaby (2021): 1.27 and 1.29 describe whole trees, 1.33 takes any suffix, 1.38 tells what a consumer is."""

    def listed(self, query: Query) -> tuple[Listed, ...]:
        """The providers that match *query*.

        :raises Incompatible: when it names a trait or a class that does not exist.
        """
        response = self._checked("GET", "/resource_providers", query=query, stream=True)
        return tuple(large.items(self._transport, response, "resource_providers", _listed()))

    def our_summaries(self, query: Query) -> dict[str, Summary]:
        """As :meth:`summaries`, but only providers that have our mark, and equal ones are one object.

        :raises Incompatible: when *query* names a class or a trait that does not exist.
        """
        response = self._checked("GET", "/allocation_candidates", query=query, stream=True)
        found = large.members(self._transport, response, "provider_summaries", _our_summary())
        return {uuid: summary for uuid, summary in found if summary is not None}

    def hosts_for(self, query: list[tuple[str, str]]) -> frozenset[str]:
        """The UUIDs of the roots that have a candidate for *query* among those that nova reads.

        :raises Incompatible: when Placement refuses the query; the caller should show what it says.
        """
        return self._get("/allocation_candidates", _hosts, [*query, ("limit", str(_NOVAS_LIMIT))])

    def claim(self, consumer: str) -> ServerClaim | None:
        """All that *consumer* holds; None when it holds nothing."""
        path = f"/allocations/{segment(consumer)}"
        return self._transport.read(self._checked("GET", path, microversion=_CLAIM), _claim)

    def replace_claim(self, consumer: str, claim: ServerClaim) -> None:
        """Have *consumer* hold exactly *claim*, in place of what it held at the claim's generation.

        :raises Conflict: when it holds something else by now, or a provider has not enough left; look again.
        """
        body = {
            "allocations": {uuid: {"resources": dict(has)} for uuid, has in claim.allocations.items()},
            "consumer_generation": claim.generation,
            "project_id": claim.project_id,
            "user_id": claim.user_id,
        }
        self._checked("PUT", f"/allocations/{segment(consumer)}", body=body, accept=(204,), microversion=_CLAIM)

    def free_providers(self, root_uuid: str, resource_class: str, traits: Collection[str]) -> frozenset[str]:
        """The UUIDs of the providers in the tree of *root_uuid* that have a free unit of the class, and the traits.

        :raises Incompatible: when a class or a trait does not exist.
        """
        query = [
            ("resources_USB", f"{resource_class}:1"),
            ("required_USB", ",".join(sorted({MANAGED, *traits}))),
            ("in_tree_USB", root_uuid),
        ]
        return self._get("/allocation_candidates", _providers, query)

    def used_by_project(self, project_id: str, resource_class: str) -> int:
        """How many units of the class the servers and migrations of the project hold, as Nova counts them."""
        response = self._checked("GET", "/usages", query={"project_id": project_id}, microversion=_USAGES)
        return self._transport.read(response, _usages).get(resource_class, 0)

    def consumer_type(self, uuid: str) -> str | None:
        """The consumer's type, such as INSTANCE, or ``unknown``; None when it holds nothing."""
        return self._get(f"/allocations/{segment(uuid)}", _consumer_type)

    def existing_traits(self, names: Collection[str]) -> frozenset[str]:
        """Those of *names* that exist; sends no request when *names* is empty."""
        if not names:
            return frozenset()
        return self._get("/traits", answers.trait_names, {"name": "in:" + ",".join(sorted(names))})

    def unused_traits(self) -> frozenset[str]:
        """Names of the traits with our prefix that no provider has."""
        return self._get("/traits", answers.trait_names, {"name": f"startswith:{PREFIX}", "associated": "false"})

    def is_in_use(self, trait: str) -> bool:
        """Whether some provider has *trait*."""
        query = {"name": f"in:{trait}", "associated": "true"}
        return bool(self._get("/traits", answers.trait_names, query))

    def delete_allocations(self, consumer: str) -> None:
        """Delete all allocations of *consumer*; it is no error when it has none."""
        self._checked("DELETE", f"/allocations/{segment(consumer)}", accept=(204, 404))


def _listed() -> Callable[[answers.ProviderJson], Listed]:
    """A reader of a line of a listing; the devices of a host share the text of its root's UUID."""
    roots: dict[str, str] = {}

    def read(entry: answers.ProviderJson) -> Listed:
        root = entry["root_provider_uuid"]
        return Listed(entry["uuid"], entry["name"], roots.setdefault(root, root))

    return read


def _our_summary() -> Callable[[tuple[str, answers.SummaryJson]], tuple[str, Summary | None]]:
    """A reader of UUID and summary; None in place of a summary without our mark."""
    shared: dict[object, Summary] = {}

    def read(member: tuple[str, answers.SummaryJson]) -> tuple[str, Summary | None]:
        uuid, entry = member
        if MANAGED not in entry["traits"]:
            return uuid, None
        amounts = tuple((name, each["capacity"], each["used"]) for name, each in entry["resources"].items())
        key = (*amounts, *entry["traits"])
        found = shared.get(key)
        if found is None:
            found = Summary(frozenset(entry["traits"]), {name: Amount(*units) for name, *units in amounts})
            shared[key] = found
        return uuid, found

    return read


def _hosts(body: answers.CandidatesJson) -> frozenset[str]:
    # All providers of a candidate are of one tree, except storage that several hosts share.
    roots = {
        uuid: entry["root_provider_uuid"]
        for uuid, entry in body["provider_summaries"].items()
        if _SHARED not in entry["traits"]
    }
    asked = body["allocation_requests"]
    return frozenset(roots[uuid] for each in asked for uuid in each["allocations"] if uuid in roots)


def _claim(body: answers.ConsumerJson) -> ServerClaim | None:
    if not body["allocations"]:
        return None
    held = {uuid: dict(entry["resources"]) for uuid, entry in body["allocations"].items()}
    return ServerClaim(held, int(body["consumer_generation"]), body["project_id"], body["user_id"])


def _providers(body: answers.CandidatesJson) -> frozenset[str]:
    return frozenset(uuid for each in body["allocation_requests"] for uuid in each["allocations"])


def _usages(body: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    return dict(body["usages"])


def _consumer_type(body: answers.ConsumerJson) -> str | None:
    return str(body["consumer_type"]) if body["allocations"] else None
