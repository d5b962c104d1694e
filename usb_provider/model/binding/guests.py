"""The guests of this host as one frozen value: which run, which are known, which have arrived and which have ended.

Pure. virt/domain.py reads them; decision.py decides which devices they should have.
"""

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
    """

    running: tuple[RunningGuest, ...] = ()
    known: frozenset[str] = frozenset()
    arrived: frozenset[str] = frozenset()
    ended: frozenset[str] = frozenset()
    notes: tuple[Note, ...] = ()
