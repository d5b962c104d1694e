"""Options of the group [metrics]: where Prometheus finds the agent's figures."""

from oslo_config import cfg

group = cfg.OptGroup("metrics", title="Where Prometheus finds the agent's figures")

opts: list[cfg.Opt] = [
    cfg.ListOpt(
        "listen",
        default=[],
        help="""
Addresses on which the agent answers Prometheus, at ``/metrics``. There is no password and no TLS, so choose addresses
that only the monitoring can reach. Needs the extra ``usb-provider[metrics]``.

Possible values:

* Unset: there is no endpoint.
* ``ADDRESS:PORT``, or several, separated by commas: ``192.0.2.7:9753``, ``127.0.0.1:9753, [::1]:9753``. An IPv6
  address stands in brackets. ``0.0.0.0`` is every IPv4 address, ``[::]`` every IPv6 address.
""",
    ),
]
