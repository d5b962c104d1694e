"""The messages on the agent's unix socket as values, and as JSON at the socket: one question in, one answer out.

libvirt's hook asks there, and so does "usb-provider status". The hook is installed once and seldom replaced, so the
form of its messages never changes: the answer to ``{"operation": …, "guest": …, "xml": …, "seconds": …}``, of which
older hooks leave the last out, is ``{}``, ``{"refuse": …}`` or ``{"xml": …}``. Nothing is answered or decided here.
"""

import enum
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from usb_provider.model.binding.status import AwaitedNeighbour, BindingState, DeviceStatus, GuestStatus, RefusedStart

_STATUS = "status"
_LATEST_MOMENT = 1e11
"""In seconds since 1970: the year 5138, which every reader of dates knows."""

_T = TypeVar("_T")


class Operation(enum.StrEnum):
    """What libvirt does with the guest when it calls the hook (https://libvirt.org/hooks.html)."""

    PREPARE = "prepare"
    STARTED = "started"
    MIGRATE = "migrate"
    RESTORE = "restore"


_OPERATIONS = frozenset(operation.value for operation in Operation)


@dataclass(frozen=True, slots=True)
class HookCall:
    """libvirt called the hook for the domain with this name and XML.

    :ivar seconds: how long the hook waits for the answer from now on; 0 where it does not say, as an older one.
    """

    operation: Operation
    guest: str
    xml: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class StatusQuestion:
    """A command asks for the guests of this host."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """libvirt may continue."""


@dataclass(frozen=True, slots=True)
class Refused:
    """libvirt must not continue; *reason* is a sentence for the operator.

    :raises ValueError: when *reason* is empty: the hook takes an empty one for permission.
    """

    reason: str

    def __post_init__(self) -> None:
        if not self.reason:
            raise ValueError("a refusal needs a reason")


@dataclass(frozen=True, slots=True)
class Rewritten:
    """libvirt may continue with *xml* instead of the XML that it gave to the hook.

    :raises ValueError: when *xml* is empty: the hook takes an empty one for none.
    """

    xml: str

    def __post_init__(self) -> None:
        if not self.xml:
            raise ValueError("a domain needs XML")


@dataclass(frozen=True, slots=True)
class StatusAnswer:
    """The guests of this host, and what they are known by. Times are in seconds since 1970, or None for never.

    :ivar hook_called_at: when libvirt last called the hook.
    :ivar awaited: the neighbours for which the agent waits. An older agent says of none.
    :ivar read_at: when the agent last read from Placement who holds what.
    """

    guests: tuple[GuestStatus, ...]
    hook_called_at: float | None = None
    awaited: tuple[AwaitedNeighbour, ...] = ()
    read_at: float | None = None


Question = HookCall | StatusQuestion
Answer = Allowed | Refused | Rewritten | StatusAnswer


def encode_question(question: Question) -> bytes:
    """*question* as the agent reads it."""
    match question:
        case StatusQuestion():
            return _encoded({"operation": _STATUS})
        case HookCall(operation, guest, xml, seconds):
            said = {"seconds": seconds} if seconds else {}
            return _encoded({"operation": operation.value, "guest": guest, "xml": xml, **said})


def parse_question(data: bytes) -> Question | None:
    """The question in *data*; None for an operation that this agent does not know, which it should allow.

    :raises ValueError: when *data* is no question; the message says why, and the caller should drop it.
    """
    message = _object(data)
    name = message.get("operation")
    if not isinstance(name, str):
        raise ValueError("it is not an object with an operation")
    if name == _STATUS:
        return StatusQuestion()
    if name not in _OPERATIONS:
        return None
    return HookCall(
        Operation(name),
        _text(message.get("guest", ""), "guest"),
        _text(message.get("xml", ""), "xml"),
        _moment(message.get("seconds", 0.0), "seconds"),
    )


def encode_answer(answer: Answer) -> bytes:
    """*answer* as the hook and the commands read it."""
    match answer:
        case Allowed():
            return _encoded({})
        case Refused(reason):
            return _encoded({"refuse": reason})
        case Rewritten(xml):
            return _encoded({"xml": xml})
        case StatusAnswer():
            return _encoded(status_json(answer))


def parse_answer(data: bytes) -> Answer:
    """The answer in *data*.

    :raises ValueError: when *data* is no answer; what sent it is not the agent.
    """
    message = _object(data)
    if "guests" in message:
        guests = tuple(_guest(each) for each in _list(message["guests"], "guests"))
        return StatusAnswer(
            guests,
            _or_none(message.get("hook_called_at"), _moment, "hook_called_at"),
            tuple(_awaited(each) for each in _list(message.get("awaited", []), "awaited")),
            _or_none(message.get("read_at"), _moment, "read_at"),
        )
    if "refuse" in message:
        return Refused(_text(message["refuse"], "refuse"))
    if "xml" in message:
        return Rewritten(_text(message["xml"], "xml"))
    if message:
        raise ValueError("it is no answer of the agent")
    return Allowed()


def status_json(answer: StatusAnswer) -> dict[str, object]:
    """*answer* as the agent sends it, and as ``usb-provider status --json --awaited`` prints it."""
    awaited = [{"name": each.name, "since": each.since, "said": each.said} for each in answer.awaited]
    return {
        "guests": [guest_json(guest) for guest in answer.guests],
        "hook_called_at": answer.hook_called_at,
        "awaited": awaited,
        "read_at": answer.read_at,
    }


def guest_json(guest: GuestStatus) -> dict[str, object]:
    """*guest* as ``usb-provider status --json`` prints it."""
    row: dict[str, object] = {
        "uuid": guest.uuid,
        "name": guest.name,
        "devices": [
            {
                "provider_uuid": device.provider_uuid,
                "provider_name": device.provider_name,
                "state": device.state.value,
                "since": device.since,
                "reason": device.reason,
                **({"since_at_least": True} if device.is_older else {}),
                **({"member": device.member} if device.member is not None else {}),
                **({"guest_port": device.guest_port} if device.guest_port is not None else {}),
            }
            for device in guest.devices
        ],
    }
    if guest.refused is not None:
        refused: dict[str, object] = {"reason": guest.refused.reason, "since": guest.refused.since}
        if guest.refused.command is not None:
            refused["command"] = guest.refused.command
        row["refused"] = refused
    return row


def _guest(value: object) -> GuestStatus:
    row = _mapping(value, "a guest")
    return GuestStatus(
        uuid=_text(row.get("uuid"), "uuid"),
        name=_or_none(row.get("name"), _text, "name"),
        devices=tuple(_device(each) for each in _list(row.get("devices"), "devices")),
        refused=_or_none(row.get("refused"), _refused, "refused"),
    )


def _device(value: object) -> DeviceStatus:
    row = _mapping(value, "a device")
    return DeviceStatus(
        provider_uuid=_text(row.get("provider_uuid"), "provider_uuid"),
        provider_name=_text(row.get("provider_name"), "provider_name"),
        state=BindingState(_text(row.get("state"), "state")),
        since=_moment(row.get("since"), "since"),
        reason=_or_none(row.get("reason"), _text, "reason"),
        is_older=row.get("since_at_least") is True,
        member=_or_none(row.get("member"), _text, "member"),
        guest_port=_or_none(row.get("guest_port"), _text, "guest_port"),
    )


def _awaited(value: object) -> AwaitedNeighbour:
    row = _mapping(value, "an awaited neighbour")
    return AwaitedNeighbour(
        _text(row.get("name"), "name"), _moment(row.get("since"), "since"), _text(row.get("said"), "said")
    )


def _refused(value: object, what: str) -> RefusedStart:
    row = _mapping(value, what)
    return RefusedStart(
        _text(row.get("reason"), "reason"),
        _moment(row.get("since"), "since"),
        _or_none(row.get("command"), _text, "command"),
    )


def _encoded(message: Mapping[str, object]) -> bytes:
    return json.dumps(message).encode()


def _object(data: bytes) -> Mapping[str, object]:
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not JSON") from error
    return _mapping(value, "it")


def _mapping(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is not an object")
    return value


def _list(value: object, what: str) -> list[object]:
    if not isinstance(value, list):
        raise ValueError(f"{what} is not a list")
    return value


def _text(value: object, what: str) -> str:
    """*value*, with what is no character (half of a surrogate pair) replaced: no XML parser and no log takes it."""
    if not isinstance(value, str):
        raise ValueError(f"{what} is not a text")
    return value.encode("utf-8", "replace").decode("utf-8")


def _moment(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{what} is not a number")
    if not 0 <= value <= _LATEST_MOMENT:
        raise ValueError(f"{what} is not a moment")
    return float(value)


def _or_none(value: object, parse: Callable[[object, str], _T], what: str) -> _T | None:
    return None if value is None else parse(value, what)
