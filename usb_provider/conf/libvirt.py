"""Options of the group [libvirt]: the hypervisor that guests' devices are attached through."""

from oslo_config import cfg

group = cfg.OptGroup("libvirt", title="How devices reach their guests")

opts = [
    cfg.BoolOpt(
        "enabled",
        default=True,
        help="""
Attach devices to the guests that hold them. If it is false, the agent only reports devices, and attaches none.

Possible values:

* ``true`` or ``false``.
""",
    ),
    cfg.StrOpt(
        "connection_uri",
        default="qemu:///system",
        help="""
Where libvirt answers, as in nova.conf.

Possible values:

* A libvirt URI, such as ``qemu:///system``, or ``qemu+unix:///system?socket=/run/libvirt/libvirt-sock``.
""",
    ),
    cfg.IntOpt(
        "attach_timeout",
        default=40,
        min=1,
        max=3600,
        help="""
Seconds after which an operation on one guest no longer delays the others. libvirt itself gives up after 31 seconds
while a migration locks the guest.

Possible values:

* A whole number of seconds from 1 to 3600, such as ``40``.
""",
    ),
    cfg.IntOpt(
        "detach_timeout",
        default=20,
        min=1,
        max=3600,
        help="""
Seconds to wait until a guest has released a device; then the agent tries the detach again.

Possible values:

* A whole number of seconds from 1 to 3600, such as ``20``.
""",
    ),
]
