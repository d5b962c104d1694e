"""Every error that one part of the project raises for another, each named after the caller's next step.

A message is one sentence for an operator: what is wrong, where, and what to do. Nothing here performs I/O, and no error
here means "false" or "none".
"""

import re
from collections.abc import Sequence

_SECRET_OF_A_URL = re.compile(r"(?<=://)(?:[^\s/?#@:]*:(?!\d{1,5}[/?#])[^\s,;]*|[^\s/?#]*)(?=@)")
"""Also where a character of the password is one that ought to be escaped; a port and what follows it is no password."""


def masked(text: str) -> str:
    """*text* with ``***`` in the place of user and password in each address, as in ``http://***@host:8778/``."""
    return _SECRET_OF_A_URL.sub("***", text)


class UsbProviderError(Exception):
    """Base of all errors below; a command that lets one escape prints its message and exits with 1.

    No message contains the password of an address.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(masked(message))


class ConfigError(UsbProviderError):
    """The configuration or the command line is wrong; the caller should print *problems* and exit with 2.

    All mistakes that can be found are found before this is raised, so that an operator repairs a file once.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(_on_one_line(masked(each)) for each in problems)
        super().__init__("\n".join(self.problems))


class WrongRoot(ConfigError):
    """The configuration names the compute node of another host, or two hosts name the same.

    The caller should write nothing, say so, and try again later.
    """


def _on_one_line(text: str) -> str:
    """*text* with what a terminal would act on as escapes: it may be a part of the operator's file."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


class UnknownArgument(UsbProviderError):
    """A name that the caller gave does not exist, or names something else; the caller should name another."""


class NotPossibleNow(UsbProviderError):
    """What the caller asks for exists, and its state forbids the change; the caller should show why."""


class Unavailable(UsbProviderError):
    """A neighbouring service does not answer, or cannot do it now; the caller should back off and try again."""


class NoEndpoint(Unavailable):
    """The cloud's catalogue has no such service; the caller should do without it, or say so and try again later."""


class AccessRefused(Unavailable):
    """A neighbouring service does not accept our credentials or role.

    An operator has to act, but may do so while we run: the caller should say so and try again with backoff.

    :ivar lacks_role: the service accepts our credentials, but our role is not enough.
    """

    def __init__(self, message: str, *, lacks_role: bool = False) -> None:
        self.lacks_role = lacks_role
        super().__init__(message)


class RootMissing(Unavailable):
    """Nova's compute node provider is not in Placement (yet); the caller should wait for it, never create it."""


class Incompatible(UsbProviderError):
    """The service lacks something, such as a microversion, so that trying again cannot help."""


class PlacementConflict(UsbProviderError):
    """Placement refused a write because of its current data; *code* is Placement's own error code.

    :ivar provider_uuid: the provider that the write was for.
    :ivar code: such as ``placement.concurrent_update``; empty when the answer carried none.
    """

    def __init__(self, message: str, *, provider_uuid: str = "", code: str = "") -> None:
        self.provider_uuid = provider_uuid
        self.code = code
        super().__init__(message)


class Conflict(PlacementConflict):
    """Placement changed after we looked; the caller should observe again and make a new plan."""


class InUse(PlacementConflict):
    """The inventory or provider has allocations; the caller should keep it and observe again."""


class NameTaken(PlacementConflict):
    """Another provider in the cloud has this name; if it still has after another look, tell the operator."""


class UnknownName(PlacementConflict):
    """A trait or resource class no longer exists; the caller should forget the names it knows and plan again."""


class AttachRefused(UsbProviderError):
    """libvirt did not attach or detach the device; the caller should report it and try again with backoff."""


class PortRefused(AttachRefused):
    """The guest's USB port that was asked for is taken or not there; the caller should let libvirt choose one."""


class DeviceGone(UsbProviderError):
    """The guest has ended or the device was unplugged meanwhile; the caller should look again."""
