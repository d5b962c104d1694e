"""Which USB controller Nova gives a guest, by its release and the guest's architecture, and what to set. Pure.

One table. By it speak the refusal of a start, "usb-provider doctor", "openstack usb flavor check" and docs/flavors.md.

Sources: nova/virt/libvirt/driver.py of Nova 27 to 34 (_guest_needs_usb, _guest_add_usb_root_controller,
_guest_add_keyboard_device) for when there is a controller and what is on it; libvirt for the model that it chooses
where Nova names none. A guest without a console has no input devices.

Where the image has no hw_input_bus, Nova first gives the guest a USB tablet alone. Then it notes hw_input_bus=usb for
the server (_register_undefined_instance_details), and from the next hard reboot on the guest has a USB keyboard too.
"""

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass

from usb_provider.model.devices.device import Speed

USB_MODEL_SINCE = 32
"""The first Nova (2025.2) that reads hw:usb_model, and that writes a flavor's extra specs into a guest's XML."""

REDIRECTED_PORTS = "hw:redirected_usb_ports"
"""An extra spec of Nova 32 and newer: so many of the guest's USB ports are for devices of the user's own computer.

Nova: hardware.get_redirected_usb_ports, driver._add_redirected_usb_ports.
"""

SINCE_USB_MODEL = "COMPUTE_SOUND_MODEL_USB"
"""A trait that nova-compute with libvirt gives its compute node from that release on, and not before."""

_OF_31_AND_32 = (2, 100)
_AARCH64 = "aarch64"


class Inputs(enum.Enum):
    """What of console and image decides which input devices a guest has."""

    NONE = "no console"
    CONSOLE = "a console"
    ON_USB = "a console, and `hw_input_bus=usb` on the image"
    VIRTIO = "a console, and `hw_input_bus=virtio` on the image"
    DRIVE = "a config drive, and `hw_input_bus=virtio` and `hw_cdrom_bus=usb` on the image"


@dataclass(frozen=True, slots=True)
class Platform:
    """Where a guest is: Nova's release, such as 31, and the architecture in libvirt's word; None where not known."""

    release: int | None = None
    architecture: str | None = None

    @property
    def is_old(self) -> bool:
        """Whether Nova is known to ignore hw:usb_model."""
        return self.release is not None and self.release < USB_MODEL_SINCE

    @property
    def is_aarch64(self) -> bool:
        """Whether the guest is known to be of aarch64; all others count as x86_64."""
        return self.architecture == _AARCH64

    def __str__(self) -> str:
        return f"Nova {self.release}" if self.release is not None else "this Nova"


@dataclass(frozen=True, slots=True)
class Controller:
    """A model of controller, in libvirt's word, and the fastest device that it takes."""

    model: str
    fastest: Speed


UHCI = Controller("piix3-uhci", Speed.FULL)
XHCI = Controller("qemu-xhci", Speed.SUPER_PLUS)


@dataclass(frozen=True, slots=True)
class Given:
    """What a guest gets in one case: a controller or none, and its ports that are left for devices.

    ``hw_usb_model``: whether the flavor has ``hw:usb_model=qemu-xhci``; None where that makes no difference.
    ``lasts``: whether the ports are free after a hard reboot too.
    """

    old: bool
    aarch64: bool
    inputs: Inputs
    hw_usb_model: bool | None
    controller: Controller | None = None
    free: int = 0
    lasts: bool = True


TABLE: tuple[Given, ...] = (
    # Below 32, only what needs USB brings a controller, and libvirt chooses its model.
    Given(True, False, Inputs.NONE, None),
    Given(True, False, Inputs.CONSOLE, None, UHCI, 1, lasts=False),
    Given(True, False, Inputs.ON_USB, None, UHCI, 0),
    Given(True, False, Inputs.VIRTIO, None),
    Given(True, False, Inputs.DRIVE, None, UHCI, 1),
    Given(True, True, Inputs.NONE, None),
    Given(True, True, Inputs.CONSOLE, None, XHCI, 2),
    Given(True, True, Inputs.ON_USB, None, XHCI, 2),
    Given(True, True, Inputs.VIRTIO, None),
    Given(False, False, Inputs.NONE, False),
    Given(False, False, Inputs.NONE, True, XHCI, 4),
    Given(False, False, Inputs.CONSOLE, None, UHCI, 1, lasts=False),
    Given(False, False, Inputs.ON_USB, None, UHCI, 0),
    Given(False, False, Inputs.VIRTIO, False),
    Given(False, False, Inputs.VIRTIO, True, XHCI, 4),
    Given(False, False, Inputs.DRIVE, None, UHCI, 1),
    Given(False, True, Inputs.NONE, False),
    Given(False, True, Inputs.NONE, True, XHCI, 4),
    Given(False, True, Inputs.CONSOLE, None, XHCI, 2),
    Given(False, True, Inputs.ON_USB, None, XHCI, 2),
    Given(False, True, Inputs.VIRTIO, False),
    Given(False, True, Inputs.VIRTIO, True, XHCI, 4),
)
"""Every case; docs/flavors.md has it in words."""


