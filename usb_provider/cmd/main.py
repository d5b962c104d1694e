"""The command line ``usb-provider``: finds the command, and turns what went wrong into sentences and an exit code.

Exit codes: 0 done, 1 a neighbour failed, 2 bad input or configuration.
"""

import argparse
import io
import os
import sys
from collections.abc import Callable, Collection, Sequence
from importlib import metadata
from typing import NamedTuple

from usb_provider.cmd.arguments import declare_common
from usb_provider.exception import ConfigError, UsbProviderError
from usb_provider.model.text import printable

_LONGEST_COMPLAINT = 2000

_DESCRIPTION = """\
Makes USB devices of this compute node schedulable in OpenStack: each device that a rule offers becomes a resource
provider below nova's compute node in Placement."""

_EPILOG = """\
Rules are [usb]device_spec lines in the configuration; without any, nothing is offered. Start with
"usb-provider devices --suggest", which prints a rule for each device that is plugged in."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that lacks a character gets its escape, not a traceback.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            return _run(argv)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader has closed the pipe. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(argv: Sequence[str] | None) -> int:
    words = sys.argv[1:] if argv is None else argv
    arguments = parser(words).parse_args(words)
    try:
        return int(arguments.run(arguments))
    except ConfigError as error:
        for problem in error.problems:
            _complain(problem)
        return 2
    except UsbProviderError as error:
        _complain(str(error))
        return 1
    except KeyboardInterrupt:
        return 130


def _complain(text: str) -> None:
    print(f"usb-provider: {printable(text, _LONGEST_COMPLAINT)}", file=sys.stderr)


def parser(words: Collection[str] | None = None) -> argparse.ArgumentParser:
    """The whole command line; man pages and the reference are made from it too.

    With *words*, only a command that is among them has its arguments: each command's module is imported for these, and
    a command must not wait for the modules of the others.
    """
    top = argparse.ArgumentParser(
        "usb-provider", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--version", action="version", version=f"usb-provider {metadata.version('usb-provider')}")
    declare_common(top, "global_")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, (what, load) in _COMMANDS.items():
        command = commands.add_parser(name, help=what, formatter_class=argparse.RawDescriptionHelpFormatter)
        if words is None or name in words:
            loaded = load()
            command.description = loaded.text
            declare_common(command, "")
            loaded.declare(command)
            command.set_defaults(run=loaded.run)
    return top


class _Command(NamedTuple):
    """What the module of a command provides."""

    declare: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    text: str


def _agent() -> _Command:
    from usb_provider.cmd import agent

    return _Command(agent.declare, agent.run, agent.TEXT)


def _devices() -> _Command:
    from usb_provider.cmd import devices

    return _Command(devices.declare, devices.run, devices.TEXT)


def _plan() -> _Command:
    from usb_provider.cmd import passes

    return _Command(passes.declare_plan, passes.run_plan, passes.PLAN_TEXT)


def _sync() -> _Command:
    from usb_provider.cmd import passes

    return _Command(passes.declare_sync, passes.run_sync, passes.SYNC_TEXT)


def _status() -> _Command:
    from usb_provider.cmd import status

    return _Command(status.declare, status.run, status.TEXT)


def _doctor() -> _Command:
    from usb_provider.cmd import doctor

    return _Command(doctor.declare, doctor.run, doctor.TEXT)


def _install_hook() -> _Command:
    from usb_provider.cmd import install_hook

    return _Command(install_hook.declare, install_hook.run, install_hook.TEXT)


def _demo() -> _Command:
    from usb_provider.cmd import demo

    return _Command(demo.declare, demo.run, demo.TEXT)


_COMMANDS: dict[str, tuple[str, Callable[[], _Command]]] = {
    "agent": ("Run the daemon: report this host's USB devices to Placement, and follow every plug and unplug", _agent),
    "devices": (
        "List this host's USB devices: whether each one is offered to instances, as what, and why (not)",
        _devices,
    ),
    "plan": ("Print what a reporting pass would change in Placement", _plan),
    "sync": (
        "Make one reporting pass: bring the providers of this host in Placement in line with its USB devices",
        _sync,
    ),
    "status": (
        "Show the guests of this host that hold USB devices, and what stands in the way of each device",
        _status,
    ),
    "doctor": ("Say what is wrong on this compute node, and what to do about it", _doctor),
    "install-hook": (
        "Install libvirt's hook, by which guests that hold USB devices start only when they can have them",
        _install_hook,
    ),
    "demo": (
        "Show everything on this machine: USB devices, a Placement of its own, and what the scheduler would do with "
        "them",
        _demo,
    ),
}
"""In the order of --help: what each command does, and what imports it."""


if __name__ == "__main__":
    sys.exit(main())
