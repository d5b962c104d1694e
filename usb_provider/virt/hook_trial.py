"""Calls a hook as libvirt would, on a sample domain: whether it runs here, and what it says of the agent.

"usb-provider install-hook" tries a new hook before it replaces the old one, and "usb-provider doctor" the one that is
installed. The operation "check" concerns no guest: the hook changes nothing, and an older hook ends at once.
"""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from usb_provider.model.text import printable

SECONDS = 15.0
"""How long one trial may take. A hook asks the agent for six seconds at most where no guest depends on it."""

_SAMPLE = (
    "<domain><name>usb-provider-check</name><metadata/><devices><hostdev mode='subsystem' type='usb'>"
    "<source><address bus='1' device='2'/></source><alias name='ua-usb-00000000-0000-0000-0000-000000000000'/>"
    "</hostdev></devices></domain>"
)


class BrokenHook(Exception):
    """The hook does not run here; the message is the reason as a part of a sentence."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a hook said: the version of its Python, and why it took no answer from the agent; None if it took one.

    *python* is None for a hook of an older release, which does not know the operation.
    """

    python: str | None
    problem: str | None


def try_hook(path: Path) -> Trial:
    """Call the hook at *path*.

    :raises BrokenHook: when it cannot be run, its Python does not run, or it takes too long.
    """
    # As libvirt calls it (virCommandAddEnvPassCommon in its src/util/vircommand.c).
    environment = {"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)}
    try:
        done = subprocess.run(
            [path, "usb-provider-check", "check", "begin", "-"],
            input=_SAMPLE.encode(),
            capture_output=True,
            timeout=SECONDS,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired as error:
        raise BrokenHook(f"it took more than {SECONDS:.0f} s") from error
    except OSError as error:
        raise BrokenHook(f"it cannot be started ({error.strerror})") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise BrokenHook(printable(said, 300) or f"it ended with {done.returncode}")
    try:
        answer = json.loads(done.stdout or b"{}")
        return Trial(answer.get("python"), answer.get("problem"))
    except (ValueError, AttributeError) as error:
        raise BrokenHook(f"it printed {printable(done.stdout.decode(errors='replace'), 60)}") from error
