"""Fixtures for the tests against a real Placement."""

from tests.fixtures.placement import placement, placement_server

__all__ = ["placement", "placement_server"]
