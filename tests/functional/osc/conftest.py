"""Fixtures for the openstack commands."""

from tests.fixtures.keystone import keystone
from tests.fixtures.openstack import cloud, nova
from tests.fixtures.placement import placement, placement_server

__all__ = ["cloud", "keystone", "nova", "placement", "placement_server"]
