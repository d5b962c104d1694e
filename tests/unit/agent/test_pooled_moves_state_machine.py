"""Two hosts with a pool each, driven at random: guests grow, shrink and go from host to host, and members come and go.

Nova's part is played by its rules, as in test_moves_state_machine.py. Set USB_PROVIDER_EXAMPLES to run more examples
than the ordinary run does.
"""

import contextlib
from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import initialize, precondition, rule

from placement_traits import detach_requests, detach_trait, member_drained_trait
from tests.fixtures.binder_machine import BinderMachine, as_often, lets_in, receives, starts
from tests.fixtures.builders import ROOT
from tests.fixtures.fake_host import a_uuid
from tests.fixtures.pooled_host import PooledHost
from usb_provider.exception import AttachRefused, DeviceGone, Unavailable
from usb_provider.model.reporting.provider import Root, provider_uuid
from usb_provider.model.reporting.requests import CarriedOut
from usb_provider.model.units.names import member_id

PORTS = ("1-1", "1-2", "1-3", "1-4")
NAMES = ("anna", "berta")
SECOND_ROOT = Root("5d0c7a0e-6f1d-4d6d-9f5e-7b1f3a9c2e44", "compute2.example.org")

sides, ports, names = st.sampled_from([0, 1]), st.sampled_from(PORTS), st.sampled_from(NAMES)


def migration_of(name: str) -> str:
    """What holds the source's units while the guest moves; :meth:`PooledHost.claim` makes a consumer of it."""
    return f"migration of {name}"


def with_guest(kind: str) -> Any:
    """A rule for which some guest is as *kind* says: "free" to move, "absent", or that kind of move."""
    return precondition(lambda machine: bool(machine.guests_that_are(kind)))


