"""What the rules may say about pools and bundles: the form of a name, and which rules contradict each other. Pure.

devices/spec.py reads the rules. This module knows nothing of a rule but what it says about pools and bundles.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from usb_provider.model.text import printable
from usb_provider.model.units.names import group_words

# Lower case only: for MariaDB, two names that differ in case are one.
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")

_MOST_OF_A_RULE = 127
"""A USB bus has no more addresses."""


class UnitRule(Protocol):
    """What a rule says about pools and bundles."""

    @property
    def number(self) -> int:
        """The rule's place in the configuration, from 1."""

    @property
    def group(self) -> str | None:
        """The key of the pool or bundle that it makes a device a member of."""

    @property
    def resource_class(self) -> str | None:
        """The class that it gives."""

    @property
    def at_least(self) -> int:
        """How many devices of the rule a bundle needs to be complete."""


def group_problems(entries: Mapping[str, object]) -> list[str]:
    """What is wrong with what one rule says about pools and bundles, a sentence each; *entries* are its keys."""
    problems = []
    for what in ("pool", "bundle"):
        name = entries.get(what)
        if not isinstance(name, str) or not name:
            continue
        if _NAME.fullmatch(name) is None:
            problems.append(
                f'{what} must be a name of 1 to 40 lower-case letters, digits, "-" and "_", such as "hasp", that '
                f"begins with a letter or a digit, not {printable(json.dumps(name), 60)}."
            )
        elif "resource_class" not in entries:
            problems.append(f"{what} needs resource_class, which all members of the {what} have.")
    if "pool" in entries and "bundle" in entries:
        problems.append("a device is a member of a pool or of a bundle; remove pool or bundle.")
    if "drain" in entries and "pool" not in entries:
        problems.append('drain needs pool; a device by itself is drained with "openstack usb device set --drain".')
    if "at_least" in entries and "bundle" not in entries:
        problems.append("at_least needs bundle: it says how many devices of the rule make the bundle complete.")
    if "at_least" in entries and not _is_amount(entries["at_least"]):
        problems.append(f"at_least must be a number from 1 to {_MOST_OF_A_RULE}.")
    return problems


def at_least(entries: Mapping[str, object]) -> int:
    """How many devices of the rule make a bundle complete: 1, unless the rule says otherwise."""
    value = entries.get("at_least", 1)
    return value if isinstance(value, int) and _is_amount(value) else 1


def _is_amount(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST_OF_A_RULE


def group_conflicts(rules: Sequence[UnitRule]) -> list[str]:
    """Why *rules* cannot hold together, a sentence for each rule: all members of a group have one resource class."""
    first: dict[str, UnitRule] = {}
    problems = []
    for rule in rules:
        if rule.group is None or rule.resource_class is None:
            continue
        other = first.setdefault(rule.group, rule)
        if other.resource_class != rule.resource_class:
            words = group_words(rule.group)
            problems.append(
                f"[usb]device_spec rule {rule.number} gives the {words} the resource class {rule.resource_class}, and "
                f"rule {other.number} gives it {other.resource_class}; all members of a {words.split()[0]} have one "
                f"class, so give both rules the same, or another {words.split()[0]}."
            )
    return problems
