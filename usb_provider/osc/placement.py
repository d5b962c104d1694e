"""The door to Placement for the whole fleet, with a caller's credentials: the listings, and few requests for them.

Placement has no call for many providers' inventories. But ``GET /allocation_candidates`` describes, with each host that
could take a server, every provider of its tree: traits, and capacity and usage by class. So a request for next to
nothing (1 MiB of memory, else 1 CPU) describes all hosts at once, and only devices of hosts that have neither left are
read one by one. What all this means is model/fleet.py's.
"""

import dataclasses
import uuid as uuidlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, ClassVar

from keystoneauth1 import adapter as ksa_adapter

from placement_traits import MANAGED, InvalidName
from placement_traits.names import check_custom
from usb_provider.exception import Conflict, Incompatible, UnknownArgument
from usb_provider.model.reporting.tree import ObservedProvider
from usb_provider.openstack.transport import CALLERS
from usb_provider.osc.model.fleet import Amount, Device, Write
from usb_provider.placement.client import PlacementClient

_NEXT_TO_NOTHING = ("MEMORY_MB:1", "VCPU:1")
_ATTEMPTS = 6
_SHARED = "MISC_SHARES_VIA_AGGREGATE"
_NOVAS_LIMIT = 1000
"""Of [scheduler]max_placement_results: nova looks at no more candidates than that."""

