"""The command ``doctor``: what is wrong on this compute node, and what to do about it.

Puts together what the checks of diagnosis/ may use, runs them, and prints what they find. Changes nothing.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from oslo_config import cfg
from rich.text import Text

from usb_provider.agent.attachment_store import AttachmentStore
from usb_provider.cmd import install_hook, output
from usb_provider.cmd.configuration import log_to_standard_error
from usb_provider.cmd.running_agent import ask_agent
from usb_provider.cmd.setup import reporter, root_hints
from usb_provider.conf import effect, load
from usb_provider.conf.load import Options
from usb_provider.diagnosis.check import Finding, Verdict, diagnose
from usb_provider.diagnosis.checks import CHECKS
from usb_provider.diagnosis.context import SECONDS, Context, Neighbours, Places, Reported
from usb_provider.diagnosis.threads import Threads
from usb_provider.exception import ConfigError
from usb_provider.host.udev import UdevHost
from usb_provider.model.reporting.host_state import HostView
from usb_provider.model.text import printable
from usb_provider.placement.client import PlacementClient, connect
from usb_provider.placement.root import RootFinder

TEXT = """\
Say what is wrong on this compute node, and what to do about it: configuration, options without effect, Placement,
credentials, role and microversion, the compute node and its name, udev, libvirt, its hook and whether libvirt has
loaded it, the agent's socket, SELinux and AppArmor, authorisation of devices, pools, USB controllers of the host and of
guests, hostdevs that a guest should not have or has lost, guests that wait for a device, starts that were refused.

Changes nothing, and takes less than a minute, whatever does not answer. Run it as root: some of it is for root alone.
Exits with 0 when nothing is wrong (a warning is not), else with 1."""

_REQUEST_SECONDS = 5.0
_HERE = Places()

_STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.WRONG: "red", Verdict.NOT_CHECKED: "dim"}


def declare(command: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``doctor``."""
    command.add_argument(
        "--json", action="store_true", help='print a list of {"check": …, "result": …, "found": …, "advice": …}'
    )
    command.add_argument(
        "--directory",
        type=Path,
        default=install_hook.DIRECTORY,
        metavar="DIR",
        help="libvirt's hooks (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Look, print, and give 1 when anything is wrong."""
    context = make_context(log_to_standard_error(arguments), hooks=arguments.directory)
    findings = diagnose(CHECKS, context)
    if arguments.json:
        output.print_json([finding_json(each) for each in findings])
    else:
        _print(findings)
    code = int(any(each.verdict is Verdict.WRONG for each in findings))
    if context.threads.unfinished:
        # A normal exit of the interpreter would wait for a service that does not answer.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def finding_json(finding: Finding) -> dict[str, str | None]:
    """One row as ``doctor --json`` prints it."""
    return {
        "check": finding.check,
        "result": finding.verdict.value,
        "found": finding.found,
        "advice": finding.advice,
    }


def _print(findings: tuple[Finding, ...]) -> None:
    table = output.table("Check", "Result", "What is found", "What to do")
    for each in findings:
        table.add_row(
            Text(each.check),
            Text(each.verdict.value, style=_STYLES[each.verdict]),
            Text(printable(each.found, 1000)),
            Text(printable(each.advice or "", 1000)),
        )
    output.console().print(table)
    count = {verdict: sum(each.verdict is verdict for each in findings) for verdict in Verdict}
    output.say(
        f"{len(findings)} checks: {count[Verdict.WRONG]} wrong, {count[Verdict.WARNING]} warnings, "
        f"{count[Verdict.NOT_CHECKED]} not checked."
    )


def make_context(
    words: Sequence[str],
    *,
    hooks: Path,
    places: Places = _HERE,
    seconds: float = SECONDS,
) -> Context:
    """What the checks may use: the configuration that *words* name, as far as it can be read, and the neighbours."""
    files: tuple[str, ...] = ()
    useless: tuple[str, ...] = ()
    try:
        conf = load.open_files(words)
    except ConfigError as error:
        conf = load.defaults()
        options, problems = load.survey(conf)[0], error.problems
    else:
        options, problems = load.survey(conf)
        files = tuple(map(str, (*(conf.config_file or ()), *(conf.config_dir or ()))))
        try:
            connect(conf)
        except ConfigError as error:
            problems += error.problems
        useless = effect.without_effect(conf, options)
    return Context(
        options,
        files,
        problems,
        hooks / install_hook.NAME,
        install_hook.hook_text_of(options),
        Neighbours(
            placement=partial(_placement, conf, options),
            look=partial(_look, conf, options),
            agent=partial(ask_agent, options.hook.socket),
            attachments=AttachmentStore(options.agent.state_dir).load,
        ),
        places,
        Threads(seconds),
        useless,
    )


def _placement(conf: cfg.ConfigOpts, options: Options) -> tuple[PlacementClient, RootFinder]:
    client = connect(conf, timeout=_REQUEST_SECONDS)
    return client, RootFinder(client, root_hints(options))


def _look(conf: cfg.ConfigOpts, options: Options) -> Reported:
    with reporter(conf, options, UdevHost(), timeout=_REQUEST_SECONDS) as report:
        seen = report.preview()
    return Reported(HostView(seen.tree, seen.devices, seen.shares), seen.notes)
