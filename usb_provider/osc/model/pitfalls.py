"""Pitfalls: lines of a flavor or an image that do not do what they look like, each with its reason and its correction.

Pure: the text of a flavor in, pitfalls out. Nova ignores most of these lines without an error; how it reads a flavor is
flavor.py's.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from placement_traits.usb import PREFIX
from usb_provider.model.guest_controllers import (
    REDIRECTED_PORTS,
    USB_MODEL_SINCE,
    Platform,
    best,
    most_devices,
    redirected_ports,
)
from usb_provider.osc.model.flavor import (
    CUSTOM,
    GOOD_MODEL,
    GROUP_POLICY,
    KEY,
    NO_SUFFIX,
    POLICIES,
    USB_MODEL,
    Request,
    amount_of,
    is_class,
    is_usb,
    parse_extra_specs,
    wanted,
)

_GOOD_MODELS = (GOOD_MODEL, "nec-xhci")
_MEANT_AS_KEY = re.compile(r"^\s*(resources?|traits?)([^:]*):(.*)$", re.IGNORECASE | re.DOTALL)
_NOT_IN_SUFFIX = re.compile(r"[^a-zA-Z0-9_-]")
_SUFFIX_LIMIT = 64


class Consequence(StrEnum):
    """What happens when a flavor with the pitfall is used."""

    NO_HOST = "no host"
    """No server of this flavor is ever scheduled."""
    NO_DEVICE = "no device"
    """A server boots, but without its device, or with another one than was meant."""
    PERHAPS = "perhaps"
    """It depends on what the flavor does not say."""


@dataclass(frozen=True, slots=True)
class Pitfall:
    """One line of a flavor or image that does not do what it looks like; *text* says why, and what to write instead."""

    where: str
    consequence: Consequence
    text: str


@dataclass(frozen=True, slots=True)
class Known:
    """What exists in the cloud. *classes* and *traits* are all of Placement's; None where they were not asked for.

    *usb_classes* and *usb_traits* are those that some USB device has, besides CUSTOM_USB_*. *old_nova*: whether Nova
    ignores hw:usb_model; None where that could not be told. *most_units* is how many units the largest pool of a class
    has; a class that is not in it has no pool.
    """

    classes: frozenset[str] | None = None
    traits: frozenset[str] | None = None
    usb_classes: frozenset[str] = frozenset()
    usb_traits: frozenset[str] = frozenset()
    old_nova: bool | None = None
    most_units: Mapping[str, int] = field(default_factory=dict)


def pitfalls(
    extra_specs: Mapping[str, str], image: Mapping[str, str] | None = None, known: Known | None = None
) -> tuple[Pitfall, ...]:
    """Every line of *extra_specs*, and of *image*'s properties, that does not do what it looks like."""
    known = known or Known()
    found = [pitfall for key, value in sorted(extra_specs.items()) for pitfall in _of_line(key, value, known)]
    request = parse_extra_specs(extra_specs)
    found += _of_groups(request, extra_specs, known)
    if number := wanted(request, known.usb_classes):
        if known.old_nova:
            found += _of_old_nova(number, image or {})
            return tuple(found)
        found += _of_controller(extra_specs, image or {}, known)
        found += _of_ports(number, extra_specs, image or {})
        found += _of_image(image) if image is not None else []
    else:
        found.append(Pitfall("flavor", Consequence.NO_DEVICE, "It asks for no USB device."))
    return tuple(found)


def _of_line(key: str, value: str, known: Known) -> Iterator[Pitfall]:
    match = KEY.match(key)
    if match is None:
        if meant := _MEANT_AS_KEY.match(key):
            yield Pitfall(key, Consequence.NO_DEVICE, f"Nova ignores this line: {_why_no_key(meant)}.")
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


