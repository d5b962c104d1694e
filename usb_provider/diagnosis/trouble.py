"""A request to a neighbour that failed, as a fact that checks judge."""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from usb_provider.exception import AccessRefused, ConfigError, Incompatible, RootMissing, UsbProviderError

_T = TypeVar("_T")


class TroubleKind(enum.Enum):
    """What sort of trouble a request ended in."""

    CREDENTIALS = "credentials"
    ROLE = "role"
    AWAY = "away"
    NO_ROOT = "no root"
    INCOMPATIBLE = "incompatible"
    CONFIGURATION = "configuration"


@dataclass(frozen=True, slots=True)
class Trouble:
    """A request that failed: the sort of trouble, and the sentence that the agent would log."""

    kind: TroubleKind
    text: str


_KINDS: tuple[tuple[type[UsbProviderError], TroubleKind], ...] = (
    (AccessRefused, TroubleKind.CREDENTIALS),
    (RootMissing, TroubleKind.NO_ROOT),
    (Incompatible, TroubleKind.INCOMPATIBLE),
    (ConfigError, TroubleKind.CONFIGURATION),
)


def asked(ask: Callable[[], _T]) -> _T | Trouble:
    """What *ask* gives, or in which trouble it ends."""
    try:
        return ask()
    except UsbProviderError as error:
        kind = next((kind for raised, kind in _KINDS if isinstance(error, raised)), TroubleKind.AWAY)
        if isinstance(error, AccessRefused) and error.lacks_role:
            kind = TroubleKind.ROLE
        return Trouble(kind, str(error))
