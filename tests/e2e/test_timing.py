"""How long a server with a device takes, beside one without, in one run."""

import statistics
import time

from tests.e2e.lab.cloud import Cloud, eventually

RUNS = 3


def test_a_device_costs_a_server_little_time(cloud: Cloud) -> None:
    cloud.stick("A1")
    plain = cloud.flavor("plain", {"hw:usb_model": "qemu-xhci"})
    usb = cloud.flavor("usb")
    active: dict[str, list[float]] = {plain: [], usb: []}
    in_guest: list[float] = []
    for _ in range(RUNS):
        for flavor in (plain, usb):
            started = time.monotonic()
            server = cloud.create("timed", flavor=flavor)
            cloud.becomes(server, "ACTIVE")
            active[flavor].append(time.monotonic() - started)
            if flavor == usb:
                eventually(lambda server=server: cloud.compute.serials(server), ["A1"])
                in_guest.append(time.monotonic() - started)
            cloud.delete(server)
    without, with_device = (statistics.median(active[each]) for each in (plain, usb))
    there = statistics.median(in_guest)
    print(f"\nserver create until …       seconds (median of {RUNS})   ratio")
    print(f"ACTIVE, without a device    {without:7.1f}                 1.00")
    print(f"ACTIVE, with a device       {with_device:7.1f}                 {with_device / without:.2f}")
    print(f"device alive in the guest   {there:7.1f}                 {there / without:.2f}")
    assert with_device / without < 2
    assert there / without < 3
