"""Finds the root for each pass, and refuses one that is another host's or that another agent writes below as well.

While it refuses, the agent writes nothing and detaches nothing. model/reporting/root_check.py judges the names and the
writes.
"""

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from usb_provider.agent.host_names import HostNames
from usb_provider.exception import Conflict, WrongRoot
from usb_provider.model.reporting.provider import Root
from usb_provider.model.reporting.root_check import UNDONE_TIMES, OwnWrites, is_another_hosts
from usb_provider.model.reporting.tree import ObservedTree
from usb_provider.model.text import printable
from usb_provider.placement.client import PlacementClient
from usb_provider.placement.root import RootFinder

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ThisHost:
    """What tells this host from others.

    *names* gives its names as they are known, at once, and *ask* looks them up again and returns within seconds.
    *guests* gives the UUIDs of all guests that libvirt knows here, at once. With *may_differ*, an operator has said
    that the compute node has another name.
    """

    names: Callable[[], HostNames] = HostNames
    ask: Callable[[], None] = lambda: None
    guests: Callable[[], Collection[str]] = tuple
    may_differ: bool = False


ANY_HOST = ThisHost()
"""Nothing is known of the host, so each root can be its own."""


class RootWatch:
    """The root of this host. One thread may use it, but :meth:`objection` is safe in any."""

    def __init__(self, finder: RootFinder, client: PlacementClient, host: ThisHost) -> None:
        self._finder = finder
        self._client = client
        self._host = host
        self._root: Root | None = None
        self._source = ""
        self._is_ours: str | None = None
        self._writes = OwnWrites()

    def find(self, tree: ObservedTree | None) -> Root:
        """The root that the agent may write below; *tree* is what it saw last.

        :raises WrongRoot: when it may not; say so and try again. :raises RootMissing: as :meth:`RootFinder.find`.
        """
        if self._root is None or not self._finder.still(self._root):
            found = self._finder.find()
            if tree is not None and tree.root.uuid != found.uuid:
                self._check_that_no_guest_stays(tree, found)
            self._root, self._writes, self._source = found, OwnWrites(), self._finder.source()
            LOG.info("The compute node provider is %s (%s).", printable(found.name, 200), found.uuid)
        if self._is_ours != self._root.uuid and not self._host.may_differ:
            # Also in each pass that it objects to: a host may get its name some time after it booted.
            self._host.ask()
        objection = self.objection()
        if objection is not None:
            raise WrongRoot([objection])
        return self._root

    def lose(self) -> None:
        """The root is gone: find it again."""
        self._root = None

    def forgive(self) -> None:
        """Forget what was undone: the configuration was read again, and may have been what was wrong."""
        self._writes = OwnWrites()

    def wrote(self, before: ObservedTree, touched: Collection[str], after: ObservedTree) -> None:
        """The agent found *before*, wrote the providers *touched*, and left *after*."""
        self._writes = self._writes.after(before, touched, after, time.monotonic())

    def objection(self) -> str | None:
        """Why the agent may not write below the root, or detach what its tree does not explain; None where it may."""
        root, writes, source = self._root, self._writes, self._source
        if root is None:
            return None
        if self._is_ours != root.uuid and not self._host.may_differ:
            names = self._host.names()
            if is_another_hosts(root.name, names.by_libvirt, names.own):
                return (
                    f"The compute node provider {_named(root)} (from {source}) is another host's, since libvirt calls "
                    f"this host {printable(names.by_libvirt or '', 200)}; the agent writes nothing and detaches "
                    f"nothing. Correct {source} on this host, or set [agent]root_name_may_differ if this is its "
                    f"compute node."
                )
            if names.by_libvirt is not None:
                # A host that is renamed under a running agent stays the same host.
                self._is_ours = root.uuid
        contested = writes.contested(time.monotonic())
        if contested is not None:
            return (
                f"Another agent undoes what this one writes below the compute node provider {_named(root)} (from "
                f"{source}): {UNDONE_TIMES} times in an hour for {contested}. Two hosts or two configurations name "
                f"one compute node; the agent writes nothing and detaches nothing for an hour. Correct {source} on "
                f"the host whose compute node it is not, and reload both agents."
            )
        return None

    def _check_that_no_guest_stays(self, tree: ObservedTree, found: Root) -> None:
        here = frozenset(self._host.guests())
        for provider in tree.providers.values():
            if provider.allocated and here & provider.allocations.keys():
                try:
                    holders = self._client.allocations(provider.uuid)[1]
                except Conflict:
                    continue  # it was deleted with its compute node
                if staying := here & holders.keys():
                    raise WrongRoot(
                        [
                            f"{self._finder.source()} names another compute node now, {_named(found)}, but guest "
                            f"{min(staying)} on this host holds a device of {_named(tree.root)}; the agent writes "
                            f"nothing until that is over or {self._finder.source()} is as before."
                        ]
                    )


def _named(root: Root) -> str:
    return f"{printable(root.name, 200)} ({root.uuid})"
