"""The command ``status``: what each guest on this host should have, what it has, and why (not)."""

import argparse
import datetime
import json
import socket
from pathlib import Path
from typing import Any

from rich.text import Text

from usb_provider.cmd import output
from usb_provider.cmd.setup import read_configuration
from usb_provider.exception import Unavailable
from usb_provider.model.text import printable

TEXT = """\
Show the guests of this host that hold USB devices: which device each should have, whether it has it, since when, and
what stands in the way. Starts that were refused are among them, with the sentence that was said.

Asks the running agent on its socket ([hook]socket), so it wants root or the agent's user."""


def declare(command: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``status``."""
    command.add_argument("--json", action="store_true", help="print a list of guests with their devices")


def run(arguments: argparse.Namespace) -> int:
    """Ask the agent and print."""
    _, options = read_configuration(arguments, needs_placement=False)
    guests = ask_agent(options.hook.socket, options.hook.timeout)["guests"]
    if arguments.json:
        output.print_json(guests)
        return 0
    table = output.table("Guest", "Device", "State", "Since", "Why")
    for guest in guests:
        name = Text(printable(guest["name"] or guest["uuid"]))
        for device in guest["devices"]:
            style = "green" if device["state"] == "attached" else "yellow"
            table.add_row(
                name,
                Text(device["provider_name"]),
                Text(device["state"], style=style),
                Text(_moment(device["since"])),
                Text(device["reason"] or ""),
            )
        if "refused" in guest:
            refused = guest["refused"]
            table.add_row(
                name, Text("-"), Text("refused", style="red"), Text(_moment(refused["since"])), Text(refused["reason"])
            )
    if not guests:
        output.say("No guest on this host holds a USB device.")
    else:
        output.console().print(table)
    return 0


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
        raise Unavailable(f"What answers at {path} is not the agent.")
    return value


def _moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
