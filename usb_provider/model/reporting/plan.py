"""The difference between what Placement holds and what it should hold, as an ordered plan that prints itself.

Pure: a plan is a value. A dry run prints it, and placement/apply.py applies it without deciding anything. The table in
lifecycle.py says which state a provider gets, and in which order it is written. A plan never takes away what is
allocated, and it keeps an operator's own ``reserved`` and traits.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from placement_traits import MANAGED, PURGED, STATE_ABSENT, STATE_DRAINED, STATE_RESERVED, STATE_SHORT, STATE_WAITING
from usb_provider.model.lifecycle import MARKS, TABLE, Circumstances, Intention, Order, Presence, ProviderState
from usb_provider.model.reporting.provider import DesiredProvider, Root
from usb_provider.model.reporting.target import (
    Target,
    inventories_of,
    kept_classes,
    lacking_units,
    only_takes_units,
    others,
)
from usb_provider.model.reporting.tree import Inventory, ObservedProvider, ObservedTree, with_distinct_names


@dataclass(frozen=True, slots=True)
class EnsureResourceClass:
    """Make the resource class exist in the cloud."""

    kind: ClassVar[str] = "ensure_resource_class"
    name: str

    def __str__(self) -> str:
        return f"create resource class {self.name}"


@dataclass(frozen=True, slots=True)
class EnsureTrait:
    """Make the trait exist in the cloud."""

    kind: ClassVar[str] = "ensure_trait"
    name: str

    def __str__(self) -> str:
        return f"create trait {self.name}"


@dataclass(frozen=True, slots=True)
class CreateProvider:
    """Create the provider below *parent_uuid*; its generation is 0 then."""

    kind: ClassVar[str] = "create_provider"
    provider_uuid: str
    name: str
    parent_uuid: str

    def __str__(self) -> str:
        return f"create provider {self.name} ({self.provider_uuid})"


@dataclass(frozen=True, slots=True)
class SetTraits:
    """Give the provider exactly *traits*. *added* and *removed* are what that changes, for people.

    *generation* is the one that we looked at, or None right after an action of this plan on the same provider.
    """

    kind: ClassVar[str] = "set_traits"
    provider_uuid: str
    name: str
    generation: int | None
    traits: frozenset[str]
    added: frozenset[str]
    removed: frozenset[str]

    def __str__(self) -> str:
        change = [f"+{name}" for name in sorted(self.added)] + [f"-{name}" for name in sorted(self.removed)]
        return f"set traits of {self.name}: {' '.join(change)}"


@dataclass(frozen=True, slots=True)
class SetInventory:
    """Give the provider exactly *inventories*, none when it is empty. *generation* as in :class:`SetTraits`."""

    kind: ClassVar[str] = "set_inventory"
    provider_uuid: str
    name: str
    generation: int | None
    inventories: tuple[tuple[str, Inventory], ...]

    def __str__(self) -> str:
        what = ", ".join(f"{name} total {inv.total} reserved {inv.reserved}" for name, inv in self.inventories)
        return f"set inventory of {self.name}: {what or 'none'}"


@dataclass(frozen=True, slots=True)
class SetAsideProvider:
    """Take the provider out of its tree, so that nova-compute forgets it before :class:`DeleteProvider`.

    It has been absent and free for as long as ``purge_absent_after`` says (docs/adr/0003-absent-providers-stay.md).
    """

    kind: ClassVar[str] = "set_aside_provider"
    provider_uuid: str
    name: str

    def __str__(self) -> str:
        return f"take provider {self.name} ({self.provider_uuid}) out of the tree"


@dataclass(frozen=True, slots=True)
class DeleteProvider:
    """Delete the provider, which was set aside for as long as ``purge_wait`` says."""

    kind: ClassVar[str] = "delete_provider"
    provider_uuid: str
    name: str

    def __str__(self) -> str:
        return f"delete provider {self.name} ({self.provider_uuid})"


ProviderAction = CreateProvider | SetTraits | SetInventory | SetAsideProvider | DeleteProvider
Action = EnsureResourceClass | EnsureTrait | ProviderAction


@dataclass(frozen=True, slots=True)
class Note:
    """Something that an operator should know and that no action repairs. *topic* is the same each time it is said.

    *blocks* tells that a device cannot be reported until an operator acts.
    """

    topic: str
    text: str
    blocks: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What one pass will do below *root*, in order.

    *names* come first and may be written in parallel. Then the *sequences*, one for each provider, may run in parallel,
    each in its own order. The first *leaving* of them must end before the others begin. If one of these is refused, the
    others wait for another plan: a device that gets another key must not be schedulable under both keys.
    *held* are the providers that the plan would change if no consumer held them.
    """

    root: Root
    names: tuple[EnsureResourceClass | EnsureTrait, ...] = ()
    sequences: tuple[tuple[ProviderAction, ...], ...] = ()
    notes: tuple[Note, ...] = ()
    held: frozenset[str] = frozenset()
    leaving: int = 0

    @property
    def actions(self) -> tuple[Action, ...]:
        """Every action, in an order in which they can be applied one by one."""
        return (*self.names, *(action for sequence in self.sequences for action in sequence))

    def __bool__(self) -> bool:
        return bool(self.names or self.sequences)


