"""One binding pass: look at guests, allocations and devices, decide, and begin to detach and attach.

model/binding says what each guest should have, loop.py when to look, and operations.py runs what takes long, so that no
guest keeps another waiting. One thread makes the passes; the result of an operation comes back through a queue.
"""

import dataclasses
import functools
import logging
import queue
import time
from collections.abc import Collection, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Protocol

from usb_provider.agent.actions import ActionRunner, Done, GuestAction, GuestDoor
from usb_provider.agent.audit import Plugged, plug_changes, record
from usb_provider.agent.claims import Claims, ConfirmedClaims
from usb_provider.agent.meter import NO_METER, Meter, Outcome
from usb_provider.agent.operations import Operations
from usb_provider.exception import AttachRefused, DeviceGone, Unavailable
from usb_provider.model.binding.attachments import Attachments
from usb_provider.model.binding.causes import buses, with_causes
from usb_provider.model.binding.decision import Attach, Binding, Decision, Detach, Why, decide
from usb_provider.model.binding.guest_ports import with_ports
from usb_provider.model.binding.guest_resets import reset_notes
from usb_provider.model.binding.guests import GuestsNow, RunningGuest
from usb_provider.model.binding.holding import holdings
from usb_provider.model.binding.pooled import seen_shares
from usb_provider.model.binding.requests import carried_out
from usb_provider.model.binding.retry import Key, Memory, Suspects
from usb_provider.model.binding.status import BindingState
from usb_provider.model.reporting.guest_news import GuestNews
from usb_provider.model.reporting.host_state import HostView
from usb_provider.model.reporting.plan import Note
from usb_provider.model.text import printable

LOG = logging.getLogger(__name__)

_ROUNDS = 4
_BUSY_SECONDS = 1.0
_START_SECONDS = 600.0
_BY_PLACEMENT = (Why.RELEASED, Why.ASKED)


class Virt(GuestDoor, Protocol):
    """What the binder needs of libvirt; virt/domain.py has it."""

    def guests(self) -> GuestsNow:
        """Every guest now."""


class KeptAttachments(Protocol):
    """Keeps what the binder knows of its attachments for the next process; agent/attachment_store.py has it."""

    def load(self) -> Attachments:
        """What was kept last."""

    def save(self, attachments: Attachments) -> None:
        """Keep this."""

    def notes(self) -> tuple[Note, ...]:
        """What hinders that."""


@dataclass(frozen=True, slots=True)
class BindOptions:
    """Times in seconds.

    How long an attach, a detach and a request to Placement may take; how often the agent asks Placement who holds every
    attached device, since no generation shows that an allocation was deleted; the pause after a first failure; and how
    long a driver of the host must be on a device that a guest has before the guest's hostdev counts as dead.
    """

    attach_timeout: float = 40.0
    detach_timeout: float = 20.0
    answer_timeout: float = 2.4
    confirm_interval: float = 300.0
    first_retry: float = 1.0
    suspect_seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class BinderPass:
    """What the last pass saw: every device that a running guest should have, and what failed. Replaced whole."""

    bindings: tuple[Binding, ...] = ()
    memory: Memory = field(default_factory=Memory)
    running: tuple[RunningGuest, ...] = ()
    notes: tuple[Note, ...] = ()


