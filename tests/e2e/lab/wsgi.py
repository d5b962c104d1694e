"""Serves one WSGI application on loopback: ``python wsgi.py MODULE:NAME PORT THREADS``."""

import importlib
import sys

import waitress


def main() -> None:
    """Serve until killed."""
    name, port, threads = sys.argv[1:]
    # Keystone reads the arguments of whatever process it finds itself in.
    del sys.argv[1:]
    module, _, attribute = name.partition(":")
    application = getattr(importlib.import_module(module), attribute)
    waitress.serve(application, listen=f"127.0.0.1:{port}", threads=int(threads), channel_timeout=300)


if __name__ == "__main__":
    main()
