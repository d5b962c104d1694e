"""The command ``agent``: the daemon."""

import argparse
import contextlib
import logging
import sys
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from oslo_config import cfg

from usb_provider.agent.host_names import HostNames, NamesInquiry
from usb_provider.agent.meter import NO_METER, Meter
from usb_provider.agent.reporter import Reporter
from usb_provider.agent.root_watch import ThisHost
from usb_provider.cmd.arguments import oslo_arguments
from usb_provider.conf import load
from usb_provider.exception import ConfigError
from usb_provider.model.reporting.host_state import ReportSettings
from usb_provider.placement.client import PlacementClient

if TYPE_CHECKING:
    from usb_provider.agent.process import Agent, GuestSide
    from usb_provider.virt.domain import LibvirtHost

# As many questions of hooks at once as the listener has peers, and as many again for migrations, which ask several.
_ASKERS = 32
_ANSWER_SECONDS = 5.0
_ANSWER_SHARE = 0.8
"""A question to Placement within an answer takes this share of [hook]timeout, and _ANSWER_SECONDS, at most. While
Placement is away, the answer asks again until the hook's time is over, if the guest needs it."""
_CONFIRM_PASSES = 5
"""So many times resync_interval pass between two questions to Placement about everything that is attached."""

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

    from usb_provider.agent.loop import Pace, start_delay
    from usb_provider.agent.process import Agent, hold_signals, launch
    from usb_provider.agent.state_report import write
    from usb_provider.cmd.configuration import checked
    from usb_provider.cmd.setup import reporter, settings
    from usb_provider.host.udev import UdevHost
    from usb_provider.model.reporting.guest_news import GuestNews

    hold_signals()
    # keystoneauth warns at every attempt, which we log once; oslo.service warns of one process, which is intended.
    log.set_defaults(
        default_log_levels=[*log.get_default_log_levels(), "keystoneauth.session=ERROR", "oslo_service.backend=ERROR"]
    )
    logging.getLogger("stevedore").setLevel(logging.ERROR)  # until the configuration is read
    words = oslo_arguments(arguments)
    conf = load.open_files(words, declare=log.register_options)
    options = checked(conf)
    log.setup(conf, load.PROJECT)

    def pace(options: load.Options) -> Pace:
        return Pace(options.agent.resync_interval, options.agent.debounce)

    def reload() -> tuple[ReportSettings, Pace]:
        # What is wrong must show before anything takes effect: mutating alone would already set the log level.
        checked(load.open_files(words, declare=log.register_options))
        fresh = load.reread(conf)
        if guests is not None:
            guests.binder.confirm_every(_CONFIRM_PASSES * fresh.agent.resync_interval)
        return settings(fresh), pace(fresh)

    host = UdevHost()
    guests: GuestSide | None = None
    with contextlib.ExitStack() as stack:
        meter = _meter(stack, options)

        def requested(method: str, status: str) -> None:
            meter.requested(method, status)
            agent.sign_of_life()

        hypervisor = _Hypervisor()
        this_host = ThisHost(
            lambda: hypervisor.inquiry.latest,
            hypervisor.ask,
            hypervisor.guests,
            options.agent.root_name_may_differ,
        )
        made = reporter(conf, options, host, requested=requested, in_full=False, this_host=this_host)
        report = stack.enter_context(made)
        if options.libvirt.enabled:
            guests = _guest_side(stack, conf, options, report, lambda: agent, hypervisor=hypervisor, meter=meter)
        else:
            # No binding loop will ever tell which guests lack a device.
            report.tell_news(GuestNews(waiting=frozenset()))
        agent = Agent(
            report,
            host.watch,
            pace(options),
            reload,
            guests=guests,
            meter=meter,
            report=lambda snapshot: write(conf, snapshot),
            delay=start_delay(options.agent.start_spread, time.clock_gettime(time.CLOCK_BOOTTIME)),
        )
        return launch(conf, agent)


