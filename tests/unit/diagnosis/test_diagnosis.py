"""Facts of a compute node in, findings out: what is wrong is said to be wrong, and with what to do about it."""

import dataclasses
from typing import Any

import pytest

from tests.fixtures.builders import ROOT, a_device, a_spec
from tests.fixtures.domain_xml import a_domain_xml, a_hostdev_xml
from usb_provider.diagnosis import checks as diagnosis
from usb_provider.diagnosis.checks import (
    AuthorizationFacts,
    ConfigurationFacts,
    Daemon,
    Facts,
    Finding,
    GuestFacts,
    HookFacts,
    Kind,
    LibvirtFacts,
    LoadedFacts,
    PlacementFacts,
    SecurityFacts,
    SocketFacts,
    Trouble,
    UdevFacts,
    Unknown,
    Verdict,
)
from usb_provider.model.binding.decision import RunningGuest
from usb_provider.model.binding.holding import Holding
from usb_provider.model.binding.hostdev import Guest, Hostdev, UsbController, hostdev_xml, parse_guest
from usb_provider.model.devices.device import Speed
from usb_provider.model.reporting.provider import assess

OK, WARNING, WRONG, NOT_CHECKED = Verdict.OK, Verdict.WARNING, Verdict.WRONG, Verdict.NOT_CHECKED

SOCKET = "/run/usb-provider/hook.sock"
HOOK = "/etc/libvirt/hooks/qemu.d/usb-provider"
STARTED = 1_000_000.0
DAEMON = Daemon("libvirtd", 611, STARTED)
QEMUD = Daemon("virtqemud", 612, STARTED, "system_u:system_r:virtqemud_t:s0-s0:c0.c1023")
ARMOURED = Daemon("libvirtd", 613, STARTED, "libvirtd (enforce)")
VM = "4cad3336-9f38-4bf2-aaab-199b82e458ea"
PROVIDER = "d4cd0e47-5d8f-5d7d-8edb-87ec9de28ae1"
DEVICE = a_device("1-2", busnum=1, devnum=9, speed=Speed.HIGH)
HELD = Holding(PROVIDER, "compute1_usb_key", frozenset({VM}), *assess([DEVICE], [a_spec()]))
XHCI = UsbController("qemu-xhci", Speed.SUPER_PLUS, 4)
UHCI = UsbController("piix3-uhci", Speed.FULL, 1)

FINE = Facts(
    configuration=ConfigurationFacts(("/etc/usb-provider/usb-provider.conf",), (), 3),
    placement=PlacementFacts(("1.0", "1.39"), ROOT, "1.28"),
    udev=UdevFacts(True, True, 31),
    libvirt=LibvirtFacts("qemu:///system", (9, 0, 0), ROOT.name),
    hook=HookFacts(HOOK, True, True, True, SOCKET),
    loaded=LoadedFacts((DAEMON,), STARTED - 100, STARTED - 100, None),
    socket=SocketFacts(SOCKET, True, True, 0o660),
    security=SecurityFacts(None, False, (DAEMON,), None),
    authorization=AuthorizationFacts({"usb1": "1", "usb2": "1"}),
    guests=GuestFacts((), (), frozenset()),
    hostnames=(ROOT.name,),
    hook_socket=SOCKET,
)


def a_guest(*hostdevs: Hostdev, controllers: tuple[UsbController, ...] = (XHCI,), name: str = "vm") -> RunningGuest:
    return RunningGuest(Guest(VM, name, hostdevs, controllers))


def the_hostdev(number: int = 9) -> Hostdev:
    """The hostdev that the agent attaches for HELD, with the device at *number*."""
    element = hostdev_xml(PROVIDER, dataclasses.replace(DEVICE, devnum=number))
    return parse_guest(f"<domain><name>x</name><uuid>{VM}</uuid><devices>{element}</devices></domain>").hostdevs[0]


def finding(check: str, **facts: Any) -> Finding:
    """The finding of *check* where all is well but for *facts*."""
    return next(each for each in diagnosis.diagnose(dataclasses.replace(FINE, **facts)) if each.check == check)


def loaded(
    changed: float, dated: float, called: float | None = None, daemons: tuple[Daemon, ...] = (DAEMON,)
) -> LoadedFacts:
    """A hook with these times, in seconds after DAEMON's start."""
    seen = None if called is None else STARTED + called
    return LoadedFacts(daemons, STARTED + changed, STARTED + dated, seen)


def asked(versions: Any = ("1.0", "1.39"), root: Any = ROOT) -> PlacementFacts:
    return PlacementFacts(versions, root, "1.28")


