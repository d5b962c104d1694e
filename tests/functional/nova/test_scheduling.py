"""Nova, unchanged, schedules on what our agents report, and neither side breaks the other.

Real Nova and Placement, real udev (replayed), real agents; only the hypervisor is nova's fake.
"""

import os
import time
import uuid
from unittest import mock

import pytest

try:
    from tests.functional.nova.base import KEY_SPEC, Host, NovaTestCase
except ImportError as error:
    if os.environ.get("CI"):
        raise
    pytest.skip(f"nova's functional tests are not installed: {error}", allow_module_level=True)

from placement_traits import PURGED
from tests.fixtures.placement import assert_usb_view
from usb_provider.conf import load
from usb_provider.demo.description import usb_device
from usb_provider.placement.client import PlacementClient, connect

ONE_KEY = {"resources:CUSTOM_USB_KEY": "1"}
YUBIKEY = "1050:0407:Y1"
NITROKEY = "20a0:4108:N1"
NITROKEY_SPEC = {"vendor_id": "20a0", "resource_class": "CUSTOM_USB_KEY"}
HID = (("03", "00", "00"),)


def yubikey(serial: str = "Y1", port: str = "1", devnum: int | None = None) -> str:
    """Describe a key of vendor 1050."""
    return usb_device("1050", "0407", serial=serial, port=port, devnum=devnum, interfaces=HID)


def nitrokey(serial: str = "N1", port: str = "2") -> str:
    """Describe a key of vendor 20a0."""
    return usb_device("20a0", "4108", serial=serial, port=port, interfaces=HID)


class SchedulingTest(NovaTestCase):
    """What a flavor can ask for, and what it gets."""

    def host_with(self, name: str, *devices: str) -> Host:
        """Give a host whose agent has reported these devices, all of which it offers."""
        host = self.start_host(name)
        for text in devices:
            host.hands.add(text)
        self.start_agent(host, [KEY_SPEC, NITROKEY_SPEC])
        self.wait_for_devices(host, len(devices))
        return host

    def test_a_key_is_scheduled_to_its_host_and_the_allocation_names_that_very_device(self):
        self.host_with("host1")
        host2 = self.host_with("host2", yubikey())
        server = self.boot(ONE_KEY)
        self.assertEqual("host2", self.host_of(server))
        root = self.root(host2)
        self.assertEqual(
            {
                root: {"VCPU": 1, "MEMORY_MB": 128, "DISK_GB": 1},
                str(uuid.uuid5(uuid.UUID(root), YUBIKEY)): {"CUSTOM_USB_KEY": 1},
            },
            self.allocations(server),
        )

    def test_each_key_is_given_once_and_after_the_last_there_is_no_valid_host(self):
        hosts = [self.host_with("host1", yubikey("A1")), self.host_with("host2", yubikey("B1"))]
        devices = {
            "host1": self.device(hosts[0], "1050:0407:A1"),
            "host2": self.device(hosts[1], "1050:0407:B1"),
        }
        servers = [self.boot(ONE_KEY), self.boot(ONE_KEY)]
        self.assertEqual({"host1", "host2"}, {self.host_of(server) for server in servers})
        for server in servers:
            self.assertEqual({devices[self.host_of(server)]}, self.devices_of(server))
        self.no_valid_host(ONE_KEY)
        self._delete_server(servers[0])
        again = self.boot(ONE_KEY)
        self.assertEqual(self.host_of(servers[0]), self.host_of(again))

    def test_a_required_and_a_forbidden_trait_pick_the_right_device(self):
        host = self.host_with("host1", yubikey(), nitrokey())
        one = {"resources_USB1:CUSTOM_USB_KEY": "1"}
        required = {**one, "trait_USB1:CUSTOM_USB_VENDOR_1050": "required"}
        forbidden = {**one, "trait_USB1:CUSTOM_USB_VENDOR_1050": "forbidden"}
        first = self.boot(required)
        self.assertEqual({self.device(host, YUBIKEY)}, self.devices_of(first))
        self.no_valid_host(required)  # though the other device is free
        self._delete_server(first)
        second = self.boot(forbidden)
        self.assertEqual({self.device(host, NITROKEY)}, self.devices_of(second))
        self.no_valid_host(forbidden)

    def test_two_groups_that_are_isolated_get_two_devices_of_one_host(self):
        self.host_with("host1", yubikey("A1"))
        host2 = self.host_with("host2", yubikey("B1"), nitrokey())
        two = {
            "resources_USB1:CUSTOM_USB_KEY": "1",
            "resources_USB2:CUSTOM_USB_KEY": "1",
            "group_policy": "isolate",
        }
        server = self.boot(two)
        self.assertEqual("host2", self.host_of(server))
        both = {self.device(host2, "1050:0407:B1"), self.device(host2, NITROKEY)}
        self.assertEqual(both, self.devices_of(server))
        self.no_valid_host(two)  # though host1 has one more

    def test_two_of_a_class_from_one_provider_can_never_be_had(self):
        self.host_with("host1", yubikey(), nitrokey())
        self.no_valid_host({"resources:CUSTOM_USB_KEY": "2"})


