"""Carries out a plan in Placement, and gives the result of each action. It decides nothing and retries nothing.

Sequences of different providers run side by side; within one, each action starts from the generation that the one
before it left. A refusal ends its own sequence only.
"""

import dataclasses
import logging
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import placement_traits
from usb_provider.exception import NameTaken, PlacementConflict, Unavailable, UsbProviderError
from usb_provider.model.reporting.plan import (
    Action,
    CreateProvider,
    DeleteProvider,
    EnsureResourceClass,
    EnsureTrait,
    Plan,
    ProviderAction,
    SetAsideProvider,
    SetInventory,
    SetTraits,
)
from usb_provider.model.reporting.tree import ObservedProvider, ObservedTree
from usb_provider.model.text import printable
from usb_provider.placement.client import PlacementClient

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Applied:
    """The result of a plan.

    ``left`` is each touched provider as our last write left it, None for one that was deleted; ``refused`` are the
    refusals, at most one a provider: the caller should observe and plan again. ``failure`` is set when Placement
    stopped answering: the caller should raise it once it has taken note of the rest. ``gone`` are traits that may not
    exist any more.
    """

    done: tuple[Action, ...] = ()
    left: tuple[tuple[str, ObservedProvider | None], ...] = ()
    refused: tuple[PlacementConflict, ...] = ()
    failure: Unavailable | None = None
    gone: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Progress:
    done: list[Action]
    provider: ObservedProvider | None
    error: PlacementConflict | Unavailable | None = None


def apply(client: PlacementClient, executor: Executor, plan: Plan, tree: ObservedTree, made: set[str]) -> Applied:
    """Carry out *plan*, which was made from *tree*.

    A device can show other ids or another serial number at each plug. So a trait that a device gave and that this
    process has *made* is deleted when no provider has it any more. *made* is kept up to date.

    :raises Unavailable: when Placement does not answer before any provider was written.
    """
    done: list[Action] = list(executor.map(lambda action: _ensure(client, action, made), plan.names))
    run = _stopping(lambda sequence: _run(client, sequence, tree))
    left: list[tuple[str, ObservedProvider | None]] = []
    refused: list[PlacementConflict] = []
    failure: Unavailable | None = None
    for stage in (plan.sequences[: plan.leaving], plan.sequences[plan.leaving :]):
        for sequence, progress in zip(stage, executor.map(run, stage), strict=True):
            done += progress.done
            if isinstance(progress.error, PlacementConflict):
                refused.append(progress.error)
            elif progress.error is not None:
                failure = failure or progress.error
            elif progress.done:
                left.append((sequence[0].provider_uuid, progress.provider))
        if refused or failure is not None:
            break
    lost = {name for action in done if isinstance(action, SetTraits) for name in action.removed} & made
    if lost and failure is None:
        _delete_unused(client, lost)
    made -= lost
    return Applied(tuple(done), tuple(left), tuple(refused), failure, frozenset(lost))


def _ensure(client: PlacementClient, action: EnsureResourceClass | EnsureTrait, made: set[str]) -> Action:
    if isinstance(action, EnsureResourceClass):
        client.ensure_resource_class(action.name)
    elif client.ensure_trait(action.name) and placement_traits.is_of_a_device(action.name):
        made.add(action.name)
    LOG.info("Placement: %s", printable(str(action), 1000))
    return action


def _stopping(
    run: Callable[[Sequence[ProviderAction]], _Progress],
) -> Callable[[Sequence[ProviderAction]], _Progress]:
    """*run*, until Placement does not answer: a hundred more time-outs would tell nothing new."""
    down: list[Unavailable] = []

    def guarded(sequence: Sequence[ProviderAction]) -> _Progress:
        if down:
            return _Progress([], None, down[0])
        progress = run(sequence)
        if isinstance(progress.error, Unavailable):
            down.append(progress.error)
        return progress

    return guarded


def _run(client: PlacementClient, sequence: Sequence[ProviderAction], tree: ObservedTree) -> _Progress:
    progress = _Progress([], tree.providers.get(sequence[0].provider_uuid))
    for action in sequence:
        try:
            progress.provider = _act(client, action, progress.provider)
        except (PlacementConflict, Unavailable) as error:
            progress.error = error
            return progress
        progress.done.append(action)
        LOG.info("Placement: %s", printable(str(action), 1000))
    return progress


def _act(client: PlacementClient, action: ProviderAction, at: ObservedProvider | None) -> ObservedProvider | None:
    match action:
        case CreateProvider():
            return ObservedProvider(action.provider_uuid, action.name, _create(client, action))
        case SetAsideProvider():
            client.set_aside(action.provider_uuid, action.name)
            return None
        case DeleteProvider():
            client.delete_provider(action.provider_uuid)
            return None
        case SetTraits():
            assert at is not None
            generation = client.set_traits(at.uuid, _from(action.generation, at), action.traits)
            return dataclasses.replace(at, generation=generation, traits=action.traits)
        case SetInventory():
            assert at is not None
            inventories = dict(action.inventories)
            generation = client.set_inventories(at.uuid, _from(action.generation, at), inventories)
            return dataclasses.replace(at, generation=generation, inventories=inventories)


def _delete_unused(client: PlacementClient, names: Collection[str]) -> None:
    try:
        for name in sorted(names):
            client.delete_unused_trait(name)
    except UsbProviderError as error:
        # Nothing depends on it, and "openstack usb device purge" deletes what is left.
        LOG.debug("A trait that no provider has is left: %s", error)


def _create(client: PlacementClient, action: CreateProvider) -> int:
    """Create the provider, or take it back from a purge that has not deleted it yet; give its generation."""
    try:
        return client.create_provider(action.provider_uuid, action.name, action.parent_uuid)
    except NameTaken:
        generation = client.take_back(action.provider_uuid, action.name, action.parent_uuid)
        if generation is None:
            raise
        return generation


def _from(planned: int | None, at: ObservedProvider) -> int:
    return at.generation if planned is None else planned
