"""What to attach to which guest, and what to detach: allocations, devices and hostdevs compared. Pure.

The rules: a device is attached to a guest only while that guest holds its allocation. The agent detaches a device that
it attached when the guest no longer holds it, when it is unplugged or no longer offered, and when its hostdev is dead,
as it is when the device has left the bus since and is back at the same address.
Two guests never have the same device. That udev processes a device again is no reason to detach it. The agent's other
modules apply the decision.
"""

import dataclasses
import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from usb_provider.model.binding.attachments import Attachments
from usb_provider.model.binding.guests import RunningGuest
from usb_provider.model.binding.hostdev import Guest, GuestPort, Hostdev
from usb_provider.model.binding.status import BindingState
from usb_provider.model.binding.unit_holding import Holding
from usb_provider.model.devices.device import UsbDevice
from usb_provider.model.devices.offer import OfferReason

_NOT_KNOWN = Attachments()


class Why(enum.StrEnum):
    """Why a hostdev is detached; the words of the audit trail."""

    GONE = "the device was unplugged"
    WITHDRAWN = "no rule offers the device any more"
    UNAUTHORIZED = "the host does not authorise the device any more"
    HOST_USE = "the host uses the device"
    MOVED = "the device has another address now"
    CONTROLLER = "the device's USB controller is gone: it was reset, unbound or removed"
    HOST_DRIVER = "a driver of the host has taken the device"
    REPLUGGED = "the device was plugged in again, or its controller was reset"
    DEAD = "the guest lost the device when it was restored or migrated"
    RELEASED = "the guest no longer holds its allocation"
    ASKED = "a user asked to detach it"
    DUPLICATE = "it is there twice"


@dataclass(frozen=True, slots=True)
class Detach:
    """Take the hostdev *alias* from the guest. The provider's name is known only while the tree has the provider;
    *key* is the device's, where it is one of a group.
    """

    guest_uuid: str
    guest_name: str
    provider_uuid: str
    hostdev: Hostdev
    why: Why
    provider_name: str | None = None
    key: str | None = None

    @property
    def unit(self) -> str:
        """The unit of the provider that the hostdev is for."""
        return self.hostdev.unit or self.provider_uuid


@dataclass(frozen=True, slots=True)
class Attach:
    """Give *device* to the guest, for the provider that it holds, at its *port* (guest_ports.py).

    *key* is the device's key, where it is one of a group.
    """

    guest_uuid: str
    guest_name: str
    provider_uuid: str
    provider_name: str
    device: UsbDevice
    member: str | None = None
    key: str | None = None
    port: GuestPort | None = None
    guest_reset: str | None = None

    @property
    def unit(self) -> str:
        """The unit of the provider."""
        return self.provider_uuid if self.member is None else f"{self.provider_uuid}-{self.member}"


