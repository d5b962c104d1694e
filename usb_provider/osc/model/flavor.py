"""A flavor's extra specs: what nova makes of them, which of them are not what they look like, and how to write them.

Pure: the text of a flavor in, request groups and traps out. Nova's reading is copied to the letter (nova/scheduler/
utils.py, ResourceRequest), since the traps lie in what it passes over in silence. Whether there is a host is
model/verdict.py's to say, with what Placement answers.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import os_resource_classes

from placement_traits.usb import PREFIX

NO_SUFFIX = ""
"""Stands for the group without a suffix, which the host's own resources are in."""

USB_MODEL = "hw:usb_model"
GOOD_MODEL = "qemu-xhci"
GROUP_POLICY = "group_policy"
POLICIES = ("none", "isolate")

_CUSTOM = "CUSTOM_"
_GOOD_MODELS = (GOOD_MODEL, "nec-xhci")
_KEY = re.compile(r"^(resources|trait)([a-zA-Z0-9_-]{1,64})?:(.*)$")
_MEANT_AS_KEY = re.compile(r"^\s*(resources?|traits?)([^:]*):(.*)$", re.IGNORECASE | re.DOTALL)
_NOT_IN_SUFFIX = re.compile(r"[^a-zA-Z0-9_-]")
_SUFFIX_LIMIT = 64


@dataclass(frozen=True, slots=True)
class RequestGroup:
    """What one provider has to give, or several of one host for the group without a suffix: amounts, and traits."""

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
        """Its parameters of ``GET /allocation_candidates``, as nova writes them."""
        traits = [*sorted(self.required), *(f"!{name}" for name in sorted(self.forbidden))]
        resources = ",".join(f"{name}:{amount}" for name, amount in sorted(self.resources.items()))
        return [(f"resources{self.suffix}", resources)] + (
            [(f"required{self.suffix}", ",".join(traits))] if traits else []
        )


@dataclass(frozen=True, slots=True)
class Request:
    """All that nova asks Placement for: the group without a suffix first, the others as the flavor has them."""

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


def parse(extra_specs: Mapping[str, str], size: Size | None = None, image_traits: Collection[str] = ()) -> Request:
    """What nova asks Placement for with these extra specs; refuses nothing, since nova does not either.

    Without *size*, only what the extra specs say. *image_traits* are those that an image requires. Of nova's other
    translations only ``hw:cpu_policy=dedicated`` is known here; ``mixed`` leaves the CPUs out.
    """
    drafts = {NO_SUFFIX: _Draft(required=set(image_traits))}
    policy = None
    for key, value in extra_specs.items():
        if key == GROUP_POLICY:
            policy = value if value in POLICIES else policy
            continue
        match = _KEY.match(key)
        if not match:
            continue
        prefix, suffix, name = match[1], match[2] or NO_SUFFIX, match[3]
        draft = drafts.setdefault(suffix, _Draft())
        if prefix == "trait":
            draft.required |= {name} if value == "required" else set()
            draft.forbidden |= {name} if value == "forbidden" else set()
        elif _is_class(name) and (amount := _amount(value)) is not None:
            draft.resources[name] = amount
    if size is not None:
        _add_size(drafts, size, extra_specs)
    groups = (draft.group(suffix) for suffix, draft in drafts.items())
    return Request(tuple(each for each in groups if each.resources or each.required or each.forbidden), policy)


@dataclass(slots=True)
class _Draft:
    """A group that is not yet complete; an amount of 0 still tells that the flavor names its class."""

    resources: dict[str, int] = field(default_factory=dict)
    required: set[str] = field(default_factory=set)
    forbidden: set[str] = field(default_factory=set)

    def group(self, suffix: str) -> RequestGroup:
        amounts = {name: amount for name, amount in self.resources.items() if amount}
        return RequestGroup(suffix, amounts, frozenset(self.required), frozenset(self.forbidden))


def _add_size(drafts: Mapping[str, _Draft], size: Size, extra_specs: Mapping[str, str]) -> None:
    """What the flavor's own fields add, each unless an extra spec names its class (with 0, too)."""
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


def _is_class(name: str) -> bool:
    return name.startswith(_CUSTOM) or name in os_resource_classes.STANDARDS


def _amount(value: str) -> int | None:
    """The amount as nova reads it, which is with Python's int(); None where nova passes over the line."""
    try:
        amount = int(value)
    except ValueError:
        return None
    return amount if amount >= 0 else None


def is_usb(resource_class: str, usb_classes: Collection[str]) -> bool:
    """Whether a USB device has units of *resource_class*, by its name or because one has."""
    return resource_class.startswith(PREFIX) or resource_class in usb_classes


def wanted(request: Request, usb_classes: Collection[str] = ()) -> int:
    """How many USB devices *request* asks for."""
    return sum(
        amount for group in request.groups for name, amount in group.resources.items() if is_usb(name, usb_classes)
    )


