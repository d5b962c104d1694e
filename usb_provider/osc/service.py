"""What the clients of Nova and Glance share: each request gives a value, or raises one of our errors."""

from collections.abc import Callable, Mapping
from typing import ClassVar, TypeVar
from urllib.parse import quote

from usb_provider.openstack.transport import Query, Response, Service, Transport

_Body = TypeVar("_Body")
_Value = TypeVar("_Value")


class ServiceClient:
    """One service as the caller reaches it.

    Every method raises Unavailable when the service or Keystone does not answer, AccessRefused when they refuse the
    caller, and Incompatible for what the service refuses otherwise.
    """

    service: ClassVar[Service]

    def __init__(self, transport: Transport) -> None:
        """Use *transport*, which is one to :attr:`service`."""
        self._transport = transport

    def _get(self, path: str, read: Callable[[_Body], _Value], query: Query = ()) -> _Value:
        return self._read(self._transport.send("GET", path, query=query), read)

    def _post(self, path: str, body: Mapping[str, object], read: Callable[[_Body], _Value]) -> _Value:
        return self._read(self._transport.send("POST", path, body=body), read)

    def _find(self, path: str, name_or_id: str, read: Callable[[_Body], _Value]) -> _Value | None:
        """What *read* makes of the object with that id below *path*; None when there is none, as when it is a name."""
        response = self._transport.send("GET", f"{path}/{quote(name_or_id, safe='')}")
        return None if response.status_code in (400, 404) else self._read(response, read)

    def _read(self, response: Response, read: Callable[[_Body], _Value]) -> _Value:
        if response.status_code != 200:
            raise self._transport.error(self._transport.refusal(response))
        return self._transport.read(response, read)
