#!/bin/sh
""":"
case "$2" in
    started) python3 -I -S "$0" "$@" 2>/dev/null; exit 0 ;;
    prepare|migrate|restore|check) ;;
    *) exit 0 ;;
esac
classes='CUSTOM_USB_[A-Z0-9_]*'
LC_ALL=C
export LC_ALL
domain=$(cat; echo .) 2>/dev/null
domain=${domain%.}
exec 3>&1
{ said=$(printf %s "$domain" 2>/dev/null | python3 -I -S "$0" "$@" 2>&1 >&3); code=$?; } 2>/dev/null
case $code in
    0) exit 0 ;;
    3) printf '%s\n' "$said" >&2; exit 1 ;;
esac
newline='
'
last=${said##*"$newline"}
why="python3 ended with $code${last:+: $last}"
refuse() { printf '%s\n' "usb-provider: $1, but the hook cannot run on this host ($why)." >&2; exit 1; }
ours="*<alias name=?ua-usb-????????-????-????-????-????????????*"
wants="<([A-Za-z0-9_]+:)?extraSpec +name=.resources[A-Za-z0-9_-]*:($classes). *> *0*[1-9]"
case $2 in
    prepare)
        case $domain in $ours|*urn:usb-provider:restored*) exit 0 ;; *:CUSTOM_*) ;; *) exit 0 ;; esac
        printf %s "$domain" 2>/dev/null | grep -Eq "$wants"
        case $? in 1) exit 0 ;; *) refuse 'the flavor asks for a USB device' ;; esac ;;
    migrate) case $domain in $ours) refuse 'the guest has USB devices that must be attached again' ;; esac ;;
    check) printf '%s\n' "$why" >&2; exit 1 ;;
esac
exit 0
":"""

"""libvirt's QEMU hook: a messenger. Installed by "usb-provider install-hook" as /etc/libvirt/hooks/qemu.d/usb-provider.

A shell runs the first lines, and Python takes them for a string. The shell ends an operation that does not concern us
without Python, and it decides where Python cannot run: it refuses only a guest whose flavor asks for a USB device, or
that arrives with one. It keeps the domain in a variable, since libvirt may be allowed to write no file. At "started"
there is nothing to decide, so it keeps nothing. A refusal of Python ends with REFUSED, which no failure of the
interpreter does.

Of the rest libvirt demands much (https://libvirt.org/hooks.html), and each demand is a rule here:

* never call libvirt: it waits for us, and would deadlock;
* print nothing, but the rewritten XML at migrate and restore: the scripts of qemu.d are chained as filters;
* never fail at "restore", and at the "prepare" that follows it: Nova deletes the save file of a guest that is refused;
* leave no child behind that holds our pipes: libvirt waits for their end;
* take no longer than TIMEOUT seconds in all: libvirt waits without an end of its own;
* exit with 0 at "reconnect", whatever happens: a failure there kills the guest. It is not even looked at.

Uses the standard library alone, of Python 3.6 or newer, and knows nothing of the rest of the project, since libvirt may
run in a container of its own. The operation "check" is of "usb-provider install-hook" and "usb-provider doctor": it
says that Python runs, and whether the agent answers.
"""

import contextlib
import json
import os
import re
import socket
import stat
import struct
import sys
import time

MYPY = False  # mypy takes it for true; typing and ElementTree would take a fifth of Python's start
if MYPY:
    from xml.etree.ElementTree import Element

SOCKET = "/run/usb-provider/hook.sock"
TIMEOUT = 30.0
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 1.0
PATIENCE = 6.0
"""Seconds for a call that needs no agent: one that hangs holds up no server without USB for longer."""

REFUSED = 3
"""How Python ends to refuse; the shell makes 1 of it."""
LONGEST_ANSWER = 16 << 20
"""In bytes. libvirt takes no domain of more than four megabytes."""

CLASSES = "CUSTOM_USB_[A-Z0-9_]*"
"""The resource classes of USB devices, as a regular expression: those of our own, and those that rules give."""
OUR_ALIAS = re.compile(r"ua-usb-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?:-[0-9A-Za-z_-]+)?\Z")
"""An alias of ours: with the UUID of a provider, and perhaps with the name of a part of it."""


