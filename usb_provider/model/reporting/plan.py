"""The difference between what Placement holds and what it should hold, as an ordered plan that prints itself.

Pure: a plan is a value. It is printed by a dry run and applied by placement/apply.py, which must not decide anything.
The rules are those of docs/placement.md: traits before inventory when a device appears, inventory first when it goes,
what is allocated stays, and an operator's own ``reserved`` and traits are theirs.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import placement_traits
from placement_traits import MANAGED, STATE_ABSENT, STATE_DRAINED, STATE_RESERVED, STATE_WITHDRAWN
from usb_provider.model.reporting.provider import DesiredProvider, Root
from usb_provider.model.reporting.tree import Inventory, ObservedProvider, ObservedTree

_OUR_STATES = frozenset({STATE_ABSENT, STATE_WITHDRAWN, STATE_RESERVED})


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
class DeleteProvider:
    """Delete the provider, which has been absent and free for as long as ``purge_absent_after`` says."""

    kind: ClassVar[str] = "delete_provider"
    provider_uuid: str
    name: str

    def __str__(self) -> str:
        return f"delete provider {self.name} ({self.provider_uuid})"


ProviderAction = CreateProvider | SetTraits | SetInventory | DeleteProvider
Action = EnsureResourceClass | EnsureTrait | ProviderAction


@dataclass(frozen=True, slots=True)
class Note:
    """Something that an operator should know and that no action mends. *topic* is the same each time it is said.

    *blocks* tells that a device cannot be reported until somebody acts.
    """

    topic: str
    text: str
    blocks: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What one pass will do below *root*, in order.

    *names* may run side by side and come first; so may the sequences in *sequences*, one a provider, each in order.
    The first *leaving* of these have to be through before the others begin, and if one of them is refused, the others
    wait for another plan: a device that gets another key must not be schedulable under both.
    *held* are the providers that would become something else if no consumer held them.
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


def action_json(action: Action) -> dict[str, Any]:
    """*action* as ``plan --json`` prints it: its kind, and its fields in JSON's types."""
    record: dict[str, Any] = {"action": action.kind}
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
        case DeleteProvider():
            record |= _whose(action)
        case EnsureResourceClass() | EnsureTrait():
            record["name"] = action.name
    return record


def _whose(action: ProviderAction) -> dict[str, Any]:
    return {"provider_uuid": action.provider_uuid, "name": action.name}


def diff(
    tree: ObservedTree,
    desired: Sequence[DesiredProvider],
    *,
    plugged: Collection[str] = (),
    retired_traits: Collection[str] = (),
    known_names: Collection[str] = (),
    expired: Collection[str] = (),
) -> Plan:
    """The plan that brings *tree* to *desired*; empty when there is nothing to do.

    :param plugged: provider UUIDs of all devices that are plugged in, offered or not: they are withdrawn, not absent.
    :param retired_traits: traits that rules of this host give or once gave: a device whose rule does not give one
        has it taken away.
    :param known_names: resource classes and traits that are known to exist; others are created first.
    :param expired: UUIDs of providers that may be deleted if they are absent and free.
    """
    retired = frozenset(retired_traits)
    leaving: list[tuple[ProviderAction, ...]] = []
    sequences: list[tuple[ProviderAction, ...]] = []
    notes: list[Note] = []
    held: set[str] = set()
    for want in desired:
        have = tree.providers.get(want.uuid)
        if have is not None and not (have.managed or have.blank):
            notes.append(_foreign(have))
            continue
        target, note = _offered(want, have, retired)
        if note is not None:
            notes.append(note)
            held.add(want.uuid)
        sequences.append(_reach(target, have, want, tree.root, appears=True))
    wanted = {want.uuid for want in desired}
    for uuid, have in sorted(tree.providers.items(), key=lambda item: item[1].name):
        if uuid in wanted or not have.managed:
            continue
        state = STATE_WITHDRAWN if uuid in plugged else STATE_ABSENT
        if uuid in expired and state == STATE_ABSENT and _may_be_deleted(have):
            sequences.append((DeleteProvider(uuid, have.name),))
            continue
        target = _gone(have, state)
        if have.allocated:
            notes.append(_gone_while_held(have, state))
            held.add(uuid)
        sequence = _reach(target, have, None, tree.root, appears=False)
        if have.free:
            leaving += [sequence] if sequence else []
        else:
            sequences.append(sequence)
    actions = (*leaving, *(sequence for sequence in sequences if sequence))
    names = _missing_names(actions, frozenset(known_names))
    return Plan(tree.root, names, actions, tuple(notes), frozenset(held), len(leaving))


@dataclass(frozen=True, slots=True)
class _Target:
    inventories: Mapping[str, Inventory]
    traits: frozenset[str]


