"""The least of Neutron that nova needs for servers without a network: it has nothing of anything."""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

_LIST = re.compile(r"/v2\.0/([a-z-]+)(?:\.json)?")


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer one request."""
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"].rstrip("/")
    found = _LIST.fullmatch(path)
    status, body = "404 Not Found", {"NeutronError": {"type": "NotFound", "message": "nothing here", "detail": ""}}
    if path == "":
        here = f"http://{environ['HTTP_HOST']}/v2.0"
        version = {"id": "v2.0", "status": "CURRENT", "links": [{"rel": "self", "href": here}]}
        status, body = "200 OK", {"versions": [version]}
    elif path == "/v2.0":
        status, body = "200 OK", {"resources": []}
    elif method == "GET" and found:
        status, body = "200 OK", {found[1].replace("-", "_"): []}
    elif method == "DELETE":
        status, body = "204 No Content", {}
    text = json.dumps(body).encode() if not status.startswith("204") else b""
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(text)))])
    return [text]
