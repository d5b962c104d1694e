#!/bin/sh
""":"
case "$2" in prepare|started|migrate|restore) exec python3 -I -S "$0" "$@" ;; *) exit 0 ;; esac
":"""

"""libvirt's QEMU hook: a messenger. Installed by "usb-provider install-hook" as /etc/libvirt/hooks/qemu.d/usb-provider.

The shell reads the first lines, so that an operation that does not concern us costs no Python; Python takes the same
lines for a string. Of the rest libvirt demands much (https://libvirt.org/hooks.html), and each demand is a rule here:

* never call libvirt: it waits for us, and would deadlock;
* print nothing, but the rewritten XML at migrate and restore: the scripts of qemu.d are chained as filters;
* never fail at "restore", and at the "prepare" that follows it: Nova deletes the save file of a guest that is refused;
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
import xml.etree.ElementTree as ET

SOCKET = "/run/usb-provider/hook.sock"
TIMEOUT = 30.0
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 1.0
PATIENCE = 6.0
"""Seconds for a call that needs no agent: one that hangs holds up no server without USB for longer."""

ALIAS_PREFIX = "ua-usb-"
OUR_ALIAS = re.compile(r"""<alias\s+name=['"]ua-usb-""")
ASKS = re.compile(
    r"<(?:[A-Za-z0-9_]+:)?extraSpec\s+name=['\"]resources[A-Za-z0-9_-]{0,64}:CUSTOM_USB_[A-Z0-9_]*['\"]\s*>\s*0*[1-9]"
)
NOWHERE_BUS = 255
"""Above bus 001 and device 127 no real device is found (USB 2.0, 9.1.1: addresses are seven bits)."""
RESTORED = "{urn:usb-provider:restored}restored"
"""In the metadata of a guest that comes from a save file: without it, its "prepare" looks like that of a new start."""


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
    """Send *message* to the agent, with the seconds that are left for it, and give what it answers.

    :raises OSError: when there is no agent, it is slow, or it ends without an answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
        agent.settimeout(max(0.05, deadline - time.monotonic()))
        agent.connect(SOCKET)
        left = max(0.0, deadline - time.monotonic())
        agent.sendall(json.dumps(dict(message, seconds=round(left, 3))).encode())
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
        answer = without_agent(operation, text, error)
    if operation == "restore" and "refuse" in answer:  # an agent of an older release
        answer = restored(text)
    if answer.get("refuse"):
        sys.stderr.write("usb-provider: " + str(answer["refuse"]) + "\n")
        return 1 if operation in ("prepare", "migrate") else 0
    if answer.get("xml") and operation in ("migrate", "restore"):
        # Not by the locale: what came was read as UTF-8.
        sys.stdout.buffer.write(str(answer["xml"]).encode())
    return 0


def needs_agent(operation: str, text: str) -> bool:
    """Whether libvirt must not go on without the agent's word: the guest could get a wrong device, or none.

    A restore needs none: where it is refused, Nova deletes the save file, and the guest's memory is lost.
    """
    if operation == "migrate":
        return OUR_ALIAS.search(text) is not None
    return operation == "prepare" and ASKS.search(text) is not None and not comes_from_save_file(text)


def without_agent(operation: str, text: str, error: Exception) -> "dict[str, object]":
    """The answer where the agent cannot be asked."""
    if operation == "restore":
        return restored(text)
    if not needs_agent(operation, text):
        return {}
    what = "the guest has USB devices that must be attached again"
    if operation == "prepare":
        what = "the flavor asks for a USB device"
    why = f"the agent did not answer ({SOCKET}: {error}); see systemctl status usb-provider-agent"
    return {"refuse": f"{what}, but {why}"}


def restored(text: str) -> "dict[str, object]":
    """The answer to a restore, as the agent gives it."""
    try:
        rewritten = with_placeholders(text, is_restore=True)
    except ET.ParseError:
        return {}
    return {} if rewritten is None else {"xml": rewritten}


def with_placeholders(text: str, is_restore: bool = False) -> "str | None":
    """*text* with each of our hostdevs turned into one that needs no device; None when there is nothing to change.

    For restore and for the destination of a migration, where QEMU drops every host device, and where libvirt would
    take whatever is at the old address now. Alias, guest address and the number of hostdevs stay, since libvirt
    compares them; ids go, and the address is one at which nothing can be: one apart from the other, since libvirt
    refuses two hostdevs with one address. At a restore, a guest that has or wants USB devices is marked (RESTORED).

    :raises ET.ParseError: when *text* is not XML.
    """
    root = ET.fromstring(text)
    ours = our_hostdevs(root)
    for number, element in enumerate(ours):
        for source in element.findall("source"):
            element.remove(source)
        source = ET.Element("source", startupPolicy="optional")
        ET.SubElement(source, "address", bus=str(NOWHERE_BUS), device=str(NOWHERE_BUS - number))
        element.insert(0, source)
    if is_restore and (ours or ASKS.search(text)):
        metadata = root.find("metadata")
        if metadata is None:
            metadata = ET.SubElement(root, "metadata")
        if metadata.find(RESTORED) is None:
            ET.SubElement(metadata, RESTORED)
    elif not ours:
        return None
    return ET.tostring(root, encoding="unicode")


def comes_from_save_file(text: str) -> bool:
    """Whether a domain that is to start is marked as restored, or has a placeholder.

    A guest that arrives by a live migration has placeholders too; the agent tells the two apart by the call of
    "migrate" that comes first.
    """
    try:
        root = ET.fromstring(text)
    except ET.ParseError:
        return False
    addresses = [element.find("source/address") for element in our_hostdevs(root)]
    placeholders = [each for each in addresses if each is not None and each.get("bus") == str(NOWHERE_BUS)]
    return bool(placeholders) or root.find("metadata/" + RESTORED) is not None


def our_hostdevs(root: ET.Element) -> "list[ET.Element]":
    """The USB hostdevs of a domain that carry our alias."""
    found = []
    for element in root.iter("hostdev"):
        alias = element.find("alias")
        if element.get("type") == "usb" and alias is not None and alias.get("name", "").startswith(ALIAS_PREFIX):
            found.append(element)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv))
