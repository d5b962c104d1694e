"""Guests as libvirt has them, and the two things that we do to one: attach a hostdev, detach a hostdev.

The only module that imports libvirt. Events only say "look again"; a connection that is lost is opened anew at the
next look, since an event connection does not notice a restart of libvirtd by itself (hence keepalive and the close
callback). Nothing is decided here.
"""

import contextlib
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import libvirt

from usb_provider.exception import AttachRefused, DeviceGone, Unavailable
from usb_provider.model.binding.guests import GuestsNow, RunningGuest
from usb_provider.model.binding.hostdev import UnreadableDomain, parse_guest
from usb_provider.model.reporting.plan import Note
from usb_provider.virt.picture import Happened, Picture

LOG = logging.getLogger(__name__)

_KEEPALIVE_SECONDS = 5
_KEEPALIVE_COUNT = 3

# A domain in one of these pauses is on its way in: libvirt holds its job lock, and QEMU drops every host device that
# it would get (docs/binding.md).
_INCOMING = frozenset(
    {
        libvirt.VIR_DOMAIN_PAUSED_MIGRATION,
        libvirt.VIR_DOMAIN_PAUSED_FROM_SNAPSHOT,
        libvirt.VIR_DOMAIN_PAUSED_SAVE,
        libvirt.VIR_DOMAIN_PAUSED_STARTING_UP,
        libvirt.VIR_DOMAIN_PAUSED_POSTCOPY,
    }
)
# A monitor that has not answered for longer is stuck: whatever wants the guest's job lock then waits 30 s for it.
_STUCK_MILLISECONDS = 1000
_GONE = frozenset({libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID})
_LOST = frozenset(
    {
        libvirt.VIR_ERR_SYSTEM_ERROR,
        libvirt.VIR_ERR_NO_CONNECT,
        libvirt.VIR_ERR_INTERNAL_ERROR,
        libvirt.VIR_ERR_RPC,
        libvirt.VIR_ERR_AUTH_FAILED,
        libvirt.VIR_ERR_INVALID_CONN,
    }
)


# By event and detail; None is any other detail.
_HAPPENED: dict[tuple[int, int | None], Happened] = {
    (libvirt.VIR_DOMAIN_EVENT_STOPPED, None): Happened.ENDED,
    (libvirt.VIR_DOMAIN_EVENT_STARTED, None): Happened.STARTED,
    (libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_MIGRATED): Happened.ARRIVED,
    (libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_RESTORED): Happened.ARRIVED,
    (libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_FROM_SNAPSHOT): Happened.ARRIVED,
    (libvirt.VIR_DOMAIN_EVENT_RESUMED, libvirt.VIR_DOMAIN_EVENT_RESUMED_FROM_SNAPSHOT): Happened.ARRIVED,
    (libvirt.VIR_DOMAIN_EVENT_RESUMED, libvirt.VIR_DOMAIN_EVENT_RESUMED_MIGRATED): Happened.HANDED_OVER_OR_NOT,
}


