"""One binding pass: look at guests, allocations and devices, decide, detach and attach; and the answers to the hook.

What should be is model/binding.py's to say; when to look is service.py's. A guest that blocks (a migration holds its
lock for half a minute) holds up the others for ``attach_timeout`` once, and then nobody.
"""

import dataclasses
import functools
import json
import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, field
from typing import Any, Protocol

from placement_traits import NOT_LIVE_MIGRATABLE
from usb_provider.agent.meter import NO_METER, Meter, Outcome
from usb_provider.agent.notices import Notices
from usb_provider.exception import AttachRefused, Conflict, DeviceGone, Incompatible, Unavailable, UsbProviderError
from usb_provider.model.binding.decision import (
    Attach,
    Binding,
    Detach,
    Obstacle,
    Refusal,
    State,
    Why,
    arrival_refusals,
    decide,
    refusals,
)
from usb_provider.model.binding.guests import GuestsNow, RunningGuest
from usb_provider.model.binding.holding import Holding, holdings
from usb_provider.model.binding.hostdev import Guest, UnreadableDomain, hostdev_xml, parse_guest, with_placeholders
from usb_provider.model.binding.status import DeviceStatus, GuestStatus, RefusedStart
from usb_provider.model.devices.device import UsbDevice
from usb_provider.model.reporting.host_state import HostView
from usb_provider.model.reporting.tree import ObservedTree
from usb_provider.model.text import printable
from usb_provider.virt.protocol import (
    Allowed,
    Answer,
    HookCall,
    Operation,
    Question,
    Refused,
    Rewritten,
    StatusAnswer,
    StatusQuestion,
)

LOG = logging.getLogger(__name__)
AUDIT = logging.getLogger("usb_provider.audit")

_ROUNDS = 4
_FIRST_RETRY = 1.0
_LONGEST_RETRY = 60.0
_SUSPECT_SECONDS = 2.0
_BUSY_SECONDS = 1.0
_START_SECONDS = 600.0
_REFUSAL_SECONDS = 24 * 3600.0
_WHAT = {Operation.PREPARE: "start", Operation.MIGRATE: "live migration", Operation.RESTORE: "restore"}
"""What the hook asks for, by operation, in the words of a refusal."""
_NOT_READ_YET = Refusal(Obstacle.NOT_READ_YET, "The agent has not read this host's devices from Placement yet.")


class Virt(Protocol):
    """What the binder needs of libvirt; virt/domain.py has it."""

    def guests(self) -> GuestsNow:
        """Every guest now, by one read."""

    @property
    def latest(self) -> GuestsNow:
        """The last read, without the guests that have ended since; it waits for nothing."""

    def attach(self, guest_uuid: str, xml: str) -> None:
        """Attach a hostdev."""

    def detach(self, guest_uuid: str, alias: str, timeout: float) -> None:
        """Detach a hostdev, and wait for it."""


@dataclass(frozen=True, slots=True)
class BindOptions:
    """How long an attach, a detach and an answer to the hook may take, in seconds."""

    attach_timeout: float = 40.0
    detach_timeout: float = 20.0
    answer_timeout: float = 2.4


@dataclass(slots=True)
class _Trouble:
    reason: str
    said: str
    attempts: int
    again: float


@dataclass(frozen=True, slots=True)
class _Refused:
    reason: str
    said: str
    when: float


@dataclass(slots=True)
class _Memory:
    """What is remembered between passes: since when a binding is as it is, and what to try again when."""

    since: dict[tuple[str, str], tuple[State, float]] = field(default_factory=dict)
    trouble: dict[tuple[str, str], _Trouble] = field(default_factory=dict)
    suspects: dict[tuple[str, str], float] = field(default_factory=dict)
    refused: dict[str, _Refused] = field(default_factory=dict)
    started: dict[str, float] = field(default_factory=dict)
    plugged: dict[str, UsbDevice | None] | None = None
    """By provider, one that there may be later included; None where the device is not there, or nothing was looked at
    yet."""


