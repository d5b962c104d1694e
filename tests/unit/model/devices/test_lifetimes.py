"""Long stories: hands plug and unplug, nova allocates and releases, rules change, the agent restarts; one pass each.

Whatever the order, a device that an instance holds stays what it is for as long as it is plugged in, and no device
gets what another one holds.
"""

import dataclasses
from dataclasses import dataclass, field

from hypothesis import example, given
from hypothesis import strategies as st

from tests.fixtures.applier import applied
from tests.fixtures.builders import ROOT, a_consumer, a_device, a_spec, a_tree, held_by
from usb_provider.model.devices.device import Speed, UsbDevice
from usb_provider.model.devices.held import Held, Sighting
from usb_provider.model.devices.spec import DeviceSpec, IdentityMode
from usb_provider.model.reporting.plan import diff
from usb_provider.model.reporting.provider import Assessment, assess, provider_uuid
from usb_provider.model.reporting.tree import ObservedProvider, ObservedTree

# Five of one product: three with one serial number, one with its own, one with none.
SERIALS = ("A1", "A1", "A1", "B2", None)
# Buses 1 (USB 2) and 2 (USB 3) of one controller; each numbers its ports from 1.
PLACES = ("1-1", "1-2", "1-3", "2-1", "2-2")

Step = tuple[str, int, int]
steps = st.one_of(
    st.tuples(st.just("plug"), st.integers(0, len(SERIALS) - 1), st.integers(0, len(PLACES) - 1)),
    st.tuples(st.just("unplug"), st.integers(0, len(SERIALS) - 1), st.just(0)),
    st.tuples(st.just("allocate"), st.integers(0, len(SERIALS) - 1), st.just(0)),
    st.tuples(st.just("release"), st.integers(0, len(SERIALS) - 1), st.just(0)),
    st.tuples(st.just("restart"), st.just(0), st.just(0)),
    st.tuples(st.just("identity"), st.sampled_from([0, 1, 2]), st.just(0)),
    st.tuples(st.just("keep back"), st.integers(0, 3), st.just(0)),
)


@dataclass
class Claim:
    """What an instance holds: the provider of *key*, given to it for *unit* in *place*."""

    unit: int
    key: str
    place: str
    stayed: bool = True
    beside: set[int] = field(default_factory=set)
    """Units that were plugged in together with this one, and have been ever since."""


