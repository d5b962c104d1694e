"""To which plug of its device the agent attached each hostdev, by guest and provider. Pure.

A device without a driver of the host may leave the bus and come back at the same address between two looks, as at a
reset of its controller. QEMU then has the device that left, and libvirt shows the hostdev as before: only the number of
the plug tells the two apart. decision.py decides what follows from it; agent/attachment_store.py keeps it on disk.
"""

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from usb_provider.model.binding.guests import RunningGuest
from usb_provider.model.binding.hostdev import GuestPort, Hostdev
from usb_provider.model.devices.device import UsbDevice

_VERSION = 1

Attached = tuple[str, str]
"""Guest, by UUID, and unit: the provider's UUID, and of a pool the member."""


@dataclass(frozen=True, slots=True)
class AttachedPlug:
    """One plug of a device: its number, and the address that the device had."""

    plug_number: int
    busnum: int
    devnum: int

    @classmethod
    def of(cls, device: UsbDevice) -> Self | None:
        """The plug of *device* as it was read; None where its number or its address is not known."""
        if device.plug_number is None or device.busnum is None or device.devnum is None:
            return None
        return cls(device.plug_number, device.busnum, device.devnum)

    def is_of(self, hostdev: Hostdev) -> bool:
        """Whether *hostdev* has this address: a hostdev at another one was attached another time."""
        return (hostdev.bus, hostdev.device) == (self.busnum, self.devnum)


@dataclass(frozen=True, slots=True)
class Attachments:
    """The plug of each attachment, as far as it is known. What is not known counts as attached to the present plug.

    :ivar ports: the port of each guest at which it has, or had, each unit that it holds (guest_ports.py).
    """

    plugs: Mapping[Attached, AttachedPlug] = field(default_factory=dict)
    ports: Mapping[Attached, GuestPort] = field(default_factory=dict)

    def is_to_earlier_plug(self, guest_uuid: str, hostdev: Hostdev, device: UsbDevice) -> bool:
        """Whether *hostdev*, which is at the address of *device*, was attached before *device* was plugged in."""
        known = self.plugs.get((guest_uuid, hostdev.unit or ""))
        if known is None or device.plug_number is None or not known.is_of(hostdev):
            return False
        return known.plug_number != device.plug_number

    def begun(self, attaches: Iterable[tuple[str, str, UsbDevice]]) -> "Attachments":
        """These attachments when the agent begins others: guest, unit, and the device as it was read before."""
        plugs = dict(self.plugs)
        for guest_uuid, unit, device in attaches:
            plugs.pop((guest_uuid, unit), None)
            if (plug := AttachedPlug.of(device)) is not None:
                plugs[guest_uuid, unit] = plug
        return dataclasses.replace(self, plugs=plugs)

    def seen(
        self,
        guests: Iterable[RunningGuest],
        devices: Mapping[str, UsbDevice],
        *,
        leaving: Collection[Attached],
        under_way: Collection[str],
    ) -> "Attachments":
        """These attachments after a look: those that are there no more are forgotten.

        The plug of an attachment that an earlier release made, or whose record was lost, is the present one: that is
        not sure, but a later plug is then noticed.

        :param devices: the devices that are plugged in, by unit.
        :param leaving: attachments that the agent is about to end.
        :param under_way: guests whose attachments change at this moment; all that is known of them stays.
        """
        plugs = {key: plug for key, plug in self.plugs.items() if key[0] in under_way}
        for running in guests:
            for hostdev in running.guest.ours:
                key = (running.guest.uuid, hostdev.unit or "")
                known, device = self.plugs.get(key), devices.get(key[1])
                if known is None or not known.is_of(hostdev):
                    is_sure = not (running.busy or key in leaving or key[0] in under_way)
                    known = AttachedPlug.of(device) if is_sure and device and hostdev.is_at(device) else None
                if known is not None:
                    plugs[key] = known
        return self if plugs == self.plugs else dataclasses.replace(self, plugs=plugs)

    def to_json(self) -> dict[str, object]:
        """As it is stored; :meth:`from_json` reads it."""
        return {
            "version": _VERSION,
            "attachments": [
                {
                    "guest_uuid": guest,
                    "provider_uuid": provider,
                    "plug_number": plug.plug_number,
                    "busnum": plug.busnum,
                    "devnum": plug.devnum,
                }
                for (guest, provider), plug in sorted(self.plugs.items())
            ],
            "ports": [
                {"guest_uuid": guest, "provider_uuid": provider, "port": str(port)}
                for (guest, provider), port in sorted(self.ports.items())
            ],
        }

    @classmethod
    def from_json(cls, stored: object) -> Self:
        """From what :meth:`to_json` gave; members that a later version may add are ignored.

        :raises ValueError: when it is of another form or version.
        """
        if not isinstance(stored, dict) or stored.get("version") != _VERSION:
            raise ValueError(f"it is not of version {_VERSION}")
        # An older agent wrote no ports.
        records, ports = stored.get("attachments"), stored.get("ports", [])
        if not isinstance(records, list) or not isinstance(ports, list):
            raise ValueError("it has something else where a list should be")
        # A port is only a preference: one that cannot be read is none.
        return cls(dict(map(_attachment, records)), dict(filter(None, map(_port, ports))))


def _attachment(stored: object) -> tuple[Attached, AttachedPlug]:
    record = stored if isinstance(stored, dict) else {}
    guest, provider = record.get("guest_uuid"), record.get("provider_uuid")
    numbers = [record.get(name) for name in ("plug_number", "busnum", "devnum")]
    whole = [number for number in numbers if isinstance(number, int)]
    if not isinstance(guest, str) or not isinstance(provider, str) or len(whole) != len(numbers):
        raise ValueError("it has something else where an attachment should be")
    return (guest, provider), AttachedPlug(*whole)


def _port(stored: object) -> tuple[Attached, GuestPort] | None:
    record = stored if isinstance(stored, dict) else {}
    guest, provider, port = (record.get(name) for name in ("guest_uuid", "provider_uuid", "port"))
    if not isinstance(guest, str) or not isinstance(provider, str) or not isinstance(port, str):
        return None
    try:
        return (guest, provider), GuestPort.parse(port)
    except ValueError:
        return None
