"""An operator's rules: ``[usb]device_spec`` text parsed to frozen rules, and whether a rule matches a device.

All mistakes in the rules are reported together, each in a sentence. offer.py decides which of several rules wins.
The form follows nova's ``[pci]device_spec``, which operators know.
"""

import enum
import fnmatch
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import os_traits

import placement_traits
from usb_provider.exception import ConfigError
from usb_provider.model.devices.device import GUESSES, Speed, UsbDevice, UseKind
from usb_provider.model.text import printable
from usb_provider.model.units.names import bundle_key, pool_key
from usb_provider.model.units.rules import at_least, group_conflicts, group_problems

FORBIDDEN_TRAITS = frozenset({"OWNER_NOVA", "OWNER_CYBORG", "COMPUTE_MANAGED_PCI_DEVICE", "MISC_SHARES_VIA_AGGREGATE"})
"""Marks by which nova and cyborg know their own providers (nova deletes foreign ones that carry
COMPUTE_MANAGED_PCI_DEVICE), and the one that would share a device with other hosts."""

MATCHERS = ("vendor_id", "product_id", "serial", "port", "class", "product", "manufacturer", "speed", "controller")
GROUPS = ("pool", "drain", "bundle", "at_least")
OPTIONS = (
    "resource_class",
    "traits",
    *GROUPS,
    "identity",
    "also",
    "live_migratable",
    "guest_reset",
    "override",
    "exclude",
)

_GLOBS = frozenset({"port", "product", "manufacturer"})
_ID = re.compile(r"[0-9a-fA-F]{4}\Z")
_USB_ID = re.compile(r"[0-9a-fA-F]{4}:[0-9a-fA-F]{4}\Z")
_WILD = re.compile(r"[*?\[]")


class IdentityMode(enum.StrEnum):
    """How a rule wants its devices identified; see identity.py."""

    AUTO = "auto"
    SERIAL = "serial"
    PORT = "port"


class GuestReset(enum.StrEnum):
    """What happens when a guest resets a device, in libvirt's words (``guestReset`` of a hostdev, since 8.6)."""

    OFF = "off"
    UNINITIALIZED = "uninitialized"
    ON = "on"


_Kind = TypeVar("_Kind", Speed, IdentityMode, GuestReset)


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """One rule: matchers (None matches anything) and what a matching device becomes.

    *number* is the rule's place in the configuration, from 1, for sentences. ``also`` are the ids, ``vid:pid``, that
    the device has in other modes; the rule has a vendor and a product id then. ``resource_class`` None means the class
    that placement_traits suggests for the kind of device. ``pool`` names the pool of which a matching device is a
    member (``drain``: one that no further consumer gets), ``bundle`` the bundle, of which ``at_least`` so many devices
    of the rule are parts; without either, the device has a provider of its own. ``live_migratable`` False: no other
    device can replace this one, so a guest that has it must not be migrated live. ``guest_reset`` is what happens
    when the guest resets it; None leaves that to libvirt. ``override`` are the guards that are
    wrong for this model.
    """

    number: int
    vendor_id: str | None = None
    product_id: str | None = None
    serial: str | None = None
    port: str | None = None
    usb_class: str | None = None
    product: str | None = None
    manufacturer: str | None = None
    speed: Speed | None = None
    controller: str | None = None
    resource_class: str | None = None
    traits: frozenset[str] = frozenset()
    pool: str | None = None
    bundle: str | None = None
    at_least: int = 1
    drain: bool = False
    identity: IdentityMode = IdentityMode.AUTO
    also: tuple[str, ...] = ()
    live_migratable: bool = True
    guest_reset: GuestReset | None = None
    override: frozenset[UseKind] = frozenset()
    exclude: bool = False

    @property
    def group(self) -> str | None:
        """The key of the pool or bundle of which a matching device is a member."""
        return pool_key(self.pool) if self.pool else bundle_key(self.bundle) if self.bundle else None

    @property
    def usb_ids(self) -> tuple[str, ...]:
        """The ids of the device in all its modes, its own first; empty where the rule names no product."""
        return (f"{self.vendor_id}:{self.product_id}", *self.also) if self.vendor_id and self.product_id else ()

    def matches(self, device: UsbDevice) -> bool:
        """Whether every matcher that the rule has fits *device*; a fact that the device lacks fits none."""
        return (
            (
                (_same(self.vendor_id, device.vendor_id) and _same(self.product_id, device.product_id))
                or device.usb_id in self.also
            )
            and _same(self.serial, device.serial)
            and (self.controller is None or self.controller in (device.controller, device.controller_address))
            and _same(self.speed, device.speed)
            and (self.usb_class is None or self.usb_class in device.classes)
            and _glob(self.port, device.port_path)
            and _glob(self.product, device.product)
            and _glob(self.manufacturer, device.manufacturer)
        )

    def leaves_nothing_for(self, later: "DeviceSpec") -> bool:
        """Whether *later* can never apply, since this rule comes first and matches every device that *later* matches.

        True only when that is certain: two globs that may overlap give False.
        """
        return self._has_ids_of(later) and all(
            mine is None or (theirs is not None and (mine == theirs or (name in _GLOBS and _covers(mine, theirs))))
            for name, mine, theirs in ((field, getattr(self, field), getattr(later, field)) for field in _FIELDS)
        )

    def _has_ids_of(self, later: "DeviceSpec") -> bool:
        if later.usb_ids:
            return all(
                each in self.also or all(map(_same, (self.vendor_id, self.product_id), each.split(":")))
                for each in later.usb_ids
            )
        return _same(self.vendor_id, later.vendor_id) and _same(self.product_id, later.product_id)


