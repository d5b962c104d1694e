"""Which consumer has which member of a pool: a pure and sticky assignment.

Placement knows how many units of a pool each consumer holds, and not which. This module decides that: what a consumer
has it keeps, and a free member takes over for one that cannot be had. units/pools.py says which members there are.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Self

_VERSION = 1


@dataclass(frozen=True, slots=True, order=True)
class Share:
    """A unit, or a part of one, of *group* that *consumer* has. *group* is the key of the group's provider."""

    group: str
    consumer: str


Shares = Mapping[str, Share]
"""Which consumer has which device of a pool or bundle, by the device's key. It may be unplugged now."""

NO_SHARES: Shares = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class PoolMemory:
    """What is remembered of pools and bundles: the shares, and of which group a device is a member, by its key.

    A device that the rules give another place is in ``members`` as before, until that place is open: a claim on the
    group that comes in between is about one of its members.
    """

    shares: Shares = field(default_factory=dict)
    members: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """As it is stored; :meth:`from_json` reads it."""
        shares = {key: {"group": each.group, "consumer": each.consumer} for key, each in sorted(self.shares.items())}
        return {"version": _VERSION, "shares": shares, "members": dict(sorted(self.members.items()))}

    @classmethod
    def from_json(cls, stored: object) -> Self:
        """From what :meth:`to_json` gave. :raises ValueError: when it is of another form or version."""
        if not isinstance(stored, dict) or stored.get("version") != _VERSION:
            raise ValueError(f"it is not of version {_VERSION}")
        shares, members = stored.get("shares"), stored.get("members")
        if not isinstance(shares, dict) or not isinstance(members, dict):
            raise ValueError("it has something else where a JSON object should be")
        if not all(isinstance(each, str) for each in members.values()):
            raise ValueError("it has something else where the key of a group should be")
        return cls({key: _share(record) for key, record in shares.items()}, members)


TAKEN = ""
"""In place of a guest's UUID: a guest has the member without being entitled to it by this pool."""


def shared(
    claims: Mapping[str, int],
    members: Sequence[str],
    *,
    closed: Collection[str] = (),
    before: Mapping[str, str] = MappingProxyType({}),
    attached: Mapping[str, str] = MappingProxyType({}),
    known: Collection[str] | None = None,
) -> dict[str, str]:
    """The consumer of each member that one has, by the member's key; no consumer has more than it claims.

    A key that is not among *members* is in the result as well, where its consumer has no other member instead: that
    member is gone, and its consumer gets it back when it returns.

    :param claims: how many units each consumer holds.
    :param members: the keys of the members that can be attached now, in the order in which they are given away.
    :param closed: those of *members* that no further consumer gets, since an operator drained them.
    :param before: this function's last result.
    :param attached: the guest that each member is attached to now; TAKEN where this pool does not entitle the guest.
    :param known: all guests of this host; None where that is not known. Any other consumer may be a migration, which
        holds the units of a guest that still runs here.
    """
    made = _Sharing(claims, members)
    there = {key: consumer for key, consumer in attached.items() if key in made.left}
    # What a guest has is the truth, whatever was decided before; of too many, it keeps those that were its own.
    for key in sorted(there, key=lambda key: before.get(key) != there[key]):
        made.give(key, there[key])
    for key in members:
        if key not in there:
            made.give(key, before.get(key))
    # Nova renames a claim when it moves a server: the units of the name that is gone are those of one that is new.
    for key in members:
        owner = there.get(key) or before.get(key)
        if owner and owner not in claims and there.get(key) != TAKEN and (key in there or key not in closed):
            news = (each for each in sorted(claims) if before.get(key) == each or each not in before.values())
            made.give(key, next((each for each in news if _may_follow(each, key in there, known, made)), None))
    for key in members:
        if key not in there and key not in closed:
            made.give(key, next((each for each in sorted(claims) if made.lacks(each)), None))
    for key, consumer in before.items():
        if key not in made.left and key not in made.given:
            made.give(key, consumer)
    return made.given


def _may_follow(consumer: str, is_attached: bool, known: Collection[str] | None, made: "_Sharing") -> bool:
    """Whether *consumer* may have the member of one that is gone; where a guest has it, only a migration may."""
    return made.lacks(consumer) and not (is_attached and (known is None or consumer in known))


class _Sharing:
    """An assignment while it is made. ``left`` are the members; ``given`` is the result so far."""

    def __init__(self, claims: Mapping[str, int], members: Sequence[str]) -> None:
        self.left = frozenset(members)
        self.given: dict[str, str] = {}
        self._lacks = dict(claims)

    def lacks(self, consumer: str) -> bool:
        """Whether *consumer* claims more than it has so far."""
        return self._lacks.get(consumer, 0) > 0

    def give(self, key: str, consumer: str | None) -> None:
        """Give the member *key* to *consumer*, if it lacks one and the member is free."""
        if consumer is not None and key not in self.given and self.lacks(consumer):
            self._lacks[consumer] -= 1
            self.given[key] = consumer


def _share(record: object) -> Share:
    found = record if isinstance(record, dict) else {}
    group, consumer = found.get("group"), found.get("consumer")
    if not isinstance(group, str) or not isinstance(consumer, str):
        raise ValueError("it has something else where a share should be")
    return Share(group, consumer)
