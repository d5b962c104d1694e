"""What the hook and the agent cost a start, as ratios taken in one run on one machine."""

import json
import shlex
import statistics

from tests.integration.lab import domains
from tests.integration.lab.cloud import Cloud
from tests.integration.lab.vm import Vm

HOOK = "/etc/libvirt/hooks/qemu.d/usb-provider"
RUNS = 15


_TIMER = """\
import json, statistics, subprocess, sys, time

commands, runs = json.loads(sys.argv[1]), int(sys.argv[2])
times = [[] for _ in commands]
for number in range(runs + 1):
    for taken, command in zip(times, commands):
        with open("/tmp/domain.xml") as xml:
            start = time.perf_counter()
            subprocess.run(command, stdin=xml, stdout=subprocess.DEVNULL, check=True)
            if number:
                taken.append(time.perf_counter() - start)
print(*(statistics.median(taken) for taken in times))
"""


def _seconds(vm: Vm, *commands: list[str]) -> list[float]:
    """The median wall time of each command, run in turns."""
    vm.put(_TIMER, "/tmp/timer.py")
    words = shlex.join(["python3", "/tmp/timer.py", json.dumps(commands), str(RUNS)])
    return [float(word) for word in vm.ssh(words, timeout=600).split()]


def test_an_operation_that_does_not_concern_us_costs_a_shell(cloud: Cloud) -> None:
    cloud.vm.put(domains.domain_xml("vm", linux=False), "/tmp/domain.xml")
    ours, shell = _seconds(cloud.vm, [HOOK, "vm", "start", "begin", "-"], ["sh", "-c", ":"])
    print(f"hook, irrelevant: {ours / shell:.2f} of sh -c :")
    assert ours / shell <= 3


def test_an_operation_that_concerns_us_costs_a_python(cloud: Cloud) -> None:
    cloud.vm.put(domains.domain_xml("vm", linux=False), "/tmp/domain.xml")
    ours, python = _seconds(
        cloud.vm,
        [HOOK, "vm", "started", "begin", "-"],
        ["python3", "-I", "-S", "-c", "import socket, json"],
    )
    print(f"hook, relevant: {ours / python:.2f} of python3 -I -S -c 'import socket, json'")
    assert ours / python <= 1.5


def test_the_stick_is_there_soon_after_the_start(cloud: Cloud) -> None:
    """From libvirt's "started" to attached, against a bare virsh attach-device of the same stick."""
    cloud.claim("vm", cloud.stick("STICK-1"))
    stick = domains.host_device(cloud.vm, "STICK-1")
    bare, ours = [], []
    for _ in range(5):
        cloud.boot("vm")
        cloud.comes_to_have("vm", "STICK-1")
        ours.append(cloud.audit("attach")[-1]["seconds"])
        domains.destroy(cloud.vm, "vm")
    cloud.release("vm")
    cloud.boot("bare", extra_specs={})
    cloud.vm.put(domains.hostdev_xml(stick, "ua-bare"), "/tmp/bare.xml")
    for _ in range(5):
        attach = "virsh -q attach-device bare /tmp/bare.xml --live >/dev/null"
        bare.append(float(cloud.vm.ssh(f"bash -c 'TIMEFORMAT=%R; {{ time {attach}; }} 2>&1'")))
        domains.detach(cloud.vm, "bare", stick, "ua-bare")
    ratio = statistics.median(ours) / statistics.median(bare)
    print(f"started to attached: {statistics.median(ours):.2f} s, {ratio:.1f} of a bare virsh attach-device")
    assert ratio < 10