class Binder:
    """Keeps the devices of this host with the guests that hold them.

    One thread may make passes; :meth:`answer` may be called from any.

    :param view: the tree as last read with the devices looked up anew; None while Placement was never read.
    :param consumer: what a consumer holds in Placement now: the UUIDs of the providers.
    :param traits: the traits of any provider, one of another host too.
    :param confirm: reads again who holds these providers, since Placement says nothing when an allocation is deleted.
    :param executor: for guests, of which one that hangs must not keep the others.
    :param askers: for what an answer wants to know of Placement.
    """

    def __init__(
        self,
        virt: Virt,
        view: Callable[[], HostView | None],
        consumer: Callable[[str], Collection[str]],
        traits: Callable[[str], Collection[str]],
        confirm: Callable[[Collection[str]], None],
        *,
        options: BindOptions,
        executor: Executor,
        askers: Executor,
        changed: Callable[[], None],
        meter: Meter = NO_METER,
    ) -> None:
        self._virt = virt
        self._view = view
        self._consumer = consumer
        self._traits = traits
        self._confirm = confirm
        self._options = options
        self._executor = executor
        self._askers = askers
        self._changed = changed
        self._meter = meter
        self._lock = threading.Lock()
        self._memory = _Memory()
        self._running: tuple[RunningGuest, ...] = ()
        self._bindings: tuple[Binding, ...] = ()
        self._under_way: dict[str, Future[None]] = {}
        self._called_at: float | None = None
        self._outdated: ObservedTree | None = None
        self._domain_notices = Notices()

    def run(self) -> float | None:
        """Make one pass; give in how many seconds to look again though nothing changes, None for no need.

        :raises Unavailable: when libvirt does not answer; back off and make another pass.
        """
        for number in range(_ROUNDS):
            guests = self._virt.guests()
            self._domain_notices.replace(guests.notes)
            if number == 0:
                self._confirm_holders(guests)
            view = self._view()
            if view is None:
                return None
            running = self._marked_busy(guests.running)
            held = holdings(view)
            self._audit_plugs(view, held, running)
            decision = decide(
                running,
                held,
                known_consumers=guests.known,
                dead=self._dead(running, guests.arrived, view),
            )
            self._remember(running, decision.bindings)
            self._forget_troubles(running, (*decision.detaches, *decision.attaches))
            work = self._due(decision.detaches, decision.attaches)
            if not work:
                break
            self._apply(work)
        return self._next_look()

    def _confirm_holders(self, guests: GuestsNow) -> None:
        """Read again who holds what is attached or held here; while Placement is away, what is known stays."""
        view = self._view()
        if view is None:
            return
        uuids = {each.guest.uuid for each in guests.running}
        asked = {hostdev.provider_uuid or "" for each in guests.running for hostdev in each.guest.ours}
        asked |= {each.provider_uuid for each in holdings(view) if each.consumers & uuids}
        try:
            self._confirm(asked & view.tree.providers.keys())
        except Conflict:
            if view.tree is not self._outdated:  # said once: while passes fail, the tree stays as it is
                self._outdated = view.tree
                self._changed()
        except (Unavailable, Incompatible) as error:
            LOG.debug("Who holds what is taken from the last look: %s", error)

    def answer(self, question: Question) -> Answer:
        """What the hook, or ``usb-provider status``, is told."""
        if isinstance(question, StatusQuestion):
            return StatusAnswer(self.status(), self._called_at)
        self._called_at = time.time()
        try:
            match question.operation:
                case Operation.STARTED:
                    self._started(parse_guest(question.xml).uuid)
                    return Allowed()
                case Operation.MIGRATE:
                    return self._arrive(parse_guest(question.xml)) or _rewritten(question.xml)
                case Operation.RESTORE:
                    return _rewritten(question.xml)
                case Operation.PREPARE:
                    return self._prepare(parse_guest(question.xml)) or Allowed()
        except UnreadableDomain as error:
            return self._not_understood(question, error)

    def _not_understood(self, call: HookCall, error: UnreadableDomain) -> Answer:
        operation, name = call.operation, call.guest
        if operation is Operation.STARTED:  # too late to refuse
            LOG.debug("The start of guest %s is not understood: %s", printable(name, 200), error)
            return Allowed()
        reason = f"the domain is not understood: {error}"
        LOG.warning("The %s of guest %s is refused: %s", _WHAT[operation], printable(name, 200), reason)
        audit("refuse", guest=name, reason=reason)
        self._meter.refused(Obstacle.UNREADABLE)
        return Refused(reason)

    def status(self) -> tuple[GuestStatus, ...]:
        """Every guest that should have a device, or may not start, with how it stands."""
        with self._lock:
            bindings, memory, running = self._bindings, self._memory, self._running
            devices: dict[str, list[DeviceStatus]] = {}
            for binding in bindings:
                key = (binding.guest_uuid, binding.provider_uuid)
                trouble = memory.trouble.get(key)
                devices.setdefault(binding.guest_uuid, []).append(
                    DeviceStatus(
                        binding.provider_uuid,
                        binding.provider_name,
                        binding.state,
                        memory.since.get(key, (binding.state, 0.0))[1],
                        trouble.reason if trouble and binding.state is not State.ATTACHED else binding.reason,
                    )
                )
            running_now = {each.guest.uuid for each in running}
            refused = {
                uuid: RefusedStart(each.reason, each.when)
                for uuid, each in memory.refused.items()
                if uuid not in running_now
            }
        names = {binding.guest_uuid: binding.guest_name for binding in bindings}
        return tuple(
            GuestStatus(uuid, names.get(uuid), tuple(devices.get(uuid, ())), refused.get(uuid))
            for uuid in dict.fromkeys((*devices, *refused))
        )

    def bindings(self) -> tuple[Binding, ...]:
        """Every device that a running guest should have, as of the last pass. Safe in any thread."""
        with self._lock:
            return self._bindings

    def _started(self, guest_uuid: str) -> None:
        with self._lock:
            self._memory.started[guest_uuid] = time.monotonic()
        self._changed()

    def _seconds_since_start(self, guest_uuid: str) -> float | None:
        with self._lock:
            started = self._memory.started.get(guest_uuid)
        return None if started is None else round(time.monotonic() - started, 3)

    def _prepare(self, guest: Guest) -> Refused | None:
        """A refusal, if *guest* may not start: everything that it holds on this host must be there for it."""
        try:
            (held,) = self._asked(lambda: self._consumer(guest.uuid))
        except UsbProviderError as error:
            if guest.asks_for or self._held_before(guest.uuid):
                text = f"Placement cannot be asked what this instance holds: {error}"
                return self._refuse(guest, [Refusal(Obstacle.PLACEMENT, text)])
            return None
        view = self._view()
        if view is None:
            return self._refuse(guest, [_NOT_READ_YET]) if held and guest.asks_for else None
        ours = _held_by(guest, held, view)
        said = refusals(guest, ours, self._virt.latest.running)
        if said:
            return self._refuse(guest, said)
        with self._lock:
            refused = self._memory.refused.pop(guest.uuid, None)
        if refused is not None:
            LOG.info("No longer so: %s", refused.said)
        LOG.debug("Guest %s may start; it holds %d devices of this host.", guest.name, len(ours))
        return None

    def _arrive(self, guest: Guest) -> Refused | None:
        """A refusal, if *guest* may not be handed over live; None if it may. Its start here is checked later."""
        brings = {hostdev.provider_uuid or "" for hostdev in guest.ours}
        if not brings and not guest.asks_for:
            return None
        view = self._view()
        if view is None:
            return self._refuse(guest, [_NOT_READ_YET], Operation.MIGRATE) if brings else None
        try:
            held, *traits = self._asked(
                lambda: self._consumer(guest.uuid), *(functools.partial(self._traits_of, each) for each in brings)
            )
        except UsbProviderError as error:
            if not brings:  # nothing that it has could be lost
                return None
            text = f"Placement cannot be asked what this instance holds: {error}"
            return self._refuse(guest, [Refusal(Obstacle.PLACEMENT, text)], Operation.MIGRATE)
        staying = [uuid for uuid, names in zip(brings, traits, strict=True) if NOT_LIVE_MIGRATABLE in names]
        said = arrival_refusals(guest, _held_by(guest, held, view), staying)
        return self._refuse(guest, said, Operation.MIGRATE) if said else None

    def _traits_of(self, provider_uuid: str) -> Collection[str]:
        try:
            return self._traits(provider_uuid)
        except Conflict:  # the provider has been deleted, and with it what its rule said
            return ()

    def _asked(self, *questions: Callable[[], Collection[str]]) -> list[Collection[str]]:
        """The answers of Placement, asked side by side: a hook waits, so they come, or fail, before it gives up.

        :raises Unavailable: when one takes too long; it is left to end by itself.
        """
        futures = [self._askers.submit(question) for question in questions]
        seconds = self._options.answer_timeout
        if wait(futures, timeout=seconds).not_done:
            raise Unavailable(f"Placement has not answered within {seconds:.1f} s; see that it is not overloaded.")
        return [future.result() for future in futures]

    def _refuse(self, guest: Guest, why: Sequence[Refusal], operation: Operation = Operation.PREPARE) -> Refused:
        reason = " ".join(each.text for each in why)
        said = f"The {_WHAT[operation]} of guest {guest.name} is refused: {reason}"
        with self._lock:
            before = self._memory.refused.get(guest.uuid)
            self._memory.refused[guest.uuid] = _Refused(reason, said, time.time())
        # Whoever starts it again and again sees it each time; the log has said it.
        LOG.log(logging.WARNING if before is None or before.said != said else logging.DEBUG, "%s", said)
        audit("refuse", guest_uuid=guest.uuid, guest=guest.name, reason=reason)
        self._meter.refused(why[0].obstacle)
        return Refused(reason)

    def _held_before(self, guest_uuid: str) -> bool:
        view = self._view()
        return view is not None and any(guest_uuid in each.consumers for each in holdings(view))

    def _marked_busy(self, running: Sequence[RunningGuest]) -> tuple[RunningGuest, ...]:
        """*running*, with those busy on which an operation of ours still waits."""
        for uuid in [uuid for uuid, future in self._under_way.items() if future.done()]:
            del self._under_way[uuid]
            LOG.info("The operation on guest %s that took long has ended.", uuid)
        return tuple(RunningGuest(each.guest, each.busy or each.guest.uuid in self._under_way) for each in running)

    def _dead(
        self, running: Sequence[RunningGuest], arrived: Collection[str], view: HostView
    ) -> frozenset[tuple[str, str]]:
        """Hostdevs that QEMU has let go of though libvirt still shows them.

        Every one that came with a guest that has arrived is; else a driver of the host's on the device's interfaces
        tells it (while QEMU has a device its interfaces have no driver or usbfs), if that lasts.
        """
        drivers = {each.provider_uuid: each.device.host_driver for each in view.devices}
        now = time.monotonic()
        dead: set[tuple[str, str]] = set()
        suspects: dict[tuple[str, str], float] = {}
        for each in running:
            if each.busy:
                continue
            for hostdev in each.guest.ours:
                key = (each.guest.uuid, hostdev.alias or "")
                if each.guest.uuid in arrived:
                    dead.add(key)
                elif drivers.get(hostdev.provider_uuid):
                    suspects[key] = self._memory.suspects.get(key, now)
                    if now - suspects[key] >= _SUSPECT_SECONDS:
                        dead.add(key)
        self._memory.suspects = suspects
        return frozenset(dead)

    def _due(self, detaches: Sequence[Detach], attaches: Sequence[Attach]) -> dict[str, list[Detach | Attach]]:
        """By guest, what is to be done now: not what has just failed."""
        now = time.monotonic()
        work: dict[str, list[Detach | Attach]] = {}
        actions: tuple[Detach | Attach, ...] = (*detaches, *attaches)
        for action in actions:
            trouble = self._memory.trouble.get((action.guest_uuid, action.provider_uuid))
            if trouble is None or trouble.again <= now:
                work.setdefault(action.guest_uuid, []).append(action)
        return work

    def _apply(self, work: Mapping[str, Sequence[Detach | Attach]]) -> None:
        futures = {uuid: self._executor.submit(self._do, actions) for uuid, actions in work.items()}
        wait(futures.values(), timeout=self._options.attach_timeout)
        for uuid, future in futures.items():
            if not future.done():
                LOG.warning("An operation on guest %s takes longer than %.0f s.", uuid, self._options.attach_timeout)
                self._under_way[uuid] = future

    def _do(self, actions: Sequence[Detach | Attach]) -> None:
        for action in actions:
            key = (action.guest_uuid, action.provider_uuid)
            try:
                if isinstance(action, Detach):
                    self._detach(action)
                else:
                    self._attach(action)
            except Exception as error:
                # One that nobody expects as well: nobody asks a future what it ended with.
                failed = self._meter.detach_failed if isinstance(action, Detach) else self._meter.attach_failed
                failed(Outcome.of(error))
                self._failed(key, action, error)
                return
            with self._lock:
                trouble = self._memory.trouble.pop(key, None)
            if trouble is not None:
                LOG.info("No longer so: %s", trouble.said)

    def _forget_troubles(self, running: Sequence[RunningGuest], actions: Sequence[Detach | Attach]) -> None:
        """Let go of what has nothing to be tried again for: the guest has ended, or has or holds the device no more."""
        trying = {each.guest_uuid for each in actions} | {each.guest.uuid for each in running if each.busy}
        with self._lock:
            over = [key for key in self._memory.trouble if key[0] not in trying]
            troubles = [self._memory.trouble.pop(key) for key in over]
        for trouble in troubles:
            LOG.info("No longer so: %s", trouble.said)

    def _detach(self, action: Detach) -> None:
        self._virt.detach(action.guest_uuid, action.hostdev.alias or "", self._options.detach_timeout)
        audit(
            "detach",
            guest_uuid=action.guest_uuid,
            guest=action.guest_name,
            provider_uuid=action.provider_uuid,
            bus=action.hostdev.bus,
            device=action.hostdev.device,
            reason=action.why.value,
        )
        self._meter.detached(action.why)

    def _attach(self, action: Attach) -> None:
        self._virt.attach(action.guest_uuid, hostdev_xml(action.provider_uuid, action.device))
        seconds = self._seconds_since_start(action.guest_uuid)
        audit(
            "attach",
            guest_uuid=action.guest_uuid,
            guest=action.guest_name,
            provider_uuid=action.provider_uuid,
            provider=action.provider_name,
            seconds=seconds,
            **_address(action.device),
        )
        self._meter.attached(seconds)
        now = self._device(action.provider_uuid)
        if now is None or (now.busnum, now.devnum) != (action.device.busnum, action.device.devnum):
            # Something else may have taken the number between the look-up and the attach: never leave it there.
            self._virt.detach(action.guest_uuid, f"ua-usb-{action.provider_uuid}", self._options.detach_timeout)
            audit(
                "detach", guest_uuid=action.guest_uuid, provider_uuid=action.provider_uuid, reason="it moved meanwhile"
            )
            self._meter.detached(Why.MOVED)
            raise DeviceGone(f"{action.provider_name} was plugged in anew while it was being attached.")

    def _device(self, provider_uuid: str) -> UsbDevice | None:
        view = self._view()
        devices = () if view is None else view.devices
        return next((each.device for each in devices if each.provider_uuid == provider_uuid), None)

    def _failed(self, key: tuple[str, str], action: Detach | Attach, error: Exception) -> None:
        is_bug = not isinstance(error, AttachRefused | DeviceGone | Unavailable)
        reason = f"{type(error).__name__}, a bug of usb-provider." if is_bug else str(error)
        with self._lock:
            before = self._memory.trouble.get(key)
            attempts = before.attempts + 1 if before else 1
            pause = min(_FIRST_RETRY * 2 ** (attempts - 1), _LONGEST_RETRY)
            what = "detached from" if isinstance(action, Detach) else "attached to"
            said = f"{action.provider_uuid} cannot be {what} guest {action.guest_name} yet: {reason}"
            self._memory.trouble[key] = _Trouble(reason, said, attempts, time.monotonic() + pause)
        if before is None or before.said != said:
            LOG.warning("%s", said, exc_info=error if is_bug else None)
        else:
            LOG.debug("%s Attempt %d; the next in %.0f s.", said, attempts, pause)

    def _audit_plugs(self, view: HostView, held: Sequence[Holding], running: Sequence[RunningGuest]) -> None:
        """Say what hands did since the last look; at the first look nobody knows."""
        devices = {each.provider_uuid: each.device for each in view.devices}
        before = self._memory.plugged
        # A device without a provider may get one later, by a rule or because somebody had deleted it: no hand did that.
        stayed = {
            uuid: device
            for uuid, device in devices.items()
            if uuid is not None and (before is None or _is_where_it_was(before.get(uuid), device))
        }
        self._memory.plugged = {**stayed, **{each.provider_uuid: devices.get(each.provider_uuid) for each in held}}
        if before is None:
            return
        names = {each.guest.uuid: each.guest.name for each in running}
        for holding in held:
            was, device = before.get(holding.provider_uuid), devices.get(holding.provider_uuid)
            if device is not None and _is_where_it_was(was, device):
                continue
            consumer = min(holding.consumers, default=None)
            facts = {
                "guest_uuid": consumer,
                "guest": names.get(consumer or ""),
                "provider_uuid": holding.provider_uuid,
                "provider": holding.name,
            }
            if was is not None:
                audit("unplug", **facts, **_address(was))
            if device is not None:
                audit("replug" if holding.provider_uuid in before else "plug", **facts, **_address(device))

    def _remember(self, running: Sequence[RunningGuest], bindings: tuple[Binding, ...]) -> None:
        now = time.time()
        with self._lock:
            before = self._memory.since
            _explain(before, bindings)
            self._memory.since = {(each.guest_uuid, each.provider_uuid): _since(before, each, now) for each in bindings}
            running_now = {each.guest.uuid for each in running}
            # How long the first attach takes is worth knowing; a later one has nothing to do with the start.
            waiting = {each.guest_uuid for each in bindings if each.state is not State.ATTACHED}
            self._memory.started = {
                uuid: when
                for uuid, when in self._memory.started.items()
                if uuid in waiting or (uuid not in running_now and time.monotonic() - when < _START_SECONDS)
            }
            self._memory.refused = {
                uuid: each for uuid, each in self._memory.refused.items() if now - each.when < _REFUSAL_SECONDS
            }
            self._running, self._bindings = tuple(running), bindings

    def _next_look(self) -> float | None:
        with self._lock:
            again = [trouble.again for trouble in self._memory.trouble.values()]
        again += [since + _SUSPECT_SECONDS for since in self._memory.suspects.values()]
        wanting = {binding.guest_uuid for binding in self._bindings}
        if self._under_way or any(
            each.busy and (each.guest.ours or each.guest.uuid in wanting) for each in self._running
        ):
            again.append(time.monotonic() + _BUSY_SECONDS)
        return max(0.05, min(again) - time.monotonic()) if again else None