def asks_for(classes: str) -> "re.Pattern[str]":
    """What a domain has whose flavor asks for a device of *classes*, a regular expression."""
    return re.compile(
        r"<(?:[A-Za-z0-9_]+:)?extraSpec\s+name=['\"]resources[A-Za-z0-9_-]{0,64}:(?:"
        + classes
        + r")['\"]\s*>\s*0*[1-9]"
    )


ASKS = asks_for(CLASSES)
NOWHERE_BUS = 255
"""Above bus 001 and device 127 no real device is found (USB 2.0, 9.1.1: addresses are seven bits)."""
RESTORED = "{urn:usb-provider:restored}restored"
"""In the metadata of a guest that comes from a save file: without it, its "prepare" looks like that of a new start."""


def ask(message: "dict[str, object]", deadline: float, again_until: float) -> "dict[str, object]":
    """Send *message* to the agent and give its answer, a dictionary.

    While no agent listens, as in a restart, it is tried again until *again_until*.

    :raises OSError: when no agent has answered in time. :raises ValueError: when the answer is not an agent's.
    """
    pause = FIRST_PAUSE
    while True:
        try:
            return parsed(ask_once(message, deadline))
        except (FileNotFoundError, ConnectionError, BlockingIOError):
            # No socket, no listener, an agent that ended before it answered, or more calls than the socket holds.
            left = again_until - time.monotonic()
            if left <= 0:
                raise
            time.sleep(min(pause, left))
            pause = min(2 * pause, LONGEST_PAUSE)


def parsed(answer: bytes) -> "dict[str, object]":
    """The answer as a dictionary, in which "refuse" and "xml" are texts that can be written.

    :raises ValueError: when it is not an agent's.
    """
    try:
        value = json.loads(answer.decode())
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("it is not an object")
    for text in (value.get("refuse", ""), value.get("xml", "")):
        if not isinstance(text, str):
            raise ValueError("it is not a text")
        text.encode()
    return value


def ask_once(message: "dict[str, object]", deadline: float) -> bytes:
    """Send *message* to the agent, with the seconds that are left for it, and give what it answers.

    :raises OSError: when there is no agent, it is slow, it ends without an answer, or it is not to be trusted.
    :raises ValueError: when the answer does not end.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
        agent.settimeout(max(0.05, deadline - time.monotonic()))
        agent.connect(SOCKET)
        check_peer(agent)
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
            if len(answer) > LONGEST_ANSWER:
                raise ValueError("it is too long")
    if not answer:
        raise ConnectionResetError("it ended the connection before it answered")
    return answer


def check_peer(agent: socket.socket) -> None:
    """Make sure that who listens is the agent: by the kernel (unix(7)), a process of root, or of the user whose the
    directory of the socket is. Where only that user, root and a group may write the directory, the owner of the socket
    counts as well.

    :raises PermissionError: when it is another process, which made a socket in the agent's place.
    """
    size = struct.calcsize("3i")
    _, user, _ = struct.unpack("3i", agent.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    directory = os.stat(os.path.dirname(SOCKET))
    trusted = {0, directory.st_uid}
    if not directory.st_mode & stat.S_IWOTH:
        trusted.add(os.lstat(SOCKET).st_uid)
    if user not in trusted:
        raise PermissionError(f"a process of user {user} listens there, which is not the agent's user")


def main(argv: "list[str]") -> int:
    """Carry one operation to the agent, and give the exit code that the shell acts on."""
    if len(argv) < 3:
        return 0
    name, operation = argv[1], argv[2]
    began = time.monotonic()
    text = sys.stdin.buffer.read().decode("utf-8", "replace")
    if operation == "check":
        return check(text, began)
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
        return REFUSED if operation in ("prepare", "migrate") else 0
    if answer.get("xml") and operation in ("migrate", "restore"):
        # Not by the locale: what came was read as UTF-8.
        sys.stdout.buffer.write(str(answer["xml"]).encode())
    return 0


def check(text: str, began: float) -> int:
    """Do what other operations do, for the sample domain *text*, and print in one line of JSON how that went."""
    rewritten = with_placeholders(text, is_restore=True)
    if rewritten is None or not comes_from_save_file(rewritten):
        raise RuntimeError("the sample domain was not rewritten")
    problem = None
    try:
        ask({"operation": "check", "guest": "", "xml": ""}, began + min(TIMEOUT, PATIENCE), began)
    except (OSError, ValueError) as error:
        problem = str(error)
    sys.stdout.write(json.dumps({"python": sys.version.split()[0], "problem": problem}) + "\n")
    return 0


def needs_agent(operation: str, text: str) -> bool:
    """Whether libvirt must not go on without the agent's word: the guest could get a wrong device, or none.

    A restore needs none: where it is refused, Nova deletes the save file, and the guest's memory is lost.
    """
    if operation == "migrate":
        return has_ours(text)
    return operation == "prepare" and ASKS.search(text) is not None and not comes_from_save_file(text)


def has_ours(text: str) -> bool:
    """Whether the domain has a hostdev of ours; what is no XML has none."""
    try:
        return bool(our_hostdevs(tree(text)))
    except SyntaxError:
        return False


def without_agent(operation: str, text: str, error: Exception) -> "dict[str, object]":
    """The answer where the agent cannot be asked."""
    if operation == "restore":
        return restored(text)
    if not needs_agent(operation, text):
        return {}
    what = "the guest has USB devices that must be attached again"
    if operation == "prepare":
        what = "the flavor asks for a USB device"
    note(f"The agent did not answer at {SOCKET}: {error}.")
    return {"refuse": f"{what}, but the agent did not answer; the compute node's system log says why"}


def note(text: str) -> None:
    """Write to the system's log what is for the operator alone: Nova shows a refusal to the owner of the server."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log, contextlib.suppress(OSError):
        log.setblocking(False)  # as syslog(3) is not, and libvirt waits for us
        log.connect("/dev/log")
        log.send(b"<28>usb-provider-hook: " + text.encode("ascii", "backslashreplace"))


