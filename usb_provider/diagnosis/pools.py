"""The check of pools: which members are drained, a drain of a member that is not here, and held units that are missing.

It judges what a pass of the reporter would say; the model decides that.
"""

from placement_traits import STATE_SHORT
from usb_provider.diagnosis.check import Check, Finding, count, sentences, some
from usb_provider.diagnosis.context import Context, Maybe, Reading, Reported
from usb_provider.model.text import printable
from usb_provider.model.units.drains import UNKNOWN_DRAIN
from usb_provider.model.units.names import group_words
from usb_provider.model.units.pools import pools_of

REPORTED = Reading("what consumers hold", lambda context: context.neighbours.look())

_TOPICS = (f"{UNKNOWN_DRAIN}:", f"{STATE_SHORT}:")


class PoolsCheck(Check[Reported]):
    """Whether each pool has the units that consumers hold, and each drain is of a member."""

    name = "pools"

    def read(self, context: Context) -> Maybe[Reported]:
        """What Placement and udev say."""
        return context.get(REPORTED)

    def judge(self, facts: Reported) -> Finding:
        """The notes on pools, else how many members each has and which are drained."""
        said = [note.text for note in facts.notes if note.topic.startswith(_TOPICS)]
        if said:
            return self.warning(
                sentences(said), "Do what the sentence says; usb-provider devices shows the members and their keys."
            )
        pools = pools_of(facts.view.tree, facts.view.devices)
        drained = [
            f"{printable(each.key, 60)} of {group_words(pool.key)}"
            for pool in pools
            for each in pool.members
            if each.drained
        ]
        if not pools:
            return self.ok("This host has no pool.")
        members = count(sum(len(pool.members) for pool in pools), "member")
        told = f"; drained: {some(drained)}" if drained else ", of which none is drained"
        return self.ok(f"{count(len(pools), 'pool')} with {members}{told}.")
