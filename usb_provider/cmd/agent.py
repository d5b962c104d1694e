"""The command ``agent``: the daemon."""

import argparse
import sys

TEXT = """\
Run the daemon: report this host's USB devices to Placement, and follow every plug and unplug.

It waits for Placement, Keystone and nova's compute node for as long as it takes. SIGHUP reads the rules and the log
level again; SIGTERM ends it and leaves Placement as it is. Logging follows oslo.log: [DEFAULT]debug, log_file,
use_journal and the rest."""


def declare(command: argparse.ArgumentParser) -> None:
    """The daemon has no arguments of its own."""


def run(arguments: argparse.Namespace) -> int:
    """Run until a signal ends it."""
    # The backend must be chosen before anything of oslo.service is imported: its default is eventlet.
    # It imports eventlet where that is installed (through futurist), though nothing here may be green.
    sys.modules.setdefault("eventlet", None)  # type: ignore[arg-type]
    from oslo_service import backend

    backend.init_backend(backend.BackendType.THREADING)

    from oslo_log import log

    from usb_provider.cmd.main import oslo_arguments
    from usb_provider.cmd.setup import checked, reporter, settings
    from usb_provider.conf import load
    from usb_provider.host.udev import UdevHost
    from usb_provider.reporter import Settings
    from usb_provider.service import Agent, Timing, launch

    # keystoneauth's warnings at every attempt, and oslo.service's on running in one process, are said by us or meant.
    log.set_defaults(
        default_log_levels=[*log.get_default_log_levels(), "keystoneauth.session=ERROR", "oslo_service.backend=ERROR"]
    )
    words = oslo_arguments(arguments)
    conf = load.open_files(words, declare=log.register_options)
    options = checked(conf)
    log.setup(conf, load.PROJECT)

    def timing(options: load.Options) -> Timing:
        return Timing(options.agent.resync_interval, options.agent.debounce)

    def reload() -> tuple[Settings, Timing]:
        # What is wrong must show before anything takes effect: mutating alone would already set the log level.
        checked(load.open_files(words, declare=log.register_options))
        fresh = load.reread(conf)
        return settings(fresh), timing(fresh)

    host = UdevHost()
    with reporter(conf, options, host) as report:
        return launch(conf, Agent(report, host.watch, timing(options), reload))
