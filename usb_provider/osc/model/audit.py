"""What does not fit together between Placement and Nova: devices of a host that is gone, allocations of a server that
is gone or of a migration that is over, and servers without their device, or with one beyond their flavor.

Pure: takes what Placement and Nova said and gives findings, each with its fix; nothing is repaired here. Before the
caller says that a consumer is gone, it must have asked Nova for it by its UUID: Nova's listings leave out servers that
are soft deleted, and servers in a cell that does not answer.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from usb_provider.osc.model import flavor
from usb_provider.osc.model.fleet import Device
from usb_provider.osc.model.surplus import HeldDevice, surpluses, units_beyond

MIGRATION_OVER = frozenset({"cancelled", "completed", "confirmed", "done", "reverted"})
"""States in which Nova has ended a migration, and has given back what it held.

Neither ``error`` nor ``failed`` is among them: Nova sets the latter before it has moved the allocation back.
"""

_NOT_YET_OR_NO_MORE = frozenset({"BUILD", "DELETED", "SHELVED_OFFLOADED", "SOFT_DELETED", "UNKNOWN"})

_ON_ITS_WAY = frozenset({"MIGRATING", "RESIZE", "REVERT_RESIZE"})
"""A server in these states holds what its new flavor asks for, or nothing yet; Nova still shows the old flavor."""


class ConsumerKind(StrEnum):
    """What a consumer is."""

    SERVER = "server"
    MIGRATION = "migration"
    OVER = "migration that is over"
    GONE = "gone"
    FOREIGN = "not nova's"


@dataclass(frozen=True, slots=True)
class Consumer:
    """What holds devices. ``name`` is that of the server, or of the server that migrates; empty where not known."""

    uuid: str
    kind: ConsumerKind
    name: str = ""
    detail: str = ""

    def __str__(self) -> str:
        match self.kind:
            case ConsumerKind.SERVER:
                return f"server {self.name}" if self.name else f"server {self.uuid}"
            case ConsumerKind.MIGRATION | ConsumerKind.OVER:
                return f"a migration of server {self.name} ({self.detail})"
            case ConsumerKind.GONE:
                return f"{self.uuid} (not known to Nova)"
            case ConsumerKind.FOREIGN:
                return f"{self.uuid} (of type {self.detail})"


@dataclass(frozen=True, slots=True)
class Server:
    """A server of Nova, with its flavor's extra specs; ``host`` is empty while it is on none.

    ``node`` is the name of its compute node, empty where Nova does not show it to the caller. ``task`` is what Nova
    does with it now, if anything.
    """

    uuid: str
    name: str
    status: str
    host: str
    extra_specs: Mapping[str, str]
    node: str = ""
    task: str = ""
    project_id: str = ""

    def lacks(self, held: int, usb_classes: Collection[str]) -> bool:
        """Whether it should hold more USB devices than *held*."""
        return self.is_settled and self.asks(usb_classes) > held

    @property
    def is_settled(self) -> bool:
        """Whether it holds what its flavor asks for, if all is well."""
        return bool(self.host) and self.status not in _NOT_YET_OR_NO_MORE | _ON_ITS_WAY

    def asks(self, usb_classes: Collection[str]) -> int:
        """How many USB devices its flavor asks for."""
        return flavor.wanted(flavor.parse_extra_specs(self.extra_specs), usb_classes)


@dataclass(frozen=True, slots=True)
class Migration:
    """A migration of a server, ended or under way."""

    uuid: str
    server_uuid: str
    status: str


class Problem(StrEnum):
    """What is wrong, in a few words."""

    NO_HOST = "host is gone"
    NO_SERVER = "server is gone"
    MIGRATION_OVER = "migration is over"
    NO_DEVICE = "server without device"
    BEYOND = "beyond its flavor"
    """No trouble by itself: a user has attached a device to the server."""


@dataclass(frozen=True, slots=True)
class ProviderDeletion:
    """A fix: delete the provider."""

    uuid: str

    def __str__(self) -> str:
        return "delete the provider"


@dataclass(frozen=True, slots=True)
class AllocationsDeletion:
    """A fix: delete all allocations of the consumer."""

    consumer: str

    def __str__(self) -> str:
        return "delete its allocations"


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """One thing that is wrong: the device or consumer, a sentence for the operator, and the fix, if there is one."""

    problem: Problem
    uuid: str
    name: str
    text: str
    fix: ProviderDeletion | AllocationsDeletion | None = None


def consumer_of(uuid: str, servers: Mapping[str, str], migrations: Mapping[str, Migration]) -> Consumer | None:
    """The consumer, by the servers' names and the migrations that are known; None when it is in neither."""
    if uuid in servers:
        return Consumer(uuid, ConsumerKind.SERVER, servers[uuid])
    if uuid in migrations:
        move = migrations[uuid]
        kind = ConsumerKind.OVER if move.status in MIGRATION_OVER else ConsumerKind.MIGRATION
        return Consumer(uuid, kind, servers.get(move.server_uuid, move.server_uuid), move.status)
    return None


