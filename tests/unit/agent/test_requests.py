"""Servers that run and get one more device, or give one back: what the binder does, and when it says so."""

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from placement_traits import attach_trait, detach_requests, detach_trait, detached_trait
from tests.fixtures.binder import audited, host
from tests.fixtures.binder_machine import as_often
from tests.fixtures.fake_host import FakeHost, a_uuid
from tests.fixtures.pooled_host import BUNDLE_RULES, PooledHost
from tests.unit.agent.test_binder_state_machine import NAMES, PORTS, SERIALS, OneHostMachine
from tests.unit.agent.test_pools import GUESTS, PooledGuests
from usb_provider.exception import AttachRefused
from usb_provider.model.reporting.requests import CarriedOut

__all__ = ["host"]

ANNA = a_uuid("anna")


def a_pool_of_three() -> PooledHost:
    host = PooledHost()
    for port in ("1-1", "1-2", "1-3"):
        host.plug(port)
    return host


def asks(host: FakeHost, provider: str, *traits: str) -> None:
    """Have a user write these requests on the provider, in place of others."""
    host.traits[provider] = frozenset(traits)
    host.allocations.generations[provider] += 1


def running_with_a_device(host: FakeHost) -> str:
    """The provider of a device that the running guest anna has."""
    host.plug("1-1", serial="S1")
    host.start("anna")
    host.binder.run()
    provider = host.hold("1-1", "anna")
    host.binder.run()
    assert host.has("anna") == {"1-1"}
    return provider


def answer(host: FakeHost, provider: str, stay: int | None = 0) -> set[CarriedOut]:
    return {CarriedOut(provider, host.allocations.generations[provider], ANNA, stay)}


def test_a_guest_that_runs_gets_the_device_that_it_is_given(host: FakeHost) -> None:
    running_with_a_device(host)


def test_a_user_who_waits_for_a_device_is_told_when_the_guest_has_it_and_not_before(host: FakeHost) -> None:
    host.plug("1-1", serial="S1")
    host.start("anna")
    provider = host.hold("1-1", "anna")
    asks(host, provider, attach_trait(ANNA))
    host.faults.append(AttachRefused("no"))
    host.binder._round(host.guests(), host.view(), frozenset())
    assert host.news.carried_out == set()
    host.binder.run()
    assert host.news.carried_out == answer(host, provider, stay=None)


