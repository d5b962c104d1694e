"""``openstack usb host list``: counts the devices of each compute node, as model/fleet.py does."""

import argparse

from usb_provider.model.lifecycle import FleetState
from usb_provider.osc import base
from usb_provider.osc.device import COST, FILTERED, Table, add_filters, filtered
from usb_provider.osc.model.fleet import count_by_host

_COUNTED = (FleetState.ABSENT, FleetState.DRAINED, FleetState.RESERVED, FleetState.WITHDRAWN, FleetState.INCOMPLETE)


class ListHost(base.Lister):
    """List the compute nodes that have USB devices, and how many of them are offered, free, allocated and absent.

    Offered is what is plugged in and not withdrawn, free or not. Allocated is what a consumer holds, absent or not,
    so the columns need not add up. Each unit of a pool counts; a pool of which no unit can be had now, and none is
    held, counts as one.
    """

    cost = f"{COST}. {FILTERED}."

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Give the arguments."""
        parser = super().get_parser(prog_name)
        add_filters(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Table:
        """Give the table."""
        columns = ("Host", "Offered", "Free", "Allocated", *(state.value.capitalize() for state in _COUNTED))
        return columns, [
            base.cells(
                count.host or count.host_uuid,
                count.offered,
                count.states[FleetState.FREE],
                count.held,
                *(count.states[state] for state in _COUNTED),
            )
            for count in count_by_host(filtered(self, parsed_args))
        ]
