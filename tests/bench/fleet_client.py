"""The real ``openstack`` in a process of its own, as its installed script starts it.

It writes its largest resident memory, in MiB, to the file that its first argument names. The system's count for a
child that has ended is at least the parent's memory, so this process reads its own.
"""

import sys
from pathlib import Path

from openstackclient import shell


def peak() -> float:
    """The largest resident memory of this program so far, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    code = 1
    try:
        code = shell.main(sys.argv[2:])
    except SystemExit as ended:  # --help
        code = int(ended.code or 0)
    finally:
        Path(sys.argv[1]).write_text(f"{peak():.1f}")
    sys.exit(code)
