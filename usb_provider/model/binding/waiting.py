"""Which held devices running guests have lacked for too long: their providers get the trait STATE_WAITING. Pure.

Times are in seconds of a monotonic clock. model/reporting/guest_news.py makes the writes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from placement_traits import STATE_WAITING
from usb_provider.model.binding.decision import Binding
from usb_provider.model.binding.guests import RunningGuest
from usb_provider.model.binding.status import BindingState
from usb_provider.model.reporting.tree import ObservedTree

PATIENCE = 60.0
"""Seconds for which a running guest may lack a device before Placement says so: a person plugs a device in again, or a
guest that starts gets its device, in less."""


@dataclass(frozen=True, slots=True)
class Lacking:
    """Since when each guest lacks each unit that it holds, by guest and unit, as seen at *at*."""

    since: Mapping[tuple[str, str], float] = field(default_factory=dict)
    at: float = 0.0

    def now(self, bindings: Sequence[Binding], guests: Sequence[RunningGuest], now: float) -> "Lacking":
        """With *bindings* as they are at *now*. The time of a guest that starts or arrives does not count."""
        busy = {each.guest.uuid for each in guests if each.busy}
        lacked = (_key(each) for each in bindings if _is_lacked(each) and each.guest_uuid not in busy)
        return Lacking({key: self.since.get(key, now) for key in lacked}, now)

    def next_look(self) -> float | None:
        """When the next guest will have lacked a device for too long; None where none will."""
        return min((since + PATIENCE for since in self.since.values() if since + PATIENCE > self.at), default=None)

    def waiting(self, bindings: Sequence[Binding], tree: ObservedTree) -> frozenset[str]:
        """UUIDs of the providers that are to have STATE_WAITING.

        One that has it in *tree* keeps it while a guest lacks one of its devices: the agent may have started since.
        """
        marked = {uuid for uuid, each in tree.providers.items() if STATE_WAITING in each.traits}
        return frozenset(
            each.provider_uuid
            for each in bindings
            if _is_lacked(each)
            and (each.provider_uuid in marked or self.since.get(_key(each), self.at) + PATIENCE <= self.at)
        )


def _is_lacked(binding: Binding) -> bool:
    return binding.state is not BindingState.ATTACHED


def _key(binding: Binding) -> tuple[str, str]:
    return binding.guest_uuid, binding.unit or binding.provider_uuid
