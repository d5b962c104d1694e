"""The real ``openstack`` in a process of its own, as its installed script starts it."""

import sys

from openstackclient import shell

if __name__ == "__main__":
    sys.exit(shell.main(sys.argv[1:]))
