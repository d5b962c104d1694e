"""``openstack usb server attach|detach|list``: the USB devices of a server that runs, or that is shut off.

server_devices.py takes the steps, model/server.py decides what stands in the way. This module reads arguments and
prints.
"""

import argparse

from usb_provider.exception import UnknownArgument
from usb_provider.osc import base
from usb_provider.osc.device import Fields, Table, seconds
from usb_provider.osc.model import server as model
from usb_provider.osc.model.server import WantedDevice
from usb_provider.osc.server_devices import ServerDevices

WAIT = 300
"""Seconds that --wait waits by default: the agent looks once a minute, and an attach may take 40 s."""

_SERVER = "Name of a server of your project, or UUID of a server"


def _add_wait(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--wait", action="store_true", help=f"Wait until {what}")
    parser.add_argument(
        "--timeout",
        metavar="<seconds>",
        type=seconds,
        help=f"How long to wait at most, with --wait (default {WAIT})",
    )


def _seconds_to_wait(parsed_args: argparse.Namespace) -> int:
    """For how long to wait; 0 without --wait. :raises UnknownArgument: for a time limit without --wait."""
    if parsed_args.timeout is not None and not parsed_args.wait:
        raise UnknownArgument("--timeout needs --wait.")
    if not parsed_args.wait:
        return 0
    return WAIT if parsed_args.timeout is None else int(parsed_args.timeout)


class AttachToServer(base.ShowOne):
    """Attach a free USB device of the server's own host to the server, beyond what its flavor asks for.

    The server must be ACTIVE or SHUTOFF. Its claim in Placement grows by one unit, and keeps its project, its user and
    all else. The agent on the host attaches the device at its next look; a server that is shut off gets it at its next
    start. A resize, a migration and shelving lose the device.
    """

    cost = (
        "It makes about 20 requests to Placement, and 5 for each USB device that the server holds; 3 or 4 to Nova; and "
        "2 to Keystone, for the unified limit of the project. With --wait, 1 to Placement each 2 seconds."
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Give the arguments."""
        parser = super().get_parser(prog_name)
        parser.add_argument("server", metavar="<server>", help=_SERVER)
        parser.add_argument(
            "--resource-class",
            metavar="<resource-class>",
            required=True,
            help="A full name, or what follows CUSTOM_USB_, such as KEY",
        )
        parser.add_argument(
            "--trait",
            metavar="<trait>",
            action="append",
            default=[],
            help="A trait that the device must have. May be repeated",
        )
        parser.add_argument("--device", metavar="<device>", help="This device: the name, UUID or key of its provider")
        _add_wait(parser, "the guest has the device")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Fields:
        """Attach, and give the fields."""
        limit = _seconds_to_wait(parsed_args)
        devices = ServerDevices(self.cloud, self.warn)
        server = devices.find(parsed_args.server)
        wanted = WantedDevice(
            base.full_class_name(parsed_args.resource_class), frozenset(parsed_args.trait), parsed_args.device
        )
        attached = devices.attach(server, wanted)
        device = attached.device
        state = "the agent attaches it"
        if server.status == model.OFF:
            state = "the guest gets it at its next start"
        elif limit:
            devices.wait_until_attached(server, attached, limit)
            state = "the guest has it"
        fields = {
            "server": server.name,
            "id": device.uuid,
            "device": device.name,
            "resource_class": wanted.resource_class,
            "host": device.host,
            "state": state,
        }
        return tuple(fields), base.cells(*fields.values())


class DetachFromServer(base.Command):
    """Detach a USB device from a server that has it beyond its flavor.

    The agent on the host takes the device from the guest, and only then the server's claim in Placement shrinks: the
    device is never free while a guest has it. Without --wait, the command only asks the agent; repeat it to let the
    claim go. That also finishes a detach that was interrupted. Where the server is shut off, the claim goes at once.
    The server must be ACTIVE, SHUTOFF or in ERROR.
    """

    cost = (
        "It makes about 20 requests to Placement, and 5 for each USB device that the server holds, and 2 to 4 to Nova. "
        "With --wait, 1 to Placement each 2 seconds."
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Give the arguments."""
        parser = super().get_parser(prog_name)
        parser.add_argument("server", metavar="<server>", help=_SERVER)
        parser.add_argument("device", metavar="<device>", help="Name, UUID or key of the device's provider")
        _add_wait(parser, "the agent has detached the device and the claim is gone")
        parser.add_argument(
            "--force",
            action="store_true",
            help="Let the claim go without the agent, as when its host is down, and in any state of the server. Until "
            "the agent detaches the device, the guest still has it",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Detach."""
        limit = _seconds_to_wait(parsed_args)
        devices = ServerDevices(self.cloud, self.warn)
        server = devices.find(parsed_args.server)
        released = devices.detach(server, parsed_args.device, force=parsed_args.force, seconds=limit)
        if released.is_done:
            return
        host, device = released.device.host, released.device.name
        if limit:
            self.exit_code = 1
            self.warn(
                f"The agent on {host} has not detached {device} after {limit} s, and server {server.name} goes on "
                f"holding it. Check that the agent runs; repeat the command to go on, or use --force where the host is "
                f"down."
            )
        else:
            self.warn(
                f"The agent on {host} was asked to detach {device}; repeat the command, or use --wait, to let the "
                f"claim of server {server.name} go."
            )


class ListServer(base.Lister):
    """List the USB devices that a server holds: for its flavor, or attached to it, and what stands in the way.

    Where several devices suit the flavor equally, Placement does not say which of them was attached; as many of them
    can be detached as the flavor does not ask for. A move to another host exchanges a device that the flavor asks for,
    and loses one that was attached.
    """

    cost = "It makes 2 requests to Placement and 5 for each USB device that the server holds, and 1 to 3 to Nova."

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Give the arguments."""
        parser = super().get_parser(prog_name)
        parser.add_argument("server", metavar="<server>", help=_SERVER)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Table:
        """Give the table."""
        devices = ServerDevices(self.cloud, self.warn)
        server = devices.find(parsed_args.server)
        rows = []
        for each in devices.surplus(server, self.cloud.placement.claim(server.uuid)):
            device, hindrance = each.held.device, model.what_hinders(server, each.held)
            for origin, units in model.origins(each):
                rows.append(
                    base.cells(
                        device.uuid,
                        device.host,
                        device.key,
                        each.held.resource_class,
                        units,
                        origin,
                        device.state.value,
                        model.AFTER_A_MOVE[origin],
                        hindrance,
                    )
                )
        return ("ID", "Host", "Device", "Resource Class", "Units", "By", "State", "After a Move", "In the Way"), rows
