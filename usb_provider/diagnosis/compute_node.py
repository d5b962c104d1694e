"""The checks of the compute node: whether Placement has its provider, and whether it is this host's by its name."""

import socket
from dataclasses import dataclass

from usb_provider.diagnosis.check import Check, Finding
from usb_provider.diagnosis.context import Context, Maybe, Reading, Unknown
from usb_provider.diagnosis.libvirt import LIBVIRT, LibvirtFacts
from usb_provider.diagnosis.placement import PLACEMENT
from usb_provider.diagnosis.trouble import Trouble, TroubleKind
from usb_provider.host.names import hypervisor_hostnames
from usb_provider.model.reporting.provider import Root
from usb_provider.model.reporting.root_check import is_another_hosts

# A resolver may hang.
_HOSTNAMES = Reading("hostnames", lambda context: hypervisor_hostnames(), lambda context: (socket.gethostname(),))


class ComputeNodeCheck(Check[Root | Trouble]):
    """Whether Placement has nova's provider of this compute node."""

    name = "compute node"

    def read(self, context: Context) -> Maybe[Root | Trouble]:
        """What Placement says of it."""
        placement = context.get(PLACEMENT)
        return placement if isinstance(placement, Unknown) else placement.root

    def judge(self, facts: Root | Trouble) -> Finding:
        """There, not there, or not to be looked for."""
        if not isinstance(facts, Trouble):
            return self.ok(f"The compute node provider is {facts.name} ({facts.uuid}).")
        if facts.kind is TroubleKind.NO_ROOT:
            return self.wrong(
                facts.text,
                "Check that nova-compute runs here (openstack compute service list) and that [agent]compute_id_file is "
                "nova's, or set [agent]root_provider_name as in openstack hypervisor list.",
            )
        if facts.kind is TroubleKind.CONFIGURATION:
            return self.wrong(facts.text, "Run this as root, or let the agent's user read the file.")
        return self.not_checked("Placement could not be asked for it.")


@dataclass(frozen=True, slots=True)
class NameFacts:
    """What the compute node is called in Placement and by libvirt, None where unknown, and what this host is called."""

    found: str | None
    by_libvirt: str | None
    hostnames: tuple[str, ...]
    may_differ: bool = False


class ComputeNodeNameCheck(Check[NameFacts]):
    """Whether the compute node has the name that nova on this host would give it: libvirt's."""

    name = "compute node's name"

    def read(self, context: Context) -> NameFacts:
        """What Placement and libvirt say; without libvirt's answer, this host's own names are used."""
        asks_libvirt = context.options.libvirt.enabled
        context.begin(PLACEMENT, _HOSTNAMES, *((LIBVIRT,) if asks_libvirt else ()))
        placement, hostnames = context.get(PLACEMENT), context.get(_HOSTNAMES)
        hypervisor = context.get(LIBVIRT) if asks_libvirt else None
        return NameFacts(
            None if isinstance(placement, Unknown) or isinstance(placement.root, Trouble) else placement.root.name,
            hypervisor.hostname if isinstance(hypervisor, LibvirtFacts) else None,
            (socket.gethostname(),) if isinstance(hostnames, Unknown) else hostnames,
            context.options.agent.root_name_may_differ,
        )

    def judge(self, facts: NameFacts) -> Finding:
        """One of the names that are expected, or not."""
        if facts.found is None:
            return self.not_checked("The compute node was not found.")
        expected = facts.hostnames if facts.by_libvirt is None else (facts.by_libvirt,)
        whose = "this host is called" if facts.by_libvirt is None else "libvirt calls this host"
        if facts.found in expected:
            return self.ok(f"The compute node has the name that nova takes from libvirt: {facts.found}.")
        found = f"The compute node is called {facts.found}, but {whose} {' or '.join(expected)}."
        if is_another_hosts(facts.found, facts.by_libvirt, facts.hostnames) and not facts.may_differ:
            return self.wrong(
                found,
                "The agent writes nothing and detaches nothing. Correct [agent]compute_id_file or the root_provider "
                "option if they name another host's compute node; if they do not, set [agent]root_name_may_differ.",
            )
        return self.warning(
            found,
            "Nova names it after libvirt's host name: check that compute_id is not another host's, and that the host "
            "was not renamed since; otherwise the agent reports devices below the wrong compute node.",
        )
