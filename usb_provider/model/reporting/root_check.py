"""Whether a compute node provider can be this host's, and whether another agent writes below it. Pure.

Nova names the provider after libvirt's host name. A domain, upper case and a dot at the end make no difference here,
and a host that is called "localhost" has no name yet.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from placement_traits import STATE_ABSENT, STATE_WITHDRAWN
from usb_provider.model.reporting.tree import ObservedProvider, ObservedTree

UNDONE_TIMES = 3
"""So many times another client undoes a write to one provider before the agent stops to write."""

UNDONE_SECONDS = 3600.0
"""Within so many seconds; after as many the agent tries again."""

_GONE = frozenset({STATE_ABSENT, STATE_WITHDRAWN})
_NO_NAME = "localhost"


def is_another_hosts(root_name: str, by_libvirt: str | None, own: Iterable[str]) -> bool:
    """Whether *root_name* is neither libvirt's name of this host nor one of its *own*; False while libvirt gives none.

    Without libvirt's name nothing is certain: a host and its container may have different names.
    """
    if by_libvirt is None or _short(by_libvirt) in ("", _NO_NAME):
        return False
    return _short(root_name) not in {_short(by_libvirt), *map(_short, own)}


def _short(name: str) -> str:
    return name.strip().casefold().partition(".")[0]


@dataclass(frozen=True, slots=True)
class OwnWrites:
    """What this agent left or agreed with below its root, and when another client undid it.

    Two agents with one root see each other's devices as unplugged: one offers them, the other withdraws them. An
    operator has no reason to do either by hand again and again. ``undone`` are times of a clock in seconds, by
    provider.
    """

    left: Mapping[str, ObservedProvider] = field(default_factory=dict)
    undone: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def after(self, before: ObservedTree, touched: Collection[str], tree: ObservedTree, now: float) -> Self:
        """After the agent found *before*, wrote the providers *touched*, and left *tree*."""
        undone = {uuid: times for uuid, times in self.undone.items() if uuid in tree.providers}
        for uuid in touched:
            mine, found, new = self.left.get(uuid), before.providers.get(uuid), tree.providers.get(uuid)
            if mine is None or found is None or new is None or found.generation == mine.generation:
                continue
            if _is_offered(mine) == _is_offered(new) != _is_offered(found):
                undone[uuid] = (*undone.get(uuid, ()), now)[-UNDONE_TIMES:]
        return type(self)(dict(tree.providers), undone)

    def contested(self, now: float) -> str | None:
        """The UUID of a provider that another agent writes as well; None where none is."""
        for uuid, times in self.undone.items():
            if sum(now - each < UNDONE_SECONDS for each in times) >= UNDONE_TIMES:
                return uuid
        return None


def _is_offered(provider: ObservedProvider) -> bool:
    """Whether an agent says that the device is there. Each state of a device that is not has one of these traits."""
    return provider.managed and not provider.traits & _GONE
