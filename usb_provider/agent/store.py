"""The files in [agent]state_dir: which traits rules have given, which device was last seen where, what guests wrote,
and which consumer has which member of a pool.

The agent also works without the files: when it cannot read or write one, it notes that and the pass goes on. Another
process ("usb-provider sync") may write them as well. It knows less than a running agent, which sees what guests have
attached: so the agent does not read them again, but for the traits, and its next pass writes what it knows itself. What
each is for: docs/adr/0005-rule-traits.md, docs/identity.md. The model decides what follows from them.
"""

import json
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

from usb_provider.host.files import make_directory, read_whole, write_whole
from usb_provider.model.devices.lent import OFFERED_DISKS, LentDisks
from usb_provider.model.devices.sightings import Sightings, texts
from usb_provider.model.reporting.plan import Note
from usb_provider.model.units.sharing import PoolMemory

RULE_TRAITS = "rule-traits.json"
SIGHTINGS = "sightings.json"
LENT_DISKS = "lent-disks.json"
POOLS = "pools.json"

_READING, _WRITING = "state_dir:read", "state_dir:write"

_LIMIT_BYTES = 4 * 1024 * 1024
_NOT_THERE = (FileNotFoundError, NotADirectoryError)

_Stored = TypeVar("_Stored")
_Signature = tuple[int, int, int]


