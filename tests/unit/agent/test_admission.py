"""The answers to the hook on a host of plain values: who may start, arrive and be restored, and what is said."""

import logging
import time

import pytest

from tests.fixtures.binder import audited, host, lines
from tests.fixtures.domain_xml import a_domain_xml, a_hostdev_xml
from tests.fixtures.fake_host import FakeHost, Never, a_uuid
from usb_provider.model.devices.device import Speed

__all__ = ["host"]


@pytest.mark.parametrize(("operation", "what"), [("prepare", "start"), ("migrate", "live migration")])
def test_what_is_refused_since_its_domain_is_not_understood_is_in_the_audit_trail_and_in_the_log(
    host: FakeHost, caplog: pytest.LogCaptureFixture, operation: str, what: str
) -> None:
    caplog.set_level(logging.INFO)
    said = host.ask(operation, "<not-closed>", "instance-1")["refuse"]
    assert audited(caplog) == [{"event": "refuse", "guest": "instance-1", "reason": said}]
    assert f"The {what} of guest instance-1 is refused: {said}" in caplog.text


def test_a_refusal_of_yesterday_is_no_longer_in_the_status(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    host.plug("1-2", serial="A1")
    host.hold("1-2", "vm")
    host.unplug("1-2")
    host.binder.run()
    refused = host.ask("prepare", a_domain_xml(name="vm", uuid=a_uuid("vm")))
    assert "not plugged in" in str(refused)
    host.binder.run()
    assert [row["uuid"] for row in host.status()] == [a_uuid("vm")]
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 25 * 3600)
    host.binder.run()
    assert host.status() == []


