"""How many providers a host may have: a device can show another serial number at each plug. Pure.

Every other name that a device makes the agent create belongs to a provider, so this bounds them all.
"""

from collections.abc import Sequence

from usb_provider.model.reporting.plan import Note
from usb_provider.model.reporting.provider import DesiredProvider
from usb_provider.model.reporting.tree import ObservedTree
from usb_provider.model.text import printable


def within_limit(
    desired: Sequence[DesiredProvider], tree: ObservedTree, limit: int
) -> tuple[list[DesiredProvider], tuple[Note, ...]]:
    """Those of *desired* that are in *tree* already or fit below its root with *limit* providers, and what to say."""
    room = max(0, limit - len(tree.providers))
    new = [want.uuid for want in desired if want.uuid not in tree.providers]
    left_out = frozenset(new[room:])
    if not left_out:
        return list(desired), ()
    note = Note(
        "limit",
        f"{len(left_out)} devices are not reported, since {printable(tree.root.name, 200)} has {len(tree.providers)} "
        f"providers and [agent]max_providers is {limit}; delete those of absent devices with openstack usb device "
        f"purge, or raise it.",
        blocks=True,
    )
    return [want for want in desired if want.uuid not in left_out], (note,)
