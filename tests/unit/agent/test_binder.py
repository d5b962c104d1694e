"""The binder on a host of plain values: what a guest holds it has, and nothing else, whatever happens between."""

import dataclasses
import logging
import threading
import time
from collections.abc import Callable

import pytest

from tests.fixtures.binder import host, lines
from tests.fixtures.fake_host import FakeHost, Never, a_uuid
from usb_provider.agent.operations import GuestThreads
from usb_provider.exception import AttachRefused, Conflict, Incompatible, Unavailable
from usb_provider.model.binding.hostdev import Hostdev
from usb_provider.model.binding.retry import LONGEST_RETRY
from usb_provider.model.devices.device import HostUse, UseKind

__all__ = ["host"]


def test_a_guest_that_holds_a_device_has_it_after_one_pass(host: FakeHost) -> None:
    host.plug("1-2", serial="A1")
    host.start("vm")
    host.hold("1-2", "vm")
    host.binder.run()
    assert host.has("vm") == {"1-2"}


def test_two_like_devices_each_go_to_the_guest_that_holds_them(host: FakeHost) -> None:
    for port, serial, name in (("1-2", "A1", "left"), ("1-3", "A2", "right")):
        host.plug(port, serial=serial)
        host.start(name)
        host.hold(port, name)
    host.start("bystander")
    host.binder.run()
    assert (host.has("left"), host.has("right"), host.has("bystander")) == ({"1-2"}, {"1-3"}, set())


def test_a_pass_with_nothing_to_do_touches_nothing(host: FakeHost) -> None:
    host.plug("1-2")
    host.start("vm")
    host.hold("1-2", "vm")
    host.binder.run()
    before = list(host.history)
    assert host.binder.run() is None
    assert host.history == before


def test_an_unplugged_device_is_detached_at_once_and_is_back_when_it_is_plugged_in_again(host: FakeHost) -> None:
    host.plug("1-2", serial="A1")
    host.start("vm")
    host.hold("1-2", "vm")
    host.binder.run()
    host.unplug("1-2")
    host.binder.run()
    assert host.domains["vm"].hostdevs == []
    host.plug("1-2", serial="A1")
    host.binder.run()
    assert host.has("vm") == {"1-2"}


def test_a_device_with_a_serial_is_back_from_another_port(host: FakeHost) -> None:
    host.plug("1-2", serial="A1")
    host.start("vm")
    host.hold("1-2", "vm")
    host.binder.run()
    host.unplug("1-2")
    host.plug("1-4", serial="A1")
    host.binder.run()
    assert host.has("vm") == {"1-4"}


def test_another_device_in_the_old_port_is_never_attached(host: FakeHost) -> None:
    host.plug("1-2", serial="A1")
    host.start("vm")
    host.hold("1-2", "vm")
    host.binder.run()
    host.unplug("1-2")
    host.plug("1-2", serial="B2")
    host.binder.run()
    host.binder.run()
    assert host.has("vm") == set()
    assert host.domains["vm"].hostdevs == []


def test_a_device_that_resets_itself_between_two_looks_is_attached_anew(host: FakeHost) -> None:
    host.plug("1-2", serial="A1")
    host.start("vm")
    host.hold("1-2", "vm")
    host.binder.run()
    host.unplug("1-2")
    host.plug("1-2", serial="A1")
    host.binder.run()
    assert host.has("vm") == {"1-2"}
    assert len(host.domains["vm"].hostdevs) == 1


def test_a_number_that_changes_between_look_up_and_attach_never_gives_the_wrong_device(host: FakeHost) -> None:
    first = host.plug("1-2", serial="A1")
    host.start("vm")
    host.hold("1-2", "vm")

    def swap() -> None:
        host.unplug("1-2")
        # A twin takes the very number that was looked up; the right one comes back with another.
        host.devices["1-3"] = type(first)(**{**_fields(first), "sys_name": "1-3", "port_path": "3", "serial": "B2"})
        host.plug("1-2", serial="A1")

    host.before_attach.append(swap)
    host.binder.run()
    host.binder.run()
    assert host.has("vm") == {"1-2"}
    assert len(host.domains["vm"].hostdevs) == 1


