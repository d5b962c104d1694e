"""What is known of a key apart from what is plugged in: who holds its provider, and where its device was seen. Pure.

host_state.py reads it from Placement's tree and from the sightings; identity.py decides with it.
"""

from dataclasses import dataclass
from typing import Self

from usb_provider.model.devices.device import UsbDevice
from usb_provider.model.devices.place import Place


@dataclass(frozen=True, slots=True)
class Sighting:
    """A device as it was seen: its place, its sysfs path, its ``vid:pid``, and its serial number if it has one.

    Two boots may number the buses differently. The path then names no device, or the same place, but no other place.
    """

    place: Place
    sys_path: str
    usb_id: str
    serial: str | None

    @classmethod
    def of(cls, device: UsbDevice) -> Self:
        """*device* as it is plugged in now."""
        return cls(device.place, device.sys_path, device.usb_id, device.serial)

    def is_where(self, device: UsbDevice) -> bool:
        """Whether *device* is in the place where this was seen."""
        return device.sys_path == self.sys_path or device.place == self.place


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
