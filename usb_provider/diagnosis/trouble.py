"""A failed request to a neighbouring service, as a fact that checks judge."""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from usb_provider.exception import AccessRefused, ConfigError, Incompatible, RootMissing, UsbProviderError

_T = TypeVar("_T")


class TroubleKind(enum.Enum):
    """Why a request failed."""

    CREDENTIALS = "credentials"
    ROLE = "role"
    AWAY = "away"
    NO_ROOT = "no root"
    INCOMPATIBLE = "incompatible"
    CONFIGURATION = "configuration"


@dataclass(frozen=True, slots=True)
class Trouble:
    """A request that failed: why, and the sentence that the agent would log."""

    kind: TroubleKind
    text: str


_KINDS: tuple[tuple[type[UsbProviderError], TroubleKind], ...] = (
    (AccessRefused, TroubleKind.CREDENTIALS),
    (RootMissing, TroubleKind.NO_ROOT),
    (Incompatible, TroubleKind.INCOMPATIBLE),
    (ConfigError, TroubleKind.CONFIGURATION),
)


def asked(ask: Callable[[], _T]) -> _T | Trouble:
    """What *ask* gives, or why it fails."""
    try:
        return ask()
    except UsbProviderError as error:
        kind = next((kind for raised, kind in _KINDS if isinstance(error, raised)), TroubleKind.AWAY)
        if isinstance(error, AccessRefused) and error.lacks_role:
            kind = TroubleKind.ROLE
        return Trouble(kind, str(error))