def test_an_allocation_that_is_removed_takes_the_device_with_it(
    host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    host.plug("1-2")
    host.start("vm")
    provider = host.hold("1-2", "vm")
    host.binder.run()
    del host.allocations[provider]
    with caplog.at_level(logging.INFO, "usb_provider.audit"):
        host.binder.run()
    assert host.domains["vm"].hostdevs == []
    assert "no longer holds its allocation" in caplog.text


def test_an_allocation_that_moves_to_a_migration_leaves_the_device_where_it_is(host: FakeHost) -> None:
    host.plug("1-2")
    host.start("vm")
    provider = host.hold("1-2", "vm")
    host.binder.run()
    host.allocations[provider] = a_uuid("a migration, which is no guest here")
    host.binder.run()
    assert host.has("vm") == {"1-2"}


def test_an_allocation_that_moves_to_another_guest_here_takes_the_device_along(host: FakeHost) -> None:
    host.plug("1-2")
    host.start("vm")
    host.start("heir")
    host.hold("1-2", "vm")
    host.binder.run()
    host.hold("1-2", "heir")
    host.binder.run()
    assert (host.has("vm"), host.has("heir")) == (set(), {"1-2"})


@pytest.mark.parametrize("error", [Unavailable("away"), Incompatible("a proxy answers 405")])
def test_a_placement_that_cannot_say_who_holds_what_keeps_no_device_from_its_guest(
    host: FakeHost, error: Exception
) -> None:
    def confirm(uuids: object) -> None:
        raise error

    host.plug("1-2")
    host.start("vm")
    host.hold("1-2", "vm")
    host.binder._confirm = confirm
    host.binder.run()
    assert host.has("vm") == {"1-2"}


@pytest.mark.parametrize("hook", [True, False])
def test_a_restored_guest_has_a_live_device_again(host: FakeHost, hook: bool) -> None:
    host.plug("1-2", serial="A1")
    host.plug("1-3", serial="A2")
    host.start("vm")
    host.hold("1-2", "vm")
    host.hold("1-3", "vm")
    host.binder.run()
    host.save_and_restore("vm", hook=hook)
    host.binder.run()
    assert host.has("vm") == {"1-2", "1-3"}


def test_placeholders_all_go_before_anything_is_attached(host: FakeHost) -> None:
    for port in ("1-2", "1-3"):
        host.plug(port, serial=port)
        host.start("vm")
        host.hold(port, "vm")
    host.binder.run()
    host.save_and_restore("vm")
    host.history.clear()
    host.binder.run()
    assert [what for what, _, _ in host.history] == ["detach", "detach", "attach", "attach"]


def test_a_guest_that_is_on_its_way_in_is_left_alone_until_it_has_arrived(host: FakeHost) -> None:
    host.plug("1-2")
    host.start("vm").busy = True
    host.hold("1-2", "vm")
    assert host.binder.run() is not None, "somebody has to look again"
    assert host.history == []
    host.domains["vm"].busy = False
    host.binder.run()
    assert host.has("vm") == {"1-2"}


def test_a_crash_of_the_agent_forgets_nothing_that_matters(host: FakeHost) -> None:
    host.plug("1-2")
    host.start("vm")
    host.hold("1-2", "vm")
    host.binder.run()
    host.restart_agent()
    before = list(host.history)
    host.binder.run()
    assert host.history == before


def test_hostdevs_that_are_not_ours_are_left_alone(host: FakeHost) -> None:
    device = host.plug("1-2")
    theirs = Hostdev("hostdev0", device.vendor_id, device.product_id, device.busnum, device.devnum)
    host.start("theirs").hostdevs.append(theirs)
    host.start("vm")
    host.hold("1-2", "vm")
    host.binder.run()
    assert host.domains["theirs"].hostdevs == [theirs]
    assert host.status()[0]["devices"][0]["reason"] == "guest theirs has it"


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"interfaces": (("09", "00", "00"),)}, "hub"),
        ({"uses": (HostUse(UseKind.MOUNTED, "sdb1 is mounted on /mnt"),)}, "mounted"),
        ({"vendor_id": "dead"}, "none of the 1 device_spec rules"),
    ],
)
def test_what_is_not_offered_is_never_attached_even_with_a_forged_allocation(
    host: FakeHost, facts: dict[str, object], why: str
) -> None:
    host.plug("1-2", **facts)
    uuid = host.uuid_of("1-2")
    host.providers.add(uuid)
    host.start("vm")
    host.hold("1-2", "vm")
    host.binder.run()
    assert host.history == []
    assert why in host.status()[0]["devices"][0]["reason"]


def test_a_failing_attach_is_tried_again_and_said_once(host: FakeHost, caplog: pytest.LogCaptureFixture) -> None:
    host.plug("1-2")
    host.start("vm")
    host.hold("1-2", "vm")
    for _ in range(2):
        host.before_attach.append(lambda: host.faults.append(AttachRefused("libvirt says: no.")))
        host.binder.run()
    assert caplog.text.count("libvirt says: no.") == 1
    host.binder.run()
    assert host.has("vm") == {"1-2"}


