"""What the providers of this host should be: offered devices turned into names, UUIDs, classes and traits.

Everything is computed from the root and the devices; nothing is remembered. tree.py has what Placement holds, and
plan.py the difference between the two.
"""

import dataclasses
import hashlib
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import placement_traits
from usb_provider.model.devices import identity, offer
from usb_provider.model.devices.device import Speed, UsbDevice
from usb_provider.model.devices.held import NOT_HELD, Held, Sighting
from usb_provider.model.devices.identity import Identity
from usb_provider.model.devices.keys import JUNK, JunkSerials
from usb_provider.model.devices.offer import OfferReason
from usb_provider.model.devices.plugged import NO_DEMAND, Demand
from usb_provider.model.devices.spec import DeviceSpec
from usb_provider.model.units.names import pool_key, unit_id
from usb_provider.model.units.sharing import NO_SHARES, Shares

NAME_LIMIT = 200
"""Longest provider name that Placement takes (placement/schemas/resource_provider.py)."""

NAME_MARK = "_usb_"
"""Part of every name that we give, so that a listing of the tree tells which providers can be ours."""


@dataclass(frozen=True, slots=True)
class Root:
    """Nova's compute node provider: what our names and UUIDs are computed from."""

    uuid: str
    name: str


@dataclass(frozen=True, slots=True)
class DesiredProvider:
    """The provider of one offered device or one pool: its class, the traits that we write, how many units there are."""

    uuid: str
    name: str
    resource_class: str
    traits: frozenset[str]
    units: int = 1


@dataclass(frozen=True, slots=True)
class Assessment:
    """All that is known of one device on this host, offered or not.

    ``verdict`` is why it is offered or not, and ``reason`` says so in a sentence.
    ``provider_uuid`` is None while the root is unknown, ``provider_name`` likewise; where the device is a member of
    a pool, they are the pool's. ``desired`` is set exactly when the device is offered as a unit of its own and the root
    is known.

    ``pool`` is the pool of which the device is a member now. ``stays`` tells that the rules have another place for it,
    which it gets when its consumer releases it.
    """

    device: UsbDevice
    identity: Identity
    verdict: OfferReason
    reason: str
    resource_class: str | None
    traits: frozenset[str]
    provider_uuid: str | None
    provider_name: str | None
    desired: DesiredProvider | None
    pool: str | None = None
    stays: bool = False
    unit: str | None = None
    """What follows the prefix in the alias of its hostdev; None while the root is unknown."""

    @property
    def offered(self) -> bool:
        """Whether a rule offers it and no guard prevents that."""
        return self.verdict is OfferReason.OFFERED


def provider_uuid(root_uuid: str, key: str) -> str:
    """The UUID of *key*'s provider below *root_uuid*: RFC 4122 version 5, with the root as the namespace.

    >>> import uuid; str(uuid.uuid5(uuid.UUID(root_uuid), key))
    """
    return str(uuid.uuid5(uuid.UUID(root_uuid), key))


def provider_name(root_name: str, key: str) -> str:
    """``<root name>_usb_<key>``; beyond Placement's 200 characters, both parts are cut and a digest keeps it unique."""
    name = f"{root_name}{NAME_MARK}{key}"
    if len(name) <= NAME_LIMIT:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    head = f"{root_name[:100]}{NAME_MARK}"
    return f"{head}{key[: NAME_LIMIT - len(head) - len(digest) - 1]}_{digest}"


def folded(name: str) -> str:
    """*name* as MariaDB and MySQL compare it: without case and without spaces at its end (``utf8mb4_general_ci``)."""
    return name.rstrip(" ").lower()


def distinct_name(name: str, uuid_: str) -> str:
    """*name* made different from one that Placement's database takes for the same (of serials ``abc`` and ``ABC``)."""
    end = f"_{uuid_.partition('-')[0]}"
    return f"{name[: NAME_LIMIT - len(end)]}{end}"


def device_traits(device: UsbDevice, spec: DeviceSpec, *, serial_trait: bool) -> frozenset[str]:
    """Every trait that we write on the provider of *device* when *spec* offers it."""
    names = {
        placement_traits.MANAGED,
        None if spec.live_migratable else placement_traits.NOT_LIVE_MIGRATABLE,
        placement_traits.vendor_trait(device.vendor_id),
        placement_traits.product_trait(device.vendor_id, device.product_id),
        placement_traits.speed_trait(device.speed) if device.speed is not Speed.UNKNOWN else None,
        placement_traits.serial_trait(device.serial) if serial_trait and device.serial else None,
        *placement_traits.class_traits(device.classes),
        *spec.traits,
    }
    return frozenset(name for name in names if name is not None)


