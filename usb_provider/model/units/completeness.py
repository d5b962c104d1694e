"""Whether a bundle is complete, and the end of a sentence that names what it lacks. Pure.

A bundle is offered only as a whole: each of its rules has as many devices as it says. While a consumer holds the
bundle, the whole is what the consumer had, whatever the rules say now; they say what may replace a missing device.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from usb_provider.model.units.names import bundle_name, group_words
from usb_provider.model.units.rules import UnitRule
from usb_provider.model.units.sharing import Shares


@dataclass(frozen=True, slots=True)
class Part:
    """A plugged device of a bundle: its key, the number of its rule, and why it cannot be attached, if it cannot."""

    key: str
    rule: int | None
    why_not: str | None = None


def lacks(bundle: str, parts: Sequence[Part], rules: Sequence[UnitRule], shares: Shares) -> str | None:
    """What the bundle with the key *bundle* lacks, after which "Not offered: " may stand before; None when complete.

    :param parts: its devices that are plugged in.
    :param shares: which consumer has which device; those of the bundle that are not plugged in are missing, unless
        as many others are there in their place.
    """
    words = f"its {group_words(bundle)}"
    bad = [each for each in parts if each.why_not is not None]
    if bad:
        return f"{words} cannot have {bad[0].key} ({(bad[0].why_not or '').rstrip('.')})"
    had = [key for key, share in shares.items() if share.group == bundle]
    missing = sorted(set(had) - {each.key for each in parts})
    if missing and len(parts) < len(had):
        return f"{words} lacks {' and '.join(missing)}, which the server had"
    if had and not missing:
        return None
    for rule in rules:
        if rule.group != bundle:
            continue
        there = sum(each.rule == rule.number for each in parts)
        if there < rule.at_least:
            few = "a device" if rule.at_least == 1 else f"{rule.at_least - there} of {rule.at_least} devices"
            return f"{words} lacks {few} of device_spec rule {rule.number}"
    return None


def is_bundle(group: str | None) -> bool:
    """Whether *group* is the key of a bundle."""
    return bundle_name(group) is not None