def action_json(action: Action) -> dict[str, object]:
    """*action* as ``plan --json`` prints it: its kind, and its fields in JSON's types."""
    record: dict[str, object] = {"action": action.kind}
    match action:
        case SetTraits():
            record |= _whose(action) | {
                "generation": action.generation,
                "traits": sorted(action.traits),
                "added": sorted(action.added),
                "removed": sorted(action.removed),
            }
        case SetInventory():
            inventories = {name: inventory.to_json() for name, inventory in action.inventories}
            record |= _whose(action) | {"generation": action.generation, "inventories": inventories}
        case CreateProvider():
            record |= _whose(action) | {"parent_provider_uuid": action.parent_uuid}
        case SetAsideProvider() | DeleteProvider():
            record |= _whose(action)
        case EnsureResourceClass() | EnsureTrait():
            record["name"] = action.name
    return record


def _whose(action: ProviderAction) -> dict[str, object]:
    return {"provider_uuid": action.provider_uuid, "name": action.name}


def diff(
    tree: ObservedTree,
    desired: Sequence[DesiredProvider],
    *,
    plugged: Collection[str] = (),
    retired_traits: Collection[str] = (),
    known_names: Collection[str] = (),
    expired: Collection[str] = (),
    set_aside: Mapping[str, str] = MappingProxyType({}),
    kept: Collection[str] = (),
) -> Plan:
    """The plan that brings *tree* to *desired*; empty when there is nothing to do.

    :param plugged: provider UUIDs of all devices that are plugged in, offered or not: they are withdrawn, not absent.
    :param retired_traits: traits that rules of this host give or once gave: a device loses those that its rule does
        not give.
    :param known_names: resource classes and traits that are known to exist; others are created first.
    :param expired: UUIDs of providers that may be set aside if they are absent and free.
    :param set_aside: names by UUID of providers that a purge took out of the tree and that may be deleted.
    :param kept: UUIDs of providers that stay as they are while they are held: an instance has unset the configuration
        of their device, and with it the interfaces that classes and traits are made from.
    """
    retired = frozenset(retired_traits)
    leaving: list[tuple[ProviderAction, ...]] = []
    sequences: list[tuple[ProviderAction, ...]] = []
    notes: list[Note] = []
    held: set[str] = set()
    for want in with_distinct_names(desired, tree):
        have = tree.providers.get(want.uuid)
        if have is not None and not (have.managed or have.blank):
            notes.append(_foreign(have))
            continue
        if have is not None and want.uuid in kept and _may_stay(have):
            held.add(want.uuid)
            continue
        if have is not None and (said := _kept_for_holders(want, have)):
            notes += said
            held.add(want.uuid)
        sequence = _reach_offered(want, have, tree.root, retired)
        (leaving if have is not None and have.free and _gives_less(sequence, have) else sequences).append(sequence)
    wanted = {want.uuid for want in desired}
    for uuid, have in sorted(tree.providers.items(), key=lambda item: item[1].name):
        if uuid in expired and have.half_purged and uuid not in wanted:
            sequences.append((SetAsideProvider(uuid, have.name),))
        if uuid in wanted or not have.managed:
            continue
        if uuid in kept and _may_stay(have):
            held.add(uuid)
            continue
        state = _state(Presence.WITHDRAWN if uuid in plugged else Presence.ABSENT, have)
        if uuid in expired and uuid not in plugged and have.purgeable:
            marked = frozenset({PURGED})
            mark = SetTraits(uuid, have.name, have.generation, marked, marked - have.traits, have.traits - marked)
            sequences.append((mark, SetAsideProvider(uuid, have.name)))
            continue
        if have.allocated:
            notes.append(_gone_while_held(have, state))
            held.add(uuid)
        sequence = _changes(_gone(have, state), have, state.order, first=have.generation)
        if have.free:
            leaving.append(sequence)
        else:
            sequences.append(sequence)
    sequences += [
        (DeleteProvider(uuid, name),)
        for uuid, name in sorted(set_aside.items())
        if uuid not in tree.providers.keys() | wanted
    ]
    leaving = [sequence for sequence in leaving if sequence]
    actions = (*leaving, *(sequence for sequence in sequences if sequence))
    names = _missing_names(actions, frozenset(known_names))
    return Plan(tree.root, names, actions, tuple(notes), frozenset(held), len(leaving))


