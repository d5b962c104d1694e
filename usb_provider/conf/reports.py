"""The one option of the group [oslo_reports] that we use: where the agent writes its Guru Meditation Report.

Named as in every OpenStack service; declared here so that the library is loaded only when a report is asked for.
"""

from oslo_config import cfg

group = cfg.OptGroup("oslo_reports", title="Where the agent writes its report at SIGUSR2")

opts: list[cfg.Opt] = [
    cfg.StrOpt(
        "log_dir",
        help="""
Directory in which the agent writes a file with its Guru Meditation Report when it gets SIGUSR2.

Possible values:

* The path of a directory that the agent may write, such as ``/var/log/usb-provider``.
* Unset: ``[DEFAULT]log_dir`` where that is set, otherwise standard error, which goes to the journal.
""",
    ),
]
