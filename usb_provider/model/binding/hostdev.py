"""libvirt's domain XML as values: which USB devices a guest has, what its USB ports can take, and what it asks for.

Pure text to value and back (https://libvirt.org/formatdomain.html). decision.py decides
whether a device should be attached; virt/domain.py talks to libvirt.
"""

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from usb_provider.model.devices.device import Speed, UsbDevice
from usb_provider.model.guest_controllers import Platform, release_of
from usb_provider.model.text import printable

ALIAS_PREFIX = "ua-usb-"
"""libvirt keeps aliases that start with "ua-" as they are; the rest of ours is the provider's UUID, and of a pool the
member."""

_UUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_OURS = re.compile(rf"{ALIAS_PREFIX}(({_UUID.pattern})(?:-[0-9a-f]{{16}})?)\Z")
NOVA_NAMESPACE = re.compile(r"\{http://openstack\.org/xmlns/libvirt/nova/[^}]*\}")
_ASKS_FOR = re.compile(r"resources[a-zA-Z0-9_-]{0,64}:(CUSTOM_[A-Z0-9_]+)\Z")
_PATH = re.compile(r"[1-9][0-9]{0,2}(?:\.[1-9][0-9]{0,2}){0,6}")
_PORT = re.compile(rf"[0-9]{{1,3}}:{_PATH.pattern}")
_OWN_CLASSES = "CUSTOM_USB_"

_MODEL_SPEED = {"uhci": Speed.FULL, "ohci": Speed.FULL, "ehci": Speed.HIGH, "xhci": Speed.SUPER_PLUS}
_MODEL_PORTS = {"uhci": 2, "ohci": 3, "ehci": 6, "xhci": 4}
_RANK = {Speed.LOW: 0, Speed.FULL: 1, Speed.HIGH: 2, Speed.SUPER: 3, Speed.SUPER_PLUS: 4}


class UnreadableDomain(ValueError):
    """The text is not a libvirt domain; the caller should refuse what depends on it."""


@dataclass(frozen=True, slots=True)
class GuestPort:
    """A USB port of a guest: the index of its controller, and the port's number there, from 1, behind hubs "1.2"."""

    bus: int
    path: str

    def __str__(self) -> str:
        return f"{self.bus}:{self.path}"

    @property
    def order(self) -> tuple[int, ...]:
        """To sort by: port 9 comes before port 10."""
        return (self.bus, *map(int, self.path.split(".")))

    @classmethod
    def parse(cls, text: str) -> "GuestPort":
        """From what ``str`` gives. :raises ValueError: when it is something else."""
        if not _PORT.fullmatch(text):
            raise ValueError(f"{text!r} is no port of a guest")
        bus, _, path = text.partition(":")
        return cls(int(bus), path)


@dataclass(frozen=True, slots=True)
class Hostdev:
    """One USB hostdev of a domain; what its XML leaves out is None. ``missing``: libvirt has no device behind it.

    ``controller`` is the index of the guest's USB controller that has it on a port of its own. ``guest_reset`` is what
    happens when the guest resets the device.
    """

    alias: str | None
    vendor_id: str | None
    product_id: str | None
    bus: int | None
    device: int | None
    missing: bool = False
    controller: int | None = None
    guest_port: GuestPort | None = None
    guest_reset: str | None = None

    @property
    def provider_uuid(self) -> str | None:
        """The provider that it was attached for, or None when it is not ours; it is where a UUID follows."""
        match = _OURS.match(self.alias or "")
        return match[2] if match else None

    @property
    def unit(self) -> str | None:
        """The unit of the provider that it was attached for: the provider's UUID, and of a pool the member."""
        match = _OURS.match(self.alias or "")
        return match[1] if match else None

    def is_at(self, device: UsbDevice) -> bool:
        """Whether it has the address that *device* has now and, if it names ids, the same ids."""
        return (
            not self.missing
            and (self.bus, self.device) == (device.busnum, device.devnum)
            and self.vendor_id in (None, device.vendor_id)
            and self.product_id in (None, device.product_id)
        )


@dataclass(frozen=True, slots=True)
class UsbController:
    """One USB controller of a guest: how fast a device it takes, and how many of its ports are free.

    A hostdev of ours counts as taking no port (:meth:`Guest.with_ports_taken_by`). ``taken`` are the numbers of the
    ports that other devices have.
    """

    model: str
    fastest: Speed
    free_ports: int
    index: int = 0
    ports: int = 0
    taken: frozenset[int] = frozenset()

    @property
    def usable_ports(self) -> tuple[GuestPort, ...]:
        """The ports on which no device but ours is."""
        return tuple(GuestPort(self.index, str(n)) for n in range(1, self.ports + 1) if n not in self.taken)

    def takes(self, speed: Speed) -> bool:
        """Whether a device of *speed* works on it; a device of unknown speed counts as the slowest."""
        return _RANK.get(speed, 0) <= _RANK[self.fastest]