def _of_resource(key: str, name: str, value: str, known: Known) -> Iterator[Pitfall]:
    amount = amount_of(value)
    if not is_class(name):
        right = f"write {CUSTOM}{name}" if known.classes and CUSTOM + name in known.classes else "its name is wrong"
        yield Pitfall(key, Consequence.NO_DEVICE, f"Nova ignores this line: {name} is no resource class; {right}.")
        return
    if known.classes is not None and name not in known.classes:
        yield Pitfall(
            key, Consequence.NO_HOST, f"Placement has no resource class {name}, and refuses the whole request."
        )
    if not is_usb(name, known.usb_classes):
        return
    if amount is None:
        yield Pitfall(key, Consequence.NO_DEVICE, f"Nova ignores this line: {value!r} is no number; write 1.")
    elif amount == 0:
        yield Pitfall(key, Consequence.NO_DEVICE, "Nova ignores an amount of 0, so the server gets no device; write 1.")
    elif amount > known.most_units.get(name, amount) > 1:
        yield Pitfall(
            key,
            Consequence.NO_HOST,
            f"No provider has {amount}: the largest pool of {name} has {known.most_units[name]} units; ask for fewer.",
        )
    elif amount > 1 and name not in known.most_units:
        yield Pitfall(
            key,
            Consequence.NO_HOST,
            f"A provider is one device, so no provider has {amount}; write {amount} groups with 1 each, "
            f"resources_USB1:{name}=1 and so on, and {GROUP_POLICY}=isolate.",
        )


def _of_trait(key: str, name: str, value: str, known: Known, *, suffixed: bool) -> Iterator[Pitfall]:
    if value not in ("required", "forbidden"):
        yield Pitfall(
            key,
            Consequence.NO_DEVICE,
            f"Nova ignores this line: {value!r} is neither required nor forbidden.",
        )
        return
    if known.traits is not None and name not in known.traits:
        yield Pitfall(key, Consequence.NO_HOST, f"Placement has no trait {name}, and refuses the whole request.")
    if not suffixed and value == "required" and (name.startswith(PREFIX) or name in known.usb_traits):
        yield Pitfall(
            key,
            # A host may have an operator's trait that devices have, too; only devices have those of CUSTOM_USB_.
            Consequence.NO_DEVICE if name.startswith(PREFIX) else Consequence.PERHAPS,
            f"Without a suffix, another provider of the host may satisfy it instead of the device; write "
            f"trait_USB1:{name}=required beside resources_USB1:….",
        )


def _of_groups(request: Request, extra_specs: Mapping[str, str], known: Known) -> Iterator[Pitfall]:
    suffixed = [group for group in request.groups if group.suffix != NO_SUFFIX]
    for group in suffixed:
        if len(group.resources) > 1 and any(is_usb(name, known.usb_classes) for name in group.resources):
            yield Pitfall(
                f"resources{group.suffix}",
                Consequence.NO_HOST,
                f"The group {group.suffix} wants {' and '.join(sorted(group.resources))} of one provider, but a device "
                f"has one class; give each class a suffix of its own.",
            )
        if not group.resources:
            yield Pitfall(
                f"trait{group.suffix}",
                Consequence.NO_HOST,
                f"The group {group.suffix} has traits but no resources, and Placement refuses such a request; write "
                f"resources{group.suffix}:CLASS=1, or correct the suffix.",
            )
    policy = extra_specs.get(GROUP_POLICY)
    if len(suffixed) > 1 and policy not in POLICIES:
        wrong = "is missing" if policy is None else f"is {policy!r}, which Nova ignores"
        yield Pitfall(
            GROUP_POLICY,
            Consequence.NO_HOST,
            f"It {wrong}, and Placement refuses {len(suffixed)} groups without it; write {GROUP_POLICY}=isolate.",
        )
    asking = Counter(name for group in suffixed for name in group.resources)
    for name in sorted(each for each in known.most_units if policy == "isolate" and asking[each] > 1):
        yield Pitfall(
            GROUP_POLICY,
            Consequence.PERHAPS,
            f"With isolate, each of the {asking[name]} groups needs another provider, and some {name} are units of one "
            f"pool. For two units of one pool, write resources:{name}=2; for hosts with and without a pool, write "
            f"{GROUP_POLICY}=none.",
        )


