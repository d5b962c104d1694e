#!/bin/sh
""":"
case "$2" in prepare|started|migrate|restore) exec python3 -I -S "$0" "$@" ;; *) exit 0 ;; esac
":"""

"""libvirt's QEMU hook: a messenger. Installed by "usb-provider install-hook" as /etc/libvirt/hooks/qemu.d/usb-provider.

The shell reads the first lines, so that an operation that does not concern us costs no Python; Python takes the same
lines for a string. Of the rest libvirt demands much (https://libvirt.org/hooks.html), and each demand is a rule here:

* never call libvirt: it waits for us, and would deadlock;
* print nothing, but the rewritten XML at migrate and restore: the scripts of qemu.d are chained as filters;
* leave no child behind that holds our pipes: libvirt waits for their end;
* take no longer than TIMEOUT seconds in all: libvirt waits without an end of its own;
* exit with 0 at "reconnect", whatever happens: a failure there kills the guest. It is not even looked at.

Uses the standard library alone and knows nothing of the rest of the project, since libvirt may run in a container
of its own.
"""

import json
import re
import socket
import sys
import time

SOCKET = "/run/usb-provider/hook.sock"
TIMEOUT = 3.0
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 1.0
PATIENCE = 6.0
"""Seconds for a call that needs no agent: one that hangs holds up no server without USB for longer."""

OUR_ALIAS = re.compile(r"""<alias\s+name=['"]ua-usb-""")
ASKS = re.compile(
    r"<(?:[A-Za-z0-9_]+:)?extraSpec\s+name=['\"]resources[A-Za-z0-9_-]{0,64}:CUSTOM_USB_[A-Z0-9_]*['\"]\s*>\s*0*[1-9]"
)


def ask(message: "dict[str, object]", deadline: float, again_until: float) -> "dict[str, object]":
    """Send *message* to the agent and give its answer, a dictionary.

    While no agent listens, as in a restart, it is tried again until *again_until*.

    :raises OSError: when no agent has answered in time. :raises ValueError: when the answer is not an object.
    """
    pause = FIRST_PAUSE
    while True:
        try:
            value = json.loads(ask_once(message, deadline))
            break
        except (FileNotFoundError, ConnectionError, BlockingIOError):
            # No socket, no listener, an agent that ended before it answered, or more calls than the socket holds.
            left = again_until - time.monotonic()
            if left <= 0:
                raise
            time.sleep(min(pause, left))
            pause = min(2 * pause, LONGEST_PAUSE)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def ask_once(message: "dict[str, object]", deadline: float) -> bytes:
    """Send *message* to the agent and give what it answers.

    :raises OSError: when there is no agent, it is slow, or it ends without an answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
        agent.settimeout(max(0.05, deadline - time.monotonic()))
        agent.connect(SOCKET)
        agent.sendall(json.dumps(message).encode())
        agent.shutdown(socket.SHUT_WR)
        answer = b""
        while True:
            agent.settimeout(max(0.05, deadline - time.monotonic()))
            part = agent.recv(1 << 16)
            if not part:
                break
            answer += part
    if not answer:
        raise ConnectionResetError("it ended the connection before it answered")
    return answer


def main(argv: "list[str]") -> int:
    """Carry one operation to the agent, and give the exit code that libvirt acts on."""
    if len(argv) < 3:
        return 0
    name, operation = argv[1], argv[2]
    began = time.monotonic()
    text = sys.stdin.buffer.read().decode("utf-8", "replace")
    needed = needs_agent(operation, text)
    deadline = began + (TIMEOUT if needed else min(TIMEOUT, PATIENCE))
    try:
        answer = ask({"operation": operation, "guest": name, "xml": text}, deadline, deadline if needed else began)
    except (OSError, ValueError) as error:
        return without_agent(operation, text, error)
    if answer.get("refuse"):
        sys.stderr.write("usb-provider: " + str(answer["refuse"]) + "\n")
        return 1 if operation in ("prepare", "migrate", "restore") else 0
    if answer.get("xml") and operation in ("migrate", "restore"):
        # Not by the locale: what came was read as UTF-8.
        sys.stdout.buffer.write(str(answer["xml"]).encode())
    return 0


def needs_agent(operation: str, text: str) -> bool:
    """Whether libvirt must not go on without the agent's word: the guest could get a wrong device, or none."""
    if operation in ("migrate", "restore"):
        return OUR_ALIAS.search(text) is not None
    return operation == "prepare" and ASKS.search(text) is not None


def without_agent(operation: str, text: str, error: Exception) -> int:
    """The exit code when the agent cannot be asked."""
    if not needs_agent(operation, text):
        return 0
    what = (
        "the flavor asks for a USB device"
        if operation == "prepare"
        else ("the guest has USB devices that must be attached again")
    )
    why = f"the agent did not answer ({SOCKET}: {error}); see systemctl status usb-provider-agent"
    sys.stderr.write(f"usb-provider: {what}, but {why}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv))
