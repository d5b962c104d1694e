"""The openstack commands against the real Nova, and our reading of a flavor against Nova's own.

Placement and Nova are the real ones; there is no agent, since only what Nova says is looked at here.
"""

import os
import uuid
from importlib.metadata import version
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

try:
    from tests.functional.nova.base import NovaTestCase
    from tests.functional.nova.commands import CommandLineTestCase
except ImportError as error:
    if os.environ.get("CI"):
        raise
    pytest.skip(f"nova's functional tests are not installed: {error}", allow_module_level=True)

from nova import objects
from nova.scheduler.utils import ResourceRequest

from tests.fixtures.openstack import KEY, YUBIKEY_TRAITS
from usb_provider.model.guest_controllers import USB_MODEL_SINCE
from usb_provider.osc.model.flavor import NO_SUFFIX, Size, parse_extra_specs

SPECS = st.dictionaries(
    st.one_of(
        st.sampled_from(["group_policy", "resources:VCPU", "resources:MEMORY_MB", "hw:usb_model"]),
        st.builds(
            "{}{}:{}".format,
            st.sampled_from(["resources", "trait", "resource", "Trait", " resources"]),
            st.one_of(st.sampled_from(["", "_USB1", "1", "_A.B", "_" * 64, "_" * 65]), st.text(max_size=3)),
            st.sampled_from([KEY, "CUSTOM_A", "VCPU", "DISK_GB", "USB_KEY", "", "custom_a"]),
        ),
    ),
    st.sampled_from(
        ["1", "2", "0", "-1", " 3 ", "1_0", "one", "", "required", "forbidden", "none", "isolate", "Isolate"]
    ),
    max_size=7,
)


class NovasReadingTest(NovaTestCase):
    """What a flavor's extra specs mean, by Nova and by us."""

    def test_whatever_is_in_a_flavor_nova_asks_placement_for_what_we_say_that_it_does(self):
        @given(SPECS, st.sampled_from([None, "dedicated"]), st.sampled_from([0, 1, 1024, 1025]))
        def check(specs: dict[str, str], policy: str | None, swap: int) -> None:
            specs = specs | ({"hw:cpu_policy": policy} if policy else {})
            flavor = objects.Flavor(
                vcpus=2, memory_mb=2048, root_gb=10, ephemeral_gb=1, swap=swap, extra_specs=specs, name="x"
            )
            image = objects.ImageMeta(properties=objects.ImageMetaProps(traits_required=["CUSTOM_IMAGE"]))
            spec = objects.RequestSpec(flavor=flavor, image=image, is_bfv=False)
            theirs = ResourceRequest.from_request_spec(spec)
            ours = parse_extra_specs(specs, Size(2, 2048, 11, swap), ["CUSTOM_IMAGE"])
            self.assertEqual(
                {
                    ident or NO_SUFFIX: (dict(group.resources), group.required_traits, group.forbidden_traits)
                    for ident, group in theirs._rg_by_id.items()
                },
                {group.suffix: (dict(group.resources), group.required, group.forbidden) for group in ours.groups},
            )
            self.assertEqual(theirs.group_policy, ours.policy)

        check()


