"""The program that serves the embedded Placement: the child process that embedded.py starts and ends.

One thread serves it, always: with more, concurrent writers meet "database is locked" in SQLite and
half of them fail.
"""

import argparse
import fcntl
import importlib
import importlib.util
import logging
import os
import signal
import socket
import stat
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from usb_provider.exception import UsbProviderError

MODULE = "usb_provider.demo.embedded_service"
LOOPBACK = "127.0.0.1"
LOG_NAME = "placement.log"
DATABASE = "placement.sqlite"
NOT_INSTALLED = "the embedded Placement needs openstack-placement and waitress: pip install usb-provider[demo]"

CONFIG = """\
# Written at each start of the embedded Placement; paths are relative to this directory.
[DEFAULT]
log_file = placement.log
[api]
auth_strategy = noauth2
[placement_database]
connection = sqlite:///placement.sqlite
sync_on_startup = true
# Only a crash of the whole machine could lose data by this, and writes are much faster.
sqlite_synchronous = false
"""


class EmbeddedError(UsbProviderError):
    """The embedded Placement cannot start or went away; the one sentence says why.

    The caller should print it and give up: nothing gets better by trying again.
    """


def require_installed() -> None:
    """Pass when openstack-placement and waitress can be imported.

    :raises EmbeddedError: with the command that installs them; the caller should print it.
    """
    try:
        found = importlib.util.find_spec("placement.wsgi") and importlib.util.find_spec("waitress")
    except ImportError:
        found = None
    if not found:
        raise EmbeddedError(NOT_INSTALLED)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve Placement from a directory until SIGTERM; give the exit code.

    It also ends when standard input does, if that is a pipe: so no parent, however it ends, leaves
    one behind. Prints the endpoint, alone on one line, once it answers; all else is in its log.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {MODULE}",
        description="Serve an embedded Placement (SQLite, no Keystone, token 'admin') on loopback.",
    )
    parser.add_argument("--directory", type=Path, required=True, help="where its data and its log live")
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    parser.add_argument("--fresh", action="store_true", help="begin without the data of the last time")
    options = parser.parse_args(arguments)

    for end in (signal.SIGTERM, signal.SIGINT):
        signal.signal(end, _exit)
    try:
        require_installed()
        options.directory.mkdir(parents=True, exist_ok=True)
        os.chdir(options.directory)
        answer = _only_the_log_speaks()
        if stat.S_ISFIFO(os.fstat(0).st_mode):
            threading.Thread(target=_end_with_parent, daemon=True).start()
        _serve(options.port, answer, fresh=options.fresh)
    except EmbeddedError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"cannot use {options.directory}: {error.strerror or error}", file=sys.stderr)
        return 1
    except Exception as error:  # Placement's own; the parent quotes the last line of the log
        traceback.print_exc()
        print(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}", file=sys.stderr)
        return 1
    return 0


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    """End in order: waitress closes its sockets on SystemExit."""
    raise SystemExit(0)


def _only_the_log_speaks() -> int:
    """Send stdout and stderr to the log; give a descriptor of the old stdout, for the endpoint."""
    answer = os.dup(1)
    with Path(LOG_NAME).open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    return answer


def _end_with_parent() -> None:
    """End this process when standard input ends, which it does when the parent is gone."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _serve(port: int, answer: int, *, fresh: bool) -> None:
    """Import Placement, write its endpoint to *answer*, and serve until a signal ends the process."""
    lock = Path("lock").open("ab")  # noqa: SIM115 - held, and so open, as long as the process lives
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise EmbeddedError(
            "another embedded Placement uses this directory; end that one, or choose another directory"
        ) from error
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EmbeddedError(f"cannot listen on {LOOPBACK}:{port}: {reason}") from error
    if fresh:
        for file in Path().glob(f"{DATABASE}*"):
            file.unlink()

    Path("placement.conf").write_text(CONFIG)
    os.environ["OS_PLACEMENT_CONFIG_DIR"] = "."
    # Not at the top: the parent never needs them, they may be missing, and loading takes a second.
    waitress = importlib.import_module("waitress")
    wsgi = importlib.import_module("placement.wsgi")

    server = waitress.create_server(wsgi.init_application(), sockets=[listener], threads=1)
    # It warns for each request that waits; with one thread that is the normal course.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    os.write(answer, f"http://{LOOPBACK}:{listener.getsockname()[1]}\n".encode())
    os.close(answer)
    server.run()


if __name__ == "__main__":
    sys.exit(main())
