"""Guests that hold a bundle: they get all of its devices or none and keep them, and status names what is missing."""

import json
import logging

import pytest

from tests.fixtures.domain_xml import a_domain_xml, a_hostdev_xml
from tests.fixtures.fake_host import a_uuid
from tests.fixtures.pooled_host import BUNDLE_RULES, PooledHost
from usb_provider.exception import AttachRefused
from usb_provider.model.binding.hostdev import Hostdev

BOTH = {"1-1", "1-2"}


@pytest.fixture
def host():
    """A host with a bundle of two sticks, both plugged in, and no guest."""
    host = PooledHost(BUNDLE_RULES)
    for port in sorted(BOTH):
        host.plug(port)
    return host


def started(host, name="a"):
    """A guest that holds the bundle, starts, and gets what it can."""
    host.claim(name, 1)
    domain = host.start(name)
    host.binder.run()
    return domain


def states(host, name="a"):
    """The state and the reason of each device of a guest, as "usb-provider status" shows it."""
    (guest,) = [each for each in host.status() if each["name"] == name]
    return sorted((each["state"], each["reason"]) for each in guest["devices"])


def test_a_guest_that_holds_a_bundle_gets_all_its_devices(host):
    started(host)
    assert host.has("a") == BOTH
    assert states(host) == [("attached", None), ("attached", None)]
    assert host.violations == []


def test_the_audit_trail_names_the_bundle_and_its_device(host, caplog):
    caplog.set_level(logging.INFO, "usb_provider.audit")
    started(host)
    host.unplug("1-1")
    host.binder.run()
    lines = [json.loads(each.message) for each in caplog.records if each.name == "usb_provider.audit"]
    name, keys = "compute1.example.org_usb_bundle_desk", [f"1050:0407@0000:00:14.0-{n}" for n in (1, 2)]
    assert {(each["event"], each["provider"], each["member"]) for each in lines} >= {
        *(("attach", name, key) for key in keys),
        ("unplug", name, keys[0]),
        ("detach", name, keys[0]),
    }


def test_a_device_that_cannot_be_attached_is_named_with_its_bundle(host, caplog):
    host.claim("a", 1)
    host.start("a")
    host.faults.append(AttachRefused("QEMU does not want it."))
    host.binder.run()
    said = [each.message for each in caplog.records if "cannot be attached" in each.message]
    assert said[0].startswith(
        "compute1.example.org_usb_bundle_desk (1050:0407@0000:00:14.0-1) cannot be attached to guest a yet: "
    )


def test_a_guest_gets_none_while_one_is_missing_and_status_names_the_missing_one(host):
    host.claim("a", 1)
    host.view()
    host.unplug("1-2")
    host.start("a")
    host.binder.run()
    assert host.has("a") == set()
    reasons = [reason for state, reason in states(host) if state == "waiting"]
    assert len(reasons) == 2
    assert all("1050:0407@0000:00:14.0-2" in reason for reason in reasons)
    host.plug("1-2")
    host.binder.run()
    host.binder.run()
    assert host.has("a") == BOTH


def test_a_guest_keeps_the_others_when_one_is_unplugged_and_gets_it_back(host):
    started(host)
    host.unplug("1-1")
    host.binder.run()
    assert host.has("a") == {"1-2"}
    assert [state for state, _ in states(host)] == ["attached", "waiting"]
    host.plug("1-1")
    host.binder.run()
    host.binder.run()
    assert host.has("a") == BOTH
    assert host.violations == []


def test_after_the_agent_was_restarted_a_device_that_is_missing_is_still_waited_for(host):
    started(host)
    host.unplug("1-1")
    host.binder.run()
    host.restart_agent()
    host.stop("a")
    host.start("a")
    host.binder.run()
    assert host.has("a") == set()