class OpenStackCommandsTest(CommandLineTestCase):
    """What the commands say of servers and devices."""

    def boot_one(self) -> dict[str, Any]:
        """Create a flavor for one key by our command, and boot a server of it."""
        words = ("flavor", "create", f"usb-{uuid.uuid4()}", "--class", "key", "--ram", "128", "--disk", "1")
        made = self.openstack(*words, "-f", "json").json
        self.assertEqual({"resources:CUSTOM_USB_KEY": "1", "hw:usb_model": "qemu-xhci"}, made["properties"])
        self.flavor = made["name"]
        return dict(self._create_server(flavor_id=made["id"], networks="none", name="vm1"))

    def holders(self) -> dict[str, list[str]]:
        """Who holds each device, in words, by the device's key."""
        listed = self.openstack("device", "list", "--long", "-f", "json").json
        return {line["Device"]: line["Held By"] for line in listed}

    def audit(self, *words: str) -> list[tuple[str, str]]:
        """What the audit finds: the problem and whose it is."""
        return [(line["Problem"], line["ID"]) for line in self.openstack("audit", "-f", "json", *words).json]

    def test_who_holds_a_device_is_known_through_boot_migration_and_deletion(self):
        for host, key in zip(self.hosts, ("A", "B"), strict=True):
            self.plug(host, key)
        server = self.boot_one()
        here = "A" if self.host_of(server) == "host1" else "B"
        there = {"A": "B", "B": "A"}[here]
        self.assertEqual({here: ["server vm1"], there: []}, self.holders())
        self.assertEqual([], self.audit("--fix"))
        self.flags(max_limit=1, group="api")  # every listing in pages of one
        self._migrate_server(server)
        self._wait_for_state_change(server, "VERIFY_RESIZE")
        self.assertEqual({there: ["server vm1"], here: ["a migration of server vm1 (finished)"]}, self.holders())
        self.assertEqual([], self.audit("--fix"))
        self._confirm_resize(server)
        self.assertEqual({there: ["server vm1"], here: []}, self.holders())
        self.assertEqual([], self.audit("--fix"))
        self._delete_server(server)
        self.assertEqual({here: [], there: []}, self.holders())

    def test_a_flavor_check_agrees_with_the_scheduler(self):
        device = self.plug(self.hosts[1], "B")
        server = self.boot_one()
        self.assertEqual("host2", self.host_of(server))
        found = self.openstack("flavor", "check", self.flavor, "-f", "json").json
        self.assertEqual((False, []), (found["schedulable"], found["hosts"]))
        self.assertIn("0 of 1 free (1 allocated). Held by server vm1.", found["reason"])
        self._delete_server(server)
        found = self.openstack("flavor", "check", self.flavor, "-f", "json").json
        self.assertEqual((True, ["host2"]), (found["schedulable"], found["hosts"]))
        self.assertEqual(0, self.openstack("device", "set", "--drain", device).code)
        found = self.openstack("flavor", "check", self.flavor, "-f", "json").json
        self.assertIn("0 of 1 free (1 drained).", found["reason"])
        self.no_valid_host({"resources:CUSTOM_USB_KEY": "1"})

    def test_a_flavor_check_knows_which_nova_it_asks(self):
        self.plug(self.hosts[0], "A")
        self.boot_one()
        release = int(version("nova").partition(".")[0])
        if release >= USB_MODEL_SINCE:  # as nova-compute does with libvirt, and not with the fake hypervisor
            self.operator.add_traits(self.root(self.hosts[0]), "COMPUTE_SOUND_MODEL_USB")
        traps = self.openstack("flavor", "check", self.flavor, "-f", "json").json["traps"]
        said = [trap["where"] for trap in traps if "Nova before 32" in trap["text"]]
        self.assertEqual([] if release >= USB_MODEL_SINCE else ["hw:usb_model"], said)

    def test_the_audit_finds_what_nova_itself_does_not_and_mends_it(self):
        self.plug(self.hosts[0], "A")
        server = self.boot_one()
        gone = str(uuid.uuid4())
        self.server.allocate(gone, {self.plug(self.hosts[0], "orphan"): {KEY: 1}})
        root = self.server.create_root("host9")
        stray = self.operator.create("host9_usb_C", root)
        self.operator.set_traits(stray, YUBIKEY_TRAITS)
        expected = {("server is gone", gone), ("host is gone", stray)}
        self.assertEqual(expected, set(self.audit()))
        self.assertEqual(expected, set(self.audit("--fix")))
        self.assertEqual([], self.audit())
        held = {p: r for p, r in self.allocations(server).items() if KEY not in r}
        self.server.allocate(server["id"], held)
        self.assertEqual([("server without device", server["id"])], self.audit("--fix"))

    def test_a_soft_deleted_server_keeps_what_it_holds(self):
        self.flags(reclaim_instance_interval=3600)
        device = self.plug(self.hosts[0], "A")
        server = self.boot_one()
        self.api.delete_server(server["id"])
        self._wait_for_state_change(server, "SOFT_DELETED")
        self.assertEqual([], self.audit("--fix"))
        self.assertEqual(1, self.server.used(device))
