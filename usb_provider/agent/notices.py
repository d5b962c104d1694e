"""What is said once: a problem when it comes up, when its cause changes and when it is over. Decides nothing."""

import logging
from collections.abc import Collection

from usb_provider.model.reporting.plan import Note

LOG = logging.getLogger(__name__)


class LastSaid:
    """The last text that was said on each topic. One thread may use it at a time."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def is_news(self, topic: str, text: str) -> bool:
        """Whether *text* is to be said now: another one, or none, was the last on its topic."""
        if self._texts.get(topic) == text:
            return False
        self._texts[topic] = text
        return True

    def keep(self, topics: Collection[str]) -> dict[str, str]:
        """Forget all topics but these; gives those that were forgotten, with their last texts."""
        over = {topic: text for topic, text in self._texts.items() if topic not in topics}
        for topic in over:
            del self._texts[topic]
        return over


class Notices:
    """What is the matter now, by the notes' topics. One thread may use it at a time."""

    def __init__(self) -> None:
        self._said = LastSaid()

    def add(self, note: Note, level: int = logging.WARNING, exc_info: BaseException | None = None) -> None:
        """*note* is the matter, beside whatever else is. It is logged unless the same text stands already."""
        if self._said.is_news(note.topic, note.text):
            LOG.log(level, "%s", note.text, exc_info=exc_info)

    def replace(self, notes: Collection[Note]) -> None:
        """*notes* are everything that is the matter now."""
        for note in notes:
            self.add(note)
        for text in self._said.keep({note.topic for note in notes}).values():
            LOG.info("Resolved: %s", text)


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