def extra_specs_for(
    resource_class: str, count: int = 1, required: Collection[str] = (), forbidden: Collection[str] = ()
) -> dict[str, str]:
    """The extra specs of a flavor with *count* devices of *resource_class*, each with these traits: docs/flavors.md.

    >>> extra_specs_for("CUSTOM_USB_KEY")
    {'resources:CUSTOM_USB_KEY': '1', 'hw:usb_model': 'qemu-xhci'}
    """
    specs: dict[str, str] = {}
    plain = count == 1 and not required and not forbidden
    for suffix in [NO_SUFFIX] if plain else [f"_USB{number}" for number in range(1, count + 1)]:
        specs[f"resources{suffix}:{resource_class}"] = "1"
        specs |= {f"trait{suffix}:{name}": "required" for name in sorted(required)}
        specs |= {f"trait{suffix}:{name}": "forbidden" for name in sorted(forbidden)}
    if count > 1:
        specs[GROUP_POLICY] = "isolate"
    return specs | {USB_MODEL: GOOD_MODEL}


class Outcome(StrEnum):
    """What a trap comes to when the flavor is used."""

    NO_HOST = "no host"
    """No server of this flavor is ever scheduled."""
    NO_DEVICE = "no device"
    """A server boots, but without its device, or one that nobody meant."""
    PERHAPS = "perhaps"
    """It depends on what the flavor does not say."""


@dataclass(frozen=True, slots=True)
class Trap:
    """One line of a flavor or image that does not do what it looks like; *text* says why, and what to write instead."""

    where: str
    outcome: Outcome
    text: str


@dataclass(frozen=True, slots=True)
class Known:
    """What there is in the cloud. *classes* and *traits* are all of Placement's; None where nobody asked.

    *usb_classes* and *usb_traits* are those that some USB device has, besides CUSTOM_USB_*.
    """

    classes: frozenset[str] | None = None
    traits: frozenset[str] | None = None
    usb_classes: frozenset[str] = frozenset()
    usb_traits: frozenset[str] = frozenset()


def traps(
    extra_specs: Mapping[str, str], image: Mapping[str, str] | None = None, known: Known | None = None
) -> tuple[Trap, ...]:
    """Everything in *extra_specs*, and in *image*'s properties, that a server would be surprised by."""
    known = known or Known()
    found = [trap for key, value in sorted(extra_specs.items()) for trap in _of_line(key, value, known)]
    request = parse(extra_specs)
    found += _of_groups(request, extra_specs, known)
    if wanted(request, known.usb_classes):
        found += _of_controller(extra_specs, image or {})
        found += _of_image(image) if image is not None else []
    else:
        found.append(Trap("flavor", Outcome.NO_DEVICE, "It asks for no USB device."))
    return tuple(found)


def _of_line(key: str, value: str, known: Known) -> Iterator[Trap]:
    match = _KEY.match(key)
    if match is None:
        if meant := _MEANT_AS_KEY.match(key):
            yield Trap(key, Outcome.NO_DEVICE, f"Nova passes over this line in silence: {_why_no_key(meant)}.")
    elif match[1] == "resources":
        yield from _of_resource(key, match[3], value, known)
    else:
        yield from _of_trait(key, match[3], value, known, suffixed=bool(match[2]))


def _why_no_key(meant: re.Match[str]) -> str:
    word, suffix = meant[1], meant[2]
    if (right := {"r": "resources", "t": "trait"}[word[0].lower()]) != word or meant.start(1):
        return f"it must begin with {right}"
    if len(suffix) > _SUFFIX_LIMIT:
        return f"its suffix has {len(suffix)} characters, and at most {_SUFFIX_LIMIT} are allowed"
    bad = " ".join(repr(char) for char in sorted(set(_NOT_IN_SUFFIX.findall(suffix))))
    return f"its suffix has {bad}, and only a-z, A-Z, 0-9, _ and - are allowed" if bad else "it has a line break"


def _of_resource(key: str, name: str, value: str, known: Known) -> Iterator[Trap]:
    amount = _amount(value)
    if not _is_class(name):
        right = f"write {_CUSTOM}{name}" if known.classes and _CUSTOM + name in known.classes else "its name is wrong"
        yield Trap(key, Outcome.NO_DEVICE, f"Nova passes over this line in silence: {name} is no class; {right}.")
        return
    if known.classes is not None and name not in known.classes:
        yield Trap(key, Outcome.NO_HOST, f"Placement has no resource class {name}, and refuses the whole request.")
    if not is_usb(name, known.usb_classes):
        return
    if amount is None:
        yield Trap(key, Outcome.NO_DEVICE, f"Nova passes over this line in silence: {value!r} is no amount; write 1.")
    elif amount == 0:
        yield Trap(key, Outcome.NO_DEVICE, "Nova drops an amount of 0 in silence, and the device with it; write 1.")
    elif amount > 1:
        yield Trap(
            key,
            Outcome.NO_HOST,
            f"A provider is one device, so none has {amount}; write {amount} groups with 1 each, "
            f"resources_USB1:{name}=1 and so on, and {GROUP_POLICY}=isolate.",
        )


