"""Devices of a server that runs: what stands in the way of one more or one less, and the claim that it then has. Pure.

surplus.py says which devices the flavor asks for. A method that refuses raises the sentence for the user.
"""

import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from placement_traits import (
    STATE_SHORT,
    attach_requests,
    detach_answers,
    detach_requests,
    detach_trait,
    detached_trait,
)
from usb_provider.exception import NotPossibleNow, UnknownArgument
from usb_provider.model import lifecycle
from usb_provider.model.guest_controllers import REDIRECTED_PORTS, most_devices, redirected_ports
from usb_provider.model.lifecycle import FleetState
from usb_provider.model.reporting.tree import ObservedProvider
from usb_provider.osc.model.audit import Server
from usb_provider.osc.model.flavor import USB_MODEL
from usb_provider.osc.model.fleet import Device, Write
from usb_provider.osc.model.surplus import HeldDevice, Surplus

READY = ("ACTIVE", "SHUTOFF")
"""The states in which Nova leaves a server and its claim alone."""

READY_TO_DETACH = (*READY, "ERROR")
"""In ERROR as well: it may be there since its next start was refused for a device that is too much for its guest."""

OFF = "SHUTOFF"

AFTER_A_MOVE = {"flavor": "exchanged", "flavor or attached": "exchanged or lost", "attached": "lost"}
"""What a move to another host does to a device, by why the server holds it: Nova claims there what the flavor says."""


@dataclass(frozen=True, slots=True)
class ServerClaim:
    """All that a server holds, ``{provider UUID: {class: amount}}``, with what Placement keeps of it besides."""

    allocations: Mapping[str, Mapping[str, int]]
    generation: int
    project_id: str
    user_id: str

    def units(self, provider_uuid: str) -> int:
        """How many units of the provider it has."""
        return sum(self.allocations.get(provider_uuid, {}).values())

    def with_unit(self, provider_uuid: str, resource_class: str) -> "ServerClaim":
        """This with one unit more; all else stays."""
        has = self.allocations.get(provider_uuid, {})
        more = {**has, resource_class: has.get(resource_class, 0) + 1}
        return dataclasses.replace(self, allocations={**self.allocations, provider_uuid: more})

    def with_at_most(self, provider_uuid: str, resource_class: str, units: int) -> "ServerClaim":
        """This with no more than *units* of the provider; all else stays."""
        less = {**self.allocations.get(provider_uuid, {})}
        less[resource_class] = min(units, less.get(resource_class, 0))
        kept = {name: amount for name, amount in less.items() if amount}
        others = {uuid: has for uuid, has in self.allocations.items() if uuid != provider_uuid}
        return dataclasses.replace(self, allocations={**others, **({provider_uuid: kept} if kept else {})})


@dataclass(frozen=True, slots=True)
class UnifiedLimits:
    """How many units of a class Keystone lets a project have: its own limit, and the default; None where there is none.

    Below 0 stands for any number.
    """

    of_project: int | None = None
    registered: int | None = None

    @property
    def effective(self) -> int | None:
        """The limit that counts; None where the project may have any number."""
        limit = self.registered if self.of_project is None else self.of_project
        return None if limit is None or limit < 0 else limit


@dataclass(frozen=True, slots=True)
class WantedDevice:
    """What a user wants for a server: a class, traits, and maybe a device by its name, its UUID, or its key."""

    resource_class: str
    traits: frozenset[str] = frozenset()
    name: str | None = None

    def is_named(self, device: Device) -> bool:
        """Whether the user named *device*."""
        return self.name in (device.name, device.uuid, device.key)


def check_ready(server: Server, *, to_detach: bool = False) -> None:
    """Raise NotPossibleNow unless Nova leaves the server's claim alone now."""
    if server.status == "UNKNOWN":
        raise NotPossibleNow(f"Nova does not reach the cell of server {server.uuid}; try again when it does.")
    if server.task:
        raise NotPossibleNow(
            f"Nova is busy with server {server.name} (task {server.task}); try again when it has ended that."
        )
    if to_detach and server.status not in READY_TO_DETACH:
        raise NotPossibleNow(
            f"Server {server.name} is {server.status}; a device can be detached while it is ACTIVE, SHUTOFF or ERROR, "
            f"and with --force in any state."
        )
    if not to_detach and server.status not in READY:
        raise NotPossibleNow(
            f"Server {server.name} is {server.status}; a device can be attached while it is ACTIVE or SHUTOFF."
        )
    if not server.node:
        raise NotPossibleNow(
            f"Nova does not show you on which compute node server {server.name} is; your user needs the role admin."
        )


