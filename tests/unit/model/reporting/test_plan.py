"""The planner: from any state that Placement can be in to the one that should be, in one step and in a safe order."""

import dataclasses
import json
from collections.abc import Collection, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placement_traits import MANAGED, PURGED, STATE_ABSENT, STATE_DRAINED, STATE_RESERVED, STATE_WITHDRAWN, is_owned
from tests.fixtures.applier import applied, carried_out
from tests.fixtures.builders import KEY, ROOT, a_consumer, a_desired, a_tree, an_observed, held_by
from usb_provider.model.lifecycle import MARKS, TABLE, Circumstances, Intention, Presence, Units, presence
from usb_provider.model.reporting.plan import (
    CreateProvider,
    DeleteProvider,
    EnsureResourceClass,
    EnsureTrait,
    Plan,
    SetAsideProvider,
    SetInventory,
    SetTraits,
    action_json,
    diff,
)
from usb_provider.model.reporting.provider import DesiredProvider
from usb_provider.model.reporting.tree import Inventory, ObservedProvider, ObservedTree

OTHER = "CUSTOM_USB_STORAGE"
SITE = "CUSTOM_SITE_A"
OPERATORS = frozenset({"CUSTOM_OPS", "HW_CPU_X86_AVX", "CUSTOM_USB_MYTHING"})
STALE = "CUSTOM_USB_VENDOR_DEAD"
RETIRED = "CUSTOM_OLD_RULE"
STATES = frozenset({STATE_ABSENT, STATE_WITHDRAWN, STATE_RESERVED})
RESERVED = Inventory(reserved=1)

KEYS = ("1050:0407:1", "1050:0407:2", "1050:0407:3")


def subsets(names: Collection[str]) -> st.SearchStrategy[frozenset[str]]:
    """Give any of *names*."""
    return st.sets(st.sampled_from(sorted(names))).map(frozenset)


inventories = st.dictionaries(
    st.sampled_from([KEY, OTHER]),
    st.builds(Inventory, total=st.integers(1, 2), reserved=st.integers(0, 1)),
    max_size=2,
)


@st.composite
def observed(draw: st.DrawFn, key: str) -> ObservedProvider:
    """Give any provider that can be under *key*: ours, an operator's, one that we died over."""
    if draw(st.integers(0, 7)) == 0:
        return an_observed(key, inventories={}, traits=(), generation=0)
    has = draw(inventories)
    traits = draw(subsets({*OPERATORS, *STATES, STATE_DRAINED, STALE, RETIRED, SITE}))
    if draw(st.integers(0, 5)):
        traits |= {MANAGED}
    held = draw(st.sampled_from([(), *((name,) for name in sorted(has))]))
    return an_observed(key, inventories=has, traits=traits, held=held, generation=draw(st.integers(0, 9)))


@st.composite
def situations(draw: st.DrawFn) -> tuple[ObservedTree, list[DesiredProvider], dict[str, Any]]:
    """Give a tree, what is desired of it, and the other arguments of diff()."""
    keys = KEYS[: draw(st.sampled_from([1, 1, 2]))]
    tree = a_tree(*(draw(observed(key)) for key in keys if draw(st.integers(0, 3))))
    desired = [
        a_desired(key, resource_class=draw(st.sampled_from([KEY, OTHER])), traits=draw(subsets({SITE, "CUSTOM_B"})))
        for key in keys
        if draw(st.booleans())
    ]
    uuids = [an_observed(key).uuid for key in keys]
    plugged = {want.uuid for want in desired} | draw(subsets(uuids))
    return tree, desired, {"plugged": plugged, "retired_traits": {RETIRED}, "expired": draw(subsets(uuids))}


def without_generations(tree: ObservedTree) -> dict[str, ObservedProvider]:
    return {uuid: dataclasses.replace(provider, generation=0) for uuid, provider in tree.providers.items()}