Query = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of a listing of providers."""

    uuid: str
    name: str
    root_uuid: str


@dataclass(frozen=True, slots=True)
class Summary:
    """What a listing of candidates says of one provider."""

    traits: frozenset[str]
    amounts: Mapping[str, Amount]


class FleetClient(PlacementClient):
    """Placement's calls that only an operator's commands need; errors as of :class:`PlacementClient`."""

    microversion: ClassVar[str] = "1.38"
    """Wallaby (2021): 1.27 and 1.29 describe whole trees, 1.33 takes any suffix, 1.38 tells what a consumer is."""
    release: ClassVar[str] = "Wallaby"

    def __init__(self, adapter: ksa_adapter.Adapter) -> None:
        super().__init__(adapter, CALLERS)

    def listed(self, query: Query) -> tuple[Listed, ...]:
        """The providers that *query* leaves. :raises Incompatible: when it names a trait that does not exist."""

        def read(body: Any) -> tuple[Listed, ...]:
            return tuple(
                Listed(entry["uuid"], entry["name"], entry["root_provider_uuid"])
                for entry in body["resource_providers"]
            )

        return self._get("/resource_providers", read, query)

    def summaries(self, query: Query) -> dict[str, Summary]:
        """Every provider of every host that has a candidate for *query*, by UUID."""

        def read(body: Any) -> dict[str, Summary]:
            return {uuid: _summary(entry) for uuid, entry in body["provider_summaries"].items()}

        return self._get("/allocation_candidates", read, query)

    def hosts_for(self, query: Query) -> frozenset[str]:
        """The UUIDs of the roots that have a candidate for *query* among those that nova reads.

        :raises Incompatible: when Placement refuses the query; the caller should show what it says.
        """

        def read(body: Any) -> frozenset[str]:
            # All of one candidate are of one tree, but for storage that several hosts share.
            roots = {
                uuid: entry["root_provider_uuid"]
                for uuid, entry in body["provider_summaries"].items()
                if _SHARED not in entry["traits"]
            }
            requests = body["allocation_requests"]
            return frozenset(roots[uuid] for each in requests for uuid in each["allocations"] if uuid in roots)

        return self._get("/allocation_candidates", read, [*query, ("limit", str(_NOVAS_LIMIT))])

    def consumer_type(self, uuid: str) -> str | None:
        """What the consumer says that it is, such as INSTANCE, or ``unknown``; None when it holds nothing."""

        def read(body: Any) -> str | None:
            return str(body["consumer_type"]) if body["allocations"] else None

        return self._get(f"/allocations/{uuid}", read)

    def existing_traits(self, names: Collection[str]) -> frozenset[str]:
        """Those of *names* that exist; not asked for when there are none."""
        if not names:
            return frozenset()
        query = [("name", "in:" + ",".join(sorted(names)))]
        return self._get("/traits", lambda body: frozenset(body["traits"]), query)

    def delete_allocations(self, consumer: str) -> None:
        """Delete all that *consumer* holds; nothing at all is fine."""
        self._delete(f"/allocations/{consumer}", accept=(404,))

    def delete_unused_trait(self, name: str) -> None:
        """Delete the trait, unless it is gone or some provider has it."""
        self._delete(f"/traits/{name}", accept=(404, 409))


def _summary(entry: Mapping[str, Any]) -> Summary:
    amounts = {name: Amount(each["capacity"], each["used"]) for name, each in entry["resources"].items()}
    return Summary(frozenset(entry["traits"]), amounts)


class Fleet:
    """The devices of all hosts. Remembers nothing; one thread may use it at a time."""

    def __init__(self, client: FleetClient, executor: Executor) -> None:
        self._client = client
        self._executor = executor

    def devices(self, host: str | None = None, traits: Iterable[str] = ()) -> list[Device]:
        """The devices, of *host* (a name or a UUID) or all, that have *traits*, by name.

        Three requests, one more where a host has no memory left, and three for each device of a host that has no CPU
        left either, some at a time.

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

    def find(self, name_or_uuid: str) -> Listed:
        """The device of that name or UUID. :raises UnknownArgument: when there is none; say another."""
        found = self._provider(name_or_uuid)
        if found is None:
            raise UnknownArgument(
                f'Placement has no provider {name_or_uuid}; "openstack usb device list" shows the devices.'
            )
        if MANAGED not in self._client.traits(found.uuid)[1]:
            raise UnknownArgument(
                f'{name_or_uuid} is no USB device: its provider lacks the trait {MANAGED}; "openstack usb device list" '
                f"shows the devices."
            )
        return found

    def read(self, uuid: str, name: str) -> ObservedProvider:
        """The device in full. :raises Conflict: when it is gone, or changes faster than it can be read."""
        for _ in range(_ATTEMPTS):
            generation, inventories = self._client.inventories(uuid)
            traits_at, traits = self._client.traits(uuid)
            allocations_at, allocations = self._client.allocations(uuid)
            if generation == traits_at == allocations_at:
                return ObservedProvider(uuid, name, generation, inventories, traits, allocations)
        raise Conflict(f"{name} changes faster than it can be read; try again.", provider_uuid=uuid)

    def change(self, have: ObservedProvider, step: Callable[[ObservedProvider], Write | None]) -> None:
        """Write *step* after *step* to *have*, as it was just read, until there is none; look again after a conflict.

        :raises Conflict: when somebody else keeps writing; the caller may try again.
        """
        conflicts = 0
        while (write := step(have)) is not None:
            try:
                have = self._written(have, write)
            except Conflict:
                conflicts += 1
                if conflicts == _ATTEMPTS:
                    raise
                have = self.read(have.uuid, have.name)

    def _written(self, have: ObservedProvider, write: Write) -> ObservedProvider:
        """What is there after *write*."""
        if write.traits is None:
            inventories = write.inventories or {}
            generation = self._client.set_inventories(have.uuid, have.generation, inventories)
            return dataclasses.replace(have, generation=generation, inventories=inventories)
        for name in sorted(write.traits - have.traits):
            self._client.ensure_trait(name)
        generation = self._client.set_traits(have.uuid, have.generation, write.traits)
        return dataclasses.replace(have, generation=generation, traits=write.traits)

    def holders(self, devices: Iterable[Device]) -> dict[str, frozenset[str]]:
        """Who holds each of *devices*, consumers by device; one request for each that is held, some at a time."""
        held = [device.uuid for device in devices if device.held]
        return dict(zip(held, self._executor.map(self._holders, held), strict=True))

    def _holders(self, uuid: str) -> frozenset[str]:
        try:
            return frozenset(self._client.allocations(uuid)[1])
        except Conflict:  # gone meanwhile, and so is whoever held it
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
        """The names of all roots; not asked for when there are no devices."""
        others = self._client.listed([("required", f"!{MANAGED}")]) if devices else ()
        return {each.uuid: each.name for each in others if each.uuid == each.root_uuid}

    def _explain(self, wanted: Collection[str]) -> None:
        """Placement refused a listing by traits: no trouble while it has never heard of our mark."""
        for name in wanted:
            try:
                # One of another namespace may be mistyped in any way, and would be taken for several at a comma.
                check_custom(name if name.startswith("CUSTOM_") else f"CUSTOM_{name}")
            except InvalidName as error:
                raise UnknownArgument(
                    f"{name} is no name of a trait; one has capital letters, digits and underscores only."
                ) from error
        existing = self._client.existing_traits(wanted)
        if MANAGED not in existing:
            return
        if missing := sorted(set(wanted) - existing):
            raise no_such_trait(missing)

    def _summaries(self, uuids: Set[str], tree: Query) -> dict[str, Summary]:
        found: dict[str, Summary] = {}
        for amount in _NEXT_TO_NOTHING:
            if uuids <= found.keys():
                return found
            found |= self._client.summaries([("resources", amount), *tree])
        left = sorted(uuids - found.keys())
        read = zip(left, self._executor.map(self._read_alone, left), strict=True)
        return found | {uuid: summary for uuid, summary in read if summary is not None}

    def _read_alone(self, uuid: str) -> Summary | None:
        try:
            have = self.read(uuid, uuid)
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
    """What to raise when a caller names traits that Placement does not have."""
    return UnknownArgument(f'Placement has no trait {", ".join(missing)}; "openstack trait list" shows all.')
