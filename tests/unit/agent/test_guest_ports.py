"""A guest sees each of its devices at the same USB port, whatever happens to the others."""

import logging

import pytest

from tests.fixtures.binder import host, lines
from tests.fixtures.fake_host import FakeHost, a_uuid
from usb_provider.model.binding.hostdev import GuestPort

__all__ = ["host"]


def ports(host: FakeHost) -> dict[str, str]:
    """At which port of anna's each of her devices is, by the device's provider."""
    return {each.provider_uuid or "": str(each.guest_port) for each in host.domains["anna"].hostdevs}


def anna_with(host: FakeHost, *names: str) -> dict[str, str]:
    """Start anna with these devices, and give their ports."""
    for name in names:
        host.plug(name, serial=f"S{name}")
        host.hold(name, "anna")
    host.start("anna")
    host.settle()
    assert host.has("anna") == set(names)
    return ports(host)


def test_devices_that_come_back_the_other_way_round_are_where_they_were(host: FakeHost) -> None:
    before = anna_with(host, "1-1", "1-2")
    assert set(before.values()) == {"0:1", "0:2"}
    for name in ("1-1", "1-2"):
        host.unplug(name)
    host.settle()
    assert ports(host) == {}
    for name in ("1-2", "1-1"):
        host.plug(name, serial=f"S{name}")
        host.settle()
    assert ports(host) == before


def test_a_device_that_was_given_later_keeps_its_port_over_a_start_and_a_restart_of_the_agent(host: FakeHost) -> None:
    anna_with(host, "1-2")
    host.plug("1-1", serial="S1-1")
    host.hold("1-1", "anna")
    host.settle()
    before = ports(host)
    assert before[host.uuid_of("1-2")] == "0:1", "though the other one comes first by its name"
    host.stop("anna")
    host.restart_agent()
    host.binder.run()
    host.start("anna")
    host.settle()
    assert ports(host) == before


def test_a_port_that_is_taken_is_left_to_libvirt_and_told(host: FakeHost, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    host.plug("1-1", serial="S1")
    provider = host.hold("1-1", "anna")
    host.start("anna")
    host.refused_ports.add(GuestPort(0, "1"))
    host.binder.run()
    host.binder.run()
    assert host.has("anna") == {"1-1"}
    (said,) = lines(caplog, logging.WARNING)
    assert said.startswith("Guest anna has ")
    assert "at a USB port that libvirt chose, since port 0:1 is taken or does not exist" in said
    assert host.load().ports == {(a_uuid("anna"), provider): GuestPort(0, "2")}
