"""What the binding loop tells of devices that running guests lack."""

import pytest

from tests.fixtures.binder import host
from tests.fixtures.fake_host import FakeHost
from usb_provider.model.binding import waiting

__all__ = ["host"]


def test_a_device_that_is_unplugged_for_long_is_waited_for_until_it_is_back(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.plug("1-1", serial="S1")
    host.start("anna")
    provider = host.hold("1-1", "anna")
    host.binder.run()
    host.binder.run()
    assert host.news.waiting == frozenset()
    host.unplug("1-1")
    host.binder.run()
    assert host.news.waiting == frozenset()
    assert host.binder.run() is not None, "it looks again when the minute is over"
    monkeypatch.setattr(waiting, "PATIENCE", 0.0)
    host.binder.run()
    assert host.news.waiting == {provider}
    host.plug("1-1", serial="S1")
    host.binder.run()
    host.binder.run()
    assert host.news.waiting == frozenset()


def test_a_guest_that_ends_waits_for_nothing(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "PATIENCE", 0.0)
    host.plug("1-1", serial="S1")
    host.start("anna")
    provider = host.hold("1-1", "anna")
    host.unplug("1-1")
    host.binder.run()
    assert host.news.waiting == {provider}
    host.stop("anna")
    host.binder.run()
    assert host.news.waiting == frozenset()
