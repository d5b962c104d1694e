"""The checks of the hook: whether its file is right, and whether the libvirt that runs knows it (docs/adr/0011)."""

import contextlib
import dataclasses
import re
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from usb_provider.diagnosis.agent_socket import agent_says, hook_called_at
from usb_provider.diagnosis.check import Check, Finding, some
from usb_provider.diagnosis.context import Context, Maybe, Unknown
from usb_provider.diagnosis.libvirt import DAEMONS
from usb_provider.host.daemons import Daemon
from usb_provider.virt.hook import CLASSES as OWN_CLASSES
from usb_provider.virt.hook_trial import BrokenHook, try_hook

_MARGIN = 2.0
"""Seconds by which the kernel's and the file system's clocks may differ."""


@dataclass(frozen=True, slots=True)
class HookFacts:
    """The hook's file. *current*: it is what this version installs; *socket* is the one on which it asks the agent, and
    *agents_socket* the one on which the agent answers.

    *unknown_classes* are those that rules give and that it does not know. *broken* is why it does not run, and
    *problem* why it takes no answer from an agent that answers others; both are None where all is well.
    """

    path: str
    exists: bool
    executable: bool = False
    current: bool = False
    socket: str | None = None
    has_python: bool = True
    agents_socket: str = ""
    unknown_classes: tuple[str, ...] = ()
    broken: str | None = None
    problem: str | None = None


class HookCheck(Check[HookFacts]):
    """Whether the hook is there, can run, and asks where the agent answers."""

    name = "hook"
    of_guests = True

    def read(self, context: Context) -> HookFacts:
        """What is at the hook's path, and what it does when it is called."""
        facts = read_hook(context)
        if not facts.executable or not facts.has_python or facts.broken:
            return facts
        try:
            trial = try_hook(context.hook_path)
        except BrokenHook as error:
            return dataclasses.replace(facts, broken=str(error))
        # Where no agent answers, the check of the socket says so.
        answers = not isinstance(agent_says(context), Unknown)
        return dataclasses.replace(facts, problem=trial.problem if answers else None)

    def judge(self, facts: HookFacts) -> Finding:
        """First what prevents the hook from running, then what it does when it runs."""
        install = 'Run "usb-provider install-hook" as root.'
        if not facts.exists:
            return self.wrong(
                f"{facts.path} is not there, so libvirt starts guests without asking the agent for their devices.",
                'Run "usb-provider install-hook" as root, then restart libvirtd (or virtqemud); guests go on running.',
            )
        if not facts.executable:
            return self.wrong(
                f"{facts.path} is not executable, so libvirt does not run it.",
                f"chmod 0755 {facts.path}, then restart libvirtd (or virtqemud); guests go on running.",
            )
        if not facts.has_python:
            return self.wrong(
                "The hook needs python3, which is not in the path.", "Install python3 where libvirt runs."
            )
        if facts.broken is not None:
            return self.wrong(
                f"{facts.path} does not run ({facts.broken}), so guests that ask for USB, or even all guests, do not "
                f"start.",
                install,
            )
        if facts.socket is not None and facts.agents_socket and facts.socket != facts.agents_socket:
            return self.wrong(
                f"{facts.path} asks the agent at {facts.socket}, but [hook]socket is {facts.agents_socket}.",
                install,
            )
        if facts.problem is not None:
            return self.wrong(
                f"The hook does not take the agent's answer: {facts.problem}.",
                "Let the agent's user own the directory of [hook]socket, and find out which process listens there.",
            )
        if facts.unknown_classes:
            return self.wrong(
                f"{facts.path} does not know {some(facts.unknown_classes)}, which device_spec rules give, so a guest "
                f"that asks for it starts without its device while the agent does not answer.",
                install,
            )
        if not facts.current:
            return self.warning(f"{facts.path} is not the one that this version of usb-provider installs.", install)
        return self.ok(f"{facts.path} is installed, executable and up to date.")


@dataclass(frozen=True, slots=True)
class LoadedFacts:
    """What tells whether libvirt knows the hook. Times are in seconds since 1970.

    *unchanged* is since when an executable hook has been as it is now; *dated* is its date, which "install-hook" keeps
    when it writes a newer one, and which other programs may set; both are None when there is no hook. *called* is when
    a hook last asked the agent, None when never or when no agent answers.
    """

    daemons: tuple[Daemon, ...]
    unchanged: float | None
    dated: float | None
    called: float | None


