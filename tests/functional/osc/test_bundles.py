"""``openstack usb …`` about bundles on a real Placement: one unit of several devices is listed, drained and audited."""

import pytest

from placement_traits import STATE_ABSENT, STATE_DRAINED
from tests.fixtures.openstack import KEY, Cloud, named
from usb_provider.osc.model.flavor import extra_specs_for

NAME = "compute1_usb_bundle_desk"


@pytest.fixture
def bundle(cloud: Cloud, root: str) -> str:
    """A bundle on compute1, all of it there."""
    return cloud.device(root, "bundle_desk")


def states(cloud: Cloud, *words: str) -> dict[str, str]:
    """Each listed device's state by its key."""
    listed = cloud.openstack("usb", "device", "list", "-f", "json", *words).json
    return {line["Device"]: line["State"] for line in listed}


def shown(cloud: Cloud) -> dict[str, object]:
    """The bundle, shown."""
    fields: dict[str, object] = cloud.openstack("usb", "device", "show", NAME, "-f", "json").json
    return fields


def test_a_bundle_is_one_unit_which_its_holder_has_as_a_whole(cloud: Cloud, bundle: str) -> None:
    assert states(cloud) == {"bundle_desk": "free"}
    cloud.placement.allocate(cloud.nova.server("vm1"), {bundle: {KEY: 1}})
    assert states(cloud) == {"bundle_desk": "allocated"}
    fields = shown(cloud)
    assert (fields["units"], fields["units_held"], fields["reason"]) == (1, 1, "A consumer holds it.")
    assert fields["held_by"] == ["server vm1"]
    (line,) = cloud.openstack("usb", "host", "list", "-f", "json").json
    assert (line["Offered"], line["Free"], line["Allocated"]) == (1, 0, 1)


def test_a_bundle_that_lacks_a_device_is_incomplete_and_is_also_found_as_absent(cloud: Cloud, root: str) -> None:
    cloud.device(root, "bundle_desk", traits={STATE_ABSENT}, resource_class=None)
    cloud.device(root, "single", traits={STATE_ABSENT}, resource_class=None)
    assert states(cloud) == {"bundle_desk": "incomplete", "single": "absent"}
    assert states(cloud, "--state", "incomplete") == {"bundle_desk": "incomplete"}
    assert states(cloud, "--state", "absent") == {"bundle_desk": "incomplete", "single": "absent"}
    fields = shown(cloud)
    assert (fields["state"], fields["reason"]) == ("incomplete", "Not all of its devices are plugged in.")
    (line,) = cloud.openstack("usb", "host", "list", "-f", "json").json
    assert (line["Absent"], line["Incomplete"], line["Offered"]) == (1, 1, 0)


def test_a_held_bundle_that_lacks_a_device_says_both(cloud: Cloud, root: str) -> None:
    bundle = cloud.device(root, "bundle_desk")
    cloud.placement.allocate(named("vm1"), {bundle: {KEY: 1}})
    cloud.operator.set_inventory(bundle, KEY, reserved=1)
    cloud.operator.add_traits(bundle, STATE_ABSENT)
    assert states(cloud, "--state", "allocated") == {"bundle_desk": "incomplete"}
    assert shown(cloud)["reason"] == "Not all of its devices are plugged in. A consumer holds it."


def test_a_bundle_is_drained_and_undrained_as_a_whole(cloud: Cloud, bundle: str) -> None:
    before = cloud.placement.traits(bundle)
    assert cloud.openstack("usb", "device", "set", "--drain", NAME).code == 0
    assert cloud.placement.traits(bundle) == before | {STATE_DRAINED}
    assert states(cloud) == {"bundle_desk": "drained"}
    assert cloud.openstack("usb", "device", "set", "--undrain", NAME).code == 0
    assert (cloud.placement.traits(bundle), states(cloud)) == (before, {"bundle_desk": "free"})
    done = cloud.openstack("usb", "device", "set", "--drain", "--member", "1050:0407:Y1", NAME)
    assert (done.code, f"{NAME} is not a pool; only of a pool, one member can be drained." in done.err) == (1, True)


def test_a_bundle_that_lacks_a_device_is_purged_as_any_that_is_absent(cloud: Cloud, root: str) -> None:
    cloud.device(root, "bundle_desk", traits={STATE_ABSENT}, resource_class=None)
    (line,) = cloud.openstack("usb", "device", "purge", "--dry-run", "-f", "json").json
    assert (line["Device"], line["Result"]) == ("bundle_desk", "would be deleted")


def test_an_audit_counts_a_bundle_as_the_one_unit_that_a_flavor_asks_for(cloud: Cloud, bundle: str) -> None:
    cloud.placement.allocate(cloud.nova.server("vm1", flavor=extra_specs_for(KEY)), {bundle: {KEY: 1}})
    assert cloud.openstack("usb", "audit", "-f", "json").json == []
    cloud.placement.release(named("vm1"))
    cloud.placement.allocate(named("gone"), {bundle: {KEY: 1}})
    found = {each["Problem"]: each["What"] for each in cloud.openstack("usb", "audit", "-f", "json").json}
    assert found["server is gone"] == f"It holds {NAME}, but is neither a server nor a migration of Nova."
    assert found["server without device"].startswith("Its flavor asks for 1 and it holds 0;")