def _of_old_nova(number: int, image: Mapping[str, str]) -> Iterator[Pitfall]:
    """What a Nova that ignores hw:usb_model gives the guest, for *number* devices."""
    platform = Platform(USB_MODEL_SINCE - 1, image.get("hw_architecture") or image.get("architecture"))
    nova = f"Nova before {USB_MODEL_SINCE}"
    can = best(platform)
    bus = image.get("hw_input_bus")
    if bus == "virtio" and platform.is_aarch64:
        text = f"With it, {nova} gives the guest no USB controller; remove it from the image."
        yield Pitfall("hw_input_bus", Consequence.NO_DEVICE, text)
    elif bus == "virtio" and image.get("hw_cdrom_bus") != "usb":
        text = (
            f"With it, {nova} gives the guest a USB controller only for a config drive on USB; set hw_cdrom_bus=usb on "
            f"the image too."
        )
        yield Pitfall("hw_input_bus", Consequence.NO_DEVICE, text)
    elif bus == "usb" and not platform.is_aarch64:
        text = (
            f"With it, tablet and keyboard take both USB ports that {nova} gives the guest; set hw_input_bus=virtio "
            f"and hw_cdrom_bus=usb on the image."
        )
        yield Pitfall("hw_input_bus", Consequence.NO_DEVICE, text)
    if number > can.free:
        text = f"A server can have {can.free} device{'' if can.free == 1 else 's'} with {nova}; ask for no more."
        yield Pitfall("resources", Consequence.NO_DEVICE, text)
    elif not platform.is_aarch64:
        yield Pitfall(
            USB_MODEL,
            Consequence.PERHAPS,
            f"{nova} ignores it. Where the server has a config drive, and the image hw_input_bus=virtio and "
            f"hw_cdrom_bus=usb, the guest has a port for one device, at full speed. With a VNC console alone it has "
            f"one only until its first hard reboot.",
        )


def _of_controller(extra_specs: Mapping[str, str], image: Mapping[str, str], known: Known) -> Iterator[Pitfall]:
    flavors, images = extra_specs.get(USB_MODEL), image.get("hw_usb_model")
    model = flavors or images
    if flavors and images and flavors != images:
        yield Pitfall(
            "hw_usb_model",
            Consequence.NO_HOST,
            f"The image says {images} and the flavor {flavors}, and Nova refuses to boot such a server; remove it from "
            f"the image.",
        )
    elif model is None:
        yield Pitfall(
            USB_MODEL,
            Consequence.NO_DEVICE,
            f"It is missing, so the guest has no USB controller, or a USB 1.1 controller with two ports; write "
            f"{USB_MODEL}={GOOD_MODEL}{'' if known.old_nova is False else f' (Nova {USB_MODEL_SINCE} or newer)'}.",
        )
    elif model not in _GOOD_MODELS:
        says = "gives the guest no USB controller" if model == "none" else "is a model that Nova does not know"
        yield Pitfall(USB_MODEL, Consequence.NO_DEVICE, f"{model} {says}; write {USB_MODEL}={GOOD_MODEL}.")


def _of_ports(number: int, extra_specs: Mapping[str, str], image: Mapping[str, str]) -> Iterator[Pitfall]:
    """What a Nova that reads hw:usb_model leaves for *number* devices."""
    redirected = redirected_ports(extra_specs.get(REDIRECTED_PORTS) or image.get("hw_redirected_usb_ports"))
    most = most_devices(is_old=False, redirected=redirected)
    if number > most and redirected:
        yield Pitfall(
            REDIRECTED_PORTS,
            Consequence.NO_DEVICE,
            f"It takes {redirected} of the {most_devices(is_old=False)} ports of the guest's controller, so a server "
            f"can have {most} device{'' if most == 1 else 's'}; lower it, or ask for no more.",
        )
    elif number > most:
        yield Pitfall(
            "resources",
            Consequence.NO_DEVICE,
            f"A guest's controller has {most} ports, and Nova gives a guest no more; ask for no more devices.",
        )


def _of_image(image: Mapping[str, str]) -> Iterator[Pitfall]:
    ignores = f"so Nova ignores {USB_MODEL} and gives the guest a USB 1.1 controller with two ports"
    for name in ("hw_input_bus", "hw_disk_bus", "hw_cdrom_bus", "hw_rescue_bus"):
        if image.get(name) == "usb":
            yield Pitfall(name, Consequence.NO_DEVICE, f"It is usb, {ignores}; set {name}=virtio on the image.")
    if "hw_input_bus" in image:
        return
    if "hw_pointer_model" in image:
        yield Pitfall(
            "hw_pointer_model",
            Consequence.NO_DEVICE,
            f"It gives the guest a USB tablet, {ignores}; set hw_input_bus=virtio on the image.",
        )
    else:
        yield Pitfall(
            "hw_input_bus",
            Consequence.PERHAPS,
            f"It is missing. Where guests have a VNC console, Nova adds a USB tablet, {ignores}; set "
            f"hw_input_bus=virtio on the image.",
        )
