"""How many devices of a host are in which state, by resource class: the numbers of a pass. Pure.

The operator chooses the names of classes; the states are a closed set. Nothing here identifies a single device.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from placement_traits import STATE_SHORT
from usb_provider.model import lifecycle
from usb_provider.model.lifecycle import TABLE, Circumstances, DeviceState, Intention
from usb_provider.model.reporting.provider import Assessment
from usb_provider.model.reporting.tree import ObservedProvider, ObservedTree

NO_CLASS = "none"
"""The class of a device that has none now: it is absent and no consumer holds it, or it is not offered."""

Census = Mapping[tuple[str, DeviceState], int]
"""How many devices, by (resource class, state); a pair that is missing has none."""


def census(tree: ObservedTree, devices: Iterable[Assessment]) -> Census:
    """Count our providers in *tree*, and those of *devices* that have no provider."""
    ours = {uuid: provider for uuid, provider in tree.providers.items() if provider.managed}
    found: Counter[tuple[str, DeviceState]] = Counter()
    for provider in ours.values():
        found.update(_units(provider))
    found[NO_CLASS, DeviceState.NOT_OFFERED] += sum(
        not each.offered and (each.provider_uuid not in ours or each.group is not None) for each in devices
    )
    return +found


def _units(provider: ObservedProvider) -> dict[tuple[str, DeviceState], int]:
    """How many units of *provider* are in which state: one of a device, several of a pool."""
    name, state = _place(provider)
    has = provider.inventories.get(name)
    if has is None or has.total <= 1:
        return {(name, state): 1}
    if state not in (DeviceState.FREE, DeviceState.HELD, DeviceState.KEPT_BACK):
        return {(name, state): has.total}
    used, capacity = provider.used(name), has.total - has.reserved
    # What the agent reserves of a pool are members that are missing while consumers hold them.
    missing = max(0, used - capacity) if STATE_SHORT in provider.traits else 0
    free = max(0, capacity - used)
    return {
        (name, DeviceState.HELD): used - missing,
        (name, DeviceState.ABSENT_HELD): missing,
        (name, DeviceState.FREE): free,
        (name, DeviceState.KEPT_BACK): max(0, has.total - used - free),
    }


def _place(provider: ObservedProvider) -> tuple[str, DeviceState]:
    classes = sorted({*provider.inventories, *provider.used_classes})
    # Without an inventory, there is nothing that an operator could reserve.
    wanted = provider.intention if classes else Intention.NONE
    there = lifecycle.presence(provider.traits, has_inventory=bool(classes))
    state = TABLE[Circumstances(there, wanted, provider.allocated)]
    return classes[0] if classes else NO_CLASS, state.device_state
