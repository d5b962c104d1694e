"""Nova, unchanged, schedules on pools and bundles: one unit, two, the last ones, a resize, other hosts beside."""

import os

import pytest

try:
    from tests.functional.nova.base import KEY_SPEC, Host, NovaTestCase
except ImportError as error:
    if os.environ.get("CI"):
        raise
    pytest.skip(f"nova's functional tests are not installed: {error}", allow_module_level=True)

from placement_traits import STATE_SHORT
from usb_provider.demo.description import usb_device

CLASS = "CUSTOM_USB_KEY"
ONE, TWO = {f"resources:{CLASS}": "1"}, {f"resources:{CLASS}": "2"}
EITHER = {f"resources{number}:{CLASS}": "1" for number in (1, 2)} | {"group_policy": "none"}
DESK_SPECS = [{"port": str(number), "resource_class": CLASS, "bundle": "desk"} for number in (1, 2)]
POOL_SPEC = {"vendor_id": "1050", "resource_class": CLASS, "pool": "hasp"}


def key(number: int) -> str:
    """Describe one of several like keys, which have no serial number."""
    return usb_device("1050", "0407", port=str(number), interfaces=(("03", "00", "00"),))


class PoolTest(NovaTestCase):
    """What a flavor gets from pools."""

    def host_with_pool(self, name: str, size: int) -> Host:
        """Give a host whose agent has reported so many keys as one pool."""
        host = self.start_host(name)
        for number in range(1, size + 1):
            host.hands.add(key(number))
        self.start_agent(host, [POOL_SPEC])
        self.wait_for_pool(host, size)
        return host

    def pool(self, host):
        """Give total, reserved and the traits of the host's pool; None where it has no inventory."""
        uuid = self.device(host, "pool_hasp")
        has = self.devices(host).get(uuid, {}).get(CLASS)
        return None if has is None else (has["total"], has["reserved"])

    def wait_for_pool(self, host, total, reserved=0):
        """Wait until the pool has these numbers."""

        def is_there():
            try:
                return self.pool(host) == (total, reserved)
            except ValueError:  # the root is not there (yet)
                return False

        self.wait_until(is_there, f"a pool of {total} with {reserved} reserved")

    def units_of(self, server, host):
        """Give how many units of the host's pool the server holds."""
        return self.allocations(server).get(self.device(host, "pool_hasp"), {}).get(CLASS, 0)

    def test_one_and_two_units_are_scheduled_until_the_last_is_taken(self):
        host = self.host_with_pool("host1", 3)
        two = self.boot(TWO)
        self.assertEqual(2, self.units_of(two, host))
        self.no_valid_host(TWO)
        one = self.boot(ONE)
        self.assertEqual(1, self.units_of(one, host))
        self.no_valid_host(ONE)
        self._delete_server(two)
        self.assertEqual(2, self.units_of(self.boot(TWO), host))

    def test_a_server_is_resized_from_one_unit_to_two(self):
        self.flags(allow_resize_to_same_host=True)
        host = self.host_with_pool("host1", 3)
        server = self.boot(ONE)
        flavor = self._create_flavor(vcpu=1, memory_mb=128, disk=1, ephemeral=0, extra_spec=TWO)
        self.api.post_server_action(server["id"], {"resize": {"flavorRef": flavor}})
        server = self._wait_for_state_change(server, "VERIFY_RESIZE")
        self.no_valid_host(ONE)  # the migration holds the third until the resize is confirmed
        self._confirm_resize(server)
        self.assertEqual(2, self.units_of(server, host))
        self.boot(ONE)

    def test_an_unplug_with_everything_held_promises_the_missing_unit_to_no_server(self):
        host = self.host_with_pool("host1", 2)
        servers = [self.boot(ONE), self.boot(ONE)]
        host.hands.unplug("1-1")
        self.wait_for_pool(host, 2, 1)
        self.assertIn(STATE_SHORT, self.server.traits(self.device(host, "pool_hasp")))
        self._delete_server(servers[0])
        self.no_valid_host(ONE)
        host.hands.add(key(1))
        self.wait_for_pool(host, 2)
        self.boot(ONE)

    def test_single_and_pooled_hosts_serve_one_flavor(self):
        single = self.start_host("host1")
        single.hands.add(key(1))
        self.start_agent(single, [KEY_SPEC])
        self.wait_for_devices(single, 1)
        pooled = self.host_with_pool("host2", 2)
        both = self.boot(TWO)
        self.assertEqual("host2", self.host_of(both))
        self.assertEqual(2, self.units_of(both, pooled))
        self.assertEqual("host1", self.host_of(self.boot(ONE)))
        self.no_valid_host(ONE)

    def test_two_in_one_group_come_from_one_provider_so_only_from_a_pool(self):
        single = self.start_host("host1")
        for number in (1, 2, 3, 4):
            single.hands.add(key(number))
        self.start_agent(single, [KEY_SPEC])
        self.wait_for_devices(single, 4)
        self.no_valid_host(TWO)  # four keys are free, and each is a provider of its own
        pooled = self.host_with_pool("host2", 2)
        both = self.boot(TWO)
        self.assertEqual("host2", self.host_of(both))
        self.assertEqual(2, self.units_of(both, pooled))
        self.no_valid_host(TWO)

    def test_two_groups_with_the_policy_none_take_two_from_single_and_from_pooled_hosts(self):
        single = self.start_host("host1")
        for number in (1, 2):
            single.hands.add(key(number))
        self.start_agent(single, [KEY_SPEC])
        self.wait_for_devices(single, 2)
        pooled = self.host_with_pool("host2", 2)
        servers = {self.host_of(server): server for server in (self.boot(EITHER), self.boot(EITHER))}
        self.assertEqual({"host1", "host2"}, set(servers))
        self.assertEqual(2, self.units_of(servers["host2"], pooled))
        has = self.allocations(servers["host1"])
        self.assertEqual([1, 1], [each[CLASS] for each in has.values() if CLASS in each])
        self.no_valid_host(EITHER)

    def test_two_groups_with_the_policy_isolate_never_take_two_from_one_pool(self):
        self.host_with_pool("host1", 4)
        self.no_valid_host(EITHER | {"group_policy": "isolate"})

    def test_a_bundle_is_scheduled_once_and_only_while_it_is_complete(self):
        host = self.start_host("host1")
        host.hands.add(key(1))
        self.start_agent(host, DESK_SPECS)
        self.no_valid_host(ONE)
        host.hands.add(key(2))
        bundle = self.wait_for_bundle(host, reserved=0)
        server = self.boot(ONE)
        self.assertEqual({CLASS: 1}, self.allocations(server)[bundle])
        self.no_valid_host(ONE)
        host.hands.unplug("1-2")
        self.wait_for_bundle(host, reserved=1)
        self._delete_server(server)
        self.no_valid_host(ONE)
        host.hands.add(key(2))
        self.wait_for_bundle(host, reserved=0)
        self.boot(ONE)

    def wait_for_bundle(self, host, *, reserved):
        """Wait until the bundle has a unit, of which so many are reserved; give its UUID."""

        def is_there():
            try:
                has = self.devices(host).get(self.device(host, "bundle_desk"), {}).get(CLASS)
            except ValueError:
                return False
            return has is not None and has["reserved"] == reserved

        self.wait_until(is_there, f"a bundle with {reserved} reserved")
        return self.device(host, "bundle_desk")
