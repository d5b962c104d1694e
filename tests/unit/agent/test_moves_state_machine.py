"""Two binders driven at random while guests go from host to host: claims, devices and guests agree in the end.

Nova's part is played by its rules: the claims of the destination are there before a guest is, what the guest held at
the source is a migration's meanwhile, and an evacuated guest holds both until the source is back. Set
USB_PROVIDER_EXAMPLES to run more examples than the ordinary run does.
"""

import contextlib
import dataclasses
import itertools
from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from placement_traits import NOT_LIVE_MIGRATABLE
from tests.fixtures.binder_machine import BinderMachine, as_often, lets_in, receives, starts
from tests.fixtures.builders import ROOT
from tests.fixtures.fake_host import Claims, FakeDomain, FakeHost, a_uuid
from usb_provider.exception import AttachRefused, DeviceGone, Unavailable
from usb_provider.model.reporting.provider import Root

PORTS = ["1-1", "1-2", "1-3"]
NAMES = ["anna", "berta"]
SECOND_ROOT = Root("5d0c7a0e-6f1d-4d6d-9f5e-7b1f3a9c2e44", "compute2.example.org")

sides, counts = st.sampled_from([0, 1]), st.sampled_from([1, 1, 2, 0])


@dataclasses.dataclass
class Move:
    """A guest on its way; ``kind`` is "claimed" before a live migration begins."""

    kind: str
    source: int

    @property
    def target(self) -> int:
        return 1 - self.source


def when(kind: str) -> Any:
    """A rule for which some guest is as *kind* says: "free" to move, "absent", or that kind of move."""
    return precondition(lambda machine: bool(machine.guests_that_are(kind)))


def migration_of(name: str) -> str:
    """The consumer that holds the source's claims while a guest moves."""
    return a_uuid(f"migration of {name}")