_FIELDS = ("serial", "port", "usb_class", "product", "manufacturer", "speed", "controller")


def _same(wanted: str | None, actual: str | None) -> bool:
    return wanted is None or wanted == actual


def _glob(pattern: str | None, actual: str | None) -> bool:
    return pattern is None or (actual is not None and fnmatch.fnmatchcase(actual, pattern))


def _covers(wide: str, narrow: str) -> bool:
    return wide == "*" or (_WILD.search(narrow) is None and fnmatch.fnmatchcase(narrow, wide))


def parse_specs(texts: Sequence[str]) -> tuple[DeviceSpec, ...]:
    """The rules of ``[usb]device_spec``, one JSON object a text, in order.

    Input ``['{"vendor_id": "1050", "resource_class": "CUSTOM_USB_KEY"}']``, output
    ``(DeviceSpec(number=1, vendor_id="1050", resource_class="CUSTOM_USB_KEY"),)``.

    :raises ConfigError: with every mistake in every rule; nothing is offered on half a configuration.
    """
    specs: list[DeviceSpec] = []
    problems: list[str] = []
    for number, text in enumerate(texts, start=1):
        reader = _Reader(number, text)
        spec = reader.read()
        problems += reader.problems
        if spec is None:
            continue
        for earlier in specs:
            if earlier.leaves_nothing_for(spec):
                problems.append(
                    f"[usb]device_spec rule {number} can never match: rule {earlier.number} comes first and matches "
                    f"every device that it could; put the narrower rule first, or delete one of the two."
                )
                break
        specs.append(spec)
    problems += group_conflicts(specs)
    if problems:
        raise ConfigError(problems)
    return tuple(specs)


