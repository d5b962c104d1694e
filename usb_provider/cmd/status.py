"""The command ``status``: what each guest on this host should have, what it has, and why (not)."""

import argparse
import datetime

from rich.text import Text

from usb_provider.cmd import output
from usb_provider.cmd.configuration import own_options
from usb_provider.cmd.running_agent import ask_agent
from usb_provider.model.binding.status import BindingState
from usb_provider.model.text import printable
from usb_provider.virt.protocol import guest_json

TEXT = """\
Show the guests of this host that hold USB devices: which device each should have, whether it has it, since when, and
what stands in the way. Starts that were refused are among them, with the sentence that was said; and where the server
lacked only something that comes by itself, with the command that starts it then.

Asks the running agent on its socket ([hook]socket), so it wants root or the agent's user."""


def declare(command: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``status``."""
    command.add_argument("--json", action="store_true", help="print a list of guests with their devices")


def run(arguments: argparse.Namespace) -> int:
    """Ask the agent and print."""
    options = own_options(arguments)
    guests = ask_agent(options.hook.socket).guests
    if arguments.json:
        output.print_json([guest_json(guest) for guest in guests])
        return 0
    table = output.table("Guest", "Device", "State", "Since", "Why")
    for guest in guests:
        name = Text(printable(guest.name or guest.uuid))
        for device in guest.devices:
            style = "green" if device.state is BindingState.ATTACHED else "yellow"
            table.add_row(
                name,
                Text(device.provider_name),
                Text(device.state.value, style=style),
                Text(_moment(device.since)),
                Text(device.reason or ""),
            )
        if guest.refused is not None:
            refused = guest.refused
            table.add_row(
                name, Text("-"), Text("refused", style="red"), Text(_moment(refused.since)), Text(refused.reason)
            )
    if not guests:
        output.say("No guest on this host holds a USB device.")
    else:
        output.console().print(table)
    for guest in guests:
        if guest.refused is not None and guest.refused.command is not None:
            output.say(
                f"When what {printable(guest.name or guest.uuid)} lacks is there, start it: {guest.refused.command}"
            )
    return 0


def _moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
