"""The devices of all hosts: read with few requests, and written step by step.

Placement has no call for many providers' inventories. But ``GET /allocation_candidates`` describes, with each host that
could take a server, every provider of its tree: traits, and capacity and usage by class. So a request for
almost nothing (1 MiB of memory, else 1 CPU) describes all hosts at once, and only devices of hosts that have neither
left are read one by one. model/fleet.py decides what this means.
"""

import dataclasses
import uuid as uuidlib
from collections.abc import Callable, Collection, Iterable, Sequence, Set
from concurrent.futures import Executor

from placement_traits import MANAGED, PURGED, InvalidName
from placement_traits.names import check_custom
from usb_provider.exception import Conflict, Incompatible, UnknownArgument
from usb_provider.model.reporting.provider import NAME_MARK
from usb_provider.model.reporting.tree import Amount, ObservedProvider, Summary
from usb_provider.openstack.transport import Query
from usb_provider.osc.model.fleet import Device, Write
from usb_provider.osc.placement import FleetClient, Listed
from usb_provider.placement.client import NEXT_TO_NOTHING

_ATTEMPTS = 6


class Fleet:
    """The devices of all hosts. It keeps nothing between calls; one thread may use it at a time."""

    def __init__(self, client: FleetClient, executor: Executor) -> None:
        self._client = client
        self._executor = executor

    def devices(self, host: str | None = None, traits: Iterable[str] = ()) -> list[Device]:
        """The devices, of *host* (a name or a UUID) or all, that have *traits*, by name.

        Three requests, one more where a host has no memory left, and three for each device of a host that has no CPU
        left either, in parallel.

        :raises UnknownArgument: when there is no such host or trait; the caller should name another.
        """
        wanted = {MANAGED, *traits}
        root = None if host is None else self._host(host)
        tree = [] if root is None else [("in_tree", root.uuid)]
        try:
            found = self._client.listed([("required", ",".join(sorted(wanted))), *tree])
            names = {root.uuid: root.name} if root else self._names(found)
        except Incompatible:
            self._explain(wanted)
            return []
        summaries = self._summaries({each.uuid for each in found}, tree)
        return sorted(
            (
                Device(each.uuid, each.name, names.get(each.root_uuid, ""), each.root_uuid, facts.traits, facts.amounts)
                for each in found
                if (facts := summaries.get(each.uuid)) is not None
            ),
            key=lambda device: device.name,
        )

    def set_aside(self, host: str | None = None) -> list[Device]:
        """The devices, of *host* (a name or a UUID) or all, that an interrupted purge has left; one or two requests.

        :raises UnknownArgument: when there is no such host; the caller should name another.
        """
        wanted = "" if host is None else self._host(host).name
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

        :raises Conflict: when another client keeps writing it; the caller may try again.
        """
        conflicts = 0
        while (write := step(have)) is not None:
            try:
                have = self._written(have, write)
            except Conflict:
                conflicts += 1
                if conflicts == _ATTEMPTS:
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

    def holders(self, devices: Iterable[Device]) -> dict[str, frozenset[str]]:
        """The consumers of each of *devices* that is held, by its UUID; one request for each, some at a time."""
        held = [device.uuid for device in devices if device.held]
        return dict(zip(held, self._executor.map(self._holders, held), strict=True))

    def _holders(self, uuid: str) -> frozenset[str]:
        try:
            return frozenset(self._client.allocations(uuid)[1])
        except Conflict:  # gone meanwhile, and so are its allocations
            return frozenset()

    def _provider(self, name_or_uuid: str) -> Listed | None:
        by = "uuid" if _is_uuid(name_or_uuid) else "name"
        return next(iter(self._client.listed([(by, name_or_uuid)])), None)

    def _host(self, name_or_uuid: str) -> Listed:
        found = self._provider(name_or_uuid)
        if found is None or found.uuid != found.root_uuid:
            raise UnknownArgument(
                f'Placement has no compute node {name_or_uuid}; "openstack hypervisor list" shows their names.'
            )
        return found

    def _names(self, devices: Sequence[Listed]) -> dict[str, str]:
        """The names of all roots; sends no request when there are no devices."""
        others = self._client.listed([("required", f"!{MANAGED}")]) if devices else ()
        return {each.uuid: each.name for each in others if each.uuid == each.root_uuid}

    def _explain(self, wanted: Collection[str]) -> None:
        """Say why Placement refused a listing by traits; it is no error while no agent has created our mark yet."""
        for name in wanted:
            try:
                # A name without CUSTOM_ is checked as well: with a comma in it, Placement would read two names.
                check_custom(name if name.startswith("CUSTOM_") else f"CUSTOM_{name}")
            except InvalidName as error:
                raise UnknownArgument(
                    f"{name} is not the name of a trait; such a name has capital letters, digits and underscores only."
                ) from error
        existing = self._client.existing_traits(wanted)
        if MANAGED not in existing:
            return
        if missing := sorted(set(wanted) - existing):
            raise no_such_trait(missing)

    def _summaries(self, uuids: Set[str], tree: Query) -> dict[str, Summary]:
        found: dict[str, Summary] = {}
        for amount in NEXT_TO_NOTHING:
            if uuids <= found.keys():
                return found
            found |= self._client.summaries([("resources", amount), *tree])
        left = sorted(uuids - found.keys())
        read = zip(left, self._executor.map(self._read_alone, left), strict=True)
        return found | {uuid: summary for uuid, summary in read if summary is not None}

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