class LibvirtHost:
    """This host's guests by libvirt. Safe to use from several threads.

    :param changed: called from libvirt's event thread whenever it is time to look again.
    """

    def __init__(self, uri: str, changed: Callable[[], None]) -> None:
        self._uri = uri
        self._changed = changed
        self._lock = threading.Lock()
        self._connection: libvirt.virConnect | None = None
        self._removed: defaultdict[tuple[str, str], threading.Event] = defaultdict(threading.Event)
        self._reading = threading.Lock()
        self._picture = Picture()
        _run_event_loop()

    def close(self) -> None:
        """Close the connection, if there is one."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(libvirt.libvirtError):
                connection.close()

    def guests(self) -> GuestsNow:
        """Every guest now, by one read that merges the events which come meanwhile.

        :raises Unavailable: when libvirt does not answer; it is tried anew at the next call.
        """
        with self._reading:
            self._picture.begin()
            running: list[RunningGuest] = []
            cancelled: list[str] = []
            notes: list[Note] = []
            with self._libvirt() as connection:
                domains = connection.listAllDomains()
                for domain in domains:
                    try:
                        read = _read(domain)
                    except UnreadableDomain as error:
                        uuid = domain.UUIDString()
                        notes.append(Note(f"domain:{uuid}", f"Domain {uuid} is left alone: {error}."))
                        continue
                    if read is not None:
                        guest, goes_on = read
                        running.append(guest)
                        cancelled += [guest.guest.uuid] if goes_on else []
            return self._picture.read(running, [domain.UUIDString().lower() for domain in domains], cancelled, notes)

    @property
    def latest(self) -> GuestsNow:
        """What :meth:`guests` gave last, without the guests that have ended since. Asks nothing and waits for nothing.

        Safe in any thread.
        """
        return self._picture.latest

    def attach(self, guest_uuid: str, xml: str) -> None:
        """Attach the hostdev *xml* to the running guest, which is done when this returns.

        :raises AttachRefused: when libvirt does not do it. :raises DeviceGone: when the guest has ended.
        """
        with self._libvirt() as connection:
            try:
                connection.lookupByUUIDString(guest_uuid).attachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)
            except libvirt.libvirtError as error:
                raise _refused(error) from error

    def detach(self, guest_uuid: str, alias: str, timeout: float) -> None:
        """Detach the hostdev *alias*, and return when the guest has let go of it; one that is gone is fine.

        :raises AttachRefused: when libvirt does not do it, or the guest does not let go in *timeout* seconds.
        :raises DeviceGone: when the guest has ended.
        """
        removed = threading.Event()
        self._removed[guest_uuid, alias] = removed
        try:
            with self._libvirt() as connection:
                try:
                    domain = connection.lookupByUUIDString(guest_uuid)
                    domain.detachDeviceAlias(alias, libvirt.VIR_DOMAIN_AFFECT_LIVE)
                except libvirt.libvirtError as error:
                    if error.get_error_code() == libvirt.VIR_ERR_DEVICE_MISSING:
                        return
                    raise _refused(error) from error
                if not removed.wait(timeout) and _has(domain, alias):
                    raise AttachRefused(f"The guest has not let go of {alias} in {timeout:.0f} s.")
        finally:
            self._removed.pop((guest_uuid, alias), None)

    def version(self) -> tuple[int, int, int]:
        """The version of libvirt's daemon. :raises Unavailable: when it does not answer."""
        with self._libvirt() as connection:
            number = connection.getLibVersion()
        return number // 1000000, number // 1000 % 1000, number % 1000

    def hostname(self) -> str:
        """What libvirt calls this host, and nova its compute node. :raises Unavailable: when it does not answer."""
        with self._libvirt() as connection:
            return str(connection.getHostname())

    @contextlib.contextmanager
    def _libvirt(self) -> Iterator[libvirt.virConnect]:
        try:
            yield self._open()
        except libvirt.libvirtError as error:
            if error.get_error_code() in _LOST:
                self.close()
            raise Unavailable(f"libvirt at {self._uri} does not answer: {_line(error)}.") from error

    def _open(self) -> libvirt.virConnect:
        with self._lock:
            if self._connection is not None:
                if self._connection.isAlive():
                    return self._connection
                self._connection = None
            connection = libvirt.open(self._uri)
            connection.setKeepAlive(_KEEPALIVE_SECONDS, _KEEPALIVE_COUNT)
            connection.registerCloseCallback(self._closed, None)
            for event, callback in (
                (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._lifecycle),
                (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, self._device_removed),
                (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED, self._device_changed),
                (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, self._device_changed),
            ):
                connection.domainEventRegisterAny(None, event, callback, None)
            LOG.info("Connected to libvirt at %s.", self._uri)
            self._connection = connection
            return connection

    def _closed(self, connection: Any, reason: int, opaque: Any) -> None:
        LOG.info("libvirt at %s has closed the connection.", self._uri)
        with self._lock:
            if self._connection is connection:
                self._connection = None
        self._changed()

    def _lifecycle(self, connection: Any, domain: Any, event: int, detail: int, opaque: Any) -> None:
        LOG.debug("libvirt: %s event %d detail %d", domain.name(), event, detail)
        happened = _HAPPENED.get((event, detail)) or _HAPPENED.get((event, None))
        if happened is not None:
            self._picture.happened(happened, domain.UUIDString().lower())
        self._changed()

    def _device_removed(self, connection: Any, domain: Any, alias: str, opaque: Any) -> None:
        waiting = self._removed.get((domain.UUIDString().lower(), alias))
        if waiting is not None:
            waiting.set()
        self._changed()

    def _device_changed(self, connection: Any, domain: Any, alias: str, opaque: Any) -> None:
        LOG.debug("libvirt: %s, device %s added or not removed", domain.name(), alias)


