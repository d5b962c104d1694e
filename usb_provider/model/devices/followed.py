"""A held device is followed by the place where it was seen: which device each such key is about. Pure.

docs/adr/0018-a-held-device-is-followed-by-its-place.md has the reasons. This module decides about no other keys.
"""

from collections.abc import Collection, Iterator

from usb_provider.model.devices.device import UsbDevice
from usb_provider.model.devices.held import Sighting
from usb_provider.model.devices.keys import is_port_key, serial_problem
from usb_provider.model.devices.plugged import Plugged
from usb_provider.model.text import printable


class Followed:
    """The devices of *plugged* that have one of the keys *claimed*, and those that could be taken for one of them."""

    def __init__(self, plugged: Plugged, claimed: Collection[str]) -> None:
        self._plugged = plugged
        self._seen: dict[str, Sighting] = {
            key: seen
            for key in sorted(claimed)
            if (seen := plugged.held(key).seen) is not None and plugged.held(key).allocated
        }

    def follow(self) -> None:
        """Decide which device each held key is about, where that was seen.

        What is in its place and may be the same device is. Only when there is none, a device with its serial number
        elsewhere is.
        """
        for key, seen in self._seen.items():
            there = (each for each in self._plugged.undecided() if self._is_there_unchanged(each, seen))
            self._plugged.settle(key, there)
        moved = {key: seen for key, seen in self._missing() if not self._candidates(seen)}
        for key, seen in moved.items():
            self._plugged.settle(key, self._elsewhere(key, seen))
        for key, seen in self._missing():
            self._plugged.settle(key, self._candidates(seen))
        for key, seen in self._missing():
            self._plugged.settle(key, self._elsewhere(key, seen))

    def _missing(self) -> list[tuple[str, Sighting]]:
        decided = set(self._plugged.keys.values())
        return [(key, seen) for key, seen in self._seen.items() if key not in decided]

    def _is_there_unchanged(self, device: UsbDevice, seen: Sighting) -> bool:
        return seen.is_where(device) and (seen.usb_id, seen.serial) == (device.usb_id, device.serial)

    def _candidates(self, seen: Sighting) -> list[UsbDevice]:
        """What is in the place of *seen* and may be that device, whatever its serial number has become."""
        return [each for each in self._plugged.undecided() if seen.is_where(each) and self._may_be(each, seen)]

    def _may_be(self, device: UsbDevice, seen: Sighting) -> bool:
        return self._has_its_ids(device, seen) and not self._has_another_serial(device, seen)

    def _has_its_ids(self, device: UsbDevice, seen: Sighting) -> bool:
        return seen.usb_id in (device.usb_id, *self._plugged.demand(device).usb_ids)

    def _has_another_serial(self, device: UsbDevice, seen: Sighting) -> bool:
        """Whether the serial numbers tell that it is another device. One that comes, goes or turns to junk does not."""
        if self._plugged.demand(device).by_port or not self._plugged.has_usable_serial(device):
            return False
        return self._usable_serial(seen) not in (None, device.serial)

    def _usable_serial(self, seen: Sighting) -> str | None:
        return seen.serial if serial_problem(seen.serial, seen.usb_id, self._plugged.junk) is None else None

    def _elsewhere(self, key: str, seen: Sighting) -> list[UsbDevice]:
        """Devices in other places with the serial number of *seen*, but not its twins, which were known before."""
        return [each for each in self._plugged.undecided() if self._has_its_serial_elsewhere(each, key, seen)]

    def _has_its_serial_elsewhere(self, device: UsbDevice, key: str, seen: Sighting) -> bool:
        return (
            device.serial is not None
            and device.serial == self._usable_serial(seen)
            and self._has_its_ids(device, seen)
            and not seen.is_where(device)
            and not self._is_known_as_another(device, key, seen)
            # Where the port counts, a claim on it stays with it.
            and not (self._plugged.demand(device).by_port and is_port_key(key))
        )

    def _is_known_as_another(self, device: UsbDevice, key: str, seen: Sighting) -> bool:
        """Whether *device* was seen where it is under another key than *key*, when *seen* was or later."""
        return any(
            other != key
            and was.look >= seen.look
            and was.serial == device.serial
            and was.is_where(device)
            and self._has_its_ids(device, was)
            for other, was in self._plugged.seen.items()
        )

    def withheld(self) -> Iterator[tuple[str, str]]:
        """Devices that no consumer may get, each with the held key for whose device it could be taken."""
        missing = self._missing()
        decided = {key: name for name, key in self._plugged.keys.items()}
        shown = {each.sys_name: each.serial for each in self._plugged.devices}
        for device in self._plugged.undecided():
            for key, seen in missing:
                if seen.is_where(device) or seen.is_above(device):
                    yield device.sys_name, key
                    break
            else:
                for key, seen in self._seen.items():
                    # What is in the place has lost its serial number, and this has it.
                    if (
                        key in decided
                        and device.serial != shown[decided[key]]
                        and self._has_its_serial_elsewhere(device, key, seen)
                    ):
                        yield device.sys_name, key
                        break

    def why_withheld(self, device: UsbDevice, key: str) -> str:
        """Why no consumer may get *device* while *key* is held, as a part of a sentence."""
        held = self._plugged.held(key)
        seen = self._seen[key]
        who = f"consumer {held.consumers[0]}" if len(held.consumers) == 1 else f"{len(held.consumers)} consumers"
        claim = f"USB device {printable(key, 120)}, which {who} holds"
        if seen.is_above(device):
            return (
                f"it is on a hub in the place of {claim} and which is not plugged in; if it is another device, plug it "
                f"in elsewhere, or release the claim"
            )
        if not seen.is_where(device):
            return f"it has the serial number of {claim}, and another device is in the place where that was"
        if self._has_its_ids(device, seen):
            return (
                f"it is in the place of {claim}, with another serial number; if it is the same device, give its rule "
                f'"identity": "port"; otherwise plug it in elsewhere, or release the claim'
            )
        return (
            f"it is in the place of {claim} and which is not plugged in; if it is the same device in another mode, "
            f'add "also": ["{device.usb_id}"] to the rule for {seen.usb_id}; otherwise plug it in elsewhere, or '
            f"release the claim"
        )