def sequence_of(plan: Plan, provider: ObservedProvider) -> list[str]:
    return [action.kind for action in plan.actions if getattr(action, "provider_uuid", "") == provider.uuid]


def after(*providers: ObservedProvider, desired: Collection[DesiredProvider] = (), **more: Any) -> ObservedProvider:
    """Give the one provider of a tree as a plan leaves it."""
    tree = a_tree(*providers)
    (left,) = applied(diff(tree, list(desired), **more), tree).providers.values()
    return left


# What holds of every plan


@given(situations())
def test_one_plan_is_enough_and_what_is_already_so_needs_none(
    situation: tuple[ObservedTree, list[DesiredProvider], dict[str, Any]],
) -> None:
    tree, desired, more = situation
    reached = applied(diff(tree, desired, **more), tree)
    again = diff(reached, desired, **(more | {"expired": ()}))
    assert not again
    assert again.actions == ()


@given(situations())
def test_a_plan_that_was_cut_short_anywhere_ends_the_same_when_made_again(
    situation: tuple[ObservedTree, list[DesiredProvider], dict[str, Any]],
) -> None:
    tree, desired, more = situation
    plan = diff(tree, desired, **(more | {"expired": ()}))
    whole = without_generations(applied(plan, tree))
    for sequence in plan.sequences:
        for done in range(1, len(sequence)):
            cut = carried_out(sequence[:done], tree)
            resumed = applied(diff(cut, desired, **(more | {"expired": ()})), cut)
            assert without_generations(resumed) == whole


@given(situations())
def test_nothing_that_is_not_ours_is_written(
    situation: tuple[ObservedTree, list[DesiredProvider], dict[str, Any]],
) -> None:
    tree, desired, more = situation
    plan = diff(tree, desired, **more)
    wanted = {want.uuid for want in desired}
    written = {action.provider_uuid for sequence in plan.sequences for action in sequence}
    for provider in tree.providers.values():
        ours = provider.managed or (provider.blank and provider.uuid in wanted)
        assert ours or provider.uuid not in written
        if provider.uuid in wanted and not ours:
            assert any(note.blocks and provider.uuid in note.text for note in plan.notes)
    assert ROOT.uuid not in written
    assert written <= tree.providers.keys() | wanted


@given(situations())
def test_what_is_allocated_is_never_deleted_and_keeps_the_class_in_use(
    situation: tuple[ObservedTree, list[DesiredProvider], dict[str, Any]],
) -> None:
    tree, desired, more = situation
    reached = applied(diff(tree, desired, **more), tree)
    for provider in tree.providers.values():
        if provider.allocated:
            left = reached.providers[provider.uuid]
            assert left.allocations == provider.allocations
            assert provider.used_classes <= left.inventories.keys()


@given(situations())
def test_a_provider_that_is_not_desired_is_never_schedulable(
    situation: tuple[ObservedTree, list[DesiredProvider], dict[str, Any]],
) -> None:
    tree, desired, more = situation
    wanted = {want.uuid for want in desired}
    for provider in applied(diff(tree, desired, **more), tree).providers.values():
        if provider.managed and provider.uuid not in wanted:
            assert not any(inventory.schedulable for inventory in provider.inventories.values())
            assert provider.traits & {STATE_ABSENT, STATE_WITHDRAWN} == {
                STATE_WITHDRAWN if provider.uuid in more["plugged"] else STATE_ABSENT
            }


@given(situations())
def test_a_provider_that_is_desired_has_one_unit_of_one_class_and_the_traits_of_its_device(
    situation: tuple[ObservedTree, list[DesiredProvider], dict[str, Any]],
) -> None:
    tree, desired, more = situation
    reached = applied(diff(tree, desired, **more), tree)
    for want in desired:
        have, left = tree.providers.get(want.uuid), reached.providers[want.uuid]
        if not left.managed:
            continue
        assert left.traits >= want.traits
        assert not left.traits & STATES
        (inventory,) = left.inventories.values()
        assert inventory in (Inventory(), RESERVED)
        assert set(left.inventories) == ((have.used_classes if have else None) or {want.resource_class})


