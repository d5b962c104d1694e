"""What the agent waits for: each neighbour until it has answered, and from its first failure until it answers again.

Only takes note, for "usb-provider status" and the report; the loops ask the neighbours.
"""

import time
from collections.abc import Mapping

from usb_provider.agent.admission import NOT_READ_YET
from usb_provider.model.binding.status import AwaitedNeighbour

PLACEMENT, LIBVIRT = "Placement", "libvirt"


class AwaitedNeighbours:
    """The neighbours that have not answered. Each value is replaced whole, so it is safe in any thread."""

    def __init__(self, *, serves_guests: bool) -> None:
        """Nothing has answered yet."""
        now = time.time()
        unread = {PLACEMENT: NOT_READ_YET.text}
        if serves_guests:
            unread[LIBVIRT] = "The agent has not read the guests from libvirt yet."
        self._awaited: Mapping[str, AwaitedNeighbour] = {
            name: AwaitedNeighbour(name, now, said) for name, said in unread.items()
        }
        self._failed: frozenset[str] = frozenset()

    def failed(self, name: str, said: str) -> None:
        """Asking this neighbour has failed once more; *said* is the sentence on it."""
        before = self._awaited.get(name) if name in self._failed else None
        since = before.since if before is not None else time.time()
        self._awaited = {**self._awaited, name: AwaitedNeighbour(name, since, said)}
        self._failed |= {name}

    def answered(self, name: str) -> None:
        """This neighbour has answered."""
        self._awaited = {other: each for other, each in self._awaited.items() if other != name}
        self._failed -= {name}

    def failure(self, name: str) -> tuple[str, float] | None:
        """The sentence on the last failure of this neighbour, and when the first was; None when none has failed."""
        return (each.said, each.since) if name in self._failed and (each := self._awaited.get(name)) else None

    def now(self) -> tuple[AwaitedNeighbour, ...]:
        """Those that the agent waits for now."""
        return tuple(self._awaited.values())
