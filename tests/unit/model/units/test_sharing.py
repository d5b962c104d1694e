"""Which guest has which member of a pool: what one has it keeps, and a spare takes over for one that breaks."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from usb_provider.model.units.sharing import TAKEN, shared

A, B, M = "guest-a", "guest-b", "migration"
THREE = ("m1", "m2", "m3")

members_of = st.lists(st.sampled_from([f"m{number}" for number in range(1, 7)]), unique=True)
consumers = st.sampled_from([A, B, M, "guest-c"])
claims_of = st.dictionaries(consumers, st.integers(1, 3))
owners = st.dictionaries(st.sampled_from([f"m{number}" for number in range(1, 8)]), consumers)
attached_to = st.dictionaries(st.sampled_from([f"m{number}" for number in range(1, 8)]), consumers | st.just(TAKEN))
anything = st.fixed_dictionaries(
    {
        "closed": st.frozensets(st.sampled_from(THREE)),
        "before": owners,
        "attached": attached_to,
        "known": st.none() | st.frozensets(consumers),
        "asked": st.frozensets(consumers),
    }
)


@given(claims_of, members_of, anything)
def test_no_guest_gets_more_than_it_claims_and_no_device_goes_to_two(claims, members, situation):
    found = shared(claims, members, **situation)
    assert Counter(found.values()) <= Counter(claims)
    assert set(found) <= {*members, *situation["before"]}


@given(claims_of, members_of, anything)
def test_what_was_decided_once_stays_decided(claims, members, situation):
    first = shared(claims, members, **situation)
    assert shared(claims, members, **(situation | {"before": first})) == first


@given(claims_of, members_of, owners)
def test_a_guest_keeps_what_it_has_whoever_else_comes(claims, members, before):
    first = shared(claims, members, before=before)
    after = shared(claims | {"newcomer": 1}, members, before=first)
    assert {key: after.get(key) for key in first if key in members} == {
        key: owner for key, owner in first.items() if key in members
    }


@given(claims_of, members_of, members_of, owners)
def test_a_guest_keeps_what_is_there_whatever_else_is_unplugged_or_plugged_in(claims, members, later, before):
    first = shared(claims, members, before=before)
    after = shared(claims, later, before=first)
    assert all(after[key] == owner for key, owner in first.items() if key in later and key in members)


@given(claims_of, members_of, anything)
def test_no_guest_waits_while_a_member_is_free(claims, members, situation):
    found = shared(claims, members, **situation)
    present = Counter(owner for key, owner in found.items() if key in members)
    if any(present[consumer] < amount for consumer, amount in claims.items()):
        free = set(members) - found.keys() - situation["closed"] - situation["attached"].keys()
        assert not free


@given(claims_of, members_of, anything)
def test_a_device_that_another_guest_has_is_passed_over(claims, members, situation):
    found = shared(claims, members, **situation)
    for key, guest in situation["attached"].items():
        if key in members and key in found and guest in claims:
            assert found[key] == guest
        if guest == TAKEN and key in members:
            assert key not in found


def test_each_guest_gets_as_many_as_it_claims_in_the_order_of_the_members():
    assert shared({A: 2, B: 1}, THREE) == {"m1": A, "m2": A, "m3": B}


def test_a_free_member_takes_over_when_one_is_unplugged_and_the_one_that_returns_is_free_then():
    before = shared({A: 1}, THREE)
    over = shared({A: 1}, ("m2", "m3"), before=before)
    assert over == {"m2": A}
    assert shared({A: 1}, THREE, before=over) == over


def test_two_members_that_are_unplugged_together_come_back_to_their_guests_in_any_order():
    before = {"m1": A, "m2": B}
    gone = shared({A: 1, B: 1}, (), before=before)
    assert gone == before
    assert shared({A: 1, B: 1}, ("m2",), before=gone) == before


def test_what_is_attached_outweighs_what_was_decided():
    assert shared({A: 1, B: 1}, THREE, before={"m1": A, "m2": B}, attached={"m3": A}) == {"m3": A, "m2": B}


def test_a_guest_that_claims_fewer_keeps_what_was_its_own():
    assert shared({A: 1}, THREE, before={"m2": A}, attached={"m1": A, "m2": A}) == {"m2": A}


def test_a_drained_member_stays_with_its_guest_and_goes_to_no_other():
    before = shared({A: 1}, THREE, closed=["m1"], before={"m1": A})
    assert before == {"m1": A}
    assert shared({B: 1}, THREE, closed=["m1"], before=before) == {"m2": B}
    assert shared({B: 1}, ("m1",), closed=["m1"]) == {}


def test_a_migration_holds_the_units_of_the_guest_that_still_runs_here():
    before = {"m1": B, "m2": A}
    moved = shared({M: 1, B: 1}, THREE, before=before, attached={"m1": B, "m2": A}, known=[A, B])
    assert moved == {"m1": B, "m2": M}
    back = shared({A: 1, B: 1}, THREE, before=moved, attached={"m1": B, "m2": A}, known=[A, B])
    assert back == before


def test_another_guest_of_this_host_waits_for_no_member_that_is_still_being_detached():
    assert shared({B: 1}, ("m1", "m2"), before={"m1": A}, attached={"m1": A}, known=[A, B]) == {"m2": B}


def test_a_migration_does_not_take_the_member_of_a_guest_from_which_a_user_wants_it_back():
    before = {"m1": A, "m2": M}
    assert shared({M: 1}, THREE, before=before, attached={"m1": A}, known=[A], asked=[A]) == {"m2": M}


def test_a_migration_follows_its_own_guest_where_a_user_asks_another_one_for_its_member():
    both = {"m1": A, "m2": B}
    assert shared({M: 1}, THREE, before=both, attached=both, known=[A, B], asked=[A]) == {"m2": M}
    assert shared({M: 1}, THREE, before={"m2": B}, attached=both, known=[A, B], asked=[A]) == {"m2": M}


def test_a_new_name_gets_the_former_members_of_a_name_that_is_gone_and_not_those_that_a_user_asked_back():
    assert shared({M: 1}, THREE, before={"m1": A, "m2": B}, asked=[A]) == {"m2": M}


def test_a_migration_holds_a_drained_member_too_so_that_a_host_can_be_emptied():
    moved = shared({M: 1}, THREE, closed=["m1"], before={"m1": A}, attached={"m1": A}, known=[A])
    assert moved == {"m1": M}
    told_otherwise = {"m2": M}
    assert shared({M: 1}, THREE, closed=["m1"], before=told_otherwise, attached={"m1": A}, known=[A]) == {"m1": M}


def test_a_drained_member_follows_a_new_name_only_where_nothing_else_is_left():
    assert shared({M: 1}, ("m1",), closed=["m1"], before={"m1": A}) == {"m1": M}
    assert shared({M: 2}, ("m1", "m3"), closed=["m1"], before={"m1": A}) == {"m3": M}


def test_a_member_that_the_rules_give_another_place_follows_its_consumers_new_name_and_goes_to_no_other():
    assert shared({M: 1}, THREE, leaving=["m1"], before={"m1": A}) == {"m1": M}
    assert shared({A: 1, B: 1}, ("m1",), leaving=["m1"], before={"m2": B, "m1": A}) == {"m1": A, "m2": B}
    assert shared({B: 1}, ("m1",), leaving=["m1"], before={"m2": B, "m1": A}) == {"m2": B}


def test_a_server_that_waits_does_not_take_the_members_of_one_that_moves():
    assert shared({B: 1, M: 2}, ("m1", "m2"), before={"m1": A, "m2": A}) == {"m1": M, "m2": M}


def test_a_missing_member_is_waited_for_under_the_new_name_too():
    assert shared({M: 1}, (), before={"m1": A}) == {"m1": M}
