"""The answers to libvirt's hook: whether a guest may start or arrive, and with which XML.

A guest that comes from a save file is never refused: Nova would delete the file, and with it the guest's memory.

model/binding finds the reasons; this module asks Placement what the guest holds, in time for the hook, and logs each
refusal once. It attaches nothing. :meth:`Admission.answer` may be called from any thread, while the
binder's own pass waits for libvirt.
"""

import dataclasses
import functools
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor

from placement_traits import NOT_LIVE_MIGRATABLE
from usb_provider.agent.arrivals import Arrivals
from usb_provider.agent.audit import AuditLine, record
from usb_provider.agent.meter import NO_METER, Meter
from usb_provider.agent.present import PresentGuests
from usb_provider.agent.questions import Questions
from usb_provider.exception import Conflict, UsbProviderError
from usb_provider.model.binding.guests import GuestsNow
from usb_provider.model.binding.holding import UnitsHeld, held_by, holdings
from usb_provider.model.binding.hostdev import Guest, UnreadableDomain, parse_guest
from usb_provider.model.binding.refusals import Obstacle, Refusal, arrival_refusals, command_to_start, start_refusals
from usb_provider.model.binding.status import RefusedStart
from usb_provider.model.reporting.host_state import HostView
from usb_provider.model.text import printable
from usb_provider.virt.hook import CLASSES, asks_for, with_placeholders
from usb_provider.virt.protocol import Allowed, Answer, HookCall, Operation, Refused, Rewritten

LOG = logging.getLogger(__name__)

_REFUSAL_SECONDS = 24 * 3600.0
"""How long a refusal is shown by "usb-provider status"."""

_WHAT = {
    Operation.PREPARE: "start",
    Operation.MIGRATE: "live migration",
}
"""What the hook asks for, in the words of a refusal."""

_MARGIN_SECONDS = 1.0
_MARGIN_SHARE = 0.2
"""What an answer leaves of the hook's time, so that it arrives: this share, and _MARGIN_SECONDS at most."""

_LOOK_SECONDS = 0.1
"""How often an answer looks for a view that it waits for."""

_READING_SECONDS = 2.0
_LEAST_READING_SECONDS = 0.3
"""How long libvirt may take to say which devices the other guests have now: a listing of a busy host takes less."""

NOT_READ_YET = Refusal(Obstacle.NOT_READ_YET, "The agent has not read this host's devices from Placement yet.")
"""Why a guest that needs a device cannot start yet, and why the agent cannot say which guests hold one."""


