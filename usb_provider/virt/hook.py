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

OUR_ALIAS = re.compile(r"""<alias\s+name=['"]ua-usb-""")
ASKS = re.compile(
    r"<(?:[A-Za-z0-9_]+:)?extraSpec\s+name=['\"]resources[A-Za-z0-9_-]{0,64}:CUSTOM_USB_[A-Z0-9_]*['\"]\s*>\s*0*[1-9]"
)


def ask(message: dict[str, str], deadline: float) -> dict[str, object]:
    """Send *message* to the agent and give its answer, a dictionary.

    :raises OSError: when there is no agent, or it is slow. :raises ValueError: when the answer is not an object.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
        agent.settimeout(max(0.05, deadline - time.monotonic()))
        while True:
            try:
                agent.connect(SOCKET)
                break
            except BlockingIOError:  # more calls than the agent's socket holds
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        agent.sendall(json.dumps(message).encode())
        agent.shutdown(socket.SHUT_WR)
        answer = b""
        while True:
            agent.settimeout(max(0.05, deadline - time.monotonic()))
            part = agent.recv(1 << 16)
            if not part:
                break
            answer += part
    value = json.loads(answer)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def main(argv: list[str]) -> int:
    """Carry one operation to the agent, and give the exit code that libvirt acts on."""
    if len(argv) < 3:
        return 0
    name, operation = argv[1], argv[2]
    deadline = time.monotonic() + TIMEOUT
    text = sys.stdin.buffer.read().decode("utf-8", "replace")
    try:
        answer = ask({"operation": operation, "guest": name, "xml": text}, deadline)
    except (OSError, ValueError) as error:
        return without_agent(operation, text, error)
    if answer.get("refuse"):
        sys.stderr.write("usb-provider: " + str(answer["refuse"]) + "\n")
        return 1 if operation in ("prepare", "migrate", "restore") else 0
    if answer.get("xml") and operation in ("migrate", "restore"):
        # Not by the locale: what came was read as UTF-8.
        sys.stdout.buffer.write(str(answer["xml"]).encode())
    return 0


def without_agent(operation: str, text: str, error: Exception) -> int:
    """The exit code when the agent cannot be asked: refuse only a guest that could get a wrong device, or none."""
    why = f"the agent did not answer ({SOCKET}: {error}); see systemctl status usb-provider-agent"
    if operation in ("migrate", "restore") and OUR_ALIAS.search(text):
        sys.stderr.write(f"usb-provider: the guest has USB devices that must be attached again, but {why}\n")
        return 1
    if operation == "prepare" and ASKS.search(text):
        sys.stderr.write(f"usb-provider: the flavor asks for a USB device, but {why}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
