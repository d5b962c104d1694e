"""The one table of states: complete, free of contradictions, and readable from what it makes of a provider."""

import itertools
import re
import runpy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placement_traits import MANAGED, STATE_ABSENT, STATE_DRAINED, STATE_RESERVED, STATE_SHORT, STATE_WITHDRAWN
from usb_provider.model.lifecycle import (
    MARKS,
    TABLE,
    Circumstances,
    DeviceState,
    FleetState,
    Intention,
    Order,
    Presence,
    ProviderState,
    Units,
    intention,
    presence,
)

ROOT = Path(__file__).parents[3]
PICTURE = ROOT / "docs" / "images" / "states.dot"

each_row = pytest.mark.parametrize(
    "row", TABLE.values(), ids=lambda row: "-".join(str(getattr(part, "name", part)) for part in parts(row))
)


def parts(row: ProviderState) -> tuple[Presence, Intention, str]:
    known = row.circumstances
    return known.presence, known.intention, "held" if known.held else "free"


def traits_of(row: ProviderState) -> frozenset[str]:
    """Give the traits of a provider in that state, a drain among them, which only an operator sets."""
    drained = {STATE_DRAINED} if row.circumstances.intention is Intention.DRAINED else set()
    return frozenset({MANAGED, *row.marks, *drained})


def test_every_combination_of_circumstances_has_its_row() -> None:
    combinations = itertools.product(Presence, Intention, (False, True))
    assert [row.circumstances for row in TABLE.values()] == [Circumstances(*each) for each in combinations]
    assert all(row.circumstances == known for known, row in TABLE.items())


@each_row
def test_what_a_row_makes_of_a_provider_tells_the_circumstances(row: ProviderState) -> None:
    traits = traits_of(row)
    assert presence(traits, has_inventory=row.units is not Units.NONE) is row.circumstances.presence
    assert intention(traits, reserved=row.units is Units.RESERVED) is row.circumstances.intention


@each_row
def test_only_a_device_that_is_offered_and_that_no_operator_keeps_back_can_be_scheduled(row: ProviderState) -> None:
    known = row.circumstances
    can_be_had = known.presence is Presence.OFFERED and known.intention is Intention.NONE
    assert (row.units is Units.OPEN) is can_be_had


@each_row
def test_what_a_consumer_holds_keeps_its_inventory(row: ProviderState) -> None:
    assert not (row.circumstances.held and row.units is Units.NONE)


@each_row
def test_a_state_trait_says_why_a_device_cannot_be_had(row: ProviderState) -> None:
    expected = {Presence.OFFERED: set(), Presence.WITHDRAWN: {STATE_WITHDRAWN}, Presence.ABSENT: {STATE_ABSENT}}
    assert row.marks <= MARKS
    assert row.marks - {STATE_RESERVED} == expected[row.circumstances.presence]
    is_remembered = row.circumstances.intention is Intention.RESERVED and bool(expected[row.circumstances.presence])
    assert (STATE_RESERVED in row.marks) is is_remembered


@each_row
def test_what_the_agent_reserves_has_its_state_trait_before(row: ProviderState) -> None:
    known = row.circumstances
    if known.presence is Presence.OFFERED:
        assert row.order is Order.MARK_LAST
    else:
        assert row.order is (Order.TRAITS_FIRST if known.held else Order.INVENTORY_FIRST)


@each_row
def test_metrics_and_commands_agree_about_who_holds_what_is_plugged_in(row: ProviderState) -> None:
    known = row.circumstances
    is_held = row.device_state in (DeviceState.HELD, DeviceState.WITHDRAWN_HELD, DeviceState.ABSENT_HELD)
    assert is_held is known.held
    assert (row.fleet_state is FleetState.FREE) is (row.device_state is DeviceState.FREE)
    is_absent = known.presence is Presence.ABSENT
    assert (row.device_state in (DeviceState.ABSENT, DeviceState.ABSENT_HELD)) is is_absent
    assert (row.fleet_state is FleetState.ABSENT) is is_absent
    assert (row.fleet_state is FleetState.WITHDRAWN) is (known.presence is Presence.WITHDRAWN)


def test_every_state_of_the_metrics_and_of_the_commands_is_one_of_the_table() -> None:
    assert {row.device_state for row in TABLE.values()} == set(DeviceState)
    # STATE_WAITING makes an allocated device one that waits, and a bundle is incomplete where another device is absent.
    beside = {FleetState.WAITING, FleetState.INCOMPLETE}
    assert {row.fleet_state for row in TABLE.values()} == set(FleetState) - beside


@each_row
def test_every_state_has_sentences_that_name_the_drain_and_the_consumer(row: ProviderState) -> None:
    known, said = row.circumstances, row.sentence()
    assert re.fullmatch(r"([A-Z][^.]+\. ?)+", said)
    assert ("A consumer holds it." in said) is known.held
    assert ("An operator drained it." in said) is (known.intention is Intention.DRAINED)
    with_reason = row.sentence("new firmware")
    assert ("An operator drained it: new firmware." in with_reason) is (known.intention is Intention.DRAINED)


def test_a_provider_that_has_neither_inventory_nor_mark_is_not_said_to_be_withdrawn() -> None:
    unfinished = TABLE[Circumstances(presence({MANAGED}, has_inventory=False))]
    assert unfinished.sentence(unfinished=True) == "It has no inventory (yet)."


def test_only_what_is_absent_and_that_neither_consumer_nor_operator_wants_may_be_purged() -> None:
    assert [row.circumstances for row in TABLE.values() if row.purgeable] == [Circumstances(Presence.ABSENT)]


@given(st.frozensets(st.sampled_from(sorted({*MARKS, STATE_DRAINED, MANAGED, "CUSTOM_OPS"}))), st.booleans())
def test_whatever_traits_a_provider_has_its_reserved_is_the_operators_or_ours(
    traits: frozenset[str], reserved: bool
) -> None:
    wanted = intention(traits, reserved=reserved)
    assert (wanted is Intention.DRAINED) is (STATE_DRAINED in traits)
    if wanted is Intention.RESERVED:
        assert reserved
        assert STATE_RESERVED in traits or not traits & MARKS
    elif wanted is Intention.NONE and reserved:
        assert traits & {STATE_ABSENT, STATE_WITHDRAWN, STATE_SHORT}


def test_the_tables_of_the_page_on_placement_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "placement.md").read_text(encoding="utf-8")
    generate = runpy.run_path(str(ROOT / "tools" / "generate.py"))
    assert generate["with_tables"](page, generate["TABLES"]["placement.md"]) == page, "run make generate"


@pytest.mark.parametrize(
    ("node", "known"),
    [
        ("free", Circumstances(Presence.OFFERED)),
        ("held", Circumstances(Presence.OFFERED, held=True)),
        ("absent", Circumstances(Presence.ABSENT)),
        ("absent_held", Circumstances(Presence.ABSENT, held=True)),
    ],
)
def test_the_picture_of_the_states_shows_what_the_table_says(node: str, known: Circumstances) -> None:
    found = re.search(rf'^ +{node} \[label="([^"]+)"', PICTURE.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    row = TABLE[known]
    inventory = "no inventory" if row.units is Units.NONE else row.units.value.replace(",", "")
    marks = [name.removeprefix("CUSTOM_USB_") for name in sorted(row.marks)]
    assert found[1].split(r"\n")[1:] == [inventory, *marks]
