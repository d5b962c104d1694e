"""A flavor's extra specs: what Nova asks Placement for because of them, and how to write them.

Pure: the text of a flavor in, request groups out. It reads a flavor exactly as Nova does (nova/scheduler/utils.py,
ResourceRequest). pitfalls.py says which lines mislead, and verdict.py whether a host is left.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import os_resource_classes

from placement_traits.usb import PREFIX

NO_SUFFIX = ""
"""The group without a suffix, which has the host's own resources."""

USB_MODEL = "hw:usb_model"
GOOD_MODEL = "qemu-xhci"
GROUP_POLICY = "group_policy"
POLICIES = ("none", "isolate")

CUSTOM = "CUSTOM_"
KEY = re.compile(r"^(resources|trait)([a-zA-Z0-9_-]{1,64})?:(.*)$")
"""A line that Nova reads: the word, the group's suffix, and the name of a class or trait."""


@dataclass(frozen=True, slots=True)
class RequestGroup:
    """Amounts and traits that one provider must have; for the group without a suffix, several providers of one host."""

    suffix: str = NO_SUFFIX
    resources: Mapping[str, int] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    forbidden: frozenset[str] = frozenset()

    def __str__(self) -> str:
        words = [
            *(f"{name}={amount}" for name, amount in sorted(self.resources.items())),
            *sorted(self.required),
            *(f"!{name}" for name in sorted(self.forbidden)),
        ]
        return f"group {self.suffix or 'without a suffix'} ({', '.join(words)})"

    def query(self) -> list[tuple[str, str]]:
        """Its parameters of ``GET /allocation_candidates``, as Nova writes them."""
        traits = [*sorted(self.required), *(f"!{name}" for name in sorted(self.forbidden))]
        resources = ",".join(f"{name}:{amount}" for name, amount in sorted(self.resources.items()))
        return [(f"resources{self.suffix}", resources)] + (
            [(f"required{self.suffix}", ",".join(traits))] if traits else []
        )


@dataclass(frozen=True, slots=True)
class Request:
    """All that Nova asks Placement for: the group without a suffix first, the others in the order of the flavor."""

    groups: tuple[RequestGroup, ...] = ()
    policy: str | None = None

    def query(self) -> list[tuple[str, str]]:
        """The parameters of ``GET /allocation_candidates``; hosts whose nova-compute is disabled are left out."""
        parameters = [("root_required", "!COMPUTE_STATUS_DISABLED")]
        if self.policy is not None:
            parameters.append((GROUP_POLICY, self.policy))
        return parameters + [each for group in self.groups for each in group.query()]


@dataclass(frozen=True, slots=True)
class Size:
    """What a flavor takes of its host by itself: CPUs, MiB of memory, GiB of disk (root and ephemeral), MiB of swap."""

    vcpus: int
    memory_mb: int
    disk_gb: int
    swap_mb: int = 0


def parse_extra_specs(
    extra_specs: Mapping[str, str], size: Size | None = None, image_traits: Collection[str] = ()
) -> Request:
    """What Nova asks Placement for with these extra specs; it refuses nothing, since Nova does not either.

    Without *size*, only what the extra specs say. *image_traits* are those that an image requires. Of nova's other
    translations only ``hw:cpu_policy=dedicated`` is known here; ``mixed`` leaves the CPUs out.
    """
    drafts = {NO_SUFFIX: _Draft(required=set(image_traits))}
    policy = None
    for key, value in extra_specs.items():
        if key == GROUP_POLICY:
            policy = value if value in POLICIES else policy
            continue
        match = KEY.match(key)
        if not match:
            continue
        prefix, suffix, name = match[1], match[2] or NO_SUFFIX, match[3]
        draft = drafts.setdefault(suffix, _Draft())
        if prefix == "trait":
            draft.required |= {name} if value == "required" else set()
            draft.forbidden |= {name} if value == "forbidden" else set()
        elif is_class(name) and (amount := amount_of(value)) is not None:
            draft.resources[name] = amount
    if size is not None:
        _add_size(drafts, size, extra_specs)
    groups = (draft.group(suffix) for suffix, draft in drafts.items())
    return Request(tuple(each for each in groups if each.resources or each.required or each.forbidden), policy)


