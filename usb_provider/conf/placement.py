"""Options of the group [placement]: keystoneauth's own, under the names that nova.conf has.

Only declares; openstack/session.py makes a transport of them.
"""

import copy

from keystoneauth1 import loading
from oslo_config import cfg

group = cfg.OptGroup("placement", title="How to reach Placement, and as whom")

# The sample shows the options of these plugins; keystoneauth declares those of the plugin that auth_type names.
_SHOWN_PLUGINS = ("password", "v3applicationcredential", "admin_token")

_REQUEST_SECONDS = 15


def _session_opts() -> list[cfg.Opt]:
    opts = copy.deepcopy(loading.get_session_conf_options())
    cfg.set_defaults(opts, timeout=_REQUEST_SECONDS)
    return list(opts)


def _adapter_opts() -> list[cfg.Opt]:
    opts = copy.deepcopy(loading.get_adapter_conf_options(include_deprecated=False))
    cfg.set_defaults(opts, service_type="placement", valid_interfaces=["internal", "public"])
    return list(opts)


def register(conf: cfg.ConfigOpts) -> None:
    """Declare the group's options on *conf*, those of the plugin that its auth_type names included."""
    # A new group each time: oslo.config keeps the options in the group, and which there are depends on auth_type.
    conf.register_group(cfg.OptGroup(group.name, group.title))
    conf.register_opts(_session_opts(), group)
    conf.register_opts(_adapter_opts(), group)
    loading.register_auth_conf_options(conf, group.name)


def listed() -> list[cfg.Opt]:
    """The group's options, for the sample configuration."""
    opts: dict[str, cfg.Opt] = {opt.name: opt for opt in [*_session_opts(), *_adapter_opts()]}
    for opt in loading.get_auth_common_conf_options():
        opts.setdefault(opt.name, opt)
    for plugin in _SHOWN_PLUGINS:
        for opt in loading.get_auth_plugin_conf_options(plugin):
            opts.setdefault(opt.name, opt)
    return [opts[name] for name in sorted(opts)]


def of_any_plugin() -> list[cfg.Opt]:
    """The options of every plugin that auth_type may name, which may stand in the section that auth_section names."""
    opts = list(loading.get_auth_common_conf_options())
    for plugin in loading.get_available_plugin_names():
        opts += loading.get_auth_plugin_conf_options(plugin)
    return opts
