"""The command ``agent``: the daemon."""

import argparse
import contextlib
import logging
import sys
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from oslo_config import cfg

from usb_provider.agent.meter import NO_METER, Meter
from usb_provider.agent.reporter import Reporter
from usb_provider.cmd.arguments import oslo_arguments
from usb_provider.conf import load
from usb_provider.exception import ConfigError, Conflict
from usb_provider.model.reporting.host_state import HostView

if TYPE_CHECKING:
    from usb_provider.agent.process import GuestSide

# As many questions of hooks at once as the listener has peers, and as many again for migrations, which ask several.
_ASKERS = 32
_ANSWER_SHARE = 0.8

TEXT = """\
Run the daemon: report this host's USB devices to Placement, and follow every plug and unplug.

It waits for Placement, Keystone and nova's compute node for as long as it takes. SIGHUP reads the rules and the log
level again; SIGUSR2 writes a report of what it knows and does; SIGTERM ends it and leaves Placement as it is. Logging
follows oslo.log: [DEFAULT]debug, log_file, use_journal and the rest."""


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

    from usb_provider.agent.process import Agent, Timing, hold_signals, launch
    from usb_provider.agent.state_report import write
    from usb_provider.cmd.setup import checked, reporter, settings
    from usb_provider.host.udev import UdevHost
    from usb_provider.model.reporting.host_state import ReportSettings

    hold_signals()
    # keystoneauth's warnings at every attempt, and oslo.service's on running in one process, are said by us or meant.
    log.set_defaults(
        default_log_levels=[*log.get_default_log_levels(), "keystoneauth.session=ERROR", "oslo_service.backend=ERROR"]
    )
    logging.getLogger("stevedore").setLevel(logging.ERROR)  # until the configuration is read
    words = oslo_arguments(arguments)
    conf = load.open_files(words, declare=log.register_options)
    options = checked(conf)
    log.setup(conf, load.PROJECT)

    def timing(options: load.Options) -> Timing:
        return Timing(options.agent.resync_interval, options.agent.debounce)

    def reload() -> tuple[ReportSettings, Timing]:
        # What is wrong must show before anything takes effect: mutating alone would already set the log level.
        checked(load.open_files(words, declare=log.register_options))
        fresh = load.reread(conf)
        return settings(fresh), timing(fresh)

    host = UdevHost()
    with contextlib.ExitStack() as stack:
        meter = _meter(stack, options)
        report = stack.enter_context(reporter(conf, options, host, requested=meter.requested))
        guests: GuestSide | None = None
        if options.libvirt.enabled:
            guests = _guest_side(stack, conf, options, report, lambda: agent.look_again(), meter=meter)  # noqa: PLW0108 - agent comes next
        agent = Agent(
            report,
            host.watch,
            timing(options),
            reload,
            guests=guests,
            meter=meter,
            report=lambda snapshot: write(conf, snapshot),
        )
        return launch(conf, agent)


def _meter(stack: contextlib.ExitStack, options: load.Options) -> Meter:
    """What counts, served to Prometheus where [metrics]listen says so.

    :raises ConfigError: when an address cannot be listened on, or the library is missing.
    """
    if not options.metrics.listen:
        return NO_METER
    try:
        # Nobody who does not ask for it pays for it.
        from usb_provider.agent.metrics import Endpoint, PrometheusMeter
    except ImportError as error:
        raise ConfigError(
            [
                f"[metrics]listen is set, but the Python library for it is missing ({error}); install "
                f"usb-provider[metrics] or python3-prometheus-client, or unset it."
            ]
        ) from error
    meter = PrometheusMeter()
    stack.callback(Endpoint(options.metrics.listen, meter.registry).stop)
    return meter


def _guest_side(
    stack: contextlib.ExitStack,
    conf: cfg.ConfigOpts,
    options: load.Options,
    report: Reporter,
    changed: Callable[[], None],
    *,
    meter: Meter,
) -> "GuestSide | None":
    """What attaches devices to guests, or None, said once, where libvirt's Python is not installed."""
    try:
        from usb_provider.virt.domain import LibvirtHost
    except ImportError as error:
        logging.getLogger(__name__).warning(
            "Devices are reported but not attached to guests, since libvirt's Python module is missing (%s); install "
            "python3-libvirt, or set [libvirt]enabled = false.",
            error,
        )
        return None
    from usb_provider.agent.binder import Binder, BindOptions
    from usb_provider.agent.process import GuestSide
    from usb_provider.cmd.setup import WORKERS
    from usb_provider.model.reporting.tree import Allocations, with_holders
    from usb_provider.openstack.session import connect
    from usb_provider.virt.listener import Listener, ListenOptions

    # A hook waits for this answer: what comes too late for it need not be waited for.
    in_time = options.hook.timeout * _ANSWER_SHARE
    quick = connect(conf, timeout=in_time, requested=meter.requested)
    virt = LibvirtHost(options.libvirt.connection_uri, changed)
    stack.callback(virt.close)

    holders: dict[str, tuple[int, Allocations]] = {}

    def view() -> HostView | None:
        seen = report.view()
        return None if seen is None else HostView(with_holders(seen.tree, holders), seen.devices)

    def confirm(uuids: Collection[str]) -> None:
        seen = report.view()
        read = {uuid: quick.allocations(uuid) for uuid in uuids}
        if seen is None:
            return
        if any(generation != seen.tree.providers[uuid].generation for uuid, (generation, _) in read.items()):
            raise Conflict("A provider changed since the last look.")
        holders.clear()
        holders.update(read)
        if with_holders(seen.tree, read) is not seen.tree:
            report.doubt(uuids)

    binder = Binder(
        virt,
        view,
        quick.consumer,
        lambda uuid: quick.traits(uuid)[1],
        confirm,
        options=BindOptions(options.libvirt.attach_timeout, options.libvirt.detach_timeout, in_time),
        executor=stack.enter_context(ThreadPoolExecutor(WORKERS, thread_name_prefix="guests")),
        askers=stack.enter_context(ThreadPoolExecutor(_ASKERS, thread_name_prefix="answers")),
        changed=changed,
        meter=meter,
    )
    listen = ListenOptions(
        options.hook.socket, options.hook.timeout, options.hook.socket_owner, options.hook.socket_group
    )
    return GuestSide(binder, lambda: Listener(listen, binder.answer))
