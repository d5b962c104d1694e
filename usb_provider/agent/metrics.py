"""The agent's metrics for Prometheus: what the meter gets, kept in a registry of our own and served over HTTP.

The only module that imports prometheus_client, and the agent imports it only where [metrics]listen is set. It reads
neither devices nor Placement: a scrape reads numbers that are in memory, in a thread of its own, and can neither delay
a pass nor end the agent.
"""

import contextlib
import http.server
import logging
import socket
import socketserver
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from types import MappingProxyType

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, MetricsHandler, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from usb_provider.agent.meter import GUEST_FAILURES, PASS_OUTCOMES, LoopName, Meter, Outcome
from usb_provider.exception import ConfigError
from usb_provider.model.binding.decision import Why
from usb_provider.model.binding.refusals import Obstacle
from usb_provider.model.binding.status import BindingState
from usb_provider.model.lifecycle import DeviceState
from usb_provider.model.reporting.census import NO_CLASS, Census
from usb_provider.server import BoundedThreadingMixIn

LOG = logging.getLogger(__name__)

Address = tuple[str, int]

# Prometheus ends a scrape after ten seconds, unless it is configured otherwise.
_SCRAPE_SECONDS = 10.0
# A scrape takes some milliseconds. A peer that sends nothing, or a byte from time to time, loses its turn.
_TURN_SECONDS = 2.0
_PASS_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_ATTACH_BUCKETS = (0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 20, 40, 60, 120)


class PrometheusMeter(Meter):
    """Keeps what it gets as metrics.

    :ivar registry: all of them. Metrics whose labels are known beforehand exist from the start, at 0: Prometheus sees
        no increase when a metric appears with a value.
    """

    def __init__(self) -> None:
        # A gauge beside each counter that says when it began: as many series again, which no dashboard needs. Before
        # 0.17 the library knows only an environment variable for it.
        getattr(prometheus_client, "disable_created_metrics", lambda: None)()
        self.registry = registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=registry)
        self._now = _Now()
        registry.register(self._now)
        Gauge("usb_provider_build_info", "1; the label is the agent's version.", ["version"], registry=registry).labels(
            metadata.version("usb-provider")
        ).set(1)
        self._passes = Counter(
            "usb_provider_passes",
            "Passes of the agent's loops, by how they ended.",
            ["loop", "outcome"],
            registry=registry,
        )
        self._pass_seconds = Histogram(
            "usb_provider_pass_seconds",
            "How long a pass took, whatever its end, in seconds.",
            ["loop"],
            buckets=_PASS_BUCKETS,
            registry=registry,
        )
        self._last_good = Gauge(
            "usb_provider_last_good_pass_timestamp_seconds",
            "When the last pass ended that failed in nothing, in seconds since 1970; 0 when there was none yet.",
            ["loop"],
            registry=registry,
        )
        self._requests = Counter(
            "usb_provider_placement_requests",
            "Requests to Placement, by HTTP's method and status; the status none is no answer.",
            ["method", "status"],
            registry=registry,
        )
        self._attaches = Counter("usb_provider_attaches", "Devices that were attached to a guest.", registry=registry)
        self._attach_failures = Counter(
            "usb_provider_attach_failures", "Attempts to attach that failed.", ["reason"], registry=registry
        )
        self._attach_seconds = Histogram(
            "usb_provider_started_to_attached_seconds",
            "How long after its start a guest had a device, in seconds.",
            buckets=_ATTACH_BUCKETS,
            registry=registry,
        )
        self._detaches = Counter(
            "usb_provider_detaches", "Devices that were detached from a guest.", ["reason"], registry=registry
        )
        self._detach_failures = Counter(
            "usb_provider_detach_failures", "Attempts to detach that failed.", ["reason"], registry=registry
        )
        self._refusals = Counter(
            "usb_provider_start_refusals", "Starts of guests that were refused.", ["reason"], registry=registry
        )
        self._begin()

    def _begin(self) -> None:
        for loop, outcomes in PASS_OUTCOMES.items():
            self._pass_seconds.labels(loop.value)
            for outcome in outcomes:
                self._passes.labels(loop.value, outcome.value)
        # Not for the binding loop, which there may be none of: it would look as if it failed.
        self._last_good.labels(LoopName.REPORT.value)
        for failure in GUEST_FAILURES:
            self._attach_failures.labels(failure.value)
            self._detach_failures.labels(failure.value)
        for why in Why:
            self._detaches.labels(why.name.lower())
        for obstacle in Obstacle:
            self._refusals.labels(obstacle.value)

    def passed(self, loop: LoopName, outcome: Outcome, seconds: float) -> None:
        """Count the pass."""
        self._passes.labels(loop.value, outcome.value).inc()
        self._pass_seconds.labels(loop.value).observe(seconds)
        last_good = self._last_good.labels(loop.value)
        if outcome is Outcome.OK:
            last_good.set_to_current_time()

    def counted(self, census: Census, waiting: Mapping[str, int] = MappingProxyType({})) -> None:
        """Keep the numbers until the next ones."""
        self._now.census, self._now.waiting = dict(census), dict(waiting)

    def requested(self, method: str, status: str) -> None:
        """Count the request."""
        self._requests.labels(method, status).inc()

    def bound(self, states: Mapping[str, int]) -> None:
        """Keep the numbers until the next ones."""
        self._now.bindings = dict(states)

    def attached(self, seconds: float | None) -> None:
        """Count the attach."""
        self._attaches.inc()
        if seconds is not None:
            self._attach_seconds.observe(seconds)

    def attach_failed(self, why: Outcome) -> None:
        """Count the failure."""
        self._attach_failures.labels(why.value).inc()

    def detached(self, why: Why) -> None:
        """Count the detach."""
        self._detaches.labels(why.name.lower()).inc()

    def detach_failed(self, why: Outcome) -> None:
        """Count the failure."""
        self._detach_failures.labels(why.value).inc()

    def refused(self, obstacle: Obstacle) -> None:
        """Count the refusal."""
        self._refusals.labels(obstacle.value).inc()


