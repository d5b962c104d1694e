"""Logs a problem once when it appears, when its cause changes and when it is over. Decides nothing."""

import logging
from collections.abc import Collection

from usb_provider.model.reporting.plan import Note

LOG = logging.getLogger(__name__)


class LastSaid:
    """The last text that was logged on each topic. One thread may use it at a time."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def is_news(self, topic: str, text: str) -> bool:
        """Whether to log *text* now: the last text on its topic was another one, or there was none."""
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
    """The problems that there are now, by the notes' topics. One thread may use it at a time."""

    def __init__(self) -> None:
        self._said = LastSaid()

    def add(self, note: Note, level: int = logging.WARNING, exc_info: BaseException | None = None) -> None:
        """Add *note* to the problems. It is logged unless its text is already among them."""
        if self._said.is_news(note.topic, note.text):
            LOG.log(level, "%s", note.text, exc_info=exc_info)

    def replace(self, notes: Collection[Note]) -> None:
        """Make *notes* the only problems."""
        for note in notes:
            self.add(note)
        for text in self._said.keep({note.topic for note in notes}).values():
            LOG.info("Resolved: %s", text)


def bug(what: str, error: Exception) -> Note:
    """The note on *error*, which *what* should not raise; errors of the same place in the source have one topic."""
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    place = f"{where.tb_frame.f_code.co_filename}:{where.tb_lineno}" if where is not None else ""
    return Note(
        f"bug:{type(error).__name__}:{place}",
        f"{what} failed because of a bug in usb-provider ({type(error).__name__}); the agent tries it again.",
    )
