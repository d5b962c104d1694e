"""Which key each device has: the name by which it is known through replugs, reboots and renumbering of the buses.

Keys are computed from what is plugged in, what is held, and where each held device was last seen. A held device is
followed by its place; where something else is in that place, it is kept from all consumers. The rules and their
reasons: docs/identity.md.
"""

import enum
import itertools
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from usb_provider.model.devices.device import UsbDevice
from usb_provider.model.devices.followed import Followed
from usb_provider.model.devices.held import NOT_HELD, Held, Sighting
from usb_provider.model.devices.keys import (
    JUNK,
    JunkSerials,
    former_keys,
    former_serial_keys,
    is_port_key,
    longer_keys,
    port_key,
    serial_problem,
)
from usb_provider.model.devices.plugged import Demand, Plugged
from usb_provider.model.devices.spec import IdentityMode


class IdentityKind(enum.StrEnum):
    """What a key is made of."""

    SERIAL = "serial"
    PORT = "port"


@dataclass(frozen=True, slots=True)
class Identity:
    """A device's *key* and *kind*.

    *problem* says why the key is not of the kind that its rule demands. *withheld* says why no consumer may get the
    device, since it may be the one that a consumer holds under another key, *withheld_for*.
    """

    key: str
    kind: IdentityKind
    problem: str | None = None
    withheld: str | None = None
    withheld_for: str | None = None


def assign(
    devices: Sequence[UsbDevice],
    *,
    demands: Mapping[str, Demand] | None = None,
    junk: JunkSerials = JUNK,
    held: Callable[[str], Held] = lambda key: NOT_HELD,
    claimed: Collection[str] = (),
    seen: Mapping[str, Sighting] = MappingProxyType({}),
) -> dict[str, Identity]:
    """Every device's identity, by its ``sys_name``; no two have the same key.

    A device that a consumer holds keeps its key until the consumer releases it, even if other devices are plugged in
    or the rules change.

    :param demands: what the rule that takes a device says; nothing when it is not there.
    :param held: whether a key is held now, and what was seen under it.
    :param claimed: the keys that are held and under which a device was seen.
    :param seen: what was last seen under each key, held or not.
    """
    plugged = Plugged(devices, demands or {}, junk, held, seen)
    followed = Followed(plugged, claimed)
    followed.follow()
    rest = _Rest(plugged)
    rest.keep_unseen()
    withheld = dict(followed.withheld())
    problems = rest.name()
    identities = {}
    for device in plugged.devices:
        name = device.sys_name
        key = plugged.keys[name]
        claim = withheld.get(name)
        identities[name] = Identity(
            key,
            IdentityKind.PORT if is_port_key(key) else IdentityKind.SERIAL,
            problems.get(name),
            None if claim is None else followed.why_withheld(device, claim),
            claim,
        )
    return identities


