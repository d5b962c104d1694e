"""The traits by which a user and the agent agree on one device of one server: attach it, detach it, it is detached.

This module's one job is to spell them and to read them back.  It must not decide what is done about
them.  A user's command sets the first two on the device's provider, the agent answers:

* ``CUSTOM_USB_ATTACH_TO_<server>``: tell me when the server has it.  The agent removes the trait then.
* ``CUSTOM_USB_DETACH_FROM_<server>_<units>``: leave so many units to the server, and take the rest.
* ``CUSTOM_USB_DETACHED_FROM_<server>_<units>``: the agent has done so, and does not undo it.

``<server>`` is the server's UUID in capital letters without hyphens.  A request that says how much
stays, and not how much goes, can be carried out twice.
"""

import re
import uuid
from collections.abc import Collection
from typing import Final

ATTACH_PREFIX: Final = "CUSTOM_USB_ATTACH_TO_"
DETACH_PREFIX: Final = "CUSTOM_USB_DETACH_FROM_"
DETACHED_PREFIX: Final = "CUSTOM_USB_DETACHED_FROM_"

_ATTACH = re.compile(ATTACH_PREFIX + r"([0-9A-F]{32})")
_DETACH = re.compile(DETACH_PREFIX + r"([0-9A-F]{32})_(\d{1,9})")
_DETACHED = re.compile(DETACHED_PREFIX + r"([0-9A-F]{32})_(\d{1,9})")
_SENTENCES = (
    (_ATTACH, "A user waits until server {} has the device."),
    (_DETACH, "A user wants the device back from server {}; units that stay with it: {}."),
    (_DETACHED, "The agent has detached the device from server {}, which still holds it; units that stay: {}."),
)


def attach_trait(server_uuid: str) -> str:
    """The trait that asks the agent to tell when the server has all units that it holds."""
    return ATTACH_PREFIX + _spelled(server_uuid)


def detach_trait(server_uuid: str, stay: int = 0) -> str:
    """The trait that asks the agent to leave *stay* units to the server."""
    return f"{DETACH_PREFIX}{_spelled(server_uuid)}_{stay}"


def detached_trait(server_uuid: str, stay: int = 0) -> str:
    """The trait by which the agent says that the server has no more than *stay* units attached."""
    return f"{DETACHED_PREFIX}{_spelled(server_uuid)}_{stay}"


def attach_requests(traits: Collection[str]) -> frozenset[str]:
    """The UUIDs of the servers that users wait for."""
    return frozenset(_server(found[1]) for name in traits if (found := _ATTACH.fullmatch(name)))


def detach_requests(traits: Collection[str]) -> dict[str, int]:
    """How many units users want to leave to servers, by the servers' UUIDs."""
    return _units(traits, _DETACH)


def detach_answers(traits: Collection[str]) -> dict[str, int]:
    """How many units the agent has left to servers, by the servers' UUIDs."""
    return _units(traits, _DETACHED)


def is_request(name: str) -> bool:
    """Whether the trait *name* is one of these."""
    return describe_request(name) is not None


def describe_request(name: str) -> str | None:
    """One sentence about the trait *name*; ``None`` when it is another one."""
    for form, sentence in _SENTENCES:
        if found := form.fullmatch(name):
            return sentence.format(_server(found[1]), *found.groups()[1:])
    return None


def _units(traits: Collection[str], form: re.Pattern[str]) -> dict[str, int]:
    units: dict[str, int] = {}
    for found in filter(None, map(form.fullmatch, traits)):
        server = _server(found[1])
        units[server] = min(int(found[2]), units.get(server, int(found[2])))
    return units


def _server(spelled: str) -> str:
    return str(uuid.UUID(spelled))


def _spelled(server_uuid: str) -> str:
    return uuid.UUID(server_uuid).hex.upper()
