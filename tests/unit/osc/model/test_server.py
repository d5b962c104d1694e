"""The claim of a server that gets one more device or gives one back, and what it may not lose."""

from hypothesis import given
from hypothesis import strategies as st

from placement_traits import attach_trait, detach_trait, detached_trait
from usb_provider.model.reporting.tree import ObservedProvider
from usb_provider.osc.model.server import (
    ServerClaim,
    UnifiedLimits,
    asked_to_stay,
    changed_traits,
    is_detached,
    request_traits,
)

SERVER = "5d8e7f0a-1b2c-4d3e-8f90-a1b2c3d4e5f6"
OTHER = "6d8e7f0a-1b2c-4d3e-8f90-a1b2c3d4e5f6"
KEY = "CUSTOM_USB_KEY"

HELD = st.dictionaries(
    st.sampled_from(["root", "a", "b"]),
    st.dictionaries(st.sampled_from(["VCPU", KEY]), st.integers(1, 4), min_size=1),
    min_size=1,
)


@given(HELD, st.sampled_from(["a", "b", "c"]))
def test_a_claim_that_grows_and_shrinks_again_is_as_it_was(held: dict[str, dict[str, int]], provider: str) -> None:
    claim = ServerClaim(held, 7, "project", "user")
    units = claim.allocations.get(provider, {}).get(KEY, 0)
    larger = claim.with_unit(provider, KEY)
    assert larger.allocations[provider][KEY] == units + 1
    assert larger.with_at_most(provider, KEY, units) == claim


@given(HELD, st.sampled_from(["a", "b"]), st.integers(0, 4))
def test_all_else_stays_and_nothing_is_held_with_an_amount_of_none(
    held: dict[str, dict[str, int]], provider: str, stay: int
) -> None:
    claim = ServerClaim(held, 7, "project", "user")
    smaller = claim.with_at_most(provider, KEY, stay)
    assert {uuid: has for uuid, has in smaller.allocations.items() if uuid != provider} == {
        uuid: has for uuid, has in held.items() if uuid != provider
    }
    assert all(has and all(has.values()) for has in smaller.allocations.values())
    assert smaller.allocations.get(provider, {}).get(KEY, 0) == min(stay, held.get(provider, {}).get(KEY, 0))
    assert (smaller.generation, smaller.project_id, smaller.user_id) == (7, "project", "user")


def test_the_projects_own_limit_counts_before_the_default_and_minus_one_is_none() -> None:
    assert UnifiedLimits().effective is None
    assert UnifiedLimits(registered=3).effective == 3
    assert UnifiedLimits(of_project=0, registered=3).effective == 0
    assert UnifiedLimits(of_project=-1, registered=3).effective is None


def test_a_detach_is_over_when_the_agent_has_answered_what_is_asked() -> None:
    asked = {detach_trait(SERVER, 1)}
    assert asked_to_stay(asked, SERVER) == 1
    assert asked_to_stay(asked, OTHER) is None
    assert not is_detached(asked, SERVER, 1)
    assert is_detached({*asked, detached_trait(SERVER, 1)}, SERVER, 1)
    assert not is_detached({*asked, detached_trait(SERVER, 2)}, SERVER, 1)
    assert not is_detached({detached_trait(SERVER, 1)}, SERVER, 1), "the request was taken back"


def test_only_what_is_about_the_detach_from_this_server_is_taken_from_the_provider() -> None:
    mine = {detach_trait(SERVER, 1), detach_trait(SERVER, 0), detached_trait(SERVER, 1)}
    others = {detach_trait(OTHER), attach_trait(SERVER), "CUSTOM_SITE_A"}
    assert request_traits(mine | others, SERVER) == mine


def test_where_the_traits_are_right_nothing_is_written() -> None:
    have = ObservedProvider("a", "a", 1, traits=frozenset({"A", "B"}))
    assert changed_traits(have, add=["A"], remove=["C"]) is None
    write = changed_traits(have, add=["C"], remove=["A"])
    assert write is not None
    assert write.traits == {"B", "C"}
