"""Which guest has which device of each pool and bundle, and which units that makes each consumer hold. Pure.

units/sharing.py decides; this module tells it what is attached now, and turns its answer into holdings.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence

from placement_traits import NOT_LIVE_MIGRATABLE
from usb_provider.model.binding.guests import RunningGuest
from usb_provider.model.binding.unit_holding import Holding
from usb_provider.model.reporting.host_state import HostView
from usb_provider.model.reporting.provider import Assessment, provider_uuid
from usb_provider.model.reporting.tree import ObservedProvider
from usb_provider.model.units.bundles import Bundle, bundles_of
from usb_provider.model.units.names import member_id
from usb_provider.model.units.pools import Pool, pools_of
from usb_provider.model.units.sharing import TAKEN, Share, Shares

_NONE_FREE = "it is not plugged in, and no other member of the pool is free"
_TOO_FEW = "the pool has too few members that can be had"


def seen_shares(view: HostView, running: Sequence[RunningGuest], known: Collection[str] | None = None) -> Shares:
    """Which consumer has which member of a pool or bundle, by *view* and by what the guests in *running* have attached.

    :param known: UUIDs of all guests of this host; None where they are not known.
    """
    shares: dict[str, Share] = {}
    pools = pools_of(view.tree, view.devices)
    for pool in pools:
        attached = {
            each.identity.key: guest for each in view.devices if (guest := _guest_of(each, pool, running)) is not None
        }
        given = pool.shared(
            view.shares,
            also=[_as_attached(each, pool, attached) for each in view.devices],
            attached=attached,
            known=None if known is None else frozenset(known),
        )
        shares |= {key: Share(pool.key, consumer) for key, consumer in sorted(given.items())}
    for bundle in bundles_of(view.tree, view.devices):
        mine = bundle.shared(view.shares)
        shares = {key: Share(bundle.key, consumer) for key, consumer in sorted(mine.items())} | shares
    return shares


def _as_attached(each: Assessment, pool: Pool, attached: Mapping[str, str]) -> Assessment:
    """*each*; one that is no member of *pool* any more, while a guest has it for *pool*, as it is promised there."""
    is_there = attached.get(each.identity.key, TAKEN) != TAKEN and each.group != pool.key
    return dataclasses.replace(each, promised=pool.key) if is_there else each


def _guest_of(each: Assessment, pool: Pool, running: Sequence[RunningGuest]) -> str | None:
    """The guest that has the device, TAKEN where it has it otherwise than as a unit of *pool*; None when none has."""
    for one in running:
        for hostdev in one.guest.hostdevs:
            if hostdev.is_at(each.device):
                is_unit = pool.provider is not None and hostdev.provider_uuid == pool.provider.uuid
                return one.guest.uuid if is_unit else TAKEN
    return None


def group_holdings(view: HostView) -> list[Holding]:
    """Each device of each pool and bundle of ours in *view*, with its consumer by ``view.shares``, held or not."""
    found: list[Holding] = []
    for pool in pools_of(view.tree, view.devices):
        if pool.provider is not None and pool.provider.managed:
            found += _units(pool, pool.provider, view)
    for bundle in bundles_of(view.tree, view.devices):
        if bundle.provider is not None and bundle.provider.managed:
            found += _parts(bundle, bundle.provider, view)
    return found


def _parts(bundle: Bundle, provider: ObservedProvider, view: HostView) -> list[Holding]:
    mine = {key for key, each in view.shares.items() if each.group == bundle.key}
    # One that Placement still offers elsewhere may be another consumer's, so it is not a part yet.
    plugged = {key: each for each in bundle.members if (key := each.identity.key) in mine or each.promised is None}
    keys = dict.fromkeys([*plugged, *(key for key in view.shares if key in mine)])
    stays = NOT_LIVE_MIGRATABLE in provider.traits

    def part(member: str, key: str | None, missing: str) -> Holding:
        there = plugged.get(key or "")
        return Holding(
            provider.uuid,
            provider.name,
            frozenset(provider.entitled),
            there,
            stays,
            member,
            key,
            missing,
            is_bundled=True,
            leaving=frozenset(provider.leaving),
        )

    parts = [
        part(member_id(provider_uuid(view.tree.root.uuid, key)), key, f"{key} of it is not plugged in") for key in keys
    ]
    return parts or [part("missing", None, "none of its devices is plugged in")]


def _units(pool: Pool, provider: ObservedProvider, view: HostView) -> list[Holding]:
    plugged = {each.identity.key: each for each in view.devices}
    shares = {key: each.consumer for key, each in view.shares.items() if each.group == pool.key}
    stays = NOT_LIVE_MIGRATABLE in provider.traits
    units = []

    def unit(key: str | None, consumer: str | None, member: str) -> Holding:
        there = None if key is None else plugged.get(key)
        consumers = frozenset() if consumer is None else frozenset({consumer})
        missing = None if there is not None else (_TOO_FEW if key is None else _NONE_FREE)
        leaving = frozenset(provider.leaving)
        return Holding(provider.uuid, provider.name, consumers, there, stays, member, key, missing, leaving=leaving)

    for key in [*shares, *(each.key for each in pool.members if each.key not in shares)]:
        member = member_id(provider_uuid(view.tree.root.uuid, key))
        units.append(unit(key, shares.get(key), member))
    for consumer, amount in pool.claims.items():
        has = sum(each == consumer for each in shares.values())
        units += [unit(None, consumer, f"missing-{consumer}-{number}") for number in range(has + 1, amount + 1)]
    return units
