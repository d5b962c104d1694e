"""Which devices are attached without the ``guest_reset`` that their rule gives, as notes for the operator. Pure.

libvirt knows the attribute ``guestReset`` of a hostdev's source since 8.6 (https://libvirt.org/formatdomain.html). An
older one takes the hostdev and leaves the attribute out, so only what it shows of the guest tells.
"""

from collections.abc import Collection, Sequence

from usb_provider.model.binding.guests import RunningGuest
from usb_provider.model.binding.unit_holding import Holding
from usb_provider.model.reporting.plan import Note


def reset_notes(guests: Sequence[RunningGuest], holdings: Collection[Holding]) -> tuple[Note, ...]:
    """One note on each device of *guests* whose rule says something else of resets than libvirt has."""
    wanted = {each.unit: (each.name, each.guest_reset) for each in holdings if each.guest_reset is not None}
    notes = []
    for running in guests:
        for hostdev in running.guest.ours:
            name, guest_reset = wanted.get(hostdev.unit or "", ("", None))
            if guest_reset is not None and hostdev.guest_reset != guest_reset:
                text = (
                    f"{name} is attached to guest {running.guest.name} without guest_reset {guest_reset} of its rule: "
                    f"libvirt has that since 8.6, and a device that was attached before the rule changed gets it when "
                    f"it is attached again."
                )
                notes.append(Note(f"guest_reset:{running.guest.uuid}:{hostdev.unit}", text))
    return tuple(notes)
