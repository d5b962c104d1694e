"""A neighbour that hangs stops its own loop of the agent and nothing else, and the agent can always be ended."""

import contextlib
import re
import time
from collections.abc import Iterator

import pytest

from tests.integration.lab import domains
from tests.integration.lab.agent import UNIT
from tests.integration.lab.cloud import Cloud
from tests.integration.lab.report import eventually

DROP_IN = f"/etc/systemd/system/{UNIT}.d/watchdog.conf"


@contextlib.contextmanager
def stopped(cloud: Cloud, process: str) -> Iterator[None]:
    """While in the context, *process* accepts connections and answers nothing."""
    cloud.vm.ssh(f"pkill -STOP -x {process}")
    try:
        yield
    finally:
        cloud.vm.ssh(f"pkill -CONT -x {process}")


def seconds_to_report(cloud: Cloud, serial: str) -> float:
    """Unplug the stick and give the time from the kernel's word of it to the agent's first write to Placement."""
    since = cloud.vm.ssh("date +%s.%N").strip()
    cloud.vm.unplug(serial)
    eventually(lambda: cloud.schedulable(serial), False)
    text = cloud.vm.ssh(f"journalctl --no-pager --output=short-unix --since=@{since}")
    moments = [
        float(line.split(" ", 1)[0])
        for what in (r"kernel: usb .*USB disconnect", rf"Placement: set inventory of \S*{serial}")
        for line in text.splitlines()
        if re.search(what, line)
    ]
    assert len(moments) >= 2, text
    return moments[-1] - moments[0]


@pytest.mark.core
def test_an_unplug_is_reported_within_a_second_while_libvirtd_answers_nothing_for_minutes(cloud: Cloud) -> None:
    # As often as it looks by default: a look that happens to be under way is not what is measured.
    cloud.agent.configure()
    cloud.agent.reload()
    for port, serial in enumerate(("STICK-1", "STICK-2", "STICK-3", "STICK-4"), start=1):
        cloud.stick(serial, port=str(port))
    cloud.claim("vm", cloud.provider("STICK-1"))
    cloud.boot("vm")
    cloud.comes_to_have("vm", "STICK-1")
    with stopped(cloud, "libvirtd"):
        took = [seconds_to_report(cloud, "STICK-2")]
        # The guest's own stick is unplugged and comes back while libvirtd can do nothing about it.
        cloud.vm.unplug("STICK-1")
        cloud.vm.plug("STICK-1", serial="STICK-1", port="1")
        time.sleep(75)  # past libvirt's keepalive, so that a connection has to be opened, which hangs too
        took.append(seconds_to_report(cloud, "STICK-3"))
        time.sleep(45)
        took.append(seconds_to_report(cloud, "STICK-4"))
    assert max(took) < 1, took
    cloud.comes_to_have("vm", "STICK-1")


def test_the_agent_ends_in_ten_seconds_while_libvirtd_and_placement_answer_nothing(cloud: Cloud) -> None:
    cloud.claim("vm", cloud.stick("STICK-1"))
    cloud.boot("vm")
    cloud.comes_to_have("vm", "STICK-1")
    with stopped(cloud, "libvirtd"):
        time.sleep(5)
        began = time.monotonic()
        cloud.agent.stop()
        assert time.monotonic() - began < 10
    cloud.agent.start()
    cloud.comes_to_have("vm", "STICK-1")


def test_systemd_restarts_an_agent_of_which_a_loop_hangs(cloud: Cloud) -> None:
    """A named pipe in the place of a file that a reporting pass reads: the pass waits for ever."""
    cloud.claim("vm", cloud.stick("STICK-1"))
    cloud.boot("vm")
    cloud.comes_to_have("vm", "STICK-1")
    cloud.vm.put("[Service]\nWatchdogSec=20\n", DROP_IN)
    try:
        cloud.vm.ssh("systemctl daemon-reload")
        cloud.agent.restart()
        pid = cloud.vm.ssh(f"systemctl show --property=MainPID --value {UNIT}")
        cloud.vm.ssh("cd /var/lib/nova && mv compute_id was && mkfifo compute_id && chmod 644 compute_id")
        began = time.monotonic()
        eventually(lambda: cloud.vm.ssh(f"systemctl show --property=NRestarts --value {UNIT}").strip() != "0", True, 90)
        assert time.monotonic() - began > 15
        assert "watchdog" in cloud.vm.ssh(f"journalctl --no-pager --output=cat --lines=50 --unit={UNIT}").lower()
        cloud.vm.ssh("cd /var/lib/nova && rm compute_id && mv was compute_id")
        cloud.vm.wait_for(f"systemctl is-active {UNIT}", 120)
        assert cloud.vm.ssh(f"systemctl show --property=MainPID --value {UNIT}") != pid
        cloud.comes_to_have("vm", "STICK-1")
        assert domains.is_running(cloud.vm, "vm")
    finally:
        cloud.vm.ssh(f"rm -f {DROP_IN}; cd /var/lib/nova; [ -e was ] && mv was compute_id; systemctl daemon-reload")


def test_eight_guests_that_hang_keep_no_other_guest_waiting(cloud: Cloud) -> None:
    """Each has a stick that is unplugged while its QEMU stands still, so that each detach waits in libvirt."""
    sick = [f"sick-{number}" for number in range(1, 9)]
    for number, name in enumerate(sick, start=1):
        cloud.claim(name, cloud.stick(name.upper(), port=str(number)))
        cloud.boot(name)
    for name in sick:
        cloud.comes_to_have(name, name.upper())
    cloud.vm.ssh("pkill -STOP -f guest=sick")
    try:
        for name in sick:
            cloud.vm.unplug(name.upper())
        cloud.vm.ssh("sleep 5")
        cloud.claim("vm", cloud.stick("STICK-1", bus="xhci2"))
        cloud.boot("vm")
        cloud.comes_to_have("vm", "STICK-1", seconds=20)
    finally:
        cloud.vm.ssh("pkill -CONT -f guest=sick")
    for name in sick:
        cloud.comes_to_have(name)
