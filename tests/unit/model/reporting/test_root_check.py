"""Whether a compute node can be this host's by its name, and whether another agent undoes this one's writes."""

import pytest

from placement_traits import MANAGED, STATE_ABSENT
from usb_provider.model.reporting.provider import Root
from usb_provider.model.reporting.root_check import UNDONE_SECONDS, OwnWrites, is_another_hosts
from usb_provider.model.reporting.tree import ObservedProvider, ObservedTree


def tree(generation: int, *more: str) -> ObservedTree:
    """The provider at *generation*, with *more* traits than the owner mark."""
    provider = ObservedProvider("p", "compute1_usb_a", generation, {}, frozenset({MANAGED, *more}))
    return ObservedTree(Root("r", "compute1"), {"p": provider})


@pytest.mark.parametrize(
    ("root", "by_libvirt", "own"),
    [
        ("compute1", "compute1", ()),
        ("compute1", "compute1.example.org", ()),
        ("compute1.example.org", "COMPUTE1.other.example.", ()),
        ("compute1", None, ("compute2",)),
        ("compute1", "localhost.localdomain", ("compute2",)),
        ("compute1", "", ()),
        ("kolla-host", "compute1", ("kolla-host",)),
    ],
)
def test_a_name_that_can_be_this_hosts_raises_no_alarm(root: str, by_libvirt: str | None, own: tuple[str, ...]) -> None:
    assert not is_another_hosts(root, by_libvirt, own)


@pytest.mark.parametrize("by_libvirt", ["compute2", "compute2.example.org", "compute11"])
def test_a_name_that_neither_libvirt_nor_the_host_has_is_another_hosts(by_libvirt: str) -> None:
    assert is_another_hosts("compute1", by_libvirt, (by_libvirt,))


def undone(times: list[float]) -> OwnWrites:
    """The agent offers the device, finds it withdrawn at each of *times*, and offers it again."""
    generation = 1
    writes = OwnWrites().after(tree(0), ["p"], tree(1), 0.0)
    for now in times:
        writes = writes.after(tree(generation + 1, STATE_ABSENT), ["p"], tree(generation + 2), now)
        generation += 2
    return writes


def test_writes_that_are_undone_three_times_in_an_hour_are_contested_for_that_hour() -> None:
    assert undone([10.0, 20.0]).contested(20.0) is None
    writes = undone([10.0, 20.0, 30.0])
    assert writes.contested(30.0) == "p"
    assert writes.contested(10.0 + UNDONE_SECONDS) is None
    assert undone([10.0, 4000.0, 8000.0]).contested(8000.0) is None


def test_a_device_that_comes_and_goes_by_itself_contests_nothing() -> None:
    writes = OwnWrites().after(tree(0), ["p"], tree(1), 0.0)
    for number in range(1, 20, 2):
        writes = writes.after(tree(number), ["p"], tree(number + 1, STATE_ABSENT), number)
        writes = writes.after(tree(number + 1, STATE_ABSENT), ["p"], tree(number + 2), number)
    assert writes.contested(20.0) is None


def test_a_command_that_writes_what_the_agent_would_write_contests_nothing() -> None:
    writes = OwnWrites().after(tree(0), ["p"], tree(1), 0.0)
    for number in range(1, 20, 2):
        writes = writes.after(tree(number + 1, STATE_ABSENT), [], tree(number + 1, STATE_ABSENT), number)
        writes = writes.after(tree(number + 1, STATE_ABSENT), ["p"], tree(number + 2), number)
    assert writes.contested(20.0) is None


def test_an_operator_who_adds_a_trait_each_minute_contests_nothing() -> None:
    writes = OwnWrites().after(tree(0), ["p"], tree(1), 0.0)
    for number in range(1, 20, 2):
        writes = writes.after(tree(number + 1, "CUSTOM_USB_SPEED_FULL"), ["p"], tree(number + 2), number)
    assert writes.contested(20.0) is None
