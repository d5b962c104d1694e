"""One word for each device, and draining one step at a time beside an agent that has its own part in it."""

import dataclasses
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placement_traits import (
    MANAGED,
    STATE_ABSENT,
    STATE_DRAINED,
    STATE_RESERVED,
    STATE_SHORT,
    STATE_WAITING,
    STATE_WITHDRAWN,
    member_drained_trait,
)
from tests.fixtures.applier import applied
from tests.fixtures.builders import KEY, a_consumer, a_desired, a_tree, an_observed, held_by
from usb_provider.model.lifecycle import WAITS, FleetState
from usb_provider.model.reporting.plan import diff
from usb_provider.model.reporting.tree import Amount, Inventory, ObservedProvider
from usb_provider.osc.model.fleet import (
    Device,
    Write,
    count_by_host,
    drain,
    facts,
    undrain,
)

RESERVED = Inventory(reserved=1)
WHY = "CUSTOM_USB_DRAIN_REASON_NEW_FIRMWARE"
FREE, HELD, TAKEN_OUT = Amount(1, 0), Amount(1, 1), Amount(0, 0)

situations = st.builds(
    lambda state, drained, reserved, consumer, inventory: held_by(
        an_observed(
            inventories={KEY: Inventory(reserved=int(reserved))} if inventory else {},
            traits={MANAGED, *state, *({STATE_DRAINED} if drained else ())},
        ),
        a_consumer() if consumer and inventory else None,
    ),
    st.sampled_from([(), (STATE_ABSENT,), (STATE_WITHDRAWN,), (STATE_ABSENT, STATE_RESERVED)]),
    *[st.booleans()] * 4,
)


def a_device(*traits: str, amount: Amount | None = FREE, host: str = "compute1") -> Device:
    """A device with these traits."""
    amounts = {} if amount is None else {KEY: amount}
    return Device("uuid", f"{host}_usb_1050:0407:Y1", host, host, frozenset({MANAGED, *traits}), amounts)


@pytest.mark.parametrize(
    ("device", "state", "reason"),
    [
        (a_device(), FleetState.FREE, "No consumer holds it."),
        (a_device(amount=HELD), FleetState.ALLOCATED, "A consumer holds it."),
        (
            a_device(amount=TAKEN_OUT),
            FleetState.RESERVED,
            "An operator reserved it: reserved equals total, and no trait says why.",
        ),
        (a_device(STATE_ABSENT, amount=None), FleetState.ABSENT, "It is not plugged in."),
        (a_device(STATE_ABSENT, amount=Amount(0, 1)), FleetState.ABSENT, "It is not plugged in. A consumer holds it."),
        (
            a_device(STATE_WITHDRAWN, amount=None),
            FleetState.WITHDRAWN,
            "It is plugged in, but no rule offers it or the host keeps it for itself.",
        ),
        (a_device(amount=None), FleetState.WITHDRAWN, "It has no inventory (yet)."),
        (a_device(STATE_DRAINED, amount=TAKEN_OUT), FleetState.DRAINED, "An operator drained it."),
        (a_device(STATE_DRAINED, WHY, amount=TAKEN_OUT), FleetState.DRAINED, "An operator drained it: new firmware."),
        (
            a_device(STATE_DRAINED, STATE_ABSENT, amount=Amount(0, 1)),
            FleetState.ABSENT,
            "It is not plugged in. An operator drained it. A consumer holds it.",
        ),
        (
            a_device(STATE_SHORT, amount=Amount(2, 3)),
            FleetState.ALLOCATED,
            "A consumer holds it. Of its 3 held units, 2 can be had.",
        ),
        (a_device(STATE_WAITING, amount=HELD), FleetState.WAITING, f"A consumer holds it. {WAITS}"),
        (
            a_device(STATE_WAITING, amount=Amount(3, 1)),
            FleetState.FREE,
            f"Consumers hold 1 of its 3 units. {WAITS}",
        ),
        (a_device(STATE_WAITING), FleetState.FREE, "No consumer holds it."),
    ],
)
def test_a_device_has_one_state_and_says_why(device: Device, state: FleetState, reason: str) -> None:
    assert (device.state, device.reason) == (state, reason)


