"""The last read of libvirt and the events since, whatever comes in whatever order."""

import hypothesis.strategies as st
from hypothesis import given

from tests.fixtures.domain_xml import an_alias
from usb_provider.model.binding.guests import GuestsNow, RunningGuest
from usb_provider.model.binding.hostdev import Guest, Hostdev
from usb_provider.virt.picture import Happened, Picture

NAMES = ("a", "b")
OURS = Hostdev(an_alias(), "1050", "0407", 1, 3)

names = st.sets(st.sampled_from(NAMES))
events = st.tuples(st.sampled_from(Happened), st.sampled_from(NAMES))
reads = st.fixed_dictionaries(
    {"running": names, "bare": names, "cancelled": names, "meanwhile": st.lists(events, max_size=4)}
)
steps = st.lists(events | reads, max_size=12)


def running(names: set[str], bare: set[str]) -> list[RunningGuest]:
    return [RunningGuest(Guest(name, name, () if name in bare else (OURS,))) for name in sorted(names)]


def fits(now: GuestsNow) -> bool:
    """Whether nothing in it contradicts the rest."""
    uuids = {each.guest.uuid for each in now.running}
    with_ours = {each.guest.uuid for each in now.running if each.guest.ours}
    return now.arrived <= with_ours and not now.ended & uuids


@given(steps)
def test_it_never_contradicts_itself(steps: list[object]) -> None:
    picture = Picture()
    for step in steps:
        if isinstance(step, tuple):
            picture.happened(*step)
        else:
            picture.begin()
            for event in step["meanwhile"]:
                picture.happened(*event)
            cancelled = step["running"] & step["cancelled"]
            now = picture.read(running(step["running"], step["bare"]), NAMES, cancelled, ())
            assert now == picture.latest
            assert now.known == set(NAMES)
        assert fits(picture.latest)


@given(steps)
def test_an_event_that_comes_during_a_read_counts_as_one_that_comes_right_after_it(steps: list[object]) -> None:
    meanwhile, after = Picture(), Picture()
    for step in steps:
        for picture in (meanwhile, after):
            if isinstance(step, tuple):
                picture.happened(*step)
                continue
            picture.begin()
            if picture is meanwhile:
                for event in step["meanwhile"]:
                    picture.happened(*event)
            picture.read(running(step["running"], step["bare"]), NAMES, step["running"] & step["cancelled"], ())
            if picture is after:
                for event in step["meanwhile"]:
                    picture.happened(*event)
        assert meanwhile.latest == after.latest


@given(st.lists(events, max_size=6), names)
def test_a_guest_whose_migration_was_cancelled_has_not_arrived_whenever_its_event_comes(
    before: list[tuple[Happened, str]], bare: set[str]
) -> None:
    picture = Picture()
    for event in before:
        picture.happened(*event)
    picture.begin()
    picture.read(running({"a"}, bare), NAMES, {"a"}, ())
    picture.happened(Happened.HANDED_OVER_OR_NOT, "a")
    assert picture.latest.arrived == frozenset()
    picture.begin()
    assert picture.read(running({"a"}, bare), NAMES, (), ()).arrived == frozenset()


def test_what_a_read_that_failed_has_heard_is_not_lost() -> None:
    picture = Picture()
    picture.begin()
    picture.happened(Happened.ARRIVED, "a")
    picture.begin()
    assert picture.read(running({"a"}, set()), NAMES, (), ()).arrived == {"a"}
