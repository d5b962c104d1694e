"""How many devices of a host are in which state, by resource class: the numbers of a pass. Pure.

Classes are the operator's own names, states a closed set; nothing here tells one device from another.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from usb_provider.model import lifecycle
from usb_provider.model.lifecycle import TABLE, Circumstances, DeviceState, Intention
from usb_provider.model.reporting.provider import Assessment
from usb_provider.model.reporting.tree import ObservedProvider, ObservedTree

NO_CLASS = "none"
"""Stands for the class of what has none now: an absent device that no consumer holds, and one that is not offered."""

Census = Mapping[tuple[str, DeviceState], int]
"""How many, by (resource class, state); what is not in it is none."""


def census(tree: ObservedTree, devices: Iterable[Assessment]) -> Census:
    """Count the providers of ours in *tree*, and those of *devices* that have none."""
    ours = {uuid: provider for uuid, provider in tree.providers.items() if provider.managed}
    found = Counter(_place(provider) for provider in ours.values())
    found[NO_CLASS, DeviceState.NOT_OFFERED] += sum(
        not each.offered and each.provider_uuid not in ours for each in devices
    )
    return +found


def _place(provider: ObservedProvider) -> tuple[str, DeviceState]:
    classes = sorted({*provider.inventories, *provider.used_classes})
    # Where there is no inventory, whatever an operator wants with the device keeps none back.
    wanted = provider.intention if classes else Intention.NONE
    there = lifecycle.presence(provider.traits, has_inventory=bool(classes))
    state = TABLE[Circumstances(there, wanted, provider.allocated)]
    return classes[0] if classes else NO_CLASS, state.device_state
