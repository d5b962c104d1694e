"""Which providers of absent devices were last written long enough ago to be deleted. Writes nothing.

plan.py checks the other conditions for a deletion.
"""

import datetime

from usb_provider.model.reporting.tree import ObservedProvider, ObservedTree
from usb_provider.placement.client import PlacementClient


class PurgeClock:
    """Asks Placement when a provider was last written, once for each of its generations."""

    def __init__(self, client: PlacementClient) -> None:
        self._client = client
        self._written: dict[str, tuple[int, datetime.datetime | None]] = {}

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
            is_left = provider.managed and provider.absent and not provider.allocated and not provider.inventories
            if is_left and provider.uuid not in tree.parents:
                since = self._last_written(provider)
                if since is not None and (now - since).total_seconds() > after:
                    expired.add(provider.uuid)
        return frozenset(expired)

    def _last_written(self, provider: ObservedProvider) -> datetime.datetime | None:
        generation, since = self._written.get(provider.uuid, (None, None))
        if generation != provider.generation:
            since = self._client.last_modified(provider.uuid)
            self._written[provider.uuid] = provider.generation, since
        return since