@given(situations())
def test_a_plan_makes_each_provider_what_the_table_of_states_says(
    situation: tuple[ObservedTree, list[DesiredProvider], dict[str, Any]],
) -> None:
    tree, desired, more = situation
    wanted = {want.uuid for want in desired}
    for left in applied(diff(tree, desired, **more), tree).providers.values():
        if not left.managed:
            continue
        there = Presence.WITHDRAWN if left.uuid in more["plugged"] else Presence.ABSENT
        known = Circumstances(Presence.OFFERED if left.uuid in wanted else there, left.intention, left.allocated)
        assert presence(left.traits, has_inventory=bool(left.inventories)) is known.presence
        state = TABLE[known]
        assert left.traits & MARKS == state.marks
        # What had no inventory when an operator drained it gets none while it is away.
        away_and_drained = known == Circumstances(there, Intention.DRAINED)
        # Where all is reserved, a number of units that another client once wrote stays; it gives none of them.
        shown = {Inventory(1, 1) if each.reserved == each.total else each for each in left.inventories.values()}
        assert {f"total {each.total}, reserved {each.reserved}" for each in shown} == (
            set() if state.units is Units.NONE or (away_and_drained and not left.inventories) else {state.units.value}
        )


@given(situations())
def test_an_operators_traits_survive_and_ours_go_when_they_are_no_longer_true(
    situation: tuple[ObservedTree, list[DesiredProvider], dict[str, Any]],
) -> None:
    tree, desired, more = situation
    wants = {want.uuid: want for want in desired}
    reached = applied(diff(tree, desired, **more), tree)
    for provider in tree.providers.values():
        left = reached.providers.get(provider.uuid)
        if left is None or not (provider.managed or provider.blank):
            continue
        assert left.traits & OPERATORS == provider.traits & OPERATORS
        assert (STATE_DRAINED in left.traits) == (STATE_DRAINED in provider.traits)
        if provider.uuid in wants:
            assert {name for name in left.traits if is_owned(name)} - {STATE_DRAINED} == {MANAGED}
            assert RETIRED not in left.traits


def given_back(provider: ObservedProvider) -> bool:
    """Whether a unit of *provider* may be had, as far as reservations go."""
    return any(inventory.schedulable for inventory in provider.inventories.values())


pluggings = st.lists(st.sampled_from(["offered", "withdrawn", "absent", "allocate", "release"]), max_size=8)


@given(pluggings)
def test_what_an_operator_reserved_stays_reserved_through_every_coming_and_going(story: list[str]) -> None:
    provider = an_observed(inventories={KEY: RESERVED})
    for step in (*story, "offered"):
        provider = lived_through(step, provider)
        assert not given_back(provider)
    assert provider.inventories == {KEY: RESERVED}


@given(pluggings)
def test_what_no_operator_reserved_is_never_left_reserved(story: list[str]) -> None:
    provider = an_observed()
    for step in (*story, "offered"):
        provider = lived_through(step, provider)
    assert provider.inventories == {KEY: Inventory()}


@given(pluggings)
def test_what_an_operator_drained_stays_drained_through_every_coming_and_going(story: list[str]) -> None:
    provider = an_observed(traits={MANAGED, STATE_DRAINED})
    for step in ("offered", *story, "offered"):
        provider = lived_through(step, provider)
        assert not given_back(provider)
        assert STATE_DRAINED in provider.traits
    assert provider.inventories == {KEY: RESERVED}


def lived_through(step: str, provider: ObservedProvider) -> ObservedProvider:
    """Give *provider* after *step* and one pass."""
    if step == "allocate":
        # A unit can have been allocated before an operator reserved it.
        return held_by(provider, a_consumer()) if provider.inventories else provider
    if step == "release":
        return held_by(provider)
    desired = [a_desired()] if step == "offered" else []
    return after(provider, desired=desired, plugged=() if step == "absent" else {provider.uuid})