class _Now(Collector):
    """Values that are no counters: replaced as a whole, so that a scrape never sees only some new ones."""

    def __init__(self) -> None:
        self.census: Census = {}
        self.bindings: Mapping[str, int] = {}
        self.waiting: Mapping[str, int] = {}

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The pictures as they are now."""
        devices = GaugeMetricFamily(
            "usb_provider_devices",
            "USB devices of this host and providers of absent ones, by resource class and state.",
            labels=["resource_class", "state"],
        )
        found: dict[tuple[str, DeviceState], int] = {(NO_CLASS, DeviceState.NOT_OFFERED): 0, **self.census}
        # Each class with each state, so that what an alert is about comes from 0 and goes back to it.
        for name in sorted({name for name, _ in found}):
            for state in DeviceState:
                devices.add_metric([name, state.value], found.get((name, state), 0))
        yield devices
        bindings = GaugeMetricFamily(
            "usb_provider_guest_devices",
            "Devices that running guests hold, by how far each is: attached, pending or waiting.",
            labels=["state"],
        )
        states = self.bindings
        for binding in BindingState:
            bindings.add_metric([binding.value], states.get(binding.value, 0))
        yield bindings
        waiting = GaugeMetricFamily(
            "usb_provider_waiting_providers",
            "Providers of a device that a running guest holds and has not had for a minute or longer, by class.",
            labels=["resource_class"],
        )
        for name, number in sorted(self.waiting.items()):
            waiting.add_metric([name], number)
        yield waiting


class Endpoint:
    """Answers scrapes on every one of *addresses* until it is stopped."""

    def __init__(self, addresses: Sequence[Address], registry: CollectorRegistry) -> None:
        """Listen at once.

        :raises ConfigError: when it cannot listen on one of them; then it listens on none.
        """
        handler = type("_BoundHandler", (_Handler,), {"registry": registry})
        with contextlib.ExitStack() as opened:
            self._servers = [opened.enter_context(_listening(address, handler)) for address in addresses]
            self._close = opened.pop_all()
        self._threads = [
            threading.Thread(target=server.serve_forever, args=(0.5,), name="metrics", daemon=True)
            for server in self._servers
        ]
        for thread in self._threads:
            thread.start()

    @property
    def addresses(self) -> list[Address]:
        """Where it listens; a port that was given as 0 is the one that the system chose."""
        return [(str(server.server_address[0]), int(server.server_address[1])) for server in self._servers]

    def stop(self) -> None:
        """Stop listening. A scrape that is under way may be cut off."""
        for server in self._servers:
            server.shutdown()
        self._close.close()
        for thread in self._threads:
            thread.join()


@contextlib.contextmanager
def _listening(address: Address, handler: type["_Handler"]) -> Iterator["_Server"]:
    host, port = address
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        server = _Server(address, handler)
    except OSError as error:
        raise ConfigError(
            [
                f"The agent cannot listen on [metrics]listen {shown} ({error.strerror}); choose an address of this "
                f"host and a port that no other process has."
            ]
        ) from error
    with server:
        yield server


class _Server(BoundedThreadingMixIn, http.server.HTTPServer):
    at_once = 8
    seconds = _SCRAPE_SECONDS
    turn_seconds = _TURN_SECONDS

    def __init__(self, address: Address, handler: type["_Handler"]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind; [::] leaves the IPv4 addresses to an address of their own."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # Not HTTPServer's, which asks the resolver for this host's name, and may wait for it.
        socketserver.TCPServer.server_bind(self)

    def turned_away(self) -> None:
        """Nothing is lost: the next scrape has all numbers."""
        LOG.debug("More than %d scrapes wait; one is dropped.", self.most_waiting)

    def handle_error(self, request: object, client_address: object) -> None:
        """A peer that went away or was too slow needs no action."""
        LOG.debug("A scrape could not be answered.", exc_info=True)


class _Handler(MetricsHandler):
    def do_GET(self) -> None:  # noqa: N802 - http.server's name
        """Answer at /metrics, and nowhere else."""
        if self.path.partition("?")[0] not in ("/metrics", "/metrics/"):
            self.send_error(http.HTTPStatus.NOT_FOUND, "The metrics are at /metrics")
            return
        super().do_GET()
