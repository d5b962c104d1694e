"""Descriptor text made safe to show: the maker of a device, or an attacker, chooses its strings, so none is trusted.

Nothing here shortens or changes what identifies a device; that is identity.py's job.
"""


def decode(raw: bytes | str | None) -> str | None:
    """Text of a sysfs string attribute or udev property, or None when it is empty.

    The kernel converts descriptor strings to UTF-8 (Documentation/ABI/stable/sysfs-bus-usb); a device can still make
    that fail. Bytes that are not UTF-8 are kept as escapes, since two devices that differ must not become equal.
    """
    if raw is None:
        return None
    text = raw.decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else raw
    text = text.strip(" \t\r\n\0")
    return text or None


def decode_exactly(raw: bytes | None) -> str | None:
    """As :func:`decode`, but bytes that are not UTF-8 become lone surrogates, so that the text shows that it has some.

    Such a text is not printable, so a serial number that has some is not used to tell devices apart.
    """
    if raw is None:
        return None
    return raw.decode("utf-8", "surrogateescape").strip(" \t\r\n\0") or None


def printable(text: str, limit: int = 80) -> str:
    """*text* on one line without anything that a terminal or a log reader would act on.

    Control characters, escapes, line separators and direction overrides come out as backslash escapes; more than
    *limit* characters are cut and end in an ellipsis.
    """
    if len(text) <= limit and text.isprintable():
        return text  # a listing of a whole cloud has many such texts
    shown = "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode("ascii") for char in text
    )
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
