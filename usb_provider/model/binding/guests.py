"""The guests of this host as one frozen value: which run, which are known, which have arrived and which have ended.

Pure. virt/domain.py reads them; decision.py decides which devices they should have.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from usb_provider.model.binding.hostdev import Guest
from usb_provider.model.reporting.plan import Note


@dataclass(frozen=True, slots=True)
class RunningGuest:
    """A guest that runs (or is paused). ``busy``: it is being migrated or restored in, and cannot be changed yet."""

    guest: Guest
    busy: bool = False


@dataclass(frozen=True, slots=True)
class GuestsNow:
    """What one read of libvirt shows, with the events that came meanwhile.

    :ivar running: guests that run or are paused, without those in ``ended``.
    :ivar known: UUIDs of all guests of this host, running or not.
    :ivar arrived: UUIDs of running guests that came from a save file, a snapshot or another host and still have
        hostdevs of ours that they came with. QEMU has none of these hostdevs: each is dead.
    :ivar ended: UUIDs of guests that have ended since the read began.
    :ivar notes: one note on each domain that the agent ignores because it cannot read its XML.
    :ivar unread: UUIDs of these domains, which run and may have devices.
    """

    running: tuple[RunningGuest, ...] = ()
    known: frozenset[str] = frozenset()
    arrived: frozenset[str] = frozenset()
    ended: frozenset[str] = frozenset()
    notes: tuple[Note, ...] = ()
    unread: frozenset[str] = frozenset()

    def dead_hostdevs(
        self, drivers: Mapping[str | None, str | None], under_way: Collection[str]
    ) -> tuple[frozenset[tuple[str, str]], tuple[tuple[str, str], ...]]:
        """The hostdevs of ours that are dead, and those that may be, each by guest and alias.

        :param drivers: the driver of the host on the device of each unit, if there is one.
        :param under_way: UUIDs of guests on which an operation is under way: what they have is not certain.
        """
        dead: set[tuple[str, str]] = set()
        suspects: list[tuple[str, str]] = []
        for each in self.running:
            if each.busy or each.guest.uuid in under_way:
                continue
            for hostdev in each.guest.ours:
                key = (each.guest.uuid, hostdev.alias or "")
                if each.guest.uuid in self.arrived:
                    dead.add(key)
                elif drivers.get(hostdev.unit):
                    suspects.append(key)
        return frozenset(dead), tuple(suspects)
