"""The file attachments.json in [agent]state_dir: to which plug of its device the agent attached each hostdev,
and the port of the guest at which each device is.

The agent also works without the file: when it cannot read or write it, it notes that and the pass goes on. Why it is
there: model/binding/attachments.py. The reporter has files of its own (store.py), so that neither loop waits for the
other.
"""

import contextlib
import json
from pathlib import Path

from usb_provider.host.files import make_directory, read_whole, write_whole
from usb_provider.model.binding.attachments import Attachments
from usb_provider.model.reporting.plan import Note

ATTACHMENTS = "attachments.json"

_LIMIT_BYTES = 4 * 1024 * 1024


class AttachmentStore:
    """The file in *state_dir*. One thread may use it at a time; nothing here raises because of a file."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / ATTACHMENTS
        self._stored: Attachments | None = None
        self._note: Note | None = None

    def load(self) -> Attachments:
        """The attachments that this process, or an earlier one, kept last; none when they are lost."""
        if self._stored is None:
            self._stored, self._note = _read(self._path)
        return self._stored

    def save(self, attachments: Attachments) -> None:
        """Keep *attachments* for the next process. The file is written unless it has them already."""
        if attachments == self._stored:
            return
        try:
            make_directory(self._path.parent, mode=0o750)
            write_whole(self._path, json.dumps(attachments.to_json()).encode(), mode=0o640, as_directory=True)
        except OSError as error:
            # An old file could make the next process take a hostdev for dead that is not.
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
            self._stored = None
            self._note = Note(
                "attachments",
                f"{self._path} cannot be written ({error.strerror}); make room there, or let the agent's user write "
                f"it. Until then, an agent that is restarted does not notice that a device came back at the same "
                f"address meanwhile.",
            )
        else:
            self._stored, self._note = attachments, None

    def notes(self) -> tuple[Note, ...]:
        """What is wrong with the file now."""
        return () if self._note is None else (self._note,)


def _read(path: Path) -> tuple[Attachments, Note | None]:
    """What is in the file *path*, and a note where it is not readable."""
    try:
        return Attachments.from_json(json.loads(read_whole(path, limit=_LIMIT_BYTES))), None
    except (FileNotFoundError, NotADirectoryError):
        return Attachments(), None
    except OSError as error:
        why = f"cannot be read ({error.strerror})"
    except (ValueError, RecursionError):
        why = "is not what an agent of this version writes"
    return Attachments(), Note(
        "attachments",
        f"{path} {why}, so the agent begins a new one. It takes what guests have for attached; a device that came back "
        f"at the same address while the agent was down needs to be plugged in again.",
    )
