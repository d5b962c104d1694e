"""``openstack usb …`` about pools on a real Placement: units in listings and checks, and the drain of a member."""

import pytest

from placement_traits import MEMBER_DRAINED_PREFIX, STATE_SHORT
from tests.fixtures.openstack import KEY, Cloud, named
from usb_provider.model.reporting.provider import provider_uuid
from usb_provider.model.units.names import member_id
from usb_provider.osc.model.flavor import extra_specs_for

GOOD = {"hw:usb_model": "qemu-xhci"}
GOOD_HERE = {"hw__usb_model": "qemu-xhci"}
MEMBER = "1050:0407@0000:00:14.0-1"


@pytest.fixture
def pool(cloud: Cloud, root: str) -> str:
    """A pool of three on compute1."""
    uuid = cloud.device(root, "pool_hasp")
    cloud.operator.set_inventory(uuid, KEY, total=3, max_unit=3)
    return uuid


def hold(cloud: Cloud, pool: str, server: str, units: int) -> None:
    """Let *server* hold so many units."""
    cloud.placement.allocate(named(server), {pool: {KEY: units}})


def state_of(cloud: Cloud) -> str:
    """The pool's state in the listing."""
    (line,) = cloud.openstack("usb", "device", "list", "-f", "json").json
    assert line["Device"] == "pool_hasp"
    return str(line["State"])


def test_a_pool_is_free_until_its_last_unit_is_held(cloud: Cloud, pool: str) -> None:
    assert state_of(cloud) == "free"
    hold(cloud, pool, "vm1", 2)
    assert state_of(cloud) == "free"
    shown = cloud.openstack("usb", "device", "show", pool, "-f", "json").json
    assert (shown["units"], shown["units_held"]) == (3, 2)
    assert shown["reason"] == "Consumers hold 2 of its 3 units."
    assert cloud.openstack("usb", "device", "list", "--state", "allocated", "-f", "json").json != []
    hold(cloud, pool, "vm2", 1)
    assert state_of(cloud) == "allocated"


def test_a_flavor_for_a_pool_is_written_so_that_a_check_finds_nothing_wrong_with_it(cloud: Cloud, pool: str) -> None:
    words = ("--class", "key", "--count", "3", "--pool")
    made = cloud.openstack("usb", "flavor", "create", "usb-three", *words, "-f", "json").json
    assert made["properties"] == {f"resources:{KEY}": "3", **GOOD}
    answer = cloud.openstack("usb", "flavor", "check", "usb-three", "-f", "json").json
    assert answer["traps"] == []
    assert answer["hosts"] == ["compute1"]


def test_a_flavor_for_a_pool_with_a_trait_has_one_group(cloud: Cloud, pool: str) -> None:
    specs = extra_specs_for(KEY, 2, {"CUSTOM_USB_VENDOR_1050"}, pooled=True)
    assert specs == {f"resources_USB1:{KEY}": "2", "trait_USB1:CUSTOM_USB_VENDOR_1050": "required", **GOOD}


def test_a_check_says_that_no_pool_is_that_large(cloud: Cloud, pool: str) -> None:
    cloud.nova.flavor("usb", **{f"resources__{KEY}": "4", "hw__usb_model": "qemu-xhci"})
    answer = cloud.openstack("usb", "flavor", "check", "usb", "-f", "json")
    assert answer.json["traps"][0]["text"].startswith(f"No provider has 4: the largest pool of {KEY} has 3 units;")


def test_a_check_of_a_flavor_for_one_device_finds_nothing_wrong_with_it_while_all_devices_are_drained(
    cloud: Cloud, root: str
) -> None:
    single = cloud.device(root, "single")
    assert cloud.openstack("usb", "device", "set", "--drain", single).code == 0
    cloud.nova.flavor("usb", **{f"resources__{KEY}": "1", "hw__usb_model": "qemu-xhci"})
    answer = cloud.openstack("usb", "flavor", "check", "usb", "-f", "json").json
    assert (answer["schedulable"], answer["traps"]) == (False, [])
    assert "1 drained" in answer["reason"]


def test_a_check_tells_no_one_to_write_two_groups_while_a_pool_is_drained(cloud: Cloud, pool: str) -> None:
    assert cloud.openstack("usb", "device", "set", "--drain", pool).code == 0
    cloud.nova.flavor("usb", **{f"resources__{KEY}": "2", "hw__usb_model": "qemu-xhci"})
    answer = cloud.openstack("usb", "flavor", "check", "usb", "-f", "json").json
    assert (answer["schedulable"], answer["traps"]) == (False, [])
    assert answer["reason"] == f"1 host has a {KEY}; 0 of 1 units free (1 drained)."


