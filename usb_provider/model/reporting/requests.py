"""The agent's answers to users' requests about devices of servers, as writes at the end of a plan. Pure.

A request is a trait of the device's provider (placement_traits/requests.py). model/binding/requests.py says which ones
are carried out. A request that the server's claim has met is removed, and so is an answer without a request.
"""

import dataclasses
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
from usb_provider.model.reporting.plan import (
    DeleteProvider,
    EnsureTrait,
    Plan,
    ProviderAction,
    SetAsideProvider,
    SetTraits,
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


def with_answers(plan: Plan, tree: ObservedTree, done: CarriedOutRequests) -> Plan:
    """*plan*, which is for *tree*, with the answers that *done* allows, after the plan's writes to each provider."""
    places = {sequence[0].provider_uuid: place for place, sequence in enumerate(plan.sequences)}
    sequences = list(plan.sequences)
    names = list(plan.names)
    for uuid in sorted(requests_in(tree)):
        have = tree.providers[uuid]
        before = sequences[places[uuid]] if uuid in places else ()
        if any(isinstance(each, SetAsideProvider | DeleteProvider) for each in before):
            continue
        traits = next((each.traits for each in reversed(before) if isinstance(each, SetTraits)), have.traits)
        wanted = _answered(traits, have, done)
        if wanted == traits:
            continue
        generation = None if before else have.generation
        answer = SetTraits(uuid, have.name, generation, wanted, wanted - traits, traits - wanted)
        names += [EnsureTrait(name) for name in sorted(wanted - traits) if EnsureTrait(name) not in names]
        longer: tuple[ProviderAction, ...] = (*before, answer)
        if before:
            sequences[places[uuid]] = longer
        else:
            sequences.append(longer)
    return dataclasses.replace(plan, names=tuple(names), sequences=tuple(sequences))


def _answered(traits: frozenset[str], have: ObservedProvider, done: CarriedOutRequests) -> frozenset[str]:
    now = set(traits)
    held = {consumer: sum(has.values()) for consumer, has in have.allocations.items()}
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
