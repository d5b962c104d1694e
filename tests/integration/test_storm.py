"""Eight sticks behind a hub come and go twenty times while guests start and stop; at the end all is as allocated."""

import random

from tests.integration.lab import domains
from tests.integration.lab.cloud import Cloud
from tests.integration.lab.report import eventually
from tests.integration.lab.vm import CommandFailed

STICKS = [f"STORM-{number}" for number in range(8)]
GUESTS = ["anna", "berta", "clara"]
ROUNDS = 20


def test_a_storm_ends_with_every_stick_where_its_allocation_is(cloud: Cloud) -> None:
    chance = random.Random(20)
    vm = cloud.vm
    vm.plug("hub", "usb-hub", port="1")
    places = {serial: f"1.{number + 1}" for number, serial in enumerate(STICKS)}
    providers = {serial: cloud.stick(serial, port=places[serial]) for serial in STICKS}
    for name, serials in zip(GUESTS, (STICKS[0:2], STICKS[2:4], STICKS[4:5]), strict=True):
        cloud.claim(name, *(providers[serial] for serial in serials))
        domains.define(vm, domains.domain_xml(name, linux=False))
    for number in range(ROUNDS):
        gone = chance.sample(STICKS, 4)
        for serial in gone:
            vm.unplug(serial)
        _toggle(cloud, chance.choice(GUESTS))
        _never_in_two_guests(cloud)
        for serial in gone:
            vm.plug(serial, serial=serial, port=places[serial])
        if number % 4 == 0:
            _never_in_two_guests(cloud)
    eventually(lambda: all(cloud.schedulable(serial) for serial in STICKS), True, 120)
    for name in GUESTS:
        if not domains.is_running(vm, name):
            domains.start(vm, name)
    cloud.comes_to_have("anna", *STICKS[0:2], seconds=180)
    cloud.comes_to_have("berta", *STICKS[2:4], seconds=180)
    cloud.comes_to_have("clara", *STICKS[4:5], seconds=180)


def _toggle(cloud: Cloud, name: str) -> None:
    if domains.is_running(cloud.vm, name):
        domains.destroy(cloud.vm, name)
        return
    try:
        domains.start(cloud.vm, name)
    except CommandFailed as error:
        assert "not plugged in" in error.output or "still processing it" in error.output, error.output


def _never_in_two_guests(cloud: Cloud) -> None:
    places: list[tuple[int | None, int | None]] = []
    for name in GUESTS:
        if domains.is_running(cloud.vm, name):
            places += [(hostdev.bus, hostdev.device) for hostdev in domains.hostdevs(cloud.vm, name)]
    assert len(places) == len(set(places)), places
