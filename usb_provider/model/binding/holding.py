"""What consumers hold on this host: each unit of each provider joined with its device. Pure.

It joins Placement's tree with the assessments of the devices. decision.py says what to do about it.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence

from placement_traits import NOT_LIVE_MIGRATABLE
from usb_provider.model.binding.guests import RunningGuest
from usb_provider.model.binding.pooled import group_holdings, seen_shares
from usb_provider.model.binding.unit_holding import Holding
from usb_provider.model.reporting.host_state import HostView
from usb_provider.model.reporting.tree import ObservedProvider
from usb_provider.model.units.providers import groups_of

UnitsHeld = Mapping[str, Mapping[str, int]]
"""What a consumer holds: by provider, by UUID, the units of each class."""


def holdings(view: HostView) -> list[Holding]:
    """Every unit of every provider of ours in *view*, held or not; of a pool or bundle by ``view.shares``."""
    plugged = {each.provider_uuid: each for each in view.devices if each.group is None}
    groups = {group.provider.uuid for group in groups_of(view.tree, view.devices) if group.provider is not None}
    return [
        Holding(
            provider.uuid,
            provider.name,
            frozenset(provider.entitled),
            plugged.get(provider.uuid),
            NOT_LIVE_MIGRATABLE in provider.traits,
            leaving=frozenset(provider.leaving),
        )
        for provider in view.tree.providers.values()
        if provider.managed and provider.uuid not in groups
    ] + group_holdings(view)


def held_by(
    guest_uuid: str,
    held: UnitsHeld,
    view: HostView,
    running: Sequence[RunningGuest] = (),
    known: Collection[str] | None = None,
) -> list[Holding]:
    """The units in *held* that are on this host, with *guest_uuid* as their only consumer, whatever *view* says.

    A unit that a user has asked back is not among them: the guest does not get it.

    :param running: the guests that have devices now, and *known* all guests: they tell which members of
        a pool are free.
    """
    mine = frozenset({guest_uuid})
    view = _as_claimed(guest_uuid, held, view)
    # The guest itself is no migration, also before libvirt lists it.
    there = None if known is None else {*known, guest_uuid}
    view = dataclasses.replace(view, shares=seen_shares(view, running, there))
    return [
        dataclasses.replace(each, consumers=mine)
        for each in holdings(view)
        if each.provider_uuid in held and _is_for(guest_uuid, each)
    ]


def _is_for(guest_uuid: str, unit: Holding) -> bool:
    """Whether the guest, which holds units of its provider, is to have *unit*: not one that a user has asked back."""
    return guest_uuid in unit.consumers or (unit.member is None and guest_uuid not in unit.leaving)


def _as_claimed(guest_uuid: str, held: UnitsHeld, view: HostView) -> HostView:
    """*view* with what *guest_uuid* claims of each pool and bundle now."""
    providers: dict[str, ObservedProvider] = dict(view.tree.providers)
    for group in groups_of(view.tree, view.devices):
        have = group.provider
        if have is not None:
            others = {consumer: has for consumer, has in have.allocations.items() if consumer != guest_uuid}
            if have.uuid in held:
                others[guest_uuid] = held[have.uuid]
            providers[have.uuid] = dataclasses.replace(have, allocations=others)
    return dataclasses.replace(view, tree=dataclasses.replace(view.tree, providers=providers))
