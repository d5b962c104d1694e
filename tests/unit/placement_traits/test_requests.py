"""The names by which a user and the agent agree on a device of a server."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placement_traits import (
    attach_requests,
    attach_trait,
    check_custom,
    describe,
    detach_answers,
    detach_requests,
    detach_trait,
    detached_trait,
    is_owned,
    is_request,
)

SERVER = "5d8e7f0a-1b2c-4d3e-8f90-a1b2c3d4e5f6"
SPELLED = "5D8E7F0A1B2C4D3E8F90A1B2C3D4E5F6"


def test_a_request_names_the_server_and_what_stays_with_it() -> None:
    assert attach_trait(SERVER) == f"CUSTOM_USB_ATTACH_TO_{SPELLED}"
    assert detach_trait(SERVER) == f"CUSTOM_USB_DETACH_FROM_{SPELLED}_0"
    assert detached_trait(SERVER, 2) == f"CUSTOM_USB_DETACHED_FROM_{SPELLED}_2"


@given(st.uuids().map(str), st.integers(0, 127))
def test_what_is_spelled_is_read_back(server: str, stay: int) -> None:
    asked, answered, waits = detach_trait(server, stay), detached_trait(server, stay), attach_trait(server)
    traits = {check_custom(each) for each in (asked, answered, waits)}
    assert detach_requests(traits) == detach_answers(traits) == {server: stay}
    assert attach_requests(traits) == {server}
    assert all(map(is_request, traits))


def test_of_two_requests_the_one_counts_that_leaves_less() -> None:
    assert detach_requests({detach_trait(SERVER, 2), detach_trait(SERVER, 1)}) == {SERVER: 1}


@pytest.mark.parametrize(
    "name", ["CUSTOM_USB_ATTACH_TO_", "CUSTOM_USB_DETACH_FROM_X_0", f"CUSTOM_USB_ATTACH_TO_{SPELLED}A"]
)
def test_a_name_that_only_begins_alike_is_no_request(name: str) -> None:
    assert not is_request(name)
    assert describe(name) is None
    assert (attach_requests({name}), detach_requests({name})) == (frozenset(), {})


def test_a_request_is_not_the_agents_own_and_says_what_it_is() -> None:
    assert not is_owned(detach_trait(SERVER))
    assert describe(attach_trait(SERVER)) == f"A user waits until server {SERVER} has the device."
    assert describe(detach_trait(SERVER)) == (
        f"A user wants the device back from server {SERVER}; units that stay with it: 0."
    )
