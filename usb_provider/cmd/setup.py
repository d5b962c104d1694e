"""What several commands make from the options: the reporter and its neighbours."""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from oslo_config import cfg

from usb_provider.agent.host_names import HostNames, NamesInquiry
from usb_provider.agent.reporter import Reporter
from usb_provider.agent.root_watch import ANY_HOST, ThisHost
from usb_provider.agent.store import StateStore
from usb_provider.conf import load
from usb_provider.exception import Unavailable
from usb_provider.host.names import hypervisor_hostnames
from usb_provider.host.udev import UdevHost
from usb_provider.model.reporting.host_state import ReportSettings
from usb_provider.placement.client import connect
from usb_provider.placement.root import RootFinder, RootHints

if TYPE_CHECKING:
    from usb_provider.virt.domain import LibvirtHost

WORKERS = 8
"""Requests under way at once; keystoneauth keeps ten connections alive."""


def settings(options: load.Options) -> ReportSettings:
    """The reporter's part of *options*."""
    return ReportSettings(
        specs=options.usb.specs,
        junk_serials=options.usb.junk_serials,
        serial_trait=options.usb.report_serial_trait,
        purge_absent_after=options.agent.purge_absent_after,
        purge_wait=options.agent.purge_wait,
        max_providers=options.agent.max_providers,
    )


def root_hints(options: load.Options) -> RootHints:
    """What may name the root, by *options* and by what this host is called."""
    return RootHints(
        uuid=options.agent.root_provider_uuid,
        compute_id_file=options.agent.compute_id_file,
        name=options.agent.root_provider_name,
        hostnames=hypervisor_hostnames(),
    )


def this_host(options: load.Options) -> ThisHost:
    """What tells this host from others, for a command: libvirt's name for it, where the agent serves guests."""
    inquiry = NamesInquiry(lambda: _names(options.libvirt.connection_uri))
    ask = inquiry.ask if options.libvirt.enabled else ThisHost().ask
    return ThisHost(lambda: inquiry.latest, ask, may_differ=options.agent.root_name_may_differ)


def _names(uri: str) -> HostNames:
    try:
        from usb_provider.virt.domain import LibvirtHost
    except ImportError:
        return HostNames()
    with contextlib.closing(LibvirtHost(uri, lambda: None)) as virt:
        return host_names(virt)


def host_names(virt: "LibvirtHost") -> HostNames:
    """This host's names, libvirt's among them; none while libvirt does not answer."""
    try:
        by_libvirt = virt.hostname()
    except Unavailable:
        return HostNames()
    return HostNames(hypervisor_hostnames(), by_libvirt)


@contextlib.contextmanager
def reporter(
    conf: cfg.ConfigOpts,
    options: load.Options,
    host: UdevHost,
    *,
    timeout: float | None = None,
    requested: Callable[[str, str], None] | None = None,
    in_full: bool = True,
    this_host: ThisHost = ANY_HOST,
) -> Iterator[Reporter]:
    """A reporter with its threads, which end with the context. *timeout*, in seconds, replaces the configured one;
    *requested* is called for each request to Placement. A command sees every field of every provider. The agent, which
    looks again soon, starts without *in_full*, that is with fewer requests, and knows *this_host* by libvirt.

    :raises ConfigError: when [placement] is incomplete.
    """
    client = connect(conf, timeout=timeout, requested=requested)
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="placement") as executor:
        yield Reporter(
            host.devices,
            client,
            RootFinder(client, root_hints(options)),
            settings(options),
            store=StateStore(options.agent.state_dir),
            executor=executor,
            in_full=in_full,
            host=this_host,
        )
