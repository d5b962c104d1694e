"""Pools and bundles in real guests: spares take over, guests that move find as many, and a bundle comes as a whole."""

import functools
import json
from collections.abc import Mapping

from tests.fixtures.healed import Healed
from tests.integration.lab import domains
from tests.integration.lab.agent import QUICK, STICKS, UNIT
from tests.integration.lab.cloud import Cloud
from tests.integration.lab.pair import Pair
from tests.integration.lab.report import eventually

POOLED = dict(STICKS, pool="sticks")
DESK = [dict(STICKS, serial=serial, bundle="desk") for serial in ("DONGLE", "READER")]
SPARE_SECONDS = 3.0
"""A spare is in the guest so long after a member of its pool was unplugged."""


def offer(cloud: Cloud, *rules: Mapping[str, object]) -> None:
    """Have the agent go by *rules*."""
    cloud.agent.configure(rules, options=QUICK)
    cloud.agent.restart()


def has_units(cloud: Cloud, provider: str, total: int, *, reserved: int = 0) -> None:
    """Pass when Placement has so many units of the provider, of which so many are reserved."""
    eventually(
        lambda: [(each["total"], each["reserved"]) for each in cloud.placement.inventory(provider).values()],
        [(total, reserved)],
    )


def how_many(cloud: Cloud, name: str) -> int:
    """How many sticks the guest has."""
    return len(cloud.has(name))


def seconds_to_spare(cloud: Cloud) -> float:
    """From the kernel's word that a device is gone to the agent's that the spare is attached, by the host's clock."""

    def last(words: str, said: str) -> float:
        lines = cloud.vm.ssh(f"journalctl --no-pager --output=short-unix --since=-2min {words}").splitlines()
        return [float(line.split()[0]) for line in lines if said in line][-1]

    return last(f"--unit={UNIT}", '"event": "attach"') - last("--dmesg", "USB disconnect")


def waits_for(cloud: Cloud, name: str) -> list[str]:
    """Why devices of the guest wait, as "usb-provider status" says it."""
    guests = json.loads(cloud.agent.run("status", "--json"))
    (guest,) = [each for each in guests if each["uuid"] == domains.uuid_of(name)]
    return [each["reason"] for each in guest["devices"] if each["state"] == "waiting"]


def test_of_three_like_sticks_in_a_pool_the_spare_takes_over_for_one_that_is_unplugged(
    cloud: Cloud, healed: Healed
) -> None:
    offer(cloud, POOLED)
    for serial in ("A", "B", "C"):
        cloud.vm.plug(serial, serial=serial)
    pool = cloud.group("pool", "sticks")
    has_units(cloud, pool, 3)
    for name in ("one", "two"):
        cloud.claim(name, pool)
        cloud.boot(name)
        eventually(functools.partial(how_many, cloud, name), 1)
    (first,), (second,) = cloud.has("one"), cloud.has("two")
    (spare,) = {"A", "B", "C"} - {first, second}

    with healed.within("a member of a pool is unplugged that a guest has: a free member is in the guest"):
        cloud.vm.unplug(first)
        cloud.comes_to_have("one", spare)
    took = seconds_to_spare(cloud)
    print(f"the spare was attached {took:.2f} s after the kernel had noticed the unplug")
    assert took <= SPARE_SECONDS
    assert cloud.has("two") == [second]
    has_units(cloud, pool, 2)

    cloud.vm.plug(first, serial=first)
    has_units(cloud, pool, 3)
    cloud.agent.restart()
    cloud.vm.ssh("sleep 3")
    assert (cloud.has("one"), cloud.has("two")) == ([spare], [second]), "each keeps what it has"


def test_a_guest_with_two_units_of_a_pool_moves_live_to_a_host_where_it_holds_two(pair: Pair) -> None:
    for cloud, serials in ((pair.source, ("HERE-1", "HERE-2")), (pair.destination, ("THERE-1", "THERE-2"))):
        offer(cloud, POOLED)
        for serial in serials:
            cloud.vm.plug(serial, serial=serial)
    here, there = pair.source.group("pool", "sticks"), pair.destination.group("pool", "sticks")
    for cloud, pool in ((pair.source, here), (pair.destination, there)):
        has_units(cloud, pool, 2)
    pair.source.claim("vm", here, units=2)
    pair.source.boot("vm")
    pair.source.comes_to_have("vm", "HERE-1", "HERE-2")

    pair.move("vm", [here], [there], units=2)
    pair.destination.comes_to_have("vm", "THERE-1", "THERE-2")
    assert not domains.is_running(pair.source.vm, "vm")
    eventually(lambda: pair.source.placement.used(here), 0)
    pair.source.claim("heir", here, units=2)
    pair.source.boot("heir")
    pair.source.comes_to_have("heir", "HERE-1", "HERE-2")


def test_a_bundle_of_two_comes_as_a_whole_and_what_is_missing_is_named(cloud: Cloud) -> None:
    offer(cloud, *DESK)
    cloud.vm.plug("DONGLE", serial="DONGLE")
    cloud.vm.ssh("sleep 3")
    assert not [name for name in cloud.placement.providers(cloud.root) if "bundle" in name], "one of two is no bundle"
    cloud.vm.plug("READER", serial="READER")
    bundle = cloud.group("bundle", "desk")
    cloud.claim("vm", bundle)
    cloud.vm.unplug("READER")
    has_units(cloud, bundle, 1, reserved=1)
    said = cloud.refused("vm")
    assert "USB bundle testhost_usb_bundle_desk is allocated to this instance, but" in said
    assert "46f4:0001:READER of it is not plugged in" in said

    cloud.vm.plug("READER", serial="READER")
    has_units(cloud, bundle, 1)
    cloud.boot("vm")
    cloud.comes_to_have("vm", "DONGLE", "READER")

    cloud.vm.unplug("READER")
    cloud.comes_to_have("vm", "DONGLE")
    eventually(lambda: waits_for(cloud, "vm"), ["46f4:0001:READER of it is not plugged in"])
    cloud.vm.plug("READER", serial="READER")
    cloud.comes_to_have("vm", "DONGLE", "READER")
