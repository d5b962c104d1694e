"""The rows that Placement has for a cloud with USB devices, as agents and nova-compute would have written them. Pure.

A cloud is *hosts* × *devices*, as one provider a device or as one pool a host. Some devices are held, and there are a
few rare ones: drained, absent, and of another class.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import NAMESPACE_DNS, UUID, uuid5

from placement_traits import MANAGED, STATE_ABSENT, STATE_DRAINED

KEY, MODEM = "CUSTOM_USB_KEY", "CUSTOM_USB_MODEM"
KEY_TRAITS = frozenset(
    {
        MANAGED,
        "CUSTOM_USB_VENDOR_1050",
        "CUSTOM_USB_PRODUCT_1050_0407",
        "CUSTOM_USB_CLASS_HID",
        "CUSTOM_USB_CLASS_SMART_CARD",
        "CUSTOM_USB_SPEED_FULL",
    }
)
MODEM_TRAITS = frozenset(
    {
        MANAGED,
        "CUSTOM_USB_VENDOR_2C7C",
        "CUSTOM_USB_PRODUCT_2C7C_0125",
        "CUSTOM_USB_CLASS_VENDOR_SPEC",
        "CUSTOM_USB_SPEED_HIGH",
    }
)
HOST_TRAITS = ("COMPUTE_NODE", "COMPUTE_DEVICE_TAGGING", "COMPUTE_VOLUME_MULTI_ATTACH", "HW_CPU_X86_AVX2")
HOST_INVENTORIES = {
    "VCPU": {"total": 16, "reserved": 0, "max_unit": 16, "allocation_ratio": 4.0},
    "MEMORY_MB": {"total": 65536, "reserved": 512, "max_unit": 65536, "allocation_ratio": 1.0},
    "DISK_GB": {"total": 500, "reserved": 0, "max_unit": 500, "allocation_ratio": 1.0},
}
SERVER = {"VCPU": 1, "MEMORY_MB": 256}
POOL = "hasp"

_NEW_TRAITS = sorted(KEY_TRAITS | MODEM_TRAITS | {STATE_ABSENT, STATE_DRAINED})
NEW_NAMES = (
    *(f"/resource_classes/{name}" for name in (KEY, MODEM)),
    *(f"/traits/{name}" for name in _NEW_TRAITS),
)
"""What the agents create in Placement before their providers: paths to PUT."""


@dataclass(frozen=True)
class Shape:
    """How large the cloud is. A server holds each *held_every*-th device; there are *rare* devices of each kind."""

    hosts: int
    devices: int
    pooled: bool
    held_every: int = 20
    rare: int = 5

    @property
    def rare_hosts(self) -> range:
        """The hosts that have a modem; without pools, one of their devices is drained, and one is absent."""
        return range(0, self.hosts, max(1, self.hosts // self.rare))

    def is_held(self, host: int, device: int) -> bool:
        """Whether a server holds this device, or as many units of the pool. The first devices of a host are free."""
        return device > 1 and (host * 7 + device) % self.held_every == 0


def host_name(number: int) -> str:
    """The name of a compute node."""
    return f"compute-{number:05}.example.org"


def host_uuid(number: int) -> str:
    """The UUID of its provider."""
    return str(uuid5(NAMESPACE_DNS, host_name(number)))


def serial(host: int, device: int) -> str:
    """The serial number of a key."""
    return f"{host:05}{device:03}"


@dataclass(frozen=True)
class _Provider:
    """One USB provider: what an agent writes, and how many units each of its holders has."""

    key: str
    traits: frozenset[str]
    resource_class: str | None
    total: int = 1
    reserved: int = 0
    holders: tuple[str, ...] = ()


def server_uuid(host: int, device: int) -> str:
    """The UUID of the server that holds a device."""
    return str(uuid5(NAMESPACE_DNS, f"server-{host}-{device}"))


def servers(shape: Shape) -> list[tuple[str, int]]:
    """UUID and host of each server that holds a device."""
    return [
        (server_uuid(host, device), host)
        for host in range(shape.hosts)
        for device in range(shape.devices)
        if shape.is_held(host, device)
    ]


def _providers(shape: Shape, host: int) -> list[_Provider]:
    holders = [(d, server_uuid(host, d)) for d in range(shape.devices) if shape.is_held(host, d)]
    rare = host in shape.rare_hosts
    modem = [_Provider(f"2c7c:0125:M{host:05}", MODEM_TRAITS, MODEM)] if rare else []
    if shape.pooled:
        uuids = tuple(uuid for _, uuid in holders)
        return [_Provider(f"pool_{POOL}", KEY_TRAITS, KEY, total=shape.devices, holders=uuids), *modem]
    held = dict(holders)
    found = []
    for device in range(shape.devices):
        key = f"1050:0407:{serial(host, device)}"
        if rare and device == 0:
            found.append(_Provider(key, KEY_TRAITS | {STATE_DRAINED}, KEY, reserved=1))
        elif rare and device == 1:
            found.append(_Provider(key, KEY_TRAITS | {STATE_ABSENT}, None))
        else:
            found.append(_Provider(key, KEY_TRAITS, KEY, holders=(held[device],) if device in held else ()))
    return found + modem


def rows(
    shape: Shape, classes: Mapping[str, int], traits: Mapping[str, int], type_id: int
) -> dict[str, Sequence[Mapping[str, object]]]:
    """All rows by table, for the ids of *classes* and *traits* by name."""
    made = _Rows(classes, traits, type_id)
    for host in range(shape.hosts):
        made.add_host(shape, host)
    return made.tables


class _Rows:
    """The rows so far; ids are counted here, since rows refer to each other."""

    def __init__(self, classes: Mapping[str, int], traits: Mapping[str, int], type_id: int) -> None:
        self._classes, self._traits, self._type_id = classes, traits, type_id
        self._ids = 0
        self._consumers: dict[str, int] = {}
        self._providers: list[dict[str, object]] = []
        self._inventories: list[dict[str, object]] = []
        self._provider_traits: list[dict[str, object]] = []
        self._allocations: list[dict[str, object]] = []
        self._consumer_rows: list[dict[str, object]] = []
        self.tables: dict[str, Sequence[Mapping[str, object]]] = {
            "projects": [{"id": 1, "external_id": "project"}],
            "users": [{"id": 1, "external_id": "user"}],
            "resource_providers": self._providers,
            "inventories": self._inventories,
            "resource_provider_traits": self._provider_traits,
            "consumers": self._consumer_rows,
            "allocations": self._allocations,
        }

    def add_host(self, shape: Shape, host: int) -> None:
        """Add a compute node and what is below it."""
        name, uuid = host_name(host), host_uuid(host)
        root = self._provider(uuid, name, frozenset(HOST_TRAITS), None, None)
        for resource_class, values in HOST_INVENTORIES.items():
            self._inventory(root, resource_class, values)
        for each in _providers(shape, host):
            # As provider_uuid() and provider_name() of the product have them; a test compares.
            child = self._provider(str(uuid5(UUID(uuid), each.key)), f"{name}_usb_{each.key}", each.traits, root, root)
            if each.resource_class is None:
                continue
            values = {"total": each.total, "reserved": each.reserved, "max_unit": each.total, "allocation_ratio": 1.0}
            self._inventory(child, each.resource_class, values)
            for consumer in each.holders:
                self._allocate(consumer, child, {each.resource_class: 1})
                self._allocate(consumer, root, SERVER)

    def _provider(self, uuid: str, name: str, traits: frozenset[str], parent: int | None, root: int | None) -> int:
        self._ids += 1
        self._providers.append(
            {
                "id": self._ids,
                "uuid": uuid,
                "name": name,
                "generation": 2,
                "parent_provider_id": parent,
                "root_provider_id": root or self._ids,
            }
        )
        for trait in sorted(traits):
            self._provider_traits.append({"trait_id": self._traits[trait], "resource_provider_id": self._ids})
        return self._ids

    def _inventory(self, provider: int, resource_class: str, values: Mapping[str, float]) -> None:
        self._inventories.append(
            {
                "resource_provider_id": provider,
                "resource_class_id": self._classes[resource_class],
                "min_unit": 1,
                "step_size": 1,
                **values,
            }
        )

    def _allocate(self, consumer: str, provider: int, resources: Mapping[str, int]) -> None:
        if consumer not in self._consumers:
            self._consumers[consumer] = len(self._consumers) + 1
            self._consumer_rows.append(
                {
                    "id": self._consumers[consumer],
                    "uuid": consumer,
                    "project_id": 1,
                    "user_id": 1,
                    "generation": 1,
                    "consumer_type_id": self._type_id,
                }
            )
        for resource_class, amount in resources.items():
            self._allocations.append(
                {
                    "resource_provider_id": provider,
                    "consumer_id": consumer,
                    "resource_class_id": self._classes[resource_class],
                    "used": amount,
                }
            )
