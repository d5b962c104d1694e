"""The agent is restarted with another compute node while guests have devices: nothing is detached because of it."""

import pytest

from tests.fixtures.binder import host
from tests.fixtures.fake_host import FakeHost, Never
from usb_provider.exception import Conflict
from usb_provider.model.reporting.provider import Root

__all__ = ["host"]

ANOTHER = Root("7c0f0a86-0d0c-4b9e-a58c-3f6f2a6f5d11", "compute2")


@pytest.fixture
def held(host: FakeHost) -> str:
    """A guest has the device that it holds, and the agent is restarted with another host's compute node."""
    host.plug("1-2", serial="A1")
    host.start("vm")
    uuid = host.hold("1-2", "vm")
    host.binder.run()
    host.root, host.providers = ANOTHER, set()
    host.restart_agent()
    return uuid


def test_what_a_guest_holds_below_another_compute_node_is_not_detached_and_a_notice_says_so(
    host: FakeHost, held: str
) -> None:
    for _ in range(2):
        host.binder.run()
        assert host.has("vm") == {"1-2"}
        (note,) = host.binder.last.notes
        assert f"provider {held}, which is not below the compute node compute2" in note.text


def test_it_is_detached_as_soon_as_the_guest_does_not_hold_it_there_any_more(host: FakeHost, held: str) -> None:
    host.binder.run()
    del host.allocations[held]
    host.binder.run()
    assert host.has("vm") == set()
    assert host.binder.last.notes == ()


def test_it_is_detached_when_its_provider_is_gone_from_placement(host: FakeHost, held: str) -> None:
    def gone(uuids: list[str]) -> None:
        raise Conflict("It is gone.")

    host.confirm = gone
    host.binder.run()
    assert host.has("vm") == set()


def test_while_placement_does_not_say_who_holds_it_it_is_not_detached(host: FakeHost, held: str) -> None:
    host.askers = Never()
    host.restart_agent()
    host.binder.run()
    assert host.has("vm") == {"1-2"}
