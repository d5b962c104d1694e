"""Which providers of a tree are those of pools and bundles, whatever became of their names."""

import pytest

from usb_provider.model.reporting.provider import Root, distinct_name, provider_name, provider_uuid
from usb_provider.model.reporting.tree import ObservedProvider, ObservedTree
from usb_provider.model.units.providers import groups_of

UUID = "11111111-2222-4333-8444-555555555555"


@pytest.mark.parametrize("key", ["pool_hasp", "pool_hasp_2", "bundle_desk", "pool_a_usb_pool_b", f"pool_{'h' * 40}"])
@pytest.mark.parametrize("host", ["compute1", "a_usb_pool_host", "a_usb_bundle_host", "h" * 150, "h" * 190])
def test_a_group_that_has_no_device_left_is_known_by_its_provider(host: str, key: str) -> None:
    uuid = provider_uuid(UUID, key)
    name = provider_name(host, key)
    for each in {name, distinct_name(name, uuid) if len(name) < 190 else name}:
        have = ObservedProvider(uuid, each, 1)
        assert [group.key for group in groups_of(ObservedTree(Root(UUID, host), {uuid: have}), ())] == [key]


@pytest.mark.parametrize("name", ["compute1_usb_pool_hasp", "compute1_usb_pool_", "compute1_usb_0529:0001:A1", "other"])
def test_a_provider_with_another_uuid_is_that_of_no_group(name: str) -> None:
    uuid = provider_uuid(UUID, "0529:0001:A1")
    have = ObservedProvider(uuid, name, 1)
    assert groups_of(ObservedTree(Root(UUID, "compute1"), {uuid: have}), ()) == ()
