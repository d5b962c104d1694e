"""How many devices of a host are in which state, by resource class: the numbers of a pass. Pure.

Classes are the operator's own names, states a closed set; nothing here tells one device from another.
"""

import enum
from collections import Counter
from collections.abc import Iterable, Mapping

from placement_traits import STATE_WITHDRAWN
from usb_provider.model.reporting.provider import Assessment
from usb_provider.model.reporting.tree import ObservedProvider, ObservedTree

NO_CLASS = "none"
"""Stands for the class of what has none now: an absent device that nobody holds, and one that is not offered."""


class DeviceState(enum.StrEnum):
    """What a device is to the scheduler, and whether it is there."""

    FREE = "free"
    HELD = "held"
    KEPT_BACK = "kept_back"
    WITHDRAWN_HELD = "withdrawn_held"
    ABSENT = "absent"
    ABSENT_HELD = "absent_held"
    NOT_OFFERED = "not_offered"


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
    name = classes[0] if classes else NO_CLASS
    if provider.absent:
        return name, DeviceState.ABSENT_HELD if provider.allocated else DeviceState.ABSENT
    if provider.allocated:
        return name, DeviceState.WITHDRAWN_HELD if STATE_WITHDRAWN in provider.traits else DeviceState.HELD
    if provider.free:
        return name, DeviceState.FREE
    return name, DeviceState.KEPT_BACK if provider.inventories else DeviceState.NOT_OFFERED
