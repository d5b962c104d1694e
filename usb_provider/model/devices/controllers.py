"""The USB controllers of a host, for people: each by its place in the topology, and by its name at this boot. Pure.

place.py computes both names.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from usb_provider.model.devices.device import UsbDevice


@dataclass(frozen=True, slots=True)
class HostController:
    """A controller: its *topology*, as keys name it, its *address* at this boot, and its *buses*, as ``usb3``.

    As text it has both names where they differ: ``0000:00:1c.0/00.0 (now 0000:03:00.0)``.
    """

    topology: str
    address: str
    buses: tuple[str, ...] = ()

    @property
    def has_two_names(self) -> bool:
        """Whether the next boot may give it another address."""
        return self.topology != self.address

    def __str__(self) -> str:
        return f"{self.topology} (now {self.address})" if self.has_two_names else self.topology


def host_controllers(devices: Iterable[UsbDevice]) -> tuple[HostController, ...]:
    """The controllers of *devices*, in the order of their buses."""
    buses: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for device in devices:
        if device.controller is not None and device.controller_address is not None and device.busnum is not None:
            buses[device.controller, device.controller_address].add(device.busnum)
    in_order = sorted(buses.items(), key=lambda each: sorted(each[1]))
    return tuple(HostController(*names, tuple(f"usb{bus}" for bus in sorted(numbers))) for names, numbers in in_order)