def restored(text: str) -> "dict[str, object]":
    """The answer to a restore, as the agent gives it."""
    try:
        rewritten = with_placeholders(text, is_restore=True)
    except (SyntaxError, RecursionError):  # nested deeper than Python writes it
        return {}
    return {} if rewritten is None else {"xml": rewritten}


def with_placeholders(text: str, is_restore: bool = False, asks: "re.Pattern[str]" = ASKS) -> "str | None":
    """*text* with each of our hostdevs turned into one that needs no device; None when there is nothing to change.

    For restore and for the destination of a migration, where QEMU drops every host device, and where libvirt would
    take whatever is at the old address now. Alias, guest address and the number of hostdevs stay, since libvirt
    compares them; ids go, and the address is one at which nothing can be: one apart from the other, since libvirt
    refuses two hostdevs with one address. At a restore, a guest that has USB devices or *asks* for some is marked.

    :raises SyntaxError: when *text* is not XML.
    """
    import xml.etree.ElementTree as ET

    root = tree(text)
    ours = our_hostdevs(root)
    for number, element in enumerate(ours):
        for source in element.findall("source"):
            element.remove(source)
        source = ET.Element("source", startupPolicy="optional")
        ET.SubElement(source, "address", bus=str(NOWHERE_BUS), device=str(NOWHERE_BUS - number))
        element.insert(0, source)
    if is_restore and (ours or asks.search(text)):
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
        root = tree(text)
    except SyntaxError:
        return False
    addresses = [element.find("source/address") for element in our_hostdevs(root)]
    placeholders = [each for each in addresses if each is not None and each.get("bus") == str(NOWHERE_BUS)]
    return bool(placeholders) or root.find("metadata/" + RESTORED) is not None


def tree(text: str) -> "Element":
    """The domain as an XML tree. :raises SyntaxError: when *text* is not XML; that of ElementTree is a kind of it."""
    import xml.etree.ElementTree as ET

    return ET.fromstring(text)


def our_hostdevs(root: "Element") -> "list[Element]":
    """The USB hostdevs of a domain that carry our alias."""
    found = []
    for element in root.iter("hostdev"):
        alias = element.find("alias")
        if element.get("type") == "usb" and alias is not None and OUR_ALIAS.match(alias.get("name", "")):
            found.append(element)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv))