def test_a_check_says_that_two_groups_get_no_two_units_of_one_pool(cloud: Cloud, pool: str) -> None:
    made = cloud.openstack("usb", "flavor", "create", "usb-two", "--class", "key", "--count", "2", "-f", "json")
    assert made.code == 0
    answer = cloud.openstack("usb", "flavor", "check", "usb-two", "-f", "json").json
    assert answer["schedulable"] is False
    (trap,) = answer["traps"]
    assert (trap["where"], trap["outcome"]) == ("group_policy", "perhaps")
    assert f"write resources:{KEY}=2" in trap["text"]
    cloud.nova.flavor("either", **{f"resources_USB{n}__{KEY}": "1" for n in (1, 2)}, group_policy="none", **GOOD_HERE)
    answer = cloud.openstack("usb", "flavor", "check", "either", "-f", "json").json
    assert (answer["hosts"], answer["traps"]) == (["compute1"], [])


def test_a_check_says_how_many_are_held_when_too_few_units_are_left(cloud: Cloud, pool: str) -> None:
    hold(cloud, pool, "vm1", 2)
    cloud.nova.flavor("usb", **{f"resources__{KEY}": "2", "hw__usb_model": "qemu-xhci"})
    answer = cloud.openstack("usb", "flavor", "check", "usb", "-f", "json").json
    assert (answer["schedulable"], answer["traps"]) == (False, [])
    assert answer["reason"].startswith(
        f"1 host has a {KEY}; 1 of 3 units free (2 allocated). No provider has 2 of them free. Held by "
    )


def test_one_member_is_drained_and_undrained(cloud: Cloud, root: str, pool: str) -> None:
    before = cloud.placement.traits(pool)
    mark = f"{MEMBER_DRAINED_PREFIX}{member_id(provider_uuid(root, MEMBER)).upper()}"
    drain = ("usb", "device", "set", "--member", MEMBER, pool)
    assert cloud.openstack(*drain, "--drain").code == 0
    assert cloud.placement.traits(pool) == before | {mark, STATE_SHORT}
    # Until the agent has counted its members.
    assert cloud.placement.inventory(pool)[KEY]["reserved"] == 1
    assert cloud.openstack(*drain, "--drain").code == 0
    assert cloud.placement.inventory(pool)[KEY]["reserved"] == 1
    assert cloud.openstack(*drain, "--undrain").code == 0
    assert cloud.placement.traits(pool) == before | {STATE_SHORT}
    assert "is not drained." in cloud.openstack(*drain, "--undrain").err


def test_a_drained_member_is_shown_and_its_digits_are_enough_to_undrain_it(cloud: Cloud, root: str, pool: str) -> None:
    digits = member_id(provider_uuid(root, MEMBER))
    done = cloud.openstack("usb", "device", "set", "--drain", "--member", MEMBER, pool)
    assert f"check on the host that {MEMBER} is drained" in done.err
    shown = cloud.openstack("usb", "device", "show", pool, "-f", "json").json
    assert shown["drained_members"] == [digits]
    assert shown["reason"] == "No consumer holds it. An operator drained 1 of its members."
    undrain = ("usb", "device", "set", "--undrain", "--member")
    assert f"is not drained; drained are {digits}." in cloud.openstack(*undrain, "1050:0407:other", pool).err
    assert cloud.openstack(*undrain, digits, pool).code == 0
    assert cloud.openstack("usb", "device", "show", pool, "-f", "json").json["drained_members"] == []


def test_the_key_of_a_device_that_cannot_be_a_member_is_refused(cloud: Cloud, root: str) -> None:
    pool = cloud.device(root, "pool_keys")
    drain = ("usb", "device", "set", "--drain", "--member")
    for key, words in (
        ("0529:0407:A1", "has no member 0529:0407:A1, since its members are devices of vendor 1050;"),
        ("1050:0406:A1", "has no member 1050:0406:A1, since its members are devices 1050:0407;"),
    ):
        done = cloud.openstack(*drain, key, pool)
        assert done.code == 1
        assert words in done.err
    assert cloud.openstack(*drain, "1050:0407:A1", pool).code == 0


def test_a_member_is_drained_of_pools_only_and_by_its_key(cloud: Cloud, root: str, pool: str) -> None:
    single = cloud.device(root, "single")
    assert "is not a pool" in cloud.openstack("usb", "device", "set", "--drain", "--member", MEMBER, single).err
    assert "not the key of a device" in cloud.openstack("usb", "device", "set", "--drain", "--member", "1", pool).err


def test_an_audit_counts_the_units_of_a_server_and_not_its_providers(cloud: Cloud, root: str, pool: str) -> None:
    hold(cloud, pool, "vm1", 2)
    cloud.nova.server("vm1", flavor={f"resources:{KEY}": "2"})
    assert cloud.openstack("usb", "audit", "-f", "json").json == []
