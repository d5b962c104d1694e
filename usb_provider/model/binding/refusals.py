"""Why a guest may not start or arrive: each reason as a word for metrics and a sentence for the operator. Pure.

decision.py decides what is attached to a guest that runs.
"""

import enum
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from usb_provider.model.binding.decision import holder
from usb_provider.model.binding.guests import RunningGuest
from usb_provider.model.binding.hostdev import Guest
from usb_provider.model.binding.unit_holding import Holding
from usb_provider.model.devices.device import UsbDevice
from usb_provider.model.devices.offer import OfferReason
from usb_provider.model.guest_controllers import remedy, remedy_for_ports, remedy_for_speed


class Obstacle(enum.StrEnum):
    """Why a start or an arrival is refused, in a word."""

    UNPLUGGED = "unplugged"
    NOT_OFFERED = "not_offered"
    TAKEN = "taken"
    NO_CONTROLLER = "no_controller"
    TOO_FAST = "too_fast"
    NO_PORT = "no_port"
    PLACEMENT = "placement"
    NOT_READ_YET = "not_read_yet"
    NOT_LIVE_MIGRATABLE = "not_live_migratable"
    NOT_CLAIMED = "not_claimed"
    UNREADABLE = "unreadable"


_PASSING = frozenset({Obstacle.UNPLUGGED, Obstacle.PLACEMENT, Obstacle.NOT_READ_YET})


@dataclass(frozen=True, slots=True)
class Refusal:
    """One reason for which the agent refuses a guest's start or arrival: a keyword, and a sentence for the operator.

    ``told`` is the sentence for the owner of the server, to whom Nova shows it; None where it is the operator's. It
    names no other guest, and nothing of the host and the cloud but the device.
    """

    obstacle: Obstacle
    text: str
    told: str | None = None

    def __str__(self) -> str:
        return self.text


def command_to_start(guest_uuid: str, why: Collection[Refusal]) -> str | None:
    """What starts the server whose start was refused for *why*; None unless all that it lacked comes by itself.

    Nova sets a server whose resume at the host's boot fails to ERROR, where "server start" is refused; a hard reboot
    starts a server in ERROR and in SHUTOFF (nova/compute/vm_states.py: ALLOW_HARD_REBOOT).
    """
    if any(each.obstacle not in _PASSING for each in why):
        return None
    return f"openstack server reboot --hard {guest_uuid}"


def start_refusals(guest: Guest, holdings: Collection[Holding], guests: Sequence[RunningGuest]) -> tuple[Refusal, ...]:
    """Why *guest*, which is about to start, cannot have the devices that it holds: a refusal for each; none if it can.

    Each says what to change in flavor or image: the operator reads it in nova-compute's log, without the documents.
    """
    held = [holding for holding in sorted(holdings, key=lambda each: each.name) if guest.uuid in holding.consumers]
    said: list[Refusal] = []
    wanted: list[tuple[Holding, UsbDevice]] = []
    for holding in held:
        if holding.device is None and holding.member is not None:
            continue
        if holding.device is None:
            obstacle = Obstacle.NOT_OFFERED if holding.present is not None else Obstacle.UNPLUGGED
            text = f"USB device {holding.name} is allocated to this instance, but {holding.why_not}."
            told = f"USB device {holding.name} is allocated to this instance, but this host does not offer it now."
            said.append(Refusal(obstacle, text, told if obstacle is Obstacle.NOT_OFFERED else None))
            continue
        other = holder(holding.device, guests, besides=guest.uuid)
        if other is not None:
            text = f"USB device {holding.label} is allocated to this instance, but guest {other} has it."
            told = f"USB device {holding.label} is allocated to this instance, but another guest has it."
            said.append(Refusal(Obstacle.TAKEN, text, told))
            continue
        wanted.append((holding, holding.device))
    return (*said, *_shortages(held), *_incomplete(held), *_controller_refusals(guest, wanted))


def _shortages(held: Sequence[Holding]) -> list[Refusal]:
    """For each pool of which the instance cannot have as many devices as it holds units."""
    said = []
    for name in dict.fromkeys(each.name for each in held if each.member is not None and not each.is_bundled):
        units = [each for each in held if each.name == name]
        had = sum(each.device is not None for each in units)
        if had < len(units):
            text = (
                f"{len(units)} units of USB pool {name} are allocated to this instance, but only {had} of its devices "
                f"can be had."
            )
            said.append(Refusal(Obstacle.UNPLUGGED, text))
    return said