class UnplugTest(NovaTestCase):
    """What happens to scheduling when hands pull a device out."""

    def setUp(self):
        super().setUp()
        self.host = self.start_host("host1")
        self.host.hands.add(yubikey(devnum=10))
        self.start_agent(self.host)
        self.wait_for_devices(self.host, 1)
        self.key = self.device(self.host, YUBIKEY)
        self.plugged_view = self.view()

    def view(self):
        """Give the columns of the one device that change here."""
        return {
            "inventory": {rc: (i["total"], i["reserved"]) for rc, i in self.server.inventory(self.key).items()},
            "traits": self.server.traits(self.key),
        }

    def assert_view(self, **columns):
        """Check the whole tree: the one device with these columns."""
        name = f"{self.host.name}_usb_{YUBIKEY}"
        assert_usb_view(self.server, self.root(self.host), {name: columns})

    def wait_for_state_absent(self):
        """Wait for the agent to have marked the device."""
        self.wait_until(lambda: "CUSTOM_USB_STATE_ABSENT" in self.server.traits(self.key), "the state trait")
        self.wait_for_devices(self.host, 0)

    def test_a_device_that_is_gone_is_not_scheduled_and_one_that_is_back_is(self):
        self.host.hands.unplug("1-1")
        self.wait_for_state_absent()
        self.assert_view(
            inventory={},
            traits=self.plugged_view["traits"] | {"CUSTOM_USB_STATE_ABSENT"},
            used=0,
        )
        self.no_valid_host(ONE_KEY)
        self.host.hands.add(yubikey(port="2.3", devnum=77))  # another port, the same device
        self.wait_for_devices(self.host, 1)
        self.wait_until(lambda: self.view() == self.plugged_view, "the view as it was")
        self.assert_view(**self.plugged_view, used=0)
        self.assertEqual({self.key}, self.devices_of(self.boot(ONE_KEY)))

    def test_an_allocated_device_that_is_gone_stays_its_servers_and_is_nobody_elses(self):
        server = self.boot(ONE_KEY)
        held = self.allocations(server)
        self.host.hands.unplug("1-1")
        self.wait_for_state_absent()
        self.assert_view(
            inventory={"CUSTOM_USB_KEY": (1, 1)},
            traits=self.plugged_view["traits"] | {"CUSTOM_USB_STATE_ABSENT"},
            used=1,
        )
        self.assertEqual(held, self.allocations(server))
        self.no_valid_host(ONE_KEY)
        self._reboot_server(server, hard=True)  # nova minds nothing of this
        self.host.hands.add(yubikey(devnum=78))
        self.wait_until(lambda: self.view() == self.plugged_view, "the view as it was")
        self.assert_view(**self.plugged_view, used=1)
        self.assertEqual(held, self.allocations(server))

    def test_when_its_server_is_deleted_a_device_that_is_gone_is_still_not_scheduled(self):
        server = self.boot(ONE_KEY)
        self.host.hands.unplug("1-1")
        self.wait_for_state_absent()
        self._delete_server(server)
        self.no_valid_host(ONE_KEY)
        self.host.hands.add(yubikey(devnum=79))
        self.wait_for_devices(self.host, 1)
        self.assertEqual({self.key}, self.devices_of(self.boot(ONE_KEY)))


