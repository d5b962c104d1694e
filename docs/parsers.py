"""The commands' parsers for the reference, with what reStructuredText would act on in their texts escaped."""

import argparse
import re
from importlib.metadata import entry_points

from usb_provider.cmd.main import parser


def usb_provider() -> argparse.ArgumentParser:
    """``usb-provider`` and its commands."""
    return _escaped(parser())


def openstack_usb() -> argparse.ArgumentParser:
    """What the plugin adds to ``openstack``."""
    top = argparse.ArgumentParser("openstack", add_help=False)
    commands = top.add_subparsers(metavar="COMMAND")
    for entry in sorted(entry_points(group="openstack.usb.v1"), key=lambda each: each.name):
        name = entry.name.replace("_", " ")
        made = entry.load()(None, None).get_parser(f"openstack {name}")
        commands.add_parser(name, help=(made.description or "").partition(".")[0])
        commands.choices[name] = made  # type: ignore[index]
    return _escaped(top)


def _escaped(made: argparse.ArgumentParser) -> argparse.ArgumentParser:
    made.description, made.epilog = _escape(made.description), _escape(made.epilog)
    for action in made._actions:
        action.help = _escape(action.help)
        if isinstance(action, argparse._SubParsersAction):
            for each in action._choices_actions:
                each.help = _escape(each.help)
            for command in action.choices.values():
                _escaped(command)
    return made


def _escape(text: str | None) -> str | None:
    return text and re.sub(r"([\\*`|_])", r"\\\1", text)
