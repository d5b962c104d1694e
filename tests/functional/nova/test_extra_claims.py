"""What Nova does with a device that a server holds beyond its flavor, row by row of docs/nova.md.

Nova and Placement are the real ones, and so is the command that attaches the device. There is no agent: only the claim
is looked at here.
"""

import os
from typing import Any

import pytest

try:
    from tests.functional.nova.commands import CommandLineTestCase
except ImportError as error:
    if os.environ.get("CI"):
        raise
    pytest.skip(f"nova's functional tests are not installed: {error}", allow_module_level=True)

from nova.cmd import manage

from placement_traits import MANAGED

OF_THE_FLAVOR = {"resources:CUSTOM_USB_KEY": "1", "trait:CUSTOM_USB_VENDOR_1050": "required"}
OTHER_TRAITS = frozenset({MANAGED, "CUSTOM_USB_VENDOR_20A0"})


class ExtraClaimTestCase(CommandLineTestCase):
    """A server that holds one device for its flavor, and one that was attached to it."""

    def setUp(self) -> None:
        super().setUp()
        self.home, self.other = self.hosts
        self.own = {host.name: self.plug(host, f"flavor-{host.name}") for host in self.hosts}
        self.extra = self.plug(self.home, "extra", OTHER_TRAITS)
        self.plug(self.other, "spare", OTHER_TRAITS)
        self.api.put_service(self._service(self.other.name), {"status": "disabled"})
        self.server_ = self.boot(OF_THE_FLAVOR)
        self.api.put_service(self._service(self.other.name), {"status": "enabled"})
        self.assertEqual(self.home.name, self.host_of(self.server_))
        answer = self.openstack("server", "attach", self.server_["id"], "--resource-class", "key", "--device", "extra")
        self.assertEqual(0, answer.code, answer.err)
        self.with_extra = self.allocations(self.server_)
        self.assertEqual({self.own[self.home.name], self.extra}, self.devices_of(self.server_))

    def _service(self, host: str) -> str:
        (service,) = self.api.get_services(binary="nova-compute", host=host)
        return str(service["id"])

    def assert_kept(self, what: str) -> None:
        """The server holds exactly what it held after the attach."""
        self.assertEqual(self.with_extra, self.allocations(self.server_), what)

    def assert_lost_to(self, host: str) -> None:
        """The server is on *host*, well, and holds there what its flavor says; the extra device is free."""
        server = self.api.get_server(self.server_["id"])
        self.assertEqual(("ACTIVE", host), (server["status"], self.host_of(server)))
        self.assertEqual({self.own[host]}, self.devices_of(server))
        self.assertEqual(0, self.server.used(self.extra))

    def migration(self) -> str:
        """The UUID of the server's migration, which holds what the server left."""
        return str(self.get_migration_uuid_for_instance(self.server_["id"]))

    def listed(self) -> list[dict[str, Any]]:
        """What ``openstack usb server list`` says."""
        return list(self.openstack("server", "list", self.server_["id"], "-f", "json").json)


