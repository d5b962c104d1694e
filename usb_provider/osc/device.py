"""``openstack usb device list|show|set|purge``: all devices, one device, draining it, and deleting absent ones.

model/fleet.py decides what a state means, and what is written.
"""

import argparse
from collections.abc import Collection, Iterable, Mapping, Sequence

from osc_lib.cli import format_columns

import placement_traits
from usb_provider.exception import Incompatible, NoEndpoint, UnknownArgument, UsbProviderError
from usb_provider.model.lifecycle import FleetState
from usb_provider.model.reporting.provider import NAME_MARK
from usb_provider.model.units.names import POOL_PREFIX
from usb_provider.osc import base
from usb_provider.osc.fleet import FEW_HOSTS, device_of
from usb_provider.osc.model import fleet
from usb_provider.osc.model.audit import Consumer
from usb_provider.osc.model.fleet import Device
from usb_provider.osc.model.members import drain_member, drain_trait, undrain_member
from usb_provider.osc.model.selection import Selection
from usb_provider.osc.nova import Flavor
from usb_provider.osc.purge import WAIT, Purge, kept

Table = tuple[Sequence[str], Iterable[Sequence[object]]]
Fields = tuple[Sequence[str], Sequence[object]]

COST = (
    "It makes 3 requests to Placement, whatever the number of devices and hosts; 1 more where a host has no memory "
    "left, and 3 for each device of a host that has no CPU left either"
)
FILTERED = (
    f"With --state, --trait or --resource-class, 1 for each state that is listed; where that leaves devices of at most "
    f"{FEW_HOSTS} hosts, 2 for each of these hosts in place of the other 2; and 1 or 2 more where a trait or a class "
    "does not exist"
)
SIDE_BY_SIDE = "up to 8 at a time"

_PROVIDER = "Name or UUID of the device's resource provider"


def add_filters(parser: argparse.ArgumentParser) -> None:
    """The filters that listings have in common."""
    parser.add_argument(
        "--host",
        metavar="<host>",
        help="Only devices of this compute node: the name or UUID of its resource provider",
    )
    parser.add_argument(
        "--resource-class",
        metavar="<resource-class>",
        help="Only devices of this class: a full name, or what follows CUSTOM_USB_, such as KEY. A free device that "
        "is absent has no class",
    )
    parser.add_argument(
        "--trait",
        metavar="<trait>",
        action="append",
        default=[],
        help="Only devices with this trait, such as CUSTOM_USB_VENDOR_1050. May be repeated; a device must have all",
    )


def filtered(command: base.Lister, parsed_args: argparse.Namespace, states: Iterable[FleetState] = ()) -> list[Device]:
    """The devices that match the filters, and are in one of *states* if there are any."""
    resource_class = parsed_args.resource_class and base.full_class_name(parsed_args.resource_class)
    wanted = Selection(frozenset(parsed_args.trait), resource_class or None, frozenset(states))
    return command.cloud.fleet.devices(parsed_args.host, wanted)