def _meter(stack: contextlib.ExitStack, options: load.Options) -> Meter:
    """The meter of the agent; with [metrics]listen, one that Prometheus can read.

    :raises ConfigError: when it cannot listen on an address, or the library is missing.
    """
    if not options.metrics.listen:
        return NO_METER
    try:
        # Without [metrics]listen, the agent does not load the library.
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
    agent: "Callable[[], Agent]",
    *,
    hypervisor: "_Hypervisor",
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
    from usb_provider.agent.admission import Admission
    from usb_provider.agent.attachment_store import AttachmentStore
    from usb_provider.agent.binder import Binder, BindOptions
    from usb_provider.agent.operations import GuestThreads
    from usb_provider.agent.present import PresentGuests
    from usb_provider.agent.process import GuestSide
    from usb_provider.placement.client import connect
    from usb_provider.virt.listener import Listener, ListenOptions
    from usb_provider.virt.protocol import Answer, Question, StatusAnswer, StatusQuestion

    in_time = min(_ANSWER_SECONDS, options.hook.timeout * _ANSWER_SHARE)
    quick = connect(conf, timeout=in_time, requested=meter.requested)
    virt = LibvirtHost(options.libvirt.connection_uri, lambda: agent().look_again())
    stack.callback(virt.close)
    hypervisor.virt = virt
    askers = stack.enter_context(ThreadPoolExecutor(_ASKERS, thread_name_prefix="answers"))
    binder = Binder(
        virt,
        _Claims(report, quick, lambda: agent().outdated()),
        options=BindOptions(
            options.libvirt.attach_timeout,
            options.libvirt.detach_timeout,
            in_time,
            _CONFIRM_PASSES * options.agent.resync_interval,
        ),
        operations=GuestThreads(lambda: agent().operation_ended()),
        kept=AttachmentStore(options.agent.state_dir),
        askers=askers,
        meter=meter,
    )

    def started(guest_uuid: str) -> None:
        binder.started(guest_uuid)
        agent().look_again()

    admission = Admission(
        lambda: virt.latest,
        report.view,
        quick.consumer,
        lambda uuid: quick.traits(uuid)[1],
        started,
        units=lambda uuid: max((each.total for each in quick.inventories(uuid)[1].values()), default=1),
        askers=askers,
        seconds=in_time,
        present=PresentGuests(lambda: virt.latest, virt.look_up),
        look_now=lambda: agent().hurry(),
        classes=lambda: report.settings.rule_classes,
        meter=meter,
    )

    def answer(question: Question) -> Answer:
        agent().hurry()
        if isinstance(question, StatusQuestion):
            seen = agent().snapshot()
            return StatusAnswer(tuple(seen.guests or ()), admission.called_at, seen.awaited, seen.last_at)
        return admission.answer(question)

    listen = ListenOptions(
        options.hook.socket, options.hook.timeout, options.hook.socket_owner, options.hook.socket_group
    )
    side = GuestSide(binder, admission, lambda: Listener(listen, answer, lambda: agent().socket_lost()))
    return side


class _Hypervisor:
    """What the reporter asks of libvirt, once there is a connection to ask: it also reports while libvirt hangs."""

    def __init__(self) -> None:
        self.virt: LibvirtHost | None = None
        self.inquiry = NamesInquiry(self._names)

    def ask(self) -> None:
        """Look the host's names up, if libvirt has one for it."""
        if self.virt is not None:
            self.inquiry.ask()

    def guests(self) -> Collection[str]:
        """The UUIDs of all guests that libvirt knows here, as of the last binding pass."""
        return () if self.virt is None else self.virt.latest.known

    def _names(self) -> HostNames:
        from usb_provider.cmd.setup import host_names

        assert self.virt is not None
        return host_names(self.virt)


class _Claims:
    """Who holds each provider, for the binder: the reporter's view, and Placement's answers on single providers."""

    def __init__(self, report: Reporter, client: PlacementClient, outdated: Callable[[], None]) -> None:
        self.view = report.view
        self.doubt = report.doubt
        self.tell_shares = report.tell_shares
        self.tell_news = report.tell_news
        self.holders = client.allocations
        self.outdated = outdated
