"""The checks of guests by what libvirt, Placement and udev say: whether each can take and has just what it holds."""

from dataclasses import dataclass, field, replace

from usb_provider.diagnosis.check import Check, Finding, count, sentences
from usb_provider.diagnosis.context import Context, Maybe, Unknown
from usb_provider.diagnosis.libvirt import LIBVIRT
from usb_provider.diagnosis.pools import REPORTED
from usb_provider.diagnosis.trouble import Trouble
from usb_provider.model.binding.attachments import Attachments
from usb_provider.model.binding.decision import Detach, decide
from usb_provider.model.binding.guests import RunningGuest
from usb_provider.model.binding.holding import holdings
from usb_provider.model.binding.pooled import seen_shares
from usb_provider.model.binding.refusals import start_refusals
from usb_provider.model.binding.unit_holding import Holding
from usb_provider.model.reporting.host_state import HostView


@dataclass(frozen=True, slots=True)
class GuestFacts:
    """Guests as libvirt has them, what consumers hold, as Placement and udev have it, and what the agent attached."""

    guests: tuple[RunningGuest, ...]
    holdings: tuple[Holding, ...]
    known: frozenset[str]
    attachments: Attachments = field(default_factory=Attachments)

    def detaches(self) -> tuple[Detach, ...]:
        """What the agent would detach."""
        found = decide(self.guests, self.holdings, known_consumers=self.known, attachments=self.attachments)
        return found.detaches


class _GuestsCheck(Check[GuestFacts]):
    of_guests = True

    def read(self, context: Context) -> Maybe[GuestFacts]:
        """What libvirt, Placement and udev say."""
        context.begin(LIBVIRT, REPORTED)
        hypervisor, reported = context.get(LIBVIRT), context.get(REPORTED)
        if isinstance(hypervisor, Unknown):
            return hypervisor
        if isinstance(hypervisor, Trouble):
            return Unknown("libvirt could not be asked for its guests.")
        if isinstance(reported, Unknown):
            return Unknown(f"The allocations could not be read: {reported.why}")
        held = held_by_all(reported.view, hypervisor.running, hypervisor.known)
        return GuestFacts(hypervisor.running, held, hypervisor.known, context.neighbours.attachments())


def held_by_all(view: HostView, running: tuple[RunningGuest, ...], known: frozenset[str]) -> tuple[Holding, ...]:
    """What consumers hold; of pools by what the guests in *running* have attached, as the agent goes by it."""
    return tuple(holdings(replace(view, shares=seen_shares(view, running, known))))


class ControllersCheck(_GuestsCheck):
    """Whether each running guest can take what it holds and does not have yet."""

    name = "controller models"

    def judge(self, facts: GuestFacts) -> Finding:
        """By the rules by which the agent refuses a start; the ports that our hostdevs keep count as taken."""
        said: list[str] = []
        later: list[str] = []
        holders = 0
        leaving = {(each.guest_uuid, each.hostdev) for each in facts.detaches()}
        for running in facts.guests:
            guest = running.guest
            held = [holding for holding in facts.holdings if guest.uuid in holding.consumers]
            holders += bool(held)
            has = {hostdev.unit for hostdev in guest.ours}
            # Only what is about the controller: other checks report a missing device.
            there = [each for each in held if each.device is not None]
            wanted = [each for each in there if each.unit not in has]
            alone = [replace(each, consumers=frozenset({guest.uuid})) for each in wanted]
            # A device that the agent detaches and attaches again, since its address has changed, still needs a port.
            again = {each.unit for each in there}
            now = guest.with_ports_taken_by(
                each for each in guest.ours if (guest.uuid, each) not in leaving or each.unit in again
            )
            refusals = start_refusals(now, alone, ())
            said += [f"Guest {guest.name}: {refusal}" for refusal in refusals]
            if not refusals and guest.gets_keyboard:
                all_of_it = [replace(each, consumers=frozenset({guest.uuid})) for each in there]
                refusals = start_refusals(guest.after_hard_reboot(), all_of_it, ())
                later += [f"Guest {guest.name}, from its next hard reboot on: {refusal}" for refusal in refusals]
        if said:
            return self.wrong(
                sentences(said),
                "Change flavor and image as the sentence says, then resize or rebuild the server: a controller cannot "
                "be added to a guest that runs.",
            )
        if later:
            return self.warning(
                sentences(later),
                "Nova then gives the guest a USB keyboard, which takes a port. Do as the sentence says before the "
                "server or its host is rebooted.",
            )
        if not holders:
            return self.ok("No running guest holds a USB device.")
        return self.ok(
            f"{count(holders, 'running guest')} can take what {'it holds' if holders == 1 else 'they hold'}."
        )


class StaleHostdevsCheck(_GuestsCheck):
    """Whether a guest has a hostdev of ours that it should not have any more."""

    name = "stale hostdevs"

    def judge(self, facts: GuestFacts) -> Finding:
        """What the agent would detach."""
        detaches = facts.detaches()
        if not detaches:
            return self.ok("Every hostdev that the agent attached is where it should be.")
        return self.wrong(
            sentences(
                [f"Guest {each.guest_name} has {each.hostdev.alias}, and {each.why.value}." for each in detaches]
            ),
            "A running agent detaches it within moments; if it stays, usb-provider status says why.",
        )