class HookLoadedCheck(Check[LoadedFacts]):
    """Whether the libvirt that runs knows that there is a hook.

    libvirt looks for hooks when it starts and when it is told to reload, and remembers only whether it found any that
    is executable; if it did, it runs all that are there at each call (virHookInitialize, virHookCall in its
    src/util/virhook.c).
    """

    name = "hook loaded"
    of_guests = True

    def read(self, context: Context) -> Maybe[LoadedFacts]:
        """Processes, files, and what the agent says."""
        daemons = context.get(DAEMONS)
        if isinstance(daemons, Unknown):
            return daemons
        # If another hook exists, libvirt runs all hooks, but ours must be there.
        since = hook_since(context.hook_path.parent) if read_hook(context).executable else None
        unchanged, dated = since or (None, None)
        return LoadedFacts(daemons, unchanged, dated, hook_called_at(context))

    def judge(self, facts: LoadedFacts) -> Finding:
        """The best evidence first."""
        if not facts.daemons:
            return self.not_checked(
                "Neither virtqemud nor libvirtd runs, as far as this process can see; each looks for hooks when it "
                "starts."
            )
        if facts.unchanged is None:
            return self.not_checked("There is no hook that libvirt could have loaded.")
        daemon = max(facts.daemons, key=lambda each: each.started)
        who = f"{daemon.name} (process {daemon.pid})"
        if facts.called is not None and facts.called > daemon.started:
            return self.ok(f"{who} has called the hook since it started.")
        if facts.unchanged <= daemon.started + _MARGIN:
            return self.ok(f"The hook was already there when {who} started.")
        restart = f"systemctl restart {daemon.name}; guests go on running."
        if facts.dated is not None and facts.dated <= daemon.started:
            return self.warning(
                f"The hook was changed after {who} started, but its date says that it was there before. No call of "
                f"the hook is known since.",
                f"Start a guest and run this again, or restart it: {restart}",
            )
        return self.wrong(
            f"{who} started before the hook was last written, and no call of the hook is known since.",
            f"Restart it: {restart}",
        )


def read_hook(context: Context) -> HookFacts:
    """The hook's file, compared with what this version would install.

    :raises OSError: when this user may not look.
    """
    return hook_file(context.hook_path, context.hook_text, str(context.options.hook.socket))


def hook_file(path: Path, wanted: str, agents_socket: str) -> HookFacts:
    """The hook at *path*, compared with the text that it should have.

    :raises OSError: when this user may not look.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return HookFacts(str(path), exists=False)
    text = path.read_text(encoding="utf-8", errors="replace")
    socket = re.search(r'^SOCKET = "((?:[^"\\]|\\.)*)"$', text, re.MULTILINE)
    return HookFacts(
        str(path),
        exists=True,
        executable=stat.S_ISREG(mode) and bool(mode & 0o111),
        current=text == wanted,
        socket=re.sub(r"\\(.)", r"\1", socket[1]) if socket else None,
        has_python=shutil.which("python3") is not None,
        agents_socket=agents_socket,
        unknown_classes=tuple(sorted(_classes(wanted) - _classes(text))),
        broken=_mistake(text),
    )


def _classes(text: str) -> frozenset[str]:
    """The classes that a hook's text knows."""
    found = re.search(r'^CLASSES = "(.*)"$', text, re.MULTILINE)
    return frozenset([OWN_CLASSES, *(found[1].split("|") if found else ())])


def _mistake(text: str) -> str | None:
    """Why Python cannot read the text of a hook of ours, of whatever release; an older one is not run to find out."""
    if "python3 -I -S" not in text:
        return None
    try:
        compile(text, "hook", "exec")
    except (SyntaxError, ValueError) as error:  # ValueError: for a null byte
        return f"it is no Python: {error}"
    return None


def hook_since(directory: Path) -> tuple[float, float] | None:
    """Since when the oldest hook that libvirt would run has been as it is, and the oldest date of such a hook.

    In seconds since 1970; None where there is no hook. *directory* is qemu.d; libvirt's other hook, the file qemu, is
    beside it.

    :raises OSError: when this user may not look.
    """
    found = []
    candidates = [directory.with_suffix("")]
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        candidates += directory.iterdir()
    for path in candidates:
        try:
            entry = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISREG(entry.st_mode) and entry.st_mode & 0o111:
            # ctime also moves when the mode changes, and no program can set it.
            found.append((entry.st_ctime, entry.st_mtime))
    return (min(changed for changed, _ in found), min(dated for _, dated in found)) if found else None
