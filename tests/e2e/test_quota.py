"""Unified limits count USB devices like anything else in Placement."""

import pytest
from openstack.exceptions import HttpException

from tests.e2e.lab.cloud import CLASS, USB, Cloud


def test_a_project_with_a_limit_of_one_device_gets_one_and_is_told_why_not_two(cloud: Cloud) -> None:
    for serial in ("A1", "A2"):
        cloud.stick(serial)
    # A user who is no admin may not create servers from a flavor without a disk.
    flavor = cloud.flavor("usb-quota", USB, disk=1)
    limit = f"--service nova --region RegionOne class:{CLASS}"
    cloud.openstack(f"registered limit create --default-limit 10 {limit}")
    cloud.openstack(f"limit create --project demo --resource-limit 1 {limit}")
    demo = cloud.controller.connect("demo", "demo")
    try:
        first = cloud.create("first", flavor=flavor, by=demo)
        cloud.becomes(first, "ACTIVE")
        with pytest.raises(HttpException, match=r"over a limit.*CUSTOM_USB_KEY"):
            cloud.create("second", flavor=flavor, by=demo)
        another = cloud.create("another", flavor=flavor)
        cloud.becomes(another, "ACTIVE")
    finally:
        identity = cloud.admin.identity
        for each in identity.limits(resource_name=f"class:{CLASS}"):
            identity.delete_limit(each)
        for each in identity.registered_limits(resource_name=f"class:{CLASS}"):
            identity.delete_registered_limit(each)