# The whole


def test_where_all_is_well_nothing_is_to_be_done() -> None:
    found = diagnosis.diagnose(FINE)
    assert {each.verdict for each in found} == {OK}
    assert {each.advice for each in found} == {None}
    assert [each.check for each in found] == [
        "configuration",
        "placement",
        "credentials",
        "role",
        "microversion",
        "compute node",
        "compute node's name",
        "udev",
        "authorized_default",
        "libvirt",
        "hook",
        "hook loaded",
        "socket",
        "AppArmor, SELinux",
        "controller models",
        "stale hostdevs",
    ]


def test_what_nobody_could_read_is_not_checked_and_hides_nothing_else() -> None:
    names = ("configuration", "placement", "udev", "libvirt", "hook", "loaded", "socket", "security")
    for spoiled in (*names, "authorization", "guests"):
        found = diagnosis.diagnose(dataclasses.replace(FINE, **{spoiled: Unknown("Nobody answered in 20 s.")}))
        assert len(found) == len(diagnosis.diagnose(FINE))
        assert {each.verdict for each in found} == {OK, NOT_CHECKED}
        assert all(each.found for each in found)


def test_where_no_guests_are_served_what_is_theirs_is_not_checked() -> None:
    found = diagnosis.diagnose(dataclasses.replace(FINE, serves_guests=False, hook=HookFacts(HOOK, False)))
    assert [each.check for each in found if each.verdict is NOT_CHECKED] == [
        "libvirt",
        "hook",
        "hook loaded",
        "socket",
        "AppArmor, SELinux",
        "controller models",
        "stale hostdevs",
    ]