def _offered(
    want: DesiredProvider, have: ObservedProvider | None, retired: frozenset[str]
) -> tuple[_Target, Note | None]:
    """What the provider of an offered device should be, and what to tell when that has to wait."""
    if have is None:
        return _Target({want.resource_class: Inventory()}, want.traits), None
    drained = STATE_DRAINED in have.traits
    inventory = Inventory(reserved=1 if drained or _operator_reserved(have) else 0)
    kept = have.used_classes - {want.resource_class}
    classes = kept or {want.resource_class}
    traits = _others(have.traits, retired) | want.traits | ({STATE_DRAINED} & have.traits)
    note = None
    if kept:
        note = Note(
            f"class:{have.uuid}",
            f"{have.name} keeps resource class {', '.join(sorted(kept))} while {_consumers(have)} holds it; it becomes "
            f"{want.resource_class} when it is free.",
        )
    return _Target(dict.fromkeys(classes, inventory), traits), note


def _gone(have: ObservedProvider, state: str) -> _Target:
    """What the provider of a device that is not offered should be: nothing to schedule, and a trait that says why."""
    reserved = _operator_reserved(have)
    drained = STATE_DRAINED in have.traits
    classes = have.used_classes or (frozenset(have.inventories) if reserved or drained else frozenset())
    traits = (have.traits - _OUR_STATES) | {state} | ({STATE_RESERVED} if reserved else frozenset())
    return _Target({name: Inventory(reserved=1) for name in classes}, traits)


def _may_be_deleted(have: ObservedProvider) -> bool:
    """Whether nothing but the device's facts would be lost: who drains an absent device wants it drained once back."""
    return have.absent and not have.allocated and not have.inventories and STATE_DRAINED not in have.traits


def _operator_reserved(have: ObservedProvider) -> bool:
    """Whether what is reserved is an operator's, which no pass may give back.

    Ours says so by a state trait: ABSENT or WITHDRAWN. STATE_RESERVED beside those remembers that it was the
    operator's before, since the inventory cannot.
    """
    ours = have.traits & {STATE_ABSENT, STATE_WITHDRAWN} and STATE_RESERVED not in have.traits
    drained = STATE_DRAINED in have.traits
    return not ours and not drained and any(inventory.reserved for inventory in have.inventories.values())


def _others(traits: frozenset[str], retired: frozenset[str]) -> frozenset[str]:
    """Traits that are not ours to set or to remove."""
    return frozenset(name for name in traits if not placement_traits.is_owned(name)) - retired


def _reach(
    target: _Target, have: ObservedProvider | None, want: DesiredProvider | None, root: Root, *, appears: bool
) -> tuple[ProviderAction, ...]:
    """The actions that make *have* into *target*, in the order that never shows a device that cannot be had."""
    if have is None:
        assert want is not None
        create = CreateProvider(want.uuid, want.name, root.uuid)
        blank = ObservedProvider(want.uuid, want.name, 0)
        return (create, *_changes(target, blank, appears=True, first=None))
    return _changes(target, have, appears=appears, first=have.generation)


def _changes(
    target: _Target, have: ObservedProvider, *, appears: bool, first: int | None
) -> tuple[SetTraits | SetInventory, ...]:
    """The changes, traits first when the device appears, inventory first when it goes.

    What we reserve must never be there without the state trait that says so, or a pass that is cut short leaves what
    looks like an operator's. So the mark is set before we reserve, which happens only to what is allocated, and it
    goes in a step of its own after we gave back.
    """
    ours = any(inventory.reserved for inventory in have.inventories.values()) and not _operator_reserved(have)
    marks = have.traits & _OUR_STATES if appears and ours else frozenset()
    if appears:
        steps: list[_Target | frozenset[str]] = [target.traits | marks, target, target.traits]
    elif have.allocated:
        steps = [target.traits, target]
    else:
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
            # Those of another namespace than CUSTOM_ are Placement's own and always there.
            traits |= {name for name in action.added if name.startswith("CUSTOM_")}
    if traits - known:
        # Made along with the first others, so that it need not be made in the hurry of an unplug.
        traits.add(STATE_ABSENT)
    return (
        *(EnsureResourceClass(name) for name in sorted(classes - known)),
        *(EnsureTrait(name) for name in sorted(traits - known)),
    )


def _foreign(have: ObservedProvider) -> Note:
    return Note(
        f"foreign:{have.uuid}",
        f"{have.name} ({have.uuid}) is there without the trait {MANAGED}, so it is left alone and its device is not "
        f"offered; set that trait to hand it back, or delete the provider.",
        blocks=True,
    )


def _gone_while_held(have: ObservedProvider, state: str) -> Note:
    what = "is not plugged in" if state == STATE_ABSENT else "is no longer offered"
    return Note(
        f"{state}:{have.uuid}",
        f"{have.name} {what} but {_consumers(have)} holds it; it is kept, and reserved so that nobody else gets it.",
    )


def _consumers(have: ObservedProvider) -> str:
    return " and ".join(f"consumer {name}" for name in sorted(have.allocations))
