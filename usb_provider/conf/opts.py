"""All option groups together: declared for the program, and listed for the generated sample.

The modules beside this one only say which options there are; load.py reads their values.
"""

from oslo_config import cfg

from usb_provider.conf import agent, hook, libvirt, metrics, reports, usb

OWN_GROUPS = (agent, usb, libvirt, hook, metrics, reports)
"""The modules of this project's own groups, each with a ``group`` and its ``opts``."""


def register_opts(conf: cfg.ConfigOpts, *, with_placement: bool = True) -> None:
    """Declare every option of ours on *conf*; without *with_placement*, none of [placement]."""
    for module in OWN_GROUPS:
        conf.register_group(module.group)
        conf.register_opts(module.opts, module.group)
    if with_placement:
        # Its options are keystoneauth's, which takes longer to load than all the rest.
        from usb_provider.conf import placement

        placement.register(conf)


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """Every group with its options; the entry point that oslo-config-generator calls."""
    from usb_provider.conf import placement

    return [*((module.group, module.opts) for module in OWN_GROUPS), (placement.group, placement.listed())]