_event_loop: list[threading.Thread] = []


def _run_event_loop() -> None:
    """libvirt's own event loop, once a process and before any connection, in a thread of its own."""
    if _event_loop:
        return
    libvirt.registerErrorHandler(lambda context, error: None, None)  # errors are raised; they need not be printed
    libvirt.virEventRegisterDefaultImpl()

    def run() -> None:
        while True:
            try:
                libvirt.virEventRunDefaultImpl()
            except libvirt.libvirtError:
                LOG.exception("libvirt's event loop failed; it goes on.")

    thread = threading.Thread(target=run, name="libvirt-events", daemon=True)
    _event_loop.append(thread)
    thread.start()


def _read(domain: libvirt.virDomain) -> tuple[RunningGuest, bool] | None:
    """The guest, and whether it goes on after a cancelled migration; None when it does not run.

    :raises UnreadableDomain: when its XML is not understood.
    """
    try:
        if not domain.isActive():
            return None
        state, reason = domain.state()
        guest = parse_guest(domain.XMLDesc())
        busy = (state == libvirt.VIR_DOMAIN_PAUSED and reason in _INCOMING) or _has_job(domain)
    except libvirt.libvirtError as error:
        if error.get_error_code() in _GONE:
            return None
        raise
    goes_on = (state, reason) == (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_MIGRATION_CANCELED)
    return RunningGuest(guest, busy), goes_on


def _has_job(domain: libvirt.virDomain) -> bool:
    """Whether the guest cannot be changed now. Asks for the job only where that does not wait for a stuck guest."""
    try:
        control, _, milliseconds = domain.controlInfo()
        if control == libvirt.VIR_DOMAIN_CONTROL_OCCUPIED and milliseconds > _STUCK_MILLISECONDS:
            return True
        return bool(domain.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE)
    except libvirt.libvirtError as error:
        # Of a migration libvirt tells only the source how it goes (VIR_ERR_OPERATION_UNSUPPORTED).
        return error.get_error_code() in (libvirt.VIR_ERR_OPERATION_UNSUPPORTED, libvirt.VIR_ERR_OPERATION_TIMEOUT)


def _has(domain: libvirt.virDomain, alias: str) -> bool:
    try:
        return any(hostdev.alias == alias for hostdev in parse_guest(domain.XMLDesc()).hostdevs)
    except (libvirt.libvirtError, UnreadableDomain):
        return False


def _refused(error: libvirt.libvirtError) -> BaseException:
    code = error.get_error_code()
    if code in _GONE:
        return DeviceGone(f"The guest has ended: {_line(error)}.")
    if code in _LOST - {libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_ERR_SYSTEM_ERROR}:
        assert isinstance(error, BaseException)
        return error
    return AttachRefused(f"libvirt says: {_line(error)}.")


def _line(error: libvirt.libvirtError) -> str:
    return " ".join(str(error).split()).rstrip(".")