@given(situations())
def test_no_step_on_the_way_shows_a_free_device_before_its_traits_or_after_it_went(
    situation: tuple[ObservedTree, list[DesiredProvider], dict[str, Any]],
) -> None:
    tree, desired, more = situation
    wants = {want.uuid: want for want in desired}
    for sequence in diff(tree, desired, **more).sequences:
        uuid = sequence[0].provider_uuid
        before = tree.providers.get(uuid)
        if before is not None and before.allocated:
            continue
        kinds = [action.kind for action in sequence if isinstance(action, SetTraits | SetInventory)]
        if uuid not in wants:
            assert kinds == sorted(kinds)
            continue
        shown = carried_out(sequence[:0], tree)
        for action in sequence:
            free_before = uuid in shown.providers and given_back(shown.providers[uuid])
            shown = carried_out([action], shown)
            if given_back(shown.providers[uuid]) and not free_before:
                assert shown.providers[uuid].traits >= wants[uuid].traits


@given(situations(), subsets({KEY, OTHER, SITE, "CUSTOM_B", MANAGED, STATE_ABSENT}))
def test_names_come_first_and_only_those_that_are_not_known(
    situation: tuple[ObservedTree, list[DesiredProvider], dict[str, Any]], known: frozenset[str]
) -> None:
    tree, desired, more = situation
    plan = diff(tree, desired, known_names=known, **more)
    made = [action.name for action in plan.names]
    assert plan.actions[: len(made)] == plan.names
    assert not known & set(made)
    assert len(set(made)) == len(made)
    classes = {name for a in plan.actions if isinstance(a, SetInventory) for name, _ in a.inventories}
    traits = {name for a in plan.actions if isinstance(a, SetTraits) for name in a.added}
    assert {a.name for a in plan.names if isinstance(a, EnsureResourceClass)} == classes - known
    missing = traits - known
    # The trait of an unplugged device is made along with the first others.
    expected = missing | ({STATE_ABSENT} - known) if missing else set()
    assert {a.name for a in plan.names if isinstance(a, EnsureTrait)} == expected
    assert bool(plan) == bool(plan.actions)


@given(situations())
def test_a_plan_is_the_same_each_time_it_is_made_and_prints_itself(
    situation: tuple[ObservedTree, list[DesiredProvider], dict[str, Any]],
) -> None:
    tree, desired, more = situation
    plan = diff(tree, desired, **more)
    shuffled = dataclasses.replace(tree, providers=dict(reversed(list(tree.providers.items()))))
    assert diff(shuffled, desired, **more) == plan
    for action in plan.actions:
        assert str(action).isprintable()
        record = action_json(action)
        assert record["action"] == action.kind
        assert json.loads(json.dumps(record)) == record
    for note in plan.notes:
        assert note.text.isprintable()


# What an operator sees


def test_a_device_that_appears_gets_its_traits_before_its_inventory() -> None:
    want = a_desired(traits={SITE, "HW_CPU_X86_AVX"})
    assert diff(a_tree(), [want]).actions == (
        EnsureResourceClass(KEY),
        EnsureTrait(SITE),
        EnsureTrait(MANAGED),
        EnsureTrait(STATE_ABSENT),
        CreateProvider(want.uuid, want.name, ROOT.uuid),
        SetTraits(want.uuid, want.name, None, want.traits, want.traits, frozenset()),
        SetInventory(want.uuid, want.name, None, ((KEY, Inventory()),)),
    )


def test_a_device_that_is_as_it_should_be_needs_nothing() -> None:
    assert not diff(a_tree(an_observed(traits={MANAGED, "CUSTOM_OPS"})), [a_desired()])


def test_a_device_that_is_unplugged_loses_its_inventory_before_it_gets_its_mark() -> None:
    have = an_observed()
    assert diff(a_tree(have), [], known_names={STATE_ABSENT}).actions == (
        SetInventory(have.uuid, have.name, have.generation, ()),
        SetTraits(
            have.uuid,
            have.name,
            None,
            frozenset({MANAGED, STATE_ABSENT}),
            frozenset({STATE_ABSENT}),
            frozenset(),
        ),
    )