def resource_class(device: UsbDevice, spec: DeviceSpec) -> str:
    """The class that *spec* gives, else the one suggested for this kind of device."""
    return spec.resource_class or placement_traits.suggest(
        device.vendor_id, device.product_id, device.device_class, device.interfaces
    )


def assess(
    devices: Iterable[UsbDevice],
    specs: Sequence[DeviceSpec],
    *,
    root: Root | None = None,
    junk: JunkSerials = JUNK,
    serial_trait: bool = False,
    held: Callable[[str], Held] = lambda key: NOT_HELD,
    claimed: Collection[str] = (),
    seen: Mapping[str, Sighting] = MappingProxyType({}),
    marks: Callable[[str], Collection[str]] = lambda key: (),
    shares: Shares = NO_SHARES,
) -> tuple[Assessment, ...]:
    """Each device's verdict, identity and provider, ordered by where it is plugged in.

    *held*, *claimed* and *seen* tell what is allocated and what was seen, by provider key; see
    :func:`usb_provider.model.devices.identity.assign`. *marks* gives the signatures on the medium that a guest wrote,
    by the same key. *shares* are the members of pools that consumers have; their keys are *held* as well.
    """
    offers = sorted(offer.offers(devices, specs), key=lambda each: each.device.order)
    # A device that a guard keeps for the host still has the identity that its rule gives it.
    demands = {
        each.device.sys_name: Demand(each.rule.identity, each.rule.usb_ids) if each.rule else NO_DEMAND
        for each in offers
    }
    identities = identity.assign(
        [each.device for each in offers], demands=demands, junk=junk, held=held, claimed=claimed, seen=seen
    )
    # Any member of a pool may take the place of another, so nothing is kept from consumers in the place of one.
    identities |= {
        name: dataclasses.replace(each, withheld=None, withheld_for=None)
        for name, each in identities.items()
        if each.withheld_for in shares
    }
    return tuple(
        _assess(
            _as_lent(each, specs, identities[each.device.sys_name].key, held, marks),
            identities[each.device.sys_name],
            root,
            serial_trait,
            _unit_of(each, identities[each.device.sys_name], held, shares),
        )
        for each in offers
    )


@dataclass(frozen=True, slots=True)
class _UnitOf:
    """The pool of which a device is a unit, if any, and whether that is only until its consumer releases it."""

    pool: str | None
    stays: bool


def _unit_of(made: offer.Offer, who: Identity, held: Callable[[str], Held], shares: Shares) -> _UnitOf:
    by_rule = made.rule.pool if made.rule is not None else None
    if who.key in shares:
        pool = shares[who.key].pool
        return _UnitOf(pool, stays=pool != by_rule)
    if by_rule is not None and held(who.key).allocated:
        return _UnitOf(None, stays=True)
    return _UnitOf(by_rule, stays=False)


def _as_lent(
    made: offer.Offer,
    specs: Sequence[DeviceSpec],
    key: str,
    held: Callable[[str], Held],
    marks: Callable[[str], Collection[str]],
) -> offer.Offer:
    """*made* without what guests did to the device: the one that holds it, or one that had it."""
    if made.verdict is OfferReason.OFFERED:
        return made
    return offer.while_held(made, specs) if held(key).allocated else offer.without_marks(made, specs, marks(key))


def _assess(made: offer.Offer, who: Identity, root: Root | None, serial_trait: bool, unit_of: _UnitOf) -> Assessment:
    device, spec, verdict, reason = made.device, made.spec, made.verdict, made.reason
    if spec is not None and who.problem is not None:
        verdict = OfferReason.NOT_IDENTIFIED
        reason = f"Not offered by device_spec rule {spec.number}: {who.problem}."
        spec = None
    if spec is not None and who.withheld is not None:
        verdict, reason, spec = OfferReason.WITHHELD, f"Not offered: {who.withheld}.", None
    key = who.key if unit_of.pool is None else pool_key(unit_of.pool)
    uuid_ = provider_uuid(root.uuid, key) if root else None
    name = provider_name(root.name, key) if root and root.name else None
    unit = unit_id(uuid_, provider_uuid(root.uuid, who.key)) if root and uuid_ and unit_of.pool is not None else uuid_
    rc = resource_class(device, spec) if spec else None
    is_single = unit_of.pool is None and not unit_of.stays
    traits = device_traits(device, spec, serial_trait=serial_trait and is_single) if spec else frozenset()
    return Assessment(
        device=device,
        identity=who,
        verdict=verdict,
        reason=reason,
        resource_class=rc,
        traits=traits,
        provider_uuid=uuid_,
        provider_name=name,
        desired=DesiredProvider(uuid_, name, rc, traits) if uuid_ and name and rc and is_single else None,
        pool=unit_of.pool,
        stays=unit_of.stays,
        unit=unit,
    )