class ListDevice(base.Lister):
    """List the USB devices of all compute nodes, as they are in Placement."""

    cost = (
        f"{COST}. {FILTERED}. --long makes 1 more for each device shown that a consumer holds, and 1 to Nova for each "
        f"of its holders, {SIDE_BY_SIDE}; where a holder is no server, also 1 to Nova for each 1000 migrations. A "
        "device has one state, the first that is true of absent, withdrawn, drained, waiting, allocated, reserved and "
        "free; a bundle that lacks a device is incomplete in the place of absent. --state allocated, drained, waiting "
        "and absent also find a device that is shown in an earlier state or as incomplete, and a pool of which units "
        "are free."
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Give the arguments."""
        parser = super().get_parser(prog_name)
        add_filters(parser)
        parser.add_argument(
            "--state",
            metavar="<state>",
            action="append",
            choices=[state.value for state in FleetState],
            help="Only devices in this state: free; allocated (a consumer holds it); waiting (a "
            "running guest holds it and has not had it for a minute or longer); absent (not plugged in); "
            "incomplete (a bundle that lacks a device); drained "
            '(taken out of service with "usb device set --drain"); reserved (by hand, in the inventory); withdrawn '
            "(plugged in and not offered). May be repeated; a device must be in one of them",
        )
        parser.add_argument(
            "--long",
            action="store_true",
            help="Also show how many units it has and how many are held (more than 1 of a pool), the reason for the "
            "state, the traits, and who holds the device",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Table:
        """Give the table."""
        devices = filtered(self, parsed_args, map(FleetState, parsed_args.state or ()))
        columns = ("ID", "Host", "Device", "Resource Class", "State")
        # Rows are made one by one, when they are printed: a cloud may have 100,000 devices.
        if not parsed_args.long:
            return columns, map(_short, devices)
        holders = self.cloud.fleet.holders(devices)
        who = describe_consumers(self, {consumer for each in holders.values() for consumer in each})
        rows = (
            (
                *_short(device),
                device.units,
                device.units_held,
                device.reason,
                format_columns.ListColumn(sorted(device.traits)),
                *_held_by(holders.get(device.uuid, ()), who),
            )
            for device in devices
        )
        return (*columns, "Units", "Units Held", "Reason", "Traits", "Consumers", "Held By"), rows


def _short(device: Device) -> tuple[object, ...]:
    return base.cells(device.uuid, device.host, device.key, device.resource_class, device.state.value)


def _held_by(
    consumers: Collection[str], who: Mapping[str, Consumer]
) -> tuple[format_columns.ListColumn, format_columns.ListColumn]:
    """Consumers by their UUIDs, and in words where it is known what they are."""
    words = [base.safe(who[each]) for each in sorted(consumers) if each in who]
    return format_columns.ListColumn(sorted(consumers)), format_columns.ListColumn(words)


def describe_consumers(command: base.Lister | base.ShowOne, consumers: set[str]) -> dict[str, Consumer]:
    """What each consumer is; empty, with a warning, where Nova does not say."""
    if not consumers:
        return {}
    try:
        return command.cloud.consumers(consumers)
    except UsbProviderError as error:
        command.warn(f"The holders are shown by UUID only, since Nova does not say what they are: {error}")
        return {}


class ShowDevice(base.ShowOne):
    """Show one USB device: what its traits say of it, its state and why, and who holds it."""

    cost = (
        "It makes 6 requests to Placement, and 1 to Nova for each holder. Without a Nova that answers, holders are "
        "shown by their UUID alone."
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Give the arguments."""
        parser = super().get_parser(prog_name)
        parser.add_argument("provider", metavar="<provider>", help=_PROVIDER)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Fields:
        """Give the fields."""
        listed = self.cloud.fleet.find(parsed_args.provider)
        have = self.cloud.placement.observe(listed.uuid, listed.name)
        (root,) = self.cloud.placement.listed([("uuid", listed.root_uuid)]) or (None,)
        device = device_of(have, root.name if root else "", listed.root_uuid)
        facts = fleet.facts(device.traits)
        consumers, words = _held_by(have.allocations, describe_consumers(self, set(have.allocations)))
        fields = {
            "id": device.uuid,
            "name": device.name,
            "host": device.host,
            "state": device.state.value,
            "reason": device.reason,
            "resource_class": device.resource_class,
            "units": device.units,
            "units_held": device.units_held,
            "drained_members": format_columns.ListColumn(list(fleet.drained_members(device.traits))),
            "vendor_id": facts.vendor_id,
            "product_id": facts.product_id,
            "usb_classes": format_columns.ListColumn(list(facts.classes)),
            "speed": facts.speed,
            "serial": facts.serial,
            "other_traits": format_columns.ListColumn(list(facts.others)),
            "consumers": consumers,
            "held_by": words,
        }
        return tuple(fields), base.cells(*fields.values())


class SetDevice(base.Command):
    """Drain a USB device, so that it takes no new instance, or undrain it.

    An instance that holds the device keeps it. The device stays drained when it is unplugged, plugged in again or
    released, since the agent never ends a drain. Placement keeps the drain: as the trait CUSTOM_USB_STATE_DRAINED, and
    as reserved equal to total.
    """

    cost = "It makes at most 9 requests to Placement, and more only while another client writes the same device."

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Give the arguments."""
        parser = super().get_parser(prog_name)
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--drain", action="store_true", help="Let it take no new instance")
        what.add_argument(
            "--undrain",
            action="store_true",
            help="Let it take instances again; this also ends a reservation that was made by hand before the drain. "
            "A device that is absent or withdrawn takes instances again once it is back",
        )
        parser.add_argument(
            "--reason",
            metavar="<text>",
            help="Why it is drained. Placement keeps no free text, so this becomes a trait, CUSTOM_USB_DRAIN_REASON_ "
            "and the text in A-Z, 0-9 and underscores: every user who may read Placement can read it",
        )
        parser.add_argument(
            "--member",
            metavar="<key>",
            help='Only this member of a pool, by its key, as "usb-provider devices --json" shows it on the host. The '
            "agent then no longer counts it; the server that has it keeps it. Placement does not have the keys, so the "
            "agent warns where its host has no such member. To undrain, also by the 16 digits in drained_members of "
            '"usb device show"',
        )
        parser.add_argument("provider", metavar="<provider>", help=_PROVIDER)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Drain or undrain."""
        if parsed_args.undrain and parsed_args.reason is not None:
            raise UnknownArgument("--reason needs --drain.")
        if parsed_args.member is not None:
            self._set_member(parsed_args)
            return
        reason = None if parsed_args.reason is None else placement_traits.drain_reason_trait(parsed_args.reason)
        listed = self.cloud.fleet.find(parsed_args.provider)
        have = self.cloud.placement.observe(listed.uuid, listed.name)
        if parsed_args.drain:
            self.cloud.fleet.change(have, lambda now: fleet.drain(now, reason))
            if reason:
                self._delete_reasons(have.traits - {reason})
            kept = placement_traits.drain_reason({reason}) if reason else None
            if kept and kept != parsed_args.reason.lower():
                self.warn(f"The reason is kept as: {kept}")
            return
        if fleet.undrain(have) is None:
            reserved = any(not each.schedulable for each in have.inventories.values())
            hint = "; it is reserved by hand, so set reserved to 0 in its inventory" if reserved else ""
            raise UnknownArgument(f"{have.name} is not drained{hint}.")
        self.cloud.fleet.change(have, fleet.undrain)
        self._delete_reasons(have.traits)

    def _set_member(self, parsed_args: argparse.Namespace) -> None:
        """Drain or undrain one member of a pool."""
        listed = self.cloud.fleet.find(parsed_args.provider)
        if f"{NAME_MARK}{POOL_PREFIX}" not in listed.name:
            raise UnknownArgument(f"{listed.name} is not a pool; only of a pool, one member can be drained.")
        if parsed_args.reason is not None:
            raise UnknownArgument("--reason is for a whole device or pool; leave it out with --member.")
        have = self.cloud.placement.observe(listed.uuid, listed.name)
        drained = parsed_args.drain
        mark = drain_trait(have, parsed_args.member, listed.root_uuid, drained=drained)
        self.cloud.fleet.carry_out(have, lambda now: (drain_member if drained else undrain_member)(now, mark))
        if drained:
            self.warn(
                f"Placement does not have the keys of members: check on the host that {parsed_args.member} is drained "
                f'now ("usb-provider devices", "usb-provider doctor").'
            )

    def _delete_reasons(self, traits: Collection[str]) -> None:
        """Delete the reasons among *traits* from the cloud, but for those that another device has."""
        self.cloud.fleet.delete_unused(name for name in traits if placement_traits.drain_reason({name}) is not None)


class PurgeDevice(base.Lister):
    """Delete the resource providers of USB devices that are absent and free.

    Every build on a host fails while nova-compute has a deleted provider in its cache. So the command takes the
    providers out of their hosts' trees first, waits until nova-compute has forgotten them, and then deletes them.
    Builds go on all the time. If the command is interrupted, repeat it.

    Traits with the ids or serial number of a device (CUSTOM_USB_VENDOR_, PRODUCT_ and SERIAL_) that no provider and no
    flavor has any more are deleted as well.

    A device that is drained or reserved is kept: without its provider, it would come back undrained. A device that is
    plugged in meanwhile gets its provider back; one that is plugged in later gets a new provider.
    """

    cost = (
        f"{COST}; 1 or 2 more for what an interrupted purge has left; and where devices are absent and free, 1 more, 1 "
        f"for each of their hosts and 7 for each device, {SIDE_BY_SIDE}. Without --dry-run, also 1 "
        f"for the unused traits and 1 for each of them, and 1 to Nova for each 1000 flavors. Without --wait, also 1 to "
        f"Nova for each 1000 compute nodes."
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Give the arguments."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--host", metavar="<host>", help="Only devices of this compute node, by name or UUID")
        parser.add_argument("--dry-run", action="store_true", help="Only list what would be deleted")
        parser.add_argument(
            "--wait",
            metavar="<seconds>",
            type=seconds,
            help="How long to wait before the providers are deleted: longer than "
            "[compute]resource_provider_association_refresh of nova-compute, which is 300 by default. Where that is "
            f"0, restart nova-compute on the host during the wait. Default: {WAIT} if Nova has any of these compute "
            "nodes, or does not say; else 0",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Table:
        """Purge, and give the table."""
        absent = Selection(states=frozenset({FleetState.ABSENT}))
        found = self.cloud.fleet.devices(parsed_args.host, absent)
        found += self.cloud.fleet.set_aside(parsed_args.host)
        if parsed_args.dry_run:
            would = [device.purgeable or device.set_aside for device in found]
            results = ["would be deleted" if yes else kept(device) for device, yes in zip(found, would, strict=True)]
        else:
            wait = self._wait(found) if parsed_args.wait is None else parsed_args.wait
            purge = Purge(self.cloud.placement, self.cloud.executor, self.warn)
            results = purge.run(found, wait)
            purge.delete_unused_traits(self._flavors)
        # The other providers are deleted all the same.
        self.exit_code = int(any(result.startswith("not deleted") for result in results))
        rows = [
            base.cells(device.uuid, device.host, device.key, result)
            for device, result in zip(found, results, strict=True)
        ]
        return ("ID", "Host", "Device", "Result"), rows

    def _flavors(self) -> list[Flavor]:
        """All flavors; none where there is no Nova. :raises UsbProviderError: when Nova does not say."""
        try:
            return self.cloud.nova.flavors()
        except (NoEndpoint, Incompatible):
            return []

    def _wait(self, found: Sequence[Device]) -> int:
        """How long some nova-compute may have what is to be deleted of *found* in its cache, in seconds."""
        try:
            caching = self.cloud.nova.compute_nodes()
        except (NoEndpoint, Incompatible):
            # There is no Nova here: the catalogue has none, or another service answers at the endpoint that was given.
            return 0
        except UsbProviderError:
            return WAIT
        # What an interrupted purge left no longer says of which tree it was.
        return WAIT if any((each.set_aside and caching) or each.host_uuid in caching for each in found) else 0


def seconds(text: str) -> int:
    """A number of seconds, 0 or more. :raises ValueError: when it is none; argparse then names the option."""
    if (number := int(text)) < 0:
        raise ValueError(text)
    return number
