"""Every error that one part of the project raises for another, each named after the caller's next step.

A message is one sentence for an operator: what is wrong, where, and what to do. Nothing here performs I/O, and
nothing here is raised to mean "false" or "none".
"""

from collections.abc import Sequence


class UsbProviderError(Exception):
    """Base of all errors below; a command that lets one escape prints its message and exits with 1."""


class ConfigError(UsbProviderError):
    """The configuration or the command line is wrong; the caller should print *problems* and exit with 2.

    All mistakes that can be found are found before this is raised, so that an operator repairs a file once.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class UnknownArgument(UsbProviderError):
    """What the caller named does not exist, or is not what it was named for; the caller should name another."""


class Unavailable(UsbProviderError):
    """A neighbour does not answer, or answers that it cannot now; the caller should back off and try again."""


class AccessRefused(Unavailable):
    """A neighbour does not accept our credentials or role.

    An operator has to act, but may do so while we run: the caller should say so and try again with backoff.

    :ivar lacks_role: the neighbour knows who we are, and our role does not do.
    """

    def __init__(self, message: str, *, lacks_role: bool = False) -> None:
        self.lacks_role = lacks_role
        super().__init__(message)


class RootMissing(Unavailable):
    """Nova's compute node provider is not in Placement (yet); the caller should wait for it, never create it."""


class Incompatible(UsbProviderError):
    """The neighbour answers in a way that trying again cannot mend, such as a microversion that it lacks."""


class PlacementConflict(UsbProviderError):
    """A write was refused because of what Placement holds; *code* is Placement's own error code.

    :ivar provider_uuid: the provider that was to be written.
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
    """Another provider in the cloud has this name; if that is still so after another look, tell the operator."""


class UnknownName(PlacementConflict):
    """A trait or resource class was deleted under us; the caller should forget the names it knows and plan again."""


class AttachRefused(UsbProviderError):
    """libvirt does not attach or detach; the caller should report it and try again with backoff."""


class DeviceGone(UsbProviderError):
    """The guest or the device went away meanwhile; the caller should look again."""