@dataclass(frozen=True, slots=True)
class Guest:
    """What the agent needs of a domain's XML.

    ``controllers`` is empty when the guest has no USB bus. ``asks_for`` are the classes of USB devices in the flavor's
    extra specs, which nova writes into the metadata since version 32. ``platform`` is for advice only.
    ``gets_keyboard``: Nova gives it a USB keyboard at its next hard reboot (guest_controllers.py).
    """

    uuid: str
    name: str
    hostdevs: tuple[Hostdev, ...] = ()
    controllers: tuple[UsbController, ...] = ()
    asks_for: frozenset[str] = frozenset()
    platform: Platform = field(default_factory=Platform)
    gets_keyboard: bool = False

    @property
    def ours(self) -> tuple[Hostdev, ...]:
        """The hostdevs that carry our alias."""
        return tuple(hostdev for hostdev in self.hostdevs if hostdev.provider_uuid is not None)

    def after_hard_reboot(self) -> "Guest":
        """This guest as Nova defines it the next time: a USB keyboard may take a port."""
        if not self.gets_keyboard or not self.controllers:
            return self
        first, *others = self.controllers
        return replace(
            self, controllers=(replace(first, free_ports=first.free_ports - 1), *others), gets_keyboard=False
        )

    def with_ports_taken_by(self, hostdevs: Iterable[Hostdev]) -> "Guest":
        """This guest where *hostdevs*, some of ours, keep the ports that they have."""
        taken = Counter(hostdev.controller for hostdev in hostdevs)
        controllers = (replace(each, free_ports=each.free_ports - taken[each.index]) for each in self.controllers)
        return replace(self, controllers=tuple(controllers))


def alias(unit: str) -> str:
    """The alias of the hostdev for *unit*, a provider's UUID or one with a member of a pool."""
    return f"{ALIAS_PREFIX}{unit}"


def hostdev_xml(unit: str, device: UsbDevice, *, port: GuestPort | None = None, guest_reset: str | None = None) -> str:
    """The element that attaches exactly *device*: vendor, product, bus and device, of which all must fit.

    *port* is where the guest sees it; libvirt chooses one where it is None. libvirt before 8.6 ignores *guest_reset*.
    The numbers are plain decimals: libvirt reads ``device='010'`` as octal 8.

    :raises ValueError: when the device has no address; it is not plugged in.
    """
    if device.busnum is None or device.devnum is None:
        raise ValueError(f"{device.sys_name} has no bus and device number")
    element = ET.Element("hostdev", mode="subsystem", type="usb")
    source = ET.SubElement(element, "source", startupPolicy="mandatory")
    ET.SubElement(source, "vendor", id=f"0x{device.vendor_id}")
    ET.SubElement(source, "product", id=f"0x{device.product_id}")
    ET.SubElement(source, "address", bus=str(device.busnum), device=str(device.devnum))
    if guest_reset is not None:
        source.set("guestReset", guest_reset)
    ET.SubElement(element, "alias", name=alias(unit))
    if port is not None:
        ET.SubElement(element, "address", type="usb", bus=str(port.bus), port=port.path)
    return ET.tostring(element, encoding="unicode")


def parse_guest(text: str, classes: Collection[str] = ()) -> Guest:
    """The guest in a domain's XML, as libvirt's ``dumpxml`` and its hooks give it.

    :param classes: of USB devices, besides CUSTOM_USB_*: those that rules give.
    :raises UnreadableDomain: when *text* is not a domain with a UUID and a name.
    """
    root = _parse(text)
    name, uuid = root.findtext("name"), (root.findtext("uuid") or "").strip().lower()
    if root.tag != "domain" or not name or not _UUID.fullmatch(uuid):
        raise UnreadableDomain("the XML is not of a domain with a name and a UUID")
    devices = root.find("devices")
    usb = [] if devices is None else devices.findall("hostdev")
    hostdevs = tuple(_hostdev(element) for element in usb if element.get("type") == "usb")
    return Guest(
        uuid=uuid,
        name=printable(name, 200),
        hostdevs=hostdevs,
        controllers=() if devices is None else _controllers(devices),
        asks_for=_asks_for(root, classes),
        platform=(platform := _platform(root)),
        gets_keyboard=devices is not None and _gets_keyboard(devices, platform),
    )


def _parse(text: str) -> ET.Element:
    try:
        return ET.fromstring(text)
    except (ET.ParseError, ValueError) as error:  # ValueError: for half of a surrogate pair
        raise UnreadableDomain(f"the XML cannot be read ({error})") from error


