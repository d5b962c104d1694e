"""Guests as libvirt has them, and the two things that we do to one: attach a hostdev, detach a hostdev.

The only module that imports libvirt. Events only say "look again". The next look opens a lost connection again, since
an event connection does not notice a restart of libvirtd by itself (hence keepalive and the close callback). Nothing is
decided here.

One connection serves for reading guests and for events. Each attach and each detach has its own connection: a guest
that hangs keeps its call, and libvirtd reads nothing more from a connection with five calls under way
(max_client_requests in libvirtd.conf), not even its keepalive.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import libvirt

from usb_provider.exception import AttachRefused, DeviceGone, PortRefused, Unavailable, masked
from usb_provider.model.binding.guests import GuestsNow, RunningGuest
from usb_provider.model.binding.hostdev import UnreadableDomain, parse_guest
from usb_provider.model.reporting.plan import Note
from usb_provider.model.text import printable
from usb_provider.virt.connection import Connections, Connector, NotOpened
from usb_provider.virt.picture import Happened, Picture
from usb_provider.virt.removals import Removals

LOG = logging.getLogger(__name__)

_KEEPALIVE_SECONDS = 5
_KEEPALIVE_COUNT = 3
_OPEN_SECONDS = 10.0
_CLOSE_SECONDS = 1.5

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
# A monitor that has not answered for longer is stuck: a call that needs the guest's job lock then waits 30 s for it.
_STUCK_MILLISECONDS = 1000
_GONE = frozenset({libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID})
_ALSO_OF_GUESTS = frozenset({libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_ERR_INTERNAL_ERROR})
_LOST = _ALSO_OF_GUESTS | {
    libvirt.VIR_ERR_NO_CONNECT,
    libvirt.VIR_ERR_RPC,
    libvirt.VIR_ERR_AUTH_FAILED,
    libvirt.VIR_ERR_INVALID_CONN,
}


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

    No call hangs with libvirtd: opening a connection takes 10 s at most, and a call on an open one ends when keepalive
    gives the connection up, after 20 s. A call that changes a guest may wait for that guest without an end.

    :param changed: called, mostly from libvirt's event thread, whenever it is time to look again.
    """

    def __init__(self, uri: str, changed: Callable[[], None]) -> None:
        self._uri = uri
        self._shown = masked(uri)
        self._changed = changed
        self._connections = Connections(self._open_reader, self._open, Connector[_Connection](_OPEN_SECONDS, changed))
        self._reading = threading.Lock()
        self._picture = Picture()
        self._removals = Removals()
        _run_event_loop()

    def close(self) -> None:
        """Close every connection, for good. Returns within 2 s, whatever libvirtd does."""
        self._removals.lose()
        self._connections.close(_CLOSE_SECONDS)

    def guests(self) -> GuestsNow:
        """Every guest now, by one read that merges the events which come meanwhile.

        :raises Unavailable: when libvirt does not answer; the next call tries again.
        """
        with self._reading:
            self._picture.begin()
            running: list[RunningGuest] = []
            cancelled: list[str] = []
            notes: list[Note] = []
            unread: list[str] = []
            with self._for_reading() as connection:
                domains = connection.listAllDomains()
                for domain in domains:
                    try:
                        read = _read(domain)
                    except UnreadableDomain as error:
                        uuid = domain.UUIDString()
                        notes.append(Note(f"domain:{uuid}", f"The agent ignores domain {uuid}: {error}."))
                        unread.append(uuid.lower())
                        continue
                    if read is not None:
                        guest, goes_on = read
                        running.append(guest)
                        cancelled += [guest.guest.uuid] if goes_on else []
            known = [domain.UUIDString().lower() for domain in domains]
            return self._picture.read(running, known, cancelled, notes, unread)

    def look_up(self, uuids: Iterable[str]) -> Iterator[RunningGuest]:
        """Read one guest after the other, by UUID; those that do not run are left out, and ``busy`` is not read.

        A listing waits for each guest whose hook waits for its answer, since libvirt keeps such a guest locked. This
        waits only if that guest is among *uuids*.

        :raises Unavailable: when libvirt does not answer. :raises AttachRefused: when it answers with an error.
        """
        with self._for_changing() as connection:
            for uuid in uuids:
                try:
                    domain = connection.lookupByUUIDString(uuid)
                    if domain.isActive():
                        yield RunningGuest(parse_guest(domain.XMLDesc()))
                except UnreadableDomain:
                    continue  # guests() notes it
                except libvirt.libvirtError as error:
                    if error.get_error_code() not in _GONE:
                        raise

    @property
    def latest(self) -> GuestsNow:
        """What :meth:`guests` gave last, without the guests that have ended since. Asks nothing and waits for nothing.

        Safe in any thread.
        """
        return self._picture.latest

    def attach(self, guest_uuid: str, xml: str) -> None:
        """Attach the hostdev *xml* to the running guest, which is done when this returns.

        :raises AttachRefused: when libvirt does not do it. :raises DeviceGone: when the guest has ended.
        :raises Unavailable: when libvirt does not answer; whether the hostdev is attached is then not known.
        """
        with self._for_changing() as connection:
            connection.lookupByUUIDString(guest_uuid).attachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)

    def detach(self, guest_uuid: str, alias: str, timeout: float) -> None:
        """Detach the hostdev *alias*, and return when the guest has released it; one that is gone is fine.

        :raises AttachRefused: when libvirt does not do it, or the guest does not release it in *timeout* seconds.
        :raises DeviceGone: when the guest has ended.
        :raises Unavailable: when libvirt does not answer; whether the hostdev is gone is then not known.
        """
        with self._for_reading():
            pass  # the connection on which libvirt tells that the device is gone
        with self._removals.expected(guest_uuid, alias) as removal, self._for_changing() as connection:
            domain = connection.lookupByUUIDString(guest_uuid)
            try:
                domain.detachDeviceAlias(alias, libvirt.VIR_DOMAIN_AFFECT_LIVE)
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_DEVICE_MISSING:
                    return
                raise
            removal.wait(timeout)
            if removal.seen or not _has(domain, alias):
                return
            if removal.lost:
                raise self._unavailable("it went away while a guest was to release a device")
            raise AttachRefused(f"The guest has not released {alias} in {timeout:.0f} s.")

    def version(self) -> tuple[int, int, int]:
        """The version of libvirt's daemon. :raises Unavailable: when it does not answer."""
        with self._for_reading() as connection:
            number = connection.getLibVersion()
        return number // 1000000, number // 1000 % 1000, number % 1000

    def hostname(self) -> str:
        """This host's name by libvirt, which Nova uses as well. :raises Unavailable: when it does not answer."""
        with self._for_reading() as connection:
            return str(connection.getHostname())

    @contextlib.contextmanager
    def _for_reading(self) -> Iterator[libvirt.virConnect]:
        with self._as_unavailable(), self._connections.reading() as connection:
            try:
                yield connection.libvirt
            except libvirt.libvirtError as error:
                if error.get_error_code() in _LOST or not connection.is_alive():
                    self._lose(connection)
                raise

    @contextlib.contextmanager
    def _for_changing(self) -> Iterator[libvirt.virConnect]:
        with self._as_unavailable():
            connection = self._connections.take()
        lost = False
        try:
            yield connection.libvirt
        except libvirt.libvirtError as error:
            lost = _is_lost(error) or not connection.is_alive()
            raise (self._unavailable(_line(error)) if lost else _refused(error)) from error
        finally:
            self._connections.give_back(connection, lost=lost)

    @contextlib.contextmanager
    def _as_unavailable(self) -> Iterator[None]:
        """Raise what libvirt or its connection raises as Unavailable."""
        try:
            yield
        except NotOpened as error:
            raise Unavailable(f"libvirt at {self._shown} {error}.") from error
        except libvirt.libvirtError as error:
            raise self._unavailable(_line(error)) from error

    def _open(self) -> "_Connection":
        connection = _Connection(libvirt.open(self._uri))
        try:
            connection.libvirt.setKeepAlive(_KEEPALIVE_SECONDS, _KEEPALIVE_COUNT)
        except libvirt.libvirtError:
            connection.close()
            raise
        return connection

    def _open_reader(self) -> "_Connection":
        connection = self._open()
        try:
            connection.libvirt.registerCloseCallback(self._closed_by_libvirt, connection)
            for event, callback in (
                (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._lifecycle),
                (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, self._device_removed),
                (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED, self._device_not_removed),
                (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, self._device_added),
            ):
                connection.callbacks.append(connection.libvirt.domainEventRegisterAny(None, event, callback, None))
        except libvirt.libvirtError:
            connection.close()
            raise
        LOG.info("Connected to libvirt at %s.", self._shown)
        return connection

    def _lose(self, connection: "_Connection") -> None:
        if self._connections.lose(connection):
            self._removals.lose()

    def _unavailable(self, why: str) -> Unavailable:
        return Unavailable(f"libvirt at {self._shown} does not answer: {why}.")

    def _closed_by_libvirt(self, connection: libvirt.virConnect, reason: int, opened: "_Connection") -> None:
        LOG.info("libvirt at %s has closed the connection.", self._shown)
        self._lose(opened)
        self._changed()

    def _lifecycle(
        self, connection: libvirt.virConnect, domain: libvirt.virDomain, event: int, detail: int, opaque: object
    ) -> None:
        LOG.debug("libvirt: %s event %d detail %d", printable(domain.name(), 200), event, detail)
        happened = _HAPPENED.get((event, detail)) or _HAPPENED.get((event, None))
        if happened is not None:
            self._picture.happened(happened, domain.UUIDString().lower())
        self._changed()

    def _device_removed(
        self, connection: libvirt.virConnect, domain: libvirt.virDomain, alias: str, opaque: object
    ) -> None:
        self._removals.seen(domain.UUIDString().lower(), alias)
        self._changed()

    def _device_added(
        self, connection: libvirt.virConnect, domain: libvirt.virDomain, alias: str, opaque: object
    ) -> None:
        LOG.debug("libvirt: %s, device %s added", printable(domain.name(), 200), printable(alias, 200))
        self._changed()

    def _device_not_removed(
        self, connection: libvirt.virConnect, domain: libvirt.virDomain, alias: str, opaque: object
    ) -> None:
        LOG.debug("libvirt: %s, device %s not removed", printable(domain.name(), 200), printable(alias, 200))


