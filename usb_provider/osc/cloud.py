"""The services of the caller's cloud, each made when a command first needs it, and what a consumer is."""

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

from usb_provider.model.guest_controllers import SINCE_USB_MODEL, is_old_by_api
from usb_provider.openstack.session import Caller
from usb_provider.osc.fleet import Fleet
from usb_provider.osc.glance import Glance
from usb_provider.osc.keystone import Keystone
from usb_provider.osc.model.audit import Consumer, ConsumerKind, consumer_of
from usb_provider.osc.nova import Nova
from usb_provider.osc.placement import FleetClient
from usb_provider.osc.progress import Progress

AT_A_TIME = 8
"""Parallel requests, as many as the agent makes."""


class Cloud:
    """Placement, Nova, Keystone and Glance of *caller*'s cloud."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    @cached_property
    def progress(self) -> Progress:
        """What a person at a terminal is told of a long command."""
        return Progress()

    @cached_property
    def executor(self) -> ThreadPoolExecutor:
        """Threads for parallel requests; they end with the process."""
        return ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="usb")

    @cached_property
    def placement(self) -> FleetClient:
        """Placement."""
        return FleetClient(self._caller.transport(FleetClient.service))

    @cached_property
    def fleet(self) -> Fleet:
        """The devices in Placement."""
        return Fleet(self.placement, self.executor, self.progress)

    @cached_property
    def nova(self) -> Nova:
        """Nova."""
        return Nova(self._caller.transport(Nova.service))

    def nova_is_old(self) -> bool | None:
        """Whether Nova ignores hw:usb_model; None where it cannot be told.

        One request to Nova, and where its API does not decide, one to Placement.
        """
        newest = self.nova.newest_microversion()
        old = None if newest is None else is_old_by_api(newest)
        if newest is not None and old is None:
            return not self.placement.is_in_use(SINCE_USB_MODEL)
        return old

    @cached_property
    def keystone(self) -> Keystone:
        """Keystone."""
        return Keystone(self._caller.transport(Keystone.service))

    @property
    def project_id(self) -> str | None:
        """The caller's project, if the caller has one."""
        return self._caller.project_id

    @property
    def region_name(self) -> str | None:
        """The caller's region, if the caller chose one."""
        return self._caller.region_name

    @cached_property
    def glance(self) -> Glance:
        """Glance."""
        return Glance(self._caller.transport(Glance.service))

    def consumers(self, uuids: Collection[str], servers: Mapping[str, str] | None = None) -> dict[str, Consumer]:
        """What each of these consumers is; *servers* are names by UUID that are known already.

        One request to Nova for each that is not known, some at a time; where one is no server, all migrations, in
        pages; and where one is no migration either, one to Placement for each of these.

        :raises Unavailable, AccessRefused, Incompatible: when Nova does not say.
        """
        names = dict(servers or {})
        names |= self._server_names(set(uuids) - names.keys())
        migrations = {}
        if strangers := set(uuids) - names.keys():
            with self.progress.of("Reading the migrations from Nova"):
                migrations = self.nova.migrations()
            moving = {migrations[uuid].server_uuid for uuid in strangers if uuid in migrations}
            names |= self._server_names(moving - names.keys())
        return {uuid: consumer_of(uuid, names, migrations) or self._stranger(uuid) for uuid in uuids}

    def _server_names(self, uuids: Collection[str]) -> dict[str, str]:
        """The names of those that are servers."""
        asked = sorted(uuids)
        with self.progress.of("Reading the names of servers from Nova", len(asked)) as step:
            found = dict(zip(asked, self.executor.map(lambda uuid: self._server_name(uuid, step), asked), strict=True))
        return {uuid: name for uuid, name in found.items() if name is not None}

    def _server_name(self, uuid: str, step: Callable[[], None]) -> str | None:
        try:
            return self.nova.server_name(uuid)
        finally:
            step()

    def _stranger(self, uuid: str) -> Consumer:
        """A consumer that Nova does not know: it belongs to another service, or no longer exists."""
        kind = self.placement.consumer_type(uuid)
        if kind in (None, "INSTANCE", "MIGRATION", "unknown"):
            return Consumer(uuid, ConsumerKind.GONE)
        return Consumer(uuid, ConsumerKind.FOREIGN, detail=kind)
