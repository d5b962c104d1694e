"""The true cause of each detach, for the audit trail and the metrics: what decision.py cannot see from one guest. Pure.

A device whose whole controller is gone was not unplugged, and a hostdev that QEMU has released died at a restore or a
migration only where its guest has arrived.
"""

import dataclasses
from collections.abc import Collection, Iterable

from usb_provider.model.binding.decision import Detach, Why
from usb_provider.model.devices.device import UsbDevice


def buses(devices: Iterable[UsbDevice]) -> frozenset[int]:
    """The numbers of the USB buses that there are, by their root hubs."""
    return frozenset(each.busnum for each in devices if each.is_root_hub and each.busnum is not None)


def with_causes(
    detaches: Iterable[Detach], *, gone_buses: Collection[int] = (), arrived: Collection[str] = ()
) -> tuple[Detach, ...]:
    """*detaches*, each with its true cause.

    :param gone_buses: buses that were there before and are not now.
    :param arrived: UUIDs of the guests that came from a save file, a snapshot or another host.
    """
    return tuple(dataclasses.replace(each, why=_cause(each, gone_buses, arrived)) for each in detaches)


def _cause(detach: Detach, gone_buses: Collection[int], arrived: Collection[str]) -> Why:
    if detach.why is Why.GONE and detach.hostdev.bus in gone_buses:
        return Why.CONTROLLER
    if detach.why is Why.DEAD and not detach.hostdev.missing and detach.guest_uuid not in arrived:
        return Why.HOST_DRIVER
    return detach.why
