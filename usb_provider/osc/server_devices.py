"""The steps by which a server gets one more device, or gives one back, with the caller's credentials.

Attach: the server's claim grows by a unit, and the agent does the rest. Detach: a trait asks the agent to take the
device from the guest; when the agent has answered, the claim shrinks. So a device is never free in Placement while a
guest has it, and a command that was interrupted leaves a trait that the next one finds; why:
docs/adr/0021-running-servers.md. model/server.py decides what stands in the way.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from placement_traits import MANAGED, attach_trait, detach_trait, is_request
from usb_provider.exception import AccessRefused, Conflict, NotPossibleNow, Unavailable, UnknownArgument
from usb_provider.model.reporting.tree import ObservedProvider
from usb_provider.osc.cloud import Cloud
from usb_provider.osc.fleet import device_of
from usb_provider.osc.model import server as model
from usb_provider.osc.model.audit import Server
from usb_provider.osc.model.fleet import Device, Write
from usb_provider.osc.model.server import ServerClaim, WantedDevice
from usb_provider.osc.model.surplus import HeldDevice, Surplus, surpluses

_ATTEMPTS = 6
_LOOK_AGAIN = 2.0
"""Seconds between two looks while a command waits."""


@dataclass(frozen=True, slots=True)
class Released:
    """How a detach ended: whether the server no longer holds the device, and on which host that was."""

    device: Device
    is_done: bool


class ServerDevices:
    """The USB devices of servers of *cloud*; *say* is given what a user should know, a sentence each."""

    def __init__(self, cloud: Cloud, say: Callable[[str], None]) -> None:
        self._cloud = cloud
        self._say = say

    def find(self, name_or_uuid: str) -> Server:
        """The server of that name in the caller's project, or of that UUID in any that the caller may see.

        :raises UnknownArgument: when there is none, or several; the caller should name another.
        """
        found = self._cloud.nova.server(name_or_uuid)
        if found is not None:
            return found
        own = self._cloud.nova.servers_named(name_or_uuid)
        if len(own) == 1:
            return own[0]
        if own:
            raise UnknownArgument(f"Your project has several servers called {name_or_uuid}; give the UUID of one.")
        try:
            others = self._cloud.nova.servers_named(name_or_uuid, of_all_projects=True)
        except AccessRefused:
            others = []
        if others:
            raise UnknownArgument(
                f"The server called {name_or_uuid} is another project's, {others[0].project_id}; give its UUID, "
                f"{others[0].uuid}, if you mean it."
            )
        raise UnknownArgument(
            f'Nova has no server {name_or_uuid} that your user may see; "openstack server list" shows yours.'
        )

    def held(self, claim: ServerClaim | None) -> list[HeldDevice]:
        """The USB devices in *claim*, by name; 5 requests for each, and 1 for each other provider."""
        uuids = [] if claim is None else sorted(claim.allocations)
        found = self._cloud.executor.map(self._device, uuids)
        return sorted(
            (
                HeldDevice(device, min(claim.allocations[device.uuid]), claim.units(device.uuid))
                for device in found
                if claim is not None and device is not None
            ),
            key=lambda each: each.device.name,
        )

    def surplus(self, server: Server, claim: ServerClaim | None) -> tuple[Surplus, ...]:
        """Each USB device in *claim*, by name, and what of it the flavor of *server* does not ask for."""
        return _surplus(server, self.held(claim))

    def attach(self, server: Server, wanted: WantedDevice) -> HeldDevice:
        """Have *server* hold one more device, and give it, with the units that the server then holds of it.

        :raises NotPossibleNow: when something stands in the way. :raises UnknownArgument: when a name is wrong.
        """
        self._check_names(wanted)
        is_old = self._cloud.nova_is_old()
        for _ in range(_ATTEMPTS):
            model.check_ready(server)
            root = self._cloud.fleet.host(server.node)
            claim = model.check_claim(server, self._cloud.placement.claim(server.uuid), root.uuid)
            model.check_ports(server, sum(each.units for each in self.held(claim)), is_old=is_old)
            is_checked = self._check_limit(server, wanted.resource_class)
            devices = self._cloud.fleet.devices(root.uuid)
            free = self._cloud.placement.free_providers(root.uuid, wanted.resource_class, wanted.traits)
            device = model.choose(server, wanted, devices, free, root.name)
            try:
                larger = claim.with_unit(device.uuid, wanted.resource_class)
                self._cloud.placement.replace_claim(server.uuid, larger)
            except Conflict:
                server = self._again(server)
                continue
            if not is_checked:
                self._say(
                    f"The unified limit of the project {server.project_id} was not checked, since Keystone shows it to "
                    f"that project only."
                )
            return HeldDevice(device, wanted.resource_class, larger.units(device.uuid))
        raise NotPossibleNow(_keeps_changing(server))

    def wait_until_attached(self, server: Server, held: HeldDevice, seconds: float) -> None:
        """Return when the guest of *server* has all units of *held*.

        :raises Unavailable: when it does not have it in time; the server keeps its claim.
        :raises NotPossibleNow: when the server lost it meanwhile; the caller should look at the server.
        """
        device, asks = held.device, attach_trait(server.uuid)
        self._change(device, add={asks})
        try:
            with self._cloud.progress.of(f"Waiting until the guest of {server.name} has {device.name}"):
                if self._wait(seconds, lambda: asks not in self._traits(device)):
                    # The agent also removes the trait where the server holds nothing any more.
                    model.check_kept(server, held, self._cloud.placement.claim(server.uuid))
                    return
        finally:
            self._change(device, remove={asks})
        raise Unavailable(
            f"The guest of server {server.name} does not have {device.name} after {seconds:.0f} s, and the server goes "
            f'on holding it; "usb-provider status" on {device.host} says what the guest waits for.'
        )

    def detach(self, server: Server, name: str, *, force: bool = False, seconds: float = 0.0) -> Released:
        """Take the device *name* from *server*: first from the guest, then its claim.

        Where the agent has not answered after *seconds*, the request stays, and the next call goes on with it.

        :param force: let the claim go without the agent's answer.
        :raises NotPossibleNow: when something stands in the way. :raises UnknownArgument: when a name is wrong.
        """
        if not force:
            model.check_ready(server, to_detach=True)
        claim = self._cloud.placement.claim(server.uuid)
        held = self.held(claim)
        device = self._named(server, held, name)
        units = 0 if claim is None else claim.units(device.uuid)
        stay = model.asked_to_stay(device.traits, server.uuid)
        if units and stay is None:
            stay = units - 1
            self._check_beyond(server, device, 1, held)
            self._change(device, add={detach_trait(server.uuid, stay)})
        # Otherwise, an earlier command was interrupted after the claim had shrunk.
        if stay is not None and units > stay:
            if not self._may_go(server, device, stay, force=force, seconds=seconds):
                return Released(device, is_done=False)
            self._release(server, device, stay, force=force)
        self._change(device, remove=model.request_traits(self._traits(device), server.uuid))
        return Released(device, is_done=True)

    def _may_go(self, server: Server, device: Device, stay: int, *, force: bool, seconds: float) -> bool:
        """Whether the guest no longer has the device, or does not run."""
        # Asked after the request was written: from then on, a start does not bring the device into the guest.
        now = self._again(server)
        if now.status == model.OFF and not now.task:
            return True
        if force:
            self._say(
                f"The agent on {device.host} was not waited for: until it has detached {device.name}, the guest of "
                f"server {server.name} has it, and no other guest can get it."
            )
            return True
        with self._cloud.progress.of(f"Waiting until the agent on {device.host} has detached {device.name}"):
            return self._wait(seconds, lambda: model.is_detached(self._traits(device), server.uuid, stay))

    def _release(self, server: Server, device: Device, stay: int, *, force: bool) -> None:
        """Shrink the claim. It is looked at anew after each conflict: Nova may move the server."""
        for _ in range(_ATTEMPTS):
            claim = self._cloud.placement.claim(server.uuid)
            if claim is None or claim.units(device.uuid) <= stay:
                return
            server = self._again(server)
            if not force:
                model.check_ready(server, to_detach=True)
            self._check_beyond(server, device, claim.units(device.uuid) - stay, self.held(claim))
            smaller = claim.with_at_most(device.uuid, min(claim.allocations[device.uuid]), stay)
            try:
                self._cloud.placement.replace_claim(server.uuid, smaller)
                return
            except Conflict:
                continue
        raise NotPossibleNow(_keeps_changing(server))

    def _check_beyond(self, server: Server, device: Device, units: int, held: Sequence[HeldDevice]) -> None:
        """Raise NotPossibleNow where the flavor needs some of these *units*; a request for them is taken back."""
        try:
            model.check_beyond(server, device, units, _surplus(server, held))
        except NotPossibleNow:
            self._change(device, remove=model.request_traits(self._traits(device), server.uuid))
            raise

    def _named(self, server: Server, held: Sequence[HeldDevice], name: str) -> Device:
        """The device of *held*, what *server* holds, or one that an interrupted detach from it has left."""
        for each in held:
            if name in (each.device.uuid, each.device.name, each.device.key):
                return each.device
        listed = self._cloud.fleet.find(name)
        device = self._device(listed.uuid)
        if device is None or not model.request_traits(device.traits, server.uuid):
            raise UnknownArgument(
                f'Server {server.name} does not hold {name}; "openstack usb server list" shows what it holds.'
            )
        return device

    def _check_names(self, wanted: WantedDevice) -> None:
        placement = self._cloud.placement
        if wanted.resource_class not in placement.resource_classes():
            raise UnknownArgument(
                f"Placement has no resource class {wanted.resource_class}; an agent creates it with its first device."
            )
        if missing := sorted(wanted.traits - placement.existing_traits(wanted.traits)):
            raise UnknownArgument(f'Placement has no trait {", ".join(missing)}; "openstack trait list" shows all.')

    def _check_limit(self, server: Server, resource_class: str) -> bool:
        """Whether the limit could be checked. :raises NotPossibleNow: when it is reached."""
        project = server.project_id
        if project != self._cloud.project_id:
            return False
        limits = self._cloud.keystone.limits(project, resource_class, self._cloud.region_name)
        if limits.effective is not None:
            used = self._cloud.placement.used_by_project(project, resource_class)
            model.check_limit(server, resource_class, limits, used)
        return True

    def _again(self, server: Server) -> Server:
        found = self._cloud.nova.server(server.uuid)
        if found is None:
            raise NotPossibleNow(f"Server {server.name} was deleted in the meantime.")
        return found

    def _device(self, uuid: str) -> Device | None:
        """The USB device with that provider; None where it is none, or gone."""
        placement = self._cloud.placement
        listed = next(iter(placement.listed([("uuid", uuid)])), None)
        if listed is None or listed.uuid == listed.root_uuid:
            return None
        have = placement.observe(uuid, listed.name)
        if MANAGED not in have.traits:
            return None
        root = next(iter(placement.listed([("uuid", listed.root_uuid)])), None)
        return device_of(have, "" if root is None else root.name, listed.root_uuid)

    def _traits(self, device: Device) -> frozenset[str]:
        return self._cloud.placement.traits(device.uuid)[1]

    def _change(self, device: Device, *, add: Collection[str] = (), remove: Collection[str] = ()) -> None:
        """Give and take traits; requests that no provider has any more are deleted from the cloud."""

        def step(have: ObservedProvider) -> Write | None:
            return model.changed_traits(have, add=add, remove=remove)

        self._cloud.fleet.change(self._cloud.placement.observe(device.uuid, device.name), step)
        self._cloud.fleet.delete_unused(filter(is_request, remove))

    def _wait(self, seconds: float, is_over: Callable[[], bool]) -> bool:
        """Whether *is_over* becomes true within *seconds*; it is asked once in any case."""
        end = time.monotonic() + seconds
        while not is_over():
            if time.monotonic() >= end:
                return False
            time.sleep(_LOOK_AGAIN)
        return True


def _surplus(server: Server, held: Sequence[HeldDevice]) -> tuple[Surplus, ...]:
    return surpluses(held, server.extra_specs, {each.resource_class for each in held})


def _keeps_changing(server: Server) -> str:
    return (
        f"The claim of server {server.name}, or a device of its compute node, changed at each attempt; try again later."
    )
