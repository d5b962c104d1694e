"""Options of the group [hook]: the socket on which libvirt's hook asks the agent."""

from oslo_config import cfg

group = cfg.OptGroup("hook", title="How libvirt's hook reaches the agent")

opts = [
    cfg.StrOpt(
        "socket",
        default="/run/usb-provider/hook.sock",
        help="""
The agent's unix socket. "usb-provider install-hook" writes it into the hook, so run that again after a change.

Possible values:

* A path of at most 107 characters, such as ``/run/usb-provider/hook.sock``. In Kolla the directory is mounted into
  the libvirt container as well.
""",
    ),
    cfg.FloatOpt(
        "timeout",
        default=30.0,
        min=0.5,
        max=30.0,
        help="""
Seconds that one call of the hook may take. It delays the start of a guest by that time at most, and only where the
guest needs the agent's word: while the agent restarts, or until it has read Placement for the first time, as after a
power cut. "usb-provider install-hook" writes it into the hook, so run that again after a change.

libvirt waits for a hook without a limit, and Nova waits for libvirt without one. Two limits remain. libvirtd reads
nothing from a client that has ``max_client_requests`` (5) calls under way, and it closes a connection from which it has
read nothing for ``keepalive_interval`` times ``keepalive_count`` + 1 seconds (5 times 6 = 30); nova-compute is one
client. Where five servers with devices may start at once on a host, raise ``max_client_requests`` in libvirtd.conf (or
virtqemud.conf), or lower this option. And when nova-compute starts, it resumes its servers one after the other, and it
takes no requests until it has tried all of them.

Possible values:

* A number of seconds from 0.5 to 30, such as ``10``.
""",
    ),
    cfg.StrOpt(
        "socket_owner",
        help="""
User that owns the socket and may ask on it, beside root and the agent's own user.

Possible values:

* The name of a user, such as ``libvirt-qemu``.
* Unset: the agent's user.
""",
    ),
    cfg.StrOpt(
        "socket_group",
        help="""
Group of the socket, whose mode is 0660. Its members may also ask, whether it is their primary group or not.

Possible values:

* The name of a group, such as ``libvirt``.
* Unset: the socket has the agent's group, and the agent does not answer its members.
""",
    ),
]