@dataclass(frozen=True, slots=True, eq=False)
class _Connection:
    """One connection, with the numbers of the callbacks that are registered on it."""

    libvirt: libvirt.virConnect
    callbacks: list[int] = field(default_factory=list)

    def is_alive(self) -> bool:
        """Whether it is open, as far as this side knows."""
        try:
            return bool(self.libvirt.isAlive())
        except libvirt.libvirtError:
            return False

    def close(self) -> None:
        """Close it. A callback that stayed registered would keep it open (libvirt: virObjectEventCallbackListAddID)."""
        for callback in self.callbacks:
            with contextlib.suppress(libvirt.libvirtError):
                self.libvirt.domainEventDeregisterAny(callback)
        with contextlib.suppress(libvirt.libvirtError):
            self.libvirt.unregisterCloseCallback()
        with contextlib.suppress(libvirt.libvirtError):
            self.libvirt.close()


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
    thread.start()
    _event_loop.append(thread)


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
    """Whether another operation keeps the guest from being changed. Does not wait for a guest that is stuck."""
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
    except UnreadableDomain as error:
        raise AttachRefused(f"The agent cannot see whether the guest has released {alias}: {error}.") from error


def _is_lost(error: libvirt.libvirtError) -> bool:
    """Whether *error* says that the connection is of no use; a guest's own trouble is an internal error as well."""
    code = error.get_error_code()
    return code in _LOST - _ALSO_OF_GUESTS or (
        code in _ALSO_OF_GUESTS and error.get_error_domain() == libvirt.VIR_FROM_RPC
    )


def _refused(error: libvirt.libvirtError) -> AttachRefused | DeviceGone:
    if error.get_error_code() in _GONE:
        return DeviceGone(f"The guest has ended: {_line(error)}.")
    # libvirt's own words for a port (src/conf/domain_addr.c), and QEMU's (hw/usb/bus.c, usb_claim_port).
    if error.get_error_code() == libvirt.VIR_ERR_XML_ERROR or "not found (in use?)" in str(error):
        return PortRefused(f"libvirt says: {_line(error)}.")
    return AttachRefused(f"libvirt says: {_line(error)}.")


def _line(error: libvirt.libvirtError) -> str:
    return " ".join(str(error).split()).rstrip(".")
