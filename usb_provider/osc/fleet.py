"""The devices of all hosts: read with few requests, and written step by step.

Placement has no call for many providers' inventories. But ``GET /allocation_candidates`` describes, with each host that
could take a server, every provider of its tree: traits, and capacity and usage by class. So a request for
almost nothing (1 MiB of memory, else 1 CPU) describes all hosts at once, and only devices of hosts that have neither
left are read one by one. Where Placement chooses devices of a few hosts, only those are asked for.
model/selection.py says what Placement can choose, model/fleet.py decides what the answers mean.
"""

import dataclasses
import logging
import uuid as uuidlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from concurrent.futures import Executor

from placement_traits import MANAGED, PURGED, InvalidName
from placement_traits.names import check_custom
from usb_provider.exception import Conflict, Incompatible, UnknownArgument, UnknownName, UsbProviderError
from usb_provider.model.reporting.provider import NAME_MARK
from usb_provider.model.reporting.tree import Amount, ObservedProvider, Summary
from usb_provider.openstack.transport import Query
from usb_provider.osc.model.fleet import Device, Write
from usb_provider.osc.model.selection import EVERY_DEVICE, Filter, Selection
from usb_provider.osc.placement import FleetClient, Listed
from usb_provider.osc.progress import Progress
from usb_provider.placement.client import NEXT_TO_NOTHING

LOG = logging.getLogger(__name__)

_ATTEMPTS = 6

FEW_HOSTS = 64
"""As many hosts are asked for one by one, side by side; for more, one request for all hosts costs Placement less."""

EVERYTHING = Selection()


