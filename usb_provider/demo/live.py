"""What stays after the show: it follows the hardware, and plugs recorded devices as they are typed."""

import sys
import threading

from usb_provider.agent.reporter import Reporter
from usb_provider.demo.show import Show
from usb_provider.demo.testbed import Testbed
from usb_provider.exception import UsbProviderError
from usb_provider.host.udev import UdevHost


def stay(show: Show, report: Reporter, host: UdevHost, bed: Testbed | None) -> None:
    """Follow the hardware until interrupted."""
    changed = threading.Event()
    watcher = host.watch(lambda urgent: changed.set())
    show.heading("Live: changes appear here; Ctrl-C ends it")
    if bed is not None:
        show.say("Type: unplug NAME, plug NAME, or list.")
        threading.Thread(target=_hands, args=(show, bed), daemon=True).start()
    try:
        while True:
            done = report.run()
            if done.actions:
                show.changes(done)
            changed.wait(timeout=10)
            while changed.is_set():
                changed.clear()
                changed.wait(timeout=0.2)
    finally:
        watcher.stop()


def _hands(show: Show, bed: Testbed) -> None:
    """Do what is typed to the recorded devices."""
    for line in sys.stdin:
        words = line.split()
        try:
            match words:
                case ["unplug", name]:
                    bed.unplug(name)
                case ["plug", name]:
                    bed.plug(name)
                case ["list"]:
                    show.say("plugged in: " + " ".join(sorted(bed.plugged)))
                case []:
                    pass
                case _:
                    show.say("Type: unplug NAME, plug NAME, or list.")
        except UsbProviderError as error:
            show.say(str(error), "red")
