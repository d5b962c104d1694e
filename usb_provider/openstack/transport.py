"""One request to one OpenStack service through a keystoneauth adapter, with its failures as our errors.

The clients know what to ask and what an answer means: placement/client.py, and osc/ for the openstack commands. A
transport does not retry what a service refuses, does not cache, and decides nothing.
"""

import logging
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

from keystoneauth1 import adapter as ksa_adapter
from keystoneauth1 import exceptions as ksa_exceptions

from usb_provider import exception

LOG = logging.getLogger(__name__)

_RETRIES = 1
_CHUNK = 1 << 18
_REQUEST_ID = re.compile(r" \(Request-ID: [^)]*\)")

OF_ANOTHER_FORM = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What a reader raises when JSON has another form than it expects; ArithmeticError for an Infinity."""

_Body = TypeVar("_Body")
_Value = TypeVar("_Value")

Query: TypeAlias = Mapping[str, str] | Sequence[tuple[str, str]]
"""Parameters behind the ``?``; a sequence may have a name more than once."""


def segment(text: str) -> str:
    """*text* as one segment of a path: what another program wrote never makes two of it, or a query."""
    return urllib.parse.quote(text, safe="")


@dataclass(frozen=True, slots=True)
class Service:
    """A service of the cloud, and the least that we need of it.

    :ivar name: its name in sentences, such as Placement.
    :ivar type: its type in Keystone's catalogue, such as placement.
    :ivar role: the role that a refused user needs; completes "your user needs …".
    :ivar microversion: of every request; None for a service that has none.
    :ivar release: the first OpenStack release that has the microversion.
    :ivar version: the major version of its API; without one, the catalogue's address is used unchanged.
    """

    name: str
    type: str
    role: str
    microversion: str | None = None
    release: str = ""
    version: str | None = None


@dataclass(frozen=True, slots=True)
class SettingNames:
    """How sentences name the settings by which a service is reached, for the reader who has to correct them."""

    credentials: str
    user: str
    address: str
    endpoint: str


CONFIGURED = SettingNames(
    credentials="the credentials in [placement]",
    user="the user in [placement]",
    address="[placement]",
    endpoint="the region and interface in [placement]; check region_name and valid_interfaces, or set "
    "endpoint_override",
)
"""For the operator of the agent, which reads a configuration file."""

CALLERS = SettingNames(
    credentials="your credentials",
    user="your user",
    address="the catalogue or clouds.yaml",
    endpoint="your region and interface; check --os-region-name and --os-interface",
)
"""For the user of an openstack command, who has environment variables or clouds.yaml."""


class SentRequest(Protocol):
    """What we read of the request behind a response."""

    @property
    def method(self) -> str | None:
        """HTTP's method."""

    @property
    def path_url(self) -> str:
        """The path with its query."""


class Response(Protocol):
    """What we read of a response, which is one of the library requests."""

    @property
    def request(self) -> SentRequest:
        """What was asked."""

    @property
    def status_code(self) -> int:
        """HTTP's status."""

    @property
    def url(self) -> str:
        """The address that answered, after redirects."""

    @property
    def text(self) -> str:
        """The body."""

    @property
    def headers(self) -> Mapping[str, str]:
        """By name, in any case."""

    def json(self) -> Any:
        """The body's JSON. :raises ValueError: when it is none."""

    def iter_content(self, chunk_size: int) -> Iterator[bytes]:
        """The body in pieces. :raises OSError: when the connection breaks."""

    def close(self) -> None:
        """End the connection of an answer that was not read to its end."""


@dataclass(frozen=True, slots=True)
class ServiceRefusal:
    """An answer with a status that the client did not want: what was asked, and what the service says.

    :ivar text: a sentence without its full stop, such as ``Placement answers 409 to PUT /traits/CUSTOM_X: Busy``.
    :ivar code: Placement's own error code; empty where the answer carries none.
    """

    method: str | None
    status: int
    text: str
    code: str = ""


