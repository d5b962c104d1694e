"""Which part of a flavor no host can satisfy: the questions to Placement, one for each part, and the answer in words.

Pure: osc/flavor.py asks. pitfalls.py finds what needs no answer from Placement.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from placement_traits.usb import PREFIX
from usb_provider.model.lifecycle import FleetState
from usb_provider.osc.model.flavor import NO_SUFFIX, Request, RequestGroup, is_usb
from usb_provider.osc.model.fleet import Device
from usb_provider.osc.model.pitfalls import Known


@dataclass(frozen=True, slots=True)
class Step:
    """What the flavor asks for so far, and the part that this step adds; ``group`` is None for the host's own part."""

    request: Request
    group: RequestGroup | None = None

    def __str__(self) -> str:
        return str(self.group) if self.group else f"the host's own part, {self.request.groups[0]}"


def steps(request: Request, known: Known) -> tuple[Step, ...]:
    """*request* in steps: first the part without USB devices, then one more group in each step; the last has all."""
    plain, usb = [], []
    for group in request.groups:
        other, device = _divided(group, known)
        plain += [other] if other else []
        usb += [device] if device else []
    made = [Step(Request(tuple(plain), request.policy))] if plain else []
    groups = list(plain)
    for group in usb:
        if group.suffix == NO_SUFFIX:
            groups = [each for each in request.groups if each.suffix == NO_SUFFIX] + groups[1 if plain else 0 :]
        else:
            groups.append(group)
        made.append(Step(Request(tuple(groups), request.policy), group))
    return tuple(made)


def _divided(group: RequestGroup, known: Known) -> tuple[RequestGroup | None, RequestGroup | None]:
    """What *group* asks of the host, and what of USB devices: one of them is None unless it has no suffix."""
    mine = {name: amount for name, amount in group.resources.items() if is_usb(name, known.usb_classes)}
    if not mine:
        return group, None
    if group.suffix != NO_SUFFIX or len(mine) == len(group.resources):
        return None, group
    traits = known.usb_traits | {name for name in group.required if name.startswith(PREFIX)}
    others = {name: amount for name, amount in group.resources.items() if name not in mine}
    return (
        RequestGroup(NO_SUFFIX, others, group.required - traits, group.forbidden - traits),
        RequestGroup(NO_SUFFIX, mine, group.required & traits, group.forbidden & traits),
    )


@dataclass(frozen=True, slots=True)
class Shortage:
    """Why a group leaves no host, in sentences, and the devices that fit the group but are held."""

    text: str
    held: tuple[Device, ...]


def shortage(group: RequestGroup, devices: Sequence[Device], hosts_before: Collection[str]) -> Shortage:
    """Why *devices* do not meet *group*. *hosts_before* are the UUIDs of the hosts that the rest of the flavor left."""
    sentences: list[str] = []
    held: list[Device] = []
    for name in sorted(group.resources):
        having = [device for device in devices if name in device.amounts]
        fitting = [
            device for device in having if group.required <= device.traits and not group.forbidden & device.traits
        ]
        if having and not fitting:
            sentences.append(f"{_hosts(having)} a {name}, but none has the traits that the group asks for.")
            continue
        amount = group.resources[name]
        free = [device for device in fitting if device.state is FleetState.FREE and device.units_free >= amount]
        held += [device for device in fitting if device.held]
        sentences.append(f"{_hosts(fitting)} a {name}; {_amounts(fitting)}.")
        if not free and any(device.units_free for device in fitting):
            sentences.append(f"No provider has {amount} of them free.")
        if elsewhere := sorted({device.host for device in free if device.host_uuid not in hosts_before}):
            sentences.append(f"Some are free on {', '.join(elsewhere)}, but the rest of the flavor does not fit there.")
        elif free:
            sentences.append("No host has as many of them free as all groups together ask for.")
    return Shortage(" ".join(sentences), tuple(held))


def _amounts(devices: Collection[Device]) -> str:
    """How many of *devices* are free, and the states of the others. Each unit of a pool is one."""
    counts: Counter[FleetState] = Counter()
    for each in devices:
        if each.state is FleetState.FREE:
            counts[FleetState.FREE] += each.units_free
            counts[FleetState.ALLOCATED] += each.units_held
        else:
            counts[each.state] += each.counted
    words = "units free" if any(each.is_pool for each in devices) else "free"
    others = ", ".join(
        f"{counts[state]} {state}" for state in FleetState if counts[state] and state is not FleetState.FREE
    )
    return f"{counts[FleetState.FREE]} of {counts.total()} {words}{f' ({others})' if others else ''}"


def _hosts(devices: Collection[Device]) -> str:
    number = len({device.host_uuid for device in devices})
    return {0: "No host has", 1: "1 host has"}.get(number, f"{number} hosts have")