class PooledMoves(BinderMachine):
    """Hands, users, nova and misfortune against the binders of two hosts whose devices are members of pools."""

    hosts: tuple[PooledHost, ...]

    def __init__(self) -> None:
        super().__init__(PooledHost(root=ROOT), PooledHost(root=SECOND_ROOT))
        for host in self.hosts:
            for port in PORTS[:3]:
                host.plug(port)
        self.place: dict[str, int] = {}
        self.moves: dict[str, tuple[str, int]] = {}

    @initialize(units=st.tuples(st.integers(1, 2), st.integers(0, 2)))
    def there_are_guests(self, units: tuple[int, int]) -> None:
        for side, (name, amount) in enumerate(zip(NAMES, units, strict=True)):
            self._create(name, side, amount)
        self.look()

    def guests_that_are(self, kind: str) -> list[str]:
        if kind == "absent":
            return [name for name in NAMES if name not in self.place]
        if kind == "free":
            return [name for name in sorted(self.place) if name not in self.moves]
        return [name for name, move in sorted(self.moves.items()) if move[0] == kind]

    def _one(self, data: Any, kind: str) -> str:
        name: str = data.draw(st.sampled_from(self.guests_that_are(kind)))
        return name

    # Hands and operators

    @rule(side=sides, port=ports)
    def plug_or_unplug(self, side: int, port: str) -> None:
        host = self.hosts[side]
        if port in host.devices:
            host.unplug(port)
        else:
            host.plug(port)

    @rule(side=sides)
    def reset_the_controller(self, side: int) -> None:
        self.hosts[side].reset_controller()

    @rule(side=sides, port=ports, attached=st.booleans())
    def drain_or_not(self, side: int, port: str, attached: bool) -> None:
        host = self.hosts[side]
        had = sorted(port for name in host.domains for port in host.has(name))
        key = f"1050:0407@0000:00:14.0-{(had[0] if attached and had else port)[2:]}"
        host.drained ^= {member_drained_trait(member_id(provider_uuid(host.root.uuid, key)))}
        host.view()

    # Users and nova

    @with_guest("absent")
    @rule(data=st.data(), side=sides, units=st.integers(0, 2))
    def create(self, data: Any, side: int, units: int) -> None:
        self._create(self._one(data, "absent"), side, units)

    @with_guest("free")
    @rule(data=st.data())
    def delete(self, data: Any) -> None:
        name = self._one(data, "free")
        host = self.hosts[self.place.pop(name)]
        host.forget(name)
        host.claim(name, 0)

    @with_guest("free")
    @rule(data=st.data(), units=st.integers(0, 3))
    def grow_or_shrink(self, data: Any, units: int) -> None:
        """A claim grows, or shrinks without a request, as by ``detach --force``.

        It does not shrink while a migration holds units of the host, and the agent sees it before one does: it cannot
        tell such a claim from one that the migration has taken over. Then the guest keeps its device until the
        migration ends (ADR 21).
        """
        name = self._one(data, "free")
        host = self.hosts[self.place[name]]
        more = units - host.amounts[a_uuid(name)]
        servers = {a_uuid(each) for each in NAMES}
        if more < 0 and any(number for consumer, number in host.amounts.items() if consumer not in servers):
            return
        if more <= host.free_units():
            host.claim(name, units)
        if more < 0:
            host.settle()

    @with_guest("free")
    @rule(data=st.data(), stay=st.integers(0, 1))
    def ask_back(self, data: Any, stay: int) -> None:
        name = self._one(data, "free")
        host = self.hosts[self.place[name]]
        if stay < host.entitled(name):
            host.write({*host.drained, detach_trait(a_uuid(name), stay)})

    @rule(side=sides)
    def take_the_requests_back(self, side: int) -> None:
        self.hosts[side].forget_requests(detach_requests(self.hosts[side].drained))

    @rule(side=sides)
    def release_what_the_agent_has_detached(self, side: int) -> None:
        """A claim that shrinks by the agent's word never shrinks below what the guest has."""
        host = self.hosts[side]
        for each in host.news.carried_out:
            names = [name for name in NAMES if a_uuid(name) == each.consumer]
            if each.generation == host.generation and each.stay is not None and names:
                assert names[0] not in host.domains or len(host.has(names[0])) <= each.stay
                host.claim(names[0], min(each.stay, host.amounts[each.consumer]))
                host.forget_requests({each.consumer})

    @with_guest("free")
    @rule(data=st.data())
    def hard_reboot(self, data: Any) -> None:
        name = self._one(data, "free")
        host = self.hosts[self.place[name]]
        host.stop(name)
        starts(host, name)

    @with_guest("free")
    @rule(data=st.data(), hook=st.booleans(), looked=st.booleans())
    def migrate_live(self, data: Any, hook: bool, looked: bool) -> None:
        name = self._one(data, "free")
        source = self.place[name]
        leaving = self.hosts[source].domains[name]
        if not leaving.running or not self._claim_move(name):
            return
        if looked:
            self.look()
        target = self.hosts[1 - source]
        if not (lets_in(target, leaving) if hook else receives(target, leaving)):
            self._revert(name, source)
            return
        leaving.busy = True
        self.moves[name] = ("live", source)

    @with_guest("live")
    @rule(data=st.data())
    def complete(self, data: Any) -> None:
        name = self._one(data, "live")
        source = self.moves.pop(name)[1]
        self.hosts[source].forget(name)
        self.hosts[source].claim(migration_of(name), 0)
        self.hosts[1 - source].domains[name].busy = False
        self.place[name] = 1 - source

    @with_guest("live")
    @rule(data=st.data())
    def abort(self, data: Any) -> None:
        name = self._one(data, "live")
        source = self.moves.pop(name)[1]
        self.hosts[1 - source].forget(name)
        self.hosts[source].domains[name].busy = False
        self._revert(name, source)

    @with_guest("free")
    @rule(data=st.data())
    def migrate_cold(self, data: Any) -> None:
        name = self._one(data, "free")
        source = self.place[name]
        if self._claim_move(name):
            self.hosts[source].stop(name)
            if starts(self.hosts[1 - source], name):
                self.moves[name] = ("cold", source)
                self.place[name] = 1 - source
            else:
                self._revert(name, source)

    @with_guest("cold")
    @rule(data=st.data(), confirmed=st.booleans())
    def confirm_or_revert(self, data: Any, confirmed: bool) -> None:
        name = self._one(data, "cold")
        source = self.moves.pop(name)[1]
        if confirmed:
            self.hosts[source].forget(name)
            self.hosts[source].claim(migration_of(name), 0)
        else:
            self.hosts[1 - source].forget(name)
            self.place[name] = source
            self._revert(name, source)
            starts(self.hosts[source], name)

    def _create(self, name: str, side: int, units: int) -> None:
        if self._claim(name, side, units):
            if starts(self.hosts[side], name):
                self.place[name] = side
            else:
                self.hosts[side].claim(name, 0)

    def _claim(self, name: str, side: int, units: int) -> bool:
        host = self.hosts[side]
        if host.free_units() < units:
            return False
        host.claim(name, units)
        return True

    def _claim_move(self, name: str) -> bool:
        source = self.hosts[self.place[name]]
        units = source.amounts[a_uuid(name)]
        if not self._claim(name, 1 - self.place[name], units):
            return False
        source.claim(migration_of(name), units)
        source.claim(name, 0)
        return True

    def _revert(self, name: str, side: int) -> None:
        """The destination's units go, the source's are the guest's again."""
        self.hosts[1 - side].claim(name, 0)
        self.hosts[side].claim(name, self.hosts[side].amounts[a_uuid(migration_of(name))])
        self.hosts[side].claim(migration_of(name), 0)

    # Misfortune

    @rule(side=sides, fault=st.sampled_from([AttachRefused("no"), DeviceGone("gone"), Unavailable("away")]))
    def misfortune(self, side: int, fault: Exception) -> None:
        self.hosts[side].faults.append(fault)

    @rule(side=sides)
    def crash(self, side: int) -> None:
        self.hosts[side].restart_agent()

    @rule(side=sides)
    def lose_the_memory(self, side: int) -> None:
        host = self.hosts[side]
        if not self.moves:
            host.memory = type(host.memory)()
            host.restart_agent()

    @rule()
    def look(self) -> None:
        for side, host in enumerate(self.hosts):
            before = {name: host.has(name) for name in host.domains}
            with contextlib.suppress(Unavailable):
                host.binder.run()
            for name, had in before.items():
                if name in host.domains and a_uuid(name) not in host.latest().arrived:
                    kept = len(host.has(name) & had)
                    assert kept >= min(self._held(name, side), len(had)), f"{name} loses a member that it holds"

    @rule()
    def quiet(self) -> None:
        """When faults stop, each guest has what it holds, as long as there are members."""
        for side, host in enumerate(self.hosts):
            host.settle()
            for name, domain in host.domains.items():
                if not domain.busy and domain.running:
                    assert len(host.has(name)) <= self._held(name, side)
                if not domain.busy and (stay := host.leaving().get(a_uuid(name))) is not None:
                    answer = CarriedOut(host.pool_uuid, host.generation, a_uuid(name), stay)
                    assert answer in host.news.carried_out, f"the user who waits for {name} is not told"
            waiting = [
                name
                for name, domain in host.domains.items()
                if domain.running and not domain.busy and len(host.has(name)) < host.entitled(name)
            ]
            taken = {port for name in host.domains for port in host.has(name)}
            assert not waiting or len(taken) + host.kept_for_others(taken) >= len(host.counted_ports()), waiting

    def _held(self, name: str, side: int) -> int:
        host = self.hosts[side]
        return host.entitled(name) + host.amounts[a_uuid(migration_of(name))]


PooledMoves.TestCase.settings = as_often(100, steps=40)
TestPooledMoves = PooledMoves.TestCase
