"""Makes the client from the configuration's [placement] group: keystoneauth's plugin, session and adapter."""

import re
from collections.abc import Callable, Collection

from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1 import loading
from oslo_config import cfg

from usb_provider.exception import ConfigError
from usb_provider.placement.client import PlacementClient

GROUP = "placement"

# keystoneauth requires little, since most can be said in several ways (the first is the usual one) and since some
# services want less. Placement wants a project or system scope, and a token that is worth something.
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


def connect(
    conf: cfg.ConfigOpts, *, timeout: float | None = None, requested: Callable[[str, str], None] | None = None
) -> PlacementClient:
    """A client for the Placement in *conf*; nothing is sent yet. *timeout* in seconds replaces the configured one.

    *requested* is told of each request, as :class:`PlacementClient` says.

    :raises ConfigError: when the group [placement] is incomplete or names what does not exist.
    """
    if not is_configured(conf):
        raise ConfigError(
            [
                "[placement]auth_type is not set, so Placement cannot be reached; set auth_type = password with "
                "auth_url, username, password, project_name and the domains, as in nova.conf."
            ]
        )
    section = conf[GROUP].auth_section or GROUP
    limit = {} if timeout is None else {"timeout": timeout}
    try:
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
        # oslo.config gives the place in the form of a Python value.
        why = re.sub(r" from LocationInfo\(.*?\)(?= is not valid)", "", " ".join(str(error).split()))
        raise ConfigError([f"[{section}] cannot be used: {why.rstrip('.')}."]) from error
    if auth is None:
        raise ConfigError([f"[placement]auth_section names [{section}], where no auth_type is set; set it there."])
    if _missing(conf, section):
        raise _lacks(conf, section)
    return PlacementClient(adapter, requested=requested)


def _lacks(conf: cfg.ConfigOpts, section: str, required: Collection[str] = ()) -> ConfigError:
    names = ", ".join(dict.fromkeys([*required, *_missing(conf, section)]))
    return ConfigError([f"[{section}] lacks what auth_type {conf[section].auth_type} needs: {names}."])


def _missing(conf: cfg.ConfigOpts, section: str) -> list[str]:
    """Of what is needed, the usual name of each thing that the configuration says in none of its ways."""
    needed = _NEEDED.get(conf[section].auth_type, ())
    return [names[0] for names in needed if not any(getattr(conf[section], name, None) for name in names)]