class Binder:
    """Keeps the devices of this host with the guests that hold them.

    One thread makes passes; :attr:`last` and :meth:`started` are safe in any.

    :param operations: runs the work on guests.
    :param kept: where the attachments are kept over a restart.
    :param askers: runs requests to Placement, in parallel and with a time limit.
    """

    def __init__(
        self,
        virt: Virt,
        claims: Claims,
        *,
        options: BindOptions,
        operations: Operations,
        kept: KeptAttachments,
        askers: Executor,
        meter: Meter = NO_METER,
    ) -> None:
        self._virt = virt
        self._claims = ConfirmedClaims(
            claims, askers, seconds=options.answer_timeout, interval=options.confirm_interval
        )
        self._options = options
        self._operations = operations
        self._kept = kept
        self._attachments = kept.load()
        self._meter = meter
        self._runner = ActionRunner(
            virt, self._claims.device_of, self._seconds_since_start, detach_timeout=options.detach_timeout, meter=meter
        )
        self._done: queue.SimpleQueue[Done] = queue.SimpleQueue()
        self._starting: queue.SimpleQueue[tuple[str, float]] = queue.SimpleQueue()
        self._started: dict[str, float] = {}
        self._plugged: Plugged | None = None
        self._buses: frozenset[int] = frozenset()
        self._memory = Memory()
        self._noted: list[Note] = []
        self.last = BinderPass()

    def started(self, guest_uuid: str) -> None:
        """The guest is starting; the time until it has its devices is counted from here."""
        self._starting.put((guest_uuid, time.monotonic()))

    def run(self) -> float | None:
        """Make one pass; give the seconds after which to look again even if nothing changes, or None.

        :raises Unavailable: when libvirt does not answer; back off and make another pass.
        """
        for _ in range(_ROUNDS):
            # Before the look at the guests: only a look that began after an operation ended shows for sure what it did.
            under_way = self._operated()
            guests = self._virt.guests()
            self._collect()
            view = self._claims.view()
            if view is None:
                return None
            if not self._round(guests, view, under_way):
                break
        return self._next_look()

    def _round(self, guests: GuestsNow, view: HostView, under_way: frozenset[str]) -> bool:
        """Decide and begin what is due; give whether there may be more to do at once."""
        shares = seen_shares(view, guests.running, guests.known)
        if shares != view.shares:
            self._claims.tell_shares(shares)
            view = dataclasses.replace(view, shares=shares)
        held = holdings(view)
        names = {each.guest.uuid: each.guest.name for each in guests.running}
        devices = {each.unit: each.device for each in view.devices if each.unit is not None}
        there = buses(each.device for each in view.devices)
        self._buses |= there
        lines, self._plugged = plug_changes(self._plugged, devices, held, names, gone_buses=self._buses - there)
        record(*lines)
        decision = decide(
            guests.running,
            held,
            known_consumers=guests.known,
            dead=self._dead(guests, view, under_way),
            attachments=self._attachments,
        )
        # Before anything begins: what is told is about what the guests have now.
        done = carried_out(view.tree, guests.running, decision.bindings, under_way | guests.unread)
        self._claims.tell_news(GuestNews(done, self._waiting(decision.bindings, guests, view)))
        decision, attachments = with_ports(decision, guests.running, held, self._attachments)
        decision = self._without_held_elsewhere(decision, view)
        self._noted += reset_notes(guests.running, held)
        leaving = {(each.guest_uuid, each.unit) for each in decision.detaches}
        self._keep(attachments.seen(guests.running, devices, leaving=leaving, under_way=under_way))
        self._remember(guests, decision.bindings, under_way)
        detaches = with_causes(decision.detaches, gone_buses=self._buses - there, arrived=guests.arrived)
        actions: tuple[GuestAction, ...] = (*detaches, *decision.attaches)
        self._forget_failures(guests, actions)
        now = time.monotonic()
        retries = self._memory.retries
        due = [
            each
            for each in actions
            if each.guest_uuid not in under_way and retries.is_due((each.guest_uuid, each.unit), now)
        ]
        # Who holds a device is read again before the agent attaches it, or detaches it by a claim or a user's request.
        decided = {each.provider_uuid for each in due if isinstance(each, Attach) or each.why in _BY_PLACEMENT}
        attached = {hostdev.provider_uuid or "" for each in guests.running for hostdev in each.guest.ours}
        old, is_corrected = self._claims.confirm(view, self._claims.doubtful(decided, attached))
        if is_corrected:
            return True
        due = [each for each in due if each.provider_uuid not in old]
        self._begin(due)
        return bool(due) and not self._operations.under_way()

    def _waiting(self, bindings: Sequence[Binding], guests: GuestsNow, view: HostView) -> frozenset[str]:
        """The providers whose device a running guest lacks for too long."""
        lacking = self._memory.lacking.now(bindings, guests.running, time.monotonic())
        self._memory = dataclasses.replace(self._memory, lacking=lacking)
        return lacking.waiting(bindings, view.tree)

    def _without_held_elsewhere(self, decision: Decision, view: HostView) -> Decision:
        """*decision* without the detaches of what a guest holds below another compute node, or may hold there.

        Then the agent reports below a wrong compute node, or the host got another one while the guest ran.
        """
        released = [each for each in decision.detaches if each.why is Why.RELEASED]
        outside = {each.provider_uuid for each in released} - view.tree.providers.keys()
        holders = self._claims.holders_outside(outside)
        kept: list[Detach] = []
        self._noted = []
        for each in released:
            consumers = holders.get(each.provider_uuid, ())
            if consumers is None:
                kept.append(each)
            elif each.guest_uuid in consumers:
                kept.append(each)
                self._noted.append(_held_elsewhere(each, view))
        return dataclasses.replace(decision, detaches=tuple(each for each in decision.detaches if each not in kept))

    def _operated(self) -> frozenset[str]:
        """Guests on which an operation is under way; one that takes long is logged once."""
        for uuid in self._operations.longer_than(self._options.attach_timeout):
            LOG.warning("An operation on guest %s takes longer than %.0f s.", uuid, self._options.attach_timeout)
        return frozenset(self._operations.under_way())

    def _dead(self, guests: GuestsNow, view: HostView, under_way: Collection[str]) -> frozenset[tuple[str, str]]:
        """Hostdevs that QEMU has released although libvirt still shows them.

        Every hostdev that came with a guest from a save file or another host is one. Another hostdev is one when a
        driver of the host stays on the device's interfaces: while QEMU has a device, they have no driver or usbfs.
        """
        drivers = {each.unit: each.device.host_driver for each in view.devices}
        dead, suspects = guests.dead_hostdevs(drivers, under_way)
        now = time.monotonic()
        seen: Suspects = self._memory.suspects.seen(suspects, now)
        self._memory = dataclasses.replace(self._memory, suspects=seen)
        return dead | seen.dead(now, self._options.suspect_seconds)

    def _begin(self, due: Sequence[GuestAction]) -> None:
        """Begin what is *due*, for each guest in order."""
        work: dict[str, list[GuestAction]] = {}
        for action in due:
            work.setdefault(action.guest_uuid, []).append(action)
        # Before the first attach, so that neither a crash nor another plug meanwhile makes it an attach to that plug.
        attaches = [each for each in due if isinstance(each, Attach)]
        self._keep(self._attachments.begun((each.guest_uuid, each.unit, each.device) for each in attaches))
        for uuid, actions in work.items():
            try:
                self._operations.start(uuid, functools.partial(self._runner.run, tuple(actions), self._done.put))
            except RuntimeError as error:
                self._done.put(Done(actions[0], Unavailable(f"The agent cannot start a thread for it ({error}).")))
        self._collect()

    def _keep(self, attachments: Attachments) -> None:
        self._attachments = attachments
        self._kept.save(attachments)

    def confirm_every(self, seconds: float) -> None:
        """From now on, ask Placement so often who holds every attached device. Safe in any thread."""
        self._claims.interval = seconds

    def _seconds_since_start(self, guest_uuid: str) -> float | None:
        started = self._started.get(guest_uuid)
        return None if started is None else round(time.monotonic() - started, 3)

    def _collect(self) -> None:
        """Take note of the results of the operations that have ended."""
        while not self._starting.empty():
            uuid, when = self._starting.get()
            self._started[uuid] = when
        while not self._done.empty():
            done = self._done.get()
            key = (done.action.guest_uuid, done.action.unit)
            if done.error is not None:
                self._failed(key, done.action, done.error)
            else:
                self._resolve([key])

    def _failed(self, key: Key, action: GuestAction, error: Exception) -> None:
        failed = self._meter.detach_failed if isinstance(action, Detach) else self._meter.attach_failed
        failed(Outcome.of(error))
        is_bug = not isinstance(error, AttachRefused | DeviceGone | Unavailable)
        reason = f"{type(error).__name__}, a bug in usb-provider." if is_bug else str(error)
        what = "detached from" if isinstance(action, Detach) else "attached to"
        device = action.provider_uuid if action.key is None else f"{action.provider_name} ({action.key})"
        said = f"{device} cannot be {what} guest {action.guest_name} yet: {reason}"
        before = self._memory.retries.failures.get(key)
        retries = self._memory.retries.failed(key, reason, said, time.monotonic(), self._options.first_retry)
        self._memory = dataclasses.replace(self._memory, retries=retries)
        if before is None or before.said != said:
            LOG.warning("%s", said, exc_info=error if is_bug else None)
        else:
            LOG.debug("%s Attempt %d.", said, before.attempts + 1)

    def _resolve(self, keys: Collection[Key]) -> None:
        retries = self._memory.retries
        for key in keys:
            if key in retries.failures:
                LOG.info("Resolved: %s", retries.failures[key].said)
        self._memory = dataclasses.replace(self._memory, retries=retries.without(keys))

    def _forget_failures(self, guests: GuestsNow, actions: Sequence[GuestAction]) -> None:
        """Forget failures that need no further attempt: the guest has ended, or no longer has or holds the device."""
        trying = {each.guest_uuid for each in actions} | {each.guest.uuid for each in guests.running if each.busy}
        self._resolve(self._memory.retries.over(trying | set(self._operations.under_way())))

    def _remember(self, guests: GuestsNow, bindings: tuple[Binding, ...], under_way: Collection[str]) -> None:
        standing = self._memory.standing
        for each in standing.changed(bindings):
            why = f": {each.reason}" if each.reason else ""
            LOG.debug("Guest %s, %s: %s%s", each.guest_name, each.provider_name, each.state.value, why)
        self._memory = dataclasses.replace(self._memory, standing=standing.now(bindings, time.time()))
        # Only the time of the first attach is of interest; a later one has nothing to do with the start.
        running = {each.guest.uuid for each in guests.running}
        waiting = {each.guest_uuid for each in bindings if each.state is not BindingState.ATTACHED}
        now = time.monotonic()
        self._started = {
            uuid: when
            for uuid, when in self._started.items()
            if uuid in waiting or uuid in under_way or (uuid not in running and now - when < _START_SECONDS)
        }
        notes = (*guests.notes, *self._kept.notes(), *self._noted)
        self.last = BinderPass(bindings, self._memory, guests.running, notes)

    def _next_look(self) -> float | None:
        self.last = dataclasses.replace(self.last, memory=self._memory)
        times = [] if (soonest := self._memory.next_look(self._options.suspect_seconds)) is None else [soonest]
        now = time.monotonic()
        wanting = {binding.guest_uuid for binding in self.last.bindings}
        if any(each.busy and (each.guest.ours or each.guest.uuid in wanting) for each in self.last.running):
            times.append(now + _BUSY_SECONDS)
        return max(0.05, min(times) - now) if times else None


def _held_elsewhere(detach: Detach, view: HostView) -> Note:
    root = view.tree.root
    return Note(
        f"elsewhere:{detach.guest_uuid}:{detach.provider_uuid}",
        f"Guest {detach.guest_name} holds and has the device of provider {detach.provider_uuid}, which is not below "
        f"the compute node {printable(root.name, 200)}; the agent does not detach it. Check that the compute node in "
        f"[agent]compute_id_file or root_provider_uuid is this host's.",
    )