CASES: list[tuple[str, dict[str, Any], Verdict, str]] = [
    # Configuration
    (
        "configuration",
        {"configuration": ConfigurationFacts(("a.conf",), ("[hook]timeout is wrong.", "[usb] too."), 1)},
        WRONG,
        "[hook]timeout is wrong. [usb] too.",
    ),
    ("configuration", {"configuration": ConfigurationFacts((), (), 0)}, WARNING, "No configuration file was read."),
    ("configuration", {"configuration": ConfigurationFacts(("a.conf",), (), 0)}, WARNING, "so nothing is offered"),
    ("configuration", {"configuration": ConfigurationFacts(("a.conf",), (), 1)}, OK, "has 1 rule."),
    # Placement
    (
        "placement",
        {"placement": asked(Trouble(Kind.AWAY, "Refused."), Trouble(Kind.AWAY, "Refused."))},
        WRONG,
        "Refused.",
    ),
    ("placement", {"placement": asked(root=Trouble(Kind.AWAY, "It answers 503."))}, WRONG, "It answers 503."),
    ("placement", {"placement": asked(root=Trouble(Kind.INCOMPATIBLE, "It answers 404."))}, WRONG, "It answers 404."),
    ("placement", {"placement": asked(("1.0", "1.10"), Trouble(Kind.INCOMPATIBLE, "Too old."))}, OK, "answers"),
    (
        "placement",
        {"placement": asked(Trouble(Kind.CREDENTIALS, "No."), Trouble(Kind.CREDENTIALS, "No."))},
        NOT_CHECKED,
        "",
    ),
    ("placement", {"placement": asked(root=Trouble(Kind.ROLE, "It answers 403."))}, OK, "answers"),
    (
        "credentials",
        {"placement": asked(Trouble(Kind.CREDENTIALS, "Keystone."), Trouble(Kind.CREDENTIALS, "No."))},
        WRONG,
        "Keystone.",
    ),
    ("credentials", {"placement": asked(root=Trouble(Kind.CREDENTIALS, "It answers 401."))}, WRONG, "401"),
    ("credentials", {"placement": asked(root=Trouble(Kind.ROLE, "It answers 403."))}, OK, "accepted"),
    ("credentials", {"placement": asked(root=Trouble(Kind.NO_ROOT, "None."))}, OK, "accepted"),
    ("credentials", {"placement": asked(Trouble(Kind.AWAY, "No."), Trouble(Kind.AWAY, "No."))}, NOT_CHECKED, ""),
    ("role", {"placement": asked(root=Trouble(Kind.ROLE, "It answers 403."))}, WRONG, "403"),
    ("role", {"placement": asked(root=Trouble(Kind.CREDENTIALS, "It answers 401."))}, NOT_CHECKED, ""),
    ("role", {"placement": asked(root=Trouble(Kind.NO_ROOT, "None."))}, OK, ""),
    ("microversion", {"placement": asked(("1.0", "1.27"))}, WRONG, "1.0 to 1.27, and 1.28 is needed"),
    ("microversion", {"placement": asked(("1.29", "1.39"))}, WRONG, "1.29 to 1.39"),
    ("microversion", {"placement": asked(("1.0", "1.28"))}, OK, "up to 1.28"),
    ("microversion", {"placement": asked(("1.0", "1.100"))}, OK, "up to 1.100"),
    ("microversion", {"placement": asked(("1.0", "latest"))}, WRONG, "latest"),
    ("microversion", {"placement": asked(Trouble(Kind.AWAY, "No."))}, NOT_CHECKED, ""),
    (
        "compute node",
        {"placement": asked(root=Trouble(Kind.NO_ROOT, "There is none named host1."))},
        WRONG,
        "none named",
    ),
    (
        "compute node",
        {"placement": asked(root=Trouble(Kind.CONFIGURATION, "It cannot be read."))},
        WRONG,
        "cannot be read",
    ),
    ("compute node", {"placement": asked(root=Trouble(Kind.AWAY, "No."))}, NOT_CHECKED, ""),
    ("compute node's name", {"placement": asked(root=Trouble(Kind.NO_ROOT, "None."))}, NOT_CHECKED, ""),
    (
        "compute node's name",
        {"libvirt": LibvirtFacts("qemu:///system", (9, 0, 0), "other")},
        WARNING,
        "libvirt calls this host other",
    ),
    ("compute node's name", {"libvirt": Trouble(Kind.AWAY, "No."), "hostnames": ("a", "b")}, WARNING, "called a or b"),
    ("compute node's name", {"libvirt": Unknown("No.")}, OK, ROOT.name),
    # The host
    ("udev", {"udev": UdevFacts(False, True, 0)}, WRONG, "/sys/bus/usb"),
    ("udev", {"udev": UdevFacts(True, False, 5)}, WRONG, "/run/udev/control"),
    ("udev", {"udev": UdevFacts(True, True, 5, ("1-2", "1-3", "1-4", "1-5"))}, WARNING, "1-2, 1-3, 1-4 and 1 more"),
    ("udev", {"udev": UdevFacts(True, True, 0)}, WARNING, "No USB device is to be seen"),
    ("udev", {"udev": UdevFacts(True, True, 1)}, OK, "1 USB device, hubs included"),
    (
        "authorized_default",
        {"authorization": AuthorizationFacts({"usb1": "0"}, ("1-2",))},
        WARNING,
        "not authorised 1-2",
    ),
    ("authorized_default", {"authorization": AuthorizationFacts({"usb1": "0", "usb2": "1"})}, OK, "(usb1)"),
    ("authorized_default", {"authorization": AuthorizationFacts({"usb1": "-1"})}, OK, "every device"),
    ("authorized_default", {"authorization": AuthorizationFacts({})}, NOT_CHECKED, "No USB controller"),
    # libvirt
    ("libvirt", {"libvirt": Trouble(Kind.CONFIGURATION, "Its module is missing.")}, WRONG, "module is missing"),
    ("libvirt", {"libvirt": Trouble(Kind.AWAY, "It does not answer.")}, WRONG, "does not answer"),
    ("libvirt", {"libvirt": LibvirtFacts("qemu:///system", (6, 4, 9), ROOT.name)}, WRONG, "version 6.4.9"),
    ("libvirt", {"libvirt": LibvirtFacts("qemu:///system", (6, 5, 0), ROOT.name)}, OK, "libvirt 6.5.0 answers"),
    ("hook", {"hook": HookFacts(HOOK, False)}, WRONG, f"{HOOK} is not there"),
    ("hook", {"hook": HookFacts(HOOK, True, False, True, SOCKET)}, WRONG, "is not executable"),
    ("hook", {"hook": HookFacts(HOOK, True, True, True, SOCKET, has_python=False)}, WRONG, "python3"),
    ("hook", {"hook": HookFacts(HOOK, True, True, False, "/elsewhere")}, WRONG, "asks at /elsewhere"),
    ("hook", {"hook": HookFacts(HOOK, True, True, False, SOCKET)}, WARNING, "not the one"),
    ("hook", {"hook": HookFacts(HOOK, True, True, False, None)}, WARNING, "not the one"),
    # What libvirt has loaded
    ("hook loaded", {"loaded": LoadedFacts((), STARTED, STARTED, None)}, NOT_CHECKED, "Neither virtqemud nor libvirtd"),
    ("hook loaded", {"loaded": LoadedFacts((DAEMON,), None, None, None)}, NOT_CHECKED, "no hook"),
    (
        "hook loaded",
        {"loaded": loaded(60, 60)},
        WRONG,
        "libvirtd (process 611) started before",
    ),
    (
        "hook loaded",
        {"loaded": loaded(60, 60, -5)},
        WRONG,
        "started before",
    ),
    (
        "hook loaded",
        {"loaded": loaded(60, 60, 5)},
        OK,
        "has called the hook",
    ),
    (
        "hook loaded",
        {"loaded": loaded(60, -60)},
        WARNING,
        "had been there before",
    ),
    ("hook loaded", {"loaded": loaded(60, -60, 5)}, OK, "has called"),
    ("hook loaded", {"loaded": loaded(1, 1)}, OK, "was already there"),
    (
        "hook loaded",
        {
            "loaded": LoadedFacts(
                (DAEMON, dataclasses.replace(QEMUD, started=STARTED + 90)), STARTED + 60, STARTED + 60, None
            )
        },
        OK,
        "virtqemud",
    ),
    # The agent
    ("socket", {"socket": SocketFacts(SOCKET, False)}, WRONG, "is not there"),
    ("socket", {"socket": SocketFacts(SOCKET, True, False, 0o644)}, WRONG, "is no socket"),
    ("socket", {"socket": SocketFacts(SOCKET, True, True, 0o777)}, WRONG, "mode 0777"),
    ("socket", {"socket": SocketFacts(SOCKET, True, True, 0o660, "Connection refused")}, WRONG, "Connection refused"),
    ("socket", {"socket": SocketFacts(SOCKET, True, True, 0o660, "no", denied=True)}, NOT_CHECKED, "as root"),
    # Security modules
    ("AppArmor, SELinux", {"security": SecurityFacts("enforcing", False, (QEMUD,), None)}, WARNING, "virtqemud_t"),
    (
        "AppArmor, SELinux",
        {"security": SecurityFacts("enforcing", False, (QEMUD,), STARTED - 1)},
        WARNING,
        "virtqemud_t",
    ),
    (
        "AppArmor, SELinux",
        {"security": SecurityFacts("enforcing", False, (QEMUD,), STARTED + 1)},
        OK,
        "lets libvirt run",
    ),
    ("AppArmor, SELinux", {"security": SecurityFacts("enforcing", False, (DAEMON,), None)}, OK, "enforcing"),
    ("AppArmor, SELinux", {"security": SecurityFacts("enforcing", False, (), None)}, OK, "enforcing"),
    ("AppArmor, SELinux", {"security": SecurityFacts("permissive", False, (QEMUD,), None)}, OK, "permissive"),
    ("AppArmor, SELinux", {"security": SecurityFacts(None, True, (ARMOURED,), None)}, OK, "libvirtd (enforce)"),
    ("AppArmor, SELinux", {"security": SecurityFacts(None, True, (ARMOURED,), STARTED + 1)}, OK, "has called the hook"),
    ("AppArmor, SELinux", {"security": SecurityFacts(None, True, (DAEMON,), None)}, OK, "does not confine"),
    # Guests
    (
        "controller models",
        {"guests": GuestFacts((a_guest(),), (HELD,), frozenset({VM}))},
        OK,
        "1 running guest can take",
    ),
    ("controller models", {"guests": GuestFacts((a_guest(),), (), frozenset({VM}))}, OK, "No running guest holds"),
    (
        "controller models",
        {"guests": GuestFacts((a_guest(controllers=()),), (HELD,), frozenset({VM}))},
        WRONG,
        "Guest vm: The instance has no USB controller for compute1_usb_key",
    ),
    (
        "controller models",
        {"guests": GuestFacts((a_guest(controllers=(UHCI,)),), (HELD,), frozenset({VM}))},
        WRONG,
        "too fast for the instance's USB controller (piix3-uhci)",
    ),
    (
        "controller models",
        {"guests": GuestFacts((a_guest(the_hostdev(), controllers=()),), (HELD,), frozenset({VM}))},
        OK,
        "can take what it holds",
    ),
    (
        "controller models",
        {"guests": GuestFacts((a_guest(),), (dataclasses.replace(HELD, assessment=None),), frozenset({VM}))},
        OK,
        "can take what it holds",
    ),
    ("stale hostdevs", {"guests": GuestFacts((a_guest(the_hostdev()),), (HELD,), frozenset({VM}))}, OK, "should be"),
    (
        "stale hostdevs",
        {"guests": GuestFacts((a_guest(the_hostdev(7)),), (HELD,), frozenset({VM}))},
        WRONG,
        f"Guest vm has ua-usb-{PROVIDER}, and the device has another address now.",
    ),
    (
        "stale hostdevs",
        {"guests": GuestFacts((a_guest(the_hostdev()),), (), frozenset({VM}))},
        WRONG,
        "the guest no longer holds its allocation",
    ),
    (
        "stale hostdevs",
        {
            "guests": GuestFacts(
                (a_guest(the_hostdev()),),
                (dataclasses.replace(HELD, consumers=frozenset({"a migration"})),),
                frozenset({VM}),
            )
        },
        OK,
        "should be",
    ),
]


