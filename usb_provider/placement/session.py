"""Makes the client from the configuration's [placement] group: keystoneauth's plugin, session and adapter."""

from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1 import loading
from oslo_config import cfg

from usb_provider.exception import ConfigError
from usb_provider.placement.client import PlacementClient

GROUP = "placement"


def is_configured(conf: cfg.ConfigOpts) -> bool:
    """Whether the configuration says how to reach Placement."""
    return bool(conf[GROUP].auth_type or conf[GROUP].auth_section)


def connect(conf: cfg.ConfigOpts) -> PlacementClient:
    """A client for the Placement in *conf*; nothing is sent yet.

    :raises ConfigError: when the group [placement] is incomplete or names what does not exist.
    """
    if not is_configured(conf):
        raise ConfigError(
            [
                "[placement]auth_type is not set, so Placement cannot be reached; set auth_type = password with "
                "auth_url, username, password, project_name and the domains, as in nova.conf."
            ]
        )
    try:
        auth = loading.load_auth_from_conf_options(conf, GROUP)
        session = loading.load_session_from_conf_options(conf, GROUP, auth=auth)
        adapter = loading.load_adapter_from_conf_options(conf, GROUP, session=session, auth=auth)
    except ksa_exceptions.MissingRequiredOptions as error:
        names = ", ".join(option.dest for option in error.options)
        raise ConfigError([f"[placement] lacks what auth_type {conf[GROUP].auth_type} needs: {names}."]) from error
    except ksa_exceptions.NoMatchingPlugin as error:
        raise ConfigError([f"[placement]auth_type names no plugin that is installed: {error.name}."]) from error
    except (ksa_exceptions.ClientException, cfg.Error, ValueError, TypeError) as error:
        raise ConfigError([f"[placement] cannot be used: {' '.join(str(error).split()).rstrip('.')}."]) from error
    return PlacementClient(adapter)
