"""What several commands make from the configuration: options, logging, the reporter and its neighbours."""

import argparse
import contextlib
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from oslo_config import cfg

from usb_provider.agent.reporter import Reporter
from usb_provider.agent.store import RuleTraitStore
from usb_provider.cmd.arguments import oslo_arguments
from usb_provider.conf import load
from usb_provider.exception import ConfigError
from usb_provider.host.names import hypervisor_hostnames
from usb_provider.host.udev import UdevHost
from usb_provider.model.reporting.host_state import ReportSettings
from usb_provider.placement.client import connect
from usb_provider.placement.root import RootFinder, RootHints

WORKERS = 8
"""Requests under way at once; keystoneauth keeps ten connections alive."""


def read_configuration(
    arguments: argparse.Namespace, *, needs_placement: bool = True
) -> tuple[cfg.ConfigOpts, load.Options]:
    """The configuration that *arguments* name, read and checked, for a command that is not the daemon.

    :raises ConfigError: with every mistake; those in [placement] too when *needs_placement*.
    """

    conf = load.open_files(log_to_standard_error(arguments))
    return conf, checked(conf) if needs_placement else load.read(conf)


def log_to_standard_error(arguments: argparse.Namespace) -> list[str]:
    """Log errors, or all with --debug, to standard error; gives those of *arguments* that are oslo.config's."""
    words = oslo_arguments(arguments)
    debug = "--debug" in words
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.ERROR, format="%(levelname)s %(name)s: %(message)s", force=True
    )
    # What libraries say at DEBUG holds request bodies; what keystoneauth warns of, our own errors say.
    for name in ("keystoneauth", "urllib3", "stevedore", "oslo_config"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return [word for word in words if word != "--debug"]


def checked(conf: cfg.ConfigOpts) -> load.Options:
    """The checked values of the program's own groups, after a look at [placement] as well. Nothing is sent.

    :raises ConfigError: with every mistake in any of them.
    """
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


def settings(options: load.Options) -> ReportSettings:
    """The reporter's part of *options*."""
    return ReportSettings(
        specs=options.usb.specs,
        junk_serials=options.usb.junk_serials,
        serial_trait=options.usb.report_serial_trait,
        purge_absent_after=options.agent.purge_absent_after,
    )


def root_hints(options: load.Options) -> RootHints:
    """What may name the root, by *options* and by what this host is called."""
    return RootHints(
        uuid=options.agent.root_provider_uuid,
        compute_id_file=options.agent.compute_id_file,
        name=options.agent.root_provider_name,
        hostnames=hypervisor_hostnames(),
    )


@contextlib.contextmanager
def reporter(
    conf: cfg.ConfigOpts,
    options: load.Options,
    host: UdevHost,
    *,
    timeout: float | None = None,
    requested: Callable[[str, str], None] | None = None,
) -> Iterator[Reporter]:
    """A reporter with its threads, which end with the context. *timeout*, in seconds, replaces the configured one;
    *requested* is told of each request to Placement.

    :raises ConfigError: when [placement] is incomplete.
    """
    client = connect(conf, timeout=timeout, requested=requested)
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="placement") as executor:
        yield Reporter(
            host.devices,
            client,
            RootFinder(client, root_hints(options)),
            settings(options),
            store=RuleTraitStore(options.agent.state_dir),
            executor=executor,
        )
