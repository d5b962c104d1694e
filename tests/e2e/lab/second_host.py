"""Reports one recorded security key below a second compute node: ``umockdev-wrapper python second_host.py CONFIG``.

It stands for the agent of a host that this machine has no hardware for; what it runs is the product's own command.
"""

import sys

from usb_provider.cmd.main import main
from usb_provider.demo.recording import Recording, bundled
from usb_provider.demo.testbed import Testbed

if __name__ == "__main__":
    with Testbed.create() as host:
        host.load(Recording.read(bundled()), {"yubikey"})
        sys.exit(main(["--config-file", sys.argv[1], "sync"]))
