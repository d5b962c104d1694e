"""Fixtures for commands as processes, against a real udev and a real Placement."""

import pytest

from tests.fixtures.keystone import keystone
from tests.fixtures.placement import PlacementServer, placement, placement_server
from tests.fixtures.processes import KEY, KEY_RULE, Program, program
from tests.fixtures.testbed import testbed
from usb_provider.demo.testbed import Testbed

__all__ = ["keystone", "placement", "placement_server", "program", "testbed"]


@pytest.fixture
def root(placement: PlacementServer, program: Program) -> str:
    """The UUID of host1's compute node provider in the Placement that the program is configured for."""
    program.use(placement)
    return placement.create_root("host1")


@pytest.fixture
def key(testbed: Testbed, program: Program) -> str:
    """A security key that the only rule offers."""
    program.rules = [KEY_RULE]
    return testbed.add(KEY)