class Fleet:
    """The devices of all hosts. It keeps nothing between calls; one thread may use it at a time."""

    def __init__(self, client: FleetClient, executor: Executor, progress: Progress) -> None:
        self._client = client
        self._executor = executor
        self._progress = progress

    def devices(self, host: str | None = None, wanted: Selection = EVERYTHING) -> list[Device]:
        """The devices, of *host* (a name or a UUID) or all, that *wanted* takes, by name.

        Three requests, side by side for all hosts. One more where a host has no memory left, and three for each device
        of a host that has no CPU left either. Where Placement chooses devices of a few hosts, two for each of these
        hosts in place of two. One or two more where a trait or a class of *wanted* does not exist.

        :raises UnknownArgument: when there is no such host or trait; the caller should name another.
        """
        with self._progress.of("Reading the devices from Placement"):
            if host is not None:
                root = self.host(host)
                tree = [("in_tree", root.uuid)]
                found, names = self._listed(wanted, tree), {root.uuid: root.name}
                summaries = self._summaries(found.keys(), tree)
            elif wanted.filters() == (EVERY_DEVICE,):
                found, names, summaries = self._with_all_hosts(lambda: self._listed(wanted))
            else:
                found = self._listed(wanted)
                few = len({each.root_uuid for each in found.values()}) <= FEW_HOSTS
                names, summaries = self._with_their_hosts(found) if few else self._with_all_hosts(lambda: found)[1:]
            summaries |= self._alone(found.keys() - summaries.keys())
        devices = (
            Device(each.uuid, each.name, names.get(each.root_uuid, ""), each.root_uuid, facts.traits, facts.amounts)
            for each in found.values()
            if (facts := summaries.get(each.uuid)) is not None
        )
        return sorted((each for each in devices if wanted.takes(each)), key=lambda device: device.name)

    def set_aside(self, host: str | None = None) -> list[Device]:
        """The devices, of *host* (a name or a UUID) or all, that an interrupted purge has left; one or two requests.

        :raises UnknownArgument: when there is no such host; the caller should name another.
        """
        wanted = "" if host is None else self.host(host).name
        marked = frozenset({PURGED})
        found = []
        for each in self._client.set_aside_providers():
            name, mark, _ = each.name.partition(NAME_MARK)
            if mark and name in (wanted or name, wanted[:100]):
                found.append(Device(each.uuid, each.name, name, each.parent_uuid or each.uuid, marked))
        return sorted(found, key=lambda device: device.name)

    def find(self, name_or_uuid: str) -> Listed:
        """The device of that name or UUID. :raises UnknownArgument: when there is none; name another."""
        found = self._provider(name_or_uuid)
        if found is None:
            raise UnknownArgument(
                f'Placement has no provider {name_or_uuid}; "openstack usb device list" shows the devices.'
            )
        if MANAGED not in self._client.traits(found.uuid)[1]:
            raise UnknownArgument(
                f'{name_or_uuid} is not a USB device: its provider lacks the trait {MANAGED}; "openstack usb device '
                f'list" shows the devices.'
            )
        return found

    def change(self, have: ObservedProvider, step: Callable[[ObservedProvider], Write | None]) -> None:
        """Write what *step* gives for *have*, as it was just read, until it gives None; read again after a conflict.

        :raises Conflict: when another client keeps writing it; the caller may try again. :raises UnknownName: when
            another client keeps deleting a trait that is to be written; the same.
        """

        def until_none(now: ObservedProvider) -> None:
            while (write := step(now)) is not None:
                now = self._written(now, write)

        self._retried(have, until_none)

    def carry_out(self, have: ObservedProvider, writes: Callable[[ObservedProvider], Sequence[Write]]) -> None:
        """Write what *writes* gives for *have*, as it was just read, in order; after a conflict, read and ask it again.

        Errors as of :meth:`change`.
        """

        def in_order(now: ObservedProvider) -> None:
            for write in writes(now):
                now = self._written(now, write)

        self._retried(have, in_order)

    def delete_unused(self, traits: Iterable[str]) -> None:
        """Delete *traits* from the cloud, but for those that some provider has. Where that fails, they are left."""
        try:
            for name in sorted(traits):
                self._client.delete_unused_trait(name)
        except UsbProviderError as error:
            # What was asked for is done, and "openstack usb device purge" deletes what is left.
            LOG.debug("A trait that no provider has is left: %s", error)

    def _retried(self, have: ObservedProvider, write: Callable[[ObservedProvider], None]) -> None:
        """Have *write* write *have*, and after a conflict what was read again."""
        for attempt in range(_ATTEMPTS):
            try:
                write(have)
                return
            # Another client may also delete a trait, as unused, after it was created here and before it is set.
            except (Conflict, UnknownName):
                if attempt == _ATTEMPTS - 1:
                    raise
                have = self._client.observe(have.uuid, have.name)

    def _written(self, have: ObservedProvider, write: Write) -> ObservedProvider:
        """*have* as it is after *write*."""
        if write.traits is None:
            inventories = write.inventories or {}
            generation = self._client.set_inventories(have.uuid, have.generation, inventories)
            return dataclasses.replace(have, generation=generation, inventories=inventories)
        for name in sorted(write.traits - have.traits):
            self._client.ensure_trait(name)
        generation = self._client.set_traits(have.uuid, have.generation, write.traits)
        return dataclasses.replace(have, generation=generation, traits=write.traits)

    def holders(self, devices: Iterable[Device]) -> dict[str, dict[str, int]]:
        """The consumers of each of *devices* that is held, by its UUID, each with the number of units that it holds.

        One request for each device, some at a time.
        """
        held = [device.uuid for device in devices if device.held]
        with self._progress.of("Reading from Placement who holds the devices", len(held)) as step:
            return dict(zip(held, self._executor.map(lambda uuid: self._holders(uuid, step), held), strict=True))

    def _holders(self, uuid: str, step: Callable[[], None]) -> dict[str, int]:
        try:
            held = self._client.allocations(uuid)[1]
        except Conflict:  # gone meanwhile, and so are its allocations
            return {}
        finally:
            step()
        return {consumer: sum(has.values()) for consumer, has in held.items()}

    def _provider(self, name_or_uuid: str) -> Listed | None:
        by = "uuid" if _is_uuid(name_or_uuid) else "name"
        return next(iter(self._client.listed([(by, name_or_uuid)])), None)

    def host(self, name_or_uuid: str) -> Listed:
        """The compute node of that name or UUID. :raises UnknownArgument: when there is none; name another."""
        found = self._provider(name_or_uuid)
        if found is None or found.uuid != found.root_uuid:
            raise UnknownArgument(
                f'Placement has no compute node {name_or_uuid}; "openstack hypervisor list" shows their names.'
            )
        return found

    def _listed(self, wanted: Selection, tree: Query = ()) -> dict[str, Listed]:
        """What Placement chooses for *wanted*, by UUID."""
        filters = wanted.filters()
        try:
            return self._chosen(filters, tree)
        except Incompatible:
            possible = self._possible(wanted, filters)
            if possible == filters:
                raise
            return self._chosen(possible, tree)

    def _chosen(self, filters: Iterable[Filter], tree: Query) -> dict[str, Listed]:
        return {each.uuid: each for one in filters for each in self._client.listed([*one.query(), *tree])}

    def _possible(self, wanted: Selection, filters: Sequence[Filter]) -> tuple[Filter, ...]:
        """*filters* without traits and classes that do not exist.

        Agents create a trait when a device first needs it. It is an error only where the caller has named it.
        """
        for name in wanted.traits:
            try:
                # A name without CUSTOM_ is checked as well: with a comma in it, Placement would read two names.
                check_custom(name if name.startswith("CUSTOM_") else f"CUSTOM_{name}")
            except InvalidName as error:
                raise UnknownArgument(
                    f"{name} is not the name of a trait; such a name has capital letters, digits and underscores only."
                ) from error
        existing = self._client.existing_traits(frozenset().union(*(each.traits for each in filters)))
        if MANAGED not in existing:
            return ()
        if missing := sorted(wanted.traits - existing):
            raise no_such_trait(missing)
        asks_for_class = any(each.resource_class is not None for each in filters)
        classes = self._client.resource_classes() if asks_for_class else frozenset()
        return tuple(now for each in filters if (now := each.among(existing, classes)) is not None)

    def _with_all_hosts(
        self, listed: Callable[[], dict[str, Listed]]
    ) -> tuple[dict[str, Listed], dict[str, str], dict[str, Summary]]:
        """What *listed* gives, the names of all roots, and summaries of the devices; asked side by side."""
        names = self._executor.submit(self._names)
        first, *others = NEXT_TO_NOTHING
        summaries = self._executor.submit(self._client.our_summaries, [("resources", first)])
        found = listed()
        return found, names.result(), self._completed(summaries.result(), found.keys(), others)

    def _with_their_hosts(self, found: Mapping[str, Listed]) -> tuple[dict[str, str], dict[str, Summary]]:
        """The names of the roots of *found*, and summaries of their devices; two requests for each root."""
        of_root: dict[str, set[str]] = {}
        for each in found.values():
            of_root.setdefault(each.root_uuid, set()).add(each.uuid)

        def read(root: str) -> tuple[str, dict[str, Summary]]:
            name = next((each.name for each in self._client.listed([("uuid", root)])), "")
            return name, self._summaries(of_root[root], [("in_tree", root)])

        names, summaries = {}, dict[str, Summary]()
        for root, (name, read_now) in zip(of_root, self._executor.map(read, of_root), strict=True):
            names[root] = name
            summaries |= read_now
        return names, summaries

    def _names(self) -> dict[str, str]:
        """The names of all roots; none while no agent has created our mark, when there are no devices either."""
        try:
            others = self._client.listed([("required", f"!{MANAGED}")])
        except Incompatible:
            return {}
        return {each.uuid: each.name for each in others if each.uuid == each.root_uuid}

    def _summaries(self, uuids: Set[str], tree: Query) -> dict[str, Summary]:
        return self._completed({}, uuids, NEXT_TO_NOTHING, tree)

    def _completed(
        self, found: dict[str, Summary], uuids: Set[str], amounts: Iterable[str], tree: Query = ()
    ) -> dict[str, Summary]:
        """*found* with what requests for *amounts* describe, as far as *uuids* need them."""
        for amount in amounts:
            if uuids <= found.keys():
                break
            found |= self._client.our_summaries([("resources", amount), *tree])
        return found

    def _alone(self, uuids: Collection[str]) -> dict[str, Summary]:
        """What describes *uuids*, each read by itself."""
        read = zip(uuids, self._executor.map(self._read_alone, uuids), strict=True)
        return {uuid: summary for uuid, summary in read if summary is not None}

    def _read_alone(self, uuid: str) -> Summary | None:
        try:
            have = self._client.observe(uuid, uuid)
        except Conflict:  # gone meanwhile
            return None
        return Summary(have.traits, _amounts(have))


def device_of(have: ObservedProvider, host: str, host_uuid: str) -> Device:
    """The device as it was read in full."""
    return Device(have.uuid, have.name, host, host_uuid, have.traits, _amounts(have))


def _amounts(have: ObservedProvider) -> dict[str, Amount]:
    return {
        name: Amount(
            int((each.total - each.reserved) * each.allocation_ratio),
            sum(has.get(name, 0) for has in have.allocations.values()),
        )
        for name, each in have.inventories.items()
    }


def _is_uuid(text: str) -> bool:
    try:
        return str(uuidlib.UUID(text)) == text.lower()
    except ValueError:
        return False


def no_such_trait(missing: Sequence[str]) -> UnknownArgument:
    """The error when a caller names traits that Placement does not have."""
    return UnknownArgument(f'Placement has no trait {", ".join(missing)}; "openstack trait list" shows all.')
