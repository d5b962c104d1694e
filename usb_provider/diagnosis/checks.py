"""What is wrong on a compute node: facts in, one finding for each check out, with what to do about it. Pure.

Each check is a function of its own facts, so that one never hides another; facts that nobody could read come as
:class:`Unknown`, and the finding says why. Reading the facts is cmd/doctor.py's, through host/, placement/ and virt/.
"""

import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

from usb_provider.model.binding.decision import RunningGuest, decide, refusals
from usb_provider.model.binding.holding import Holding
from usb_provider.model.reporting.provider import Root

OLDEST_LIBVIRT = (6, 5, 0)
"""The first that looks into qemu.d for hooks."""

_SOCKET_MODE = 0o660
_MARGIN = 2.0
"""Seconds by which the kernel's and the file system's clocks may differ."""

_SHOWN = 3


class Verdict(enum.StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Finding:
    """One row: what was found, a sentence, and what to do, another, where there is something to do."""

    check: str
    verdict: Verdict
    found: str
    advice: str | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """Facts that could not be read, and *why*, a sentence."""

    why: str


_T = TypeVar("_T")
Maybe: TypeAlias = _T | Unknown


class Kind(enum.Enum):
    """What sort of trouble a request to Placement ended in."""

    CREDENTIALS = "credentials"
    ROLE = "role"
    AWAY = "away"
    NO_ROOT = "no root"
    INCOMPATIBLE = "incompatible"
    CONFIGURATION = "configuration"


@dataclass(frozen=True, slots=True)
class Trouble:
    """A request that failed: the sort of trouble, and the sentence that the agent would log."""

    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class ConfigurationFacts:
    """The files that were read, every mistake in them, and how many rules there are."""

    files: tuple[str, ...]
    problems: tuple[str, ...]
    rules: int


@dataclass(frozen=True, slots=True)
class PlacementFacts:
    """What came of asking Placement for its versions and for the compute node; *needed* is our microversion."""

    versions: tuple[str, str] | Trouble
    root: Root | Trouble
    needed: str


@dataclass(frozen=True, slots=True)
class UdevFacts:
    """Whether sysfs knows USB and udev runs, how many devices there are, and those that udev is still processing."""

    has_usb: bool
    runs: bool
    devices: int
    unsettled: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LibvirtFacts:
    """The daemon that answers."""

    uri: str
    version: tuple[int, int, int]
    hostname: str


@dataclass(frozen=True, slots=True)
class HookFacts:
    """The hook's file. *current*: it is what this version installs; *socket* is the one that it asks at."""

    path: str
    exists: bool
    executable: bool = False
    current: bool = False
    socket: str | None = None
    has_python: bool = True


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon of libvirt's: since when it runs, in seconds since 1970, and as what a security module labels it."""

    name: str
    pid: int
    started: float
    label: str | None = None


@dataclass(frozen=True, slots=True)
class LoadedFacts:
    """What tells whether libvirt knows the hook. Times are in seconds since 1970.

    *unchanged* is since when an executable hook has been as it is now; *dated* is its date, which "install-hook" keeps
    when it writes a newer one, and which others may set as they like; both are None where no hook is. *called* is when
    a hook last asked the agent, None when never or when no agent answers.
    """

    daemons: tuple[Daemon, ...]
    unchanged: float | None
    dated: float | None
    called: float | None


@dataclass(frozen=True, slots=True)
class SocketFacts:
    """The agent's socket: what is at its path, with which mode, and why it does not answer, where it does not."""

    path: str
    exists: bool
    is_socket: bool = False
    mode: int = 0
    error: str | None = None
    denied: bool = False


@dataclass(frozen=True, slots=True)
class SecurityFacts:
    """SELinux's mode, whether AppArmor is on, libvirt's daemons, and when a hook last asked the agent."""

    selinux: str | None
    apparmor: bool
    daemons: tuple[Daemon, ...]
    called: float | None


@dataclass(frozen=True, slots=True)
class AuthorizationFacts:
    """``authorized_default`` of each root hub, and the devices that are not authorised now."""

    defaults: Mapping[str, str]
    unauthorized: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GuestFacts:
    """Guests as libvirt has them, and what consumers hold, as Placement and udev have it."""

    guests: tuple[RunningGuest, ...]
    holdings: tuple[Holding, ...]
    known: frozenset[str]


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is looked at. *serves_guests* is [libvirt]enabled; *hostnames* are names of this host."""

    configuration: Maybe[ConfigurationFacts]
    placement: Maybe[PlacementFacts]
    udev: Maybe[UdevFacts]
    libvirt: Maybe[LibvirtFacts | Trouble]
    hook: Maybe[HookFacts]
    loaded: Maybe[LoadedFacts]
    socket: Maybe[SocketFacts]
    security: Maybe[SecurityFacts]
    authorization: Maybe[AuthorizationFacts]
    guests: Maybe[GuestFacts]
    hostnames: tuple[str, ...] = ()
    hook_socket: str = ""
    serves_guests: bool = True


def diagnose(facts: Facts) -> tuple[Finding, ...]:
    """One finding for each check, in the order in which an operator would mend things."""
    here = (
        configuration(facts.configuration),
        *placement(facts.placement),
        name(facts.placement, facts.libvirt, facts.hostnames),
        udev(facts.udev),
        authorization(facts.authorization),
    )
    with_guests = (
        libvirt(facts.libvirt),
        hook(facts.hook, facts.hook_socket),
        loaded(facts.loaded),
        socket(facts.socket),
        security(facts.security),
        controllers(facts.guests),
        stale(facts.guests),
    )
    if facts.serves_guests:
        return (*here, *with_guests)
    why = "[libvirt]enabled is false, so the agent serves no guests."
    return (*here, *(Finding(each.check, Verdict.NOT_CHECKED, why) for each in with_guests))


def configuration(facts: Maybe[ConfigurationFacts]) -> Finding:
    """Files, every mistake in them, and whether there is a rule."""
    check = "configuration"
    if isinstance(facts, Unknown):
        return _unknown(check, facts)
    if facts.problems:
        return Finding(
            check, Verdict.WRONG, " ".join(facts.problems), "Repair it; docs/troubleshooting.md has each sentence."
        )
    if not facts.files:
        return Finding(
            check,
            Verdict.WARNING,
            "No configuration file was read.",
            "Write /etc/usb-provider/usb-provider.conf, or name a file with --config-file.",
        )
    files = ", ".join(facts.files)
    if not facts.rules:
        return Finding(
            check,
            Verdict.WARNING,
            f"{files} can be used, and has no [usb]device_spec rule, so nothing is offered.",
            'Write rules; "usb-provider devices --suggest" prints them.',
        )
    return Finding(check, Verdict.OK, f"{files} can be used, and has {_count(facts.rules, 'rule')}.")


def placement(facts: Maybe[PlacementFacts]) -> tuple[Finding, ...]:
    """Whether Placement answers, knows us, lets us in and is new enough, and has the compute node."""
    checks = ("placement", "credentials", "role", "microversion", "compute node")
    if isinstance(facts, Unknown):
        return tuple(_unknown(check, facts) for check in checks)
    versions, root = facts.versions, facts.root
    return (
        _answers(versions, root, facts.needed),
        _credentials(versions, root),
        _role(root),
        _microversion(versions, facts.needed),
        _root(root),
    )


def _answers(versions: tuple[str, str] | Trouble, root: Root | Trouble, needed: str) -> Finding:
    check = "placement"
    if isinstance(versions, Trouble) and versions.kind in (Kind.CREDENTIALS, Kind.ROLE):
        return Finding(check, Verdict.NOT_CHECKED, "Without a token nobody knows where Placement is.")
    # That one is too old is said by the check of the microversion.
    is_old = not isinstance(versions, Trouble) and not _speaks(versions, needed)
    for each in (versions, root):
        if isinstance(each, Trouble) and (each.kind is Kind.AWAY or (each.kind is Kind.INCOMPATIBLE and not is_old)):
            return Finding(
                check, Verdict.WRONG, each.text, "See what stands between, and the addresses in [placement]."
            )
    return Finding(check, Verdict.OK, "Placement answers.")


def _credentials(versions: tuple[str, str] | Trouble, root: Root | Trouble) -> Finding:
    check = "credentials"
    for each in (versions, root):
        if isinstance(each, Trouble) and each.kind is Kind.CREDENTIALS:
            return Finding(
                check,
                Verdict.WRONG,
                each.text,
                "Compare user, password, project and domains in [placement] with "
                '"openstack user show" and "openstack role assignment list --user usb-provider --names".',
            )
    if isinstance(root, Trouble) and root.kind not in (Kind.ROLE, Kind.NO_ROOT):
        return Finding(check, Verdict.NOT_CHECKED, "Nobody has judged them yet, since Placement could not be asked.")
    return Finding(check, Verdict.OK, "The credentials in [placement] are accepted.")


def _role(root: Root | Trouble) -> Finding:
    check = "role"
    if not isinstance(root, Trouble) or root.kind is Kind.NO_ROOT:
        return Finding(check, Verdict.OK, "Placement lets the user in [placement] read; writing wants the same role.")
    if root.kind is Kind.ROLE:
        return Finding(
            check,
            Verdict.WRONG,
            root.text,
            "Give it the role service, or admin where Placement is older than 2023.1: openstack role add "
            "--user usb-provider --user-domain Default --project service --project-domain Default service",
        )
    return Finding(check, Verdict.NOT_CHECKED, "Placement could not be asked as the user in [placement].")


def _microversion(versions: tuple[str, str] | Trouble, needed: str) -> Finding:
    check = "microversion"
    if isinstance(versions, Trouble):
        return Finding(check, Verdict.NOT_CHECKED, "Placement could not be asked for its versions.")
    lowest, highest = versions
    if not _speaks(versions, needed):
        return Finding(
            check,
            Verdict.WRONG,
            f"Placement speaks microversions {lowest} to {highest}, and {needed} is needed.",
            "Upgrade Placement; Rocky (2018) and newer have it.",
        )
    return Finding(check, Verdict.OK, f"Placement speaks microversions up to {highest}; {needed} is needed.")


def _root(root: Root | Trouble) -> Finding:
    check = "compute node"
    if not isinstance(root, Trouble):
        return Finding(check, Verdict.OK, f"The compute node provider is {root.name} ({root.uuid}).")
    if root.kind is Kind.NO_ROOT:
        return Finding(
            check,
            Verdict.WRONG,
            root.text,
            "See that nova-compute runs here (openstack compute service list), that [agent]compute_id_file is nova's, "
            "or set [agent]root_provider_name as in openstack hypervisor list.",
        )
    if root.kind is Kind.CONFIGURATION:
        return Finding(check, Verdict.WRONG, root.text, "Run this as root, or let the agent's user read the file.")
    return Finding(check, Verdict.NOT_CHECKED, "Placement could not be asked for it.")


def name(
    facts: Maybe[PlacementFacts], hypervisor: Maybe[LibvirtFacts | Trouble], hostnames: Collection[str]
) -> Finding:
    """Whether the compute node has the name that nova on this host would give it: libvirt's."""
    check = "compute node's name"
    if isinstance(facts, Unknown) or isinstance(facts.root, Trouble):
        return Finding(check, Verdict.NOT_CHECKED, "The compute node was not found.")
    found = facts.root.name
    if isinstance(hypervisor, LibvirtFacts):
        expected: Collection[str] = (hypervisor.hostname,)
        whose = f"libvirt calls this host {hypervisor.hostname}"
    else:
        expected, whose = hostnames, f"this host is called {' or '.join(hostnames)}"
    if found in expected:
        return Finding(check, Verdict.OK, f"The compute node has the name that nova takes from libvirt: {found}.")
    return Finding(
        check,
        Verdict.WARNING,
        f"The compute node is called {found}, and {whose}.",
        "nova names it after libvirt's host name: see that compute_id is not another host's, and that the host was not "
        "renamed since; devices would be reported below the wrong compute node.",
    )


def udev(facts: Maybe[UdevFacts]) -> Finding:
    """Whether devices and their events can be had."""
    check = "udev"
    if isinstance(facts, Unknown):
        return _unknown(check, facts)
    if not facts.has_usb:
        return Finding(
            check,
            Verdict.WRONG,
            "/sys/bus/usb is not there, so no USB device can be seen.",
            "In a container mount the host's /sys; else load the kernel's usbcore.",
        )
    if not facts.runs:
        return Finding(
            check,
            Verdict.WRONG,
            "/run/udev/control is not there, so udev does not run, or is not to be seen from here.",
            "In a container mount the host's /run/udev and share its network namespace; else start systemd-udevd.",
        )
    if facts.unsettled:
        return Finding(
            check,
            Verdict.WARNING,
            f"udev is still processing {_some(facts.unsettled)}, so they are not offered yet.",
            "Look again in some seconds; if it stays, udevadm settle and udevadm info tell more.",
        )
    if not facts.devices:
        return Finding(
            check,
            Verdict.WARNING,
            "No USB device is to be seen, not even a controller's root hub.",
            "lsusb should show none either; in a container /sys must be the host's.",
        )
    return Finding(check, Verdict.OK, f"udev runs and shows {_count(facts.devices, 'USB device')}, hubs included.")


def authorization(facts: Maybe[AuthorizationFacts]) -> Finding:
    """Whether the kernel lets newly plugged devices in."""
    check = "authorized_default"
    if isinstance(facts, Unknown):
        return _unknown(check, facts)
    if facts.unauthorized:
        return Finding(
            check,
            Verdict.WARNING,
            f"The host has not authorised {_some(facts.unauthorized)}, so they are not offered.",
            "Authorise those that you want: usbguard allow-device, or echo 1 > /sys/bus/usb/devices/PORT/authorized.",
        )
    if not facts.defaults:
        return Finding(check, Verdict.NOT_CHECKED, "No USB controller is to be seen.")
    closed = sorted(hub for hub, value in facts.defaults.items() if value not in ("1", "-1"))
    if closed:
        return Finding(
            check,
            Verdict.OK,
            f"The kernel keeps newly plugged devices off until somebody authorises them ({_some(closed)}); all "
            f"that are plugged in are authorised.",
        )
    return Finding(check, Verdict.OK, "The kernel authorises every device that is plugged in.")


def libvirt(facts: Maybe[LibvirtFacts | Trouble]) -> Finding:
    """Whether libvirt can be asked, and is new enough."""
    check = "libvirt"
    if isinstance(facts, Unknown):
        return _unknown(check, facts)
    if isinstance(facts, Trouble):
        if facts.kind is Kind.CONFIGURATION:
            advice = "Install python3-libvirt, or set [libvirt]enabled = false to report only."
        else:
            advice = (
                "See systemctl status libvirtd (or virtqemud.socket), [libvirt]connection_uri, and that the agent's "
                "user is in the group libvirt."
            )
        return Finding(check, Verdict.WRONG, facts.text, advice)
    version = ".".join(map(str, facts.version))
    if facts.version < OLDEST_LIBVIRT:
        return Finding(
            check,
            Verdict.WRONG,
            f"libvirt at {facts.uri} is version {version}, which knows no hooks in qemu.d.",
            f"Upgrade it to {'.'.join(map(str, OLDEST_LIBVIRT))} or newer.",
        )
    return Finding(check, Verdict.OK, f"libvirt {version} answers at {facts.uri}.")


def hook(facts: Maybe[HookFacts], agents_socket: str = "") -> Finding:
    """Whether the hook is there, can run, and asks where the agent answers."""
    check = "hook"
    install = 'Run "usb-provider install-hook" as root.'
    if isinstance(facts, Unknown):
        return _unknown(check, facts)
    if not facts.exists:
        return Finding(
            check,
            Verdict.WRONG,
            f"{facts.path} is not there, so guests start without anybody asking for their devices.",
            'Run "usb-provider install-hook" as root, then restart libvirtd (or virtqemud); guests go on running.',
        )
    if not facts.executable:
        return Finding(
            check,
            Verdict.WRONG,
            f"{facts.path} is not executable, so libvirt leaves it out.",
            f"chmod 0755 {facts.path}, then restart libvirtd (or virtqemud); guests go on running.",
        )
    if not facts.has_python:
        return Finding(
            check,
            Verdict.WRONG,
            "The hook needs python3, which is not in the path.",
            "Install python3 where libvirt runs.",
        )
    if facts.socket is not None and agents_socket and facts.socket != agents_socket:
        return Finding(
            check,
            Verdict.WRONG,
            f"{facts.path} asks at {facts.socket}, and [hook]socket is {agents_socket}.",
            install,
        )
    if not facts.current:
        return Finding(
            check, Verdict.WARNING, f"{facts.path} is not the one that this version of usb-provider installs.", install
        )
    return Finding(check, Verdict.OK, f"{facts.path} is installed, executable and up to date.")


def loaded(facts: Maybe[LoadedFacts]) -> Finding:
    """Whether the libvirt that runs knows that there is a hook.

    libvirt looks for hooks when it starts and when it is told to reload, and remembers only whether it found any that
    is executable; if it did, it runs all that are there at each call (virHookInitialize, virHookCall in its
    src/util/virhook.c).
    """
    check = "hook loaded"
    if isinstance(facts, Unknown):
        return _unknown(check, facts)
    if not facts.daemons:
        return Finding(
            check,
            Verdict.NOT_CHECKED,
            "Neither virtqemud nor libvirtd is to be seen running; they look for hooks when they start.",
        )
    if facts.unchanged is None:
        return Finding(check, Verdict.NOT_CHECKED, "There is no hook that libvirt could have loaded.")
    daemon = max(facts.daemons, key=lambda each: each.started)
    who = f"{daemon.name} (process {daemon.pid})"
    if facts.called is not None and facts.called > daemon.started:
        return Finding(check, Verdict.OK, f"{who} has called the hook since it started.")
    if facts.unchanged <= daemon.started + _MARGIN:
        return Finding(check, Verdict.OK, f"{who} started when the hook was already there.")
    restart = f"systemctl restart {daemon.name}; guests go on running."
    if facts.dated is not None and facts.dated <= daemon.started:
        return Finding(
            check,
            Verdict.WARNING,
            f"The hook was changed after {who} started, and looks as if it had been there before; nobody has seen it "
            f"called since.",
            f"Start a guest and look again, or restart it: {restart}",
        )
    return Finding(
        check,
        Verdict.WRONG,
        f"{who} started before the hook was last written, and nobody has seen it call the hook since.",
        f"Restart it: {restart}",
    )


def socket(facts: Maybe[SocketFacts]) -> Finding:
    """Whether the agent answers the hook."""
    check = "socket"
    start = "systemctl start usb-provider-agent; systemctl status usb-provider-agent says why it does not run."
    if isinstance(facts, Unknown):
        return _unknown(check, facts)
    if facts.denied:
        return Finding(
            check, Verdict.NOT_CHECKED, f"{facts.path} is not for this user: run this as root or as the agent's user."
        )
    if not facts.exists:
        return Finding(
            check, Verdict.WRONG, f"{facts.path} is not there, so no agent runs that the hook could ask.", start
        )
    if not facts.is_socket:
        return Finding(
            check, Verdict.WRONG, f"{facts.path} is no socket.", "Remove it, then systemctl restart usb-provider-agent."
        )
    if facts.error is not None:
        return Finding(check, Verdict.WRONG, f"Nobody answers at {facts.path}: {facts.error}", start)
    if facts.mode != _SOCKET_MODE:
        return Finding(
            check,
            Verdict.WRONG,
            f"{facts.path} has mode {facts.mode:04o}, and the agent gives it {_SOCKET_MODE:04o}.",
            "systemctl restart usb-provider-agent, and find out who changes it.",
        )
    return Finding(check, Verdict.OK, f"The agent answers at {facts.path}.")


def security(facts: Maybe[SecurityFacts]) -> Finding:
    """Whether SELinux or AppArmor may keep libvirt from running the hook."""
    check = "AppArmor, SELinux"
    if isinstance(facts, Unknown):
        return _unknown(check, facts)
    daemon = max(facts.daemons, key=lambda each: each.started, default=None)
    called = daemon is not None and facts.called is not None and facts.called > daemon.started
    label = daemon.label if daemon is not None else None
    if facts.selinux == "enforcing":
        if called:
            return Finding(check, Verdict.OK, "SELinux is enforcing, and lets libvirt run the hook.")
        # Fedora's policy lets libvirtd run hooks; virtqemud may read and not execute what is labelled virt_hook_t.
        if label is not None and ":virtqemud_t:" in label:
            return Finding(
                check,
                Verdict.WARNING,
                "SELinux is enforcing, virtqemud runs as virtqemud_t, which many policies do not let run hooks, and "
                "nobody has seen it call the hook.",
                "Start a guest; if ausearch -m avc -ts recent shows a denial, make a module of it: ausearch -m avc -ts "
                "recent | audit2allow -M usb-provider && semodule -i usb-provider.pp",
            )
        return Finding(check, Verdict.OK, "SELinux is enforcing; libvirtd's policy lets it run hooks.")
    if facts.apparmor:
        if label is None or "(enforce)" not in label:
            return Finding(check, Verdict.OK, "AppArmor is on, and does not confine libvirt's daemon.")
        seen = " It has called the hook." if called else ""
        return Finding(
            check,
            Verdict.OK,
            f"AppArmor confines libvirt's daemon ({label}); the usual profile lets it run hooks below "
            f"/etc/libvirt/hooks.{seen}",
        )
    if facts.selinux is not None:
        return Finding(check, Verdict.OK, f"SELinux is {facts.selinux}, so it keeps nobody from anything.")
    return Finding(check, Verdict.OK, "Neither SELinux nor AppArmor is on.")


def controllers(facts: Maybe[GuestFacts]) -> Finding:
    """Whether each running guest can take what it holds and does not have yet."""
    check = "controller models"
    if isinstance(facts, Unknown):
        return _unknown(check, facts)
    said: list[str] = []
    holders = 0
    detaches = decide(facts.guests, facts.holdings, known_consumers=facts.known).detaches
    leaving = {(each.guest_uuid, each.hostdev) for each in detaches}
    for running in facts.guests:
        guest = running.guest
        held = [holding for holding in facts.holdings if guest.uuid in holding.consumers]
        holders += bool(held)
        has = {hostdev.provider_uuid for hostdev in guest.ours}
        # Only what is about the controller: that a device is missing, others say.
        there = [each for each in held if each.device is not None]
        wanted = [each for each in there if each.provider_uuid not in has]
        alone = [replace(each, consumers=frozenset({guest.uuid})) for each in wanted]
        # A device that the agent detaches and attaches again, since its address is another one, needs a port still.
        again = {each.provider_uuid for each in there}
        now = guest.with_ports_taken_by(
            each for each in guest.ours if (guest.uuid, each) not in leaving or each.provider_uuid in again
        )
        said += [f"Guest {guest.name}: {refusal}" for refusal in refusals(now, alone, ())]
    if said:
        return Finding(
            check,
            Verdict.WRONG,
            " ".join(said[:_SHOWN]) + (f" And {len(said) - _SHOWN} more." if len(said) > _SHOWN else ""),
            "Change flavor and image as the sentence says, then resize or rebuild the server: a controller cannot be "
            "added to a guest that runs.",
        )
    if not holders:
        return Finding(check, Verdict.OK, "No running guest holds a USB device.")
    return Finding(check, Verdict.OK, f"{_count(holders, 'running guest')} can take what it holds.")


def stale(facts: Maybe[GuestFacts]) -> Finding:
    """Whether a guest has a hostdev of ours that it should not have any more."""
    check = "stale hostdevs"
    if isinstance(facts, Unknown):
        return _unknown(check, facts)
    detaches = decide(facts.guests, facts.holdings, known_consumers=facts.known).detaches
    if not detaches:
        return Finding(check, Verdict.OK, "Every hostdev of ours is where it should be.")
    said = [f"Guest {each.guest_name} has {each.hostdev.alias}, and {each.why.value}." for each in detaches]
    more = f" And {len(said) - _SHOWN} more." if len(said) > _SHOWN else ""
    return Finding(
        check,
        Verdict.WRONG,
        " ".join(said[:_SHOWN]) + more,
        "A running agent detaches it within moments; if it stays, usb-provider status says what stands in the way.",
    )


def _unknown(check: str, facts: Unknown) -> Finding:
    return Finding(check, Verdict.NOT_CHECKED, facts.why)


def _speaks(versions: tuple[str, str], needed: str) -> bool:
    return _version(versions[0]) <= _version(needed) <= _version(versions[1])


def _version(text: str) -> tuple[int, ...]:
    parts = text.split(".")
    return tuple(int(part) for part in parts) if all(part.isascii() and part.isdigit() for part in parts) else ()


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