def _held_by(guest: Guest, held: Collection[str], view: HostView) -> list[Holding]:
    """Those of *held* that are this host's, as *guest*'s, whatever the last look at Placement said."""
    mine = frozenset({guest.uuid})
    return [dataclasses.replace(each, consumers=mine) for each in holdings(view) if each.provider_uuid in held]


def _rewritten(text: str) -> Answer:
    rewritten = with_placeholders(text)
    return Allowed() if rewritten is None else Rewritten(rewritten)


def audit(event: str, **facts: Any) -> None:
    """One line of the audit trail: JSON with the *event* and what it was about."""
    AUDIT.info(
        "%s", json.dumps({"event": event, **{name: value for name, value in facts.items() if value is not None}})
    )


def _explain(before: Mapping[tuple[str, str], tuple[State, float]], bindings: Collection[Binding]) -> None:
    """Say at DEBUG how each device of each guest stands, where that has changed."""
    for each in bindings:
        state, _ = before.get((each.guest_uuid, each.provider_uuid), (None, 0.0))
        if state is not each.state:
            why = f": {each.reason}" if each.reason else ""
            LOG.debug("Guest %s, %s: %s%s", each.guest_name, each.provider_name, each.state.value, why)


def _address(device: UsbDevice) -> dict[str, Any]:
    return {"port": device.sys_name, "usb_id": device.usb_id, "bus": device.busnum, "device": device.devnum}


def _is_where_it_was(was: UsbDevice | None, device: UsbDevice) -> bool:
    return was is not None and _address(was) == _address(device)


def _since(before: Mapping[tuple[str, str], tuple[State, float]], binding: Binding, now: float) -> tuple[State, float]:
    known = before.get((binding.guest_uuid, binding.provider_uuid))
    return known if known is not None and known[0] is binding.state else (binding.state, now)
