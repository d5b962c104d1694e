"""Which USB port of its guest each device has, so that the same device has the same port for good. Pure.

A program in a guest tells two like devices apart by the port. libvirt takes the lowest free port where none is given,
so that two devices that are plugged in again change places. The agent gives the port: a device that is attached keeps
the port that it has, one that was attached before gets that port again, and others get the lowest free ports in the
order of their names, which is the same on each host for devices of different models.

libvirt numbers the ports of a controller from 1, and the address ``bus`` is the controller's index
(src/conf/domain_addr.c, virDomainUSBAddressFindFreePort). hostdev.py reads what is there.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence

from usb_provider.model.binding.attachments import Attachments
from usb_provider.model.binding.decision import Decision
from usb_provider.model.binding.guests import RunningGuest
from usb_provider.model.binding.hostdev import Guest, GuestPort, Hostdev
from usb_provider.model.binding.status import BindingState
from usb_provider.model.binding.unit_holding import Holding
from usb_provider.model.devices.device import Speed


def with_ports(
    decision: Decision, guests: Sequence[RunningGuest], holdings: Collection[Holding], known: Attachments
) -> tuple[Decision, Attachments]:
    """*decision* with the port of each attach and of each device that is attached; and what to remember.

    :param holdings: every unit of this host, held or not.
    :param known: what was remembered before.
    """
    running = {each.guest.uuid: each for each in guests if not each.busy}
    held: dict[str, list[Holding]] = {}
    for holding in holdings:
        for consumer in holding.consumers:
            held.setdefault(consumer, []).append(holding)
    leaving = {(each.guest_uuid, each.hostdev) for each in decision.detaches}
    ports: dict[tuple[str, str], GuestPort] = {}
    for uuid, units in held.items():
        before = {each.unit: port for each in units if (port := known.ports.get((uuid, each.unit))) is not None}
        now = before
        if uuid in running:
            guest = running[uuid].guest
            stay = [each for each in guest.hostdevs if (uuid, each) not in leaving]
            now = assigned(guest, units, before, stay)
        ports |= {(uuid, unit): port for unit, port in now.items()}
    # While Nova moves a guest, its migration has the claim: the guest finds its ports again after a revert.
    moving = {each.unit for each in holdings if each.consumers and not each.consumers & running.keys()}
    ports |= {key: port for key, port in known.ports.items() if key[1] in moving and key not in ports}
    attached = {(each.guest.uuid, hostdev.unit): hostdev.guest_port for each in guests for hostdev in each.guest.ours}
    changed = dataclasses.replace(
        decision,
        attaches=tuple(
            dataclasses.replace(each, port=ports.get((each.guest_uuid, each.unit))) for each in decision.attaches
        ),
        bindings=tuple(
            dataclasses.replace(each, guest_port=attached.get((each.guest_uuid, each.unit)))
            if each.state is BindingState.ATTACHED
            else each
            for each in decision.bindings
        ),
    )
    return changed, known if ports == known.ports else dataclasses.replace(known, ports=ports)


def assigned(
    guest: Guest, units: Collection[Holding], known: Mapping[str, GuestPort], stay: Collection[Hostdev]
) -> dict[str, GuestPort]:
    """The port of each of *units*, which *guest* holds; a unit for which no port is left has none.

    :param known: the port that each unit had before.
    :param stay: the hostdevs of the guest that are not about to go: the port of another one is free for its successor.
    """
    wanted = sorted(units, key=lambda each: (each.name, each.key or "", each.unit))
    there = {hostdev.unit: hostdev.guest_port for hostdev in guest.ours}
    found = {each.unit: port for each in wanted if (port := there.get(each.unit)) is not None}
    taken = {hostdev.guest_port for hostdev in guest.hostdevs if hostdev.unit in found or hostdev in stay}
    usable = {port for each in guest.controllers for port in each.usable_ports}
    for each in wanted:
        port = known.get(each.unit)
        if each.unit not in found and port in usable and port not in taken and _suits(guest, port, each):
            found[each.unit] = port
            taken.add(port)
    # A device that is not there must not take the last port from one that is.
    for each in sorted(wanted, key=lambda each: each.device is None):
        if each.unit in found:
            continue
        free = [port for port in usable - taken if _suits(guest, port, each)]
        if free:
            found[each.unit] = min(free, key=lambda port: port.order)
            taken.add(found[each.unit])
    return found


def _suits(guest: Guest, port: GuestPort, unit: Holding) -> bool:
    speed = Speed.UNKNOWN if unit.device is None else unit.device.slowest
    return any(each.index == port.bus and each.takes(speed) for each in guest.controllers)