def test_the_key_is_what_the_name_says_beside_the_host() -> None:
    assert a_device().key == "1050:0407:Y1"
    assert dataclasses.replace(a_device(), host="").key == "compute1_usb_1050:0407:Y1"


def test_only_what_nothing_would_be_lost_with_may_be_purged() -> None:
    assert a_device(STATE_ABSENT, amount=None).purgeable
    kept = [
        a_device(STATE_ABSENT),
        a_device(STATE_ABSENT, STATE_DRAINED, amount=None),
        a_device(),
        a_device(amount=None),
        a_device(STATE_ABSENT, member_drained_trait("0123456789abcdef"), amount=None),
    ]
    assert not any(device.purgeable for device in kept)


def test_what_the_traits_say_comes_back_as_words() -> None:
    found = facts(
        {
            *(MANAGED, STATE_DRAINED, WHY, "CUSTOM_HASP", "HW_CPU_X86_AVX"),
            *("CUSTOM_USB_VENDOR_1050", "CUSTOM_USB_PRODUCT_1050_0407", "CUSTOM_USB_SERIAL_A_1"),
            *("CUSTOM_USB_CLASS_MASS_STORAGE", "CUSTOM_USB_CLASS_58", "CUSTOM_USB_SPEED_SUPER_PLUS"),
        }
    )
    assert (found.vendor_id, found.product_id, found.serial, found.speed) == ("1050", "0407", "A_1", "super-plus")
    assert (found.classes, found.others) == (("58", "mass-storage"), ("CUSTOM_HASP", "HW_CPU_X86_AVX"))


def test_hosts_are_counted_with_what_is_held_across_the_states() -> None:
    away = a_device(STATE_ABSENT, amount=Amount(0, 1))
    one, two = count_by_host([a_device(host="compute2"), away, a_device(amount=HELD), a_device()])
    assert (one.host, one.offered, one.held) == ("compute1", 2, 2)
    assert (one.states[FleetState.FREE], one.states[FleetState.ABSENT], one.states[FleetState.ALLOCATED]) == (1, 1, 1)
    assert (two.host, two.offered, two.held) == ("compute2", 1, 0)


def test_each_unit_of_a_pool_is_counted() -> None:
    (count,) = count_by_host([a_device(), a_device(amount=Amount(16, 5)), a_device(STATE_SHORT, amount=Amount(2, 3))])
    assert (count.offered, count.states[FleetState.FREE], count.held) == (19, 12, 8)
    (drained,) = count_by_host([a_device(STATE_DRAINED, amount=Amount(0, 3))])
    assert (drained.offered, drained.states[FleetState.DRAINED], drained.held) == (1, 3, 3)


Step = Callable[[ObservedProvider], Write | None]


def carried_through(step: Step, have: ObservedProvider) -> list[ObservedProvider]:
    """Give *have* as each write of *step* leaves it, the last being what is there in the end."""
    seen = [have]
    while (write := step(seen[-1])) is not None:
        assert len(seen) < 4, "it never ends"
        changes = {"traits": write.traits} if write.traits is not None else {"inventories": write.inventories}
        seen.append(dataclasses.replace(seen[-1], **changes))  # type: ignore[arg-type]
    return seen


def after_a_pass(have: ObservedProvider, *, plugged: bool = True) -> ObservedProvider:
    """Give *have* after one pass of its agent, with the device plugged in and offered or not."""
    tree = a_tree(have)
    return applied(diff(tree, [a_desired()] if plugged else []), tree).providers[have.uuid]


def schedulable(providers: Iterable[ObservedProvider]) -> bool:
    """Whether the scheduler could give one of them to a consumer."""
    return any(each.free for each in providers)


