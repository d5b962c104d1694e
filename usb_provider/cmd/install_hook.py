"""The command ``install-hook``: puts the hook where libvirt finds it, and takes it away again."""

import argparse
import os
import re
from collections.abc import Collection
from importlib import resources
from pathlib import Path

from usb_provider.cmd import output
from usb_provider.cmd.configuration import own_options
from usb_provider.conf.load import Options
from usb_provider.exception import ConfigError
from usb_provider.host.files import write_whole
from usb_provider.model.reporting.host_state import ReportSettings
from usb_provider.virt.hook import CLASSES as OWN_CLASSES
from usb_provider.virt.hook_trial import BrokenHook, try_hook

TEXT = """\
Install libvirt's hook, by which guests that hold USB devices start only when they can have them.

Writes one file, /etc/libvirt/hooks/qemu.d/usb-provider, with [hook]socket, [hook]timeout and the resource classes of
[usb]device_spec in it; running it again changes nothing, unless those did. A new hook is tried before it replaces the
one that is there. libvirt reads the list of hooks when it starts: if the file is new, restart it (guests go on
running)."""

DIRECTORY = Path("/etc/libvirt/hooks/qemu.d")
NAME = "usb-provider"


def declare(command: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``install-hook``."""
    command.add_argument("--dry-run", action="store_true", help="only say what would be done")
    command.add_argument("--uninstall", action="store_true", help="remove the hook")
    command.add_argument(
        "--directory", type=Path, default=DIRECTORY, metavar="DIR", help="libvirt's hooks (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Install or remove the hook, or say that there is nothing to do."""
    path: Path = arguments.directory / NAME
    options = own_options(arguments)
    wanted = None if arguments.uninstall else hook_text_of(options)
    try:
        # In bytes: a power cut may have left something that is no text.
        present = path.read_bytes() if path.exists() else None
        fine = present == (None if wanted is None else wanted.encode()) and (wanted is None or os.access(path, os.X_OK))
        if fine:
            output.say(f"{path} is {'not there' if wanted is None else 'up to date'}: nothing to do.")
            return 0
        verb = "remove" if wanted is None else "install" if present is None else "update"
        if arguments.dry_run:
            output.say(f"Would {verb} {path}.")
            return 0
        if wanted is None:
            path.unlink()
        else:
            _write(path, wanted, before=path.stat() if present is not None else None)
    except BrokenHook as error:
        raise ConfigError([f"The hook does not run here, so {path} stays as it was: {error}."]) from error
    except OSError as error:
        raise ConfigError(
            [f"{error.filename or path} cannot be written ({error.strerror}); run this as root."]
        ) from error
    output.say(f"{path}: {verb.removesuffix('e')}ed.")
    if verb == "install":
        output.say("Restart libvirt now, so that it finds the hook: systemctl restart libvirtd (or virtqemud).")
    return 0


def hook_text_of(options: Options) -> str:
    """The hook's source for *options*."""
    return hook_text(options.hook.socket, options.hook.timeout, ReportSettings(options.usb.specs).rule_classes)


def hook_text(socket: Path, timeout: float, classes: Collection[str] = ()) -> str:
    """The hook's source with its constants set. *classes* are the resource classes that rules give."""
    text = resources.files("usb_provider.virt").joinpath("hook.py").read_text(encoding="utf-8")
    known = "|".join([OWN_CLASSES, *sorted({name for name in classes if not re.fullmatch(OWN_CLASSES, name)})])
    for line, value in (
        ("SOCKET = ", f'"{_quoted(str(socket))}"'),
        ("TIMEOUT = ", str(timeout)),
        ("CLASSES = ", f'"{known}"'),
        ("classes=", f"'{known}'"),
    ):
        before, after = re.split(f"^{line}.*$", text, flags=re.MULTILINE)
        text = f"{before}{line}{value}{after}"
    return text


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _compiled(text: str) -> str:
    """*text*, which is Python.

    :raises BrokenHook: when it is not.
    """
    try:
        compile(text, NAME, "exec")
    except (SyntaxError, ValueError) as error:
        raise BrokenHook(f"it is no Python: {error}") from error
    return text


def _write(path: Path, text: str, *, before: os.stat_result | None) -> None:
    """Write *path* whole or not at all, and only if it runs: libvirt may run it at any moment.

    :raises BrokenHook: when it does not run. :raises OSError: when it cannot be written.

    It gets the date of the one that was there *before*: libvirt has to be restarted for a hook that is new, and not for
    one that was there, and "usb-provider doctor" tells the two apart by it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The temporary file is outside qemu.d, where libvirt would run it as well.
    write_whole(
        path, _compiled(text).encode("utf-8"), mode=0o755, dated=before, beside=path.parent.parent, tried=try_hook
    )