class Admission:
    """Answers the hook.

    :param guests: the guests as the last read of libvirt shows them.
    :param present: the guests as they are now, for a start: libvirt waits for this answer, so a listing would hang.
    :param view: the tree as last read, with the devices as they are now; None while Placement was never read.
    :param consumer: what a consumer holds in Placement now: by provider, the units of each class.
    :param traits: the traits of any provider, also of another host's.
    :param started: gets the UUID of a guest that is starting.
    :param units: the total of such a provider's inventory.
    :param askers: runs the requests to Placement that an answer needs.
    :param seconds: how long Placement may take for one request.
    :param look_now: is called again and again while an answer waits for a view: a reporting pass should be made.
    :param classes: the resource classes that rules give, besides CUSTOM_USB_*.
    """

    def __init__(
        self,
        guests: Callable[[], GuestsNow],
        view: Callable[[], HostView | None],
        consumer: Callable[[str], UnitsHeld],
        traits: Callable[[str], Collection[str]],
        started: Callable[[str], None],
        *,
        units: Callable[[str], int],
        askers: Executor,
        seconds: float,
        present: PresentGuests,
        look_now: Callable[[], None] = lambda: None,
        classes: Callable[[], Collection[str]] = frozenset,
        meter: Meter = NO_METER,
    ) -> None:
        self._guests = guests
        self._present = present
        self._view = view
        self._consumer = consumer
        self._traits = traits
        self._units = units
        self._started = started
        self._questions = Questions(askers, seconds)
        self._look_now = look_now
        self._classes = classes
        self._meter = meter
        self._lock = threading.Lock()
        self._arrivals = Arrivals()
        self._refused: dict[str, RefusedStart] = {}
        self._said: dict[str, str] = {}
        self._called_at: float | None = None

    @property
    def called_at(self) -> float | None:
        """When the hook last called, in seconds since 1970; None when it never did."""
        return self._called_at

    def refused(self) -> Mapping[str, RefusedStart]:
        """Starts that were refused in the last day and have not been allowed since, by guest."""
        oldest = time.time() - _REFUSAL_SECONDS
        with self._lock:
            self._refused = {uuid: each for uuid, each in self._refused.items() if each.since > oldest}
            self._said = {uuid: said for uuid, said in self._said.items() if uuid in self._refused}
            refused = dict(self._refused)
        if not any(each.command for each in refused.values()):
            return refused
        # A server that Nova has built on another host since then runs there; its claim here is gone.
        return {
            uuid: each if self._held_before(uuid) else dataclasses.replace(each, command=None)
            for uuid, each in refused.items()
        }

    def answer(self, call: HookCall) -> Answer:
        """The answer for the hook."""
        self._called_at = time.time()
        ends = time.monotonic() + call.seconds - min(_MARGIN_SECONDS, _MARGIN_SHARE * call.seconds)
        until = ends - self._questions.seconds
        try:
            match call.operation:
                case Operation.STARTED:
                    self._started(parse_guest(call.xml, self._classes()).uuid)
                    return Allowed()
                case Operation.MIGRATE:
                    guest = parse_guest(call.xml, self._classes())
                    self._arrivals.expect(guest.uuid, call.operation)
                    with self._present.in_hook(guest.uuid):
                        return self._arrive(guest, until) or _rewritten(call.xml)
                case Operation.RESTORE:
                    self._arrivals.expect(parse_guest(call.xml, self._classes()).uuid, call.operation)
                    return _rewritten(call.xml, is_restore=True, classes=self._classes())
                case Operation.PREPARE:
                    guest = parse_guest(call.xml, self._classes())
                    if self._arrivals.is_restored(guest.uuid, call.xml):
                        return self._restore(guest)
                    with self._present.in_hook(guest.uuid):
                        return self._prepare(guest, until, ends)
        except UnreadableDomain as error:
            return self._not_understood(call, error)

    def _not_understood(self, call: HookCall, error: UnreadableDomain) -> Answer:
        if call.operation not in _WHAT:  # too late to refuse, or never to be refused
            LOG.warning("The agent cannot read the domain of guest %s: %s", printable(call.guest, 200), error)
            return Allowed()
        reason = f"the agent cannot read the domain: {error}"
        LOG.warning("The %s of guest %s is refused: %s", _WHAT[call.operation], printable(call.guest, 200), reason)
        record(AuditLine(event="refuse", guest=call.guest, reason=reason))
        self._meter.refused(Obstacle.UNREADABLE)
        return Refused(reason)

    def _restore(self, guest: Guest) -> Answer:
        """Allow it. What it lacks it gets when that is there, as any guest that runs."""
        view = self._view()
        said = () if view is None else start_refusals(guest, holdings(view), self._guests().running)
        if said:
            LOG.warning(
                "Guest %s comes from a save file and goes on without a device: %s",
                guest.name,
                " ".join(each.text for each in said),
            )
        return self._allow(guest)

    def _prepare(self, guest: Guest, until: float, ends: float) -> Answer:
        """Whether *guest* may start: it must be able to get every device that it holds on this host.

        It waits for a view and for Placement *until* then, by time.monotonic(); the answer is due when it *ends*.
        """
        if guest.asks_for:
            self._await_view(until)
        needs_answer = bool(guest.asks_for) or self._held_before(guest.uuid)
        try:
            held, _ = self._questions.ask(lambda: self._consumer(guest.uuid), until=until if needs_answer else None)
        except UsbProviderError as error:
            if needs_answer:
                return self._refuse(guest, [_cannot_be_asked(error)], Operation.PREPARE)
            return Allowed()
        if len(held) > 1:  # more than its compute node's resources: perhaps a device
            self._await_view(until)
        view = self._view()
        if view is None:
            return self._refuse(guest, [NOT_READ_YET], Operation.PREPARE) if held and guest.asks_for else Allowed()
        latest = self._guests()
        ours = held_by(guest.uuid, held, view, latest.running, latest.known)
        if any(each.device is not None for each in ours):
            seconds = max(_LEAST_READING_SECONDS, min(_READING_SECONDS, ends - time.monotonic()))
            running = self._present.running(guest.uuid, seconds)
            ours = held_by(guest.uuid, held, view, running, latest.known)
            said = start_refusals(guest, ours, running)
        else:
            said = start_refusals(guest, ours, ())
        if said:
            return self._refuse(guest, said, Operation.PREPARE)
        LOG.debug("Guest %s may start; it holds %d devices of this host.", guest.name, len(ours))
        return self._allow(guest)

    def _allow(self, guest: Guest) -> Allowed:
        """Permission, after which an earlier refusal is over."""
        with self._lock:
            self._refused.pop(guest.uuid, None)
            before = self._said.pop(guest.uuid, None)
        if before is not None:
            LOG.info("Resolved: %s", before)
        return Allowed()

    def _arrive(self, guest: Guest, until: float) -> Refused | None:
        """A refusal, if *guest* may not be migrated live to this host, else None. Its start here is checked later."""
        brings = Counter(hostdev.provider_uuid or "" for hostdev in guest.ours)
        if not brings and not guest.asks_for:
            return None
        if brings:
            self._await_view(until)
        view = self._view()
        if view is None:
            return self._refuse(guest, [NOT_READ_YET], Operation.MIGRATE) if brings else None
        try:
            held, there = self._questions.ask(
                lambda: self._consumer(guest.uuid),
                *(functools.partial(self._elsewhere, uuid, number) for uuid, number in brings.items()),
                until=until if brings else None,
            )
        except UsbProviderError as error:
            if not brings:  # nothing that it has could be lost
                return None
            return self._refuse(guest, [_cannot_be_asked(error)], Operation.MIGRATE)
        staying = [uuid for uuid, (stays, _) in zip(brings, there, strict=True) if stays]
        units = {uuid: number for uuid, (_, number) in zip(brings, there, strict=True)}
        ours = held_by(guest.uuid, held, view)
        said = arrival_refusals(guest, ours, staying, units, is_claimed=view.tree.root.uuid in held)
        if said:
            return self._refuse(guest, said, Operation.MIGRATE)
        if len(ours) < len(guest.ours):
            LOG.info(
                "Guest %s has %d USB devices where it comes from and holds %d on this host: a move loses what was "
                "attached beyond its flavor.",
                guest.name,
                len(guest.ours),
                len(ours),
            )
        return None

    def _await_view(self, until: float) -> None:
        """Return when there is a view, or *until* is over; at once where too many wait already."""
        if self._view() is not None:
            return
        with self._questions.turn_to_wait() as may_wait:
            while may_wait and self._view() is None and (left := until - time.monotonic()) > 0:
                self._look_now()
                time.sleep(min(_LOOK_SECONDS, left))

    def _elsewhere(self, provider_uuid: str, devices: int) -> tuple[bool, int]:
        """Whether a rule on the other host keeps the provider's devices there, and how many units it has at most, where
        the guest has several of its *devices*.
        """
        try:
            stays = NOT_LIVE_MIGRATABLE in self._traits(provider_uuid)
            return stays, self._units(provider_uuid) if devices > 1 else 1
        except Conflict:  # the provider has been deleted, and with it what its rule said
            return False, 1

    def _refuse(self, guest: Guest, why: Sequence[Refusal], operation: Operation) -> Refused:
        reason = " ".join(each.text for each in why)
        said = f"The {_WHAT[operation]} of guest {guest.name} is refused: {reason}"
        command = command_to_start(guest.uuid, why) if operation is Operation.PREPARE else None
        with self._lock:
            before = self._said.get(guest.uuid)
            self._said[guest.uuid] = said
            self._refused[guest.uuid] = RefusedStart(reason, time.time(), command)
        # A user who starts the guest repeatedly sees the reason each time; the log has it once.
        LOG.log(logging.WARNING if before != said else logging.DEBUG, "%s", said)
        record(AuditLine(event="refuse", guest_uuid=guest.uuid, guest=guest.name, reason=reason))
        self._meter.refused(why[0].obstacle)
        return Refused(" ".join(each.told or each.text for each in why))

    def _held_before(self, guest_uuid: str) -> bool:
        view = self._view()
        return view is not None and any(guest_uuid in each.consumers for each in holdings(view))


def _cannot_be_asked(error: UsbProviderError) -> Refusal:
    told = "The agent cannot ask Placement what this instance holds"
    return Refusal(Obstacle.PLACEMENT, f"{told}: {error}", f"{told}.")


def _rewritten(text: str, *, is_restore: bool = False, classes: Collection[str] = ()) -> Answer:
    try:
        rewritten = with_placeholders(text, is_restore, asks_for("|".join([CLASSES, *classes])))
    except RecursionError as error:
        raise UnreadableDomain("the XML is nested too deeply") from error
    return Allowed() if rewritten is None else Rewritten(rewritten)