class Transport:
    """One service as seen through one adapter; safe to share between threads."""

    def __init__(
        self,
        adapter: ksa_adapter.Adapter,
        service: Service,
        settings: SettingNames,
        *,
        requested: Callable[[str, str], None] | None = None,
    ) -> None:
        """Use *adapter*.

        :param requested: called after each request with HTTP's method, and its status or ``none``.
        """
        self.service = service
        self.settings = settings
        self._adapter = adapter
        self._requested = requested or (lambda method, status: None)
        self._lock = threading.Lock()
        self._requests = 0

    @property
    def requests(self) -> int:
        """The number of requests to the service so far, without those for tokens."""
        return self._requests

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: object = None,
        versioned: bool = True,
        microversion: str | None = None,
        stream: bool = False,
    ) -> Response:
        """The answer, with any status; *body* is sent as JSON. Without *versioned*, the request has no microversion.

        *microversion* takes the place of the service's for this request. With *stream*, the body comes later, for
        :meth:`chunks`, and ``--debug`` does not show it.

        :raises Unavailable: when the service or Keystone does not answer; try again later.
        :raises AccessRefused: when Keystone refuses us.
        """
        with self._lock:
            self._requests += 1
        status = "none"
        if stream:
            LOG.debug("%s %s of %s, query %s", method, path, self.service.name, query)
        try:
            response = self._adapter.request(
                path,
                method,
                params=query,
                json=body,
                microversion=(microversion or self.service.microversion) if versioned else None,
                headers={"Accept": "application/json"},
                raise_exc=False,
                stream=stream,
                # keystoneauth reads the whole body for its log, also where the log's level then leaves it out.
                log=not stream,
                # The server may have closed a kept-alive connection; then the request fails at once and has no effect.
                connect_retries=_RETRIES,
                connect_retry_delay=0.1,
            )
            status = str(response.status_code)
            return response
        except (ksa_exceptions.Unauthorized, ksa_exceptions.Forbidden) as error:
            raise exception.AccessRefused(
                f"Keystone refuses {self.settings.credentials} ({_first_line(error)}); check the user, its password "
                f"and its project."
            ) from error
        except ksa_exceptions.EndpointNotFound as error:
            raise exception.NoEndpoint(
                f"Keystone's catalogue has no {self.service.name} endpoint for {self.settings.endpoint}."
            ) from error
        except ksa_exceptions.ClientException as error:
            if not _is_unreachable(error):
                raise exception.Unavailable(f"{self.service.name} cannot be asked: {_first_line(error)}.") from error
            where = re.search(r"https?://[^\s/]+", str(error))
            raise exception.Unavailable(
                f"{where[0] if where else self.service.name} does not answer ({_deepest(error)}); check that it runs, "
                f"that this host reaches it, and that {self.settings.address} has its address."
            ) from error
        except OSError as error:
            # Such as a certificate file that does not exist.
            raise exception.Unavailable(f"{self.service.name} cannot be asked: {_first_line(error)}.") from error
        finally:
            self._requested(method, status)

    def newest_microversion(self) -> tuple[float, ...] | None:
        """The newest microversion that the service knows, such as (2, 104); None where it does not say."""
        try:
            data = self._adapter.get_endpoint_data()
        except (ksa_exceptions.ClientException, OSError):
            return None
        newest = None if data is None else data.max_microversion
        return None if newest is None else tuple(newest)

    def read(self, response: Response, read: Callable[[_Body], _Value]) -> _Value:
        """What *read* makes of the answer's JSON.

        :raises Unavailable: when the answer is not JSON, or not the service's; try again later.
        """
        try:
            body: _Body = response.json()
        except ValueError as error:
            raise self.not_the_service(response, "something that is not JSON") from error
        try:
            return read(body)
        except OF_ANOTHER_FORM as error:
            raise self.not_the_service(response, f"JSON that is not {self.service.name}'s") from error

    def chunks(self, response: Response) -> Iterator[bytes]:
        """The body of an answer to a request that was sent with ``stream``, in pieces; it is closed at the end.

        :raises Unavailable: when the connection breaks; try again later.
        """
        try:
            yield from response.iter_content(_CHUNK)
        except OSError as error:
            raise exception.Unavailable(
                f"{self.service.name} has not sent the whole answer: {_first_line(error)}."
            ) from error
        finally:
            response.close()

    def refusal(self, response: Response) -> ServiceRefusal:
        """What *response*, whose status the client did not want, says."""
        detail, code = _detail(response)
        asked = response.request
        said = f"{self.service.name} answers {response.status_code} to {asked.method} {asked.path_url}"
        return ServiceRefusal(asked.method, response.status_code, f"{said}: {detail}" if detail else said, code)

    def error(self, refusal: ServiceRefusal) -> exception.UsbProviderError:
        """The error to raise for *refusal*, by the status, which means the same in every service.

        AccessRefused: we lack a role. Unavailable: the service cannot answer now. Else Incompatible.
        """
        if refusal.status in (401, 403):
            return exception.AccessRefused(
                f"{refusal.text}; {self.settings.user} needs {self.service.role}.", lacks_role=refusal.status == 403
            )
        if refusal.status >= 500 or refusal.status == 429:
            return exception.Unavailable(f"{refusal.text}.")
        if refusal.status == 406:
            return exception.Incompatible(
                f"This {self.service.name} does not support microversion {self.service.microversion}; upgrade it to "
                f"{self.service.release} or newer."
            )
        return exception.Incompatible(f"{refusal.text}.")

    def not_the_service(self, response: Response, what: str) -> exception.Unavailable:
        """The error when the answer is *what*, and not the service's."""
        return exception.Unavailable(
            f"{response.url} answers with {what}; check that {self.settings.address} has {self.service.name}'s address "
            f"and that no proxy is between."
        )


def _detail(response: Response) -> tuple[str, str]:
    """Detail and code of an error body; both empty where a proxy answers instead.

    Placement has ``{"errors": [{"detail": …, "code": …}]}``, Nova ``{"itemNotFound": {"message": …}}``.
    """
    try:
        body = response.json()
        (entry,) = body["errors"][:1] if "errors" in body else body.values()
        text = " ".join(str(entry.get("detail") or entry.get("message") or "").split())
        return text.rstrip("."), str(entry.get("code", ""))
    except OF_ANOTHER_FORM:
        return "", ""


def _is_unreachable(error: BaseException | None) -> bool:
    """Whether *error* comes from a failed connection; keystoneauth then tries other ways, and reports their errors."""
    while error is not None and not isinstance(error, (ksa_exceptions.ConnectFailure, ksa_exceptions.ConnectTimeout)):
        error = error.__context__
    return error is not None


def _deepest(error: BaseException) -> str:
    """The operating system's message, such as ``Connection refused``, from inside the errors of the libraries."""
    while error.__context__ is not None:
        error = error.__context__
    return getattr(error, "strerror", None) or _first_line(error)


def _first_line(error: BaseException) -> str:
    """What *error* says, without Keystone's number of the request: that is another one each time."""
    lines = _REQUEST_ID.sub("", str(error)).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
