"""Fixtures for the tests of the reporter against a real Placement."""

from tests.fixtures.placement import placement, placement_server
from tests.fixtures.reporting import host, operator, root, workers

__all__ = ["host", "operator", "placement", "placement_server", "root", "workers"]
