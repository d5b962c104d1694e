"""The command line ``usb-provider``: finds the command, and turns what went wrong into sentences and an exit code.

Exit codes: 0 done, 1 a neighbour failed, 2 bad input or configuration.
"""

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from importlib import metadata

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
        # The reader has enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(argv: Sequence[str] | None) -> int:
    arguments = parser().parse_args(argv)
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


def parser() -> argparse.ArgumentParser:
    """The whole command line; man pages and the reference are made from it too."""
    top = argparse.ArgumentParser(
        "usb-provider", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--version", action="version", version=f"usb-provider {metadata.version('usb-provider')}")
    declare_common(top, "global_")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, declare, run, text in _commands():
        command = commands.add_parser(
            name, help=text.partition(".")[0], description=text, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        declare_common(command, "")
        declare(command)
        command.set_defaults(run=run)
    return top


_Declare = Callable[[argparse.ArgumentParser], None]
_Run = Callable[[argparse.Namespace], int]


def _commands() -> list[tuple[str, _Declare, _Run, str]]:
    # Imported here, and each command's own needs in its run(), so that --help and a slip of the pen answer at once.
    from usb_provider.cmd import agent, demo, devices, doctor, install_hook, passes, status

    return [
        ("agent", agent.declare, agent.run, agent.TEXT),
        ("devices", devices.declare, devices.run, devices.TEXT),
        ("plan", passes.declare_plan, passes.run_plan, passes.PLAN_TEXT),
        ("sync", passes.declare_sync, passes.run_sync, passes.SYNC_TEXT),
        ("status", status.declare, status.run, status.TEXT),
        ("doctor", doctor.declare, doctor.run, doctor.TEXT),
        ("install-hook", install_hook.declare, install_hook.run, install_hook.TEXT),
        ("demo", demo.declare, demo.run, demo.TEXT),
    ]


if __name__ == "__main__":
    sys.exit(main())