def test_unplugged_while_allocated_keeps_provider_reserved() -> None:
    have = an_observed(held=[KEY])
    plan = diff(a_tree(have), [])
    left = applied(plan, a_tree(have)).providers[have.uuid]
    assert left.inventories == {KEY: RESERVED}
    assert left.traits == {MANAGED, STATE_ABSENT}
    (note,) = plan.notes
    assert "is not plugged in but consumer " in note.text
    assert not note.blocks


def test_what_we_reserve_is_never_there_without_the_mark_that_says_so() -> None:
    # Otherwise a pass that is cut short in between leaves what the next one takes for an operator's reservation.
    held = an_observed(held=[KEY])
    assert sequence_of(diff(a_tree(held), []), held) == ["set_traits", "set_inventory"]
    gone = after(held)
    assert sequence_of(diff(a_tree(gone), [a_desired()]), gone) == ["set_inventory", "set_traits"]
    back = a_desired(traits={SITE})
    assert [str(action) for action in diff(a_tree(held_by(gone)), [back], known_names={SITE, KEY}).actions] == [
        f"set traits of {gone.name}: +{SITE}",
        f"set inventory of {gone.name}: {KEY} total 1 reserved 0",
        f"set traits of {gone.name}: -{STATE_ABSENT}",
    ]


def test_plugged_in_again_while_allocated_is_as_before() -> None:
    have = an_observed(held=[KEY])
    gone = after(have)
    back = after(gone, desired=[a_desired()])
    assert dataclasses.replace(back, generation=have.generation) == have


def test_released_while_unplugged_loses_its_inventory() -> None:
    assert after(held_by(after(an_observed(held=[KEY])))).inventories == {}


def test_a_device_that_a_rule_drops_is_withdrawn_and_not_absent() -> None:
    have = an_observed()
    left = after(have, plugged={have.uuid})
    assert left.traits == {MANAGED, STATE_WITHDRAWN}
    assert left.inventories == {}
    assert after(left).traits == {MANAGED, STATE_ABSENT}


def test_a_provider_that_we_died_right_after_creating_is_finished() -> None:
    blank = an_observed(inventories={}, traits=(), generation=0)
    plan = diff(a_tree(blank), [a_desired()], known_names={KEY, MANAGED})
    assert [action.kind for action in plan.actions] == ["set_traits", "set_inventory"]
    assert not diff(a_tree(blank), [])


@pytest.mark.parametrize(
    "foreign",
    [
        an_observed(traits=()),
        an_observed(traits={"CUSTOM_OPS"}, inventories={}),
        an_observed(traits=(), held=[KEY]),
    ],
)
def test_a_provider_of_our_uuid_without_our_mark_is_left_alone_and_said(foreign: ObservedProvider) -> None:
    plan = diff(a_tree(foreign), [a_desired()])
    assert not plan
    (note,) = plan.notes
    assert note.blocks
    assert MANAGED in note.text


def test_a_rule_that_changes_the_class_of_a_free_device_changes_it_at_once() -> None:
    assert after(an_observed(), desired=[a_desired(resource_class=OTHER)]).inventories == {OTHER: Inventory()}


def test_a_rule_that_changes_the_class_of_a_held_device_waits_and_says_so() -> None:
    have, want = an_observed(held=[KEY]), a_desired(resource_class=OTHER)
    plan = diff(a_tree(have), [want])
    assert not plan
    (note,) = plan.notes
    assert f"keeps resource class {KEY} while consumer {a_consumer()} holds it" in note.text
    assert after(held_by(have), desired=[want]).inventories == {OTHER: Inventory()}


