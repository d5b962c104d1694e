"""What the rules may say about pools and bundles: the form of a name, and which rules contradict each other. Pure.

devices/spec.py reads the rules. This module knows nothing of a rule but what it says about pools and bundles.
"""

import re
from collections.abc import Sequence
from typing import Protocol

from usb_provider.model.units.names import group_words

# Lower case only: for MariaDB, two names that differ in case are one.
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


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


def is_group_name(text: str) -> bool:
    """Whether a pool or bundle may have the name *text*, which becomes a part of the name of its provider."""
    return _NAME.fullmatch(text) is not None


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
