"""The devices of one look, what is known of each, and the keys that are decided so far. Pure.

followed.py and identity.py decide, and enter what they have decided here.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from usb_provider.model.devices.device import UsbDevice
from usb_provider.model.devices.held import Held, Sighting
from usb_provider.model.devices.keys import JunkSerials, longer_keys, port_key, serial_key, serial_problem
from usb_provider.model.devices.spec import IdentityMode


@dataclass(frozen=True, slots=True)
class Demand:
    """What the rule of a device says about its identity.

    *usb_ids* are all that the device may have, in its different modes, the one in its key first; without any, it has
    the ids that it shows.
    """

    mode: IdentityMode = IdentityMode.AUTO
    usb_ids: tuple[str, ...] = ()

    @property
    def by_port(self) -> bool:
        """Whether the port tells the device apart: what it shows in another mode need not be the same serial number."""
        return self.mode is IdentityMode.PORT or (self.mode is IdentityMode.AUTO and len(self.usb_ids) > 1)


NO_DEMAND = Demand()


class Plugged:
    """What is plugged in; the other parameters as for :func:`usb_provider.model.devices.identity.assign`.

    :ivar keys: the keys of those devices that are decided, by ``sys_name``.
    """

    def __init__(
        self,
        devices: Sequence[UsbDevice],
        demands: Mapping[str, Demand],
        junk: JunkSerials,
        held: Callable[[str], Held],
        seen: Mapping[str, Sighting],
    ) -> None:
        self.devices = sorted(devices, key=lambda device: (device.sys_path, device.sys_name))
        self.junk = junk
        self.held = held
        self.seen = seen
        self.keys: dict[str, str] = {}
        self._demands = demands

    def undecided(self) -> Iterator[UsbDevice]:
        """The devices without a key, as they are when the next one is asked for."""
        return (each for each in self.devices if each.sys_name not in self.keys)

    def settle(self, key: str, candidates: Iterable[UsbDevice]) -> None:
        """Give *key* to one of *candidates*, if there are any. A device that QEMU has open belongs to a guest."""
        best = min(candidates, key=lambda each: ("usbfs" not in each.drivers, each.order), default=None)
        if best is not None:
            self.keys[best.sys_name] = key

    def demand(self, device: UsbDevice) -> Demand:
        """What the rule of *device* says."""
        return self._demands.get(device.sys_name, NO_DEMAND)

    def has_usable_serial(self, device: UsbDevice) -> bool:
        """Whether the serial number of *device* tells it apart, as far as it alone shows."""
        return serial_problem(device.serial, device.usb_id, self.junk) is None

    def usb_id(self, device: UsbDevice) -> str:
        """The ids in the key of *device*."""
        return next(iter(self.demand(device).usb_ids), device.usb_id)

    def serial_key(self, device: UsbDevice) -> str:
        """The key of *device* by its serial number."""
        return serial_key(device, self.usb_id(device))

    def port_keys(self, device: UsbDevice) -> tuple[str, str]:
        """The key of the port of *device*, and the one that tells USB 2 and USB 3 apart."""
        usb_id = self.usb_id(device)
        return port_key(device, usb_id), longer_keys(device, usb_id)[0]

    def had_port_key(self, device: UsbDevice) -> bool:
        """Whether *device* had a key of its port before."""
        taken = self.keys.values()
        return any(key not in taken and self.was_known_by(key, device) for key in self.port_keys(device))

    def was_known_by(self, key: str, device: UsbDevice) -> bool:
        """Whether *device* had *key*: the last look tells, or, where it is lost, that the provider exists.

        The last look may have seen another device in the same port, so the serial number must be the same. It may have
        seen this device in the port of that number on the other bus, so the place must be the same.
        """
        held = self.held(key)
        if held.seen is None:
            return held.present
        return held.seen.is_where(device) and held.seen.serial == device.serial