class _Reader:
    """Reads one rule and keeps every mistake in it."""

    def __init__(self, number: int, text: str) -> None:
        self.number = number
        self.text = text
        self.problems: list[str] = []

    def wrong(self, what: str) -> None:
        self.problems.append(f"[usb]device_spec rule {self.number} ({printable(self.text, 60)}): {what}")

    def read(self) -> DeviceSpec | None:
        entries = self._entries()
        if entries is None:
            return None
        known = frozenset(MATCHERS + OPTIONS)
        for key in entries:
            if key not in known:
                self.wrong(
                    f"unknown key {_quoted(key)}; the keys are {', '.join(MATCHERS)} to match, and "
                    f"{', '.join(OPTIONS)}."
                )
        spec = DeviceSpec(
            number=self.number,
            vendor_id=self._usb_id(entries, "vendor_id"),
            product_id=self._usb_id(entries, "product_id"),
            serial=self._text(entries, "serial"),
            port=self._text(entries, "port"),
            usb_class=self._usb_class(entries),
            product=self._text(entries, "product"),
            manufacturer=self._text(entries, "manufacturer"),
            speed=self._choice(entries, "speed", Speed),
            controller=self._text(entries, "controller"),
            resource_class=self._resource_class(entries),
            traits=self._traits(entries),
            pool=self._text(entries, "pool"),
            bundle=self._text(entries, "bundle"),
            at_least=at_least(entries),
            drain=self._flag(entries, "drain", default=False),
            identity=self._choice(entries, "identity", IdentityMode) or IdentityMode.AUTO,
            also=self._also(entries),
            live_migratable=self._flag(entries, "live_migratable", default=True),
            guest_reset=self._choice(entries, "guest_reset", GuestReset),
            override=self._override(entries),
            exclude=self._flag(entries, "exclude", default=False),
        )
        for problem in group_problems(entries):
            self.wrong(problem)
        if not any(key in entries for key in MATCHERS):
            self.wrong(f"it has no matcher, so it would match every device; add at least one of {', '.join(MATCHERS)}.")
        if spec.exclude and (extra := [key for key in OPTIONS if key != "exclude" and key in entries]):
            useless = " and ".join(extra)
            self.wrong(
                f"with exclude the device is never offered, so there is no use for {useless}; remove one or the other."
            )
        return None if self.problems else spec

    def _entries(self) -> dict[str, object] | None:
        repeated: list[str] = []

        def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
            entries = dict(pairs)
            if len(entries) != len(pairs):
                names = [key for key, _ in pairs]
                repeated.extend(sorted({key for key in names if names.count(key) > 1}))
            return entries

        try:
            value = json.loads(self.text, object_pairs_hook=unique)
        except (ValueError, RecursionError) as error:
            where = f" at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else ""
            why = error.msg if isinstance(error, json.JSONDecodeError) else "it cannot be read"
            self.wrong(f'not valid JSON{where} ({why}); write one object, such as {{"vendor_id": "1050"}}.')
            return None
        if not isinstance(value, dict):
            self.wrong("not a JSON object; write one object a line and repeat device_spec for further rules.")
            return None
        for key in repeated:
            self.wrong(f"the key {_quoted(key)} is there twice; keep one.")
        return value

    def _text(self, entries: dict[str, object], key: str) -> str | None:
        value = entries.get(key)
        if key not in entries:
            return None
        if not isinstance(value, str) or not value:
            self.wrong(f"{key} must be a non-empty string in double quotes, not {_quoted(value)}.")
            return None
        return value

    def _usb_id(self, entries: dict[str, object], key: str) -> str | None:
        if key not in entries:
            return None
        value = entries[key]
        if not isinstance(value, str) or not _ID.match(value):
            self.wrong(
                f"{key} must be a string of four hex digits as lsusb prints them, such as "
                f'"{"1050" if key == "vendor_id" else "0407"}", not {_quoted(value)}.'
            )
            return None
        return value.lower()

    def _also(self, entries: dict[str, object]) -> tuple[str, ...]:
        if "also" not in entries:
            return ()
        if "vendor_id" not in entries or "product_id" not in entries:
            self.wrong("also needs vendor_id and product_id: those of the mode that gives the device its key.")
        value = entries["also"]
        if not isinstance(value, list) or not all(isinstance(each, str) and _USB_ID.match(each) for each in value):
            self.wrong(f'also must be a list of ids as lsusb prints them, such as ["18d1:9302"], not {_quoted(value)}.')
            return ()
        return tuple(each.lower() for each in value)

    def _usb_class(self, entries: dict[str, object]) -> str | None:
        value = self._text(entries, "class")
        if value is None:
            return None
        try:
            return placement_traits.class_code(value)
        except placement_traits.InvalidName as error:
            self.wrong(f"class: {error}")
            return None

    def _choice(self, entries: dict[str, object], key: str, kind: type[_Kind]) -> _Kind | None:
        if key not in entries:
            return None
        value = entries[key]
        # A rule cannot match devices by a speed that is not known.
        choices = [choice for choice in kind if choice is not Speed.UNKNOWN]
        chosen = next((choice for choice in choices if choice == value), None)
        if chosen is not None:
            return chosen
        self.wrong(f"{key} must be one of {', '.join(choices)}, not {_quoted(value)}.")
        return None

    def _resource_class(self, entries: dict[str, object]) -> str | None:
        value = self._text(entries, "resource_class")
        if value is None:
            return None
        try:
            return placement_traits.check_custom(value)
        except placement_traits.InvalidName as error:
            self.wrong(f"resource_class: {error}")
            return None

    def _traits(self, entries: dict[str, object]) -> frozenset[str]:
        value = entries.get("traits", [])
        if not isinstance(value, list):
            self.wrong(f'traits must be a list of strings, such as ["CUSTOM_SITE_A"], not {_quoted(value)}.')
            return frozenset()
        return frozenset(name for name in (self._trait(entry) for entry in value) if name is not None)

    def _trait(self, value: object) -> str | None:
        if not isinstance(value, str):
            self.wrong(f"traits must be a list of strings, but one is {_quoted(value)}.")
            return None
        if value in FORBIDDEN_TRAITS:
            self.wrong(f"the trait {value} means something else to OpenStack; it may not be set on a USB device.")
            return None
        if value in _standard_traits():
            return value
        try:
            name = placement_traits.normalise(value)
        except placement_traits.InvalidName as error:
            self.wrong(f"traits: {error}")
            return None
        if placement_traits.is_owned(name):
            self.wrong(f"the trait {name} is one that usb-provider writes by itself; choose another name.")
            return None
        return name

    def _override(self, entries: dict[str, object]) -> frozenset[UseKind]:
        if "override" not in entries:
            return frozenset()
        value = entries["override"]
        words = {word: kind for kind, word in GUESSES.items()}
        if (
            not isinstance(value, list)
            or not value
            or not all(isinstance(each, str) and each in words for each in value)
        ):
            self.wrong(f"override must be a list of {' and '.join(sorted(words))}, not {_quoted(value)}.")
            return frozenset()
        if "vendor_id" not in entries or "product_id" not in entries:
            self.wrong("override needs vendor_id and product_id in the same rule, since it is about one model.")
        return frozenset(words[word] for word in value)

    def _flag(self, entries: dict[str, object], key: str, *, default: bool) -> bool:
        value = entries.get(key, default)
        if not isinstance(value, bool):
            self.wrong(f"{key} must be true or false, not {_quoted(value)}.")
            return default
        return value


def _standard_traits() -> frozenset[str]:
    return frozenset(os_traits.get_traits())


def _quoted(value: object) -> str:
    try:
        return printable(json.dumps(value), 40)
    except RecursionError:
        return "something nested deeply"
