"""What a command says while it waits."""

import io
import time

from usb_provider.osc.progress import Progress


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def said_by(stream: io.StringIO, seconds: float, patience: float) -> str:
    """What is written to *stream* about something that takes *seconds*."""
    with Progress(stream, patience).of("Reading the holders", 3) as step:
        step()
        time.sleep(seconds)
    return stream.getvalue()


def test_what_takes_long_is_named_on_a_terminal_with_how_far_it_is() -> None:
    said = said_by(Terminal(), 0.3, 0.01)
    assert "Reading the holders" in said
    assert "1 of 3" in said


def test_what_is_done_soon_is_not_mentioned() -> None:
    assert said_by(Terminal(), 0, 60) == ""


def test_a_file_gets_nothing() -> None:
    assert said_by(io.StringIO(), 0.1, 0.01) == ""
