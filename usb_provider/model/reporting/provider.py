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
from usb_provider.model.units.completeness import Part, is_bundle, lacks
from usb_provider.model.units.names import unit_id
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
    """The provider of an offered device, pool or bundle: its class, the traits that we write, and its units."""

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
    a pool or a bundle, they are the group's. ``desired`` is set exactly when the device is offered as a unit of its
    own and the root is known.

    ``group`` is the key of the pool or bundle of which the device is a member now. ``stays`` tells that the rules have
    another place for it, which it gets when its consumer releases it. ``drained``: its rule, or an operator by
    command, says that no further consumer gets it.
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
    group: str | None = None
    stays: bool = False
    drained: bool = False
    unit: str | None = None
    """What follows the prefix in the alias of its hostdev; None while the root is unknown."""
    promised: str | None = None
    """The key of the group, or its own, under which Placement still offers it, while the rules have another place."""
    guest_reset: str | None = None
    """What its rule says of resets by a guest."""

    @property
    def offered(self) -> bool:
        """Whether a rule offers it and no guard prevents that."""
        return self.verdict is OfferReason.OFFERED

    @property
    def member_id(self) -> str | None:
        """What tells it from the other members of its group, 16 hexadecimal digits; None where there is no group."""
        if self.group is None or self.unit is None:
            return None
        return self.unit.removeprefix(f"{self.provider_uuid}-")

    @property
    def able(self) -> bool:
        """Whether nothing but the rest of its bundle prevents that it is offered."""
        return self.verdict in (OfferReason.OFFERED, OfferReason.INCOMPLETE)


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


def group_key(root_uuid: str, uuid_: str, name: str, prefix: str) -> str | None:
    """The key of the group whose provider has this UUID and *name*; None where it is no group's.

    It begins with *prefix*. The root's name may have our mark in it, and digests may follow the key. The UUID is
    certain.
    """
    mark = f"{NAME_MARK}{prefix}"
    _, *ends = name.split(mark)
    for number in range(len(ends)):
        key = f"{prefix}{mark.join(ends[number:])}"
        while key.startswith(prefix):
            if provider_uuid(root_uuid, key) == uuid_:
                return key
            key = key.rpartition("_")[0]
    return None


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
    by the same key. *shares* are the members of pools and bundles that consumers have; their keys are *held* as well.
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
    for each in offers:
        who = identities[each.device.sys_name]
        if _takes_the_place(each, who, shares):
            identities[each.device.sys_name] = dataclasses.replace(who, withheld=None, withheld_for=None)
    assessed = [
        _assess(
            _as_lent(each, specs, identities[each.device.sys_name].key, held, marks),
            identities[each.device.sys_name],
            root,
            serial_trait,
            _unit_of(each, identities[each.device.sys_name], held, shares),
        )
        for each in offers
    ]
    rules = {each.device.sys_name: None if each.rule is None else each.rule.number for each in offers}
    return _without_incomplete(assessed, rules, specs, shares)


def _takes_the_place(made: offer.Offer, who: Identity, shares: Shares) -> bool:
    """Whether the device is where a held member of a group was, and may be one in its place by its rule."""
    missing = shares.get(who.withheld_for or "")
    return missing is not None and made.rule is not None and made.rule.group == missing.group


def _without_incomplete(
    assessed: Sequence[Assessment], rules: Mapping[str, int | None], specs: Sequence[DeviceSpec], shares: Shares
) -> tuple[Assessment, ...]:
    """*assessed*, but without the devices of bundles that lack something. *rules* has the number of each one's rule."""
    lacking: dict[str, str | None] = {}
    for group in {each.group for each in assessed if each.group is not None and is_bundle(each.group)}:
        parts = [
            Part(each.identity.key, rules[each.device.sys_name], None if each.offered else each.reason)
            for each in assessed
            if each.group == group
        ]
        lacking[group] = lacks(group, parts, specs, shares)
    return tuple(
        dataclasses.replace(
            each, verdict=OfferReason.INCOMPLETE, reason=f"Not offered: {why}.", resource_class=None, traits=frozenset()
        )
        if each.offered and each.group is not None and (why := lacking.get(each.group)) is not None
        else each
        for each in assessed
    )


@dataclass(frozen=True, slots=True)
class _UnitOf:
    """The group of which a device is a member, if any, and whether that is only until its consumer releases it."""

    group: str | None
    stays: bool


def _unit_of(made: offer.Offer, who: Identity, held: Callable[[str], Held], shares: Shares) -> _UnitOf:
    by_rule = made.rule.group if made.rule is not None else None
    if who.key in shares:
        group = shares[who.key].group
        return _UnitOf(group, stays=group != by_rule)
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
    key = unit_of.group or who.key
    uuid_ = provider_uuid(root.uuid, key) if root else None
    name = provider_name(root.name, key) if root and root.name else None
    unit = unit_id(uuid_, provider_uuid(root.uuid, who.key)) if root and uuid_ and unit_of.group is not None else uuid_
    rc = resource_class(device, spec) if spec else None
    is_single = unit_of.group is None and not unit_of.stays
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
        group=unit_of.group,
        stays=unit_of.stays,
        drained=spec is not None and spec.drain,
        unit=unit,
        guest_reset=None if spec is None or spec.guest_reset is None else spec.guest_reset.value,
    )
