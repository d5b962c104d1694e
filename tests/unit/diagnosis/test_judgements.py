"""Facts of a compute node in, findings out: what is wrong is said to be wrong, and with what to do about it."""

import dataclasses

import pytest

from tests.fixtures.builders import ROOT
from usb_provider.diagnosis.agent_socket import SocketCheck, SocketFacts
from usb_provider.diagnosis.authorization import AuthorizationCheck, AuthorizationFacts
from usb_provider.diagnosis.check import Check, Finding, Verdict
from usb_provider.diagnosis.compute_node import ComputeNodeCheck, ComputeNodeNameCheck, NameFacts
from usb_provider.diagnosis.configuration import ConfigurationCheck, ConfigurationFacts, OptionsCheck
from usb_provider.diagnosis.controllers import ControllerFacts, HostControllersCheck
from usb_provider.diagnosis.disks import DisksCheck, MarkedDisk
from usb_provider.diagnosis.hook import HookCheck, HookFacts, HookLoadedCheck, LoadedFacts
from usb_provider.diagnosis.libvirt import LibvirtCheck, LibvirtFacts
from usb_provider.diagnosis.placement import (
    CredentialsCheck,
    MicroversionCheck,
    PlacementCheck,
    PlacementFacts,
    RoleCheck,
)
from usb_provider.diagnosis.security import SecurityCheck, SecurityFacts
from usb_provider.diagnosis.served import RefusedStartsCheck, ServedFacts, WaitingGuestsCheck
from usb_provider.diagnosis.trouble import Trouble, TroubleKind
from usb_provider.diagnosis.udev import UdevCheck, UdevFacts
from usb_provider.host.daemons import Daemon
from usb_provider.host.storage import UdevDisk
from usb_provider.model.binding.status import AwaitedNeighbour, BindingState, DeviceStatus, GuestStatus, RefusedStart
from usb_provider.model.devices.controllers import HostController
from usb_provider.model.reporting.provider import Root
from usb_provider.virt.protocol import StatusAnswer

OK, WARNING, WRONG, NOT_CHECKED = Verdict.OK, Verdict.WARNING, Verdict.WRONG, Verdict.NOT_CHECKED
AWAY, INCOMPATIBLE, CONFIGURATION = TroubleKind.AWAY, TroubleKind.INCOMPATIBLE, TroubleKind.CONFIGURATION
CREDENTIALS, ROLE, NO_ROOT = TroubleKind.CREDENTIALS, TroubleKind.ROLE, TroubleKind.NO_ROOT

SOCKET = "/run/usb-provider/hook.sock"
HOOK = "/etc/libvirt/hooks/qemu.d/usb-provider"
STARTED = 1_000_000.0
DAEMON = Daemon("libvirtd", 611, STARTED)
QEMUD = Daemon("virtqemud", 612, STARTED, "system_u:system_r:virtqemud_t:s0-s0:c0.c1023")
BOARD = HostController("0000:00:14.0", "0000:00:14.0", ("usb1",))
CARD = HostController("0000:00:1c.0/00.0", "0000:03:00.0", ("usb3",))
ARMOURED = Daemon("libvirtd", 613, STARTED, "libvirtd (enforce)")


def asked(
    check: Check[PlacementFacts],
    versions: tuple[str, str] | Trouble = ("1.0", "1.39"),
    root: Root | Trouble = ROOT,
) -> Finding:
    """What *check* finds of these two answers of Placement."""
    return check.judge(PlacementFacts(versions, root, "1.28"))


def refused(check: Check[PlacementFacts], kind: TroubleKind, text: str) -> Finding:
    """What *check* finds where both questions to Placement end in the same trouble."""
    return asked(check, Trouble(kind, text), Trouble(kind, text))


def without_root(check: Check[PlacementFacts], kind: TroubleKind, text: str) -> Finding:
    """What *check* finds where the question for the compute node ends in trouble."""
    return asked(check, root=Trouble(kind, text))


def named(
    found: str | None,
    by_libvirt: str | None = None,
    hostnames: tuple[str, ...] = (ROOT.name,),
    *,
    may_differ: bool = False,
) -> Finding:
    return ComputeNodeNameCheck().judge(NameFacts(found, by_libvirt, hostnames, may_differ))


def hook(
    executable: bool = True, current: bool = True, socket: str | None = SOCKET, has_python: bool = True
) -> Finding:
    return HookCheck().judge(HookFacts(HOOK, True, executable, current, socket, has_python, SOCKET))


def loaded(
    changed: float, dated: float, called: float | None = None, daemons: tuple[Daemon, ...] = (DAEMON,)
) -> Finding:
    """What is found of a hook with these times, in seconds after DAEMON's start."""
    seen = None if called is None else STARTED + called
    return HookLoadedCheck().judge(LoadedFacts(daemons, STARTED + changed, STARTED + dated, seen))