def _incomplete(held: Sequence[Holding]) -> list[Refusal]:
    """For each bundle that the instance cannot have as a whole."""
    said = []
    for name in dict.fromkeys(each.name for each in held if each.is_bundled):
        lacking = [each for each in held if each.name == name and each.device is None]
        # The device that is missing says more than those that are not offered because it is.
        lacking.sort(key=lambda each: (each.present is not None, each.offer is OfferReason.INCOMPLETE))
        if not lacking:
            continue
        text = f"USB bundle {name} is allocated to this instance, but {lacking[0].why_not}."
        told = f"USB bundle {name} is allocated to this instance, but this host does not offer it now."
        is_there = lacking[0].present is not None
        said.append(Refusal(Obstacle.NOT_OFFERED if is_there else Obstacle.UNPLUGGED, text, told if is_there else None))
    return said


def arrival_refusals(
    guest: Guest,
    holdings: Collection[Holding],
    staying: Collection[str],
    units: Mapping[str, int],
    *,
    is_claimed: bool = False,
) -> tuple[Refusal, ...]:
    """Why *guest*, which another host wants to migrate live to this one, may not come: a refusal for each reason.

    :func:`start_refusals`, at its start here, checks whether the devices that it holds here can be attached.

    :param holdings: what it holds here.
    :param staying: UUIDs of the providers, on the other host, of the devices that it has there and that a rule
        there excludes from live migration.
    :param units: how many units a provider on the other host has, by UUID, where the guest has several devices of it:
        those of a bundle are one unit, whose number of devices may be another here.
    :param is_claimed: whether it holds resources of this host's compute node: then Nova has claimed here all that the
        flavor asks for, and the other devices were attached to it. A move loses these.
    """
    brings = Counter(hostdev.provider_uuid or "" for hostdev in guest.ours)
    said: list[Refusal] = []
    kept = {(uuid, "has") for uuid in brings if uuid in staying}
    kept |= {(each.name, "would get") for each in holdings if each.stays}
    for name, verb in sorted(kept):
        text = (
            f"The instance {verb} USB device {name}, which a rule keeps from live migration "
            f'("live_migratable": false); migrate it cold.'
        )
        said.append(Refusal(Obstacle.NOT_LIVE_MIGRATABLE, text))
    has = sum(min(number, units.get(uuid, number)) for uuid, number in brings.items())
    holds = len({each.provider_uuid if each.is_bundled else each.unit for each in holdings})
    if not is_claimed and holds < has:
        plural = "" if has == 1 else "s"
        what = f"USB device{plural}" if has == len(guest.ours) else f"unit{plural} of USB devices"
        text = (
            f"The instance has {has} {what} and holds {holds or 'none'} on this host; let nova choose the host, "
            f"because it claims them there."
        )
        said.append(Refusal(Obstacle.NOT_CLAIMED, text))
    return tuple(said)


def _controller_refusals(guest: Guest, wanted: Sequence[tuple[Holding, UsbDevice]]) -> list[Refusal]:
    if not wanted:
        return []
    if not guest.controllers:
        text = f"The instance has no USB controller for {_names(wanted)}; {remedy(guest.platform)}."
        return [Refusal(Obstacle.NO_CONTROLLER, text)]
    free = [controller.free_ports for controller in guest.controllers]
    said: list[Refusal] = []
    for holding, device in wanted:
        able = [index for index, controller in enumerate(guest.controllers) if controller.takes(device.slowest)]
        port = next((index for index in able if free[index] > 0), None)
        if not able:
            models = ", ".join(controller.model for controller in guest.controllers)
            text = (
                f"USB device {holding.label} is a {device.speed}-speed device, too fast for the instance's USB "
                f"controller ({models}); {remedy_for_speed(guest.platform)}."
            )
            said.append(Refusal(Obstacle.TOO_FAST, text))
        elif port is None:
            text = f"The instance has no free USB port for {holding.label}; {remedy_for_ports(guest.platform)}."
            said.append(Refusal(Obstacle.NO_PORT, text))
        else:
            free[port] -= 1
    return said


def _names(wanted: Sequence[tuple[Holding, UsbDevice]]) -> str:
    return " and ".join(holding.label for holding, _ in wanted)
