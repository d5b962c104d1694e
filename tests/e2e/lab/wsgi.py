"""Serves one WSGI application on loopback: ``python wsgi.py MODULE:NAME PORT THREADS [SLOW]``.

``NAME()`` is called for the application.
"""

import importlib
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import waitress


def main() -> None:
    """Serve until killed."""
    name, port, threads, *slow = sys.argv[1:]
    # Keystone reads the arguments of whatever process it finds itself in.
    del sys.argv[1:]
    module, _, attribute = name.partition(":")
    application = getattr(importlib.import_module(module), attribute.removesuffix("()"))
    if attribute.endswith("()"):
        application = application()
    if slow:
        application = slowed(application, Path(slow[0]))
    waitress.serve(application, listen=f"127.0.0.1:{port}", threads=int(threads), channel_timeout=300)


def slowed(application: WSGIApplication, where: Path) -> WSGIApplication:
    """Give *application*, slow for as long as the file *where* is there.

    The file has the seconds that each answer takes, and the beginning of the User-Agent of the clients that wait.
    """

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        began = time.monotonic()
        while where.exists():
            seconds, _, client = where.read_text().partition(" ")
            late = time.monotonic() - began >= float(seconds)
            if late or not environ.get("HTTP_USER_AGENT", "").startswith(client):
                break
            time.sleep(0.05)
        return application(environ, start_response)

    return answer


if __name__ == "__main__":
    main()
