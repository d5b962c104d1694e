"""One reporting pass: look at udev, look at Placement, plan, apply; again when Placement moved meanwhile.

The pass is the same whether it is printed, applied once or repeated by the agent. What should be is model/'s to say,
and when to look is service.py's.
"""

import dataclasses
import datetime
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from placement_traits.usb import PREFIX
from usb_provider.agent.store import RuleTraitStore
from usb_provider.exception import Conflict, NameTaken, PlacementConflict, RootMissing, UnknownName
from usb_provider.model.devices import identity
from usb_provider.model.devices.device import UsbDevice
from usb_provider.model.devices.identity import Held
from usb_provider.model.devices.spec import DeviceSpec
from usb_provider.model.reporting.plan import Action, Note, Plan, diff
from usb_provider.model.reporting.provider import Assessment, Root, assess, provider_uuid
from usb_provider.model.reporting.tree import ObservedProvider, ObservedTree
from usb_provider.model.text import printable
from usb_provider.placement.apply import apply
from usb_provider.placement.client import PlacementClient
from usb_provider.placement.observe import Observer
from usb_provider.placement.root import RootFinder

LOG = logging.getLogger(__name__)

_ATTEMPTS = 6


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator may change while the agent runs. ``purge_absent_after`` is in seconds, 0 for never."""

    specs: tuple[DeviceSpec, ...] = ()
    junk_serials: frozenset[str] = frozenset(identity.JUNK_SERIALS)
    serial_trait: bool = False
    purge_absent_after: int = 0

    @property
    def rule_traits(self) -> frozenset[str]:
        """Traits that rules give now."""
        return frozenset(name for spec in self.specs for name in spec.traits)


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
    """What a pass would do, the verdict on each device, and the tree as it is."""

    plan: Plan
    devices: tuple[Assessment, ...]
    tree: ObservedTree


@dataclass(frozen=True, slots=True)
class _Seen:
    sys_name: str
    serial: str | None


@dataclass(slots=True)
class _Look:
    tree: ObservedTree
    devices: tuple[Assessment, ...]
    plan: Plan


class Reporter:
    """Brings the providers of this host in line with its devices.

    One thread may use it at a time. It keeps only what saves requests and what was plugged in where at the last look;
    losing that costs reads, not correctness.
    """

    def __init__(
        self,
        devices: Callable[[], Sequence[UsbDevice]],
        client: PlacementClient,
        roots: RootFinder,
        settings: Settings,
        *,
        store: RuleTraitStore,
        executor: Executor,
    ) -> None:
        self.settings = settings
        self._devices = devices
        self._client = client
        self._roots = roots
        self._store = store
        self._executor = executor
        self._observer = Observer(client, executor)
        self._root: Root | None = None
        self._seen: dict[str, _Seen] = {}
        self._looked: tuple[Assessment, ...] = ()
        self._explained: dict[str, str] = {}
        self._tree: ObservedTree | None = None
        self._written: dict[str, tuple[int, datetime.datetime | None]] = {}

    def view(self) -> tuple[ObservedTree, tuple[Assessment, ...]] | None:
        """The tree as the last pass left it, with every device as it is now; None before the first pass.

        Safe in any thread: it asks nobody but udev.
        """
        tree = self._tree
        return None if tree is None else (tree, self._assess(tuple(self._devices()), tree))

    def confirm(self, uuids: Collection[str]) -> None:
        """Read again who holds these providers, for :meth:`view`. Of the thread that makes the passes.

        :raises Conflict: when one of them changed; make a pass. :raises Unavailable: when Placement does not answer.
        """
        if self._tree is not None:
            self._tree = self._observer.holders(self._tree, uuids)

    def preview(self) -> Preview:
        """What a pass would see and do now. Changes nothing anywhere.

        :raises RootMissing, Unavailable, AccessRefused, Incompatible: as :meth:`run`.
        """
        for _ in range(_ATTEMPTS):
            try:
                look = self._look()
            except Conflict:
                continue
            return Preview(look.plan, look.devices, look.tree)
        raise Conflict("Placement changes faster than it can be read.")

    def run(self) -> Pass:
        """Make one pass.

        :raises RootMissing: when nova's compute node provider is not there; wait and make another pass.
        :raises Unavailable: when Placement or Keystone does not answer; back off and make another pass.
        :raises Conflict: when Placement kept moving; make another pass a little later.
        """
        started, requests = time.monotonic(), self._client.requests
        self._store_rule_traits()
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
            refused = self._apply(look, done)
            # What a second look did not mend is not ours to mend, and no reason to give up all other devices.
            still = frozenset(error.provider_uuid for error in refused if isinstance(error, NameTaken | UnknownName))
            if not refused or (len(still) == len(refused) and still <= lasting):
                self._forget_unused_traits(look)
                self._tree = look.tree
                return Pass(
                    root=look.tree.root,
                    tree=look.tree,
                    devices=look.devices,
                    actions=tuple(done),
                    notes=(*look.plan.notes, *(_refused(error) for error in refused)),
                    requests=self._client.requests - requests,
                    seconds=time.monotonic() - started,
                )
            lasting = still
            for refusal in refused:
                LOG.debug("Planning again: %s", refusal)
                last = str(refusal)
        raise Conflict(f"Placement changed under every attempt of this pass; it last said: {last}")

    def _look(self) -> _Look:
        devices = tuple(self._devices())
        root = self._find_root()
        candidates = {
            provider_uuid(root.uuid, key)
            for device in devices
            for key in (identity.port_key(device), identity.serial_key(device))
        }
        try:
            tree = self._observer.look(root, candidates)
        except RootMissing:
            self._root = None
            raise
        self._remember_devices(self._looked, tree)
        expired = self._expired(tree)
        while True:
            assessed = self._assess(devices, tree)
            plan = self._plan(tree, assessed, expired)
            # Whether the holder of a provider that is about to be written is still there can wait for the next pass, so
            # that an unplug costs no request more.
            waiting = plan.held - {sequence[0].provider_uuid for sequence in plan.sequences}
            confirmed = self._observer.confirm(tree, waiting | self._kept_by_holders(devices, tree, assessed))
            if confirmed == tree:
                break
            tree = confirmed
        self._looked = assessed
        self._remember_devices(assessed, tree)
        self._explain(assessed)
        return _Look(tree, assessed, plan)

    def _find_root(self) -> Root:
        if self._root is not None and self._roots.still(self._root):
            return self._root
        if self._root is not None:
            self._observer.forget_all()
        self._root = self._roots.find()
        LOG.info("The compute node provider is %s (%s).", printable(self._root.name, 200), self._root.uuid)
        return self._root

    def _assess(
        self, devices: Sequence[UsbDevice], tree: ObservedTree, *, let_go: bool = False
    ) -> tuple[Assessment, ...]:
        return assess(
            devices,
            self.settings.specs,
            root=tree.root,
            junk=self.settings.junk_serials,
            serial_trait=self.settings.serial_trait,
            held=_held(tree, self._seen, let_go=let_go),
        )

    def _kept_by_holders(
        self, devices: Sequence[UsbDevice], tree: ObservedTree, assessed: Sequence[Assessment]
    ) -> frozenset[str]:
        """Providers whose device would be assessed otherwise if no consumer held them."""
        free = self._assess(devices, tree, let_go=True)
        keys = {
            key
            for each, other in zip(assessed, free, strict=True)
            if each != other
            for key in (each.identity.key, identity.serial_key(each.device), identity.port_key(each.device))
        }
        return frozenset(
            uuid
            for uuid in (provider_uuid(tree.root.uuid, key) for key in keys)
            if uuid in tree.providers and tree.providers[uuid].allocated
        )

    def _plan(self, tree: ObservedTree, assessed: Sequence[Assessment], expired: Collection[str]) -> Plan:
        def make(known: Collection[str]) -> Plan:
            return diff(
                tree,
                [each.desired for each in assessed if each.desired is not None],
                plugged={each.provider_uuid for each in assessed if each.provider_uuid is not None},
                retired_traits=self._store.load() | self.settings.rule_traits,
                known_names=known,
                expired=expired,
            )

        plan = make(())
        return make(self._observer.known_names(PREFIX)) if plan.names else plan

    def _expired(self, tree: ObservedTree) -> frozenset[str]:
        """Absent and free providers that nobody has written for longer than ``purge_absent_after``.

        One that somebody gave a child to cannot be deleted, and stays.
        """
        after = self.settings.purge_absent_after
        if after <= 0:
            return frozenset()
        now = datetime.datetime.now(datetime.UTC)
        expired = set()
        for provider in tree.providers.values():
            is_left = provider.managed and provider.absent and not provider.allocated and not provider.inventories
            if is_left and provider.uuid not in tree.parents:
                since = self._last_written(provider)
                if since is not None and (now - since).total_seconds() > after:
                    expired.add(provider.uuid)
        return frozenset(expired)

    def _last_written(self, provider: ObservedProvider) -> datetime.datetime | None:
        generation, since = self._written.get(provider.uuid, (None, None))
        if generation != provider.generation:
            since = self._client.last_modified(provider.uuid)
            self._written[provider.uuid] = provider.generation, since
        return since

    def _apply(self, look: _Look, done: list[Action]) -> tuple[PlacementConflict, ...]:
        if not look.plan:
            return ()
        applied = apply(self._client, self._executor, look.plan, look.tree)
        done += applied.done
        providers = dict(look.tree.providers)
        for uuid, provider in applied.left:
            if provider is None:
                self._observer.forget(uuid)
                providers.pop(uuid, None)
            else:
                self._observer.remember(provider)
                providers[uuid] = provider
        self._observer.names_exist([action.name for action in look.plan.names])
        look.tree = dataclasses.replace(look.tree, providers=providers)
        for error in applied.refused:
            self._observer.forget(error.provider_uuid)
            if isinstance(error, UnknownName):
                self._observer.forget_names()
        return applied.refused

    def _remember_devices(self, assessed: Sequence[Assessment], tree: ObservedTree) -> None:
        """Remember who has which key, as far as *tree* bears it out.

        A device leaves its old provider before its new one is written. Until it has, which takes another pass where
        Placement fails, a claim on the new one is not about it but about the device that was known by it before.
        """
        taken = {each.identity.key for each in assessed}
        for each in assessed:
            now = _Seen(each.device.sys_name, each.device.serial)
            others = identity.possible_keys(each.device) - taken
            to_leave = {key for key in others if self._seen.get(key) in (None, now)}
            if not any(_is_offered(tree, key) for key in to_leave):
                # What it was known by before says nothing any more of who will be in that place later.
                for key in to_leave:
                    self._seen.pop(key, None)
                self._seen[each.identity.key] = now

    def _explain(self, assessed: Sequence[Assessment]) -> None:
        """Say at DEBUG why each device is offered or not, once until that changes."""
        now = {
            each.device.sys_name: f"{each.device.usb_id}, key {printable(each.identity.key, 200)}: "
            f"{printable(each.reason, 300)}"
            for each in assessed
        }
        for sys_name, text in now.items():
            if self._explained.get(sys_name) != text:
                LOG.debug("Device %s, %s", sys_name, text)
        for sys_name in self._explained.keys() - now.keys():
            LOG.debug("Device %s is not plugged in any more.", sys_name)
        self._explained = now

    def _store_rule_traits(self) -> None:
        stored = self._store.load()
        if not self.settings.rule_traits <= stored:
            self._store.save(stored | self.settings.rule_traits)

    def _forget_unused_traits(self, look: _Look) -> None:
        """Forget dropped traits that no provider carries any more, so that an operator may then set them by hand."""
        stored = self._store.load()
        in_use = {name for provider in look.tree.providers.values() if provider.managed for name in provider.traits}
        kept = self.settings.rule_traits | (stored & in_use)
        if kept != stored:
            self._store.save(kept)


def _is_offered(tree: ObservedTree, key: str) -> bool:
    """Whether a device still has its place in Placement under *key*, be it held or free."""
    provider = tree.providers.get(provider_uuid(tree.root.uuid, key))
    return provider is not None and provider.managed and any(each.schedulable for each in provider.inventories.values())


def _held(tree: ObservedTree, seen: Mapping[str, _Seen], *, let_go: bool) -> Callable[[str], Held]:
    """What *tree* and *seen* say of a key; with *let_go*, as if no consumer held anything."""

    def held(key: str) -> Held:
        provider = tree.providers.get(provider_uuid(tree.root.uuid, key))
        last = seen.get(key)
        return Held(
            # Also where somebody took our mark away: whoever holds that provider holds the device.
            allocated=not let_go and provider is not None and provider.allocated,
            present=provider is not None and provider.managed and not provider.absent,
            sys_name=last.sys_name if last else None,
            serial=last.serial if last else None,
        )

    return held


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
