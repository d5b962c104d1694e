"""Keeps the hook's socket open: makes it, and makes it again where it is gone. virt/listener.py listens on it."""

import logging
from collections.abc import Callable
from typing import Protocol

from usb_provider.exception import ConfigError
from usb_provider.model.reporting.plan import Note

LOG = logging.getLogger(__name__)


class Listening(Protocol):
    """An open socket."""

    def is_there(self) -> bool:
        """Whether it is still where the hook asks."""

    def stop(self) -> None:
        """Close it."""


class HookSocket:
    """The socket on which the hook is answered. One thread may use it.

    :param listen: opens it, or raises ConfigError.
    """

    def __init__(self, listen: Callable[[], Listening]) -> None:
        self._listen = listen
        self._open: Listening | None = None

    @property
    def is_open(self) -> bool:
        """Whether :meth:`ensure` has opened it."""
        return self._open is not None

    def ensure(self) -> list[Note]:
        """Open it where it is not open, or not where the hook asks; give what is wrong with it."""
        if self._open is not None and not self._open.is_there():
            LOG.warning("Another process has removed the hook's socket; the agent makes it again.")
            self.stop()
        if self._open is None:
            try:
                self._open = self._listen()
            except (ConfigError, OSError, RuntimeError) as error:  # the latter: no thread can be started
                return [Note("hook", f"The agent does not check the starts of guests: {error}")]
        return []

    def stop(self) -> None:
        """Close it."""
        opened, self._open = self._open, None
        if opened is not None:
            opened.stop()
