"""The agent's memory, idle CPU and latency, as JSON. Run by bench.py, under umockdev-wrapper.

A host of made-up devices, a Placement and an agent, each real and in a process of its own but for the devices, which
udev shows to both this process and the agent.
"""

import contextlib
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import requests

from usb_provider.demo.description import usb_device
from usb_provider.demo.embedded import EMBEDDED_MICROVERSION, EmbeddedPlacement
from usb_provider.demo.testbed import Testbed

PORTS = 10
KEY, PROBE = "CUSTOM_USB_KEY", "CUSTOM_USB_PROBE"
CONFIGURATION = """\
[DEFAULT]
log_file = {directory}/agent.log
[agent]
root_provider_uuid = {root}
state_dir = {directory}/state
start_spread = 0
[usb]
device_spec = {{"vendor_id": "1050", "resource_class": "CUSTOM_USB_KEY"}}
device_spec = {{"vendor_id": "0781", "resource_class": "CUSTOM_USB_PROBE"}}
[placement]
auth_type = admin_token
endpoint = {endpoint}
token = {token}
[libvirt]
enabled = {has_libvirt}
connection_uri = test:///default
[hook]
socket = {directory}/hook.sock
"""


def key(number: int) -> str:
    """A security key with two interfaces; ten to a bus, one bus to a controller."""
    bus, port = number // PORTS + 1, number % PORTS + 1
    return usb_device(
        "1050",
        "0407",
        serial=f"{number:08}",
        manufacturer="Yubico",
        product="YubiKey OTP+FIDO+CCID",
        bus=bus,
        port=str(port),
        devnum=port + 1,
        speed="12",
        interfaces=(("03", "01", "01"), ("0b", "00", "00")),
        controller=f"0000:00:{bus:02x}.0",
    )


class Scheduler:
    """What could be given away now, as nova-scheduler asks it."""

    def __init__(self, placement: EmbeddedPlacement, root: str) -> None:
        self._url = f"{placement.endpoint}/allocation_candidates?in_tree={root}&resources="
        self._session = requests.Session()
        self._session.headers["X-Auth-Token"] = placement.token
        self._session.headers["OpenStack-API-Version"] = f"placement {EMBEDDED_MICROVERSION}"

    def offers(self, resource_class: str) -> int:
        """How many devices of the class."""
        answer = self._session.get(f"{self._url}{resource_class}:1")
        return len(answer.json()["allocation_requests"]) if answer.ok else 0

    def wait(self, what: Callable[[], bool], begun: float, pause: float = 0.01) -> float:
        """How many milliseconds pass from *begun* until *what*."""
        while not what():
            if time.perf_counter() - begun > 120:
                sys.exit("Nothing happened for two minutes; is the agent well?")
            time.sleep(pause)
        return (time.perf_counter() - begun) * 1000


@contextlib.contextmanager
def running_agent(directory: Path, placement: EmbeddedPlacement, root: str) -> Iterator[psutil.Process]:
    """An agent; its standard streams and its log are files in *directory*."""
    configuration = directory / "usb-provider.conf"
    configuration.write_text(
        CONFIGURATION.format(
            directory=directory,
            root=root,
            endpoint=placement.endpoint,
            token=placement.token,
            has_libvirt=importlib.util.find_spec("libvirt") is not None,
        )
    )
    command = [sys.executable, "-m", "usb_provider.cmd.main", "--config-file", str(configuration), "agent"]
    with (directory / "agent.out").open("wb") as output:
        agent = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            yield psutil.Process(agent.pid)
        finally:
            agent.terminate()
            agent.wait(60)


def measure(count: int, idle_seconds: float, plugs: int) -> dict[str, float]:
    """With *count* devices: memory and CPU over *idle_seconds*, and the latency of *plugs* further ones."""
    with (
        tempfile.TemporaryDirectory(prefix="usb-provider-bench-") as name,
        EmbeddedPlacement.start(Path(name) / "placement") as placement,
        Testbed.create() as host,
    ):
        root = placement.create_root("host1")
        for number in range(count):
            host.add(key(number))
        scheduler = Scheduler(placement, root)
        with running_agent(Path(name), placement, root) as agent:
            scheduler.wait(lambda: scheduler.offers(KEY) == count, time.perf_counter(), 0.5)
            time.sleep(2)
            before, started = agent.cpu_times(), time.monotonic()
            time.sleep(idle_seconds)
            after, seconds = agent.cpu_times(), time.monotonic() - started
            cpu = abs(after.user + after.system - before.user - before.system) / seconds * 100
            memory = agent.memory_info().rss / 2**20
            plugged, unplugged = [], []
            for number in range(plugs):
                # Another device at each plug, as far as Placement knows: the whole of create, traits and inventory.
                probe = usb_device("0781", "5581", serial=f"P{number}", bus=1, port="15", controller="0000:00:01.0")
                begun = time.perf_counter()
                path = host.add(probe)
                plugged.append(scheduler.wait(lambda: scheduler.offers(PROBE) == 1, begun))
                begun = time.perf_counter()
                host.unplug(path)
                unplugged.append(scheduler.wait(lambda: scheduler.offers(PROBE) == 0, begun))
                time.sleep(0.3)
    return {
        "memory": memory,
        "cpu": cpu,
        **_percentiles("plug", plugged),
        **_percentiles("unplug", unplugged),
    }


def _percentiles(name: str, values: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    return {f"{name}_p50": statistics.median(values), f"{name}_p95": cuts[-1]}


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))))
