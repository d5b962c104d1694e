"""What the checks of one run may use: configuration, doors to the neighbours, and facts that several checks need.

Such facts are read once, when the first check asks for them, each in a thread of its own with a time limit.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar, cast

from usb_provider.conf.load import Options
from usb_provider.diagnosis.threads import Threads
from usb_provider.exception import UsbProviderError
from usb_provider.model.binding.attachments import Attachments
from usb_provider.model.reporting.host_state import HostView
from usb_provider.model.reporting.plan import Note
from usb_provider.placement.client import PlacementClient
from usb_provider.placement.root import RootFinder
from usb_provider.virt.protocol import StatusAnswer

SECONDS = 20.0
"""How long one run waits for what it reads."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Facts that could not be read, and *why*, a sentence."""

    why: str


_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)
Maybe: TypeAlias = _T | Unknown


@dataclass(frozen=True, slots=True)
class Places:
    """Where to look; a test has its own."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    run: Path = Path("/run")


@dataclass(frozen=True, slots=True)
class Reported:
    """What a pass of the reporter would see now, and what it would say that no write repairs."""

    view: HostView
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class Neighbours:
    """How to ask the neighbouring services; cmd/ puts that together.

    *placement* raises ConfigError when [placement] is incomplete; *look* gives what a pass of the reporter would see
    now, by Placement and udev; *agent* is what the running agent says of its guests and of the hook, and raises
    Unavailable when no agent answers; *attachments* is what the agent keeps of the hostdevs that it attached.
    """

    placement: Callable[[], tuple[PlacementClient, RootFinder]]
    look: Callable[[], Reported]
    agent: Callable[[], StatusAnswer]
    attachments: Callable[[], Attachments] = Attachments


@dataclass(frozen=True, slots=True, eq=False)
class Reading(Generic[_T_co]):
    """Facts that several checks need: how to *read* them, and, where that takes too long, what *late* gives instead.

    What *read* raises makes the facts Unknown, and so does a reading that takes too long and has no *late*.
    """

    name: str
    read: "Callable[[Context], Maybe[_T_co]]"
    late: "Callable[[Context], Maybe[_T_co]] | None" = None


@dataclass(frozen=True, slots=True)
class Context:
    """One run on one compute node.

    *options* have defaults in the place of values that are wrong; *problems* are all mistakes in *files*, and
    *without_effect* has a sentence on each entry there that changes nothing. The file at
    *hook_path*, in libvirt's directory qemu.d, should hold *hook_text*.
    """

    options: Options
    files: tuple[str, ...]
    problems: tuple[str, ...]
    hook_path: Path
    hook_text: str
    neighbours: Neighbours
    places: Places
    threads: Threads
    without_effect: tuple[str, ...] = ()
    _begun: dict[Reading[object], Future[object]] = field(default_factory=dict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def begin(self, *readings: Reading[object]) -> None:
        """Begin to read all of *readings* that nothing has begun yet, so that one does not wait for the other."""
        with self._lock:
            for each in readings:
                if each not in self._begun:
                    self._begun[each] = self.threads.start(each.name, partial(attempt, each.name, each.read, self))

    def get(self, reading: Reading[_T]) -> Maybe[_T]:
        """The facts of *reading*, read once in this run."""
        self.begin(reading)
        late = partial(reading.late, self) if reading.late else self.too_late
        return self.threads.result(cast(Future[Maybe[_T]], self._begun[reading]), late)

    def too_late(self) -> Unknown:
        """The value for facts that were not read in time."""
        return Unknown(f"This took more than {self.threads.seconds:.0f} s.")


def attempt(name: str, read: Callable[[Context], Maybe[_T]], context: Context) -> Maybe[_T]:
    """What *read* gives, or why it gives nothing. *name* stands for a file whose name the error does not say."""
    try:
        return read(context)
    except PermissionError as error:
        return Unknown(f"This user may not read {error.filename or name}: run this as root.")
    except UsbProviderError as error:
        return Unknown(str(error))
    except Exception as error:
        return Unknown(f"This could not be checked ({type(error).__name__}: {error}).")
