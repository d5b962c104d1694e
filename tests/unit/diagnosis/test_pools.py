"""What doctor says of pools: how many members there are, which are drained, and what the reporter would say of them."""

from placement_traits import STATE_SHORT, member_drained_trait
from tests.fixtures.pooled_host import PooledHost
from usb_provider.diagnosis.check import Verdict
from usb_provider.diagnosis.context import Reported
from usb_provider.diagnosis.pools import PoolsCheck
from usb_provider.model.reporting.host_state import HostView
from usb_provider.model.reporting.plan import Note
from usb_provider.model.reporting.tree import ObservedTree
from usb_provider.model.units.drains import drain_notes
from usb_provider.model.units.names import member_id

CHECK = PoolsCheck()


def a_host() -> PooledHost:
    """A host with three sticks in a pool."""
    host = PooledHost()
    for port in ("1-1", "1-2", "1-3"):
        host.plug(port)
    return host


def test_a_host_without_a_pool_has_nothing_to_check() -> None:
    row = CHECK.judge(Reported(HostView(ObservedTree(PooledHost().root), ())))
    assert (row.verdict, row.found) == (Verdict.OK, "This host has no pool.")


def test_the_members_are_counted_and_a_drained_one_is_named() -> None:
    host = a_host()
    assert CHECK.judge(Reported(host.view())).found == "1 pool with 3 members, of which none is drained."
    device = next(each for each in host.view().devices if each.device.sys_name == "1-2")
    assert device.member_id is not None
    host.drained = frozenset({member_drained_trait(device.member_id)})
    row = CHECK.judge(Reported(host.view()))
    assert row.verdict is Verdict.OK
    assert row.found == f"1 pool with 3 members; drained: {device.identity.key} of pool hasp."


def test_a_drain_of_no_member_and_missing_units_are_warnings() -> None:
    host = a_host()
    digits = member_id("01234567-89ab-4def-8123-456789abcdef")
    host.drained = frozenset({member_drained_trait(digits)})
    view = host.view()
    notes = drain_notes(view.tree, view.devices, ())
    row = CHECK.judge(Reported(view, notes))
    assert row.verdict is Verdict.WARNING
    assert f"the drain of a member that this host does not know ({digits})" in row.found
    short = Note(f"{STATE_SHORT}:uuid", "The pool lacks 1 of its held units.")
    assert CHECK.judge(Reported(view, (short,))).found == short.text
    assert CHECK.judge(Reported(view, (Note("limit", "Another thing."),))).verdict is Verdict.OK
