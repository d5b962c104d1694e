"""The command ``status``: what each guest on this host should have, what it has, and why (not)."""

import argparse
import datetime

from rich.text import Text

from usb_provider.cmd import output
from usb_provider.cmd.configuration import own_options
from usb_provider.cmd.running_agent import ask_agent
from usb_provider.model.binding.status import BindingState
from usb_provider.model.text import printable
from usb_provider.virt.protocol import StatusAnswer, guest_json, status_json

TEXT = """\
Show the guests of this host that hold USB devices: which device each should have, whether it has it, since when, and
what stands in the way. Starts that were refused are among them, with the sentence that was said; and where the server
lacked only something that comes by itself, with the command that starts it then. While the agent cannot read Placement
or libvirt, it says so, since when, and why.

Asks the running agent on its socket ([hook]socket), so it wants root or the agent's user."""


def declare(command: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``status``."""
    command.add_argument("--json", action="store_true", help="print a list of guests with their devices")
    command.add_argument(
        "--awaited",
        action="store_true",
        help='with --json, print {"guests": …, "awaited": …, "read_at": …, "hook_called_at": …}: what the agent waits '
        "for and when it last read Placement, too",
    )


def run(arguments: argparse.Namespace) -> int:
    """Ask the agent and print."""
    options = own_options(arguments)
    answer = ask_agent(options.hook.socket)
    guests = answer.guests
    if arguments.json:
        if arguments.awaited:
            output.print_json(status_json(answer))
        else:
            output.print_json([guest_json(guest) for guest in guests])
            _say_awaited(answer, error=True)
        return 0
    table = output.table("Guest", "Device", "State", "Port", "Since", "Why")
    for guest in guests:
        name = Text(printable(guest.name or guest.uuid))
        for device in guest.devices:
            style = "green" if device.state is BindingState.ATTACHED else "yellow"
            table.add_row(
                name,
                Text(device.provider_name if device.member is None else f"{device.provider_name} ({device.member})"),
                Text(device.state.value, style=style),
                Text(printable(device.guest_port or "")),
                Text(("at least since " if device.is_older else "") + _moment(device.since)),
                Text(device.reason or ""),
            )
        if guest.refused is not None:
            refused = guest.refused
            table.add_row(
                name,
                Text("-"),
                Text("refused", style="red"),
                Text(""),
                Text(_moment(refused.since)),
                Text(refused.reason),
            )
    if guests:
        output.console().print(table)
    elif not answer.awaited:
        output.say("No guest on this host holds a USB device.")
    else:
        output.say("The agent shows no guest, since it does not know which guests hold a USB device now.")
    _say_awaited(answer)
    for guest in guests:
        if guest.refused is not None and guest.refused.command is not None:
            output.say(
                f"When what {printable(guest.name or guest.uuid)} lacks is there, start it: {guest.refused.command}"
            )
    return 0


def _say_awaited(answer: StatusAnswer, *, error: bool = False) -> None:
    """What the agent does not know, and since when."""
    for each in answer.awaited:
        output.say(f"The agent has waited for {each.name} since {_moment(each.since)}: {each.said}", error=error)
    if answer.awaited and answer.read_at is not None:
        output.say(
            f"It last read Placement at {_moment(answer.read_at)}; who holds which device is as of then.", error=error
        )


def _moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
