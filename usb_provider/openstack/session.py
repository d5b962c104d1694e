"""Makes a transport to a service: by the configuration's [placement], for a caller of openstack, or with a token.

Nothing is sent here. The clients decide what to ask over a transport.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from keystoneauth1 import adapter as ksa_adapter
from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1 import loading, token_endpoint
from keystoneauth1 import session as ksa_session
from oslo_config import cfg

from usb_provider.exception import ConfigError
from usb_provider.openstack.transport import CALLERS, CONFIGURED, Service, Transport

GROUP = "placement"

_LONGEST_TIMEOUT = 86_400

# keystoneauth itself requires few options. Placement needs these: of each tuple one option, the first is the usual one.
_NEEDED = {
    "password": (
        ("auth_url",),
        ("username", "user_id"),
        ("password",),
        ("project_name", "project_id", "system_scope", "domain_id", "domain_name", "trust_id"),
    ),
    "admin_token": (("endpoint",), ("token",)),
}


def is_configured(conf: cfg.ConfigOpts) -> bool:
    """Whether the configuration says how to reach Placement."""
    # With auth_section, auth_type is an option of that section and not of this group.
    return bool(conf[GROUP].auth_section or conf[GROUP].auth_type)


def configured(
    conf: cfg.ConfigOpts,
    service: Service,
    *,
    timeout: float | None = None,
    requested: Callable[[str, str], None] | None = None,
) -> Transport:
    """A transport to *service* by the group [placement] of *conf*.

    :param timeout: in seconds, of each request; replaces the configured one.
    :param requested: called for each request, as :class:`Transport` says.
    :raises ConfigError: when the group is incomplete or names something that does not exist.
    """
    section = GROUP
    limit = {} if timeout is None else {"timeout": timeout}
    try:
        if not is_configured(conf):
            raise ConfigError(
                [
                    "[placement]auth_type is not set, so Placement cannot be reached; set auth_type = password with "
                    "auth_url, username, password, project_name and the domains, as in nova.conf."
                ]
            )
        section = conf[GROUP].auth_section or GROUP
        auth = loading.load_auth_from_conf_options(conf, GROUP)
        session = loading.load_session_from_conf_options(conf, GROUP, auth=auth, **limit)
        adapter = loading.load_adapter_from_conf_options(conf, GROUP, session=session, auth=auth)
    except ksa_exceptions.MissingRequiredOptions as error:
        raise _lacks(conf, section, [option.dest for option in error.options]) from error
    except ksa_exceptions.NoMatchingPlugin as error:
        raise ConfigError(
            [f"[{section}]auth_type names no plugin that is installed: {error.name}; the usual one is password."]
        ) from error
    except (ksa_exceptions.ClientException, cfg.Error, ValueError, TypeError) as error:
        # oslo.config names the place as the repr of a Python object.
        why = re.sub(r" from LocationInfo\(.*?\)(?= is not valid)", "", " ".join(str(error).split()))
        raise ConfigError([f"[{section}] cannot be used: {why.rstrip('.')}."]) from error
    except RecursionError as error:
        raise ConfigError(
            [f"[{section}] cannot be used: an option refers to itself; write $$ for a dollar sign."]
        ) from error
    if auth is None:
        raise ConfigError([f"[placement]auth_section names [{section}], where no auth_type is set; set it there."])
    if session.timeout is not None and session.timeout > _LONGEST_TIMEOUT:
        raise ConfigError([f"[placement]timeout is longer than {_LONGEST_TIMEOUT} seconds; set a shorter one."])
    if _missing(conf, section):
        raise _lacks(conf, section)
    return Transport(adapter, service, CONFIGURED, requested=requested)


def _lacks(conf: cfg.ConfigOpts, section: str, required: Collection[str] = ()) -> ConfigError:
    names = ", ".join(dict.fromkeys([*required, *_missing(conf, section)]))
    return ConfigError([f"[{section}] lacks what auth_type {conf[section].auth_type} needs: {names}."])


def _missing(conf: cfg.ConfigOpts, section: str) -> list[str]:
    """The usual name of each option that is needed and that the configuration does not have under any of its names."""
    needed = _NEEDED.get(conf[section].auth_type, ())
    return [names[0] for names in needed if not any(getattr(conf[section], name, None) for name in names)]


class Region(Protocol):
    """What we read of openstacksdk's ``CloudRegion``: how clouds.yaml says that a service is reached."""

    def get_service_type(self, service_type: str) -> str | None:
        """Its type in the catalogue."""

    def get_service_name(self, service_type: str) -> str | None:
        """Its name in the catalogue."""

    def get_interface(self, service_type: str) -> str | list[str] | None:
        """The interface, such as public."""

    def get_region_name(self, service_type: str) -> str | None:
        """The region."""

    def get_endpoint(self, service_type: str) -> str | None:
        """Its address, where that is set by hand."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The user of an openstack command, with openstackclient's session, which has the token, and the chosen cloud."""

    session: ksa_session.Session
    region: Region

    @property
    def project_id(self) -> str | None:
        """The project that the caller's token is for; None where it is for none."""
        found = self.session.get_project_id()
        return None if found is None else str(found)

    @property
    def region_name(self) -> str | None:
        """The region that the caller chose; None where it chose none."""
        return self.region.get_region_name("compute") or None

    def transport(self, service: Service) -> Transport:
        """A transport to *service* as this caller reaches it."""
        adapter = ksa_adapter.Adapter(
            self.session,
            service_type=self.region.get_service_type(service.type),
            service_name=self.region.get_service_name(service.type),
            interface=self.region.get_interface(service.type),
            region_name=self.region.get_region_name(service.type),
            endpoint_override=self.region.get_endpoint(service.type),
            min_version=service.version,
            max_version=service.version and f"{service.version.partition('.')[0]}.latest",
        )
        return Transport(adapter, service, CALLERS)


def with_token(endpoint: str, token: str, service: Service, *, timeout: float = 30) -> Transport:
    """A transport to *service* at *endpoint*, without a Keystone; *timeout* in seconds."""
    session = ksa_session.Session(auth=token_endpoint.Token(endpoint, token), timeout=timeout)
    return Transport(ksa_adapter.Adapter(session, service_type=service.type), service, CONFIGURED)