_FOR_ONE = "create the server with a config drive, from an image with hw_input_bus=virtio and hw_cdrom_bus=usb"


def best(platform: Platform) -> Given:
    """What a guest on *platform* gets where everything is set as it should be."""
    cases = (each for each in TABLE if (each.old, each.aarch64) == (platform.is_old, platform.is_aarch64))
    return max(cases, key=lambda each: (each.controller is XHCI, each.lasts, each.free))


def most_devices(*, is_old: bool | None = None, aarch64: bool | None = None, redirected: int = 0) -> int:
    """How many devices a guest can have where everything is set as it should be; None stands for either case.

    :param redirected: the guest's redirected USB ports (:data:`REDIRECTED_PORTS`), each of which takes one of a
        controller's. For more of them than a controller has ports, libvirt adds a hub, which Nova does not say and
        which takes no fast device (qemuDomainUSBAddressAddHubs in src/qemu/qemu_domain_address.c): the agent uses no
        port of it.
    """
    free = max(each.free for each in TABLE if is_old in (None, each.old) and aarch64 in (None, each.aarch64))
    return max(0, free - (0 if is_old else redirected))


def redirected_ports(value: str | None) -> int:
    """The number in an extra spec or an image property about them; 0 where Nova would take none or refuse it."""
    return int(value) if value is not None and re.fullmatch("[0-9]{1,2}", value) else 0


def remedy(platform: Platform) -> str:
    """What to set so that a guest gets the best controller that it can have; an imperative without its full stop."""
    if not platform.is_old:
        since = f" (nova {USB_MODEL_SINCE} or newer)" if platform.release is None else ""
        return (
            f"set hw:usb_model=qemu-xhci in the flavor{since} and, where VNC or another console is on, "
            "hw_input_bus=virtio in the image"
        )
    if platform.is_aarch64:
        return f"with {platform}, turn VNC on in nova.conf and remove hw_input_bus from the image"
    return f"with {platform}, {_FOR_ONE}: then the instance can have one device, at full speed"


def remedy_for_speed(platform: Platform) -> str:
    """What to do about a device that is too fast for the guest's controller."""
    if platform.is_old and not platform.is_aarch64:
        return (
            f"{platform} gives a guest no faster one, so use Nova {USB_MODEL_SINCE} (2025.2) or newer, a low- or "
            "full-speed device or, for a USB 3 device, a USB 2 port of the host"
        )
    return remedy(platform)


def remedy_for_ports(platform: Platform) -> str:
    """What to do where no port of the guest's controller is free."""
    if not platform.is_old:
        return f"{remedy(platform)}, ask for fewer devices, or lower {REDIRECTED_PORTS}"
    if platform.is_aarch64:
        return f"with {platform} an instance can have {best(platform).free} devices, so ask for no more"
    return f"with {platform} an instance can have one device: ask for one, and {_FOR_ONE}"


def release_of(package_version: str) -> int | None:
    """Nova's release in the version that Nova writes into a guest's XML, such as "31.0.1-1~cloud0"."""
    match = re.match(r"(?:\d+:)?(\d{2,3})\.", package_version)
    return int(match[1]) if match else None


def is_old_by_api(newest: tuple[float, ...]) -> bool | None:
    """Whether the Nova whose API has *newest* as its newest microversion ignores hw:usb_model.

    None where Nova 31 and 32 have the same, 2.100: then the trait :data:`SINCE_USB_MODEL` decides.
    """
    return None if newest == _OF_31_AND_32 else newest < _OF_31_AND_32


def in_words() -> Iterator[tuple[str, ...]]:
    """The table for docs/flavors.md, its heading first."""
    yield ("Nova", "guest", "it has", "`hw:usb_model=qemu-xhci` in the flavor", "what the guest gets")
    for each in TABLE:
        yield (
            f"below {USB_MODEL_SINCE}" if each.old else f"{USB_MODEL_SINCE} or newer",
            _AARCH64 if each.aarch64 else "x86_64",
            each.inputs.value,
            {None: "ignored", False: "no", True: "yes"}[each.hw_usb_model],
            _gets(each),
        )


def _gets(given: Given) -> str:
    if given.controller is None:
        return "no USB controller: the start is refused"
    model = given.controller.model
    if given.free == 0:
        return f"{model}, no free port: the start is refused"
    speed = "full speed at most" if given.controller.fastest is Speed.FULL else "every speed"
    ports = f"{given.free} free port{'' if given.free == 1 else 's'}"
    end = "" if given.lasts else "; from the first hard reboot on none, since Nova adds a USB keyboard"
    return f"{model}, {ports}, {speed}{end}"
