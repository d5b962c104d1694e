"""The commands ``plan`` and ``sync``: one reporting pass, printed, or applied and printed.

Both read every provider in full. So they also find at once what an agent that has just started finds some passes later.
"""

import argparse

from usb_provider.cmd import output
from usb_provider.cmd.configuration import read_configuration
from usb_provider.cmd.setup import reporter, this_host
from usb_provider.model.reporting.plan import action_json

PLAN_TEXT = """\
Print what a reporting pass would change in Placement. Nothing is changed.

The plan is what "usb-provider sync" applies and the agent repeats: providers to create, their traits and inventories,
in the order in which they are written."""

SYNC_TEXT = """\
Make one reporting pass: bring the providers of this host in Placement in line with its USB devices.

Safe to repeat, also beside a running agent."""


def declare_plan(command: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``plan``."""
    command.add_argument("--json", action="store_true", help='print {"root": …, "actions": [{"action": …}, …]}')


def declare_sync(command: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``sync``."""
    command.add_argument(
        "--json", action="store_true", help='print {"root": …, "actions": […], "requests": …, "seconds": …}'
    )
    command.add_argument("--dry-run", action="store_true", help='change nothing: the same as "usb-provider plan"')


def run_plan(arguments: argparse.Namespace) -> int:
    """Print the plan."""
    from usb_provider.host.udev import UdevHost

    conf, options = read_configuration(arguments)
    with reporter(conf, options, UdevHost(), this_host=this_host(options)) as report:
        seen = report.preview()
    plan = seen.plan
    if arguments.json:
        output.print_json(
            {
                "root": {"uuid": plan.root.uuid, "name": plan.root.name},
                "actions": [action_json(action) for action in plan.actions],
                "notes": [note.text for note in seen.notes],
            }
        )
    else:
        output.print_actions(plan.root, plan.actions, seen.notes, done=False)
    return 0


def run_sync(arguments: argparse.Namespace) -> int:
    """Apply one pass; 1 when something could not be reported."""
    from usb_provider.host.udev import UdevHost

    if arguments.dry_run:
        return run_plan(arguments)
    conf, options = read_configuration(arguments)
    with reporter(conf, options, UdevHost(), this_host=this_host(options)) as report:
        done = report.run()
    if arguments.json:
        output.print_json(
            {
                "root": {"uuid": done.root.uuid, "name": done.root.name},
                "actions": [action_json(action) for action in done.actions],
                "notes": [note.text for note in done.notes],
                "requests": done.requests,
                "seconds": round(done.seconds, 3),
            }
        )
    else:
        output.print_actions(done.root, done.actions, done.notes, done=True)
        output.say(f"{done.requests} requests, {done.seconds:.2f} s.")
    return 1 if any(note.blocks for note in done.notes) else 0
