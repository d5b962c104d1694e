"""Why a start is refused: what the operator reads, and what Nova shows to the owner of the server."""

import pytest

from tests.fixtures.builders import KEY, ROOT, a_consumer, a_device, a_spec, a_tree, an_observed
from tests.fixtures.domain_xml import a_domain_xml
from usb_provider.model.binding.holding import holdings
from usb_provider.model.binding.hostdev import parse_guest
from usb_provider.model.binding.refusals import start_refusals
from usb_provider.model.devices.device import HostUse, Speed, UseKind
from usb_provider.model.reporting.host_state import HostView
from usb_provider.model.reporting.provider import assess


def told(xml: str, speed: Speed = Speed.FULL) -> str:
    """Why the guest of *xml* may not start with a device of *speed*."""
    view = HostView(a_tree(an_observed(held=[KEY])), assess([a_device(serial="1", speed=speed)], [a_spec()], root=ROOT))
    (why,) = start_refusals(parse_guest(xml), holdings(view), ())
    return why.text


@pytest.mark.parametrize(
    ("nova", "architecture", "sentence"),
    [
        (
            "34.0.0",
            "x86_64",
            "; set hw:usb_model=qemu-xhci in the flavor and, where VNC or another console is on, hw_in",
        ),
        (
            "31.0.1-1",
            "x86_64",
            "; with Nova 31, create the server with a config drive, from an image with hw_input_bus",
        ),
        ("29.2.0", "aarch64", "; with Nova 29, turn VNC on in nova.conf and remove hw_input_bus from the image."),
        (None, "x86_64", "; set hw:usb_model=qemu-xhci in the flavor (nova 32 or newer)"),
    ],
)
def test_a_guest_without_a_controller_is_told_what_its_nova_can_give(
    nova: str | None, architecture: str, sentence: str
) -> None:
    xml = a_domain_xml(uuid=a_consumer(), usb_model="none", nova=nova, architecture=architecture)
    assert sentence in told(xml)


def test_a_fast_device_on_an_older_nova_is_told_that_none_of_its_controllers_takes_it() -> None:
    xml = a_domain_xml(uuid=a_consumer(), usb_model="piix3-uhci", nova="31.3.1")
    assert told(xml, Speed.HIGH).endswith(
        "is a high-speed device, too fast for the instance's USB controller (piix3-uhci); Nova 31 gives a guest no "
        "faster one, so use Nova 32 (2025.2) or newer, a low- or full-speed device or, for a USB 3 device, a USB 2 "
        "port of the host."
    )


def test_a_high_speed_device_that_works_at_full_speed_may_start_on_an_older_nova() -> None:
    device = a_device(serial="1", speed=Speed.HIGH, full_speed_compatible=True)
    view = HostView(a_tree(an_observed(held=[KEY])), assess([device], [a_spec()], root=ROOT))
    xml = a_domain_xml(uuid=a_consumer(), usb_model="piix3-uhci", nova="31.3.1")
    assert start_refusals(parse_guest(xml), holdings(view), ()) == ()


def test_a_guest_of_an_older_nova_without_a_free_port_is_told_that_it_can_have_one_device() -> None:
    inputs = [
        f"<input type='{kind}' bus='usb'><address type='usb' bus='0' port='{port}'/></input>"
        for port, kind in ((1, "tablet"), (2, "keyboard"))
    ]
    xml = a_domain_xml(uuid=a_consumer(), usb_model="piix3-uhci", nova="31.3.1", devices=inputs)
    assert told(xml).endswith(
        "; with Nova 31 an instance can have one device: ask for one, and create the server with a config drive, from "
        "an image with hw_input_bus=virtio and hw_cdrom_bus=usb."
    )


def test_the_use_that_the_host_makes_of_a_device_is_for_the_operator_alone() -> None:
    device = a_device(serial="1", uses=(HostUse(UseKind.MOUNTED, "sdb1 is mounted on /srv/secret"),))
    view = HostView(a_tree(an_observed(held=[KEY])), assess([device], [a_spec()], root=ROOT))
    (why,) = start_refusals(parse_guest(a_domain_xml(uuid=a_consumer())), holdings(view), ())
    assert why.text.endswith("sdb1 is mounted on /srv/secret.")
    assert why.told is not None
    assert why.told.endswith("is allocated to this instance, but this host does not offer it now.")
