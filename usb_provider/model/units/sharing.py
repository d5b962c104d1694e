"""Which consumer has which member of a pool: a pure and sticky assignment.

Placement knows how many units of a pool each consumer holds, and not which. This module decides that: what a consumer
has it keeps, and a free member takes over for one that cannot be had. units/pools.py says which members there are.
"""

from collections import Counter
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

    @property
    def groups(self) -> frozenset[str]:
        """The keys of the groups that it tells of."""
        return frozenset({*self.members.values(), *(each.group for each in self.shares.values())})

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
    leaving: Collection[str] = (),
    before: Mapping[str, str] = MappingProxyType({}),
    attached: Mapping[str, str] = MappingProxyType({}),
    known: Collection[str] | None = None,
    asked: Collection[str] = (),
) -> dict[str, str]:
    """The consumer of each member that one has, by the member's key; no consumer has more than it claims.

    A key that is not among *members* is in the result as well, where its consumer has no other member instead: that
    member is gone, and its consumer gets it back when it returns.

    :param claims: how many units each consumer holds.
    :param members: the keys of the members that can be attached now, in the order in which they are given away.
    :param closed: those of *members* that no further consumer gets, since an operator drained them.
    :param leaving: those that no further consumer gets, since the rules have another place for them.
    :param before: this function's last result.
    :param attached: the guest that each member is attached to now; TAKEN where this pool does not entitle the guest.
    :param known: all guests of this host; None where that is not known. Any other consumer may be a migration, which
        holds the units of a guest that still runs here.
    :param asked: consumers that hold units which a user wants back; *claims* is without these units. No migration has
        them.
    """
    made = _Sharing(claims, members)
    there = {key: consumer for key, consumer in attached.items() if key in made.left}
    # What a guest has is the truth, whatever was decided before; of too many, it keeps those that were its own.
    for key in sorted(there, key=lambda key: before.get(key) != there[key]):
        made.give(key, there[key])
    named = {TAKEN, *claims, *asked}
    made.follow_guests({key: guest for key, guest in there.items() if guest not in named}, before, known)
    for key in members:
        if key not in there:
            made.give(key, before.get(key))
    # Nova renames a claim when it moves a server: the units of the name that is gone are those of one that is new, most
    # likely of one with as many.
    new = [each for each in sorted(claims) if each not in before.values()]
    had = Counter(before.values())
    gone = [each for each in had if each not in named]
    alike = {each: [other for other in new if claims[other] == had[each]] for each in gone}
    orphans = {key: before[key] for key in members if key not in there and before.get(key) in gone}
    for key, former in orphans.items():
        if key not in closed:
            made.give(key, *alike[former], *new)
    for key in members:
        if key not in there and key not in closed and key not in leaving:
            made.give(key, *sorted(claims))
    # It may also be another server, so it gets a drained member only if nothing else is left.
    for key, former in orphans.items():
        made.give(key, *alike[former])
    for key, consumer in before.items():
        if key not in made.left:
            made.give(key, consumer, *alike.get(consumer, ()))
    return made.given


class _Sharing:
    """An assignment while it is made. ``left`` are the members; ``given`` is the result so far."""

    def __init__(self, claims: Mapping[str, int], members: Sequence[str]) -> None:
        self.left = frozenset(members)
        self.given: dict[str, str] = {}
        self._lacks = dict(claims)

    def give(self, key: str, *consumers: str | None) -> None:
        """Give the member *key*, if it is free, to the first of *consumers* that claims more than it has so far."""
        lacking = (each for each in consumers if each is not None and self._lacks.get(each, 0) > 0)
        if key not in self.given and (consumer := next(lacking, None)) is not None:
            self._lacks[consumer] -= 1
            self.given[key] = consumer

    def follow_guests(
        self, running: Mapping[str, str], before: Mapping[str, str], known: Collection[str] | None
    ) -> None:
        """Give each member in *running*, by key with the guest that has it, to the migration that holds its units now.

        The guest still runs here, and its own name holds nothing. A migration that has the member of another such
        guest is that one's.
        """
        if known is None:
            return
        migrations = [each for each in sorted(self._lacks) if each not in known]
        for key, guest in running.items():
            of_others = {before.get(other) for other, having in running.items() if having != guest}
            followed = [each for each in migrations if each == before.get(key)]
            self.give(key, *followed, *(each for each in migrations if each not in of_others))


def _share(record: object) -> Share:
    found = record if isinstance(record, dict) else {}
    group, consumer = found.get("group"), found.get("consumer")
    if not isinstance(group, str) or not isinstance(consumer, str):
        raise ValueError("it has something else where a share should be")
    return Share(group, consumer)