def test_an_inventory_that_an_operator_changed_is_put_right() -> None:
    odd = Inventory(total=5, min_unit=2, max_unit=5, step_size=2, allocation_ratio=16.0)
    assert after(an_observed(inventories={KEY: odd}), desired=[a_desired()]).inventories == {KEY: Inventory()}


def test_draining_reserves_and_no_pass_gives_it_back() -> None:
    drained = an_observed(traits={MANAGED, STATE_DRAINED})
    assert after(drained, desired=[a_desired()]).inventories == {KEY: RESERVED}


def test_why_it_was_drained_is_the_operators_to_say_and_is_kept_with_the_drain() -> None:
    why = "CUSTOM_USB_DRAIN_REASON_NEW_FIRMWARE"
    drained = an_observed(traits={MANAGED, STATE_DRAINED, why})
    unplugged = after(drained, desired=[])
    assert {STATE_ABSENT, STATE_DRAINED, why} <= unplugged.traits
    assert after(unplugged, desired=[a_desired()]).traits == {MANAGED, STATE_DRAINED, why}


@pytest.mark.parametrize("consumer", [None, a_consumer()])
def test_undrained_by_its_trait_alone_while_it_is_away_a_device_comes_back_unreserved(consumer: str | None) -> None:
    drained = held_by(an_observed(inventories={KEY: RESERVED}, traits={MANAGED, STATE_DRAINED}), consumer)
    away = after(drained, desired=[])
    undrained = dataclasses.replace(away, traits=away.traits - {STATE_DRAINED})
    assert after(undrained, desired=[a_desired()]).inventories == {KEY: Inventory()}
    assert after(after(undrained, desired=[]), desired=[a_desired()]).inventories == {KEY: Inventory()}


def test_a_trait_that_a_rule_gave_goes_with_the_rule_and_an_operators_stays() -> None:
    have = an_observed(traits={MANAGED, RETIRED, STALE, "CUSTOM_OPS"})
    assert after(have, desired=[a_desired()], retired_traits={RETIRED}).traits == {MANAGED, "CUSTOM_OPS"}


def test_a_retired_trait_that_another_rule_still_gives_to_this_device_stays() -> None:
    have = an_observed(traits={MANAGED, RETIRED})
    assert not diff(a_tree(have), [a_desired(traits={RETIRED})], retired_traits={RETIRED})


absent = an_observed(inventories={}, traits={MANAGED, STATE_ABSENT})


def test_an_absent_device_is_set_aside_only_once_it_is_expired() -> None:
    assert not diff(a_tree(absent), [])
    plan = diff(a_tree(absent), [], expired={absent.uuid})
    mark, aside = plan.sequences[0]
    assert isinstance(mark, SetTraits) and (mark.traits, mark.generation) == ({PURGED}, absent.generation)
    assert aside == SetAsideProvider(absent.uuid, absent.name)


def test_a_purge_that_ended_between_its_two_writes_is_ended() -> None:
    half = an_observed(inventories={}, traits={PURGED})
    assert diff(a_tree(half), [], expired={half.uuid}).actions == (SetAsideProvider(half.uuid, half.name),)
    assert "set_aside_provider" not in sequence_of(diff(a_tree(half), [a_desired()], expired={half.uuid}), half)


def test_what_was_set_aside_is_deleted_unless_its_device_is_back() -> None:
    waiting = {absent.uuid: absent.name}
    assert diff(a_tree(), [], set_aside=waiting).actions == (DeleteProvider(absent.uuid, absent.name),)
    assert DeleteProvider(absent.uuid, absent.name) not in diff(a_tree(), [a_desired()], set_aside=waiting).actions
    assert not diff(a_tree(absent), [], set_aside=waiting)


