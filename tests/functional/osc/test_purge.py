"""``openstack usb device purge``: providers leave their trees first, and are deleted when nova-compute forgot them.

What nova-compute does with a provider in each step is shown in tests/functional/nova/test_scheduling.py.
"""

import types
from collections.abc import Callable
from typing import Any

import pytest

from placement_traits import MANAGED, PURGED, STATE_ABSENT, STATE_DRAINED, STATE_RESERVED, detach_trait
from tests.fixtures.openstack import KEY, Cloud, Nova, named
from tests.fixtures.reporting import consumer, uuid_of
from usb_provider.osc import purge

PURGE = ("usb", "device", "purge", "-f", "json")
NOW = (*PURGE, "--wait", "0")


@pytest.fixture
def root(cloud: Cloud) -> str:
    """The compute node compute1."""
    return cloud.host("compute1")


def absent(cloud: Cloud, root: str, key: str = "absent", **more: Any) -> str:
    """Add a device that is absent and free, and give its UUID."""
    return cloud.device(root, key, traits={STATE_ABSENT}, resource_class=None, **more)


def results(cloud: Cloud, *words: str) -> dict[str, str]:
    """Run a purge and give the results by device."""
    return {line["Device"]: line["Result"] for line in cloud.openstack(*words).json}


def during_the_wait(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> list[float]:
    """Let *act* happen as soon as a purge waits, and give the list of all waits."""
    waits: list[float] = []
    passed = 0.0

    def sleep(seconds: float) -> None:
        nonlocal passed
        passed += seconds
        if not waits:
            act()
        waits.append(seconds)

    monkeypatch.setattr(purge, "time", types.SimpleNamespace(sleep=sleep, monotonic=lambda: passed))
    return waits


def test_a_purge_deletes_what_is_absent_and_free_and_says_of_the_rest_why_not(cloud: Cloud, root: str) -> None:
    absent(cloud, root)
    cloud.device(root, "free")
    held = cloud.device(root, "held", traits={STATE_ABSENT}, reserved=0)
    cloud.placement.allocate(consumer(), {held: {KEY: 1}})
    cloud.device(root, "drained", traits={STATE_ABSENT, STATE_DRAINED}, resource_class=None)
    cloud.device(root, "reserved", traits={STATE_ABSENT, STATE_RESERVED}, reserved=1)
    expected = {
        "absent": "would be deleted",
        "held": "kept: a consumer holds it",
        "drained": "kept: it is drained or reserved",
        "reserved": "kept: it is drained or reserved",
    }
    there = set(cloud.placement.providers(root))
    assert results(cloud, *PURGE, "--dry-run") == expected
    assert set(cloud.placement.providers(root)) == there
    assert results(cloud, *NOW) == expected | {"absent": "deleted"}
    assert there - set(cloud.placement.providers(root)) == {"compute1_usb_absent"}
    assert results(cloud, *NOW) == {key: result for key, result in expected.items() if key != "absent"}


def test_until_nova_compute_has_forgotten_a_provider_it_is_out_of_the_tree_and_there(
    cloud: Cloud, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = absent(cloud, root)
    seen: list[Any] = []
    waits = during_the_wait(
        monkeypatch, lambda: seen.append((cloud.placement.traits(uuid), set(cloud.placement.providers(root))))
    )
    answer = cloud.openstack(*PURGE)
    assert seen == [({PURGED}, {"compute1"})]
    assert sum(waits) == pytest.approx(360)
    assert "Waiting for 360 s, until nova-compute on compute1 has forgotten these providers (1)" in answer.err
    assert "Waiting for 60 s more." in answer.err
    assert [line["Result"] for line in answer.json] == ["deleted"]


def test_where_no_nova_compute_can_have_a_provider_in_its_cache_a_purge_does_not_wait(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = during_the_wait(monkeypatch, lambda: None)
    absent(cloud, cloud.host("alone", in_nova=False), host="alone")
    cloud.host("compute1")
    assert results(cloud, *PURGE) == {"absent": "deleted"}
    assert waits == []


def test_where_nova_does_not_say_whether_it_has_the_compute_node_a_purge_waits(
    cloud: Cloud, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = during_the_wait(monkeypatch, lambda: None)
    absent(cloud, root)
    cloud.nova.refuse["os-hypervisors"] = 403
    assert results(cloud, *PURGE) == {"absent": "deleted"}
    assert sum(waits) == pytest.approx(360)


def test_a_purge_that_is_interrupted_says_so_and_the_next_one_ends_it(
    cloud: Cloud, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent(cloud, root)
    absent(cloud, cloud.host("compute2"), "other", host="compute2")

    def interrupt() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        during_the_wait(patch, interrupt)
        answer = cloud.openstack(*PURGE, "--host", "compute1")
    assert [line["Result"] for line in answer.json] == ["not deleted: the purge was interrupted; repeat the command"]
    assert answer.code == 1
    assert results(cloud, *PURGE, "--dry-run", "--host", "compute2") == {"other": "would be deleted"}
    assert results(cloud, *PURGE, "--dry-run") == {"absent": "would be deleted", "other": "would be deleted"}
    assert results(cloud, *NOW, "--host", "compute1") == {"absent": "deleted"}


def test_a_device_that_is_plugged_in_during_the_wait_keeps_its_provider(
    cloud: Cloud, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = absent(cloud, root)
    during_the_wait(monkeypatch, lambda: cloud.operator.set_traits(uuid, {MANAGED}))
    assert results(cloud, *PURGE) == {"absent": "kept: it was plugged in again"}


def test_a_device_that_is_plugged_in_between_listing_and_purge_is_kept(cloud: Cloud, root: str) -> None:
    uuid = absent(cloud, root)

    def plug_in() -> None:
        cloud.operator.remove_traits(uuid, STATE_ABSENT)
        cloud.operator.set_inventory(uuid, KEY)

    cloud.placement.before("GET /resource_providers/[^/]*/inventories", plug_in)
    assert results(cloud, *NOW) == {"absent": "kept: it is free now"}
    assert uuid in {each["uuid"] for each in cloud.placement.providers(root).values()}


def test_a_device_that_its_agent_offers_while_it_is_set_aside_is_kept(cloud: Cloud, root: str) -> None:
    uuid = absent(cloud, root)
    cloud.placement.before(f"PUT /resource_providers/{uuid}/traits", lambda: cloud.operator.set_inventory(uuid, KEY))
    assert results(cloud, *NOW) == {"absent": "kept: another client changed or deleted it in the meantime"}
    assert uuid in {each["uuid"] for each in cloud.placement.providers(root).values()}


def test_a_provider_with_a_child_stays_where_it_is(cloud: Cloud, root: str) -> None:
    uuid = absent(cloud, root)
    cloud.operator.create("a child", uuid)
    assert results(cloud, *NOW) == {"absent": "kept: its provider has a child provider"}


def test_a_purge_that_fails_in_the_middle_says_what_it_deleted_and_what_not(cloud: Cloud, root: str) -> None:
    for key in ("a", "b", "c"):
        absent(cloud, root, key)
    cloud.placement.fail_next(f"DELETE /resource_providers/{uuid_of('b', root)}", 503, None)
    answer = cloud.openstack(*NOW)
    found = {line["Device"]: line["Result"] for line in answer.json}
    assert (found["a"], found["c"], answer.code) == ("deleted", "deleted", 1)
    assert found["b"].startswith("not deleted: Placement answers 503")


def test_a_purge_costs_what_its_help_says(cloud: Cloud, root: str) -> None:
    for key in ("a", "b", "c"):
        absent(cloud, root, key)
    results(cloud, *NOW)
    assert cloud.requests() == 3 + 1 + 1 + 1 + 7 * 3 + 1 + 2
    assert results(cloud, *NOW, "--host", "compute1") == {}


def test_a_purge_takes_the_traits_that_devices_gave_and_no_provider_has(cloud: Cloud, root: str) -> None:
    asked = detach_trait(named("vm1"))
    gone = {"CUSTOM_USB_PRODUCT_1050_0010", "CUSTOM_USB_SERIAL_A1", "CUSTOM_USB_VENDOR_BEEF", asked}
    cloud.device(root, "absent", traits={STATE_ABSENT, *gone} - {"CUSTOM_USB_VENDOR_BEEF", asked}, resource_class=None)
    cloud.device(root, "free")
    for name in ("CUSTOM_USB_VENDOR_BEEF", "CUSTOM_USB_SLOW", "CUSTOM_USB_CLASS_HID", asked):
        cloud.placement.api.must("PUT", f"/traits/{name}")
    answer = cloud.openstack(*NOW)
    assert "Traits that no provider and no flavor has any more are deleted (4)." in answer.err
    left = cloud.placement.api.must("GET", "/traits?name=startswith:CUSTOM_USB_")["traits"]
    assert {"CUSTOM_USB_VENDOR_1050", "CUSTOM_USB_SLOW", "CUSTOM_USB_CLASS_HID"} <= set(left)
    assert gone.isdisjoint(left)


def usb_traits(cloud: Cloud) -> set[str]:
    """The names of all USB traits that exist."""
    return set(cloud.placement.api.must("GET", "/traits?name=startswith:CUSTOM_USB_")["traits"])


def test_a_purge_keeps_a_trait_that_a_flavor_asks_for_or_forbids(cloud: Cloud, root: str, nova: Nova) -> None:
    names = [f"CUSTOM_USB_SERIAL_{each}" for each in "ABC"]
    for name in names:
        cloud.placement.api.must("PUT", f"/traits/{name}")
    nova.page = 1
    nova.flavor("other", hw__cpu_policy="dedicated")
    nova.flavor("one", trait__CUSTOM_USB_SERIAL_A="required")
    nova.flavor("two", trait_USB__CUSTOM_USB_SERIAL_B="forbidden")
    answer = cloud.openstack(*NOW)
    assert "deleted (1)." in answer.err
    assert usb_traits(cloud) & set(names) == set(names[:2])


def test_a_purge_leaves_the_traits_where_nova_does_not_say_which_flavors_there_are(
    cloud: Cloud, root: str, nova: Nova
) -> None:
    cloud.placement.api.must("PUT", "/traits/CUSTOM_USB_SERIAL_A")
    nova.refuse["GET .*flavors"] = 403
    answer = cloud.openstack(*NOW)
    assert answer.code == 0
    assert "Traits that no provider has any more are left (1), since a flavor may need them: Nova" in answer.err
    assert "CUSTOM_USB_SERIAL_A" in usb_traits(cloud)


def test_a_trait_that_a_device_gets_while_a_purge_runs_stays(cloud: Cloud, root: str) -> None:
    cloud.placement.api.must("PUT", "/traits/CUSTOM_USB_SERIAL_A")
    uuid = cloud.device(root, "free")
    cloud.placement.before(
        "DELETE /traits/CUSTOM_USB_SERIAL_A",
        lambda: cloud.operator.set_traits(uuid, {*cloud.placement.traits(uuid), "CUSTOM_USB_SERIAL_A"}),
    )
    assert cloud.openstack(*NOW).code == 0
    assert "CUSTOM_USB_SERIAL_A" in cloud.placement.traits(uuid)


def test_a_purge_that_only_shows_what_it_would_do_deletes_no_trait(cloud: Cloud, root: str) -> None:
    cloud.placement.api.must("PUT", "/traits/CUSTOM_USB_VENDOR_BEEF")
    results(cloud, *PURGE, "--dry-run")
    assert "CUSTOM_USB_VENDOR_BEEF" in cloud.placement.api.must("GET", "/traits?name=startswith:CUSTOM_USB_")["traits"]


@pytest.mark.parametrize("wait", ["-1", "soon", "1.5"])
def test_a_wait_that_is_no_number_of_seconds_is_refused(cloud: Cloud, root: str, wait: str) -> None:
    answer = cloud.openstack(*PURGE, f"--wait={wait}")
    assert answer.code == 2
    assert f"argument --wait: invalid seconds value: '{wait}'" in answer.err
