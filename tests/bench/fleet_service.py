"""One process of the Placement of a measured cloud: on MariaDB, over HTTP, beside others on one listening socket.

fleet_cloud.py starts and ends it. It writes a line for each request to a file: method, path, status, bytes and seconds.
"""

import argparse
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import waitress
from placement import wsgi

CONFIG = """\
[DEFAULT]
log_file = placement.log
[api]
auth_strategy = noauth2
[placement_database]
connection = {database}
sync_on_startup = false
max_pool_size = 10
"""
LOG_NAME = "requests.jsonl"

Environ = dict[str, Any]
WsgiApp = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class Counted:
    """*app*, with a line in *log* for each request."""

    def __init__(self, app: WsgiApp, log: Path) -> None:
        self._app = app
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> list[bytes]:
        """Serve, and write the line: one write of less than a page is whole."""
        started, statuses = time.perf_counter(), []

        def start(status: str, *more: Any) -> object:
            statuses.append(status)
            return start_response(status, *more)

        answered = self._app(environ, start)
        pieces = list(answered)
        if hasattr(answered, "close"):
            answered.close()
        query = environ.get("QUERY_STRING")
        line = {
            "method": environ["REQUEST_METHOD"],
            "path": environ["PATH_INFO"] + (f"?{query}" if query else ""),
            "version": environ.get("HTTP_OPENSTACK_API_VERSION", ""),
            "status": int(statuses[0].split()[0]),
            "bytes": sum(len(piece) for piece in pieces),
            "seconds": time.perf_counter() - started,
        }
        os.write(self._log, json.dumps(line).encode() + b"\n")
        return pieces


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def _end_with_parent() -> None:
    """End this process when standard input ends, which it does when the parent is gone."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Serve until SIGTERM; say so on standard output as soon as it begins."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--listener", type=int, required=True, help="number of the listening socket's descriptor")
    parser.add_argument("--threads", type=int, default=4)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _exit)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.chdir(options.directory)
    os.environ["OS_PLACEMENT_CONFIG_DIR"] = "."
    sys.argv = sys.argv[:1]  # Placement reads them
    app = Counted(wsgi.init_application(), Path(LOG_NAME))
    server = waitress.create_server(app, sockets=[socket.socket(fileno=options.listener)], threads=options.threads)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    print("ready", flush=True)
    server.run()


if __name__ == "__main__":
    main()