@pytest.mark.parametrize(
    ("provider", "more"),
    [
        (held_by(an_observed(inventories={KEY: RESERVED}, traits={MANAGED, STATE_ABSENT}), a_consumer()), {}),
        (an_observed(inventories={KEY: RESERVED}, traits={MANAGED, STATE_ABSENT, STATE_RESERVED}), {}),
        (an_observed(inventories={}, traits={MANAGED, STATE_ABSENT, STATE_DRAINED}), {}),
        (an_observed(inventories={}, traits={MANAGED, STATE_ABSENT, f"CUSTOM_USB_MEMBER_DRAINED_{16 * '0'}"}), {}),
        (an_observed(), {}),
        (an_observed(inventories={}, traits={STATE_ABSENT}), {}),
        (absent, {"plugged": {absent.uuid}}),
        (absent, {"desired": [a_desired()]}),
    ],
)
def test_what_is_held_reserved_drained_present_or_not_ours_is_not_purged_though_it_expired(
    provider: ObservedProvider, more: Mapping[str, Any]
) -> None:
    arguments = {"desired": [], **more}
    plan = diff(a_tree(provider), **arguments, expired={provider.uuid})
    assert "set_aside_provider" not in sequence_of(plan, provider)


def test_a_plan_reads_as_sentences() -> None:
    have = an_observed(KEYS[1], traits={MANAGED, STALE})
    plan = diff(a_tree(have, an_observed(KEYS[2])), [a_desired(), a_desired(KEYS[1])])
    assert [str(action) for action in plan.actions] == [
        f"create resource class {KEY}",
        f"create trait {MANAGED}",
        f"create trait {STATE_ABSENT}",
        f"set inventory of compute1.example.org_usb_{KEYS[2]}: none",
        f"set traits of compute1.example.org_usb_{KEYS[2]}: +{STATE_ABSENT}",
        f"create provider compute1.example.org_usb_{KEYS[0]} ({a_desired().uuid})",
        f"set traits of compute1.example.org_usb_{KEYS[0]}: +{MANAGED}",
        f"set inventory of compute1.example.org_usb_{KEYS[0]}: {KEY} total 1 reserved 0",
        f"set traits of compute1.example.org_usb_{KEYS[1]}: -{STALE}",
    ]
    assert str(SetAsideProvider(have.uuid, have.name)) == f"take provider {have.name} ({have.uuid}) out of the tree"
    assert str(DeleteProvider(have.uuid, have.name)) == f"delete provider {have.name} ({have.uuid})"


def test_the_plan_is_json_for_programs() -> None:
    want = a_desired()
    plan = diff(a_tree(), [want])
    assert [action_json(action) for action in plan.actions] == [
        {"action": "ensure_resource_class", "name": KEY},
        {"action": "ensure_trait", "name": MANAGED},
        {"action": "ensure_trait", "name": STATE_ABSENT},
        {
            "action": "create_provider",
            "provider_uuid": want.uuid,
            "name": want.name,
            "parent_provider_uuid": ROOT.uuid,
        },
        {
            "action": "set_traits",
            "provider_uuid": want.uuid,
            "name": want.name,
            "generation": None,
            "traits": [MANAGED],
            "added": [MANAGED],
            "removed": [],
        },
        {
            "action": "set_inventory",
            "provider_uuid": want.uuid,
            "name": want.name,
            "generation": None,
            "inventories": {KEY: Inventory().to_json()},
        },
    ]
    assert action_json(DeleteProvider("u", "n")) == {"action": "delete_provider", "provider_uuid": "u", "name": "n"}


@given(situations())
def test_only_held_providers_that_are_there_stay_as_they_are_and_the_others_are_as_ever(
    situation: tuple[ObservedTree, list[DesiredProvider], dict[str, Any]],
) -> None:
    tree, desired, more = situation
    as_ever = without_generations(applied(diff(tree, desired, **more), tree))
    kept = {uuid for uuid in tree.providers if tree.providers[uuid].managed}
    reached = without_generations(applied(diff(tree, desired, **more, kept=kept), tree))
    before = without_generations(tree)
    for uuid, left in reached.items():
        stays = uuid in kept and before[uuid].allocated and not before[uuid].traits & MARKS
        assert left == (before if stays else as_ever)[uuid]
    assert reached.keys() == as_ever.keys()
