"""Standing problems in the log: each is said once when it comes up, and once when it is over. Decides nothing."""

import logging
from collections.abc import Collection

from usb_provider.model.reporting.plan import Note

LOG = logging.getLogger(__name__)


class Notices:
    """What is the matter now, by the notes' topics."""

    def __init__(self) -> None:
        self._standing: dict[str, Note] = {}

    def add(self, note: Note, level: int = logging.WARNING, exc_info: BaseException | None = None) -> None:
        """*note* is the matter, beside whatever else is."""
        if note.topic not in self._standing:
            LOG.log(level, "%s", note.text, exc_info=exc_info)
        self._standing[note.topic] = note

    def replace(self, notes: Collection[Note]) -> None:
        """*notes* are everything that is the matter now."""
        for note in notes:
            self.add(note)
        now = {note.topic for note in notes}
        for topic in [topic for topic in self._standing if topic not in now]:
            LOG.info("Resolved: %s", self._standing.pop(topic).text)


def bug(what: str, error: Exception) -> Note:
    """The note on *error*, which should not have come out of *what*; the same place in the source is the same topic."""
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    place = f"{where.tb_frame.f_code.co_filename}:{where.tb_lineno}" if where is not None else ""
    return Note(
        f"bug:{type(error).__name__}:{place}",
        f"{what} failed in a way that is a bug of usb-provider ({type(error).__name__}); it is tried again.",
    )
