"""Which of the users' requests about devices of servers the agent has carried out, by what the guests have now. Pure.

A user's command writes a request as a trait of the device's provider (placement_traits/requests.py). decision.py
carries it out; model/reporting/requests.py writes the answer.
"""

from collections import Counter
from collections.abc import Collection, Sequence

from placement_traits import attach_requests, detach_answers
from usb_provider.model.binding.decision import Binding
from usb_provider.model.binding.guests import RunningGuest
from usb_provider.model.binding.status import BindingState
from usb_provider.model.reporting.requests import CarriedOut, CarriedOutRequests
from usb_provider.model.reporting.tree import ObservedProvider, ObservedTree


def carried_out(
    tree: ObservedTree,
    guests: Sequence[RunningGuest],
    bindings: Sequence[Binding],
    unsure: Collection[str] = (),
) -> CarriedOutRequests:
    """The requests in *tree* that are carried out and have no answer yet.

    :param guests: every guest that runs here, as libvirt shows it now.
    :param bindings: what these guests should have, by the same *tree*.
    :param unsure: UUIDs of guests of which it is not certain what they have: an operation on the guest is under way,
        or its XML cannot be read, so that it is not among *guests*.
    """
    uncertain = {each.guest.uuid for each in guests if each.busy} | set(unsure)
    have = Counter((hostdev.provider_uuid, each.guest.uuid) for each in guests for hostdev in each.guest.ours)
    found: set[CarriedOut] = set()
    for provider in tree.providers.values():
        if not provider.managed:
            continue
        answered = detach_answers(provider.traits)
        for consumer, stay in provider.leaving.items():
            is_new = answered.get(consumer) != stay and consumer not in uncertain
            if is_new and have[provider.uuid, consumer] <= stay:
                found.add(CarriedOut(provider.uuid, provider.generation, consumer, stay))
        for consumer in attach_requests(provider.traits) - uncertain:
            if _has_all(provider, consumer, bindings):
                found.add(CarriedOut(provider.uuid, provider.generation, consumer, None))
    return frozenset(found)


def _has_all(provider: ObservedProvider, consumer: str, bindings: Sequence[Binding]) -> bool:
    states = [each.state for each in bindings if (each.provider_uuid, each.guest_uuid) == (provider.uuid, consumer)]
    return bool(states) and all(each is BindingState.ATTACHED for each in states)
