"""One reporting pass: look at udev, look at Placement, plan, apply; repeat when Placement has changed meanwhile.

The pass is the same whether it is printed, applied once or repeated by the agent. model/ says what should be in
Placement, and loop.py when to look.
"""

import dataclasses
import logging
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Protocol

from placement_traits.usb import PREFIX
from usb_provider.agent.notices import LastSaid
from usb_provider.agent.purge import PurgeClock
from usb_provider.agent.remembered import Remembered
from usb_provider.agent.root_watch import ANY_HOST, RootWatch, ThisHost
from usb_provider.agent.store import StateStore
from usb_provider.exception import Conflict, NameTaken, PlacementConflict, RootMissing, UnknownName
from usb_provider.model.devices.device import UsbDevice
from usb_provider.model.devices.keys import JunkSerials, possible_keys
from usb_provider.model.devices.lent import LentDisks, mark_names, possible_mark_names
from usb_provider.model.devices.offer import OfferReason
from usb_provider.model.reporting.guest_news import with_news
from usb_provider.model.reporting.host_state import HostState, HostView, ReportSettings
from usb_provider.model.reporting.limit import within_limit
from usb_provider.model.reporting.plan import Action, Note, Plan, diff
from usb_provider.model.reporting.provider import Assessment, Root, provider_uuid
from usb_provider.model.reporting.requests import requests_in
from usb_provider.model.reporting.tree import ObservedTree
from usb_provider.model.text import printable
from usb_provider.model.units.providers import desired_providers
from usb_provider.model.units.sharing import Shares
from usb_provider.placement.apply import apply
from usb_provider.placement.client import PlacementClient
from usb_provider.placement.observe import Observer
from usb_provider.placement.root import RootFinder

LOG = logging.getLogger(__name__)

