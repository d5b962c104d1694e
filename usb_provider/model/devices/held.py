"""What is known of a key apart from what is plugged in: who holds its provider, and where its device was seen. Pure.

host_state.py reads it from Placement's tree and from the sightings; identity.py decides with it.
"""

from dataclasses import dataclass
from typing import Self

from usb_provider.model.devices.device import UsbDevice, port_path
from usb_provider.model.devices.place import Place, controller


@dataclass(frozen=True, slots=True)
class Sighting:
    """A device as it was seen: its place, its sysfs path, its ``vid:pid``, and its serial number if it has one.

    *place* is None in what the first release stored: then only the path tells, until the next look. A path has the
    number of a bus in it, so the path of one boot may be that of another place at the next.

    *look* numbers the looks at which something new was seen: two devices that were seen at one such look are two.

    *half* is set when the other half of the socket had a device at the same time: the two are no one socket, although
    the kernel takes them for one. It is the ``half`` of the device that was seen.
    """

    place: Place | None
    sys_path: str
    usb_id: str
    serial: str | None
    half: str | None = None
    look: int = 0

    @classmethod
    def of(cls, device: UsbDevice, *, is_one_of_two: bool = False) -> Self:
        """*device* as it is plugged in now; *is_one_of_two*: another device has the same place."""
        half = half_of(device) if is_one_of_two else None
        return cls(device.place, device.sys_path, device.usb_id, device.serial, half)

    def is_where(self, device: UsbDevice) -> bool:
        """Whether *device* is in the place where this was seen."""
        if self.place is None:
            return device.sys_path == self.sys_path or device.place == _place_in(self.sys_path)
        return device.place == self.place and self.half in (None, half_of(device))

    def is_above(self, device: UsbDevice) -> bool:
        """Whether *device* hangs on a hub in the place where this was seen: some firmware makes its device a hub."""
        here, there = self.place, device.place
        return (
            here is not None
            and (here.controller, here.is_usb3) == (there.controller, there.is_usb3)
            and there.port.startswith(f"{here.port}.")
            and self.half in (None, half_of(device))
        )

    def is_as(self, other: "Sighting") -> bool:
        """Whether *other* may be the same device, and has not moved."""
        return (self.place, self.usb_id, self.serial) == (other.place, other.usb_id, other.serial)


def half_of(device: UsbDevice) -> str:
    """The half of its socket that *device* uses."""
    return "usb3" if device.is_usb3 else "usb2"


def _place_in(sys_path: str) -> Place:
    """The place in a path, which does not tell the kind of bus."""
    return Place(controller(sys_path) or "unknown", port_path(sys_path.rpartition("/")[2]))


@dataclass(frozen=True, slots=True)
class Held:
    """What Placement and the agent's last look say about one key.

    *consumers* have its provider. *present*: its provider exists and is not marked absent. *seen*: the device that the
    agent last saw under the key; None when it saw none.
    """

    consumers: tuple[str, ...] = ()
    present: bool = False
    seen: Sighting | None = None

    @property
    def allocated(self) -> bool:
        """Whether a consumer has its provider."""
        return bool(self.consumers)


NOT_HELD = Held()