def test_a_failure_is_not_tried_again_at_once(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    host.options = dataclasses.replace(host.options, first_retry=30.0)
    host.restart_agent()
    host.plug("1-2")
    host.start("vm")
    host.hold("1-2", "vm")
    host.before_attach.append(lambda: host.faults.append(AttachRefused("libvirt says: no.")))
    again = host.binder.run()
    assert again is not None and 20 < again <= 30
    host.binder.run()
    assert host.history == []


def test_libvirt_being_away_is_told_to_the_caller(host: FakeHost) -> None:
    host.faults.append(Unavailable("libvirt does not answer."))
    with pytest.raises(Unavailable):
        host.binder.run()


def test_status_says_what_each_guest_should_have_and_has(host: FakeHost) -> None:
    host.plug("1-2", serial="A1")
    host.start("vm")
    host.hold("1-2", "vm")
    host.binder.run()
    (guest,) = host.status()
    (device,) = guest["devices"]
    assert (guest["name"], device["state"], device["reason"]) == ("vm", "attached", None)
    since = device["since"]
    host.binder.run()
    assert host.status()[0]["devices"][0]["since"] == since
    host.unplug("1-2")
    host.binder.run()
    assert host.status()[0]["devices"][0]["reason"] == "it is not plugged in"


def _fields(device: object) -> dict[str, object]:
    import dataclasses

    return {field.name: getattr(device, field.name) for field in dataclasses.fields(device)}  # type: ignore[arg-type]


def test_a_failure_is_warned_of_once_and_once_told_to_be_over(host: FakeHost, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    host.plug("1-2")
    host.start("vm")
    host.hold("1-2", "vm")
    host.faults += [AttachRefused("libvirt says: no.") for _ in range(3)]
    host.binder.run()
    host.binder.run()
    assert host.has("vm") == {"1-2"}
    assert sum("libvirt says: no." in line for line in lines(caplog, logging.WARNING)) == 1
    assert sum(line.startswith("Resolved: ") and "libvirt says: no." in line for line in lines(caplog)) == 1


@pytest.mark.parametrize("end", [lambda host: host.stop("vm"), lambda host: host.unplug("1-2")])
def test_a_failure_that_nobody_tries_to_mend_any_more_is_told_to_be_over(
    host: FakeHost, caplog: pytest.LogCaptureFixture, end: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.options = dataclasses.replace(host.options, first_retry=30.0)
    host.restart_agent()
    caplog.set_level(logging.INFO)
    host.plug("1-2")
    host.start("vm")
    host.hold("1-2", "vm")
    host.faults.append(AttachRefused("libvirt says: no."))
    host.binder.run()
    end(host)  # type: ignore[operator]
    host.binder.run()
    assert sum(line.startswith("Resolved: ") for line in lines(caplog)) == 1
    again = host.binder.run()
    assert again is None or again > LONGEST_RETRY - 10, "it only looks again to say that the guest still waits"


def test_a_failure_outlives_a_migration_that_keeps_everybody_out(
    host: FakeHost, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.options = dataclasses.replace(host.options, first_retry=30.0)
    host.restart_agent()
    caplog.set_level(logging.INFO)
    host.plug("1-2")
    host.start("vm")
    host.hold("1-2", "vm")
    host.faults.append(AttachRefused("libvirt says: no."))
    host.binder.run()
    host.domains["vm"].busy = True
    host.binder.run()
    assert not any(line.startswith("Resolved: ") for line in lines(caplog))


def frozen(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Placement goes on, and the reporter does not look at it."""
    tree = host.view().tree
    monkeypatch.setattr(host, "view", lambda: dataclasses.replace(FakeHost.view(host), tree=tree))
    host.restart_agent()


def test_a_provider_that_is_gone_while_passes_fail_is_cause_for_one_more_look_and_not_for_one_after_another(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def confirm(uuids: object) -> None:
        raise Conflict("A provider is gone.")

    host.plug("1-2")
    host.start("vm")
    host.hold("1-2", "vm")
    host.confirm = confirm
    frozen(host, monkeypatch)
    for _ in range(3):
        host.binder.run()
    assert host.changes == 1
    assert host.history == [], "nothing is attached on the word of a view that is old"


def test_a_quiet_pass_asks_placement_nothing(host: FakeHost) -> None:
    for number in range(5):
        host.plug(f"1-{number + 1}", serial=f"A{number}")
        host.start(f"vm{number}")
        host.hold(f"1-{number + 1}", f"vm{number}")
    host.binder.run()
    host.asked.clear()
    host.binder.run()
    assert host.asked == []


def test_a_device_whose_allocation_was_deleted_since_the_last_look_is_not_attached(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.plug("1-2")
    host.start("vm")
    provider = host.hold("1-2", "vm")
    frozen(host, monkeypatch)
    del host.allocations[provider]
    host.binder.run()
    assert host.history == []
    assert host.doubts == [provider], "the reporter, too, reads it again"


def test_an_allocation_that_was_deleted_behind_a_running_guest_is_noticed_by_a_look_now_and_then(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.plug("1-2")
    host.start("vm")
    provider = host.hold("1-2", "vm")
    host.options = dataclasses.replace(host.options, confirm_interval=60.0)
    frozen(host, monkeypatch)
    host.binder.run()
    del host.allocations[provider]
    host.binder.run()
    assert host.has("vm") == {"1-2"}
    later = time.monotonic() + 61
    monkeypatch.setattr(time, "monotonic", lambda: later)
    host.binder.run()
    assert host.has("vm") == set()


def test_how_often_it_asks_follows_a_configuration_that_is_read_again(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.plug("1-2")
    host.start("vm")
    provider = host.hold("1-2", "vm")
    frozen(host, monkeypatch)
    host.binder.run()
    del host.allocations[provider]
    host.binder.confirm_every(10.0)
    later = time.monotonic() + 11
    monkeypatch.setattr(time, "monotonic", lambda: later)
    host.binder.run()
    assert host.has("vm") == set()


@pytest.mark.alone
def test_a_placement_that_hangs_is_waited_for_once_and_the_guest_gets_its_device(host: FakeHost) -> None:
    host.askers = Never()
    host.restart_agent()
    host.plug("1-2")
    host.start("vm")
    host.hold("1-2", "vm")
    began = time.monotonic()
    host.binder.run()
    assert host.has("vm") == {"1-2"}
    host.plug("1-3")
    host.hold("1-3", "vm")
    host.binder.run()
    assert host.has("vm") == {"1-2", "1-3"}
    assert time.monotonic() - began < 0.5


class Hanging:
    """Guests that do not let go of a device until they are told to, on top of a host of plain values."""

    def __init__(self, host: FakeHost) -> None:
        self.host = host
        self.lets_go = threading.Event()
        self.hanging = 0
        self.woken = threading.Event()
        host.operations = GuestThreads(self.woken.set)
        self._detach = host.detach
        host.detach = self.detach  # type: ignore[method-assign]
        host.restart_agent()

    def detach(self, guest_uuid: str, alias: str, timeout: float) -> None:
        self.hanging += 1
        self.lets_go.wait(60)
        self._detach(guest_uuid, alias, timeout)

    def passes_until(self, what: Callable[[], bool], seconds: float = 5.0) -> float:
        """Make passes as the loop does: at first, and whenever an operation has ended; gives the time it took."""
        began = time.monotonic()
        while True:
            self.woken.clear()
            self.host.binder.run()
            if what():
                return time.monotonic() - began
            left = seconds - (time.monotonic() - began)
            assert left > 0, "it takes too long"
            self.woken.wait(min(left, 0.05))


@pytest.mark.alone
def test_thirty_two_guests_that_do_not_let_go_keep_no_other_guest_waiting(
    host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    ports = [f"1-{number}" for number in range(1, 33)]
    for port in ports:
        host.plug(port, serial=port)
        host.start(port)
        host.hold(port, port)
    host.binder.run()
    hanging = Hanging(host)
    for port in ports:
        host.unplug(port)
    host.binder.run()
    host.plug("1-40", serial="other")
    host.start("other")
    host.hold("1-40", "other")
    assert hanging.passes_until(lambda: host.has("other") == {"1-40"}) < 1
    assert hanging.hanging == 32
    hanging.passes_until(lambda: hanging.hanging == 32)
    hanging.lets_go.set()
    hanging.passes_until(lambda: not any(host.domains[port].hostdevs for port in ports))
    assert hanging.hanging == 32, "none was told twice"


def test_an_operation_that_takes_long_is_said_once(host: FakeHost, caplog: pytest.LogCaptureFixture) -> None:
    host.plug("1-2")
    host.start("vm")
    host.hold("1-2", "vm")
    host.binder.run()
    host.options = dataclasses.replace(host.options, attach_timeout=0.0)
    hanging = Hanging(host)
    host.unplug("1-2")
    for _ in range(3):
        host.binder.run()
        time.sleep(0.01)
    assert caplog.text.count("takes longer than 0 s") == 1
    hanging.lets_go.set()
    hanging.passes_until(lambda: host.domains["vm"].hostdevs == [])


def test_a_thread_that_cannot_be_started_is_a_failure_that_is_tried_again(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    hanging = Hanging(host)
    host.plug("1-2")
    host.start("vm")
    host.hold("1-2", "vm")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        host.binder.run()
    assert caplog.text.count("The agent cannot start a thread") == 1
    hanging.passes_until(lambda: host.has("vm") == {"1-2"})


def test_debug_tells_how_each_device_of_a_guest_stands_when_that_changes(
    host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    host.plug("1-2")
    host.start("vm")
    host.hold("1-2", "vm")
    host.unplug("1-2")
    host.binder.run()
    host.binder.run()
    assert len([line for line in lines(caplog, logging.DEBUG) if line.endswith(": waiting: it is not plugged in")]) == 1