def _state(presence: Presence, have: ObservedProvider) -> ProviderState:
    return TABLE[Circumstances(presence, have.intention, have.allocated)]


def _may_stay(have: ObservedProvider) -> bool:
    """Whether a provider shows a held device that is there, so that it may stay as it is."""
    return have.allocated and not have.traits & MARKS


def _reach_offered(
    want: DesiredProvider, have: ObservedProvider | None, root: Root, retired: frozenset[str]
) -> tuple[ProviderAction, ...]:
    """The actions that bring the provider of an offered device, which may not exist yet, into its state."""
    now = have or ObservedProvider(want.uuid, want.name, 0)
    state = _state(Presence.OFFERED, now)
    classes = kept_classes(want, now) or {want.resource_class}
    traits = others(now.traits, retired) | want.traits | ({STATE_DRAINED, STATE_WAITING} & now.traits) | state.marks
    inventories, marks = inventories_of(classes, state, now, want.units)
    target = Target(inventories, traits | marks)
    if have is None:
        create = CreateProvider(want.uuid, want.name, root.uuid)
        return (create, *_changes(target, now, state.order, first=None))
    order = Order.INVENTORY_FIRST if only_takes_units(target, now) else state.order
    return _changes(target, now, order, first=now.generation)


def _gives_less(sequence: Sequence[ProviderAction], have: ObservedProvider) -> bool:
    """Whether *sequence* takes units of *have* from the scheduler: its devices may get a provider of their own next."""
    after = next((dict(each.inventories) for each in sequence if isinstance(each, SetInventory)), None)
    return after is not None and any(
        name not in after or after[name].total - after[name].reserved < each.total - each.reserved
        for name, each in have.inventories.items()
    )


def _gone(have: ObservedProvider, state: ProviderState) -> Target:
    """The target for the provider of a device that is not offered: nothing to schedule, and a trait that says why."""
    classes = have.used_classes or frozenset(have.inventories)
    inventories, _ = inventories_of(classes, state, have, 0)
    return Target(inventories, (have.traits - MARKS) | state.marks)