class StateStore:
    """The files in *state_dir*. One thread may use it at a time; nothing here raises because of a file."""

    def __init__(self, state_dir: Path) -> None:
        self._directory = state_dir
        self._traits_path = state_dir / RULE_TRAITS
        self._sightings_path = state_dir / SIGHTINGS
        self._lent_path = state_dir / LENT_DISKS
        self._pools_path = state_dir / POOLS
        self._lent: LentDisks | None = None
        self._pools: PoolMemory | None = None
        self._given: frozenset[str] = frozenset()
        self._sightings: Sightings | None = None
        self._stored = Sightings()
        self._left: dict[Path, _Signature | None] = {}
        self._wrong: dict[tuple[Path, str], Note] = {}
        self._lost: list[Note] = []

    def take_notes(self) -> tuple[Note, ...]:
        """What is wrong with the files now, and what was lost since the last call."""
        lost, self._lost = self._lost, []
        # One for all files that cannot be written: it is the directory, or the disk, that an operator has to see to.
        standing = {note.topic: note for note in reversed(self._wrong.values())}
        return (*standing.values(), *lost)

    def rule_traits(self) -> frozenset[str]:
        """Traits that rules of this host give or once gave, as far as that is known. The file is read again."""
        self._given |= self._read_traits() or frozenset()
        return self._given

    def remember_rule_traits(self, names: Collection[str]) -> None:
        """Remember that rules give *names*. Call it before any provider gets them."""
        stored = self._read_traits()
        self._given |= frozenset(names)
        if stored is not None and not self._given <= stored:
            self._write_traits(self._given | stored)

    def forget_rule_traits(self, *, but: Collection[str]) -> None:
        """Forget the traits that rules once gave, except those in *but*. While the file cannot be read, forget none."""
        stored = self._read_traits()
        if stored is None:
            return
        self._given &= frozenset(but)
        if not stored <= frozenset(but):
            self._write_traits(stored & frozenset(but))

    def sightings(self) -> Sightings:
        """The sightings that this process, or an earlier one, kept last; none when they are lost."""
        if self._sightings is None:
            loss = "Where two devices have the same serial number, it may not know which of them an instance holds."
            found = self._read(self._sightings_path, Sightings.from_json, "sightings", loss)
            self._sightings = self._stored = found or Sightings()
        return self._sightings

    def remember_sightings(self, sightings: Sightings) -> None:
        """Keep *sightings* for the next process. The file is written unless it has them already."""
        self._sightings = sightings
        if sightings == self._stored and self._is_as_left(self._sightings_path):
            return
        if self._write(self._sightings_path, sightings.to_json()):
            self._stored = sightings

    def lent(self) -> LentDisks:
        """The disks that guests have or had, as an agent kept them last; none when they are lost."""
        if self._lent is None:
            loss = (
                "It takes signatures that guests wrote on disks for the host's, and does not offer these disks until "
                "they are wiped."
            )
            self._lent = self._read(self._lent_path, LentDisks.from_json, "lent", loss) or LentDisks()
        return self._lent

    def remember_lent(self, lent: LentDisks) -> None:
        """Keep *lent* for the next process. The file is written unless it has that already."""
        if lent == self.lent() and self._is_as_left(self._lent_path):
            return
        if self._write(self._lent_path, lent.to_json()):
            self._lent = lent

    def pools(self) -> PoolMemory:
        """Which consumer has which member of a pool, as an agent kept it last; none when that is lost."""
        if self._pools is None:
            loss = (
                "A server that is shut off may get another member of its pool than it had; one that runs keeps what it "
                "has."
            )
            self._pools = self._read(self._pools_path, PoolMemory.from_json, "pools", loss) or PoolMemory()
        return self._pools

    def remember_pools(self, pools: PoolMemory) -> None:
        """Keep *pools* for the next process. The file is written unless it has them already."""
        if pools == self.pools() and self._is_as_left(self._pools_path):
            return
        if self._write(self._pools_path, pools.to_json()):
            self._pools = pools

    def mark_disks(self, offered: Collection[str], others: Collection[str]) -> None:
        """Have a file of each name in *offered* for conf/udev/61-usb-provider.rules, and none of those in *others*.

        What is in neither stays as it is: a disk that is unplugged may come back.
        """
        directory = self._directory / OFFERED_DISKS
        try:
            there = frozenset(os.listdir(directory))
        except OSError:
            there = frozenset()
        if there >= frozenset(offered) and there.isdisjoint(others):
            return
        note = None
        try:
            make_directory(self._directory, mode=0o750)
            directory.mkdir(exist_ok=True)
            for name in frozenset(offered) - there:
                (directory / name).touch()
            for name in there & frozenset(others):
                (directory / name).unlink(missing_ok=True)
        except OSError as error:
            note = Note(
                _WRITING,
                f"{directory} cannot be written ({error.strerror}), so the host may activate what guests write on "
                f"disks; make room there, or let the agent's user write it.",
            )
        self._is_fine(directory, _WRITING, note)

    def _read(self, path: Path, parse: Callable[[object], _Stored], topic: str, loss: str) -> _Stored | None:
        """What *parse* makes of the JSON in *path*; None, with a note on the *loss* where there is a file."""
        self._left[path] = _signature(path)
        try:
            return parse(_parsed(path))
        except _NOT_THERE:
            return None
        except OSError as error:
            why = f"cannot be read ({error.strerror})"
        except (ValueError, RecursionError, KeyError):
            why = "is not what an agent of this version writes"
        self._lost.append(Note(topic, f"{path} {why}, so the agent begins a new one. {loss}"))
        return None

    def _read_traits(self) -> frozenset[str] | None:
        """The names in the file; None, with a note, when it cannot be read. Then it is not written either."""
        path, note = self._traits_path, None
        names: frozenset[str] = frozenset()
        try:
            names = frozenset(texts(_parsed(path)))
        except _NOT_THERE:
            pass
        except OSError as error:
            note = Note(
                _READING,
                f"{path} cannot be read ({error.strerror}); let the agent's user read it. Until then, the agent does "
                f"not remove traits that left the rules before it started.",
            )
        except (ValueError, RecursionError):
            note = Note(
                _READING,
                f"{path} is not a list of trait names; repair it, or delete it and remove by hand the traits that "
                f"rules no longer give. Until then, the agent does not write it.",
            )
        return names if self._is_fine(path, _READING, note) else None

    def _write_traits(self, names: Collection[str]) -> None:
        self._write(self._traits_path, sorted(names))

    def _write(self, path: Path, content: object) -> bool:
        """Whether *content* could be written to *path*; a failure is noted."""
        note = None
        try:
            make_directory(self._directory, mode=0o750)
            # The agent's user must be able to read and replace what root wrote with "usb-provider sync".
            write_whole(path, _encoded(content), mode=0o640, as_directory=True)
            self._left[path] = _signature(path)
        except OSError as error:
            note = Note(
                _WRITING,
                f"[agent]state_dir {self._directory} cannot be written ({error.strerror}); make room there, or let the "
                f"agent's user write it. Until then, the agent forgets at a restart which devices it saw where, and "
                f"which traits the rules gave.",
            )
        return self._is_fine(path, _WRITING, note)

    def _is_fine(self, path: Path, doing: str, note: Note | None) -> bool:
        """Replace the note on *doing* something with *path* by *note*; give whether there is none now."""
        self._wrong.pop((path, doing), None)
        if note is not None:
            self._wrong[path, doing] = note
        return note is None

    def _is_as_left(self, path: Path) -> bool:
        """Whether no other process has written or removed the file since this one read or wrote it."""
        return self._left.get(path) == _signature(path)


def _signature(path: Path) -> _Signature | None:
    """A value that changes when another process writes or removes the file."""
    try:
        there = os.lstat(path)
    except OSError:
        return None
    return there.st_ino, there.st_mtime_ns, there.st_size


def _parsed(path: Path) -> object:
    """What the JSON in *path* says.

    :raises OSError: when it cannot be read. :raises ValueError, RecursionError: when it is no JSON.
    """
    found: object = json.loads(read_whole(path, limit=_LIMIT_BYTES).decode("utf-8", "surrogatepass"))
    return found


def _encoded(content: object) -> bytes:
    # Not in JSON's escapes: two of them, for surrogates that a device has sent one by one, would be read as one
    # character.
    return json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass")
