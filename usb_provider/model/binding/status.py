"""How each guest of this host stands with its USB devices, as frozen values: what "usb-provider status" prints.

Pure. The binder makes them; how they travel over the socket is virt/protocol.py's.
"""

from dataclasses import dataclass

from usb_provider.model.binding.decision import State


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """One device that a guest should have.

    :ivar since: when it came to be in ``state``, in seconds since 1970.
    :ivar reason: why the guest does not have it; None when it does, or when the agent is about to attach it.
    """

    provider_uuid: str
    provider_name: str
    state: State
    since: float
    reason: str | None


@dataclass(frozen=True, slots=True)
class RefusedStart:
    """The start, restore or live migration of a guest that was refused, and when, in seconds since 1970."""

    reason: str
    since: float


@dataclass(frozen=True, slots=True)
class GuestStatus:
    """One guest. ``name`` is None for a guest that does not run; the agent has then seen only a refused start."""

    uuid: str
    name: str | None
    devices: tuple[DeviceStatus, ...] = ()
    refused: RefusedStart | None = None
