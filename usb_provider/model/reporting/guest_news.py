"""What the binding loop tells the reporting loop of the guests, and the writes that follow from it. Pure.

The writes come at the end of a plan: the answers to users' requests (requests.py), and the trait STATE_WAITING of each
provider whose device a running guest lacks (model/binding/waiting.py).
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from placement_traits import STATE_WAITING
from usb_provider.model.reporting.plan import (
    DeleteProvider,
    EnsureTrait,
    Plan,
    ProviderAction,
    SetAsideProvider,
    SetTraits,
)
from usb_provider.model.reporting.requests import CarriedOutRequests, answered, requests_in
from usb_provider.model.reporting.tree import ObservedProvider, ObservedTree


@dataclass(frozen=True, slots=True)
class GuestNews:
    """What is new of the guests.

    :ivar carried_out: the requests of users that are carried out.
    :ivar waiting: UUIDs of the providers whose device a running guest lacks; None while the binding loop has not said
        it, as right after a start of the agent: then the traits stay as they are.
    """

    carried_out: CarriedOutRequests = frozenset()
    waiting: frozenset[str] | None = None


NO_NEWS = GuestNews()


def with_news(plan: Plan, tree: ObservedTree, news: GuestNews) -> Plan:
    """*plan*, which is for *tree*, with what follows from *news* after the plan's writes to each provider."""
    places = {sequence[0].provider_uuid: place for place, sequence in enumerate(plan.sequences)}
    sequences = list(plan.sequences)
    names = list(plan.names)
    for uuid in sorted(requests_in(tree) | _marked_or_waiting(tree, news)):
        have = tree.providers[uuid]
        before = sequences[places[uuid]] if uuid in places else ()
        if any(isinstance(each, SetAsideProvider | DeleteProvider) for each in before):
            continue
        traits = next((each.traits for each in reversed(before) if isinstance(each, SetTraits)), have.traits)
        wanted = _marked(answered(traits, have, news.carried_out), have, news)
        if wanted == traits:
            continue
        generation = None if before else have.generation
        change = SetTraits(uuid, have.name, generation, wanted, wanted - traits, traits - wanted)
        names += [EnsureTrait(name) for name in sorted(wanted - traits) if EnsureTrait(name) not in names]
        longer: tuple[ProviderAction, ...] = (*before, change)
        if before:
            sequences[places[uuid]] = longer
        else:
            sequences.append(longer)
    return dataclasses.replace(plan, names=tuple(names), sequences=tuple(sequences))


def waiting_by_class(tree: ObservedTree) -> Mapping[str, int]:
    """How many providers in *tree* have STATE_WAITING, by resource class; each class of ours is there."""
    found: dict[str, int] = {}
    for provider in tree.providers.values():
        for name in sorted({*provider.inventories, *provider.used_classes})[:1] if provider.managed else ():
            found[name] = found.get(name, 0) + (STATE_WAITING in provider.traits)
    return found


def _marked_or_waiting(tree: ObservedTree, news: GuestNews) -> frozenset[str]:
    """UUIDs of our providers that have STATE_WAITING or are to get it."""
    waiting = news.waiting or frozenset()
    return frozenset(
        uuid
        for uuid, each in tree.providers.items()
        if each.managed and (STATE_WAITING in each.traits or uuid in waiting)
    )


def _marked(traits: frozenset[str], have: ObservedProvider, news: GuestNews) -> frozenset[str]:
    # What the guests hold may be older than the tree: the device of a server that was deleted is free here.
    if not have.allocated:
        return traits - {STATE_WAITING}
    if news.waiting is None:
        return traits
    return traits | {STATE_WAITING} if have.uuid in news.waiting else traits - {STATE_WAITING}