class ServerStaysTest(ExtraClaimTestCase):
    """What leaves the server on its host leaves the claim as it is."""

    def test_what_starts_and_stops_the_guest_leaves_the_claim_as_it_is(self) -> None:
        server = self.server_
        self._stop_server(server)
        self.assert_kept("stop")
        self._start_server(server)
        self.assert_kept("start")
        self._reboot_server(server)
        self.assert_kept("soft reboot")
        self._reboot_server(server, hard=True)
        self.assert_kept("hard reboot")
        for action, status in (("pause", "PAUSED"), ("unpause", "ACTIVE")):
            self.api.post_server_action(server["id"], {action: {}})
            self._wait_for_state_change(server, status)
            self.assert_kept(action)
        self._suspend_server(server)
        self.assert_kept("suspend")
        self._resume_server(server)
        self.assert_kept("resume")
        self._rescue_server(server)
        self.assert_kept("rescue")
        self._unrescue_server(server)
        self.assert_kept("unrescue")
        self._rebuild_server(server, server["image"]["id"])
        self.assert_kept("rebuild")

    def test_novas_periodic_task_and_a_restart_of_nova_compute_leave_the_claim_as_it_is(self) -> None:
        log = self.log_of_periodics()
        self.let_nova_see_the_tree()
        self.assert_kept("periodic task")
        self.restart_compute(self.home)
        log += self.log_of_periodics()
        self.assert_kept("restart of nova-compute")
        self.assertNotIn(" ERROR ", log)

    def test_heal_allocations_has_nothing_to_heal(self) -> None:
        command = manage.PlacementCommands()
        self.assertEqual(4, command.heal_allocations(instance_uuid=self.server_["id"]), "nothing to do")
        self.assert_kept("heal_allocations")

    def test_a_forced_heal_fails_and_leaves_the_claim_since_a_device_is_no_resource_of_the_compute_node(self) -> None:
        command = manage.PlacementCommands()
        self.assertEqual(3, command.heal_allocations(instance_uuid=self.server_["id"], force=True))
        self.assert_kept("heal_allocations --force")

    def test_a_forced_heal_takes_the_device_from_a_server_whose_flavor_asks_for_none(self) -> None:
        self.plug(self.home, "more", OTHER_TRAITS)
        self.api.put_service(self._service(self.other.name), {"status": "disabled"})
        server = self.boot({})
        words = ("server", "attach", server["id"], "--resource-class", "key", "--device", "more")
        self.assertEqual(0, self.openstack(*words).code)
        self.assertEqual(1, len(self.devices_of(server)))
        command = manage.PlacementCommands()
        self.assertEqual(0, command.heal_allocations(instance_uuid=server["id"], force=True))
        self.assertEqual(set(), self.devices_of(server))

    def test_a_delete_gives_everything_back(self) -> None:
        self._delete_server(self.server_)
        self.assertEqual({}, self.allocations(self.server_))
        self.assertEqual([0, 0], [self.server.used(each) for each in (self.extra, self.own[self.home.name])])

    def test_a_shelved_server_gives_the_device_back_and_is_unshelved_without_it(self) -> None:
        self._shelve_server(self.server_)
        self.assertEqual({}, self.allocations(self.server_))
        self._unshelve_server(self.server_)
        self.assert_lost_to(self.host_of(self.api.get_server(self.server_["id"])))


class ServerMovesTest(ExtraClaimTestCase):
    """A move takes what the flavor says to the other host, and loses the rest."""

    def test_a_cold_migration_holds_the_device_until_it_is_confirmed(self) -> None:
        self._migrate_server(self.server_)
        self.assertEqual({self.own[self.other.name]}, self.devices_of(self.server_))
        self.assertEqual(self.with_extra, self.allocations({"id": self.migration()}))
        self._confirm_resize(self.server_)
        self.assert_lost_to(self.other.name)

    def test_after_a_reverted_resize_the_server_has_the_device_again(self) -> None:
        larger = self._create_flavor(vcpu=2, memory_mb=256, disk=1, ephemeral=0, extra_spec=dict(OF_THE_FLAVOR))
        self._resize_server(self.server_, larger)
        self.assertEqual({self.own[self.other.name]}, self.devices_of(self.server_))
        self.assertEqual(self.with_extra, self.allocations({"id": self.migration()}))
        self._revert_resize(self.server_)
        self.assert_kept("revert of a resize")

    def test_a_live_migration_ends_well_and_loses_the_device(self) -> None:
        self._live_migrate(self.server_, host=self.other.name)
        self.wait_until(lambda: not self.server.used(self.extra), "the end of the migration's claim")
        self.assert_lost_to(self.other.name)

    def test_after_an_evacuation_the_device_is_held_until_its_host_is_back(self) -> None:
        self.home.compute.stop()
        self.api.put_service(self._service(self.home.name), {"forced_down": True})
        self._evacuate_server(self.server_, expected_host=self.other.name, expected_state="SHUTOFF")
        held = self.devices_of(self.server_)
        self.assertEqual({self.own[self.home.name], self.own[self.other.name], self.extra}, held)
        self.restart_compute(self.home)
        self.wait_until(lambda: not self.server.used(self.extra), "nova-compute's clean-up")
        self.assertEqual({self.own[self.other.name]}, self.devices_of(self.server_))


class AbortedMigrationTest(ExtraClaimTestCase):
    """A live migration that does not end until it is aborted."""

    compute_driver = "fake.FakeLiveMigrateDriver"

    def test_after_an_abort_the_server_has_the_device_again(self) -> None:
        server = self.server_
        self.api.post_server_action(
            server["id"], {"os-migrateLive": {"host": self.other.name, "block_migration": "auto"}}
        )
        migration = self._wait_for_migration_status(server, ["running"])
        self.assertEqual(self.with_extra, self.allocations({"id": migration["uuid"]}))
        self.api.delete_migration(server["id"], migration["id"])
        self._wait_for_migration_status(server, ["cancelled"])
        self._wait_for_state_change(server, "ACTIVE")
        self.wait_until(lambda: self.allocations(server) == self.with_extra, "the server's claim again")
        self.assertEqual(1, self.server.used(self.extra))
