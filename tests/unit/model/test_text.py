"""Descriptor text: nothing that a device says of itself may act on a terminal, a log or a key."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fixtures.hostile import HOSTILE, any_text
from usb_provider.exception import (
    AccessRefused,
    AttachRefused,
    ConfigError,
    Conflict,
    Incompatible,
    Unavailable,
    UsbProviderError,
    masked,
)
from usb_provider.model.text import decode, printable


@given(any_text, st.integers(2, 300))
@example("\x1b[2J\x1b]0;owned\x07", 80)
@example("a\nb\r\u2028c\u2029\x85", 80)
@example("\u202egnp.exe", 80)
@example("\ud800", 80)
def test_what_is_shown_is_one_printable_line_of_limited_length(text: str, limit: int) -> None:
    shown = printable(text, limit)
    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1
    assert len(shown) <= limit
    shown.encode("utf-8")


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=80))
def test_ordinary_text_is_shown_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_what_is_cut_says_so() -> None:
    assert printable("x" * 81) == "x" * 79 + "…"


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_without_its_teeth(text: str) -> None:
    assert printable(text).isprintable()


@given(st.one_of(st.none(), st.binary(), any_text))
def test_text_that_says_nothing_is_none(raw: bytes | str | None) -> None:
    text = decode(raw)
    assert text is None or text == text.strip(" \t\r\n\0") != ""


@pytest.mark.parametrize("raw", [None, "", b"", b"\n", b"\0\0", b"  \t\r\n", " "])
def test_blanks_and_nuls_are_nothing(raw: bytes | str | None) -> None:
    assert decode(raw) is None


def test_text_that_is_not_utf8_is_kept_in_escapes() -> None:
    assert decode(b"A\xffB\n") == "A\\xffB"
    assert decode("Käse\n".encode()) == "Käse"


# Text that holds a backslash of its own may look like an escaped byte: such devices pass for twins, no worse.
no_backslash = st.binary().filter(lambda raw: b"\\" not in raw)


@given(no_backslash, no_backslash)
@example(b"\xff", b"\xfe")
def test_two_strings_that_differ_in_more_than_their_ends_do_not_become_equal(one: bytes, other: bytes) -> None:
    ends = b" \t\r\n\0"
    if one.strip(ends) != other.strip(ends):
        assert decode(one) != decode(other)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://bob:secret@host:8778/v3 fails.", "http://***@host:8778/v3 fails."),
        ("qemu+ssh://root:a@b@host/system", "qemu+ssh://***@host/system"),
        ("http://host/a@b and mail@example.org", "http://host/a@b and mail@example.org"),
        ("at https://:x@h, http://y@h", "at https://***@h, http://***@h"),
        ("http://bob:a/b#c?d@host:8778/v3 fails.", "http://***@host:8778/v3 fails."),
        ("http://bob:a@/b@host", "http://***@host"),
        ("http://host:8774/v2.1/users/a@b", "http://host:8774/v2.1/users/a@b"),
    ],
)
def test_no_address_shows_its_password(text: str, shown: str) -> None:
    assert masked(text) == shown


@pytest.mark.parametrize("error", [Unavailable, AccessRefused, Incompatible, Conflict, AttachRefused])
def test_no_error_shows_the_password_of_an_address(error: type[UsbProviderError]) -> None:
    assert str(error("http://a:b@c does not answer.")) == "http://***@c does not answer."


def test_no_mistake_in_the_configuration_shows_the_password_of_an_address() -> None:
    error = ConfigError(["http://a:b@c is wrong."])
    assert (error.problems, str(error)) == (("http://***@c is wrong.",), "http://***@c is wrong.")