_ATTEMPTS = 6


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass saw and did. ``requests`` counts those made to Placement; ``seconds`` is wall-clock time."""

    root: Root
    tree: ObservedTree
    devices: tuple[Assessment, ...]
    actions: tuple[Action, ...] = ()
    notes: tuple[Note, ...] = ()
    requests: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Preview:
    """What a pass would do, the verdict on each device, the tree as it is, what an operator should know, and which
    consumer has which member of a pool.
    """

    plan: Plan
    devices: tuple[Assessment, ...]
    tree: ObservedTree
    notes: tuple[Note, ...] = ()
    shares: Shares = field(default_factory=dict)


class Devices(Protocol):
    """Gives the USB devices of this host, as :meth:`usb_provider.host.udev.UdevHost.devices` does."""

    def __call__(self, *, fresh: bool = False) -> Sequence[UsbDevice]:
        """Every USB device now; read again with *fresh*, or when something may have changed."""


@dataclass(slots=True)
class _Look:
    tree: ObservedTree
    devices: tuple[Assessment, ...]
    plan: Plan


class Reporter:
    """Brings the providers of this host in line with its devices.

    One thread may make passes and set :attr:`settings`; :meth:`view` and :meth:`doubt` are safe in any thread.
    """

    def __init__(
        self,
        devices: Devices,
        client: PlacementClient,
        roots: RootFinder,
        settings: ReportSettings,
        *,
        store: StateStore,
        executor: Executor,
        in_full: bool = False,
        host: ThisHost = ANY_HOST,
    ) -> None:
        """Make nothing yet; *host* tells whether a root is this host's.

        With *in_full*, the first look reads every field of every provider. Without it, the first look is cheap:
        summaries describe the idle providers, and later passes read the rest.
        """
        self._settings = settings
        self._devices = devices
        self._client = client
        self._roots = RootWatch(roots, client, host)
        self._store = store
        self._executor = executor
        self._observer = Observer(client, executor, in_full=in_full)
        self._made_traits: set[str] = set()
        self._remembered = Remembered(store)
        # What the binding loop tells; both are safe in any thread.
        self.tell_shares = self._remembered.tell_shares
        self.tell_news = self._remembered.tell_news
        self._explained = _Explained()
        # Replaced as a whole, never changed: other threads read them.
        self._state: HostState | None = None
        self._viewed: tuple[HostState, Sequence[UsbDevice], HostView] | None = None
        self._purge = PurgeClock(client)

    @property
    def settings(self) -> ReportSettings:
        """The settings for the next pass and for views from now on. Only the thread that makes the passes sets them."""
        return self._settings

    @settings.setter
    def settings(self, settings: ReportSettings) -> None:
        self._settings = settings
        self._roots.forgive()
        if self._state is not None:
            self._publish(dataclasses.replace(self._state, settings=settings))

    def view(self) -> HostView | None:
        """The tree as the last pass left it, with every device as it is now; None before the first pass, and while
        the root may not be this host's: then no caller may act on it.

        Safe in any thread. It asks only udev, and only when something changed; while nothing changes, it gives the same
        object.
        """
        state = self._state
        if state is None or self._roots.objection() is not None:
            return None
        devices = self._devices()
        last = self._viewed
        if last is not None and last[0] is state and last[1] == devices:
            return last[2]
        view = HostView(state.tree, state.assess(devices), state.pools.shares)
        self._viewed = state, devices, view
        return view

    def doubt(self, uuids: Collection[str]) -> None:
        """Have the next pass read who holds these providers, even where their generation is unchanged.

        For a caller that noticed a deleted allocation, which raises no generation. Safe in any thread.
        """
        self._observer.doubt(uuids)

    def preview(self) -> Preview:
        """What a pass would see and do now. Changes nothing anywhere.

        :raises RootMissing, Unavailable, AccessRefused, Incompatible: as :meth:`run`.
        """
        for _ in range(_ATTEMPTS):
            try:
                look = self._look()
            except Conflict:
                continue
            notes = (*look.plan.notes, *self._store.take_notes())
            return Preview(look.plan, look.devices, look.tree, notes, self._remembered.pools.shares)
        raise Conflict("Placement changes faster than the agent can read it.")

    def run(self) -> Pass:
        """Make one pass.

        :raises RootMissing: when nova's compute node provider is not there; wait and make another pass.
        :raises WrongRoot: when it is another host's; say so and make another pass later.
        :raises Unavailable: when Placement or Keystone does not answer; back off and make another pass.
        :raises Conflict: when Placement changed during each attempt; make another pass a little later.
        """
        started, requests = time.monotonic(), self._client.requests
        self._store.remember_rule_traits(self.settings.rule_traits)
        done: list[Action] = []
        lasting: frozenset[str] = frozenset()
        last = ""
        for _ in range(_ATTEMPTS):
            try:
                look = self._look()
            except Conflict as error:
                LOG.debug("Looking again: %s", error)
                last = str(error)
                continue
            self._publish(self._state_with(look.tree))
            # Before any provider is written: otherwise, after a crash, the next process would judge new data in
            # Placement by old sightings.
            self._remembered.keep()
            self._store.mark_disks(*_disks(look, self._remembered.lent, self.settings.junk_serials))
            refused = self._apply(look, done)
            self._remembered.keep()
            # An operator has to repair what a second look did not; the other devices are still reported.
            still = frozenset(error.provider_uuid for error in refused if isinstance(error, NameTaken | UnknownName))
            if not refused or (len(still) == len(refused) and still <= lasting):
                self._forget_unused_traits(look)
                return Pass(
                    root=look.tree.root,
                    tree=look.tree,
                    devices=look.devices,
                    actions=tuple(done),
                    notes=(*look.plan.notes, *(_refused(error) for error in refused), *self._store.take_notes()),
                    requests=self._client.requests - requests,
                    seconds=time.monotonic() - started,
                )
            lasting = still
            for refusal in refused:
                LOG.debug("Planning again: %s", refusal)
                last = str(refusal)
        raise Conflict(f"Placement changed during every attempt of this pass; its last answer was: {last}")

    def _look(self) -> _Look:
        self._remembered.begin()
        devices = tuple(self._devices(fresh=True))
        last = None if self._state is None else self._state.tree
        root = self._roots.find(last)
        if last is not None and last.root.uuid != root.uuid:
            self._observer.forget_all()
        keys = {key for each in devices for key in possible_keys(each)} | self._remembered.keys | self.settings.groups
        candidates = {provider_uuid(root.uuid, key) for key in keys}
        try:
            tree = self._observer.look(
                root, candidates, lambda: _usual_class(self._state_with(ObservedTree(root)).assess(devices))
            )
        except RootMissing:
            self._roots.lose()
            raise
        self._remembered.sightings = self._remembered.sightings.moved(self._state_with(tree).is_offered)
        expired = self._purge.expired(tree, self.settings.purge_absent_after)
        due = self._purge.due(tree.root, self.settings.purge_absent_after, self.settings.purge_wait)
        while True:
            # From what was remembered before the look each time: the tree that a later round reads may have a claim.
            state, assessed = self._state_with(tree).judged(devices, time.time())
            plan = with_news(self._plan(tree, assessed, expired, due), tree, self._remembered.news)
            touched = {sequence[0].provider_uuid for sequence in plan.sequences}
            # The next pass checks whether a provider that is about to be written is still held, so that an unplug
            # needs no further request.
            waiting = plan.held - touched
            doubtful = waiting | state.kept_by_holders(devices, assessed) | requests_in(tree)
            confirmed = self._observer.confirm(tree, doubtful)
            confirmed = self._observer.in_full(confirmed, touched)
            if not plan:
                confirmed = self._observer.a_few_in_full(confirmed)
            if confirmed == tree:
                break
            tree = confirmed
        self._remembered.lent, self._remembered.pools = state.lent, state.pools
        self._remembered.sightings = state.sightings_after(assessed)
        self._explained.tell(assessed)
        return _Look(tree, assessed, plan)

    def _state_with(self, tree: ObservedTree) -> HostState:
        now = self._remembered
        return HostState(tree, now.sightings, self._settings, now.lent, now.pools)

    def _publish(self, state: HostState) -> None:
        """Let other threads see *state*. An equal state stays the same object, so that they notice that it is equal."""
        last = self._state
        if last is not None and state.tree == last.tree:
            state = dataclasses.replace(state, tree=last.tree)
        if state != last:
            self._state = state

    def _plan(
        self, tree: ObservedTree, assessed: Sequence[Assessment], expired: Collection[str], set_aside: Mapping[str, str]
    ) -> Plan:
        retired = self._store.rule_traits() | self.settings.rule_traits
        desired, notes = within_limit(desired_providers(tree, assessed), tree, self.settings.max_providers)

        def make(known: Collection[str]) -> Plan:
            return diff(
                tree,
                desired,
                plugged=_plugged(assessed),
                kept={each.provider_uuid or "" for each in assessed if not each.device.configured and not each.group},
                retired_traits=retired,
                known_names=known,
                expired=expired,
                set_aside=set_aside,
            )

        plan = make(())
        if plan.names:
            plan = make(self._observer.known_names(PREFIX))
        return dataclasses.replace(plan, notes=(*plan.notes, *notes, *self._remembered.notes(tree, assessed)))

    def _apply(self, look: _Look, done: list[Action]) -> tuple[PlacementConflict, ...]:
        if not look.plan:
            self._roots.wrote(look.tree, (), look.tree)
            return ()
        before = look.tree
        applied = apply(self._client, self._executor, look.plan, look.tree, self._made_traits)
        done += applied.done
        self._purge.note(applied.done)
        providers = dict(look.tree.providers)
        for uuid, provider in applied.left:
            if provider is None:
                self._observer.forget(uuid)
                providers.pop(uuid, None)
            else:
                self._observer.remember(provider)
                providers[uuid] = provider
        self._observer.names_exist([action.name for action in look.plan.names])
        self._observer.names_may_be_gone(applied.gone)
        look.tree = dataclasses.replace(look.tree, providers=providers)
        self._roots.wrote(before, [uuid for uuid, _ in applied.left], look.tree)
        self._remembered.sightings = self._remembered.sightings.moved(self._state_with(look.tree).is_offered)
        # What was written has opened and closed places of members.
        judged, _ = self._state_with(look.tree).judged([each.device for each in look.devices], time.time())
        self._remembered.pools = judged.pools
        self._publish(self._state_with(look.tree))
        for error in applied.refused:
            self._observer.forget(error.provider_uuid)
            if isinstance(error, UnknownName):
                self._observer.forget_names()
        if applied.failure is not None:
            raise applied.failure
        return applied.refused

    def _forget_unused_traits(self, look: _Look) -> None:
        """Forget traits that no rule gives and no provider has now, so that an operator may set them by hand."""
        in_use = {name for provider in look.tree.providers.values() if provider.managed for name in provider.traits}
        self._store.forget_rule_traits(but=self.settings.rule_traits | in_use)


class _Explained:
    """Logs at DEBUG why each device is offered or not, when that changes."""

    def __init__(self) -> None:
        self._said = LastSaid()

    def tell(self, assessed: Sequence[Assessment]) -> None:
        """Log what is new of *assessed*, and which devices are no longer among them."""
        for each in assessed:
            key, reason = printable(each.identity.key, 200), printable(each.reason, 300)
            text = f"{each.device.usb_id}, key {key}: {reason}"
            if self._said.is_news(each.device.sys_name, text):
                LOG.debug("Device %s, %s", each.device.sys_name, text)
        for sys_name in self._said.keep({each.device.sys_name for each in assessed}):
            LOG.debug("Device %s was unplugged.", sys_name)


def _usual_class(assessed: Sequence[Assessment]) -> str | None:
    """The resource class of most of the devices that are offered."""
    classes = Counter(each.resource_class for each in assessed if each.resource_class is not None)
    return next((name for name, _ in classes.most_common(1)), None)


def _plugged(assessed: Sequence[Assessment]) -> set[str]:
    """The providers whose devices are plugged in. While a bundle lacks a device, it is as absent as that device."""
    there = (each for each in assessed if each.verdict is not OfferReason.INCOMPLETE)
    return {each.provider_uuid for each in there if each.provider_uuid is not None}


def _disks(look: _Look, lent: LentDisks, junk: JunkSerials) -> tuple[frozenset[str], frozenset[str]]:
    """The names by which udev knows the plugged disks that are or were for guests, and those of the other disks."""
    names = mark_names([each.device for each in look.devices], junk)
    disks = [each for each in look.devices if each.device.sys_name in names]
    marked = frozenset(
        names[each.device.sys_name] for each in disks if each.offered or each.identity.key in lent.by_key
    )
    return marked, frozenset(name for each in disks for name in possible_mark_names(each.device)) - marked


def _refused(error: PlacementConflict) -> Note:
    if isinstance(error, UnknownName):
        return Note(
            f"unknown:{error.provider_uuid}",
            f"A device cannot be reported, because Placement does not know a standard trait that its rule gives: "
            f"{error} Take the trait out of the rule, or upgrade Placement's os-traits.",
            blocks=True,
        )
    return Note(
        f"name:{error.provider_uuid}",
        f"A device cannot be reported, because a provider outside this tree has its name: {error} Delete that "
        f"provider if it is a leftover of this host: openstack resource provider list, then resource provider delete.",
        blocks=True,
    )
