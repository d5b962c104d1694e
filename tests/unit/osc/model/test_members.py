"""Draining one member of a pool through Placement, which has no keys of members, beside an agent that counts them."""

import dataclasses

import pytest

from placement_traits import MANAGED, STATE_ABSENT, STATE_DRAINED, STATE_SHORT, member_drained_trait
from tests.fixtures.applier import applied
from tests.fixtures.builders import KEY, ROOT, a_consumer, a_desired, a_tree, an_observed
from usb_provider.exception import UnknownArgument
from usb_provider.model.reporting.plan import diff
from usb_provider.model.reporting.provider import provider_uuid
from usb_provider.model.reporting.tree import Inventory, ObservedProvider
from usb_provider.model.units.names import member_id
from usb_provider.osc.model.members import drain_member, drain_trait, undrain_member

DEVICE = "1050:0407:Y1"
DIGITS = member_id(provider_uuid(ROOT.uuid, DEVICE))
MARK = member_drained_trait(DIGITS)


def a_pool(total: int = 3, reserved: int = 0, used: int = 0, *traits: str) -> ObservedProvider:
    """A pool with these numbers."""
    numbers = {KEY: Inventory(total=total, reserved=reserved, max_unit=total)}
    pool = an_observed(inventories=numbers, traits={MANAGED, *traits})
    return dataclasses.replace(pool, allocations={a_consumer(): {KEY: used}} if used else {})


def drained(pool: ObservedProvider) -> list[ObservedProvider]:
    """The pool as each write of a drain leaves it."""
    seen = [pool]
    for write in drain_member(pool, MARK):
        traits = seen[-1].traits if write.traits is None else write.traits
        inventories = seen[-1].inventories if write.inventories is None else write.inventories
        seen.append(dataclasses.replace(seen[-1], traits=traits, inventories=inventories))
    return seen


def free(pool: ObservedProvider) -> int:
    """How many more units the scheduler can give."""
    return sum(max(0, each.total - each.reserved - pool.used(name)) for name, each in pool.inventories.items())


@pytest.mark.parametrize("used", [0, 1, 2, 3])
def test_a_drain_takes_one_unit_and_the_next_pass_counts_the_members(used: int) -> None:
    pool = a_pool(3, 0, used)
    *between, last = drained(pool)
    assert free(last) == max(0, free(pool) - 1)
    for each in [*between[1:], last]:
        tree = a_tree(each)
        after = applied(diff(tree, [a_desired(units=2)]), tree).providers[pool.uuid]
        assert (after.inventories[KEY].total, after.inventories[KEY].reserved) == (max(2, used), max(2, used) - 2)
        assert after.traits == {MANAGED, MARK} | ({STATE_SHORT} if used == 3 else set())


@pytest.mark.parametrize(
    "pool",
    [
        a_pool(3, 1),
        a_pool(3, 3, 0, STATE_DRAINED),
        a_pool(2, 2, 2, STATE_ABSENT),
        a_pool(2, 2, 2, STATE_SHORT),
        dataclasses.replace(a_pool(), inventories={}, traits=frozenset({MANAGED, STATE_ABSENT})),
    ],
    ids=["reserved by hand", "drained", "absent", "short of all", "absent and free"],
)
def test_where_an_operator_reserved_units_or_none_can_be_had_only_the_trait_is_written(pool: ObservedProvider) -> None:
    (write,) = drain_member(pool, MARK)
    assert (write.traits, write.inventories) == (pool.traits | {MARK}, None)


def test_what_is_drained_is_not_drained_again_and_an_undrain_writes_only_the_trait() -> None:
    last = drained(a_pool())[-1]
    assert drain_member(last, MARK) == ()
    (write,) = undrain_member(last, MARK)
    assert (write.traits, write.inventories) == (last.traits - {MARK}, None)
    assert undrain_member(a_pool(), MARK) == ()


def test_a_member_is_named_by_its_key_and_to_end_its_drain_also_by_its_digits() -> None:
    pool = a_pool(3, 0, 0, MARK)
    assert drain_trait(a_pool(), DEVICE, ROOT.uuid, drained=True) == MARK
    assert drain_trait(pool, DEVICE, ROOT.uuid, drained=False) == MARK
    assert drain_trait(pool, DIGITS, ROOT.uuid, drained=False) == MARK
    for member in (DIGITS, "1", "1050", "1050:0407", "1050:0407:"):
        with pytest.raises(UnknownArgument, match="is not the key of a device"):
            drain_trait(a_pool(), member, ROOT.uuid, drained=True)


def test_a_pool_of_devices_that_share_only_the_vendor_may_have_any_of_its_products() -> None:
    pool = a_pool(3, 0, 0, "CUSTOM_USB_VENDOR_1050")
    assert drain_trait(pool, DEVICE, ROOT.uuid, drained=True) == MARK
    with pytest.raises(UnknownArgument, match="its members are devices of vendor 1050"):
        drain_trait(pool, "0529:0407:Y1", ROOT.uuid, drained=True)
    with pytest.raises(UnknownArgument, match="devices 1050:0406"):
        drain_trait(a_pool(3, 0, 0, *pool.traits, "CUSTOM_USB_PRODUCT_1050_0406"), DEVICE, ROOT.uuid, drained=True)