def secured(
    selinux: str | None, *, apparmor: bool = False, daemons: tuple[Daemon, ...] = (), called: float | None = None
) -> Finding:
    """What is found with these security modules; *called* is in seconds after the daemon's start."""
    seen = None if called is None else STARTED + called
    return SecurityCheck().judge(SecurityFacts(selinux, apparmor, daemons, seen))


def refused_start(command: str | None) -> Finding:
    refused = RefusedStart("It is not plugged in.", STARTED, command)
    return RefusedStartsCheck().judge(StatusAnswer((GuestStatus("1", None, (), refused),)))


def waits(state: BindingState, *awaited: AwaitedNeighbour, since: float = -5, is_older: bool = False) -> Finding:
    """What is found of a guest whose device is in *state*; *since* is in seconds before the look."""
    reason = None if state is BindingState.ATTACHED else "it is not plugged in"
    device = DeviceStatus("p", "host1_usb_key", state, STARTED + since, reason, is_older)
    said = StatusAnswer((GuestStatus("1", "vm", (device,)),), None, awaited)
    return WaitingGuestsCheck().judge(ServedFacts(said, STARTED))


CASES: list[tuple[Finding, Verdict, str]] = [
    # Configuration
    (
        ConfigurationCheck().judge(ConfigurationFacts(("a.conf",), ("[hook]timeout is wrong.", "[usb] too."), 1)),
        WRONG,
        "[hook]timeout is wrong. [usb] too.",
    ),
    (ConfigurationCheck().judge(ConfigurationFacts((), (), 0)), WARNING, "No configuration file was read."),
    (ConfigurationCheck().judge(ConfigurationFacts(("a.conf",), (), 0)), WARNING, "so nothing is offered"),
    (ConfigurationCheck().judge(ConfigurationFacts(("a.conf",), (), 1)), OK, "has 1 rule."),
    (ConfigurationCheck().judge(ConfigurationFacts(("a.conf", "b.conf"), (), 3)), OK, "a.conf, b.conf can be used"),
    # Placement
    (asked(PlacementCheck()), OK, "answers"),
    (refused(PlacementCheck(), AWAY, "Refused."), WRONG, "Refused."),
    (without_root(PlacementCheck(), AWAY, "It answers 503."), WRONG, "It answers 503."),
    (without_root(PlacementCheck(), INCOMPATIBLE, "It answers 404."), WRONG, "It answers 404."),
    (asked(PlacementCheck(), ("1.0", "1.10"), Trouble(INCOMPATIBLE, "Too old.")), OK, "answers"),
    (refused(PlacementCheck(), CREDENTIALS, "No."), NOT_CHECKED, "there is no token"),
    (without_root(PlacementCheck(), ROLE, "It answers 403."), OK, "answers"),
    (asked(CredentialsCheck()), OK, "accepted"),
    (refused(CredentialsCheck(), CREDENTIALS, "Keystone."), WRONG, "Keystone."),
    (without_root(CredentialsCheck(), CREDENTIALS, "It answers 401."), WRONG, "401"),
    (without_root(CredentialsCheck(), ROLE, "It answers 403."), OK, "accepted"),
    (without_root(CredentialsCheck(), NO_ROOT, "None."), OK, "accepted"),
    (refused(CredentialsCheck(), AWAY, "No."), NOT_CHECKED, "were not tried"),
    (asked(RoleCheck()), OK, "lets the user in [placement] read"),
    (without_root(RoleCheck(), ROLE, "It answers 403."), WRONG, "403"),
    (without_root(RoleCheck(), CREDENTIALS, "It answers 401."), NOT_CHECKED, "could not be asked"),
    (without_root(RoleCheck(), NO_ROOT, "None."), OK, "lets the user in [placement] read"),
    (asked(MicroversionCheck(), ("1.0", "1.27")), WRONG, "1.0 to 1.27, but 1.28 is needed"),
    (asked(MicroversionCheck(), ("1.29", "1.39")), WRONG, "1.29 to 1.39"),
    (asked(MicroversionCheck(), ("1.0", "1.28")), OK, "up to 1.28"),
    (asked(MicroversionCheck(), ("1.0", "1.100")), OK, "up to 1.100"),
    (asked(MicroversionCheck(), ("1.0", "latest")), WRONG, "latest"),
    (asked(MicroversionCheck(), Trouble(AWAY, "No.")), NOT_CHECKED, "could not be asked"),
    # The compute node
    (ComputeNodeCheck().judge(ROOT), OK, f"{ROOT.name} ({ROOT.uuid})"),
    (ComputeNodeCheck().judge(Trouble(NO_ROOT, "There is none named host1.")), WRONG, "none named"),
    (ComputeNodeCheck().judge(Trouble(CONFIGURATION, "It cannot be read.")), WRONG, "cannot be read"),
    (ComputeNodeCheck().judge(Trouble(AWAY, "No.")), NOT_CHECKED, "could not be asked"),
    (named(None), NOT_CHECKED, "was not found"),
    (named("host1", "other"), WRONG, "The compute node is called host1, but libvirt calls this host other."),
    (named("host1", "host1.example.org"), WARNING, "but libvirt calls this host host1.example.org."),
    (named("host1", "other", ("host1",)), WARNING, "but libvirt calls this host other."),
    (named("host1", "other", may_differ=True), WARNING, "but libvirt calls this host other."),
    (named("host1", "host1", ("other",)), OK, "host1"),
    (named("host1", None, ("a", "b")), WARNING, "this host is called a or b."),
    (named(ROOT.name), OK, ROOT.name),
    # The host
    (UdevCheck().judge(UdevFacts(False, True, 0)), WRONG, "/sys/bus/usb"),
    (UdevCheck().judge(UdevFacts(True, False, 5)), WRONG, "/run/udev/control"),
    (
        UdevCheck().judge(UdevFacts(True, True, 5, ("1-2", "1-3", "1-4", "1-5"))),
        WARNING,
        "udev is still processing 1-2, 1-3, 1-4 and 1 more",
    ),
    (UdevCheck().judge(UdevFacts(True, True, 0)), WARNING, "There is no USB device"),
    (UdevCheck().judge(UdevFacts(True, True, 1)), OK, "1 USB device, hubs included"),
    (HostControllersCheck().judge(ControllerFacts(())), NOT_CHECKED, "No device shows a USB controller"),
    (
        HostControllersCheck().judge(ControllerFacts((BOARD, CARD))),
        OK,
        "The USB controllers are 0000:00:1c.0/00.0 (now 0000:03:00.0), 0000:00:14.0.",
    ),
    (
        HostControllersCheck().judge(ControllerFacts((BOARD, CARD), ((2, CARD), (3, CARD)))),
        WARNING,
        "device_spec rule 2 names the controller 0000:03:00.0. device_spec rule 3 names the controller 0000:03:00.0. "
        "A new card can give this address to another controller.",
    ),
    (DisksCheck().judge(()), OK, "No disk is plugged in"),
    (DisksCheck().judge((MarkedDisk(UdevDisk("sdb", 60.0, True), 10.0),)), OK, "away from 1 disk"),
    (DisksCheck().judge((MarkedDisk(UdevDisk("sdb", 60.0, False), 10.0),)), WARNING, "away from sdb"),
    (DisksCheck().judge((MarkedDisk(UdevDisk("sdb", 9.0, False), 10.0),)), NOT_CHECKED, "when sdb is plugged in again"),
    (AuthorizationCheck().judge(AuthorizationFacts({"usb1": "0"}, ("1-2",))), WARNING, "not authorised 1-2"),
    (AuthorizationCheck().judge(AuthorizationFacts({"usb1": "0", "usb2": "1"})), OK, "(usb1)"),
    (AuthorizationCheck().judge(AuthorizationFacts({"usb1": "-1"})), OK, "every device"),
    (AuthorizationCheck().judge(AuthorizationFacts({})), NOT_CHECKED, "No USB controller"),
    # libvirt
    (LibvirtCheck().judge(Trouble(CONFIGURATION, "Its module is missing.")), WRONG, "module is missing"),
    (LibvirtCheck().judge(Trouble(AWAY, "It does not answer.")), WRONG, "does not answer"),
    (LibvirtCheck().judge(LibvirtFacts("qemu:///system", (6, 4, 9), ROOT.name)), WRONG, "version 6.4.9"),
    (LibvirtCheck().judge(LibvirtFacts("qemu:///system", (6, 5, 0), ROOT.name)), OK, "libvirt 6.5.0 answers"),
    (HookCheck().judge(HookFacts(HOOK, False)), WRONG, f"{HOOK} is not there"),
    (hook(), OK, "is installed, executable and up to date"),
    (hook(executable=False), WRONG, "is not executable"),
    (hook(has_python=False), WRONG, "python3"),
    (hook(current=False, socket="/elsewhere"), WRONG, "asks the agent at /elsewhere"),
    (hook(current=False), WARNING, "not the one"),
    (hook(current=False, socket=None), WARNING, "not the one"),
    # What libvirt has loaded
    (loaded(0, 0, daemons=()), NOT_CHECKED, "Neither virtqemud nor libvirtd"),
    (HookLoadedCheck().judge(LoadedFacts((DAEMON,), None, None, None)), NOT_CHECKED, "no hook"),
    (loaded(60, 60), WRONG, "libvirtd (process 611) started before"),
    (loaded(60, 60, -5), WRONG, "started before"),
    (loaded(60, 60, 5), OK, "has called the hook"),
    (loaded(60, -60), WARNING, "its date says that it was there before"),
    (loaded(60, -60, 5), OK, "has called"),
    (loaded(1, 1), OK, "was already there"),
    (loaded(60, 60, daemons=(DAEMON, dataclasses.replace(QEMUD, started=STARTED + 90))), OK, "virtqemud"),
    # The agent
    (SocketCheck().judge(SocketFacts(SOCKET, True, True, 0o660)), OK, "The agent answers"),
    (SocketCheck().judge(SocketFacts(SOCKET, False)), WRONG, "is not there"),
    (SocketCheck().judge(SocketFacts(SOCKET, True, False, 0o644)), WRONG, "is no socket"),
    (SocketCheck().judge(SocketFacts(SOCKET, True, True, 0o777)), WRONG, "mode 0777"),
    (SocketCheck().judge(SocketFacts(SOCKET, True, True, 0o660, "Connection refused")), WRONG, "Connection refused"),
    (SocketCheck().judge(SocketFacts(SOCKET, True, True, 0o660, "no", denied=True)), NOT_CHECKED, "as root"),
    # Guests that were refused
    (RefusedStartsCheck().judge(StatusAnswer(())), OK, "No start was refused"),
    (refused_start(None), WARNING, "Server 1 was not started: It is not plugged in."),
    (refused_start("openstack server reboot --hard 1"), WARNING, "Server 1 was not started: It is not plugged in."),
    # Guests that wait
    (waits(BindingState.ATTACHED), OK, "No guest waits for a device; 1 device of guests."),
    (waits(BindingState.WAITING), OK, "No guest waits"),
    (waits(BindingState.WAITING, since=-60), WARNING, "Guest vm does not have host1_usb_key: it is not plugged in."),
    (waits(BindingState.PENDING, is_older=True), WARNING, "Guest vm does not have host1_usb_key"),
    (
        waits(BindingState.ATTACHED, AwaitedNeighbour("Placement", STARTED, "Keystone refuses the password.")),
        WARNING,
        "it waits for Placement: Keystone refuses the password.",
    ),
    # Options
    (OptionsCheck().judge(()), OK, "has an effect"),
    (OptionsCheck().judge(("[hook]a is no option of usb-provider.",) * 5), WARNING, "usb-provider. And 2 more."),
    # Security modules
    (secured("enforcing", daemons=(QEMUD,)), WARNING, "virtqemud_t"),
    (secured("enforcing", daemons=(QEMUD,), called=-1), WARNING, "virtqemud_t"),
    (secured("enforcing", daemons=(QEMUD,), called=1), OK, "lets libvirt run"),
    (secured("enforcing", daemons=(DAEMON,)), OK, "enforcing"),
    (secured("enforcing"), OK, "enforcing"),
    (secured("permissive", daemons=(QEMUD,)), OK, "permissive"),
    (secured(None, apparmor=True, daemons=(ARMOURED,)), OK, "libvirtd (enforce)"),
    (secured(None, apparmor=True, daemons=(ARMOURED,), called=1), OK, "has called the hook"),
    (secured(None, apparmor=True, daemons=(DAEMON,)), OK, "does not confine"),
    (secured(None, daemons=(DAEMON,)), OK, "Neither SELinux nor AppArmor"),
]


@pytest.mark.parametrize(
    "row",
    [SocketCheck().judge(facts) for facts in (SocketFacts(SOCKET, False), SocketFacts(SOCKET, True, True, 0o660, "x"))],
)
def test_a_restart_is_advised_where_a_start_of_an_active_unit_does_nothing(row: Finding) -> None:
    assert "systemctl restart usb-provider-agent;" in (row.advice or "")


@pytest.mark.parametrize(
    ("row", "verdict", "words"), CASES, ids=lambda value: value.check if isinstance(value, Finding) else str(value)[:40]
)
def test_each_case_has_its_verdict_and_its_sentence(row: Finding, verdict: Verdict, words: str) -> None:
    assert (row.verdict, words in row.found) == (verdict, True), row
    assert row.found.endswith((".", "refused"))


@pytest.mark.parametrize(("row", "verdict", "words"), CASES)
def test_whatever_is_wrong_comes_with_what_to_do_and_nothing_else_does(
    row: Finding, verdict: Verdict, words: str
) -> None:
    assert bool(row.advice) == (verdict in (WRONG, WARNING)), row