class CoexistenceTest(NovaTestCase):
    """Nova and the agent share one tree and leave each other's part of it alone."""

    def start(self, *, resync_interval: int = 60) -> Host:
        """Give a host with two reported keys, the tree of which nova has in its cache."""
        host = self.start_host("host1")
        host.hands.add(yubikey())
        host.hands.add(nitrokey())
        self.start_agent(host, [KEY_SPEC, NITROKEY_SPEC], resync_interval)
        self.wait_for_devices(host, 2)
        self.let_nova_see_the_tree()
        return host

    def tree(self, host: Host) -> dict:
        """Give the whole tree, generations and all."""
        return {
            name: (
                provider,
                self.server.inventory(provider["uuid"]),
                self.server.traits(provider["uuid"]),
            )
            for name, provider in self.server.providers(self.root(host)).items()
        }

    def test_an_agent_that_comes_first_waits_for_novas_root(self):
        host = self.start_host("host1", compute=False)
        host.hands.add(yubikey())
        self.start_agent(host)
        self.wait_until(lambda: self.server.requests, "the agent looking for its root")
        self.assertEqual([], self.server.api.must("GET", "/resource_providers")["resource_providers"])
        self.start_compute(host)
        self.wait_for_devices(host, 1)

    def test_novas_periodic_update_leaves_the_devices_alone_and_logs_no_error(self):
        host = self.start()
        server = self.boot(ONE_KEY)
        before = self.tree(host)
        self.assertNotIn("Error updating resources", self.log_of_periodics())
        self.let_nova_see_the_tree()
        self.assertEqual(before, self.tree(host))
        self.assertEqual(1, len(self.devices_of(server)))

    def test_novas_periodic_update_bears_an_unplug_of_a_device_that_it_has_cached(self):
        host = self.start()
        host.hands.unplug("1-1")
        self.wait_for_devices(host, 1)
        log = self.log_of_periodics()
        self.assertNotIn("Error updating resources", log)
        self.assertNotIn(" ERROR ", log)
        host.hands.add(yubikey(devnum=99))
        self.wait_for_devices(host, 2)
        self.assertNotIn(" ERROR ", self.log_of_periodics())

    def test_were_a_cached_device_deleted_instead_novas_periodic_update_would_fail(self):
        # Why an unplugged device keeps its provider. When this fails, nova has learned to bear it.
        host = self.start()
        host.agent.stop()
        self.server.api.must("DELETE", f"/resource_providers/{self.device(host, YUBIKEY)}")
        self.assertIn("Error updating resources for node host1", self.log_of_periodics())

    def test_were_a_cached_device_deleted_instead_every_build_on_its_host_would_fail(self):
        # Also of a server without USB. When this fails, nova has learned to bear it.
        host = self.start()
        host.agent.stop()
        self.server.api.must("DELETE", f"/resource_providers/{self.device(host, YUBIKEY)}")
        self.boot({}, expect="ERROR")
        self.assertIn("ResourceProviderAllocationRetrievalFailed", self.nova_log())

    def test_a_purge_breaks_no_build_and_nova_forgets_the_device_before_it_is_deleted(self):
        host = self.start()
        host.agent.stop()
        key, client = self.device(host, YUBIKEY), self.client()
        generation = client.traits(key)[0]
        client.set_inventories(key, generation, {})
        client.ensure_trait(PURGED)
        client.set_traits(key, client.traits(key)[0], {PURGED})
        cache = host.compute.manager.rt.reportclient._provider_tree
        client.set_aside(key, f"host1_usb_{YUBIKEY}")
        self.assertTrue(cache.exists(key))
        self.boot({})
        self.assertNotIn(" ERROR ", self.log_of_periodics())
        # Nova's clock moves on by more than resource_provider_association_refresh.
        with mock.patch("time.time", lambda now=time.time: now() + 301):
            self.assertNotIn(" ERROR ", self.log_of_periodics())
        self.assertFalse(cache.exists(key))
        client.delete_provider(key)
        self.boot({})
        self.assertEqual(1, len(self.devices_of(self.boot(ONE_KEY))))
        self.assertNotIn(" ERROR ", self.log_of_periodics())

    def test_a_device_that_comes_back_during_a_purge_is_scheduled_and_breaks_no_build(self):
        host = self.start()
        host.hands.unplug("1-1")
        self.wait_for_devices(host, 1)
        key, client = self.device(host, YUBIKEY), self.client()
        client.ensure_trait(PURGED)
        client.set_traits(key, client.traits(key)[0], {PURGED})
        client.set_aside(key, f"host1_usb_{YUBIKEY}")
        self.boot({})
        host.hands.add(yubikey(devnum=99))
        self.wait_for_devices(host, 2)
        self.assertEqual(2, len({each for _ in range(2) for each in self.devices_of(self.boot(ONE_KEY))}))
        self.assertNotIn(" ERROR ", self.log_of_periodics())

    def client(self) -> PlacementClient:
        """Give a client of this cloud's Placement."""
        config_file = self.directory / "client.conf"
        config_file.write_text(
            f"[placement]\nauth_type = admin_token\nendpoint = {self.server.endpoint}\ntoken = {self.server.token}\n"
        )
        return connect(load.open_files(["--config-file", str(config_file)]))

    def test_a_restart_of_nova_compute_leaves_the_tree_and_allocations_as_they_are(self):
        host = self.start()
        server = self.boot(ONE_KEY)
        before, held = self.tree(host), self.allocations(server)
        self.restart_compute(host)
        self.assertNotIn("Error updating resources", self.log_of_periodics())
        self.assertEqual(before, self.tree(host))
        self.assertEqual(held, self.allocations(server))

    def test_without_its_agent_everything_stays_and_a_new_agent_finds_nothing_to_do(self):
        host = self.start()
        before = self.tree(host)
        self.assertEqual(0, host.agent.stop())
        self.assertEqual(before, self.tree(host))
        server = self.boot(ONE_KEY)
        held = self.devices_of(server)
        self.assertEqual(1, len(held))
        self.server.requests.clear()
        self.start_agent(host, [KEY_SPEC, NITROKEY_SPEC], resync_interval=1)
        self.wait_until(lambda: len(self.server.requests) > 8, "a few passes of the new agent")
        self.assertEqual({"GET"}, {request.method for request in self.server.requests})
        self.assertEqual(held, self.devices_of(server))

    def test_a_device_unplugged_while_the_agent_was_killed_is_found_out_at_its_start(self):
        host = self.start()
        host.agent.kill()
        host.hands.unplug("1-1")
        self.start_agent(host, [KEY_SPEC, NITROKEY_SPEC])
        self.wait_for_devices(host, 1)
        self.assertEqual({self.device(host, NITROKEY)}, self.devices_of(self.boot(ONE_KEY)))
        self.no_valid_host(ONE_KEY)

    def check_service_delete(self, *, same_root: bool) -> None:
        """Delete nova's service, which deletes the tree, start it again, and expect all devices."""
        host = self.start(resync_interval=3)
        old = self.root(host)
        # Nova deletes the devices' providers and then the root. If the agent makes a pass between the two, it makes one
        # again, and Nova keeps the root (docs/nova.md): so Nova begins right after a pass.
        self.server.requests.clear()
        self.wait_until(lambda: len(self.server.requests) > 1, "two quiet passes")
        self.delete_service(host)
        self.assertEqual({}, self.server.providers(old))  # the devices went, too
        if not same_root:
            self.lose_the_node_uuids()
        self.recreate_service(host)
        self.assertEqual(same_root, old == self.root(host))
        self.wait_for_devices(host, 2)
        expected = {self.device(host, YUBIKEY), self.device(host, NITROKEY)}
        self.assertEqual(expected, set(self.devices(host)))
        self.let_nova_see_the_tree()
        self.assertNotIn(" ERROR ", self.log_of_periodics())
        held = self.devices_of(self.boot(ONE_KEY))
        self.assertEqual(1, len(held))
        self.assertLessEqual(held, expected)

    def test_after_a_service_delete_the_devices_come_back_below_the_same_root(self):
        self.check_service_delete(same_root=True)

    def test_after_a_service_delete_the_devices_come_back_below_a_new_root(self):
        self.check_service_delete(same_root=False)
