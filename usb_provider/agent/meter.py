"""The interface by which the agent's modules report passes, requests, attaches, detaches and refusals for the metrics.

The modules call a :class:`Meter`, which does nothing; metrics.py has the one that Prometheus reads. So they do not know
how events are counted, and they report only numbers and words of closed sets: never a name, a serial number, a guest or
a sentence.
"""

import enum
from collections.abc import Mapping
from types import MappingProxyType

from usb_provider import exception
from usb_provider.model.binding.decision import Why
from usb_provider.model.binding.refusals import Obstacle
from usb_provider.model.reporting.census import Census


class LoopName(enum.StrEnum):
    """The two loops of the agent."""

    REPORT = "report"
    BIND = "bind"


class Outcome(enum.StrEnum):
    """How a pass, an attach or a detach ended."""

    OK = "ok"
    ACCESS = "access"
    ROOT_MISSING = "root_missing"
    UNAVAILABLE = "unavailable"
    CONFLICT = "conflict"
    INCOMPATIBLE = "incompatible"
    CONFIGURATION = "configuration"
    REFUSED = "refused"
    GONE = "gone"
    BUG = "bug"

    @classmethod
    def of(cls, error: BaseException) -> "Outcome":
        """The word for an error; BUG for one that is unexpected."""
        return next((word for kind, word in _WORDS if isinstance(error, kind)), cls.BUG)


# Subclasses before their bases.
_WORDS: tuple[tuple[type[BaseException], Outcome], ...] = (
    (exception.AccessRefused, Outcome.ACCESS),
    (exception.RootMissing, Outcome.ROOT_MISSING),
    (exception.Unavailable, Outcome.UNAVAILABLE),
    (exception.PlacementConflict, Outcome.CONFLICT),
    (exception.Incompatible, Outcome.INCOMPATIBLE),
    (exception.ConfigError, Outcome.CONFIGURATION),
    (exception.AttachRefused, Outcome.REFUSED),
    (exception.DeviceGone, Outcome.GONE),
)

PASS_OUTCOMES: Mapping[LoopName, tuple[Outcome, ...]] = {
    LoopName.REPORT: (
        Outcome.OK,
        Outcome.ACCESS,
        Outcome.ROOT_MISSING,
        Outcome.UNAVAILABLE,
        Outcome.CONFLICT,
        Outcome.INCOMPATIBLE,
        Outcome.CONFIGURATION,
        Outcome.BUG,
    ),
    LoopName.BIND: (Outcome.OK, Outcome.UNAVAILABLE, Outcome.BUG),
}
"""How a pass of each loop can end."""

GUEST_FAILURES = (Outcome.REFUSED, Outcome.GONE, Outcome.UNAVAILABLE, Outcome.BUG)
"""How an attach or a detach can fail."""


class Meter:
    """Gets each event; this one ignores it. Every method is safe in any thread, quick, and never raises."""

    def passed(self, loop: LoopName, outcome: Outcome, seconds: float) -> None:
        """A pass of *loop* has ended after *seconds*, as *outcome* says."""

    def counted(self, census: Census, waiting: Mapping[str, int] = MappingProxyType({})) -> None:
        """How many devices there are now, by class and state, and how many providers *waiting* have STATE_WAITING."""

    def requested(self, method: str, status: str) -> None:
        """A request was made to Placement; *status* is HTTP's, or ``none`` when there was no answer."""

    def bound(self, states: Mapping[str, int]) -> None:
        """How many devices of running guests are in each :class:`~usb_provider.model.binding.decision.BindingState`."""

    def attached(self, seconds: float | None) -> None:
        """A device was attached, *seconds* after its guest's start if the start is why it was attached."""

    def attach_failed(self, why: Outcome) -> None:
        """A device could not be attached."""

    def detached(self, why: Why) -> None:
        """A device was detached."""

    def detach_failed(self, why: Outcome) -> None:
        """A device could not be detached."""

    def refused(self, obstacle: Obstacle) -> None:
        """A guest's start was refused."""


NO_METER = Meter()
"""A meter for callers that have no metrics."""
