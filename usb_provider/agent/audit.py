"""The audit trail: which device came, went, was attached, detached or refused, one line of JSON each, as values.

The caller says what happened; this module only writes it, to the logger ``usb_provider.audit``.
"""

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from usb_provider.model.binding.decision import Why
from usb_provider.model.binding.unit_holding import Holding
from usb_provider.model.devices.device import UsbDevice

AUDIT = logging.getLogger("usb_provider.audit")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLine:
    """One event and the device, guest and host place that it concerns; a field that is None is left out of the line.

    ``event`` is attach, detach, plug, replug, unplug or refuse. ``seconds`` is the time from the guest's start to the
    attach. ``member`` is the key of the device, where the provider is that of a pool or bundle. ``bus`` and ``device``
    are the kernel's numbers.
    """

    event: str
    guest_uuid: str | None = None
    guest: str | None = None
    provider_uuid: str | None = None
    provider: str | None = None
    member: str | None = None
    seconds: float | None = None
    port: str | None = None
    usb_id: str | None = None
    bus: int | None = None
    device: int | None = None
    reason: str | None = None

    def __str__(self) -> str:
        return json.dumps({name: value for name, value in asdict(self).items() if value is not None})


def record(*lines: AuditLine) -> None:
    """Write *lines* to the audit trail."""
    for line in lines:
        AUDIT.info("%s", line)


Plugged = Mapping[str, UsbDevice | None]
"""By unit, one that may be made later included: its device, or None where it is not plugged in."""


def plug_changes(
    before: Plugged | None,
    devices: Mapping[str, UsbDevice],
    held: Sequence[Holding],
    guests: Mapping[str, str],
    *,
    gone_buses: Collection[int] = (),
) -> tuple[tuple[AuditLine, ...], Plugged]:
    """What people plugged and unplugged since the last look, and what to compare the next look with.

    :param before: the result of the last look; None at the first look, which cannot tell what happened before it.
    :param devices: the devices that are plugged in, by unit.
    :param held: every unit of ours.
    :param guests: names of running guests, by UUID.
    :param gone_buses: USB buses that were there before and are not now.
    """
    # A device without a provider may get one later, by a rule or after an operator deleted it: that is no plug event.
    stayed = {
        uuid: device for uuid, device in devices.items() if before is None or _is_where_it_was(before.get(uuid), device)
    }
    now: Plugged = {**stayed, **{each.unit: devices.get(each.unit) for each in held}}
    if before is None:
        return (), now
    lines: list[AuditLine] = []
    for holding in held:
        was, device = before.get(holding.unit), devices.get(holding.unit)
        if device is not None and _is_where_it_was(was, device):
            continue
        if was is not None:
            reason = Why.CONTROLLER.value if was.busnum in gone_buses else None
            lines.append(replace(_hand("unplug", was, holding, guests), reason=reason))
        if device is not None:
            event = "replug" if holding.unit in before else "plug"
            lines.append(_hand(event, device, holding, guests))
    return tuple(lines), now


def _hand(event: str, device: UsbDevice, holding: Holding, guests: Mapping[str, str]) -> AuditLine:
    consumer = min(holding.consumers, default=None)
    return AuditLine(
        event=event,
        guest_uuid=consumer,
        guest=guests.get(consumer or ""),
        provider_uuid=holding.provider_uuid,
        provider=holding.name,
        member=holding.key,
        port=device.sys_name,
        usb_id=device.usb_id,
        bus=device.busnum,
        device=device.devnum,
    )


def _is_where_it_was(was: UsbDevice | None, device: UsbDevice) -> bool:
    return was is not None and was.is_same_plug_as(device)
