"""The check of the agent's socket: whether the agent answers libvirt's hook there."""

import dataclasses
import stat
from dataclasses import dataclass
from pathlib import Path

from usb_provider.diagnosis.check import Check, Finding
from usb_provider.diagnosis.context import Context, Maybe, Reading, Unknown
from usb_provider.exception import Unavailable
from usb_provider.virt.protocol import StatusAnswer

_SOCKET_MODE = 0o660


@dataclass(frozen=True, slots=True)
class SocketFacts:
    """The agent's socket: what is at its path, with which mode, and why the agent does not answer, if it does not.

    *said* is what the agent answers; None when no agent does.
    """

    path: str
    exists: bool
    is_socket: bool = False
    mode: int = 0
    error: str | None = None
    denied: bool = False
    said: StatusAnswer | None = None


def _read(context: Context) -> SocketFacts:
    there = socket_file(context.options.hook.socket)
    if not there.is_socket:
        return there
    try:
        return dataclasses.replace(there, said=context.neighbours.agent())
    except Unavailable as error:
        denied = isinstance(error.__cause__, PermissionError)
        return dataclasses.replace(there, error=str(error.__cause__ or error), denied=denied)


_SOCKET = Reading("socket", _read)


def hook_called_at(context: Context) -> float | None:
    """When a hook last asked the agent, in seconds since 1970; None when never or when no agent answers."""
    said = agent_says(context)
    return None if isinstance(said, Unknown) else said.hook_called_at


def agent_says(context: Context) -> Maybe[StatusAnswer]:
    """What the running agent says of its guests and of the hook."""
    answer = context.get(_SOCKET)
    if isinstance(answer, Unknown):
        return answer
    return Unknown("No agent answers that could be asked.") if answer.said is None else answer.said


class SocketCheck(Check[SocketFacts]):
    """Whether the agent answers the hook."""

    name = "socket"
    of_guests = True

    def read(self, context: Context) -> Maybe[SocketFacts]:
        """What is at the path, and what answers there."""
        return context.get(_SOCKET)

    def judge(self, facts: SocketFacts) -> Finding:
        """Not there, no socket, no agent, or with another mode."""
        # Not "start", which does nothing where the unit is active: the agent may hang, or its directory may be gone.
        start = "systemctl restart usb-provider-agent; systemctl status usb-provider-agent says why it does not run."
        if facts.denied:
            return self.not_checked(f"This user may not use {facts.path}: run this as root or as the agent's user.")
        if not facts.exists:
            return self.wrong(f"{facts.path} is not there, so no agent runs that the hook could ask.", start)
        if not facts.is_socket:
            return self.wrong(f"{facts.path} is no socket.", "Remove it, then systemctl restart usb-provider-agent.")
        if facts.error is not None:
            return self.wrong(f"The agent does not answer at {facts.path}: {facts.error}", start)
        if facts.mode != _SOCKET_MODE:
            return self.wrong(
                f"{facts.path} has mode {facts.mode:04o}, and the agent gives it {_SOCKET_MODE:04o}.",
                "systemctl restart usb-provider-agent, and find out what changes the mode.",
            )
        return self.ok(f"The agent answers at {facts.path}.")


def socket_file(path: Path) -> SocketFacts:
    """What is at the agent's socket; this does not ask whether the agent answers."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return SocketFacts(str(path), exists=False)
    except PermissionError:
        return SocketFacts(str(path), exists=True, denied=True)
    return SocketFacts(str(path), exists=True, is_socket=stat.S_ISSOCK(mode), mode=stat.S_IMODE(mode))
