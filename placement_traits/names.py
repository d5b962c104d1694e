"""Spell and check the names that Placement accepts.

This module's one job is the *form* of a custom name: the ``CUSTOM_`` prefix, the characters and the
length.  What a name means is said in :mod:`placement_traits.usb`.  It must not know any particular
name, and it must not do I/O.

Rules that are not ours:

* Placement takes a custom trait or resource class that matches ``^CUSTOM_[A-Z0-9_]+$`` and has at
  most 255 characters (placement, ``schemas/trait.py`` and ``schemas/resource_class.py``).
* A run of characters other than ASCII letters and digits becomes one ``_``, and only then is the
  text put in upper case (os-resource-classes, ``normalize_name``).
"""

import re
from typing import Final

MAX_LENGTH: Final = 255
CUSTOM_PREFIX: Final = "CUSTOM_"

_VALID = re.compile(r"CUSTOM_[A-Z0-9_]+")
_NOT_ALPHANUMERIC = re.compile(r"[^0-9A-Za-z]+")
_SHOWN_LENGTH = 60


class InvalidName(ValueError):
    """A name that Placement would refuse, or an id, code or word that no name can be made of.

    Its message is one sentence that an operator can read.  The caller should show it beside the
    option or argument that the text came from.
    """


def normalise(text: str) -> str:
    """The custom name that *text* stands for.

    ``"Site A"`` gives ``CUSTOM_SITE_A``; ``"custom_site_a"`` and ``"CUSTOM_SITE_A"`` give the same.

    A text that is valid once put in upper case is only put in upper case, so a name which already
    exists in Placement is never turned into another one: ``CUSTOM_A__B`` keeps both underscores
    (nova treats ``[pci]device_spec`` the same way).  In any other text each run of characters that
    are not ASCII letters or digits becomes one underscore, and none is left at either end.  Letters
    outside ASCII are not letters here: their upper case can be another length or another letter.

    Every result is returned unchanged when it is given again.

    :raises InvalidName: when no ASCII letter or digit is left, or the name would be longer than 255
        characters; the caller should show the message beside the option that held *text*.
    """
    name = text.upper()
    if not (text.isascii() and _VALID.fullmatch(name)):
        body = _collapse(text).lstrip("_").removeprefix(CUSTOM_PREFIX)
        name = CUSTOM_PREFIX + body.strip("_")
    if not name.removeprefix(CUSTOM_PREFIX).strip("_"):
        raise InvalidName(f"No name can be made of {quote(text)}: no letter A-Z or digit is left.")
    if len(name) > MAX_LENGTH:
        raise InvalidName(_too_long(name))
    return name


def check_custom(name: str) -> str:
    """*name* itself, when Placement accepts it as a custom trait or resource class.

    :raises InvalidName: when the prefix, a character or the length is wrong, and it says which.
    """
    if not name.startswith(CUSTOM_PREFIX):
        raise InvalidName(f"The name {quote(name)} must start with {CUSTOM_PREFIX}.")
    if name == CUSTOM_PREFIX:
        raise InvalidName(f"The name {quote(name)} has nothing after its prefix.")
    if not _VALID.fullmatch(name):
        raise InvalidName(f"The name {quote(name)} has characters other than A-Z, 0-9 and the underscore.")
    if len(name) > MAX_LENGTH:
        raise InvalidName(_too_long(name))
    return name


def clean(text: str) -> str:
    """The part of a name that *text* can be: ``"ab/ c-"`` gives ``AB_C``; maybe nothing is left.

    No prefix is added or taken away.
    """
    return _collapse(text).strip("_")


def quote(text: str) -> str:
    """*text* in quotes, short and in plain ASCII.

    Descriptor strings come from the device, so a message must not carry their control characters.
    """
    if len(text) > _SHOWN_LENGTH:
        text = text[: _SHOWN_LENGTH - 3] + "..."
    return ascii(text)


def _collapse(text: str) -> str:
    # .upper() comes last: the upper case of some non-ASCII letters is ASCII (os-resource-classes,
    # bug 1762789).
    return _NOT_ALPHANUMERIC.sub("_", text).upper()


def _too_long(name: str) -> str:
    return f"The name {quote(name)} has {len(name)} characters, and Placement accepts at most {MAX_LENGTH}."
