"""``python -m placement_traits``: print the vocabulary, or describe the names given.

This module's one job is to print what the package already knows.  It must not define a name.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence

from placement_traits.names import quote
from placement_traits.usb import (
    CLASSES,
    MANAGED,
    NOT_LIVE_MIGRATABLE,
    RESOURCE_CLASSES,
    SPEEDS,
    STATES,
    class_trait,
    describe,
    is_owned,
    speed_trait,
)

_PATTERNS = (
    ("CUSTOM_USB_VENDOR_<idVendor>", "vendor, for example CUSTOM_USB_VENDOR_1050"),
    (
        "CUSTOM_USB_PRODUCT_<idVendor>_<idProduct>",
        "product, for example CUSTOM_USB_PRODUCT_1050_0407",
    ),
    ("CUSTOM_USB_SERIAL_<serial>", "serial number, in A-Z, 0-9 and _; only when switched on"),
    ("CUSTOM_USB_CLASS_<code>", "class that the USB-IF does not define, for example ..._CLASS_58"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 1 when one of the names is not in the vocabulary."""
    parser = argparse.ArgumentParser(
        prog="python -m placement_traits",
        description="Print the CUSTOM_USB_* names of USB devices in Placement, or describe some.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="a trait or a resource class")
    names: list[str] = parser.parse_args(argv).names
    if names:
        return _describe_all(names)
    print("\n\n".join(_vocabulary()))
    return 0


def _describe_all(names: Iterable[str]) -> int:
    code = 0
    for name in names:
        sentence = describe(name)
        if sentence is not None:
            print(f"{name}  {sentence}")
            continue
        code = 1
        why = ", although its prefix is reserved for the agent" if is_owned(name) else ""
        print(f"{quote(name)} is not in the CUSTOM_USB_* vocabulary{why}.", file=sys.stderr)
    return code


def _vocabulary() -> Iterable[str]:
    yield _section("Resource classes (suggested, one per device)", RESOURCE_CLASSES.items())
    yield _section("Marks", _described([MANAGED, NOT_LIVE_MIGRATABLE]))
    yield _section("States", _described(sorted(STATES)))
    yield _section("Speeds", _described(name for s in SPEEDS if (name := speed_trait(s))))
    yield _section(
        "Device and interface classes",
        ((name, f"{c.code}  {c.sentence}") for c in CLASSES.values() if (name := class_trait(c.code)) is not None),
    )
    yield _section("Names with a parameter", _PATTERNS)


def _described(names: Iterable[str]) -> Iterable[tuple[str, str]]:
    return ((name, describe(name) or "") for name in names)


def _section(title: str, rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join([title, *(f"  {name:<43}{text}" for name, text in rows)])


if __name__ == "__main__":
    sys.exit(main())
