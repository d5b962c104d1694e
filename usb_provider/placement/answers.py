"""Placement's answers as values: the form of each one's JSON, and what we read of it. Pure.

Fields that we do not read are left out. A reader fails at JSON of another form, and ``Transport.read`` turns that into
one sentence.
"""

from collections.abc import Mapping
from typing import NotRequired, TypedDict

from usb_provider.model.reporting.tree import Amount, Inventory, ProviderRecord, Summary

Resources = Mapping[str, int]
"""Amounts by resource class."""


class ProviderJson(TypedDict):
    """A provider in a listing."""

    uuid: str
    name: str
    generation: int
    parent_provider_uuid: NotRequired[str | None]
    root_provider_uuid: str


class ProvidersJson(TypedDict):
    """``GET /resource_providers``."""

    resource_providers: list[ProviderJson]


class GenerationJson(TypedDict):
    """What the answers about one provider have in common."""

    resource_provider_generation: int


class InventoriesJson(GenerationJson):
    """``GET /resource_providers/{uuid}/inventories``."""

    inventories: Mapping[str, Mapping[str, float]]


class TraitNamesJson(TypedDict):
    """``GET /traits``."""

    traits: list[str]


class TraitsJson(GenerationJson, TraitNamesJson):
    """``GET /resource_providers/{uuid}/traits``."""


class AllocationJson(TypedDict):
    """What one consumer has of one provider."""

    resources: Resources


class ConsumerJson(TypedDict):
    """``GET /allocations/{consumer}``: by provider; the type since microversion 1.38."""

    allocations: Mapping[str, AllocationJson]
    consumer_type: NotRequired[str]
    consumer_generation: NotRequired[int]
    project_id: NotRequired[str]
    user_id: NotRequired[str]


class AllocationsJson(GenerationJson):
    """``GET /resource_providers/{uuid}/allocations``: by consumer."""

    allocations: Mapping[str, AllocationJson]


class UsageJson(TypedDict):
    """The units of one class of one provider."""

    capacity: int
    used: int


class SummaryJson(TypedDict):
    """A provider of a tree that has a candidate."""

    resources: Mapping[str, UsageJson]
    traits: list[str]
    root_provider_uuid: str


class CandidateJson(TypedDict):
    """One way to meet a request: allocations by provider."""

    allocations: Mapping[str, AllocationJson]


class CandidatesJson(TypedDict):
    """``GET /allocation_candidates``."""

    allocation_requests: list[CandidateJson]
    provider_summaries: Mapping[str, SummaryJson]


class ResourceClassJson(TypedDict):
    """A resource class in a listing."""

    name: str


class ResourceClassesJson(TypedDict):
    """``GET /resource_classes``."""

    resource_classes: list[ResourceClassJson]


class VersionJson(TypedDict):
    """A major version, of which Placement has one."""

    min_version: str
    max_version: str


class VersionsJson(TypedDict):
    """``GET /``."""

    versions: list[VersionJson]


def records(body: ProvidersJson) -> tuple[ProviderRecord, ...]:
    """The providers of a listing."""
    return tuple(
        ProviderRecord(entry["uuid"], entry["name"], entry["generation"], entry.get("parent_provider_uuid"))
        for entry in body["resource_providers"]
    )


def generation(body: GenerationJson) -> int:
    """The provider's generation."""
    return int(body["resource_provider_generation"])


def created_generation(body: ProviderJson) -> int:
    """The generation of a provider that was just created."""
    return int(body["generation"])


def inventories(body: InventoriesJson) -> tuple[int, dict[str, Inventory]]:
    """Generation, and inventories by class."""
    return generation(body), {name: Inventory.from_json(entry) for name, entry in body["inventories"].items()}


def traits(body: TraitsJson) -> tuple[int, frozenset[str]]:
    """Generation and traits."""
    return generation(body), trait_names(body)


def allocations(body: AllocationsJson) -> tuple[int, dict[str, dict[str, int]]]:
    """Generation, and amounts by consumer and class."""
    return generation(body), _resources(body["allocations"])


def consumer(body: ConsumerJson) -> dict[str, dict[str, int]]:
    """Amounts by provider and class."""
    return _resources(body["allocations"])


def summaries(body: CandidatesJson) -> dict[str, Summary]:
    """Every provider of every tree that has a candidate, by UUID."""
    return {uuid: _summary(entry) for uuid, entry in body["provider_summaries"].items()}


def _summary(entry: SummaryJson) -> Summary:
    amounts = {name: Amount(each["capacity"], each["used"]) for name, each in entry["resources"].items()}
    return Summary(frozenset(entry["traits"]), amounts)


def resource_classes(body: ResourceClassesJson) -> frozenset[str]:
    """The names of a listing of resource classes."""
    return frozenset(entry["name"] for entry in body["resource_classes"])


def trait_names(body: TraitNamesJson) -> frozenset[str]:
    """The names of a listing of traits."""
    return frozenset(body["traits"])


def microversions(body: VersionsJson) -> tuple[str, str]:
    """The lowest and the highest microversion."""
    (entry,) = body["versions"][:1]
    return str(entry["min_version"]), str(entry["max_version"])


def _resources(entries: Mapping[str, AllocationJson]) -> dict[str, dict[str, int]]:
    return {uuid: dict(entry["resources"]) for uuid, entry in entries.items()}