def check_claim(server: Server, claim: ServerClaim | None, root_uuid: str) -> ServerClaim:
    """*claim*, unless the server does not hold its host's resources: then raise NotPossibleNow."""
    if claim is None or root_uuid not in claim.allocations:
        raise NotPossibleNow(
            f"Server {server.name} holds nothing of its compute node {server.node} in Placement; run "
            f'"nova-manage placement heal_allocations" first.'
        )
    return claim


def check_ports(server: Server, devices: int, *, is_old: bool | None) -> None:
    """Raise NotPossibleNow where the guest has no USB port for one more than *devices*, as far as the flavor says.

    :param is_old: whether Nova ignores hw:usb_model; None where that is not known.
    """
    if server.extra_specs.get(USB_MODEL) == "none" and is_old is not True:
        raise NotPossibleNow(
            f"The flavor of server {server.name} has {USB_MODEL}=none, so its guest has no USB controller; resize it "
            f"to a flavor with {USB_MODEL}=qemu-xhci."
        )
    redirected = redirected_ports(server.extra_specs.get(REDIRECTED_PORTS))
    most = most_devices(is_old=is_old, redirected=redirected)
    if devices >= most:
        way_out = "detach one first" if most else f"resize it to a flavor with a lower {REDIRECTED_PORTS}"
        raise NotPossibleNow(
            f"Server {server.name} holds {devices} USB devices, and a guest's controller has no more than {most} free "
            f"ports{f', as {REDIRECTED_PORTS} takes {redirected} of them' if redirected else ''}; {way_out}."
        )


def check_kept(server: Server, held: HeldDevice, claim: ServerClaim | None) -> None:
    """Raise NotPossibleNow where *claim*, what *server* holds now, has fewer units of the device than *held*."""
    if claim is None or claim.units(held.device.uuid) < held.units:
        raise NotPossibleNow(
            f"Server {server.name} no longer holds {held.device.name}, which this command attached: another command "
            f'detached it, or Nova moved or deleted the server; "openstack usb server list" shows what it holds.'
        )


def check_limit(server: Server, resource_class: str, limits: UnifiedLimits, used: int) -> None:
    """Raise NotPossibleNow where the project of *server* has as many units, *used*, as Keystone lets it have."""
    limit = limits.effective
    if limit is not None and used >= limit:
        raise NotPossibleNow(
            f"The project {server.project_id} of server {server.name} has {used} of {resource_class}, and its unified "
            f"limit is {limit}; raise that, or detach one of its other devices."
        )


def choose(server: Server, wanted: WantedDevice, devices: Sequence[Device], free: Collection[str], host: str) -> Device:
    """The device for *server* of those on its *host*, the first by name.

    :param free: UUIDs of those that Placement gives for the class and the traits.
    :raises NotPossibleNow: when there is none; it says why.
    :raises UnknownArgument: when the user named a device that is not on this host.
    """
    leaving = {each.uuid for each in devices if server.uuid in detach_requests(each.traits)}
    for device in sorted(devices, key=lambda each: each.name):
        if device.uuid in free and device.uuid not in leaving and (wanted.name is None or wanted.is_named(device)):
            return device
    if wanted.name is not None:
        raise _named_device_is_not_free(server, wanted, devices, host)
    fitting = [each for each in devices if wanted.resource_class in each.amounts and wanted.traits <= each.traits]
    counts = Counter(each.state for each in fitting)
    said = ", ".join(f"{counts[state]} {state}" for state in FleetState if counts[state])
    traits = f" with {', '.join(sorted(wanted.traits))}" if wanted.traits else ""
    raise NotPossibleNow(
        f"The compute node {host} of server {server.name} has no free device of {wanted.resource_class}{traits}"
        f"{f' ({said})' if said else ''}; a device can only be attached to a server on its own host."
    )