@dataclass(frozen=True, slots=True)
class Binding:
    """One device that a guest should have: its state, and the *reason* when the guest does not have it.

    ``unit`` tells it from the guest's other units of the provider; ``key`` is the device's, where it is one of a pool.
    ``guest_port`` is where the guest has it.
    """

    guest_uuid: str
    guest_name: str
    provider_uuid: str
    provider_name: str
    state: BindingState
    reason: str | None = None
    unit: str = ""
    key: str | None = None
    guest_port: GuestPort | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do. All detaches come first: a placeholder that stays in the guest could take a device attached later."""

    detaches: tuple[Detach, ...] = ()
    attaches: tuple[Attach, ...] = ()
    bindings: tuple[Binding, ...] = ()


def decide(
    guests: Sequence[RunningGuest],
    holdings: Collection[Holding],
    *,
    known_consumers: Collection[str] = (),
    dead: Collection[tuple[str, str]] = (),
    attachments: Attachments = _NOT_KNOWN,
) -> Decision:
    """What to do about *guests*, given what consumers hold.

    :param holdings: every provider of ours on this host, held or not; a hostdev of ours whose provider is not among
        them is detached.
    :param known_consumers: UUIDs of all guests that this host knows, running or not. Any other consumer may
        be a migration (Nova moves the source's allocation to the migration's UUID), so the guest keeps its device.
    :param dead: (guest UUID, alias) of hostdevs that QEMU has released.
    :param attachments: to which plug of its device each hostdev was attached, as far as that is known.
    """
    by_unit = {holding.unit: holding for holding in holdings}
    asked = {(each.provider_uuid, consumer) for each in holdings for consumer in each.leaving}
    shared = {(each.provider_uuid, consumer) for each in holdings if each.member for consumer in each.consumers}
    known = frozenset(known_consumers)
    detaches: list[Detach] = []
    for running in guests:
        if not running.busy:
            found = _detaches(running.guest, (by_unit, shared), known, frozenset(dead), attachments)
            detaches += [_as_asked(each, asked) for each in found]
    leaving = {(detach.guest_uuid, detach.hostdev) for detach in detaches}
    attaches: list[Attach] = []
    bindings: list[Binding] = []
    for running in guests:
        guest = running.guest
        held = [each for each in holdings if guest.uuid in each.consumers]
        wants = {each.unit: _want(running, each, guests, leaving) for each in held}
        wants |= _not_in_part(held, wants)
        for holding in sorted(held, key=lambda each: (each.name, each.unit)):
            state, reason, attach = wants[holding.unit]
            bindings.append(
                Binding(
                    guest.uuid,
                    guest.name,
                    holding.provider_uuid,
                    holding.name,
                    state,
                    reason,
                    holding.unit,
                    holding.key,
                )
            )
            if attach is not None and not any(detach.guest_uuid == guest.uuid for detach in detaches):
                attaches.append(attach)
    return Decision(tuple(detaches), tuple(attaches), tuple(bindings))


def _detaches(
    guest: Guest,
    units: tuple[Mapping[str, Holding], Collection[tuple[str, str]]],
    known: frozenset[str],
    dead: frozenset[tuple[str, str]],
    attachments: Attachments,
) -> list[Detach]:
    """What to detach from *guest*. *units* are all of them, and who holds some unit of which pool."""
    holdings, shared = units
    found: list[Detach] = []
    seen: set[str] = set()
    for hostdev in guest.ours:
        provider, unit = hostdev.provider_uuid or "", hostdev.unit or ""
        holding = holdings.get(unit)
        why: Why | None = None
        if unit in seen:
            why = Why.DUPLICATE
        elif (guest.uuid, hostdev.alias) in dead or hostdev.missing:
            why = Why.DEAD
        elif (provider, guest.uuid) in shared and (holding is None or guest.uuid not in holding.consumers):
            # It still holds as many units, and has another member now, since this one broke.
            why = Why.GONE if holding is None else _lost(hostdev, holding) or Why.RELEASED
        elif holding is None or not _may_keep(guest, holding, known):
            why = Why.RELEASED
        else:
            why = _lost(hostdev, holding)
            if why is None and holding.present is not None:
                is_earlier = attachments.is_to_earlier_plug(guest.uuid, hostdev, holding.present)
                why = Why.REPLUGGED if is_earlier else None
        seen.add(unit)
        if why is not None:
            name, key = (None, None) if holding is None else (holding.name, holding.key)
            found.append(Detach(guest.uuid, guest.name, provider, hostdev, why, name, key))
    return found


def _as_asked(detach: Detach, asked: Collection[tuple[str, str]]) -> Detach:
    """*detach* with its true cause, where the guest still holds the unit and a user wants it back."""
    is_asked = detach.why is Why.RELEASED and (detach.provider_uuid, detach.guest_uuid) in asked
    return dataclasses.replace(detach, why=Why.ASKED) if is_asked else detach


def _lost(hostdev: Hostdev, holding: Holding) -> Why | None:
    """Why the device of *holding*, which the guest holds, is no longer behind *hostdev*, or None when it is."""
    if holding.present is None:
        return Why.GONE
    if not hostdev.is_at(holding.present):
        return Why.MOVED
    match holding.offer:
        case None | OfferReason.OFFERED | OfferReason.UNSETTLED | OfferReason.UNCONFIGURED | OfferReason.INCOMPLETE:
            # While udev processes a device again, its data may be incomplete, but the device is still there. A guest
            # may itself unset the configuration of a device that it has. When another device of a bundle goes, the
            # guest keeps this one: a program in it may use it.
            return None
        case OfferReason.UNAUTHORIZED:
            return Why.UNAUTHORIZED
        case OfferReason.HOST_USE:
            return Why.HOST_USE
        case (
            OfferReason.NO_RULE
            | OfferReason.EXCLUDED
            | OfferReason.NOT_IDENTIFIED
            | OfferReason.WITHHELD
            | OfferReason.HUB
            | OfferReason.MANAGEMENT
            | OfferReason.NO_MAKER
        ):
            return Why.WITHDRAWN


def _may_keep(guest: Guest, holding: Holding, known: frozenset[str]) -> bool:
    if guest.uuid in holding.consumers:
        return True
    return bool(holding.consumers) and not holding.consumers & known


_Want = tuple[BindingState, str | None, Attach | None]


def _not_in_part(held: Sequence[Holding], wants: Mapping[str, _Want]) -> dict[str, _Want]:
    """Of a bundle of which the guest has nothing yet, no device is attached while another one cannot be."""
    found: dict[str, _Want] = {}
    for provider in {each.provider_uuid for each in held if each.is_bundled}:
        units = {each.unit: each for each in held if each.provider_uuid == provider}
        waiting = [unit for unit in units if wants[unit][0] is BindingState.WAITING]
        if not waiting or any(wants[unit][0] is BindingState.ATTACHED for unit in units):
            continue
        key, reason = units[waiting[0]].key, wants[waiting[0]][1]
        for unit in units.keys() - set(waiting):
            found[unit] = BindingState.WAITING, f"its bundle waits for {key}: {reason}", None
    return found


def _want(
    running: RunningGuest,
    holding: Holding,
    guests: Sequence[RunningGuest],
    leaving: Collection[tuple[str, Hostdev]],
) -> _Want:
    guest, device = running.guest, holding.device
    have = [hostdev for hostdev in guest.ours if hostdev.unit == holding.unit]
    stays = [hostdev for hostdev in have if (guest.uuid, hostdev) not in leaving]
    if stays and not running.busy:
        return BindingState.ATTACHED, None, None
    if device is None:
        return BindingState.WAITING, holding.why_not, None
    if running.busy:
        return BindingState.PENDING, "the guest is still starting, or being restored or migrated", None
    other = holder(device, guests, besides=guest.uuid)
    if other is not None:
        return BindingState.WAITING, f"guest {other} has it", None
    attach = Attach(
        guest.uuid,
        guest.name,
        holding.provider_uuid,
        holding.name,
        device,
        holding.member,
        holding.key,
        guest_reset=holding.guest_reset,
    )
    return BindingState.PENDING, None, attach


def holder(device: UsbDevice, guests: Sequence[RunningGuest], *, besides: str) -> str | None:
    """The name of another guest that has *device* attached, by the agent or by another program."""
    for running in guests:
        if running.guest.uuid != besides and any(hostdev.is_at(device) for hostdev in running.guest.hostdevs):
            return running.guest.name
    return None