def test_a_start_that_is_refused_again_and_again_is_warned_of_once_and_once_told_to_be_over(
    host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    host.plug("1-2", speed="high")
    domain = host.start("vm")
    host.stop("vm")
    host.hold("1-2", "vm")
    controller = "<controller type='usb' model='qemu-xhci'/>"
    xml = f"<domain><name>vm</name><uuid>{domain.uuid}</uuid><devices>{controller}</devices></domain>"
    host.unplug("1-2")
    for _ in range(3):
        assert "refuse" in host.ask("prepare", xml)
    assert len(lines(caplog, logging.WARNING)) == 1
    assert len([record for record in caplog.records if record.name == "usb_provider.audit"]) == 3
    host.plug("1-2", speed="high")
    for _ in range(2):
        assert host.ask("prepare", xml) == {}
    assert len([line for line in lines(caplog) if line.startswith("Resolved: The start of guest vm")]) == 1


def arrival(*providers: str) -> dict[str, str]:
    """What the hook asks when the guest "vm" arrives with the devices of these providers of another host."""
    devices = [a_hostdev_xml(f"ua-usb-{provider}", device=number) for number, provider in enumerate(providers, start=3)]
    return {"operation": "migrate", "xml": a_domain_xml(name="vm", uuid=a_uuid("vm"), devices=devices)}


ASKS = {"resources:CUSTOM_USB_KEY": "1"}
THERE = "0a6a5c51-5b3c-4d0e-8a66-1d1f4f1d4b77"
ATTACHED_THERE = "3d5b6a1e-2f4a-4d79-9a0b-6d3b1c2e5f88"


def test_a_guest_may_arrive_where_it_holds_as_many_devices_as_it_brings(host: FakeHost) -> None:
    host.plug("1-2", serial="A1")
    host.hold("1-2", "vm")
    assert '<address bus="255"' in str(host.ask(**arrival(THERE))["xml"])
    assert host.ask(**arrival()) == {}, "it brings none"


def test_a_guest_that_was_moved_past_placement_may_not_arrive(host: FakeHost) -> None:
    host.plug("1-2", serial="A1")
    said = host.ask(**arrival(THERE))["refuse"]
    assert said == (
        "The instance has 1 USB device and holds none on this host; "
        "let nova choose the host, because it claims them there."
    )


def test_a_guest_with_a_device_beyond_its_flavor_may_arrive_without_it(
    host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    host.plug("1-2", serial="A1")
    host.hold("1-2", "vm")
    host.claimed_by_nova.add(a_uuid("vm"))
    assert '<address bus="255"' in str(host.ask(**arrival(THERE, ATTACHED_THERE))["xml"])
    assert (
        "Guest vm has 2 USB devices where it comes from and holds 1 on this host: a move loses what was attached "
        "beyond its flavor." in lines(caplog)
    )


def test_a_guest_whose_flavor_asks_for_no_device_may_arrive_without_the_one_that_it_was_given(host: FakeHost) -> None:
    host.plug("1-2", serial="A1")
    host.claimed_by_nova.add(a_uuid("vm"))
    assert '<address bus="255"' in str(host.ask(**arrival(ATTACHED_THERE))["xml"])


@pytest.mark.parametrize("whose", ["source", "destination"])
def test_a_device_that_a_rule_keeps_from_live_migration_keeps_its_guest_where_it_is(
    host: FakeHost, whose: str, caplog: pytest.LogCaptureFixture
) -> None:
    host.plug("1-2", serial="A1")
    here = host.hold("1-2", "vm")
    host.traits[THERE if whose == "source" else here] = frozenset({"CUSTOM_USB_NOT_LIVE_MIGRATABLE"})
    said = host.ask(**arrival(THERE))["refuse"]
    verb, name = {"source": ("has", THERE), "destination": ("would get", here)}[whose]
    assert said == (
        f'The instance {verb} USB device {name}, which a rule keeps from live migration ("live_migratable": false); '
        f"migrate it cold."
    )
    assert f"The live migration of guest vm is refused: {said}" in caplog.text


def test_a_guest_whose_claims_nobody_can_read_may_not_arrive(host: FakeHost) -> None:
    host.placement_up = False
    assert "The agent cannot ask Placement what this instance holds" in host.ask(**arrival(THERE))["refuse"]
    assert host.ask(**arrival()) == {}


def test_a_guest_that_has_just_lost_its_device_is_still_kept_where_a_rule_keeps_it(host: FakeHost) -> None:
    host.plug("1-2", serial="A1")
    here = host.hold("1-2", "vm")
    host.traits[here] = frozenset({"CUSTOM_USB_NOT_LIVE_MIGRATABLE"})
    bare = {"operation": "migrate", "xml": a_domain_xml(name="vm", uuid=a_uuid("vm"), extra_specs=ASKS)}
    assert "would get USB device" in host.ask(**bare)["refuse"]
    host.placement_up = False
    assert host.ask(**bare) == {}, "it has nothing that it could lose"


def test_a_placement_that_does_not_answer_refuses_before_the_hook_gives_up(host: FakeHost) -> None:
    host.askers = Never()
    host.restart_agent()
    starting = {"operation": "prepare", "xml": a_domain_xml(name="vm", uuid=a_uuid("vm"), extra_specs=ASKS)}
    for message in (starting, arrival(THERE)):
        said = host.ask(**message)["refuse"]
        assert said == "The agent cannot ask Placement what this instance holds."
        assert host.status()[-1]["refused"]["reason"] == (
            "The agent cannot ask Placement what this instance holds: Placement has not answered within 0.1 s; "
            "check whether it is overloaded."
        )


def test_what_its_owner_is_told_names_no_other_guest_and_nothing_of_the_host_and_the_operator_reads_both(
    host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    starting = {"operation": "prepare", "xml": a_domain_xml(name="vm", uuid=a_uuid("vm"), extra_specs=ASKS)}
    host.plug("1-2", serial="A1")
    host.start("secret-of-another")
    host.hold("1-2", "secret-of-another")
    host.binder.run()
    host.hold("1-2", "vm")
    said = host.ask(**starting)["refuse"]
    assert said.endswith("is allocated to this instance, but another guest has it.")
    operators = "but guest secret-of-another has it."
    assert operators in caplog.text
    assert operators in next(row for row in host.status() if row["uuid"] == a_uuid("vm"))["refused"]["reason"]
    assert any(operators in line["reason"] for line in audited(caplog) if line["event"] == "refuse")


@pytest.mark.parametrize("operation", ["prepare", "migrate"])
def test_the_port_of_a_device_that_a_guest_comes_with_is_free_for_the_one_that_it_gets(
    host: FakeHost, operation: str
) -> None:
    """A UHCI controller has two ports, of which nova's tablet takes one."""
    host.plug("1-2", serial="A1", speed=Speed.FULL)
    host.hold("1-2", "vm")
    tablet = "<input type='tablet' bus='usb'><address type='usb' bus='0' port='1'/></input>"
    brought = a_hostdev_xml(f"ua-usb-{THERE}", port=2)
    xml = a_domain_xml(name="vm", uuid=a_uuid("vm"), usb_model="piix3-uhci", devices=[tablet, brought])
    said = host.ask("migrate", xml)
    if operation == "prepare":
        said = host.ask("prepare", said["xml"])
    assert "refuse" not in said


def test_a_guest_that_has_just_ended_keeps_no_device_from_the_next(host: FakeHost) -> None:
    host.plug("1-2", serial="A1")
    host.start("old")
    host.hold("1-2", "old")
    host.binder.run()
    host.hold("1-2", "new")
    starting = {"operation": "prepare", "xml": a_domain_xml(name="new", uuid=a_uuid("new"))}
    assert "another guest has it" in host.ask(**starting)["refuse"]
    host.stop("old")
    assert host.ask(**starting) == {}, "nobody has looked since, but libvirt has said so"


@pytest.mark.parametrize("classes", [frozenset(), frozenset({"CUSTOM_DONGLE"})])
def test_a_class_of_another_name_that_a_rule_gives_is_usb_to_the_agent(host: FakeHost, classes: frozenset[str]) -> None:
    host.rule_classes = classes
    host.placement_up = False
    xml = a_domain_xml("vm", a_uuid("vm"), extra_specs={"resources:CUSTOM_DONGLE": "1"})
    assert ("refuse" in host.ask("prepare", xml)) == bool(classes)
    assert ("xml" in host.ask("restore", xml)) == bool(classes), "marked as restored, so that it is not refused"
