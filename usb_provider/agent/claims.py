"""What guests hold, as Placement says now: the reporter's view, corrected where a decision depends on it.

Placement raises no generation when an allocation is deleted, so the reporter's view may be wrong about who holds a
device until the agent asks. The binder decides what follows from it; nothing is written here.
"""

import dataclasses
import functools
import logging
import time
from collections.abc import Collection, Sequence
from concurrent.futures import Executor, Future, wait
from typing import Protocol

from usb_provider.exception import Conflict, UsbProviderError
from usb_provider.model.devices.device import UsbDevice
from usb_provider.model.reporting.guest_news import NO_NEWS, GuestNews
from usb_provider.model.reporting.host_state import HostView
from usb_provider.model.reporting.tree import Allocations, ObservedTree, with_holders
from usb_provider.model.units.sharing import Shares

LOG = logging.getLogger(__name__)

_AWAY_SECONDS = 15.0
"""How long the agent waits before it asks Placement again after a request without an answer."""


class Claims(Protocol):
    """What the binder needs of Placement, and of the reporter, which shares its view."""

    def view(self) -> HostView | None:
        """The tree as last read, with the devices as they are now; None while Placement was never read."""

    def holders(self, provider_uuid: str) -> tuple[int, Allocations]:
        """The provider's generation and who holds it, read now. :raises Conflict: when it is gone."""

    def doubt(self, provider_uuids: Collection[str]) -> None:
        """The consumers of these providers have changed without a new generation: read them again."""

    def tell_shares(self, shares: Shares) -> None:
        """Guests show that consumers have these members of pools."""

    def tell_news(self, news: GuestNews) -> None:
        """The guests have *news*, which takes the place of what was told before."""

    def outdated(self) -> None:
        """The view is older than what Placement has: make a reporting pass at once."""


class ConfirmedClaims:
    """The view that the binder decides on. One thread may use it; any may set :attr:`interval`.

    :param seconds: how long Placement may take to say who holds the devices.
    :param interval: seconds after which the agent asks about every attached device, even if nothing has changed.
    """

    def __init__(self, claims: Claims, askers: Executor, *, seconds: float, interval: float) -> None:
        self._claims = claims
        self._askers = askers
        self._seconds = seconds
        self.interval = interval
        self._tree: ObservedTree | None = None
        self._told: Shares | None = None
        self._told_news = NO_NEWS
        self._corrections: dict[str, tuple[int, Allocations]] = {}
        self._outdated: ObservedTree | None = None
        self._all_asked_at = time.monotonic()
        self._away_until = 0.0

    def view(self) -> HostView | None:
        """The tree as last read, corrected, with the devices as they are now; None while Placement was never read."""
        view = self._claims.view()
        if view is None:
            return None
        if view.tree is not self._tree:  # it was read after our correction, or the agent asks about it again
            self._tree, self._corrections = view.tree, {}
        return dataclasses.replace(view, tree=with_holders(view.tree, self._corrections))

    def doubtful(self, decided: Collection[str], attached: Collection[str]) -> frozenset[str]:
        """Providers to ask about: those that a decision is about, and from time to time all that are *attached*."""
        now = time.monotonic()
        if now - self._all_asked_at < self.interval:
            return frozenset(decided)
        self._all_asked_at = now
        return frozenset(decided) | frozenset(attached)

    def confirm(self, view: HostView, provider_uuids: Collection[str]) -> tuple[frozenset[str], bool]:
        """Ask who holds these providers. Give those for which *view* is too old to decide anything, and whether
        :meth:`view` gives another answer now.

        Where Placement does not answer, what is known stays valid.
        """
        asked = sorted(frozenset(provider_uuids) & view.tree.providers.keys())
        if not asked or time.monotonic() < self._away_until:
            return frozenset(), False
        old: set[str] = set()
        is_corrected = False
        for uuid, answer in zip(asked, self._ask(asked), strict=True):
            known = view.tree.providers[uuid]
            if isinstance(answer, Conflict) or (answer is not None and answer[0] != known.generation):
                old.add(uuid)
            elif answer is not None and answer[1] != known.allocations:
                self._corrections[uuid] = answer
                self._claims.doubt([uuid])
                is_corrected = True
        if old and self._tree is not self._outdated:  # once: while passes fail, the tree stays the same
            self._outdated = self._tree
            self._claims.outdated()
        return frozenset(old), is_corrected

    def holders_outside(self, provider_uuids: Collection[str]) -> dict[str, Collection[str] | None]:
        """The consumers of each of these providers, which are not in the tree; None where Placement does not say."""
        asked = sorted(provider_uuids)
        if not asked or time.monotonic() < self._away_until:
            return dict.fromkeys(asked)
        return {
            uuid: None if answer is None else () if isinstance(answer, Conflict) else answer[1].keys()
            for uuid, answer in zip(asked, self._ask(asked), strict=True)
        }

    def tell_shares(self, shares: Shares) -> None:
        """Tell the reporter once that consumers have these members of pools, and have it make a pass."""
        if shares != self._told:
            self._told = shares
            self._claims.tell_shares(shares)
            self._claims.outdated()

    def tell_news(self, news: GuestNews) -> None:
        """Tell the reporter once what is new of the guests, and have it make a pass where it has to write."""
        if news != (told := self._told_news):
            self._told_news = news
            self._claims.tell_news(news)
            if news.carried_out or (news.waiting or frozenset()) != (told.waiting or frozenset()):
                self._claims.outdated()

    def device_of(self, unit: str) -> UsbDevice | None:
        """The device of a unit as it is now; None where it is not plugged in. Safe in any thread."""
        view = self._claims.view()
        devices = () if view is None else view.devices
        return next((each.device for each in devices if each.unit == unit), None)

    def _ask(self, uuids: Sequence[str]) -> "list[_Answer]":
        """Who holds each of *uuids*, asked in parallel: a Conflict when it is gone, None when it is not known."""
        futures = [self._askers.submit(functools.partial(self._claims.holders, uuid)) for uuid in uuids]
        wait(futures, timeout=self._seconds)
        answers = [_answer(future) for future in futures]
        if None in answers:
            LOG.debug("Placement does not say which consumers hold the devices; the agent goes by its last look.")
            self._away_until = time.monotonic() + _AWAY_SECONDS
        return answers


_Answer = tuple[int, Allocations] | Conflict | None


def _answer(future: "Future[tuple[int, Allocations]]") -> _Answer:
    try:
        return future.result() if future.done() else None
    except Conflict as error:
        return error
    except UsbProviderError as error:
        LOG.debug("%s", error)
        return None
