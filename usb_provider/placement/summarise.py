"""Describes the idle providers of a tree with one to three requests, where a full read takes three for each provider.

``GET /allocation_candidates?in_tree=`` answers with a summary of every provider of the tree if any unit of what is
asked for is left in it. This module decides only which providers must be read in full; observe.py reads those.
"""

import logging
from collections.abc import Callable, Sequence

from usb_provider.exception import AccessRefused, Incompatible, Unavailable
from usb_provider.model.reporting.tree import ObservedProvider, ProviderRecord, Summary, from_summary
from usb_provider.placement.client import NEXT_TO_NOTHING, PlacementClient

LOG = logging.getLogger(__name__)

_WORTH_IT = 2
"""The fewest providers for which summaries are asked: one provider costs three requests, as the summaries may."""


class Summaries:
    """Placement's summaries of one tree. One thread may use it at a time."""

    def __init__(self, client: PlacementClient) -> None:
        self._client = client
        self._failed = False

    def of(
        self, root_uuid: str, records: Sequence[ProviderRecord], usual_class: Callable[[], str | None]
    ) -> dict[str, ObservedProvider]:
        """Those of *records* that a summary describes well enough, by UUID; the caller must read the others in full.

        The caller must have listed *records* before: then a summary is never older than the generation in its record,
        and a write that names this generation fails if the summary is newer. *usual_class* gives a resource class that
        many of *records* have; it is asked for if the root has no memory and no CPU left.

        :raises Unavailable: when Placement cannot answer; the next call then asks nothing and describes nothing, so
            that an answer that never comes does not stop the agent.
        """
        if len(records) < _WORTH_IT:
            return {}
        failed, self._failed = self._failed, False
        if failed:
            return {}
        try:
            found = self._ask(root_uuid, usual_class)
        except Unavailable as error:
            if isinstance(error, AccessRefused) and error.lacks_role:
                LOG.info("The agent reads each provider of this host, since Placement gives no summary: %s", error)
                return {}
            self._failed = True
            raise
        summarised = {
            record.uuid: from_summary(record, summary)
            for record in records
            if (summary := found.get(record.uuid)) is not None
        }
        return {uuid: provider for uuid, provider in summarised.items() if provider is not None}

    def _ask(self, root_uuid: str, usual_class: Callable[[], str | None]) -> dict[str, Summary]:
        for resources in NEXT_TO_NOTHING:
            if found := self._summaries(root_uuid, resources):
                return found
        name = usual_class()
        return self._summaries(root_uuid, f"{name}:1") if name is not None else {}

    def _summaries(self, root_uuid: str, resources: str) -> dict[str, Summary]:
        # One candidate is enough, since its summaries are those of the whole tree.
        try:
            return self._client.summaries({"resources": resources, "in_tree": root_uuid, "limit": "1"})
        except Incompatible as error:
            LOG.debug("Placement gives no summary: %s", error)
            return {}
