"""All option groups together, for the program and for the generated sample."""

from oslo_config import cfg

from usb_provider.conf import agent, hook, libvirt, metrics, placement, reports, usb

_GROUPS = (agent, usb, placement, libvirt, hook, metrics, reports)


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Declare every option of ours on *conf*."""
    for module in _GROUPS:
        module.register_opts(conf)


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """Every group with its options; the entry point that oslo-config-generator calls."""
    return [pair for module in _GROUPS for pair in module.list_opts()]