def _hostdev(element: ET.Element) -> Hostdev:
    source = element.find("source")
    where = None if source is None else source.find("address")
    name = element.find("alias")
    return Hostdev(
        alias=None if name is None else name.get("name"),
        vendor_id=_usb_id(source, "vendor"),
        product_id=_usb_id(source, "product"),
        bus=_number(where, "bus"),
        device=_number(where, "device"),
        missing=source is not None and source.get("missing") == "yes",
        controller=_controller_of(element),
        guest_port=_guest_port(element),
        guest_reset=None if source is None else source.get("guestReset"),
    )


def _usb_id(source: ET.Element | None, tag: str) -> str | None:
    element = None if source is None else source.find(tag)
    value = "" if element is None else element.get("id", "")
    return f"{int(value, 16):04x}" if re.fullmatch(r"0x[0-9a-fA-F]{1,4}", value) else None


def _number(element: ET.Element | None, name: str) -> int | None:
    value = "" if element is None else element.get(name, "")
    # Python refuses to read thousands of digits, and libvirt has no such number.
    return int(value, 10) if re.fullmatch("[0-9]{1,9}", value) else None


def _controller_of(element: ET.Element) -> int | None:
    """The index of the guest's USB controller of which a device takes a port; None where it takes none."""
    address = element.find("address")
    # A port of a guest's hub ("1.2") does not take one of the controller's own.
    if address is None or address.get("type") != "usb" or "." in address.get("port", ""):
        return None
    return _number(address, "bus") or 0


def _guest_port(element: ET.Element) -> GuestPort | None:
    address = element.find("address")
    if address is None or address.get("type") != "usb":
        return None
    try:
        return GuestPort.parse(f"{address.get('bus', '0')}:{address.get('port', '')}")
    except ValueError:
        return None


def _controllers(devices: ET.Element) -> tuple[UsbController, ...]:
    """The USB controllers; a companion controller counts as part of the one whose index it shares.

    A hostdev of ours takes no port: when a guest starts or arrives, the agent detaches the hostdevs that came with it
    from a save file or another host before it attaches any device.
    """
    others = [
        element
        for element in devices
        if element.tag != "controller"
        and not (element.tag == "hostdev" and _hostdev(element).provider_uuid is not None)
    ]
    used = Counter(map(_controller_of, others))
    # A hub's number counts as well where a device behind it is all that is seen of it.
    seen = {port for element in others if (port := _guest_port(element)) is not None}
    found: dict[int, UsbController] = {}
    for element in devices.findall("controller"):
        model = element.get("model", "")
        if element.get("type") != "usb" or model == "none":
            continue
        index = _number(element, "index") or 0
        kind = next((name for name in _MODEL_SPEED if name in model), "uhci")
        ports = _number(element, "ports") or _MODEL_PORTS[kind]
        known = found.get(index)
        if known is None or _RANK[_MODEL_SPEED[kind]] > _RANK[known.fastest]:
            taken = frozenset(int(each.path.partition(".")[0]) for each in seen if each.bus == index)
            found[index] = UsbController(
                model or "piix3-uhci", _MODEL_SPEED[kind], ports - used[index], index, ports, taken
            )
    return tuple(found[index] for index in sorted(found))


def _gets_keyboard(devices: ET.Element, platform: Platform) -> bool:
    """Whether it is a guest of Nova that has a USB tablet and, so far, no USB keyboard; on aarch64 it has both."""
    on_usb = {each.get("type") for each in devices.findall("input") if each.get("bus") == "usb"}
    return platform.release is not None and "tablet" in on_usb and "keyboard" not in on_usb


def _metadata(root: ET.Element) -> Iterable[ET.Element]:
    return () if (found := root.find("metadata")) is None else found.iter()


def _platform(root: ET.Element) -> Platform:
    """Nova's release, from what it says of itself in the metadata, and the guest's architecture."""
    packages = (each for each in _metadata(root) if NOVA_NAMESPACE.sub("", each.tag) == "package")
    package, kind = next(packages, None), root.find("os/type")
    return Platform(
        None if package is None else release_of(package.get("version", "")),
        None if kind is None else kind.get("arch"),
    )


def _asks_for(root: ET.Element, classes: Collection[str]) -> frozenset[str]:
    names = set()
    for element in _metadata(root):
        if NOVA_NAMESPACE.sub("", element.tag) == "extraSpec":
            match = _ASKS_FOR.match(element.get("name", ""))
            is_usb = match is not None and (match[1].startswith(_OWN_CLASSES) or match[1] in classes)
            if match and is_usb and (element.text or "").strip().strip("0"):
                names.add(match[1])
    return frozenset(names)
