"""What the rules may say about pools: the form of a pool's name, and which rules contradict each other. Pure.

devices/spec.py reads the rules. This module knows nothing of a rule but what it says about pools.
"""

import re
from collections.abc import Sequence
from typing import Protocol

# Lower case only: for MariaDB, two names that differ in case are one.
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


class PoolRule(Protocol):
    """What a rule says about pools."""

    @property
    def number(self) -> int:
        """The rule's place in the configuration, from 1."""

    @property
    def pool(self) -> str | None:
        """The pool that it makes a device a member of."""

    @property
    def resource_class(self) -> str | None:
        """The class that it gives."""


def is_pool_name(text: str) -> bool:
    """Whether a pool may have the name *text*, which becomes a part of the name of its provider."""
    return _NAME.fullmatch(text) is not None


def pool_conflicts(rules: Sequence[PoolRule]) -> list[str]:
    """Why *rules* cannot hold together, a sentence for each rule: all members of a pool have one resource class."""
    first: dict[str, PoolRule] = {}
    problems = []
    for rule in rules:
        if rule.pool is None or rule.resource_class is None:
            continue
        other = first.setdefault(rule.pool, rule)
        if other.resource_class != rule.resource_class:
            problems.append(
                f"[usb]device_spec rule {rule.number} gives the pool {rule.pool} the resource class "
                f"{rule.resource_class}, and rule {other.number} gives it {other.resource_class}; all members of a "
                f"pool have one class, so give both rules the same, or another pool."
            )
    return problems