@pytest.mark.parametrize(("check", "facts", "verdict", "words"), CASES)
def test_each_case_has_its_verdict_and_its_sentence(
    check: str, facts: dict[str, Any], verdict: Verdict, words: str
) -> None:
    row = finding(check, **facts)
    assert (row.verdict, words in row.found) == (verdict, True), row
    assert row.found.endswith((".", "refused"))


def test_whatever_is_wrong_comes_with_what_to_do_and_nothing_else_does() -> None:
    for check, facts, verdict, _ in CASES:
        row = finding(check, **facts)
        assert (row.advice is not None) == (verdict in (WRONG, WARNING)), row


def test_many_of_a_kind_are_cut_short() -> None:
    guests = tuple(
        RunningGuest(Guest(f"{VM[:-1]}{number}", f"vm{number}", (the_hostdev(7),), ())) for number in range(5)
    )
    row = finding("stale hostdevs", guests=GuestFacts(guests, (), frozenset()))
    assert "vm2" in row.found and "vm3" not in row.found
    assert row.found.endswith("And 2 more.")


# Ports that hostdevs of ours take

SECOND = Holding(
    "e1a7c5d2-3f0b-5c64-9d0e-0c5b8f2f4a11",
    "compute1_usb_dongle",
    frozenset({VM}),
    *assess([a_device("1-3", busnum=1, devnum=10)], [a_spec()]),
)


