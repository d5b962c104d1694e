"""What holds for every functional test: a server of the test's own process ends at once."""

import socketserver
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def servers_end_at_once() -> Iterator[None]:
    """Let socketserver look every 10 ms whether it is to stop; each stop waits for that, half a second otherwise."""
    serve = socketserver.BaseServer.serve_forever
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socketserver.BaseServer, "serve_forever", lambda server, poll_interval=0.5: serve(server, 0.01))
        yield