def test_a_device_that_a_user_asks_back_is_detached_and_not_attached_again(
    host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    provider = running_with_a_device(host)
    asks(host, provider, detach_trait(ANNA))
    host.binder.run()
    host.binder.run()
    assert host.has("anna") == set()
    assert host.domains["anna"].hostdevs == []
    assert host.allocations[provider] == ANNA
    assert audited(caplog)[-1]["event"] == "detach"
    assert audited(caplog)[-1]["reason"] == "a user asked to detach it"
    assert host.status() == []


def test_the_user_is_told_once_the_guest_no_longer_has_it(host: FakeHost) -> None:
    provider = running_with_a_device(host)
    asks(host, provider, detach_trait(ANNA))
    host.faults.append(AttachRefused("no"))
    host.binder._round(host.guests(), host.view(), frozenset())
    assert host.news.carried_out == set()
    assert host.has("anna") == {"1-1"}
    host.binder.run()
    assert host.news.carried_out == answer(host, provider)


def test_while_an_operation_is_under_way_on_the_guest_nothing_is_told(host: FakeHost) -> None:
    provider = running_with_a_device(host)
    asks(host, provider, detach_trait(ANNA))
    host.domains["anna"].hostdevs = []
    host.binder._round(host.guests(), host.view(), frozenset({ANNA}))
    assert host.news.carried_out == set()


def test_of_a_guest_whose_xml_the_agent_cannot_read_nothing_is_told(host: FakeHost) -> None:
    provider = running_with_a_device(host)
    asks(host, provider, detach_trait(ANNA))
    host.domains["anna"].readable = False
    host.binder.run()
    assert host.news.carried_out == set()
    host.domains["anna"].readable = True
    host.binder.run()
    assert host.has("anna") == set()
    assert host.news.carried_out == answer(host, provider)


def test_while_a_guest_arrives_nothing_is_told(host: FakeHost) -> None:
    provider = running_with_a_device(host)
    host.domains["anna"].busy = True
    host.domains["anna"].hostdevs = []
    asks(host, provider, detach_trait(ANNA))
    host.binder.run()
    assert host.news.carried_out == set()


def test_the_device_of_a_guest_that_does_not_run_can_go_at_once(host: FakeHost) -> None:
    provider = running_with_a_device(host)
    host.stop("anna")
    asks(host, provider, detach_trait(ANNA))
    host.binder.run()
    assert host.news.carried_out == answer(host, provider)


def test_a_user_who_has_the_answer_gets_no_other(host: FakeHost) -> None:
    provider = running_with_a_device(host)
    asks(host, provider, detach_trait(ANNA), detached_trait(ANNA))
    host.binder.run()
    assert host.news.carried_out == set()
    assert host.has("anna") == set()


def test_a_request_that_was_taken_back_since_the_last_look_detaches_nothing(host: FakeHost) -> None:
    provider = running_with_a_device(host)
    asks(host, provider, detach_trait(ANNA))
    host.view()
    host.reporter_is_late = True
    asks(host, provider)
    host.binder.run()
    assert host.has("anna") == {"1-1"}


def test_a_request_about_a_server_that_does_not_hold_the_device_changes_nothing(host: FakeHost) -> None:
    provider = running_with_a_device(host)
    asks(host, provider, detach_trait(a_uuid("berta")))
    host.binder.run()
    assert host.has("anna") == {"1-1"}
    assert host.news.carried_out == set()


def test_a_user_who_takes_the_request_back_gets_the_device_attached_again(host: FakeHost) -> None:
    provider = running_with_a_device(host)
    asks(host, provider, detach_trait(ANNA))
    host.binder.run()
    asks(host, provider)
    host.binder.run()
    assert host.has("anna") == {"1-1"}
    assert host.news.carried_out == set()


def test_of_two_units_of_a_pool_a_guest_gives_one_back_and_keeps_the_other() -> None:
    host = a_pool_of_three()
    host.claim("anna", 2)
    host.start("anna")
    host.binder.run()
    assert host.has("anna") == {"1-1", "1-2"}
    host.drained = frozenset({detach_trait(ANNA, 1)})
    host.binder.run()
    (kept,) = host.has("anna")
    assert host.news.carried_out == {CarriedOut(host.pool_uuid, 1, ANNA, 1)}
    host.claim("berta", 1)
    host.start("berta")
    host.binder.run()
    assert host.has("anna") == {kept}
    assert host.has("berta") - {kept}
    host.claim("anna", 1)
    host.binder.run()
    assert host.has("anna") == {kept}, "a command that was killed before it removed the request takes no second one"
    host.drained = frozenset()
    host.binder.run()
    assert host.has("anna") == {kept}
    assert host.violations == []


def test_a_guest_gives_its_unit_back_while_a_migration_holds_another_one() -> None:
    host = a_pool_of_three()
    host.claim("anna", 1)
    host.start("anna")
    host.binder.run()
    host.claim("a migration", 1)
    host.binder.run()
    before = dict(host.memory.shares)
    host.drained = frozenset({detach_trait(ANNA)})
    host.generation += 1
    host.binder.run()
    host.binder.run()
    assert host.has("anna") == set()
    assert host.news.carried_out == {CarriedOut(host.pool_uuid, 2, ANNA, 0)}
    kept = {key: each for key, each in before.items() if each.consumer == a_uuid("a migration")}
    assert len(kept) == 1
    assert host.memory.shares == kept, "what the migration has stays its own"


def test_a_bundle_is_given_back_as_a_whole() -> None:
    host = PooledHost(BUNDLE_RULES)
    for port in ("1-1", "1-2"):
        host.plug(port)
    host.claim("anna", 1)
    host.start("anna")
    host.binder.run()
    assert host.has("anna") == {"1-1", "1-2"}
    host.drained = frozenset({detach_trait(ANNA)})
    host.faults.append(AttachRefused("no"))
    host.binder._round(host.guests(), host.view(), frozenset())
    assert host.news.carried_out == set()
    host.binder.run()
    assert host.has("anna") == set()
    assert host.news.carried_out == {CarriedOut(host.pool_uuid, 1, ANNA, 0)}
    host.binder.run()
    assert host.has("anna") == set()


class GivenBackMachine(OneHostMachine):
    """The binder's machine, and users who ask for devices of running guests back as ``usb server detach`` does."""

    @initialize()
    def guests_run_with_their_devices(self) -> None:
        for port, name, serial in zip(PORTS, NAMES, SERIALS, strict=False):
            self.host.plug(port, serial=serial)
            self.host.start(name)
            self.host.hold(port, name)
        self.host.binder.run()

    @precondition(lambda self: bool(self.host.allocations))
    @rule(data=st.data())
    def ask_back(self, data: Any) -> None:
        provider = data.draw(st.sampled_from(sorted(self.host.allocations)))
        asks(self.host, provider, detach_trait(self.host.allocations[provider]))

    @rule()
    def take_the_requests_back(self) -> None:
        for provider in sorted(self.host.traits):
            asks(self.host, provider)

    @rule()
    def release_what_the_agent_has_detached(self) -> None:
        """A claim that is let go by the agent's word is never let go while the guest has the device."""
        for each in self.host.news.carried_out:
            traits = self.host.traits.get(each.provider_uuid, frozenset())
            is_current = each.generation == self.host.allocations.generations[each.provider_uuid]
            if not is_current or self.host.allocations.get(each.provider_uuid) != each.consumer:
                continue
            assert each.stay == 0 and detach_requests(traits) == {each.consumer: 0}
            for name, domain in self.host.domains.items():
                if domain.uuid == each.consumer:
                    ports = {p for p in self.host.has(name) if self.host.uuid_of(p) == each.provider_uuid}
                    assert ports == set()
            del self.host.allocations[each.provider_uuid]
            asks(self.host, each.provider_uuid)

    @rule()
    def quiet(self) -> None:
        """Users who no longer wait leave nothing that hinders a device."""
        self.take_the_requests_back()
        super().quiet()


class PooledGivenBackMachine(PooledGuests):
    """The pools' machine, and users who ask for units of running guests back."""

    def units_of(self, name: str) -> int:
        """How many devices the guest is to have."""
        return self.host.entitled(name)

    @rule(name=st.sampled_from(GUESTS))
    def ask_back(self, name: str) -> None:
        if units := self.units_of(name):
            self.host.write({*self.host.drained, detach_trait(a_uuid(name), units - 1)})

    @rule()
    def take_the_requests_back(self) -> None:
        self.host.write(())

    @rule()
    def release_what_the_agent_has_detached(self) -> None:
        """A claim that shrinks by the agent's word never shrinks below what the guest has."""
        for each in self.host.news.carried_out:
            if each.generation != self.host.generation or each.stay is None:
                continue
            (name,) = [guest for guest in GUESTS if a_uuid(guest) == each.consumer]
            assert len(self.host.has(name)) <= each.stay
            self.host.claim(name, min(each.stay, self.host.amounts[each.consumer]))
            self.host.forget_requests({each.consumer})


PooledGivenBackMachine.TestCase.settings = as_often(40, steps=40)
TestPooledGivenBack = PooledGivenBackMachine.TestCase
GivenBackMachine.TestCase.settings = as_often(40, steps=40)
TestGivenBack = GivenBackMachine.TestCase
