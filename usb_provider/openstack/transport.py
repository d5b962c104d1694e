"""One request to one OpenStack service through a keystoneauth adapter, with its failures as our errors.

What is asked, and what an answer means, is client.py's for Placement and osc/neighbours.py's for the services that only
the openstack commands ask. It does not retry what was refused, cache, or decide.
"""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from keystoneauth1 import adapter as ksa_adapter
from keystoneauth1 import exceptions as ksa_exceptions

from usb_provider import exception

_RETRIES = 1

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the one who reads an error has set how the service is reached, in words that fit into the sentences."""

    credentials: str
    user: str
    place: str
    endpoint: str


CONFIGURED = Settings(
    credentials="the credentials in [placement]",
    user="the user in [placement]",
    place="[placement]",
    endpoint="the region and interface in [placement]; check region_name and valid_interfaces, or set "
    "endpoint_override",
)
"""For the agent, which reads a configuration file."""

CALLERS = Settings(
    credentials="your credentials",
    user="your user",
    place="the catalogue or clouds.yaml",
    endpoint="your region and interface; check --os-region-name and --os-interface",
)
"""For a command of the openstack client, which has the caller's environment or clouds.yaml."""


def callers_adapter(session: Any, config: Any, service_type: str, version: str | None = None) -> ksa_adapter.Adapter:
    """An adapter for a service of the cloud that a caller of openstack chose; nothing is sent yet.

    :param session: openstackclient's, which has the caller's token.
    :param config: openstacksdk's ``CloudRegion``: region, interface and endpoints as in clouds.yaml.
    :param version: the major version that the service is to have; without it its address is taken as it is.
    """
    return ksa_adapter.Adapter(
        session,
        service_type=config.get_service_type(service_type),
        service_name=config.get_service_name(service_type),
        interface=config.get_interface(service_type),
        region_name=config.get_region_name(service_type),
        endpoint_override=config.get_endpoint(service_type),
        min_version=version,
        max_version=version and f"{version.partition('.')[0]}.latest",
    )


class Transport:
    """One service as seen through one adapter; safe to share between threads.

    Every method raises :class:`~usb_provider.exception.Unavailable` when the service or Keystone does not answer, and
    :class:`~usb_provider.exception.AccessRefused` when Keystone refuses us.
    """

    def __init__(
        self,
        adapter: ksa_adapter.Adapter,
        *,
        service: str,
        microversion: str | None,
        settings: Settings,
        requested: Callable[[str, str], None] | None = None,
    ) -> None:
        """Use *adapter*.

        :param requested: is told of each request, when it is over: HTTP's method, and its status or ``none``.
        """
        self.service = service
        self.microversion = microversion
        self.settings = settings
        self._adapter = adapter
        self._requested = requested or (lambda method, status: None)
        self._lock = threading.Lock()
        self._requests = 0

    @property
    def requests(self) -> int:
        """How many requests have been made to the service, those for tokens not among them."""
        return self._requests

    def send(self, method: str, path: str, **how: Any) -> Any:
        """The answer, whatever its status; *how* may have another ``microversion``, None for none."""
        with self._lock:
            self._requests += 1
        status = "none"
        try:
            response = self._adapter.request(
                path,
                method,
                microversion=how.pop("microversion", self.microversion),
                headers={"Accept": "application/json"},
                raise_exc=False,
                # A kept-alive connection that the server has closed meanwhile fails at once and without effect.
                connect_retries=_RETRIES,
                connect_retry_delay=0.1,
                **how,
            )
            status = str(response.status_code)
            return response
        except (ksa_exceptions.Unauthorized, ksa_exceptions.Forbidden) as error:
            raise exception.AccessRefused(
                f"Keystone refuses {self.settings.credentials} ({_first_line(error)}); check the user, its password "
                f"and its project."
            ) from error
        except ksa_exceptions.EndpointNotFound as error:
            raise exception.Unavailable(
                f"Keystone's catalogue has no {self.service} endpoint for {self.settings.endpoint}."
            ) from error
        except ksa_exceptions.ClientException as error:
            if not _is_unreachable(error):
                raise exception.Unavailable(f"{self.service} cannot be asked: {_first_line(error)}.") from error
            where = re.search(r"https?://[^\s/]+", str(error))
            raise exception.Unavailable(
                f"{where[0] if where else self.service} does not answer ({_deepest(error)}); check that it runs, that "
                f"this host reaches it, and that {self.settings.place} has its address."
            ) from error
        except OSError as error:
            # A certificate file that is not there, which requests does not report in its own way.
            raise exception.Unavailable(f"{self.service} cannot be asked: {_first_line(error)}.") from error
        finally:
            self._requested(method, status)

    def read(self, response: Any, read: Callable[[Any], _T]) -> _T:
        """What *read* makes of the answer's JSON; it may fail in any way that JSON of another form makes it fail."""
        try:
            body = response.json()
        except ValueError as error:
            raise self._not_the_service(response, "something that is not JSON") from error
        try:
            return read(body)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._not_the_service(response, f"JSON that is not {self.service}'s") from error

    def _not_the_service(self, response: Any, what: str) -> exception.Unavailable:
        return exception.Unavailable(
            f"{response.url} answers with {what}; check that {self.settings.place} has {self.service}'s address and "
            f"that no proxy is between."
        )


def _is_unreachable(error: BaseException | None) -> bool:
    """Whether a connection that failed is behind *error*; what keystoneauth tried then is of no help."""
    while error is not None and not isinstance(error, (ksa_exceptions.ConnectFailure, ksa_exceptions.ConnectTimeout)):
        error = error.__context__
    return error is not None


def _deepest(error: BaseException) -> str:
    """What the operating system said, below what each library made of it: ``Connection refused``."""
    while error.__context__ is not None:
        error = error.__context__
    return getattr(error, "strerror", None) or _first_line(error)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
