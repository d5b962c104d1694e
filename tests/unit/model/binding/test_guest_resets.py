"""A rule's guest_reset that libvirt does not carry out is told."""

import dataclasses

from tests.fixtures.builders import ROOT, a_device, a_spec
from usb_provider.model.binding.guest_resets import reset_notes
from usb_provider.model.binding.guests import RunningGuest
from usb_provider.model.binding.hostdev import Guest, Hostdev, alias
from usb_provider.model.binding.unit_holding import Holding
from usb_provider.model.devices.spec import GuestReset
from usb_provider.model.reporting.provider import assess

PROVIDER = "0a6a5c51-5b3c-4d0e-8a66-1d1f4f1d4b77"
HOSTDEV = Hostdev(alias(PROVIDER), "1050", "0407", 1, 3)


def said(hostdev: Hostdev, guest_reset: GuestReset | None) -> list[str]:
    (found,) = assess([a_device(serial="1")], [a_spec(guest_reset=guest_reset)], root=ROOT)
    holding = Holding(PROVIDER, "host1_usb_1", frozenset({"anna"}), found)
    return [each.text for each in reset_notes([RunningGuest(Guest("anna", "vm", (hostdev,)))], [holding])]


def test_an_older_libvirt_that_leaves_guest_reset_out_is_told() -> None:
    assert said(HOSTDEV, GuestReset.OFF) == [
        "host1_usb_1 is attached to guest vm without guest_reset off of its rule: libvirt has that since 8.6, and a "
        "device that was attached before the rule changed gets it when it is attached again."
    ]


def test_nothing_is_told_where_libvirt_has_it_or_no_rule_asks_for_it() -> None:
    assert said(dataclasses.replace(HOSTDEV, guest_reset="off"), GuestReset.OFF) == []
    assert said(HOSTDEV, None) == []