def _changes(
    target: Target, have: ObservedProvider, order: Order, *, first: int | None
) -> tuple[SetTraits | SetInventory, ...]:
    """The changes that turn *have* into *target*, in *order*; the first of them names generation *first*.

    What the agent reserves must always have the state trait that says so; otherwise an interrupted pass leaves what
    looks like an operator's reservation. So the agent sets the mark before it reserves, which it does only to a
    provider that is allocated, and removes the mark in a step of its own after it ended the reservation.
    """
    match order:
        case Order.MARK_LAST:
            is_ours = have.reserved and have.intention is not Intention.RESERVED
            marks = have.traits & MARKS if is_ours else frozenset()
            steps: list[Target | frozenset[str]] = [target.traits | marks, target, target.traits]
        case Order.TRAITS_FIRST:
            steps = [target.traits, target]
        case Order.INVENTORY_FIRST:
            steps = [target, target.traits]
    generation, traits, inventories = first, have.traits, dict(have.inventories)
    actions: list[SetTraits | SetInventory] = []
    for step in steps:
        if isinstance(step, frozenset):
            if step == traits:
                continue
            actions.append(SetTraits(have.uuid, have.name, generation, step, step - traits, traits - step))
            traits = step
        elif dict(step.inventories) != inventories:
            actions.append(SetInventory(have.uuid, have.name, generation, tuple(sorted(step.inventories.items()))))
        else:
            continue
        generation = None
    return tuple(actions)


def _missing_names(
    sequences: Iterable[tuple[ProviderAction, ...]], known: frozenset[str]
) -> tuple[EnsureResourceClass | EnsureTrait, ...]:
    classes: set[str] = set()
    traits: set[str] = set()
    for action in (action for sequence in sequences for action in sequence):
        if isinstance(action, SetInventory):
            classes |= {name for name, _ in action.inventories}
        elif isinstance(action, SetTraits):
            # Traits without the prefix CUSTOM_ are Placement's own and always exist.
            traits |= {name for name in action.added if name.startswith("CUSTOM_")}
    if traits - known:
        # Created together with the first others, so that an unplug, which is urgent, need not create it.
        traits.add(STATE_ABSENT)
    return (
        *(EnsureResourceClass(name) for name in sorted(classes - known)),
        *(EnsureTrait(name) for name in sorted(traits - known)),
    )


def _foreign(have: ObservedProvider) -> Note:
    return Note(
        f"foreign:{have.uuid}",
        f"{have.name} ({have.uuid}) lacks the trait {MANAGED}, so the agent does not change it and does not offer its "
        f"device; set that trait to give the provider back to the agent, or delete the provider.",
        blocks=True,
    )


def _gone_while_held(have: ObservedProvider, state: ProviderState) -> Note:
    (mark,) = state.marks - {STATE_RESERVED}
    return Note(
        f"{mark}:{have.uuid}",
        f"{have.name} {state.circumstances.presence.value} but {_consumers(have)} holds it; the agent keeps the "
        f"provider and reserves it, so that no other consumer gets it.",
    )


def _kept_for_holders(want: DesiredProvider, have: ObservedProvider) -> list[Note]:
    """What is otherwise than *want*, since consumers hold units of *have*."""
    said = []
    if kept := kept_classes(want, have):
        text = (
            f"{have.name} keeps resource class {', '.join(sorted(kept))} while {_consumers(have)} holds it; it becomes "
            f"{want.resource_class} when it is free."
        )
        said.append(Note(f"class:{have.uuid}", text))
    if lacking := lacking_units(want, have):
        text = f"{have.name} lacks {lacking} of its held units ({_consumers(have)}); plug in as many of its devices."
        said.append(Note(f"{STATE_SHORT}:{have.uuid}", text))
    return said


def _consumers(have: ObservedProvider) -> str:
    return " and ".join(f"consumer {name}" for name in sorted(have.allocations))