class MovesMachine(BinderMachine):
    """Hands, users, nova and misfortune against the binders of two hosts."""

    def __init__(self) -> None:
        self.claims = Claims()
        traits: dict[str, frozenset[str]] = {}
        super().__init__(*(FakeHost(root=root, allocations=self.claims, traits=traits) for root in (ROOT, SECOND_ROOT)))
        for host, port in itertools.product(self.hosts, PORTS[:2]):
            host.plug(port)
        self.place: dict[str, int] = {}
        self.moves: dict[str, Move] = {}

    @initialize(wanted=st.tuples(*(st.tuples(sides, counts) for _ in NAMES)))
    def there_are_guests(self, wanted: tuple[tuple[int, int], ...]) -> None:
        for name, (side, count) in zip(NAMES, wanted, strict=True):
            self._create(name, side, count)
        self.look()

    def guests_that_are(self, kind: str) -> list[str]:
        if kind == "absent":
            return [name for name in NAMES if name not in self.place]
        if kind == "free":
            return [name for name in sorted(self.place) if name not in self.moves]
        return [name for name, move in self.moves.items() if move.kind == kind]

    def ports(self, *, plugged: bool) -> list[tuple[FakeHost, str]]:
        return [(host, port) for host in self.hosts for port in PORTS if (port in host.devices) is plugged]

    def _one(self, data: Any, kind: str) -> str:
        name: str = data.draw(st.sampled_from(self.guests_that_are(kind)))
        return name

    def _port(self, data: Any, *, plugged: bool) -> tuple[FakeHost, str]:
        found: tuple[FakeHost, str] = data.draw(st.sampled_from(self.ports(plugged=plugged)))
        return found

    # Hands

    @precondition(lambda self: self.ports(plugged=False))
    @rule(data=st.data(), serial=st.sampled_from(["S1", "S2", None]))
    def plug(self, data: Any, serial: str | None) -> None:
        host, port = self._port(data, plugged=False)
        if serial not in {device.serial for device in host.devices.values()} - {None}:
            host.plug(port, serial=serial)

    @precondition(lambda self: self.ports(plugged=True))
    @rule(data=st.data())
    def unplug(self, data: Any) -> None:
        host, port = self._port(data, plugged=True)
        host.unplug(port)

    @rule(side=sides)
    def reset_the_controller(self, side: int) -> None:
        self.hosts[side].reset_controller()

    @precondition(lambda self: self.ports(plugged=True))
    @rule(data=st.data())
    def keep_from_live_migration(self, data: Any) -> None:
        host, port = self._port(data, plugged=True)
        host.traits[host.uuid_of(port)] = frozenset({NOT_LIVE_MIGRATABLE})

    # Users

    @when("absent")
    @rule(data=st.data(), side=sides, count=counts, looked=st.booleans())
    def create(self, data: Any, side: int, count: int, looked: bool) -> None:
        self._create(self._one(data, "absent"), side, count)
        if looked:
            self.look()

    @when("free")
    @rule(data=st.data())
    def delete(self, data: Any) -> None:
        name = self._one(data, "free")
        self.hosts[self.place.pop(name)].forget(name)
        self._release(a_uuid(name))

    @when("free")
    @rule(data=st.data())
    def hard_reboot(self, data: Any) -> None:
        name = self._one(data, "free")
        self.hosts[self.place[name]].stop(name)
        starts(self.hosts[self.place[name]], name)

    @rule(side=sides, late=st.booleans())
    def a_reporter_is_late(self, side: int, late: bool) -> None:
        self.hosts[side].reporter_is_late = late

    # Live migration

    @when("free")
    @rule(data=st.data(), hook=st.booleans())
    def migrate_live(self, data: Any, hook: bool) -> None:
        name = self._one(data, "free")
        if self._claim_live(name):
            self._hand_over(name, hook)

    @when("free")
    @rule(data=st.data())
    def migrate_past_nova(self, data: Any) -> None:
        """By an administrator's own hand: nothing is claimed at the destination."""
        name = self._one(data, "free")
        leaving = self.hosts[self.place[name]].domains[name]
        if leaving.hostdevs:
            target = self.hosts[1 - self.place[name]]
            answer = target.ask("migrate", leaving.xml(), name)
            assert "refuse" in answer, "it would have no device there"

    @when("free")
    @rule(data=st.data())
    def claim_for_a_live_migration(self, data: Any) -> None:
        self._claim_live(self._one(data, "free"))

    @when("claimed")
    @rule(data=st.data(), hook=st.booleans())
    def hand_over(self, data: Any, hook: bool) -> None:
        self._hand_over(self._one(data, "claimed"), hook)

    @when("live")
    @rule(data=st.data(), released=st.booleans())
    def complete(self, data: Any, released: bool) -> None:
        """The guest is at the destination; nova lets the source's claims go, at once or a while later."""
        self._complete(self._one(data, "live"), released)

    @when("free")
    @rule(data=st.data(), hook=st.booleans())
    def migrate_live_there_and_back_before_anybody_looks(self, data: Any, hook: bool) -> None:
        name = self._one(data, "free")
        for _ in range(2):
            if not self._claim_live(name) or not self._hand_over(name, hook):
                return
            self._complete(name, released=True)
        self.quiet()

    @when("done")
    @rule(data=st.data())
    def release_the_source(self, data: Any) -> None:
        self._release_the_source(self._one(data, "done"))

    @when("claimed")
    @rule(data=st.data())
    def give_up_before_it_begins(self, data: Any) -> None:
        self._revert(self._one(data, "claimed"))

    @when("live")
    @rule(data=st.data())
    def abort(self, data: Any) -> None:
        name = self._one(data, "live")
        move = self.moves[name]
        self.hosts[move.target].forget(name)
        self.hosts[move.source].domains[name].busy = False
        self._revert(name)

    # Cold migration

    @when("free")
    @rule(data=st.data())
    def migrate_cold(self, data: Any) -> None:
        name = self._one(data, "free")
        if self._claim_move(name):
            source = self.place[name]
            self.hosts[source].stop(name)
            if starts(self.hosts[1 - source], name):
                self.moves[name] = Move("cold", source)
                self.place[name] = 1 - source
            else:
                self._revert(name)

    @when("cold")
    @rule(data=st.data(), confirmed=st.booleans())
    def confirm_or_revert(self, data: Any, confirmed: bool) -> None:
        name = self._one(data, "cold")
        move = self.moves[name]
        if confirmed:
            self.hosts[move.source].forget(name)
            self._release_the_source(name)
        else:
            self.hosts[move.target].forget(name)
            self.place[name] = move.source
            self._revert(name)
            starts(self.hosts[move.source], name)

    # Evacuation

    @precondition(lambda self: not self.moves)
    @rule(side=sides)
    def evacuate(self, side: int) -> None:
        """The host has no power; every guest of it that fits is built anew on the other one, and holds both claims."""
        for name in [name for name, place in self.place.items() if place == side]:
            count = len(self._held(a_uuid(name), side))
            self.hosts[side].stop(name)
            if self._claim(name, 1 - side, count) and starts(self.hosts[1 - side], name):
                self.moves[name] = Move("evacuation", side)
                self.place[name] = 1 - side
            else:
                self._release(a_uuid(name), 1 - side)
        self.hosts[side].restart_agent()

    @when("evacuation")
    @rule(data=st.data())
    def the_evacuated_host_is_back(self, data: Any) -> None:
        name = self._one(data, "evacuation")
        side = self.moves.pop(name).source
        self.hosts[side].forget(name)
        self._release(a_uuid(name), side)

    # Misfortune

    @rule(side=sides, fault=st.sampled_from([AttachRefused("no"), DeviceGone("gone"), Unavailable("away")]))
    def misfortune(self, side: int, fault: Exception) -> None:
        self.hosts[side].faults.append(fault)

    @rule(side=sides)
    def crash(self, side: int) -> None:
        self.hosts[side].restart_agent()

    @rule()
    def look(self) -> None:
        for host in self.hosts:
            with contextlib.suppress(Unavailable):
                host.binder.run()

    @rule()
    def quiet(self) -> None:
        """When faults stop, everything is as the allocations say, on both hosts."""
        for host in self.hosts:
            host.settle()

    @invariant()
    def what_a_guest_has_is_held_by_it_or_by_its_own_migration(self) -> None:
        for host in self.hosts:
            for name in host.domains:
                for port in host.has(name):
                    assert self.claims.get(host.uuid_of(port)) in (a_uuid(name), migration_of(name))

    # Nova's part

    def _create(self, name: str, side: int, count: int) -> None:
        if self._claim(name, side, count):
            if starts(self.hosts[side], name):
                self.place[name] = side
            else:
                self._release(a_uuid(name))

    def _claim_live(self, name: str) -> bool:
        if not self.hosts[self.place[name]].domains[name].running or not self._claim_move(name):
            return False
        self.moves[name] = Move("claimed", self.place[name])
        return True

    def _hand_over(self, name: str, hook: bool) -> bool:
        move = self.moves[name]
        source, target = self.hosts[move.source], self.hosts[move.target]
        leaving = source.domains[name]
        if not (self._asked(target, leaving) if hook else receives(target, leaving)):
            self._revert(name)
            return False
        leaving.busy = True
        move.kind = "live"
        return True

    def _complete(self, name: str, released: bool) -> None:
        move = self.moves[name]
        self.hosts[move.source].forget(name)
        self.hosts[move.target].domains[name].busy = False
        self.place[name] = move.target
        move.kind = "done"
        if released:
            self._release_the_source(name)

    def _held(self, consumer: str, side: int) -> list[str]:
        providers = self.hosts[side].providers
        return sorted(uuid for uuid, holder in self.claims.items() if holder == consumer and uuid in providers)

    def _claim(self, name: str, side: int, count: int) -> bool:
        plugged = [str(each.provider_uuid) for each in self.hosts[side].view().devices if each.offered]
        free = [uuid for uuid in plugged if uuid not in self.claims]
        if len(free) < count:
            return False
        self.claims.update(dict.fromkeys(free[:count], a_uuid(name)))
        return True

    def _claim_move(self, name: str) -> bool:
        held = self._held(a_uuid(name), self.place[name])
        if not self._claim(name, 1 - self.place[name], len(held)):
            return False
        self.claims.update(dict.fromkeys(held, migration_of(name)))
        return True

    def _release(self, consumer: str, *sides: int) -> None:
        for side in sides or (0, 1):
            for uuid in self._held(consumer, side):
                del self.claims[uuid]

    def _release_the_source(self, name: str) -> None:
        self._release(migration_of(name))
        del self.moves[name]

    def _revert(self, name: str) -> None:
        """The destination's claims go, the source's are the guest's again."""
        self._release(a_uuid(name))
        for side in (0, 1):
            self.claims.update(dict.fromkeys(self._held(migration_of(name), side), a_uuid(name)))
        self.moves.pop(name, None)

    def _asked(self, target: FakeHost, leaving: FakeDomain) -> bool:
        stays = [
            each.provider_uuid or ""
            for each in leaving.hostdevs
            if NOT_LIVE_MIGRATABLE in target.traits.get(each.provider_uuid or "", ())
        ]
        return lets_in(target, leaving, stays)


MovesMachine.TestCase.settings = as_often(200, steps=50)
TestMoves = MovesMachine.TestCase
