"""``openstack usb audit``: what does not fit together between Placement and Nova, and repairing it.

model/audit.py decides what is wrong. This module reads both sides, in an order that makes no false alarms, and repairs.
"""

import argparse
from collections.abc import Collection, Mapping, Sequence

from usb_provider.exception import InUse, UsbProviderError
from usb_provider.osc import base
from usb_provider.osc.device import COST, SIDE_BY_SIDE, Table
from usb_provider.osc.model import audit
from usb_provider.osc.model.audit import (
    AllocationsDeletion,
    AuditFinding,
    Consumer,
    ConsumerKind,
    Problem,
    ProviderDeletion,
)
from usb_provider.osc.model.flavor import is_usb

_OF_SERVERS = (Problem.NO_DEVICE, Problem.BEYOND)
"""What is known of servers that Nova has listed."""


class Audit(base.Lister):
    """List what does not fit together between Placement and Nova.

    That is: devices of hosts that are gone, allocations of servers that are gone or of migrations that are over, and
    servers whose flavor asks for more USB devices than they hold. A server that holds a device beyond its flavor is
    listed as well; that is no trouble by itself.

    Nothing is changed without --fix. With it, the providers of free devices of a host that is gone are deleted, and the
    allocations of a server that is gone or of a migration that is over. You must repair a server without its device
    yourself. A new host that Nova has not mapped to a cell yet looks as if it were gone; run
    "nova-manage cell_v2 discover_hosts" first. The hosts and servers of another Nova that shares this Placement look
    as if they were gone, too: do not use --fix there. The exit code is 1 when something is still wrong.
    """

    cost = (
        f"{COST}; 1 for each device that a consumer holds, {SIDE_BY_SIDE}, and 1 or 2 for each finding. Nova is asked "
        "for all servers and all compute nodes, in pages of 1000 and an empty one at the end; where a holder is no "
        "server, for that holder and, in pages as well, for all migrations; and once or twice for each finding. "
        "It needs the role admin."
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Give the arguments."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--fix", action="store_true", help="Repair what can be repaired, instead of only listing it"
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Table:
        """Compare, repair with --fix, and give the table."""
        found = self._findings()
        results = self._fix_all(found) if parsed_args.fix else [_offer(each) for each in found]
        wrong = [result for each, result in zip(found, results, strict=True) if each.problem is not Problem.BEYOND]
        if any(not result.startswith("done: ") for result in wrong):
            self.exit_code = 1
        columns = ("Problem", "ID", "Name", "What", "Fix")
        return columns, [
            base.cells(each.problem.value, each.uuid, each.name, each.text, result)
            for each, result in zip(found, results, strict=True)
        ]

    def _findings(self) -> Sequence[AuditFinding]:
        cloud = self.cloud
        # Servers first: Nova is asked again for one that is created later, and one that is deleted later holds nothing.
        with cloud.progress.of("Reading the servers from Nova"):
            servers = cloud.nova.servers()
        devices = cloud.fleet.devices()
        holders = cloud.fleet.holders(devices)
        uuids = {uuid for consumers in holders.values() for uuid in consumers}
        consumers = cloud.consumers(uuids, {server.uuid: server.name for server in servers})
        with cloud.progress.of("Reading the compute nodes from Nova"):
            compute_nodes = cloud.nova.compute_nodes()
        found = audit.findings(devices, holders, consumers, servers, compute_nodes)
        if any(each.problem not in _OF_SERVERS for each in found) and cloud.nova.a_cell_is_down():
            self.warn("A cell of Nova does not answer, so its servers are not known and nothing is repaired.")
            self.exit_code = 1
            found = tuple(each for each in found if each.problem in _OF_SERVERS)
        usb_classes = {name for device in devices for name in device.amounts}
        return [
            each for each in found if each.problem is not Problem.NO_DEVICE or self._still_lacks(each.uuid, usb_classes)
        ]

    def _still_lacks(self, uuid: str, usb_classes: Collection[str]) -> bool:
        """Whether a server still holds too little: it may have been resized or deleted between the listings."""
        server = self.cloud.nova.server(uuid)
        held = self.cloud.placement.consumer(uuid).values()
        devices = sum(any(is_usb(name, usb_classes) for name in resources) for resources in held)
        return server is not None and server.lacks(devices, usb_classes)

    def _fix_all(self, found: Sequence[AuditFinding]) -> list[str]:
        """The result of each. Nova is asked once more what a consumer is, right before its allocations are deleted."""
        consumers = {each.fix.consumer for each in found if isinstance(each.fix, AllocationsDeletion)}
        now = self.cloud.consumers(consumers)
        return [self._fix(each, now) for each in found]

    def _fix(self, finding: AuditFinding, consumers: Mapping[str, Consumer]) -> str:
        if finding.fix is None:
            return ""
        try:
            if isinstance(finding.fix, ProviderDeletion):
                self.cloud.placement.delete_provider(finding.fix.uuid)
            elif consumers[finding.fix.consumer].kind in (ConsumerKind.GONE, ConsumerKind.OVER):
                self.cloud.placement.delete_allocations(finding.fix.consumer)
            else:
                return "not done: this is no longer true"
        except InUse:
            return "not done: a consumer claimed it in the meantime"
        except UsbProviderError as error:
            return f"not done: {error}"
        return f"done: {finding.fix}"


def _offer(finding: AuditFinding) -> str:
    return f"--fix: {finding.fix}" if finding.fix else ""