def _of_trait(key: str, name: str, value: str, known: Known, *, suffixed: bool) -> Iterator[Trap]:
    if value not in ("required", "forbidden"):
        yield Trap(
            key,
            Outcome.NO_DEVICE,
            f"Nova passes over this line in silence: {value!r} is neither required nor forbidden.",
        )
        return
    if known.traits is not None and name not in known.traits:
        yield Trap(key, Outcome.NO_HOST, f"Placement has no trait {name}, and refuses the whole request.")
    if not suffixed and value == "required" and (name.startswith(PREFIX) or name in known.usb_traits):
        yield Trap(
            key,
            # A host may have a trait of yours as well as a device; what starts with CUSTOM_USB_ is a device's.
            Outcome.NO_DEVICE if name.startswith(PREFIX) else Outcome.PERHAPS,
            f"Without a suffix any provider of the host that gives something may meet it, not only the device; write "
            f"trait_USB1:{name}=required beside resources_USB1:….",
        )


def _of_groups(request: Request, extra_specs: Mapping[str, str], known: Known) -> Iterator[Trap]:
    suffixed = [group for group in request.groups if group.suffix != NO_SUFFIX]
    for group in suffixed:
        if len(group.resources) > 1 and any(is_usb(name, known.usb_classes) for name in group.resources):
            yield Trap(
                f"resources{group.suffix}",
                Outcome.NO_HOST,
                f"The group {group.suffix} wants {' and '.join(sorted(group.resources))} of one provider, and a device "
                f"has one class; give each class a suffix of its own.",
            )
        if not group.resources:
            yield Trap(
                f"trait{group.suffix}",
                Outcome.NO_HOST,
                f"The group {group.suffix} has traits and no resources, and Placement refuses that; write "
                f"resources{group.suffix}:CLASS=1, or correct the suffix.",
            )
    policy = extra_specs.get(GROUP_POLICY)
    if len(suffixed) > 1 and policy not in POLICIES:
        wrong = "is missing" if policy is None else f"is {policy!r}, which nova passes over in silence"
        yield Trap(
            GROUP_POLICY,
            Outcome.NO_HOST,
            f"It {wrong}, and Placement refuses {len(suffixed)} groups without it; write {GROUP_POLICY}=isolate.",
        )


def _of_controller(extra_specs: Mapping[str, str], image: Mapping[str, str]) -> Iterator[Trap]:
    flavors, images = extra_specs.get(USB_MODEL), image.get("hw_usb_model")
    model = flavors or images
    if flavors and images and flavors != images:
        yield Trap(
            "hw_usb_model",
            Outcome.NO_HOST,
            f"The image says {images} and the flavor {flavors}, and nova refuses to boot that; take it off the image.",
        )
    elif model is None:
        yield Trap(
            USB_MODEL,
            Outcome.NO_DEVICE,
            f"It is missing, so the guest has no USB controller, or one of USB 1.1 with two ports; write "
            f"{USB_MODEL}={GOOD_MODEL} (nova 32 or newer).",
        )
    elif model not in _GOOD_MODELS:
        says = "gives the guest no USB controller" if model == "none" else "is a model that nova does not know"
        yield Trap(USB_MODEL, Outcome.NO_DEVICE, f"{model} {says}; write {USB_MODEL}={GOOD_MODEL}.")


def _of_image(image: Mapping[str, str]) -> Iterator[Trap]:
    ignores = f"so nova ignores {USB_MODEL} and gives the guest a controller of USB 1.1 with two ports"
    for name in ("hw_input_bus", "hw_disk_bus", "hw_cdrom_bus", "hw_rescue_bus"):
        if image.get(name) == "usb":
            yield Trap(name, Outcome.NO_DEVICE, f"It is usb, {ignores}; set {name}=virtio on the image.")
    if "hw_input_bus" in image:
        return
    if "hw_pointer_model" in image:
        yield Trap(
            "hw_pointer_model",
            Outcome.NO_DEVICE,
            f"It makes the guest's tablet a USB one, {ignores}; set hw_input_bus=virtio on the image.",
        )
    else:
        yield Trap(
            "hw_input_bus",
            Outcome.PERHAPS,
            f"It is missing. Where guests have a VNC console nova adds a USB tablet, {ignores}; set "
            f"hw_input_bus=virtio on the image.",
        )
