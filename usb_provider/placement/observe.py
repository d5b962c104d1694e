"""Placement's picture of one host's tree: one request when nothing changed, and full reads of what did.

At the first look, summaries describe the idle providers (summarise.py). They do not show all fields of an inventory. So
such a provider is read in full before it is written, and the others a few at a time in looks that find no change.

A provider's generation tells whether anything about it changed, with one exception: Placement does not raise it when an
allocation is deleted (DELETE /allocations, or a PUT that no longer names the provider). So the agent reads again who
holds a provider before it decides anything because of that, see :meth:`Observer.confirm`. What was read is valid only
for its generation. This module does not decide what should be in Placement.
"""

import dataclasses
import math
import threading
from collections.abc import Callable, Collection
from concurrent.futures import Executor

from usb_provider.exception import Conflict, RootMissing
from usb_provider.model.reporting.provider import NAME_MARK, Root
from usb_provider.model.reporting.tree import ObservedProvider, ObservedTree, ProviderRecord
from usb_provider.placement.client import PlacementClient
from usb_provider.placement.summarise import Summaries

QUIET_LOOKS = 60
"""In so many looks that find no change, every provider that only a summary describes is read in full."""


class Observer:
    """Looks at Placement and remembers what it saw, by generation. One thread may use it at a time.

    :meth:`doubt` is safe in any thread.
    """

    def __init__(self, client: PlacementClient, executor: Executor, *, in_full: bool = False) -> None:
        """Ask *client*, on the threads of *executor*; with *in_full*, summaries are not enough."""
        self._client = client
        self._executor = executor
        self._summaries = None if in_full else Summaries(client)
        self._summarised: set[str] = set()
        self._share = 0
        self._share_is_due = False
        self._seen: dict[str, ObservedProvider] = {}
        self._fresh: set[str] = set()
        self._doubted: set[str] = set()
        self._doubting = threading.Lock()
        self._names: frozenset[str] | None = None

    def look(
        self, root: Root, candidates: Collection[str], usual_class: Callable[[], str | None] = lambda: None
    ) -> ObservedTree:
        """The tree below *root* now. *candidates* are UUIDs that may be ours under any name.

        *usual_class* gives the resource class that most of our providers should have, if there are any; it is called
        only where the first look needs it.

        :raises RootMissing: when the root is gone; find it again.
        :raises Conflict: when a provider changes faster than it can be read; look again.
        """
        with self._doubting:
            # First of all: a provider that is doubted from here on may have been read before.
            doubted, self._doubted = self._doubted, set()
        try:
            tree = self._look(root, candidates, usual_class)
            return self.confirm(tree, doubted & tree.providers.keys())
        except BaseException:
            self.doubt(doubted)
            raise

    def doubt(self, uuids: Collection[str]) -> None:
        """Have the next look read again who holds these providers. Safe in any thread."""
        with self._doubting:
            self._doubted |= set(uuids)

    def confirm(self, tree: ObservedTree, uuids: Collection[str]) -> ObservedTree:
        """*tree*, which the last look gave, with the holders of *uuids* read again unless that look did read them.

        :raises Conflict: when a provider has moved on meanwhile; look again.
        """
        doubtful = set(uuids) - self._fresh
        if not doubtful:
            return tree
        self._fresh |= doubtful
        asked = [tree.providers[uuid] for uuid in sorted(doubtful)]
        confirmed = {provider.uuid: provider for provider in self._executor.map(self._holders, asked)}
        self._seen |= confirmed
        return dataclasses.replace(tree, providers={**tree.providers, **confirmed})

    def in_full(self, tree: ObservedTree, uuids: Collection[str]) -> ObservedTree:
        """*tree*, which the last look gave, with those of *uuids* read in full that only a summary describes so far.

        :raises Conflict: when a provider has moved on meanwhile; look again.
        """
        asked = [tree.providers[uuid] for uuid in sorted(self._summarised & set(uuids))]
        if not asked:
            return tree
        read = {provider.uuid: provider for provider in self._executor.map(self._read, asked)}
        self._summarised -= read.keys()
        self._fresh |= read.keys()
        self._seen |= read
        return dataclasses.replace(tree, providers={**tree.providers, **read})

    def a_few_in_full(self, tree: ObservedTree) -> ObservedTree:
        """*tree*, which the last look gave, with the next few providers read in full if that look found no change.

        It reads them at most once for each look.

        :raises Conflict: when a provider has moved on meanwhile; look again.
        """
        if not self._share_is_due:
            return tree
        self._share_is_due = False
        return self.in_full(tree, sorted(self._summarised)[: self._share])

    def remember(self, provider: ObservedProvider) -> None:
        """Remember *provider*, as a write of ours has just left it, as if it had been read."""
        self._seen[provider.uuid] = provider
        self._summarised.discard(provider.uuid)

    def forget(self, uuid: str) -> None:
        """Read the provider again at the next look, if it still exists."""
        self._seen.pop(uuid, None)
        self._summarised.discard(uuid)

    def forget_all(self) -> None:
        """Read everything again at the next look, since the root changed."""
        self._seen.clear()
        self._summarised.clear()

    def known_names(self, prefix: str) -> frozenset[str]:
        """All resource classes, and the traits that start with *prefix*. Placement is asked once."""
        if self._names is None:
            self._names = self._client.resource_classes() | self._client.trait_names(prefix)
        return self._names

    def names_exist(self, names: Collection[str]) -> None:
        """Remember that *names* exist now."""
        if self._names is not None:
            self._names |= frozenset(names)

    def names_may_be_gone(self, names: Collection[str]) -> None:
        """Forget that *names* exist."""
        if self._names is not None:
            self._names -= frozenset(names)

    def forget_names(self) -> None:
        """Ask again which names exist, since a known one is gone."""
        self._names = None

    def _look(self, root: Root, candidates: Collection[str], usual_class: Callable[[], str | None]) -> ObservedTree:
        records = self._client.tree(root.uuid)
        top = next((record for record in records if record.uuid == root.uuid), None)
        if top is None:
            self.forget_all()
            raise RootMissing(f"The compute node provider {root.name} ({root.uuid}) is gone from Placement.")
        ours = [
            record
            for record in records
            if record is not top
            and (NAME_MARK in record.name or record.uuid in candidates or record.uuid in self._seen)
        ]
        changed = [record for record in ours if not self._is_as_seen(record)]
        is_first = self._summaries is not None and not self._seen
        summarised = self._summaries.of(root.uuid, changed, usual_class) if self._summaries and is_first else {}
        asked = [record for record in changed if record.uuid not in summarised]
        fresh = summarised | {provider.uuid: provider for provider in self._executor.map(self._read, asked)}
        self._seen = {record.uuid: fresh.get(record.uuid) or self._seen[record.uuid] for record in ours}
        self._fresh = set(fresh)
        self._summarised = (self._summarised - fresh.keys()) & self._seen.keys() | summarised.keys()
        self._share_is_due = not changed
        if is_first:
            self._share = math.ceil(len(summarised) / QUIET_LOOKS)
        parents = frozenset(record.parent_uuid for record in records if record.parent_uuid is not None)
        return ObservedTree(Root(top.uuid, top.name), dict(self._seen), parents)

    def _is_as_seen(self, record: ProviderRecord) -> bool:
        """Compares the name too: Placement keeps the generation when a name changes, and restarts it after a delete."""
        seen = self._seen.get(record.uuid)
        return seen is not None and (seen.generation, seen.name) == (record.generation, record.name)

    def _holders(self, provider: ObservedProvider) -> ObservedProvider:
        generation, allocations = self._client.allocations(provider.uuid)
        if generation != provider.generation:
            raise Conflict(f"{provider.name} changed since the last look.", provider_uuid=provider.uuid)
        return dataclasses.replace(provider, allocations=allocations)

    def _read(self, record: ProviderRecord | ObservedProvider) -> ObservedProvider:
        return self._client.observe(record.uuid, record.name)
