"""Carries out actions on one guest: attach, check that it was the right device, detach, and record it.

The binder decides the actions, in another thread, and gets each result as a value. Nothing is tried again here.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from usb_provider.agent.audit import AuditLine, record
from usb_provider.agent.meter import Meter
from usb_provider.exception import DeviceGone, PortRefused
from usb_provider.model.binding.decision import Attach, Detach, Why
from usb_provider.model.binding.hostdev import GuestPort, alias, hostdev_xml
from usb_provider.model.devices.device import UsbDevice

LOG = logging.getLogger(__name__)

GuestAction = Detach | Attach


class GuestDoor(Protocol):
    """The two things that are done to a guest; virt/domain.py does them."""

    def attach(self, guest_uuid: str, xml: str) -> None:
        """Attach a hostdev."""

    def detach(self, guest_uuid: str, alias: str, timeout: float) -> None:
        """Detach a hostdev, and wait for it."""


@dataclass(frozen=True, slots=True)
class Done:
    """The result of one action: success, or the *error* with which it failed."""

    action: GuestAction
    error: Exception | None = None


class ActionRunner:
    """Attaches and detaches. Safe in several threads, one for each guest.

    :param device_of: the device of a unit as it is now, None where it is not plugged in.
    :param seconds_since_start: how long ago a guest was started, None when its start is not why it gets a device.
    :param detach_timeout: seconds that a guest has to release a device.
    """

    def __init__(
        self,
        guests: GuestDoor,
        device_of: Callable[[str], UsbDevice | None],
        seconds_since_start: Callable[[str], float | None],
        *,
        detach_timeout: float,
        meter: Meter,
    ) -> None:
        self._guests = guests
        self._device_of = device_of
        self._seconds_since_start = seconds_since_start
        self._detach_timeout = detach_timeout
        self._meter = meter

    def run(self, actions: Sequence[GuestAction], done: Callable[[Done], None]) -> None:
        """Carry out *actions* on one guest in order, up to the first that fails; *done* is told of each."""
        for action in actions:
            try:
                if isinstance(action, Detach):
                    self._detach(action)
                else:
                    self._attach(action)
            except Exception as error:
                # Unexpected errors too: only the binder, which reads the result, logs them.
                done(Done(action, error))
                return
            done(Done(action))

    def _detach(self, action: Detach) -> None:
        self._guests.detach(action.guest_uuid, action.hostdev.alias or "", self._detach_timeout)
        record(
            AuditLine(
                event="detach",
                guest_uuid=action.guest_uuid,
                guest=action.guest_name,
                provider_uuid=action.provider_uuid,
                provider=action.provider_name,
                member=action.key,
                bus=action.hostdev.bus,
                device=action.hostdev.device,
                reason=action.why.value,
            )
        )
        self._meter.detached(action.why)

    def _attach(self, action: Attach) -> None:
        device = action.device
        try:
            self._guests.attach(action.guest_uuid, self._xml(action, action.port))
        except PortRefused as error:
            if action.port is None:
                raise
            self._guests.attach(action.guest_uuid, self._xml(action, None))
            LOG.warning(
                "Guest %s has %s at a USB port that libvirt chose, since port %s is taken or does not exist: %s",
                action.guest_name,
                action.provider_name,
                action.port,
                error,
            )
        seconds = self._seconds_since_start(action.guest_uuid)
        record(
            AuditLine(
                event="attach",
                guest_uuid=action.guest_uuid,
                guest=action.guest_name,
                provider_uuid=action.provider_uuid,
                provider=action.provider_name,
                member=action.key,
                seconds=seconds,
                port=device.sys_name,
                usb_id=device.usb_id,
                bus=device.busnum,
                device=device.devnum,
            )
        )
        self._meter.attached(seconds)
        now = self._device_of(action.unit)
        if now is None or not now.is_same_plug_as(device):
            self._take_back(action)

    def _xml(self, action: Attach, port: GuestPort | None) -> str:
        return hostdev_xml(action.unit, action.device, port=port, guest_reset=action.guest_reset)

    def _take_back(self, action: Attach) -> None:
        """Detach at once what may be another device: one may have got the number between the look and the attach.

        :raises DeviceGone: always, when it is detached.
        """
        self._guests.detach(action.guest_uuid, alias(action.unit), self._detach_timeout)
        record(
            AuditLine(
                event="detach",
                guest_uuid=action.guest_uuid,
                guest=action.guest_name,
                provider_uuid=action.provider_uuid,
                provider=action.provider_name,
                member=action.key,
                reason="the device was plugged in again while the agent attached it",
            )
        )
        self._meter.detached(Why.MOVED)
        name = action.provider_name if action.key is None else f"{action.provider_name} ({action.key})"
        raise DeviceGone(f"{name} was plugged in again while the agent attached it.")
