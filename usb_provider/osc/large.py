"""Reads a large answer of a service item by item: the listings of 10,000 hosts have 200 MB, of which little matters.

A reader gets each item as json.loads() would give it, and says what to keep. This sends nothing.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import ijson

from usb_provider.openstack.transport import OF_ANOTHER_FORM, Response, Transport

_Item = TypeVar("_Item")
_Value = TypeVar("_Value")


def items(transport: Transport, response: Response, name: str, read: Callable[[_Item], _Value]) -> Iterator[_Value]:
    """What *read* makes of each item of the list *name* of the answer's object.

    :raises Unavailable: when the answer is not JSON, not the service's, or not whole; try again later.
    """
    return _each(transport, response, name, lambda body: ijson.items(body, f"{name}.item"), read)


def members(
    transport: Transport, response: Response, name: str, read: Callable[[tuple[str, _Item]], _Value]
) -> Iterator[_Value]:
    """What *read* makes of each member of the object *name* of the answer's object; errors as of :func:`items`."""
    return _each(transport, response, name, lambda body: ijson.kvitems(body, name), read)


class _Body:
    """An answer's body as a file that can be read once; ``head`` is how it begins."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.head = b""

    def read(self, size: int) -> bytes:
        """The next piece, of any size; none when *size* is 0."""
        piece = next(self._chunks, b"") if size else b""
        self.head = self.head or piece
        return piece


def _each(
    transport: Transport,
    response: Response,
    name: str,
    parse: Callable[[_Body], Iterable[_Item]],
    read: Callable[[_Item], _Value],
) -> Iterator[_Value]:
    body = _Body(transport.chunks(response))
    nothing = True
    try:
        for item in parse(body):
            nothing = False
            try:
                value = read(item)
            except OF_ANOTHER_FORM as error:
                raise transport.not_the_service(response, f"JSON that is not {transport.service.name}'s") from error
            yield value
        # The parser gives nothing of an answer that lacks the wanted member. A right answer with nothing is short.
        if nothing and not _has(body.head, name):
            raise transport.not_the_service(response, f"JSON that is not {transport.service.name}'s")
    except (ijson.JSONError, ValueError) as error:
        raise transport.not_the_service(response, "something that is not JSON") from error
    finally:
        response.close()


def _has(text: bytes, name: str) -> bool:
    """Whether *text* is an object with the member *name*. :raises ValueError: when it is no JSON."""
    found = json.loads(text)
    return isinstance(found, dict) and name in found