def test_a_guest_gets_none_while_another_guest_has_one_of_them(host):
    foreign = host.start("foreign")
    device = host.devices["1-1"]
    foreign.hostdevs.append(Hostdev("hostdev0", "1050", "0407", device.busnum, device.devnum))
    started(host)
    assert host.has("a") == set()
    reasons = sorted(reason for _, reason in states(host))
    assert reasons == ["guest foreign has it", "its bundle waits for 1050:0407@0000:00:14.0-1: guest foreign has it"]
    foreign.hostdevs.clear()
    host.binder.run()
    assert host.has("a") == BOTH


def test_nothing_of_a_bundle_that_lacks_a_device_is_given_to_anyone(host):
    host.unplug("1-2")
    assert [each.offered for each in host.view().devices] == [False]
    (reason,) = [each.reason for each in host.view().devices]
    assert reason == "Not offered: its bundle desk lacks a device of device_spec rule 2."


def test_a_start_is_refused_while_one_is_missing_and_names_it(host):
    host.claim("a", 1)
    host.view()
    host.unplug("1-2")
    answer = host.ask("prepare", a_domain_xml("a", a_uuid("a"), ports=4))
    assert "USB bundle compute1.example.org_usb_bundle_desk is allocated to this instance, but" in answer["refuse"]
    assert "1050:0407@0000:00:14.0-2 of it is not plugged in" in answer["refuse"]


def test_a_bundle_of_two_needs_two_ports(host):
    host.claim("a", 1)
    assert host.ask("prepare", a_domain_xml("a", a_uuid("a"), ports=2)) == {}
    refused = host.ask("prepare", a_domain_xml("a", a_uuid("a"), ports=1))
    assert "no free USB port" in refused["refuse"]


def test_a_released_bundle_leaves_the_guest_as_a_whole(host):
    started(host)
    host.claim("a", 0)
    host.binder.run()
    host.binder.run()
    assert host.has("a") == set()


def test_the_next_guest_gets_a_bundle_only_when_the_last_one_has_let_go(host):
    started(host)
    host.claim("a", 0)
    started(host, "b")
    host.binder.run()
    assert host.has("b") == BOTH
    assert host.violations == []


def test_a_guest_may_come_live_with_more_devices_than_its_bundle_has_here(host):
    there = [a_hostdev_xml(f"ua-usb-{a_uuid('elsewhere')}-{'0' * 15}{n}", 1, 50 + n, "1050:0407") for n in (1, 2, 3)]
    xml = a_domain_xml("a", a_uuid("a"), ports=8, devices=there)
    host.units_elsewhere = {a_uuid("elsewhere"): 1}
    assert "has 1 unit of USB devices and holds none on this host" in host.ask("migrate", xml)["refuse"]
    host.claim("a", 1)
    assert "refuse" not in host.ask("migrate", xml)


def test_a_guest_that_has_a_bundle_and_a_single_device_may_not_come_live_where_it_holds_only_one_unit(host):
    there = [a_hostdev_xml(f"ua-usb-{a_uuid('elsewhere')}-{'0' * 15}{n}", 1, 50 + n, "1050:0407") for n in (1, 2)]
    there.append(a_hostdev_xml(f"ua-usb-{a_uuid('single')}", 1, 60, "1050:0407"))
    host.units_elsewhere = {a_uuid("elsewhere"): 1}
    host.claim("a", 1)
    said = host.ask("migrate", a_domain_xml("a", a_uuid("a"), ports=8, devices=there))["refuse"]
    assert "has 2 units of USB devices and holds 1 on this host" in said


def test_a_guest_that_has_three_units_of_a_pool_may_not_come_live_where_it_holds_only_a_bundle(host):
    there = [a_hostdev_xml(f"ua-usb-{a_uuid('elsewhere')}-{'0' * 15}{n}", 1, 50 + n, "1050:0407") for n in (1, 2, 3)]
    host.units_elsewhere = {a_uuid("elsewhere"): 16}
    host.claim("a", 1)
    said = host.ask("migrate", a_domain_xml("a", a_uuid("a"), ports=8, devices=there))["refuse"]
    assert "has 3 USB devices and holds 1 on this host" in said
