"""The agent's answers to users' requests about devices of servers, as traits of the devices' providers. Pure.

A request is a trait of the device's provider (placement_traits/requests.py). model/binding/requests.py says which ones
are carried out. A request that the server's claim has met is removed, and so is an answer without a request.
"""

from dataclasses import dataclass

from placement_traits import (
    attach_requests,
    attach_trait,
    detach_answers,
    detach_requests,
    detach_trait,
    detached_trait,
    is_request,
)
from usb_provider.model.reporting.tree import ObservedProvider, ObservedTree


@dataclass(frozen=True, slots=True)
class CarriedOut:
    """A request that is carried out: the guest has no more than *stay* units, or where that is None, all that it holds.

    It is only about the request that was there at *generation*: a later one is looked at anew.
    """

    provider_uuid: str
    generation: int
    consumer: str
    stay: int | None


CarriedOutRequests = frozenset[CarriedOut]


def requests_in(tree: ObservedTree) -> frozenset[str]:
    """UUIDs of the providers that have a request or an answer."""
    return frozenset(
        uuid for uuid, each in tree.providers.items() if each.managed and any(map(is_request, each.traits))
    )


def answered(traits: frozenset[str], have: ObservedProvider, done: CarriedOutRequests) -> frozenset[str]:
    """The *traits* that *have* is to get, with the answers that *done* allows and without what is over."""
    now = set(traits)
    held = have.held
    now -= {attach_trait(server) for server in attach_requests(traits) if not held.get(server)}
    for server, stay in detach_requests(traits).items():
        if held.get(server, 0) <= stay:
            now.discard(detach_trait(server, stay))
    for each in done:
        if (each.provider_uuid, each.generation) != (have.uuid, have.generation):
            continue
        if each.stay is None:
            now.discard(attach_trait(each.consumer))
        elif detach_trait(each.consumer, each.stay) in now:
            now.add(detached_trait(each.consumer, each.stay))
    asked = detach_requests(now)
    for server, stay in detach_answers(now).items():
        if asked.get(server) != stay:
            now.discard(detached_trait(server, stay))
    return frozenset(now)
