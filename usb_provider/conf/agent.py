"""Options of the group [agent]: the root provider, and when the agent looks for changes."""

from oslo_config import cfg

group = cfg.OptGroup("agent", title="What the agent reports below, and when")

opts = [
    cfg.StrOpt(
        "root_provider_uuid",
        help="""
UUID of nova's compute node resource provider, below which the devices of this host are reported.

Leave it unset where the agent can read ``compute_id_file``: nova keeps the same UUID there.

Possible values:

* A UUID, such as ``4e8e5957-649f-477b-9e5b-f1f75b21c03c``.
* Unset: the agent reads ``compute_id_file``, then looks up ``root_provider_name``.
""",
    ),
    cfg.StrOpt(
        "root_provider_name",
        help="""
Name of nova's compute node resource provider, for hosts where no UUID is known.

Possible values:

* The hypervisor hostname that ``openstack hypervisor list`` shows, such as ``compute1.example.org``.
* Unset: the agent looks up this host's name as libvirt gives it to nova, then its short name.
""",
    ),
    cfg.BoolOpt(
        "root_name_may_differ",
        default=False,
        help="""
Report below a compute node provider whose name is neither libvirt's name of this host nor one of its own.

Nova names the provider after libvirt's host name. So another name means that ``compute_id_file`` or an option above is
another host's, as after copying a disk or a configuration, and the agent writes nothing and detaches nothing. The
domain makes no difference.

Possible values:

* False: say so, and wait until it is corrected.
* True: this host's compute node has another name.
""",
    ),
    cfg.StrOpt(
        "compute_id_file",
        default="/var/lib/nova/compute_id",
        help="""
File in which nova-compute keeps its node's UUID, ``<state_path>/compute_id`` of nova.conf.

The agent reads it again at every pass. A missing file is no mistake.

Possible values:

* A path, such as ``/var/lib/nova/compute_id``.
""",
    ),
    cfg.IntOpt(
        "resync_interval",
        default=60,
        min=1,
        max=86_400,
        mutable=True,
        help="""
Seconds after which the agent compares everything again, though nothing seems to have changed.

Such a pass costs one request to Placement when nothing has changed.

Possible values:

* A whole number of seconds from 1 to 86400, such as ``60``.
""",
    ),
    cfg.FloatOpt(
        "debounce",
        default=0.2,
        min=0.0,
        max=10.0,
        mutable=True,
        help="""
Seconds without a further udev event for which the agent waits before it acts on an event, so that a hub with twenty
devices costs one pass.

Possible values:

* A number of seconds from 0 to 10, such as ``0.2``. A storm of events delays a pass by ten times this at most.
""",
    ),
    cfg.IntOpt(
        "start_spread",
        default=30,
        min=0,
        max=3600,
        help="""
Seconds over which the agents of many hosts that boot together, as after a power cut, spread their first passes.

In the first ten minutes after the boot of its host, an agent that starts waits for a random time of at most so many
seconds before its first pass. It ends the wait at once when a server starts on the host, a device is unplugged, or
``usb-provider status`` asks. Later than that, an agent begins with a pass.

Possible values:

* 0: always begin with a pass.
* A whole number of seconds up to 3600. 10,000 hosts make 2000 requests a second when it is ``30``.
""",
    ),
    cfg.IntOpt(
        "purge_absent_after",
        default=0,
        min=0,
        max=315_360_000,
        mutable=True,
        help="""
Seconds after which the agent deletes the provider of a device that is unplugged and that no consumer holds.

The agent does this in two steps, since every build on a host fails while nova-compute has a deleted provider in its
cache: it takes the provider out of the host's tree, and deletes it ``purge_wait`` seconds later. This needs a Placement
of Xena or newer; with an older one the agent deletes nothing. Without an inventory an absent provider does no harm, so
the default is to keep it.

Possible values:

* 0: never delete.
* A whole number of seconds, such as ``2592000`` for 30 days; ten years at most.
""",
    ),
    cfg.IntOpt(
        "purge_wait",
        default=360,
        min=0,
        mutable=True,
        help="""
Seconds between the two steps of ``purge_absent_after``. It has to be longer than nova-compute's
``[compute]resource_provider_association_refresh``, which is 300 by default. Where that is 0, nova-compute reads its
cache anew only when it restarts: restart it within this time, or leave ``purge_absent_after`` at 0.

Possible values:

* A whole number of seconds. After a restart the agent waits for the whole time again.
""",
    ),
    cfg.IntOpt(
        "max_providers",
        default=500,
        min=1,
        max=100_000,
        mutable=True,
        help="""
How many providers the agent may have below the compute node, those of absent devices included.

A device can show another serial number at each plug, and gets a provider each time. At the limit the agent creates no
further one, and says so; the devices that have a provider are reported as before.

Possible values:

* A whole number, such as ``500``: some times the number of devices that the host ever has.
""",
    ),
    cfg.StrOpt(
        "state_dir",
        default="/var/lib/usb-provider",
        help="""
Directory for the agent's own state, three small files: the names of traits that device_spec rules have given, which
device the agent last saw in which port, and to which plug of its device each hostdev is attached. If the agent cannot
read or write it, it reports and attaches devices all the same.

Possible values:

* The path of a directory that the agent may create or write, such as ``/var/lib/usb-provider``.
""",
    ),
]