def two_ports(*hostdevs: str) -> RunningGuest:
    """A guest as libvirt shows it while it runs: a controller with two ports, of which its tablet has one."""
    tablet = "<input type='tablet' bus='usb'><address type='usb' bus='0' port='1'/></input>"
    return RunningGuest(parse_guest(a_domain_xml("vm", VM, ports=2, devices=(tablet, *hostdevs))))


def attached(holding: Holding, *, number: int | None = None) -> str:
    """The hostdev of *holding*'s device in a live domain; *number* is another address on the host's bus."""
    device = holding.device
    assert device is not None and device.busnum is not None and device.devnum is not None
    usb_id = f"{device.vendor_id}:{device.product_id}"
    return a_hostdev_xml(f"ua-usb-{holding.provider_uuid}", device.busnum, number or device.devnum, usb_id, port=2)


def test_a_running_guest_whose_ports_our_own_devices_take_has_none_for_one_more() -> None:
    row = finding("controller models", guests=GuestFacts((two_ports(attached(HELD)),), (HELD, SECOND), frozenset({VM})))
    assert row.verdict is WRONG
    assert row.found.startswith("Guest vm: The instance has no free USB port for compute1_usb_dongle;")


def test_a_running_guest_that_has_all_that_it_holds_needs_no_free_port() -> None:
    row = finding("controller models", guests=GuestFacts((two_ports(attached(HELD)),), (HELD,), frozenset({VM})))
    assert row.verdict is OK


def test_a_port_that_the_agent_is_about_to_free_counts_as_free() -> None:
    released = dataclasses.replace(HELD, consumers=frozenset())
    unplugged = dataclasses.replace(HELD, assessment=None)
    for held in (released, unplugged):
        guests = GuestFacts((two_ports(attached(HELD)),), (held, SECOND), frozenset({VM}))
        assert finding("controller models", guests=guests).verdict is OK


def test_a_port_is_still_taken_when_its_device_has_another_address_now() -> None:
    guests = GuestFacts((two_ports(attached(HELD, number=7)),), (HELD, SECOND), frozenset({VM}))
    row = finding("controller models", guests=guests)
    assert (row.verdict, "no free USB port" in row.found) == (WRONG, True)


def test_a_device_of_ours_behind_the_guests_hub_takes_no_port_of_the_controller() -> None:
    behind = attached(HELD).replace("port='2'", "port='1.2'")
    row = finding("controller models", guests=GuestFacts((two_ports(behind),), (HELD, SECOND), frozenset({VM})))
    assert row.verdict is OK
