"""The check of libvirt: whether it answers, and is new enough. What it says of guests is read at the same time."""

from dataclasses import dataclass

from usb_provider.diagnosis.check import Check, Finding
from usb_provider.diagnosis.context import Context, Maybe, Reading
from usb_provider.diagnosis.trouble import Trouble, TroubleKind
from usb_provider.exception import Unavailable, masked
from usb_provider.host.daemons import daemons
from usb_provider.model.binding.guests import RunningGuest

OLDEST_LIBVIRT = (6, 5, 0)
"""The first that looks into qemu.d for hooks."""


@dataclass(frozen=True, slots=True)
class LibvirtFacts:
    """The daemon that answers, the guests that run, and the UUIDs of all that it knows."""

    uri: str
    version: tuple[int, int, int]
    hostname: str
    running: tuple[RunningGuest, ...] = ()
    known: frozenset[str] = frozenset()


def _read(context: Context) -> LibvirtFacts | Trouble:
    uri = context.options.libvirt.connection_uri
    try:
        from usb_provider.virt.domain import LibvirtHost
    except ImportError as error:
        return Trouble(TroubleKind.CONFIGURATION, f"libvirt's Python module is missing ({error}).")
    host = LibvirtHost(uri, lambda: None)
    try:
        version, hostname, guests = host.version(), host.hostname(), host.guests()
    except Unavailable as error:
        return Trouble(TroubleKind.AWAY, str(error))
    finally:
        host.close()
    return LibvirtFacts(masked(uri), version, hostname, guests.running, guests.known)


def _late(context: Context) -> Trouble:
    uri, seconds = context.options.libvirt.connection_uri, context.threads.seconds
    return Trouble(TroubleKind.AWAY, f"libvirt at {masked(uri)} has not answered in {seconds:.0f} s.")


LIBVIRT: Reading[LibvirtFacts | Trouble] = Reading("libvirt", _read, _late)
DAEMONS = Reading("daemons", lambda context: daemons(context.places.proc))


class LibvirtCheck(Check[LibvirtFacts | Trouble]):
    """Whether libvirt answers, and is new enough."""

    name = "libvirt"
    of_guests = True

    def read(self, context: Context) -> Maybe[LibvirtFacts | Trouble]:
        """What it says."""
        return context.get(LIBVIRT)

    def judge(self, facts: LibvirtFacts | Trouble) -> Finding:
        """Away, too old, or fine."""
        if isinstance(facts, Trouble):
            if facts.kind is TroubleKind.CONFIGURATION:
                advice = "Install python3-libvirt, or set [libvirt]enabled = false to report only."
            else:
                advice = (
                    "Check systemctl status libvirtd (or virtqemud.socket), [libvirt]connection_uri, and that the "
                    "agent's user is in the group libvirt."
                )
            return self.wrong(facts.text, advice)
        version = ".".join(map(str, facts.version))
        if facts.version < OLDEST_LIBVIRT:
            return self.wrong(
                f"libvirt at {facts.uri} is version {version}, which knows no hooks in qemu.d.",
                f"Upgrade it to {'.'.join(map(str, OLDEST_LIBVIRT))} or newer.",
            )
        return self.ok(f"libvirt {version} answers at {facts.uri}.")
