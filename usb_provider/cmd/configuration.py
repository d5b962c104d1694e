"""The configuration that a command's arguments name, read and checked.

The daemon reads its configuration in agent.py, as oslo.log requires. A command loads only the modules that it needs:
one that asks the running agent must answer at once, and loading keystoneauth takes longer than all the rest.
"""

import argparse
import logging

from oslo_config import cfg

from usb_provider.cmd.arguments import oslo_arguments
from usb_provider.conf import load
from usb_provider.exception import ConfigError


def read_configuration(
    arguments: argparse.Namespace, *, needs_placement: bool = True
) -> tuple[cfg.ConfigOpts, load.Options]:
    """The configuration that *arguments* name, for a command that is not the daemon and may ask Placement.

    :raises ConfigError: with every mistake; those in [placement] too when *needs_placement*.
    """
    conf = load.open_files(log_to_standard_error(arguments))
    return conf, checked(conf) if needs_placement else load.read(conf)


def own_options(arguments: argparse.Namespace) -> load.Options:
    """The values of our own groups, for a command that never asks Placement.

    :raises ConfigError: with every mistake in any of these groups; [placement] is not looked at.
    """
    return load.read(load.open_files(log_to_standard_error(arguments), with_placement=False))


def log_to_standard_error(arguments: argparse.Namespace) -> list[str]:
    """Log errors, or all with --debug, to standard error; gives those of *arguments* that are oslo.config's."""
    words = oslo_arguments(arguments)
    debug = "--debug" in words
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.ERROR, format="%(levelname)s %(name)s: %(message)s", force=True
    )
    # At DEBUG, libraries log request bodies; our own errors say what keystoneauth warns of.
    for name in ("keystoneauth", "urllib3", "stevedore", "oslo_config"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return [word for word in words if word != "--debug"]


def checked(conf: cfg.ConfigOpts) -> load.Options:
    """The checked values of the program's own groups, after a look at [placement] as well. Nothing is sent.

    :raises ConfigError: with every mistake in any of them.
    """
    from usb_provider.placement.client import connect

    problems: list[str] = []
    options = None
    try:
        options = load.read(conf)
    except ConfigError as error:
        problems += error.problems
    try:
        connect(conf)
    except ConfigError as error:
        problems += error.problems
    if options is None or problems:
        raise ConfigError(problems)
    return options