@dataclass(slots=True)
class _Draft:
    """A group while it is read; it keeps an amount of 0, which says that the flavor wants none of a class."""

    resources: dict[str, int] = field(default_factory=dict)
    required: set[str] = field(default_factory=set)
    forbidden: set[str] = field(default_factory=set)

    def group(self, suffix: str) -> RequestGroup:
        amounts = {name: amount for name, amount in self.resources.items() if amount}
        return RequestGroup(suffix, amounts, frozenset(self.required), frozenset(self.forbidden))


def _add_size(drafts: Mapping[str, _Draft], size: Size, extra_specs: Mapping[str, str]) -> None:
    """Add the flavor's own fields, except those whose class an extra spec names, even with an amount of 0."""
    own, named = drafts[NO_SUFFIX].resources, {name for draft in drafts.values() for name in draft.resources}
    cpu_policy = extra_specs.get("hw:cpu_policy")
    if cpu_policy == "dedicated":
        own["PCPU"] = size.vcpus + (extra_specs.get("hw:emulator_threads_policy") == "isolate")
    elif cpu_policy != "mixed" and not named & {"VCPU", "PCPU"}:
        own["VCPU"] = size.vcpus
    if "MEMORY_MB" not in named:
        own["MEMORY_MB"] = size.memory_mb
    disk = size.disk_gb + -(-size.swap_mb // 1024)
    if "DISK_GB" not in named and disk:
        own["DISK_GB"] = disk


def is_class(name: str) -> bool:
    """Whether Nova accepts *name* as the name of a resource class."""
    return name.startswith(CUSTOM) or name in os_resource_classes.STANDARDS


def amount_of(value: str) -> int | None:
    """The amount as Nova reads it, with Python's int(); None where Nova ignores the line."""
    try:
        amount = int(value)
    except ValueError:
        return None
    return amount if amount >= 0 else None


def is_usb(resource_class: str, usb_classes: Collection[str]) -> bool:
    """Whether *resource_class* is one of USB devices: by its name, or since it is in *usb_classes*."""
    return resource_class.startswith(PREFIX) or resource_class in usb_classes


def wanted(request: Request, usb_classes: Collection[str] = ()) -> int:
    """How many USB devices *request* asks for."""
    return sum(
        amount for group in request.groups for name, amount in group.resources.items() if is_usb(name, usb_classes)
    )


def extra_specs_for(
    resource_class: str,
    count: int = 1,
    required: Collection[str] = (),
    forbidden: Collection[str] = (),
    *,
    pooled: bool = False,
) -> dict[str, str]:
    """The extra specs of a flavor with *count* devices of *resource_class*, each with these traits: docs/flavors.md.

    >>> extra_specs_for("CUSTOM_USB_KEY")
    {'resources:CUSTOM_USB_KEY': '1', 'hw:usb_model': 'qemu-xhci'}

    :param pooled: all of them are units of one pool.
    """
    specs: dict[str, str] = {}
    groups, amount = (1, count) if pooled else (count, 1)
    plain = groups == 1 and not required and not forbidden
    for suffix in [NO_SUFFIX] if plain else [f"_USB{number}" for number in range(1, groups + 1)]:
        specs[f"resources{suffix}:{resource_class}"] = str(amount)
        specs |= {f"trait{suffix}:{name}": "required" for name in sorted(required)}
        specs |= {f"trait{suffix}:{name}": "forbidden" for name in sorted(forbidden)}
    if groups > 1:
        specs[GROUP_POLICY] = "isolate"
    return specs | {USB_MODEL: GOOD_MODEL}
