"""What the reporting loop remembers from pass to pass and over a restart: sightings, lent disks, members of pools. And
what the binding loop tells it.

model/ says what follows from it; store.py has the files.
"""

import dataclasses
import queue
from collections.abc import Sequence

from usb_provider.agent.store import StateStore
from usb_provider.model.devices.lent import LentDisks
from usb_provider.model.devices.sightings import Sightings
from usb_provider.model.reporting.guest_news import NO_NEWS, GuestNews
from usb_provider.model.reporting.plan import Note
from usb_provider.model.reporting.provider import Assessment
from usb_provider.model.reporting.tree import ObservedTree
from usb_provider.model.units.drains import drain_notes
from usb_provider.model.units.sharing import PoolMemory, Shares


class Remembered:
    """The three memories as they are now. One thread uses it; only what begins with ``tell`` is safe in any thread.

    :ivar news: what is new of the guests, as the binding loop told last.
    """

    def __init__(self, store: StateStore) -> None:
        self.sightings = Sightings()
        self.lent = LentDisks()
        self.pools = PoolMemory()
        self._store = store
        self._is_read = False
        self._told: queue.SimpleQueue[Shares] = queue.SimpleQueue()
        self.news: GuestNews = NO_NEWS

    def tell_shares(self, shares: Shares) -> None:
        """Have the next pass go by *shares*: they come from what the guests have attached. Safe in any thread."""
        self._told.put(shares)

    def tell_news(self, news: GuestNews) -> None:
        """Have the next pass write what follows from *news*. Safe in any thread."""
        self.news = news

    def begin(self) -> None:
        """Begin a look: read the files if they were not read yet, and take what was told since the last look."""
        if not self._is_read:
            self.sightings, self.lent, self.pools = self._store.sightings(), self._store.lent(), self._store.pools()
            self._is_read = True
        # A queue loses nothing that is told at this moment: the binding loop says it only once.
        while not self._told.empty():
            self.pools = dataclasses.replace(self.pools, shares=self._told.get())

    @property
    def keys(self) -> frozenset[str]:
        """The keys of all devices, pools and bundles that it tells of."""
        return self.pools.groups | self._device_keys

    def notes(self, tree: ObservedTree, devices: Sequence[Assessment]) -> tuple[Note, ...]:
        """What an operator should know of drains in *tree* that are of no device here, now or before."""
        return drain_notes(tree, devices, self._device_keys)

    @property
    def _device_keys(self) -> frozenset[str]:
        return frozenset({*self.sightings.by_key, *self.pools.members, *self.pools.shares})

    def keep(self) -> None:
        """Write to the files what has changed."""
        self._store.remember_sightings(self.sightings)
        self._store.remember_lent(self.lent)
        self._store.remember_pools(self.pools)
