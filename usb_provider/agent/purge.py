"""Which providers of absent devices may be set aside, and which of those may be deleted. Writes nothing.

A purge takes a provider out of its tree first and deletes it later, since every build on the host fails while
nova-compute has a deleted provider in its cache (docs/adr/0003-absent-providers-stay.md). model/reporting/ decides
which providers may be purged at all, and plans the steps.
"""

import datetime
import logging
import time
from collections.abc import Iterable

from usb_provider.model.reporting.plan import Action, DeleteProvider, SetAsideProvider
from usb_provider.model.reporting.provider import NAME_MARK, Root
from usb_provider.model.reporting.tree import ObservedProvider, ObservedTree
from usb_provider.placement.client import UNPARENT, PlacementClient

LOG = logging.getLogger(__name__)


class PurgeClock:
    """Asks Placement when a provider was last written, once for each of its generations.

    It asks once which providers of the host are set aside, and remembers since when it knows about each.
    """

    def __init__(self, client: PlacementClient) -> None:
        self._client = client
        self._written: dict[str, tuple[int, datetime.datetime | None]] = {}
        self._supported: bool | None = None
        self._set_aside: dict[str, tuple[str, float]] | None = None

    def expired(self, tree: ObservedTree, after: int) -> frozenset[str]:
        """UUIDs of absent and free providers that were last written more than *after* seconds ago; none for 0.

        A provider to which an operator added a child provider cannot be deleted, and stays.

        :raises Unavailable: when Placement does not answer; back off and look again.
        """
        if after <= 0:
            return frozenset()
        now = datetime.datetime.now(datetime.UTC)
        expired = set()
        for provider in tree.providers.values():
            if provider.half_purged:
                expired.add(provider.uuid)
            elif provider.purgeable and provider.uuid not in tree.parents:
                since = self._last_written(provider)
                if since is not None and (now - since).total_seconds() > after:
                    expired.add(provider.uuid)
        return frozenset(expired) if expired and self._is_supported() else frozenset()

    def due(self, root: Root, after: int, wait: int) -> dict[str, str]:
        """Names by UUID of the host's providers that were set aside at least *wait* seconds ago; none for *after* 0.

        :raises Unavailable: when Placement does not answer; back off and look again.
        """
        if after <= 0:
            self._set_aside = None
            return {}
        now = time.monotonic()
        if self._set_aside is None:
            marks = (f"{root.name}{NAME_MARK}", f"{root.name[:100]}{NAME_MARK}")
            found = [each for each in self._client.set_aside_providers() if each.parent_uuid is None]
            self._set_aside = {each.uuid: (each.name, now) for each in found if each.name.startswith(marks)}
        return {uuid: name for uuid, (name, since) in self._set_aside.items() if now - since >= wait}

    def note(self, done: Iterable[Action]) -> None:
        """Take note of what was done in Placement."""
        if self._set_aside is None:
            return
        for action in done:
            if isinstance(action, SetAsideProvider):
                self._set_aside[action.provider_uuid] = (action.name, time.monotonic())
            elif isinstance(action, DeleteProvider):
                self._set_aside.pop(action.provider_uuid, None)

    def _is_supported(self) -> bool:
        if self._supported is None:
            newest = self._client.microversions()[1]
            self._supported = _number(newest) >= _number(UNPARENT)
            if not self._supported:
                LOG.warning(
                    "[agent]purge_absent_after has no effect: it needs microversion %s of Placement (Xena), and this "
                    "Placement supports %s at most; upgrade it, or set purge_absent_after to 0.",
                    UNPARENT,
                    newest,
                )
        return self._supported

    def _last_written(self, provider: ObservedProvider) -> datetime.datetime | None:
        generation, since = self._written.get(provider.uuid, (None, None))
        if generation != provider.generation:
            since = self._client.last_modified(provider.uuid)
            self._written[provider.uuid] = provider.generation, since
        return since


def _number(microversion: str) -> tuple[int, ...]:
    return tuple(int(part) for part in microversion.split("."))