@dataclass
class Host:
    """A host with its agent and the part of Placement that is about it."""

    where: dict[int, str] = field(default_factory=dict)
    tree: ObservedTree = field(default_factory=a_tree)
    seen: dict[str, Sighting] = field(default_factory=dict)
    claims: dict[str, Claim] = field(default_factory=dict)
    identity: IdentityMode = IdentityMode.AUTO
    kept_back: int = 0

    def device(self, unit: int) -> UsbDevice:
        place = self.where[unit]
        speed = Speed.SUPER if place.startswith("2") else Speed.HIGH
        return a_device(place, serial=SERIALS[unit], speed=speed)

    def specs(self) -> tuple[DeviceSpec, ...]:
        offering = a_spec(2, vendor_id="1050", identity=self.identity)
        return (a_spec(1, port=str(self.kept_back), exclude=True), offering) if self.kept_back else (offering,)

    def held(self, key: str) -> Held:
        provider = self.tree.providers.get(provider_uuid(ROOT.uuid, key))
        seen = self.seen.get(key)
        if provider is None:
            return Held(seen=seen)
        return Held(tuple(provider.allocations), not provider.absent, seen)

    def make_a_pass(self) -> dict[int, Assessment]:
        """Do as the agent does, and give what it made of each unit."""
        found = assess(
            [self.device(unit) for unit in self.where],
            self.specs(),
            root=ROOT,
            held=self.held,
            claimed=[key for key in self.seen if self.held(key).allocated],
            seen=self.seen,
        )
        plan = diff(
            self.tree,
            [each.desired for each in found if each.desired],
            plugged={each.provider_uuid for each in found if each.provider_uuid},
        )
        self.tree = applied(plan, self.tree)
        for each in found:
            self.seen[each.identity.key] = Sighting.of(each.device)
        by_name = {each.device.sys_name: each for each in found}
        return {unit: by_name[place] for unit, place in self.where.items()}

    def provider(self, key: str) -> ObservedProvider | None:
        return self.tree.providers.get(provider_uuid(ROOT.uuid, key))

    def put(self, provider: ObservedProvider) -> None:
        self.tree = dataclasses.replace(self.tree, providers={**self.tree.providers, provider.uuid: provider})

    def go(self, step: Step, last: dict[int, Assessment]) -> None:
        """Let *step* happen, after the pass that made *last*."""
        what, number, place = step
        if what == "plug" and number not in self.where and PLACES[place] not in self.where.values():
            self.where[number] = PLACES[place]
        elif what == "unplug" and number in self.where:
            del self.where[number]
            for claim in self.claims.values():
                claim.beside.discard(number)
                claim.stayed = claim.stayed and claim.unit != number
        elif what == "allocate" and number in last:
            self.allocate(number, last[number].identity.key)
        elif what == "release" and (key := next((k for k, c in self.claims.items() if c.unit == number), None)):
            del self.claims[key]
            provider = self.provider(key)
            assert provider is not None
            self.put(held_by(provider))
        elif what == "restart" and not self.guesses(last):
            self.seen.clear()
        elif what == "identity":
            self.identity = tuple(IdentityMode)[number]
        elif what == "keep back":
            self.kept_back = number

    def guesses(self, last: dict[int, Assessment]) -> bool:
        """Whether a restart now makes the agent guess: a twin that is not offered has no provider to remember it by."""
        claimed = {SERIALS[claim.unit] for claim in self.claims.values()}
        return any(SERIALS[unit] in claimed and not each.offered for unit, each in last.items())

    def allocate(self, unit: int, key: str) -> None:
        provider = self.provider(key)
        if provider is None or provider.allocated:
            return
        if any(inventory.schedulable for inventory in provider.inventories.values()):
            self.put(held_by(provider, a_consumer(key)))
            self.claims[key] = Claim(unit, key, self.where[unit])

    def check(self, now: dict[int, Assessment]) -> None:
        """See that every claim is where it belongs."""
        assert len({each.identity.key for each in now.values()}) == len(now)
        for claim in self.claims.values():
            if claim.stayed:
                assert now[claim.unit].identity.key == claim.key, "a device that is held changed its key"
            for other in claim.beside:
                assert now[other].identity.key != claim.key, "a device got what its neighbour holds"
            if claim.stayed:
                claim.beside |= set(self.where) - {claim.unit}
            provider = self.provider(claim.key)
            assert provider is not None
            assert provider.used_classes <= provider.inventories.keys(), "what is held lost its inventory"
        for provider in self.tree.providers.values():
            key_is_here = any(each.provider_uuid == provider.uuid and each.offered for each in now.values())
            free = any(inventory.schedulable for inventory in provider.inventories.values())
            assert key_is_here or not free, "a device that cannot be had is schedulable"


# The holder of three goes: the other two were demoted, and neither may take its place.
ONE_OF_THREE_GOES: list[Step] = [
    ("plug", 2, 2),
    ("allocate", 2, 0),
    ("plug", 0, 0),
    ("plug", 1, 1),
    ("unplug", 2, 0),
    ("restart", 0, 0),
]
# The same, where a twin has no provider since its rule demands a serial number of its own.
A_TWIN_WITHOUT_PROVIDER: list[Step] = [
    ("identity", 1, 0),
    ("plug", 1, 1),
    ("allocate", 1, 0),
    ("plug", 0, 0),
    ("unplug", 1, 0),
    ("plug", 1, 2),
]
# Ports of one number on the USB 2 and the USB 3 bus: what is held there outlives the other's going and coming.
TWO_BUSES: list[Step] = [
    ("plug", 0, 0),
    ("plug", 1, 3),
    ("allocate", 1, 0),
    ("unplug", 0, 0),
    ("plug", 0, 0),
    ("restart", 0, 0),
    ("allocate", 0, 0),
    ("unplug", 1, 0),
    ("release", 1, 0),
    ("plug", 1, 3),
]
A_USB_3_DEVICE_FIRST: list[Step] = [
    ("identity", 2, 0),
    ("plug", 1, 3),
    ("allocate", 1, 0),
    ("plug", 0, 0),
    ("restart", 0, 0),
    ("unplug", 1, 0),
]


@given(st.lists(steps, max_size=14))
@example(ONE_OF_THREE_GOES)
@example(A_TWIN_WITHOUT_PROVIDER)
@example(TWO_BUSES)
@example(A_USB_3_DEVICE_FIRST)
def test_whatever_happens_a_claim_stays_with_its_device_and_nobody_inherits_it(story: list[Step]) -> None:
    host = Host()
    last = host.make_a_pass()
    for step in story:
        host.go(step, last)
        last = host.make_a_pass()
        host.check(last)
