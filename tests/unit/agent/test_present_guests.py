"""A start whose device another guest has got or given back a moment before, and a libvirt that answers too late."""

import logging
import threading
import time
from collections.abc import Iterator

import pytest

from tests.fixtures.binder import host, lines
from tests.fixtures.domain_xml import a_domain_xml
from tests.fixtures.fake_host import FakeHost, a_uuid
from usb_provider.agent import admission
from usb_provider.exception import Unavailable
from usb_provider.model.binding.hostdev import Hostdev

__all__ = ["host"]

XML = a_domain_xml("vm", a_uuid("vm"), ports=8)
LATE = "libvirt does not say in time which guests have a device, so a start is judged by the last read."


@pytest.fixture(autouse=True)
def ready(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The guest "vm" holds a device that is there, "thief" runs, and the agent has seen both."""
    monkeypatch.setattr(admission, "_LEAST_READING_SECONDS", 0.1)
    host.plug("1-2")
    host.hold("1-2", "vm")
    host.start("thief")
    host.binder.run()
    yield
    host.libvirt_answers.set()


def steal(host: FakeHost) -> None:
    """Attach the device to "thief", as an operator does with virsh."""
    device = host.devices["1-2"]
    stolen = Hostdev("hostdev0", device.vendor_id, device.product_id, device.busnum, device.devnum)
    host.domains["thief"].hostdevs.append(stolen)


def test_a_start_is_refused_for_a_device_that_another_guest_has_got_a_moment_before(host: FakeHost) -> None:
    steal(host)
    assert "but another guest has it." in host.ask("prepare", XML)["refuse"]


def test_a_start_is_allowed_for_a_device_that_another_guest_has_given_back_a_moment_before(host: FakeHost) -> None:
    steal(host)
    host.binder.run()
    host.domains["thief"].hostdevs.clear()
    assert host.ask("prepare", XML) == {}


def test_while_libvirt_does_not_answer_the_last_read_counts_and_the_log_says_so_once(
    host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    host.libvirt_answers.clear()
    steal(host)
    for _ in range(6):
        began = time.monotonic()
        assert host.ask("prepare", XML) == {}
        assert time.monotonic() - began < 1.0
    assert lines(caplog, logging.WARNING).count(LATE) == 1
    assert len(host.looked_up) == 4, "no more reads than that hang"
    host.libvirt_answers.set()
    deadline = time.monotonic() + 5.0
    while "refuse" not in host.ask("prepare", XML) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert f"Resolved: {LATE}" in lines(caplog)


def test_a_libvirt_that_answers_with_an_error_refuses_no_start(
    host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    host.faults.append(Unavailable("libvirt does not answer."))
    assert host.ask("prepare", XML) == {}
    assert LATE in lines(caplog, logging.WARNING)


def test_a_start_without_a_device_does_not_ask_libvirt(host: FakeHost) -> None:
    assert host.ask("prepare", a_domain_xml("other", a_uuid("other"), ports=8)) == {}
    host.unplug("1-2")
    assert "it is not plugged in" in host.ask("prepare", XML)["refuse"]
    assert host.looked_up == []


def test_a_guest_whose_own_hook_waits_is_not_read_since_libvirt_keeps_it_locked(host: FakeHost) -> None:
    host.start("waits")
    host.binder.run()
    host.plug("1-3")
    host.hold("1-3", "waits")
    host.libvirt_answers.clear()
    other = a_domain_xml("waits", a_uuid("waits"), ports=8)
    asks = threading.Thread(target=host.ask, args=("prepare", other), kwargs={"seconds": 5.0})
    asks.start()
    deadline = time.monotonic() + 5.0
    while not host.looked_up and time.monotonic() < deadline:
        time.sleep(0.005)
    threading.Timer(0.05, host.libvirt_answers.set).start()
    assert host.ask("prepare", XML, seconds=5.0) == {}
    asks.join(10)
    assert a_uuid("thief") in host.looked_up
    assert a_uuid("waits") not in host.looked_up
