"""Asks the agent that runs on this host, on the socket that libvirt's hook uses."""

import json
import socket
from pathlib import Path
from typing import Any

from usb_provider.exception import Unavailable


def ask_agent(path: Path, timeout: float) -> dict[str, Any]:
    """What the running agent says of its guests.

    :raises Unavailable: when no agent answers on the socket at *path* within *timeout* seconds.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
            agent.settimeout(timeout)
            agent.connect(str(path))
            agent.sendall(json.dumps({"operation": "status"}).encode())
            agent.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: agent.recv(1 << 16), b""))
        value = json.loads(answer)
    except (OSError, ValueError) as error:
        raise Unavailable(
            f"No agent answers at {path} ({error}); start it with systemctl start usb-provider-agent, or run this as "
            f"root."
        ) from error
    if not isinstance(value, dict) or not isinstance(value.get("guests"), list):
        raise Unavailable(f"What answers at {path} is not the agent; choose another [hook]socket.")
    return value