def _named_device_is_not_free(
    server: Server, wanted: WantedDevice, devices: Sequence[Device], host: str
) -> NotPossibleNow | UnknownArgument:
    device = next((each for each in devices if wanted.is_named(each)), None)
    if device is None:
        return UnknownArgument(
            f"The compute node {host} of server {server.name} has no device {wanted.name}; a device can only be "
            f"attached to a server on its own host."
        )
    if server.uuid in detach_requests(device.traits):
        return NotPossibleNow(
            f"{device.name} is being detached from server {server.name}; repeat that until it is done, and attach it "
            f"then."
        )
    if device.amounts and wanted.resource_class not in device.amounts:
        return NotPossibleNow(f"{device.name} is of {device.resource_class}, and not of {wanted.resource_class}.")
    if missing := sorted(wanted.traits - device.traits):
        return NotPossibleNow(f"{device.name} lacks the trait {', '.join(missing)}.")
    return NotPossibleNow(f"{device.name} cannot be attached now: {device.reason.rstrip('.')}.")


def check_beyond(server: Server, device: Device, units: int, surplus: Sequence[Surplus]) -> None:
    """Raise NotPossibleNow where the flavor of *server* needs some of these *units* of *device*."""
    possible = sum(each.possible for each in surplus if each.held.device.uuid == device.uuid)
    if possible < units:
        raise NotPossibleNow(
            f"The flavor of server {server.name} asks for {device.name}, so it stays; resize the server to another "
            f"flavor to take it away."
        )


def origins(surplus: Surplus) -> tuple[tuple[str, int], ...]:
    """For what a server holds a device: words, and how many units that is true of."""
    return tuple(
        (word, units)
        for word, units in (
            ("flavor", surplus.held.units - surplus.possible),
            ("flavor or attached", surplus.possible - surplus.certain),
            ("attached", surplus.certain),
        )
        if units
    )


def asked_to_stay(traits: Collection[str], server_uuid: str) -> int | None:
    """How many units an unfinished detach leaves to the server; None where there is none."""
    return detach_requests(traits).get(server_uuid)


def is_detached(traits: Collection[str], server_uuid: str, stay: int) -> bool:
    """Whether the agent says that the server has no more than *stay* units attached, and a user still wants that."""
    return detach_trait(server_uuid, stay) in traits and detached_trait(server_uuid, stay) in traits


def request_traits(traits: Collection[str], server_uuid: str) -> frozenset[str]:
    """Those of *traits* by which the agent and users agree on detaches from the server."""
    return frozenset(
        name for name in traits if server_uuid in detach_requests({name}) or server_uuid in detach_answers({name})
    )


def changed_traits(have: ObservedProvider, *, add: Collection[str] = (), remove: Collection[str] = ()) -> Write | None:
    """The step that gives *have* the traits *add* and takes *remove*; None when there is nothing to do."""
    traits = (have.traits | set(add)) - set(remove)
    return Write(traits=traits) if traits != have.traits else None


def what_hinders(server: Server, held: HeldDevice) -> str:
    """What stands between *server* and its device, in sentences; empty where Placement shows nothing."""
    traits, said = held.device.traits, []
    if held.device.state in (FleetState.ABSENT, FleetState.WITHDRAWN):
        said.append(held.device.reason)
    elif STATE_SHORT in traits:
        said.append("Members of the pool are missing.")
    if held.device.waits:
        said.append(lifecycle.WAITS)
    stay = asked_to_stay(traits, server.uuid)
    if stay is not None and is_detached(traits, server.uuid, stay):
        said.append('The agent has detached it; "openstack usb server detach" lets it go.')
    elif stay is not None:
        said.append("The agent is asked to detach it.")
    elif server.uuid in attach_requests(traits):
        said.append("The agent has not attached it yet.")
    if server.status == OFF:
        said.append("The server is shut off.")
    return " ".join(said)
