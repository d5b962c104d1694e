"""What the binder remembers between two passes: what failed and when to try again, since when a device is in its state,
and which hostdevs may be dead. Pure: frozen values, and the time is an argument.

Times named *now* and *again* are in seconds of a monotonic clock; *since* is in seconds since 1970, for people.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from usb_provider.model.binding.decision import Binding
from usb_provider.model.binding.status import BindingState
from usb_provider.model.binding.waiting import Lacking

LONGEST_RETRY = 60.0
"""Seconds after which an attach or a detach that failed is tried again at the latest."""

Key = tuple[str, str]
"""Guest and unit of a provider; for suspects guest and alias."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An attach or a detach that failed: why, the sentence that was logged, how often, and when it is tried *again*."""

    reason: str
    said: str
    attempts: int
    again: float


@dataclass(frozen=True, slots=True)
class Retries:
    """What failed and has not succeeded since, by guest and provider."""

    failures: Mapping[Key, Failure] = field(default_factory=dict)

    def failed(self, key: Key, reason: str, said: str, now: float, first: float) -> "Retries":
        """With one more failure of *key*, tried again after *first* seconds; each further failure doubles that pause,
        up to :data:`LONGEST_RETRY`.
        """
        before = self.failures.get(key)
        attempts = before.attempts + 1 if before else 1
        pause = min(first * 2 ** (attempts - 1), LONGEST_RETRY)
        return Retries({**self.failures, key: Failure(reason, said, attempts, now + pause)})

    def without(self, keys: Collection[Key]) -> "Retries":
        """Without *keys*, which have succeeded or need no further attempt."""
        if not self.failures.keys() & set(keys):
            return self
        return Retries({key: failure for key, failure in self.failures.items() if key not in keys})

    def over(self, trying: Collection[str]) -> tuple[Key, ...]:
        """Keys of guests that are not among *trying*: they need no further attempt."""
        return tuple(key for key in self.failures if key[0] not in trying)

    def is_due(self, key: Key, now: float) -> bool:
        """Whether *key* may be tried now."""
        failure = self.failures.get(key)
        return failure is None or failure.again <= now


@dataclass(frozen=True, slots=True)
class Suspects:
    """Hostdevs that may be dead, since a driver of the host has the device: by guest and alias, since when.

    Times are in monotonic seconds.
    """

    since: Mapping[Key, float] = field(default_factory=dict)

    def seen(self, keys: Iterable[Key], now: float) -> "Suspects":
        """With *keys* as the hostdevs that look dead now; those that looked dead before keep their time."""
        return Suspects({key: self.since.get(key, now) for key in keys})

    def dead(self, now: float, after: float) -> frozenset[Key]:
        """Those that have looked dead for *after* seconds."""
        return frozenset(key for key, since in self.since.items() if now - since >= after)


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of each device of each guest, and since when.

    ``found`` are those whose state the first look of this process found: they may have been in it for longer. It is
    None before that look.
    """

    since: Mapping[Key, tuple[BindingState, float]] = field(default_factory=dict)
    found: frozenset[Key] | None = None

    def now(self, bindings: Iterable[Binding], now: float) -> "Standing":
        """The states of *bindings* at *now* (seconds since 1970); a state that has not changed keeps its time."""
        after = {_key(each): self._since(each, now) for each in bindings}
        if self.found is None:
            return Standing(after, frozenset(after))
        return Standing(after, frozenset(key for key in self.found if after.get(key) == self.since.get(key)))

    def changed(self, bindings: Iterable[Binding]) -> tuple[Binding, ...]:
        """The *bindings* whose state differs from the one before."""
        return tuple(each for each in bindings if self.since.get(_key(each), (None, 0.0))[0] is not each.state)

    def of(self, binding: Binding) -> float:
        """Since when *binding* is in its state, in seconds since 1970; 0 when it has not been looked at yet."""
        return self.since.get(_key(binding), (binding.state, 0.0))[1]

    def is_older(self, binding: Binding) -> bool:
        """Whether *binding* may have been in its state since before the time that :meth:`of` gives."""
        return self.found is not None and _key(binding) in self.found

    def _since(self, binding: Binding, now: float) -> tuple[BindingState, float]:
        known = self.since.get(_key(binding))
        return known if known is not None and known[0] is binding.state else (binding.state, now)


@dataclass(frozen=True, slots=True)
class Memory:
    """All of it, replaced whole at the end of each pass."""

    retries: Retries = field(default_factory=Retries)
    suspects: Suspects = field(default_factory=Suspects)
    standing: Standing = field(default_factory=Standing)
    lacking: Lacking = field(default_factory=Lacking)

    def next_look(self, suspect_seconds: float) -> float | None:
        """When the binder has to try or judge something again, in monotonic seconds; None when there is nothing."""
        times = [failure.again for failure in self.retries.failures.values()]
        times += [since + suspect_seconds for since in self.suspects.since.values()]
        times += [] if (lacking := self.lacking.next_look()) is None else [lacking]
        return min(times, default=None)


def _key(binding: Binding) -> Key:
    return (binding.guest_uuid, binding.unit or binding.provider_uuid)
