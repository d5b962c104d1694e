"""Guests that hold units of a pool: each gets and keeps as many devices as it holds; a spare replaces a broken one."""

from collections import Counter

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from placement_traits import member_drained_trait
from tests.fixtures.binder import audited
from tests.fixtures.domain_xml import a_domain_xml, a_hostdev_xml
from tests.fixtures.fake_host import XHCI, a_uuid
from tests.fixtures.pooled_host import PooledHost
from usb_provider.model.binding.decision import Why
from usb_provider.model.binding.hostdev import Hostdev
from usb_provider.model.units.names import member_id

PORTS = ("1-1", "1-2", "1-3")


@pytest.fixture
def host():
    """A host with three sticks in a pool, and no guest."""
    host = PooledHost()
    for port in PORTS:
        host.plug(port)
    return host


def started(host, name, units):
    """A guest that holds so many units, starts, and gets them."""
    host.claim(name, units)
    domain = host.start(name)
    host.binder.run()
    return domain


def xml_of(name, ports=XHCI.free_ports):
    return a_domain_xml(name, a_uuid(name), ports=ports)


def states(host, name):
    """The state and the reason of each device of a guest, as "usb-provider status" shows it."""
    (guest,) = [each for each in host.status() if each["name"] == name]
    return sorted((each["state"], each["reason"]) for each in guest["devices"])


def test_a_guest_gets_as_many_devices_as_it_holds_units(host):
    started(host, "a", 2)
    assert host.has("a") == {"1-1", "1-2"}
    started(host, "b", 1)
    assert host.has("b") == {"1-3"}
    assert host.has("a") == {"1-1", "1-2"}
    assert host.violations == []


def test_a_free_member_takes_over_at_once_when_one_is_unplugged_and_the_audit_trail_says_why(host, caplog):
    caplog.set_level("INFO")
    started(host, "a", 1)
    host.unplug("1-1")
    host.binder.run()
    assert host.has("a") == {"1-2"}
    assert [each["reason"] for each in audited(caplog) if each["event"] == "detach"] == [Why.GONE.value]
    host.plug("1-1")
    host.binder.run()
    assert host.has("a") == {"1-2"}


def test_a_guest_that_stops_and_starts_gets_what_it_had(host):
    started(host, "a", 1)
    started(host, "b", 1)
    host.claim("a", 0)
    host.stop("a")
    host.stop("b")
    host.binder.run()
    host.restart_agent()
    host.start("b")
    host.binder.run()
    assert host.has("b") == {"1-2"}


def test_an_agent_that_lost_its_memory_leaves_to_guests_what_they_have(host):
    started(host, "a", 1)
    started(host, "b", 1)
    host.claim("a", 0)
    host.stop("a")
    host.memory = type(host.memory)()
    host.restart_agent()
    history = list(host.history)
    host.binder.run()
    assert host.has("b") == {"1-2"}
    assert host.history == history
    assert [share.consumer for share in host.memory.shares.values()] == [a_uuid("b")]


def test_a_guest_waits_when_no_member_is_free_and_the_reason_says_so(host):
    started(host, "a", 2)
    started(host, "b", 1)
    host.unplug("1-1")
    host.binder.run()
    assert states(host, "a") == [
        ("attached", None),
        ("waiting", "it is not plugged in, and no other member of the pool is free"),
    ]
    assert host.has("b") == {"1-3"}
    host.plug("1-1")
    host.binder.run()
    assert host.has("a") == {"1-1", "1-2"}


def test_a_guest_that_holds_fewer_units_now_keeps_the_rest(host):
    started(host, "a", 3)
    host.claim("a", 1)
    host.binder.run()
    assert len(host.has("a")) == 1
    host.claim("a", 2)
    host.binder.run()
    host.binder.run()
    assert len(host.has("a")) == 2


def test_a_member_that_a_guest_of_someone_elses_making_has_is_passed_over(host):
    foreign = host.start("foreign")
    device = host.devices["1-1"]
    foreign.hostdevs.append(Hostdev("hostdev0", "1050", "0407", device.busnum, device.devnum))
    started(host, "a", 2)
    assert host.has("a") == {"1-2", "1-3"}
    assert host.violations == []


def test_a_drained_member_stays_with_its_guest_and_no_other_gets_it(host):
    started(host, "a", 1)
    member = next(each for each in host.view().devices if each.device.sys_name == "1-1")
    host.drained = frozenset({member_drained_trait(member.unit.rpartition("-")[2])})
    started(host, "b", 1)
    assert (host.has("a"), host.has("b")) == ({"1-1"}, {"1-2"})
    host.stop("a")
    host.claim("a", 0)
    started(host, "c", 2)
    assert host.has("c") == {"1-3"}


def test_a_device_that_comes_back_at_another_address_is_attached_again(host):
    started(host, "a", 1)
    host.unplug("1-1")
    host.plug("1-1")
    host.binder.run()
    host.binder.run()
    assert host.has("a") == {"1-1"}


def test_a_server_that_is_resized_or_moved_keeps_its_member_under_the_migrations_name(host):
    started(host, "a", 1)
    started(host, "b", 1)
    host.claim("a", 0)
    host.amounts[a_uuid("migration of a")] = 1
    history = list(host.history)
    host.binder.run()
    assert host.history == history
    host.amounts = +Counter({a_uuid("a"): 1, a_uuid("b"): 1})
    host.binder.run()
    assert host.history == history
    assert (host.has("a"), host.has("b")) == ({"1-1"}, {"1-2"})


