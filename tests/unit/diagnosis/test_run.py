"""Checks side by side: one that fails or hangs hides no other, and what several need is read once, with an end."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from usb_provider.conf import load
from usb_provider.diagnosis.check import AnyCheck, Check, Finding, Verdict, diagnose
from usb_provider.diagnosis.checks import CHECKS
from usb_provider.diagnosis.context import Context, Maybe, Neighbours, Places, Reading, Reported, Unknown
from usb_provider.diagnosis.threads import Threads
from usb_provider.exception import Unavailable
from usb_provider.placement.client import PlacementClient
from usb_provider.placement.root import RootFinder
from usb_provider.virt.protocol import StatusAnswer


def a_context(seconds: float = 10.0, *, serves_guests: bool = True) -> Context:
    """A run on a host of which nothing can be asked."""
    options, _ = load.survey(load.defaults())
    # No override on oslo.config's object: what a group overrides holds for every later object of this process.
    options = replace(options, libvirt=replace(options.libvirt, enabled=serves_guests))

    def placement() -> tuple[PlacementClient, RootFinder]:
        raise Unavailable("Placement does not answer.")

    def look() -> Reported:
        raise Unavailable("Placement does not answer.")

    neighbours = Neighbours(placement, look, lambda: StatusAnswer(()))
    return Context(options, (), (), Path("/nonexistent"), "", neighbours, Places(), Threads(seconds))


class Reads(Check[str]):
    """A check that finds what *read* gives."""

    name = "a check"

    def __init__(self, read: Callable[[Context], Maybe[str]]) -> None:
        self._read = read

    def read(self, context: Context) -> Maybe[str]:
        """What the test wants."""
        return self._read(context)

    def judge(self, facts: str) -> Finding:
        """Fine."""
        return self.ok(facts)


class ReadsOfGuests(Reads):
    """The same, for guests only."""

    of_guests = True


def found(context: Context, *reads: Callable[[Context], Maybe[str]]) -> list[tuple[Verdict, str]]:
    checks: tuple[AnyCheck, ...] = tuple(Reads(each) for each in reads)
    return [(each.verdict, each.found) for each in diagnose(checks, context)]


def fails(error: Exception) -> Callable[[Context], Maybe[str]]:
    def read(context: Context) -> Maybe[str]:
        raise error

    return read


def fine(context: Context) -> Maybe[str]:
    return "Fine."


def test_the_checks_are_these_in_the_order_in_which_things_are_mended() -> None:
    assert [each.name for each in CHECKS] == [
        "configuration",
        "options",
        "placement",
        "credentials",
        "role",
        "microversion",
        "compute node",
        "compute node's name",
        "udev",
        "authorized_default",
        "host controllers",
        "disks of guests",
        "pools",
        "libvirt",
        "hook",
        "hook loaded",
        "socket",
        "AppArmor, SELinux",
        "controller models",
        "stale hostdevs",
        "dead hostdevs",
        "waiting guests",
        "refused starts",
    ]


def test_the_findings_are_in_the_order_of_the_checks() -> None:
    def slow(context: Context) -> Maybe[str]:
        time.sleep(0.1)
        return "Slow."

    assert found(a_context(), slow, fine) == [(Verdict.OK, "Slow."), (Verdict.OK, "Fine.")]


def test_facts_that_could_not_be_read_are_not_checked_and_say_why() -> None:
    assert found(a_context(), lambda context: Unknown("It is not there."), fine) == [
        (Verdict.NOT_CHECKED, "It is not there."),
        (Verdict.OK, "Fine."),
    ]


def test_a_check_that_fails_is_not_checked_and_hides_no_other() -> None:
    denied = PermissionError(13, "Permission denied", "/etc/secret")
    assert found(a_context(), fails(KeyError("a bug")), fails(Unavailable("It is away.")), fails(denied), fine) == [
        (Verdict.NOT_CHECKED, "This could not be checked (KeyError: 'a bug')."),
        (Verdict.NOT_CHECKED, "It is away."),
        (Verdict.NOT_CHECKED, "This user may not read /etc/secret: run this as root."),
        (Verdict.OK, "Fine."),
    ]


def test_a_check_whose_judgement_fails_is_not_checked_either() -> None:
    class Misjudges(Reads):
        def judge(self, facts: str) -> Finding:
            raise ZeroDivisionError("a bug")

    (row,) = diagnose((Misjudges(fine),), a_context())
    assert row == Finding("a check", Verdict.NOT_CHECKED, "This could not be checked (ZeroDivisionError: a bug).")


def test_a_check_that_hangs_is_left_behind_in_a_thread_with_its_name() -> None:
    goes_on = threading.Event()

    def hangs(context: Context) -> Maybe[str]:
        goes_on.wait(30)
        return "Late."

    context = a_context(0.2)
    began = time.monotonic()
    assert found(context, hangs, fine) == [(Verdict.NOT_CHECKED, "This took more than 0 s."), (Verdict.OK, "Fine.")]
    assert time.monotonic() - began < 10
    assert context.threads.unfinished
    assert "doctor-a check" in {each.name for each in threading.enumerate() if each.daemon}
    goes_on.set()


def test_a_check_of_guests_is_not_made_where_no_guests_are_served() -> None:
    why = "[libvirt]enabled is false, so the agent serves no guests."
    context = a_context(serves_guests=False)
    checks = (ReadsOfGuests(fails(AssertionError("it was read"))), Reads(fine))
    assert [(each.verdict, each.found) for each in diagnose(checks, context)] == [
        (Verdict.NOT_CHECKED, why),
        (Verdict.OK, "Fine."),
    ]


def test_the_checks_of_guests_are_these() -> None:
    assert [each.name for each in CHECKS if each.of_guests] == [
        "libvirt",
        "hook",
        "hook loaded",
        "socket",
        "AppArmor, SELinux",
        "controller models",
        "stale hostdevs",
        "dead hostdevs",
        "waiting guests",
        "refused starts",
    ]


# What several checks need


def test_what_several_checks_need_is_read_once_and_only_when_one_asks() -> None:
    read: list[str] = []

    def facts(context: Context) -> str:
        read.append("read")
        time.sleep(0.05)
        return "Shared."

    shared = Reading("shared", facts)
    assert found(a_context(), fine) == [(Verdict.OK, "Fine.")]
    assert read == []
    assert found(a_context(), *[lambda context: context.get(shared)] * 5) == [(Verdict.OK, "Shared.")] * 5
    assert read == ["read"]


def test_what_was_read_in_one_run_is_read_anew_in_the_next() -> None:
    numbers = iter(("One.", "Two."))
    shared = Reading("shared", lambda context: next(numbers))
    assert [a_context().get(shared), a_context().get(shared)] == ["One.", "Two."]


def test_what_hangs_and_several_checks_need_has_its_own_word_for_that() -> None:
    goes_on = threading.Event()

    def hangs(context: Context) -> str:
        goes_on.wait(30)
        return "Late."

    with_a_word = Reading("one", hangs, lambda context: "It has not answered.")
    without = Reading("other", hangs)
    context = a_context(0.2)
    assert found(context, lambda context: context.get(with_a_word), lambda context: context.get(without)) == [
        (Verdict.OK, "It has not answered."),
        (Verdict.NOT_CHECKED, "This took more than 0 s."),
    ]
    goes_on.set()


def test_two_things_that_one_check_needs_are_read_side_by_side() -> None:
    meeting = threading.Barrier(2, timeout=20)

    def meets(context: Context) -> str:
        meeting.wait()
        return "Met."

    one, other = Reading("one", meets), Reading("other", meets)

    def both(context: Context) -> Maybe[str]:
        context.begin(one, other)
        return context.get(one) if context.get(one) == context.get(other) else Unknown("They differ.")

    assert found(a_context(30.0), both) == [(Verdict.OK, "Met.")]


def test_facts_that_several_checks_need_and_that_cannot_be_read_say_why_to_each() -> None:
    shared: Reading[str] = Reading("shared", fails(Unavailable("It is away.")))
    assert found(a_context(), *[lambda context: context.get(shared)] * 2) == [(Verdict.NOT_CHECKED, "It is away.")] * 2
