"""A test host with the agent and the hook in it, and the hands that a cloud has: claims, starts, looks.

What there is to see is read from Placement, libvirt and QEMU, not from the product.
"""

import json
import time
import uuid as uuidlib
from collections.abc import Mapping
from typing import Any

from tests.fixtures.placement import PlacementServer
from tests.integration.lab import domains
from tests.integration.lab.agent import Agent
from tests.integration.lab.report import eventually
from tests.integration.lab.vm import CommandFailed, Vm

CLASS = "CUSTOM_USB_STORAGE"
MANAGED = "CUSTOM_USB_MANAGED"
ASKS: Mapping[str, str] = {f"resources:{CLASS}": "1", "hw:usb_model": "qemu-xhci"}
"""A flavor's extra specs, as nova writes them into the domain."""


class Cloud:
    """One compute node: its host, its agent, and Placement."""

    def __init__(self, vm: Vm, agent: Agent, placement: PlacementServer, root: str) -> None:
        """:param root: UUID of the compute node provider, which has the host's name."""
        self.vm = vm
        self.agent = agent
        self.placement = placement
        self.root = root

    def stick(self, serial: str, id: str | None = None, **where: Any) -> str:
        """Plug a stick in and give its provider's UUID, once it can be scheduled."""
        self.vm.plug(id or serial, serial=serial, **where)
        eventually(lambda: self.schedulable(serial), True)
        return self.provider(serial)

    def provider(self, serial: str) -> str:
        """The UUID of the provider of the stick with *serial*."""
        return str(self.placement.providers(self.root)[f"{self.vm.name}_usb_46f4:0001:{serial}"]["uuid"])

    def group(self, kind: str, name: str) -> str:
        """The UUID of the provider of a pool or a bundle, once the agent has made it and it has an inventory."""
        whole = f"{self.vm.name}_usb_{kind}_{name}"
        eventually(lambda: whole in self.placement.providers(self.root), True)
        provider = str(self.placement.providers(self.root)[whole]["uuid"])
        eventually(lambda: bool(self.placement.inventory(provider)), True)
        return provider

    def schedulable(self, serial: str) -> bool:
        """Whether the stick could be given away, were it not allocated."""
        inventory = self.placement.inventory(self.provider(serial))
        return all(entry["reserved"] < entry["total"] for entry in inventory.values()) and bool(inventory)

    def claim(self, name: str, *providers: str, units: int = 1) -> None:
        """Allocate *units* of each of *providers* to the domain *name*, as nova-scheduler does before the start."""
        self.placement.allocate(domains.uuid_of(name), {provider: {CLASS: units} for provider in providers})

    def forge(self, key: str) -> str:
        """Make *key*'s provider schedulable by hand, as somebody who can write to Placement could; gives its UUID."""
        uuid = str(uuidlib.uuid5(uuidlib.UUID(self.root), key))
        api = self.placement.api
        api.post(
            "/resource_providers",
            {"name": f"{self.vm.name}_usb_{key}", "uuid": uuid, "parent_provider_uuid": self.root},
        )
        for path in (f"/traits/{MANAGED}", f"/resource_classes/{CLASS}"):
            api.must("PUT", path)
        for what, content in (
            ("traits", [MANAGED]),
            ("inventories", {CLASS: {"total": 1, "max_unit": 1}}),
        ):
            generation = api.must("GET", f"/resource_providers/{uuid}")["generation"]
            api.must(
                "PUT",
                f"/resource_providers/{uuid}/{what}",
                {"resource_provider_generation": generation, what: content},
            )
        return uuid

    def release(self, name: str) -> None:
        """Take from the domain *name* all that it holds."""
        self.placement.release(domains.uuid_of(name))

    def boot(self, name: str, **facts: Any) -> str:
        """Define and start a domain; gives its UUID."""
        facts.setdefault("linux", False)
        facts.setdefault("extra_specs", ASKS)
        uuid = domains.define(self.vm, domains.domain_xml(name, **facts))
        domains.start(self.vm, name)
        return uuid

    def refused(self, name: str, **facts: Any) -> str:
        """What libvirt says when the domain is started, which must fail, and the domain not run."""
        facts.setdefault("linux", False)
        facts.setdefault("extra_specs", ASKS)
        domains.define(self.vm, domains.domain_xml(name, **facts))
        try:
            domains.start(self.vm, name)
        except CommandFailed as error:
            assert not domains.is_running(self.vm, name)
            return error.output
        raise AssertionError(f"{name} started")

    def has(self, name: str) -> list[str]:
        """Serials of the sticks that the guest really has: in the live XML by our alias, at their place, and alive."""
        serials = {(device.bus, device.device): device.serial for device in domains.host_devices(self.vm)}
        found = []
        for hostdev in domains.hostdevs(self.vm, name):
            assert hostdev.alias is not None and hostdev.alias.startswith("ua-usb-"), hostdev
            serial = serials.get((hostdev.bus or 0, hostdev.device or 0))
            if serial and domains.qom_attached(self.vm, name, hostdev.alias):
                assert hostdev.alias[7:43] in self._providers_of(serial), "a device of another provider"
                found.append(serial)
        return sorted(found)

    def _providers_of(self, serial: str) -> set[str]:
        """The UUIDs of the providers that the stick can be of: its own, pools and bundles."""
        prefix = f"{self.vm.name}_usb_"
        mine = (f"{prefix}46f4:0001:{serial}", f"{prefix}pool_", f"{prefix}bundle_")
        there = self.placement.providers(self.root).items()
        return {str(provider["uuid"]) for name, provider in there if name.startswith(mine)}

    def comes_to_have(self, name: str, *serials: str, seconds: float = 60) -> None:
        """Pass when the guest has exactly these sticks, and no other hostdev, within *seconds*."""
        eventually(lambda: self.has(name), sorted(serials), seconds)
        eventually(lambda: len(domains.hostdevs(self.vm, name)), len(serials), seconds)

    def stays_without(self, name: str, seconds: float = 6) -> None:
        """Pass when the guest has no hostdev at any moment of the next *seconds*."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert domains.hostdevs(self.vm, name) == []
            time.sleep(0.5)

    def audit(self, event: str) -> list[dict[str, Any]]:
        """The audit lines of *event* that the agent has written since it started."""
        found = []
        for line in self.agent.log().splitlines():
            start = line.find('{"event": ')
            if start >= 0 and (entry := json.loads(line[start:]))["event"] == event:
                found.append(entry)
        return found
