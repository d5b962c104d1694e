"""What is told to the meter are words of closed sets, whatever happened."""

import pytest

from tests.fixtures.fake_host import FakeHost
from usb_provider import exception
from usb_provider.agent.meter import GUEST_FAILURES, PASS_OUTCOMES, LoopName, Meter, Outcome
from usb_provider.exception import AttachRefused, DeviceGone
from usb_provider.model.binding.decision import Why
from usb_provider.model.binding.refusals import Obstacle


class Told(Meter):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.words: list[object] = []

    def attached(self, seconds: float | None) -> None:
        self.words.append(("attached", seconds is not None))

    def attach_failed(self, why: Outcome) -> None:
        self.words.append(("attach failed", why))

    def detached(self, why: Why) -> None:
        self.words.append(("detached", why))

    def detach_failed(self, why: Outcome) -> None:
        self.words.append(("detach failed", why))

    def refused(self, obstacle: Obstacle) -> None:
        self.words.append(("refused", obstacle))


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def host(told: Told) -> FakeHost:
    host = FakeHost()
    host.meter = told
    host.restart_agent()
    return host


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (exception.AccessRefused("no"), Outcome.ACCESS),
        (exception.RootMissing("no"), Outcome.ROOT_MISSING),
        (exception.Unavailable("no"), Outcome.UNAVAILABLE),
        (exception.Conflict("no"), Outcome.CONFLICT),
        (exception.Incompatible("no"), Outcome.INCOMPATIBLE),
        (exception.ConfigError(["no"]), Outcome.CONFIGURATION),
        (KeyError("a bug"), Outcome.BUG),
    ],
)
def test_every_end_of_a_pass_has_its_word(error: Exception, word: Outcome) -> None:
    assert Outcome.of(error) is word
    assert word in PASS_OUTCOMES[LoopName.REPORT]


@pytest.mark.parametrize("kind", [AttachRefused, DeviceGone, exception.Unavailable])
def test_every_failure_of_an_attach_has_its_word(kind: type[Exception]) -> None:
    assert Outcome.of(kind("no")) in GUEST_FAILURES


def test_an_attach_after_a_start_is_told_with_its_seconds_and_a_later_one_without(host: FakeHost, told: Told) -> None:
    host.plug("1-2", serial="A1")
    domain = host.start("vm")
    host.hold("1-2", "vm")
    host.ask("started", f"<domain><name>vm</name><uuid>{domain.uuid}</uuid></domain>")
    host.binder.run()
    host.unplug("1-2")
    host.binder.run()
    host.plug("1-2", serial="A1")
    host.binder.run()
    assert told.words == [("attached", True), ("detached", Why.GONE), ("attached", False)]


def test_a_failed_attach_is_told_each_time(host: FakeHost, told: Told) -> None:
    host.plug("1-2")
    host.start("vm")
    host.hold("1-2", "vm")
    host.faults += [KeyError("a bug"), DeviceGone("The guest has ended."), AttachRefused("libvirt says: no.")]
    host.binder.run()
    assert told.words == [
        ("attach failed", Outcome.REFUSED),
        ("attach failed", Outcome.GONE),
        ("attach failed", Outcome.BUG),
        ("attached", False),
    ]


@pytest.mark.parametrize(
    ("spoil", "obstacle"),
    [
        (lambda host: host.unplug("1-2"), Obstacle.UNPLUGGED),
        (lambda host: setattr(host, "specs", ()), Obstacle.NOT_OFFERED),
        (lambda host: setattr(host, "placement_up", False), Obstacle.PLACEMENT),
        (lambda host: None, Obstacle.NO_CONTROLLER),
    ],
)
def test_a_refused_start_is_told_with_one_word(host: FakeHost, told: Told, spoil: object, obstacle: Obstacle) -> None:
    host.plug("1-2")
    domain = host.start("vm")
    host.stop("vm")
    host.hold("1-2", "vm")
    spoil(host)  # type: ignore[operator]
    xml = f"<domain><name>vm</name><uuid>{domain.uuid}</uuid><devices/></domain>"
    assert "refuse" in host.ask("prepare", xml)
    assert told.words == [("refused", obstacle)]


def test_a_domain_that_is_not_understood_is_a_refusal_too(host: FakeHost, told: Told) -> None:
    host.ask("prepare", "<not-closed>")
    assert told.words == [("refused", Obstacle.UNREADABLE)]


def test_a_started_guest_that_is_not_understood_is_no_refused_start(host: FakeHost, told: Told) -> None:
    assert host.ask("started", "<not-closed>") == {}
    assert told.words == []
