"""What a check is, what it finds, and how the checks of one run go in parallel.

A check is one class in a file of this package, and an element of the tuple in checks.py. It changes nothing.
"""

import abc
import enum
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Generic, Protocol, TypeVar

from usb_provider.diagnosis.context import Context, Maybe, Unknown, attempt

SHOWN = 3
"""How many of a kind one sentence names."""

# A check that has waited to the end for a reading that others share still has to judge what it has.
_GRACE_SECONDS = 2.0

_F = TypeVar("_F")


class Verdict(enum.StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Finding:
    """One row: a sentence that says what was found, and one that says what to do, if there is something to do."""

    check: str
    verdict: Verdict
    found: str
    advice: str | None = None


class Check(abc.ABC, Generic[_F]):
    """One check: its *name*, how it reads its facts, and how it judges them.

    *of_guests*: it is about guests, so it is not made when [libvirt]enabled is false.
    """

    name: ClassVar[str]
    of_guests: ClassVar[bool] = False

    @abc.abstractmethod
    def read(self, context: Context) -> Maybe[_F]:
        """The facts, or why they are not known. What this raises becomes an Unknown."""

    @abc.abstractmethod
    def judge(self, facts: _F) -> Finding:
        """What *facts* mean. Pure."""

    def find(self, context: Context) -> Finding:
        """Read and judge."""
        if self.of_guests and not context.options.libvirt.enabled:
            return self.not_checked("[libvirt]enabled is false, so the agent serves no guests.")
        return self.conclude(self.read(context))

    def conclude(self, facts: Maybe[_F]) -> Finding:
        """The finding, also when *facts* are not known."""
        return self.not_checked(facts.why) if isinstance(facts, Unknown) else self.judge(facts)

    def ok(self, found: str) -> Finding:
        """Nothing has to be done."""
        return Finding(self.name, Verdict.OK, found)

    def warning(self, found: str, advice: str) -> Finding:
        """Something may have to be done."""
        return Finding(self.name, Verdict.WARNING, found, advice)

    def wrong(self, found: str, advice: str) -> Finding:
        """Something has to be done."""
        return Finding(self.name, Verdict.WRONG, found, advice)

    def not_checked(self, found: str) -> Finding:
        """Nothing is known."""
        return Finding(self.name, Verdict.NOT_CHECKED, found)


class AnyCheck(Protocol):
    """A check of facts of any type."""

    name: ClassVar[str]
    of_guests: ClassVar[bool]

    def find(self, context: Context) -> Finding:
        """Read and judge."""

    def not_checked(self, found: str) -> Finding:
        """Nothing is known."""


def diagnose(checks: Sequence[AnyCheck], context: Context) -> tuple[Finding, ...]:
    """One finding for each of *checks*, in their order. One that fails or hangs is "not checked" and hides no other."""
    threads = context.threads
    begun = [(check, threads.start(check.name, partial(_find, check, context))) for check in checks]
    return tuple(
        threads.result(future, partial(check.not_checked, context.too_late().why), grace=_GRACE_SECONDS)
        for check, future in begun
    )


def _find(check: AnyCheck, context: Context) -> Finding:
    found = attempt(check.name, check.find, context)
    return check.not_checked(found.why) if isinstance(found, Unknown) else found


def some(names: Sequence[str]) -> str:
    """*names* in a sentence, cut short where they are many."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def sentences(said: Sequence[str]) -> str:
    """*said* one after the other, cut short where they are many."""
    return " ".join(said[:SHOWN]) + (f" And {len(said) - SHOWN} more." if len(said) > SHOWN else "")


def count(number: int, what: str) -> str:
    """*number* and *what*, in the plural where it is one."""
    return f"{number} {what}{'' if number == 1 else 's'}"