@given(situations, st.booleans())
def test_a_drained_device_is_never_schedulable_and_no_pass_undoes_it(have: ObservedProvider, plugged: bool) -> None:
    *_, drained = carried_through(lambda each: drain(each, WHY), have)
    for _ in range(2):
        assert {STATE_DRAINED, WHY} <= drained.traits
        assert not schedulable([drained])
        assert drained.allocations == have.allocations
        drained = after_a_pass(drained, plugged=plugged)
    assert not schedulable([after_a_pass(drained)])


@given(situations)
def test_draining_and_undraining_leaves_a_device_as_its_next_pass_would_have(have: ObservedProvider) -> None:
    if STATE_DRAINED in have.traits or STATE_RESERVED in have.traits or (have.inventories == {KEY: RESERVED}):
        return
    *_, drained = carried_through(lambda each: drain(each, WHY), have)
    for between in (drained, after_a_pass(drained), after_a_pass(drained, plugged=False)):
        *_, back = carried_through(undrain, between)
        for plugged in (True, False):
            assert after_a_pass(back, plugged=plugged) == dataclasses.replace(
                after_a_pass(have, plugged=plugged), generation=after_a_pass(back, plugged=plugged).generation
            )


@given(situations)
def test_cut_short_a_drain_or_undrain_never_looks_like_a_reservation_by_hand(have: ObservedProvider) -> None:
    if have.inventories == {KEY: RESERVED}:
        return
    for step in (drain, undrain):
        for seen in carried_through(step, have):
            reserved = any(not each.schedulable for each in seen.inventories.values())
            assert not reserved or seen.traits & {STATE_DRAINED, STATE_ABSENT, STATE_WITHDRAWN}


@given(situations)
def test_what_is_away_is_not_schedulable_while_it_is_undrained(have: ObservedProvider) -> None:
    if have.traits & {STATE_ABSENT, STATE_WITHDRAWN} and not have.free:
        assert not schedulable(carried_through(undrain, have))


def test_a_new_reason_replaces_the_old_one_and_none_leaves_it() -> None:
    *_, first = carried_through(lambda each: drain(each, WHY), an_observed())
    assert drain(first) is None
    *_, second = carried_through(lambda each: drain(each, f"{WHY}_2"), first)
    assert WHY not in second.traits
    assert f"{WHY}_2" in second.traits


@pytest.mark.parametrize("passes", [0, 1, 2])
@pytest.mark.parametrize("is_short_before", [False, True], ids=["short while drained", "short before the drain"])
def test_an_undrain_offers_no_unit_of_a_pool_whose_device_is_missing(passes: int, is_short_before: bool) -> None:
    three = {KEY: Inventory(total=3, max_unit=3)}
    claims = {a_consumer(name): {KEY: 1} for name in ("one", "two", "three")}
    pool = dataclasses.replace(an_observed(inventories=three), allocations=claims)

    def after(have: ObservedProvider) -> ObservedProvider:
        tree = a_tree(have)
        return applied(diff(tree, [a_desired(units=2)]), tree).providers[have.uuid]

    *_, drained = carried_through(drain, after(pool) if is_short_before else pool)
    for _ in range(passes if is_short_before else passes + 1):
        drained = after(drained)
    for seen in carried_through(undrain, drained):
        one = next(iter(seen.allocations))
        left = {consumer: has for consumer, has in seen.allocations.items() if consumer != one}
        assert not schedulable([dataclasses.replace(seen, allocations=left)])
    assert after(seen) == dataclasses.replace(after(pool), generation=after(seen).generation)


def test_an_undrain_ends_what_an_operator_had_reserved_of_a_pool_that_is_short() -> None:
    marks = {MANAGED, STATE_SHORT, STATE_RESERVED, STATE_DRAINED}
    pool = an_observed(inventories={KEY: Inventory(total=3, reserved=3, max_unit=3)}, traits=marks)
    *_, back = carried_through(undrain, pool)
    assert back.traits == {MANAGED, STATE_SHORT}


def test_what_is_not_drained_is_not_undrained() -> None:
    assert undrain(an_observed(inventories={KEY: RESERVED})) is None