class _Rest:
    """The devices of which no held key decides where they were seen: those whose sighting was lost, and free ones."""

    def __init__(self, plugged: Plugged) -> None:
        self._plugged = plugged

    def _is_unseen(self, key: str) -> bool:
        """Whether *key* is held, and no device was seen under it."""
        held = self._plugged.held(key)
        return held.allocated and held.seen is None and key not in self._plugged.keys.values()

    def _is_free(self, key: str) -> bool:
        return not self._plugged.held(key).allocated and key not in self._plugged.keys.values()

    def keep_unseen(self) -> None:
        """Decide which device each held key is about that no device was seen under: Placement alone tells."""
        groups: defaultdict[str, list[UsbDevice]] = defaultdict(list)
        for device in self._plugged.undecided():
            usb_id = self._plugged.usb_id(device)
            for key in (*longer_keys(device, usb_id)[:2], port_key(device, usb_id), *former_keys(device)):
                groups[key].append(device)
        # A longer key is about one device; a plain one may be about the USB 2 or the USB 3 device of that number.
        for key in sorted(groups, key=lambda key: ("+" not in key.rpartition("-")[2], key)):
            if self._is_unseen(key):
                left = [
                    each
                    for each in groups[key]
                    if each.sys_name not in self._plugged.keys and self._may_have_had(key, each)
                ]
                best = min(
                    left,
                    key=lambda each: (
                        self._goes_by_serial(each),
                        "usbfs" not in each.drivers,
                        each.is_usb3,
                        each.order,
                    ),
                    default=None,
                )
                if best is not None:
                    self._plugged.keys[best.sys_name] = key
        for key, group in self._by_serial(self._plugged.undecided()).items():
            if self._is_unseen(key):
                self._plugged.settle(key, [each for each in group if not self._plugged.had_port_key(each)])

    def _may_have_had(self, key: str, device: UsbDevice) -> bool:
        """Whether *device* may be what a held *key* of its port is about, as far as Placement tells."""
        if any(
            self._plugged.was_known_by(longer, device)
            for longer in longer_keys(device, self._plugged.usb_id(device))
            if longer != key
        ):
            return False
        return self._plugged.held(key).present or not self._plugged.has_usable_serial(device)

    def _goes_by_serial(self, device: UsbDevice) -> bool:
        """Whether its key has its serial number: the number identifies it, and its provider or its rule allows that."""
        if not self._plugged.has_usable_serial(device):
            return False
        key = self._plugged.serial_key(device)
        return len(self._alike(device)) == 1 and (
            self._plugged.held(key).present or not self._plugged.demand(device).by_port
        )

    def _by_serial(self, devices: Iterator[UsbDevice]) -> dict[str, list[UsbDevice]]:
        groups: defaultdict[str, list[UsbDevice]] = defaultdict(list)
        for device in devices:
            if self._plugged.has_usable_serial(device):
                groups[self._plugged.serial_key(device)].append(device)
                continue
            for key in former_serial_keys(device, self._plugged.usb_id(device)):
                # Its number counted under other rules or an earlier release. Another device that was plugged in since
                # the provider was marked absent may have the same number, as all of its kind have.
                if self._plugged.held(key).present:
                    groups[key].append(device)
        return groups

    def _alike(self, device: UsbDevice) -> list[UsbDevice]:
        """The devices with its ids and serial number, itself among them."""
        return [
            each
            for each in self._plugged.devices
            if each.serial == device.serial and self._plugged.serial_key(each) == self._plugged.serial_key(device)
        ]

    def name(self) -> dict[str, str]:
        """Give the devices that no consumer holds their keys; gives why some do not have what their rule demands."""
        problems: dict[str, str] = {}
        by_port: list[UsbDevice] = []
        for device in list(self._plugged.undecided()):
            why = serial_problem(device.serial, device.usb_id, self._plugged.junk)
            alike = self._alike(device)
            key = self._plugged.serial_key(device)
            if why is None and len(alike) > 1:
                why = f"{len(alike)} devices on this host have its serial number"
            if why is None and not self._plugged.demand(device).by_port and self._is_free(key):
                self._plugged.keys[device.sys_name] = key
                continue
            by_port.append(device)
            if why is not None and self._plugged.demand(device).mode is IdentityMode.SERIAL:
                problems[device.sys_name] = f"its rule demands identity by serial, but {why}"
        for device in sorted(by_port, key=_usb_2_first):
            usb_id = self._plugged.usb_id(device)
            longer = longer_keys(device, usb_id)
            keys = (port_key(device, usb_id), *longer) if self._is_first_of_its_number(device) else longer
            # All of them may be held only where Placement has claims that never came about on this host.
            more = (longer[-1] + ".other" * number for number in itertools.count(1))
            self._plugged.keys[device.sys_name] = next(key for key in itertools.chain(keys, more) if self._is_free(key))
        return problems

    def _is_first_of_its_number(self, device: UsbDevice) -> bool:
        """Whether it may have the plain key, of two ports of one number that sysfs does not tell apart."""
        plain = port_key(device, self._plugged.usb_id(device))
        return not any(
            _usb_2_first(each) < _usb_2_first(device)
            and port_key(each, self._plugged.usb_id(each)) == plain
            and self._plugged.keys.get(each.sys_name) not in longer_keys(each, self._plugged.usb_id(each))
            for each in self._plugged.devices
        )


def _usb_2_first(device: UsbDevice) -> tuple[bool, str]:
    return device.is_usb3, device.sys_name
