"""Asks the agent that runs on this host, on the socket that libvirt's hook uses."""

import socket
import time
from pathlib import Path

from usb_provider.exception import Unavailable
from usb_provider.virt.protocol import StatusAnswer, StatusQuestion, encode_question, parse_answer

ANSWER_SECONDS = 5.0
"""How long a command waits for the agent, which answers it at once where it answers at all."""


def ask_agent(path: Path, timeout: float = ANSWER_SECONDS) -> StatusAnswer:
    """What the running agent says of its guests.

    :raises Unavailable: when no agent answers on the socket at *path* within *timeout* seconds.
    """
    try:
        data = _asked(path, encode_question(StatusQuestion()), time.monotonic() + timeout)
    except PermissionError as error:
        raise Unavailable(
            f"This user may not ask the agent at {path}; run this as root or as the agent's user."
        ) from error
    except OSError as error:
        why = error.strerror or error
        raise Unavailable(
            f"No agent answers at {path} ({why}); systemctl restart usb-provider-agent starts it."
        ) from error
    if not data:
        raise Unavailable(f"The agent at {path} does not answer this user; run this as root or as the agent's user.")
    try:
        answer = parse_answer(data)
    except ValueError:
        answer = None
    if not isinstance(answer, StatusAnswer):
        raise Unavailable(f"The process that answers at {path} is not the agent; choose another [hook]socket.")
    return answer


def _asked(path: Path, question: bytes, deadline: float) -> bytes:
    """The answer, as far as it comes before *deadline*, which is by time.monotonic()."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:

        def hurry() -> None:
            agent.settimeout(max(0.01, deadline - time.monotonic()))

        hurry()
        agent.connect(str(path))
        hurry()
        agent.sendall(question)
        agent.shutdown(socket.SHUT_WR)
        answer = bytearray()
        while True:
            if time.monotonic() > deadline:
                raise TimeoutError("timed out")
            hurry()
            part = agent.recv(1 << 16)
            if not part:
                return bytes(answer)
            answer += part