def findings(
    devices: Sequence[Device],
    holders: Mapping[str, Mapping[str, int]],
    consumers: Mapping[str, Consumer],
    servers: Iterable[Server],
    compute_nodes: Collection[str],
) -> tuple[AuditFinding, ...]:
    """All that is wrong, hosts first.

    :param holders: by the UUID of each held device the consumers' UUIDs, each with the number of units that it holds.
    :param consumers: what each of these is.
    :param compute_nodes: the UUIDs of Nova's compute nodes, which are those of the roots.
    """
    found: list[AuditFinding] = []
    holdings: dict[str, list[Device]] = {}
    units: Counter[str] = Counter()
    for device in sorted(devices, key=lambda each: each.name):
        units.update(holders.get(device.uuid, {}))
        for consumer in sorted(holders.get(device.uuid, ())):
            holdings.setdefault(consumer, []).append(device)
        if device.host_uuid not in compute_nodes:
            found.append(_of_no_host(device, holders.get(device.uuid, ())))
    for uuid, held in holdings.items():
        names = ", ".join(device.name for device in held)
        who = consumers[uuid]
        if who.kind is ConsumerKind.GONE:
            text = f"It holds {names}, but is neither a server nor a migration of Nova."
            found.append(AuditFinding(Problem.NO_SERVER, uuid, "", text, AllocationsDeletion(uuid)))
        elif who.kind is ConsumerKind.OVER:
            text = f"It holds {names}, but the migration of this server is {who.detail}."
            found.append(AuditFinding(Problem.MIGRATION_OVER, uuid, who.name, text, AllocationsDeletion(uuid)))
    usb_classes = {name for device in devices for name in device.amounts}
    for server in servers:
        has = units[server.uuid]
        asks = server.asks(usb_classes)
        if server.lacks(has, usb_classes):
            found.append(
                AuditFinding(
                    Problem.NO_DEVICE,
                    server.uuid,
                    server.name,
                    f"Its flavor asks for {asks} and it holds {has}; migrate it, or shelve and unshelve it, and Nova "
                    f"asks for them again.",
                )
            )
        mine = [_held(device, server, holders) for device in holdings.get(server.uuid, ())]
        if more := beyond_flavor(server, mine, usb_classes):
            text = (
                f'It holds more than its flavor asks for ({more}), as after "openstack usb server attach"; a resize or '
                f"a migration loses that."
            )
            found.append(AuditFinding(Problem.BEYOND, server.uuid, server.name, text))
    return tuple(found)


def beyond_flavor(server: Server, held: Sequence[HeldDevice], usb_classes: Collection[str]) -> str:
    """Which of *held* the flavor of *server* does not ask for, in words; empty while Nova moves the server."""
    units = units_beyond(held, server.extra_specs, usb_classes) if server.is_settled else 0
    if not units:
        return ""
    suspects = [each for each in surpluses(held, server.extra_specs, usb_classes) if each.possible]
    names = ", ".join(each.held.device.name for each in suspects)
    return names if sum(each.held.units for each in suspects) == units else f"{units} of {names}"


def _held(device: Device, server: Server, holders: Mapping[str, Mapping[str, int]]) -> HeldDevice:
    return HeldDevice(device, device.resource_class or "", holders[device.uuid][server.uuid])


def _of_no_host(device: Device, holders: Collection[str]) -> AuditFinding:
    text = f"Nova has no compute node {device.host or device.host_uuid} any more."
    if holders:
        text += f" It is held by {', '.join(sorted(holders))}, so it is kept."
        return AuditFinding(Problem.NO_HOST, device.uuid, device.name, text)
    return AuditFinding(Problem.NO_HOST, device.uuid, device.name, text, ProviderDeletion(device.uuid))
