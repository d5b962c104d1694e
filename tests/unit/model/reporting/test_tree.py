"""Placement's own words as values."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placement_traits import MANAGED, STATE_ABSENT, STATE_DRAINED, STATE_RESERVED, STATE_WITHDRAWN
from tests.fixtures.builders import KEY, a_consumer, a_tree, an_observed
from usb_provider.model.reporting.tree import (
    Amount,
    Inventory,
    ObservedProvider,
    ProviderRecord,
    Summary,
    from_summary,
    with_holders,
)

inventories = st.builds(
    Inventory,
    total=st.integers(1, 9),
    reserved=st.integers(0, 9),
    min_unit=st.integers(1, 9),
    max_unit=st.integers(1, 9),
    step_size=st.integers(1, 9),
    allocation_ratio=st.floats(0.5, 16),
)


traits = st.frozensets(st.sampled_from([MANAGED, STATE_ABSENT, STATE_DRAINED, STATE_RESERVED, STATE_WITHDRAWN, "OWN"]))


def summary_of(provider: ObservedProvider) -> Summary:
    """What Placement's listing of candidates says of *provider* (placement/objects/allocation_candidate.py)."""
    return Summary(
        provider.traits,
        {
            name: Amount(
                int((each.total - each.reserved) * each.allocation_ratio),
                sum(has.get(name, 0) for has in provider.allocations.values()),
            )
            for name, each in provider.inventories.items()
        },
    )


def short_way(provider: ObservedProvider) -> ObservedProvider | None:
    """*provider* as its summary describes it."""
    return from_summary(ProviderRecord(provider.uuid, provider.name, provider.generation, "root"), summary_of(provider))


@given(
    traits,
    st.dictionaries(st.sampled_from([KEY, "CUSTOM_OTHER"]), st.sampled_from([Inventory(), Inventory(reserved=1)])),
    st.booleans(),
)
def test_a_summary_of_what_the_agent_writes_gives_exactly_that_or_asks_for_a_full_read(
    names: frozenset[str], has: dict[str, Inventory], held: bool
) -> None:
    provider = an_observed(inventories=has, traits=names, held=has if held else ())
    assert short_way(provider) in (None, dataclasses.replace(provider, allocations={}))


@given(traits, st.dictionaries(st.sampled_from([KEY, "CUSTOM_OTHER"]), inventories))
def test_a_summary_of_any_provider_never_changes_its_traits_or_its_capacity(
    names: frozenset[str], has: dict[str, Inventory]
) -> None:
    provider = an_observed(inventories=has, traits=names)
    found = short_way(provider)
    assert found is None or summary_of(found) == summary_of(provider)


def test_a_summary_of_a_held_or_reserved_provider_asks_for_a_full_read() -> None:
    assert short_way(an_observed(held=[KEY])) is None
    assert short_way(an_observed(inventories={KEY: Inventory(reserved=1)})) is None
    assert short_way(an_observed(inventories={KEY: Inventory(total=3)})) is None


def test_a_summary_describes_a_free_a_drained_and_an_absent_provider() -> None:
    drained = an_observed(inventories={KEY: Inventory(reserved=1)}, traits=[MANAGED, STATE_DRAINED])
    absent = an_observed(inventories={}, traits=[MANAGED, STATE_ABSENT])
    for provider in (an_observed(), drained, absent):
        assert short_way(provider) == provider


@given(inventories)
def test_an_inventory_survives_the_way_to_placement_and_back(inventory: Inventory) -> None:
    assert Inventory.from_json(json.loads(json.dumps(inventory.to_json()))) == inventory


def test_what_placement_adds_to_an_inventory_one_day_does_no_harm() -> None:
    assert Inventory.from_json(Inventory().to_json() | {"colour": "red"}) == Inventory()


def test_a_device_is_one_exclusive_unit() -> None:
    assert Inventory().to_json() == {
        "total": 1,
        "reserved": 0,
        "min_unit": 1,
        "max_unit": 1,
        "step_size": 1,
        "allocation_ratio": 1.0,
    }


def test_what_is_reserved_in_full_is_not_schedulable() -> None:
    assert Inventory().schedulable
    assert not Inventory(reserved=1).schedulable
    assert Inventory(total=2, reserved=1).schedulable


@pytest.mark.parametrize(
    ("provider", "blank"),
    [
        (an_observed(inventories={}, traits=()), True),
        (an_observed(inventories={}), False),
        (an_observed(traits=()), False),
        (an_observed(inventories={}, traits=(), held=[KEY]), False),
    ],
)
def test_a_provider_with_nothing_on_it_is_blank(provider: ObservedProvider, blank: bool) -> None:
    assert provider.blank is blank


def test_a_provider_is_ours_by_its_mark_and_absent_by_its_state() -> None:
    assert an_observed(traits={MANAGED}).managed
    assert not an_observed(traits={"CUSTOM_USB_VENDOR_1050"}).managed
    assert an_observed(traits={STATE_ABSENT}).absent
    assert not an_observed().absent


def test_an_allocation_of_nothing_is_none() -> None:
    held = an_observed(held=[KEY])
    assert held.allocated
    assert held.used_classes == {KEY}
    nothing = ObservedProvider("u", "n", 1, allocations={a_consumer(): {KEY: 0}})
    assert not nothing.allocated
    assert not nothing.used_classes


# Who holds a provider, read later than the rest


def test_a_claim_that_was_read_later_is_in_the_tree() -> None:
    tree, holder = a_tree(an_observed("A"), an_observed("B")), {a_consumer(): {KEY: 1}}
    uuid = an_observed("A").uuid
    found = with_holders(tree, {uuid: (3, holder)})
    assert found.providers[uuid].allocations == holder
    assert found == a_tree(
        *(
            dataclasses.replace(each, allocations=found.providers[each.uuid].allocations)
            for each in tree.providers.values()
        )
    )
    assert tree == a_tree(an_observed("A"), an_observed("B"))


def test_a_release_that_was_read_later_is_in_the_tree() -> None:
    held = an_observed(held=[KEY])
    assert with_holders(a_tree(held), {held.uuid: (3, {})}) == a_tree(an_observed())


def test_a_claim_on_a_provider_that_changed_since_is_left_to_the_next_look() -> None:
    tree = a_tree(an_observed(generation=4))
    assert with_holders(tree, {an_observed().uuid: (5, {a_consumer(): {KEY: 1}})}) is tree


def test_a_claim_on_a_provider_that_is_not_in_the_tree_is_left_out() -> None:
    tree = a_tree(an_observed("A"))
    assert with_holders(tree, {an_observed("B").uuid: (3, {a_consumer(): {KEY: 1}})}) is tree


def test_a_tree_in_which_nothing_changed_is_the_same_object() -> None:
    held = an_observed(held=[KEY])
    tree = a_tree(held)
    assert with_holders(tree, {held.uuid: (3, dict(held.allocations))}) is tree
    assert with_holders(tree, {}) is tree