def test_a_drained_member_stays_with_its_guest_while_that_is_migrated_away(host):
    started(host, "a", 1)
    member = next(each for each in host.view().devices if each.device.sys_name == "1-1")
    host.drained = frozenset({member_drained_trait(member.unit.rpartition("-")[2])})
    host.binder.run()
    history = list(host.history)
    host.amounts = Counter({a_uuid("migration of a"): 1})
    host.binder.run()
    assert host.has("a") == {"1-1"}
    host.amounts = Counter({a_uuid("a"): 1})
    host.binder.run()
    assert host.history == history


# The hook


def test_a_start_is_allowed_that_can_have_all_its_units(host):
    host.claim("a", 3)
    assert host.ask("prepare", xml_of("a")) == {}


def test_a_start_is_refused_that_cannot_have_all_its_units(host):
    host.claim("a", 3)
    host.unplug("1-2")
    answer = host.ask("prepare", xml_of("a"))
    assert "3 units of USB pool compute1.example.org_usb_pool_hasp" in answer["refuse"]
    assert "only 2 of its devices can be had" in answer["refuse"]


def test_a_claim_of_three_needs_three_ports(host):
    host.claim("a", 3)
    answer = host.ask("prepare", xml_of("a", ports=2))
    assert answer["refuse"].count("no free USB port") == 1


def test_a_start_passes_over_what_another_guest_has_taken_meanwhile(host):
    started(host, "a", 1)
    host.claim("b", 2)
    assert host.ask("prepare", xml_of("b")) == {}
    host.claim("b", 3)
    assert "refuse" in host.ask("prepare", xml_of("b"))


def test_a_start_does_not_wait_for_a_member_that_another_guest_is_about_to_lose(host):
    host.start("b")
    host.binder.run()
    started(host, "a", 1)
    host.claim("a", 0)
    host.claim("new", 1)
    host.view()
    assert host.ask("prepare", xml_of("new")) == {}


def test_a_guest_with_two_members_may_come_live_where_it_holds_two_units(host):
    there = [a_hostdev_xml(f"ua-usb-{a_uuid('elsewhere')}-{'0' * 15}{n}", 1, 50 + n, "1050:0407") for n in (1, 2)]
    xml = a_domain_xml("a", a_uuid("a"), ports=8, devices=there)
    host.claim("a", 1)
    answer = host.ask("migrate", xml)
    assert "has 2 USB devices and holds 1 on this host" in answer["refuse"]
    host.claim("a", 2)
    assert "xml" in host.ask("migrate", xml)


def test_status_names_the_member_that_a_guest_has(host):
    started(host, "a", 1)
    (guest,) = host.status()
    (device,) = guest["devices"]
    assert device["member"] == "1050:0407@0000:00:14.0-1"
    assert device["provider_uuid"] == host.pool_uuid


def test_the_unit_of_a_member_does_not_contain_what_the_device_says_of_itself(host):
    started(host, "a", 1)
    (hostdev,) = host.domains["a"].hostdevs
    assert hostdev.alias == f"ua-usb-{hostdev.provider_uuid}-{hostdev.unit.rpartition('-')[2]}"
    assert len(hostdev.unit.rpartition("-")[2]) == len(member_id(a_uuid("any")))


GUESTS = ("a", "b", "c")


class PooledGuests(RuleBasedStateMachine):
    """Whatever is plugged, claimed, started and restarted: no device for two guests, and never more than is claimed."""

    def __init__(self):
        super().__init__()
        self.host = PooledHost()
        self.host.plug("1-1")
        for name in GUESTS:
            self.host.start(name)

    def units_of(self, name):
        """How many devices the guest is to have."""
        return self.host.amounts[a_uuid(name)]

    @rule(port=st.sampled_from(("1-1", "1-2", "1-3", "1-4")))
    def plug_or_unplug(self, port):
        if port in self.host.devices:
            self.host.unplug(port)
        else:
            self.host.plug(port)

    @rule(name=st.sampled_from(GUESTS), units=st.integers(0, 2))
    def claim(self, name, units):
        self.host.claim(name, units)

    @rule(name=st.sampled_from(GUESTS))
    def stop_or_start(self, name):
        if self.host.domains[name].running:
            self.host.stop(name)
        else:
            self.host.start(name)

    @rule()
    def restart(self):
        self.host.restart_agent()

    @rule()
    def lose_the_memory(self):
        self.host.memory = type(self.host.memory)()
        self.host.restart_agent()

    @rule()
    def look(self):
        before = {name: self.host.has(name) for name in GUESTS}
        self.host.binder.run()
        for name in GUESTS:
            claimed = self.units_of(name)
            assert len(self.host.has(name) & before[name]) >= min(claimed, len(before[name])), "a guest keeps its own"

    @rule()
    def settle(self):
        for _ in range(4):
            self.host.binder.run()
        history = list(self.host.history)
        self.host.binder.run()
        assert self.host.history == history
        running = [name for name in GUESTS if self.host.domains[name].running]
        wanted = sum(self.units_of(name) for name in running)
        has = sum(len(self.host.has(name)) for name in running)
        stopped = sum(self.units_of(name) for name in GUESTS if name not in running)
        assert has >= min(wanted, len(self.host.devices) - stopped)
        for name in running:
            assert len(self.host.has(name)) <= self.units_of(name)

    @invariant()
    def no_device_is_with_two_guests(self):
        had = Counter(port for name in GUESTS for port in self.host.has(name))
        assert not [port for port, guests in had.items() if guests > 1]
        assert self.host.violations == []


TestPooledGuests = PooledGuests.TestCase
TestPooledGuests.settings = hypothesis.settings(max_examples=60, stateful_step_count=25, deadline=None)
