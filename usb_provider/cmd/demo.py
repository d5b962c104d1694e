"""The command ``demo``: everything on one machine, with a Placement of its own and, without devices, recorded ones.

It makes the objects; usb_provider/demo says what to show. The program imports that package only here, and only when
this command runs: no other command, and no agent, loads it.
"""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from usb_provider.exception import ConfigError

if TYPE_CHECKING:
    from usb_provider.agent.reporter import Reporter
    from usb_provider.demo.testbed import Testbed
    from usb_provider.host.udev import UdevHost

TEXT = """\
Show everything on this machine: USB devices, a Placement of its own, and what the scheduler would do with them.

The Placement is real (openstack-placement on SQLite) but embedded: on loopback only, without Keystone.
Nothing else on the machine or in a cloud is touched. Where the machine has no USB devices, recorded ones of a busy
host are shown, and said to be recorded."""


def declare(command: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``demo``."""
    command.add_argument("--once", action="store_true", help="end after the show instead of staying, live")
    command.add_argument(
        "--recording",
        metavar="DIR",
        type=Path,
        help="show these recorded devices (umockdev-record --all > DIR/host.umockdev) instead of this host's",
    )
    command.add_argument(
        "--state-dir",
        metavar="DIR",
        type=Path,
        default=_state_dir(),
        help="where the embedded Placement keeps its data (default: %(default)s)",
    )
    command.add_argument("--port", type=int, default=0, help="port of the embedded Placement (default: a free one)")


def run(arguments: argparse.Namespace) -> int:
    """Show everything; stay until a signal ends it, unless --once."""
    from usb_provider.cmd import output
    from usb_provider.demo import live, show, umockdev
    from usb_provider.demo.configuration import RECORDED_RULES, ROOT_NAME, rules_for, write_files
    from usb_provider.demo.embedded import EmbeddedPlacement
    from usb_provider.demo.recording import bundled
    from usb_provider.host.udev import UdevHost

    source = arguments.recording or (None if _has_devices() else bundled())
    if source is not None and not umockdev.is_active():
        _again_under_umockdev()
    _end_in_order()
    with contextlib.ExitStack() as stack:
        screen = show.Show(output.console(), output.device_table)
        bed = stack.enter_context(_recorded(source)) if source is not None else None
        screen.source(source)
        host = UdevHost()
        with screen.step("Starting a Placement of its own"):
            placement = stack.enter_context(
                EmbeddedPlacement.start(arguments.state_dir / "placement", arguments.port, fresh=True)
            )
        root = placement.create_root(ROOT_NAME)
        rules = rules_for(host.devices()) if bed is None else RECORDED_RULES
        files = write_files(arguments.state_dir, placement, root, rules)
        screen.placement(placement, root)
        report = stack.enter_context(_reporter(files.configuration, host))
        show.show_all(screen, report, placement, bed)
        if not arguments.once:
            show.print_commands(screen, files, placement, report.run(), recorded=bed is not None)
            with contextlib.suppress(KeyboardInterrupt):
                live.stay(screen, report, host, bed)
            screen.say("The demo has ended, and its Placement with it.")
    return 0


def _end_in_order() -> None:
    """Let SIGTERM and SIGHUP end the demo as Ctrl-C does: with its Placement, and with the files of its devices."""
    signals = (signal.SIGTERM, signal.SIGHUP)

    def end(number: int, frame: FrameType | None) -> NoReturn:
        for each in signals:  # a shell that ends may send a second SIGHUP, and that must not stop the cleaning up
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for each in signals:
        if signal.getsignal(each) is not signal.SIG_IGN:  # nohup ignores SIGHUP for the demo
            signal.signal(each, end)


@contextlib.contextmanager
def _reporter(configuration: Path, host: "UdevHost") -> Iterator["Reporter"]:
    from usb_provider.cmd.setup import reporter
    from usb_provider.conf import load

    conf = load.open_files(["--config-file", str(configuration)])
    with reporter(conf, load.read(conf), host) as made:
        yield made


@contextlib.contextmanager
def _recorded(source: Path) -> Iterator["Testbed"]:
    from usb_provider.demo.recording import Recording, RecordingError
    from usb_provider.demo.testbed import Testbed

    try:
        read = Recording.read(source)
    except (RecordingError, OSError) as error:
        raise ConfigError([f"--recording cannot be shown: {error}"]) from error
    with Testbed.create() as bed:
        bed.load(read)
        yield bed


def _has_devices() -> bool:
    from usb_provider.host.udev import UdevHost

    return any(not device.is_hub for device in UdevHost().devices())


def _again_under_umockdev() -> None:
    """Run this very command again, with umockdev's library loaded before any other."""
    from usb_provider.demo import umockdev

    words = umockdev.wrap([sys.executable, "-m", "usb_provider.cmd.main", *sys.argv[1:]])
    os.execvp(words[0], words)


def _state_dir() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "usb-provider" / "demo"
