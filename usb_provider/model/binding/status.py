"""The USB devices of each guest of this host, with their states, as frozen values: what "usb-provider status" prints.

Pure. The agent makes them, and virt/protocol.py carries them over the socket. The command must start at once, so this
module loads no other part of the model.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from usb_provider.model.binding.decision import Binding
    from usb_provider.model.binding.guests import RunningGuest
    from usb_provider.model.binding.retry import Memory


class BindingState(enum.StrEnum):
    """Whether a guest has a device that it holds, and if not, whether the agent can act now."""

    ATTACHED = "attached"
    PENDING = "pending"
    WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """One device that a guest should have.

    :ivar since: when it came to be in ``state``, in seconds since 1970.
    :ivar reason: why the guest does not have it; None when it does, or when the agent is about to attach it.
    :ivar member: the key of the device, where it is a member of a pool.
    :ivar guest_port: the guest's USB controller and its port where the guest has the device: ``0:2``.
    :ivar is_older: the agent's first look found it in ``state``, so it may have been in it since before ``since``.
    """

    provider_uuid: str
    provider_name: str
    state: BindingState
    since: float
    reason: str | None
    is_older: bool = False
    member: str | None = None
    guest_port: str | None = None


@dataclass(frozen=True, slots=True)
class RefusedStart:
    """The start or live migration of a guest that was refused, and when, in seconds since 1970.

    :ivar command: what starts the server when what it lacked is there; None where another thing has to be done.
    """

    reason: str
    since: float
    command: str | None = None


@dataclass(frozen=True, slots=True)
class GuestStatus:
    """One guest. ``name`` is None for a guest that does not run; the agent has then seen only a refused start."""

    uuid: str
    name: str | None
    devices: tuple[DeviceStatus, ...] = ()
    refused: RefusedStart | None = None


@dataclass(frozen=True, slots=True)
class AwaitedNeighbour:
    """A neighbouring service without which the agent does not know all that it is asked for.

    :ivar name: Placement or libvirt.
    :ivar since: since when the agent waits for it, in seconds since 1970.
    :ivar said: the sentence on the last attempt: what is wrong, and what to do.
    """

    name: str
    since: float
    said: str


def guest_statuses(
    bindings: Iterable[Binding],
    memory: Memory,
    running: Iterable[RunningGuest],
    refused: Mapping[str, RefusedStart],
) -> tuple[GuestStatus, ...]:
    """Every guest that should have a device, and every guest that was refused and does not run.

    :param refused: the refused start of each guest, by its UUID.
    """
    devices: dict[str, list[DeviceStatus]] = {}
    names: dict[str, str] = {}
    for binding in bindings:
        failure = memory.retries.failures.get((binding.guest_uuid, binding.unit or binding.provider_uuid))
        devices.setdefault(binding.guest_uuid, []).append(
            DeviceStatus(
                binding.provider_uuid,
                binding.provider_name,
                binding.state,
                memory.standing.of(binding),
                failure.reason if failure and binding.state is not BindingState.ATTACHED else binding.reason,
                memory.standing.is_older(binding),
                binding.key,
                None if binding.guest_port is None else str(binding.guest_port),
            )
        )
        names[binding.guest_uuid] = binding.guest_name
    up = {each.guest.uuid for each in running}
    down = {uuid: each for uuid, each in refused.items() if uuid not in up}
    return (
        *(GuestStatus(uuid, names[uuid], tuple(rows), down.get(uuid)) for uuid, rows in devices.items()),
        *(GuestStatus(uuid, None, (), each) for uuid, each in down.items() if uuid not in devices),
    )
