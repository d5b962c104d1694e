"""The command ``doctor``: what is wrong on this compute node, and what to do about it.

Reads facts, each in a thread of its own with an end, and prints what model/diagnosis.py makes of them. Changes nothing.
"""

import argparse
import dataclasses
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from oslo_config import cfg
from rich.text import Text

from usb_provider.cmd import install_hook, output
from usb_provider.cmd.running_agent import ask_agent
from usb_provider.cmd.setup import log_to_standard_error, reporter, root_hints
from usb_provider.conf import load
from usb_provider.diagnosis.checks import (
    ConfigurationFacts,
    Facts,
    Finding,
    GuestFacts,
    HookFacts,
    Kind,
    LibvirtFacts,
    LoadedFacts,
    Maybe,
    PlacementFacts,
    SecurityFacts,
    SocketFacts,
    Trouble,
    Unknown,
    Verdict,
    diagnose,
)
from usb_provider.exception import (
    AccessRefused,
    ConfigError,
    Incompatible,
    RootMissing,
    Unavailable,
    UsbProviderError,
)
from usb_provider.host import installation
from usb_provider.host.installation import Places
from usb_provider.host.names import hypervisor_hostnames
from usb_provider.model.text import printable
from usb_provider.openstack.session import connect
from usb_provider.placement.client import MICROVERSION, PlacementClient
from usb_provider.placement.root import RootFinder

TEXT = """\
Say what is wrong on this compute node, and what to do about it: configuration, Placement, credentials, role and
microversion, the compute node and its name, udev, libvirt, its hook and whether libvirt has loaded it, the agent's
socket, SELinux and AppArmor, authorisation of devices, USB controllers of guests, hostdevs that nobody should have.

Changes nothing, and takes less than a minute, whatever does not answer. Run it as root: some of it is for root alone.
Exits with 0 when nothing is wrong (a warning is not), else with 1."""

_T = TypeVar("_T")

_REQUEST_SECONDS = 5.0
_PROBE_SECONDS = 20.0

_STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.WRONG: "red", Verdict.NOT_CHECKED: "dim"}


def declare(command: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``doctor``."""
    command.add_argument(
        "--json", action="store_true", help='print a list of {"check": …, "result": …, "found": …, "advice": …}'
    )
    command.add_argument(
        "--directory",
        type=Path,
        default=install_hook.DIRECTORY,
        metavar="DIR",
        help="libvirt's hooks (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Look, print, and give 1 when anything is wrong."""
    conf, configuration = read_configuration(log_to_standard_error(arguments))
    looked = Look(conf, configuration, hooks=arguments.directory)
    findings = diagnose(looked.facts())
    if arguments.json:
        output.print_json([finding_json(each) for each in findings])
    else:
        _print(findings)
    code = int(any(each.verdict is Verdict.WRONG for each in findings))
    if looked.unfinished:
        # Whoever does not answer would be waited for at the interpreter's end.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def finding_json(finding: Finding) -> dict[str, Any]:
    """One row as ``doctor --json`` prints it."""
    return {
        "check": finding.check,
        "result": finding.verdict.value,
        "found": finding.found,
        "advice": finding.advice,
    }


def _print(findings: tuple[Finding, ...]) -> None:
    table = output.table("Check", "Result", "What is found", "What to do")
    for each in findings:
        table.add_row(
            Text(each.check),
            Text(each.verdict.value, style=_STYLES[each.verdict]),
            Text(printable(each.found, 1000)),
            Text(printable(each.advice or "", 1000)),
        )
    output.console().print(table)
    count = {verdict: sum(each.verdict is verdict for each in findings) for verdict in Verdict}
    output.say(
        f"{len(findings)} checks: {count[Verdict.WRONG]} wrong, {count[Verdict.WARNING]} warnings, "
        f"{count[Verdict.NOT_CHECKED]} not checked."
    )


def read_configuration(words: list[str]) -> tuple[cfg.ConfigOpts, ConfigurationFacts]:
    """The configuration as far as it can be read, and everything that is wrong with it."""
    try:
        conf = load.open_files(words)
    except ConfigError as error:
        return load.defaults(), ConfigurationFacts((), error.problems, 0)
    options, problems = load.survey(conf)
    try:
        connect(conf)
    except ConfigError as error:
        problems += error.problems
    named = [*(conf.config_file or ()), *(conf.config_dir or ())]
    return conf, ConfigurationFacts(tuple(map(str, named)), problems, len(options.usb.specs))


class Look:
    """Every fact of this host, each read in a thread of its own.

    :ivar unfinished: whether a thread was left behind, waiting for somebody.
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        configuration: ConfigurationFacts,
        *,
        hooks: Path,
        places: Places = Places(),  # noqa: B008 - frozen
        seconds: float = _PROBE_SECONDS,
    ) -> None:
        self.unfinished = False
        self._conf = conf
        self._configuration = configuration
        self._options, _ = load.survey(conf)
        self._hooks = hooks
        self._places = places
        self._seconds = seconds

    def facts(self) -> Facts:
        """Look at everything, side by side."""
        serves = self._options.libvirt.enabled
        off = Unknown("[libvirt]enabled is false.")
        probes: dict[str, Callable[[], Any]] = {
            "placement": self._placement,
            "devices": self._devices,
            "hostnames": hypervisor_hostnames,
        }
        if serves:
            probes |= {
                "libvirt": self._libvirt,
                "view": self._view,
                "hook": self._hook,
                "socket": self._socket,
                "daemons": lambda: installation.daemons(self._places),
                "hook_since": lambda: installation.hook_since(self._hooks),
            }
        uri = self._options.libvirt.connection_uri
        late = Trouble(Kind.AWAY, f"libvirt at {uri} has not answered in {self._seconds:.0f} s.")
        nobody = Trouble(Kind.AWAY, f"Placement or Keystone has not answered in {self._seconds:.0f} s.")
        unresolved = (socket.gethostname(),)
        found = self._gather(
            probes,
            {"libvirt": late, "placement": PlacementFacts(nobody, nobody, MICROVERSION), "hostnames": unresolved},
        )
        called = _called(found.get("socket"))
        daemons = found.get("daemons", off)
        return Facts(
            configuration=self._configuration,
            placement=found["placement"],
            udev=_of(found["devices"], lambda devices: installation.udev(self._places, devices)),
            authorization=_of(found["devices"], lambda devices: installation.authorization(self._places, devices)),
            libvirt=_of(found.get("libvirt", off), lambda looked: looked if isinstance(looked, Trouble) else looked[0]),
            hook=found.get("hook", off),
            loaded=_of(daemons, lambda known: _loaded(known, found["hook"], found["hook_since"], called)),
            socket=_of(found.get("socket", off), lambda looked: looked[0]),
            security=_of(
                daemons,
                lambda known: SecurityFacts(
                    installation.selinux(self._places), installation.apparmor(self._places), known, called
                ),
            ),
            guests=_guests(found.get("libvirt", off), found.get("view", off)),
            hostnames=unresolved if isinstance(found["hostnames"], Unknown) else found["hostnames"],
            hook_socket=str(self._options.hook.socket),
            serves_guests=serves,
        )

    def _gather(self, probes: Mapping[str, Callable[[], Any]], late: Mapping[str, Any]) -> dict[str, Any]:
        """What each of *probes* gives, or why not; of one that has not ended in time, what *late* has for it."""
        nobody = Unknown(f"Nobody answered in {self._seconds:.0f} s.")
        found: dict[str, Any] = {name: late.get(name, nobody) for name in probes}

        def fill(name: str, probe: Callable[[], Any]) -> None:
            try:
                value = probe()
            except PermissionError as error:
                value = Unknown(f"{error.filename or name} is not for this user: run this as root.")
            except UsbProviderError as error:
                value = Unknown(str(error))
            except Exception as error:
                value = Unknown(f"This cannot be told ({type(error).__name__}: {error}).")
            found[name] = value

        threads = [
            threading.Thread(target=fill, args=each, name=f"doctor-{each[0]}", daemon=True) for each in probes.items()
        ]
        deadline = time.monotonic() + self._seconds
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self.unfinished = any(thread.is_alive() for thread in threads)
        return dict(found)

    def _placement(self) -> Maybe[PlacementFacts]:
        try:
            client = connect(self._conf, timeout=_REQUEST_SECONDS)
        except ConfigError:
            return Unknown("[placement] cannot be used; see the check of the configuration.")
        return placement_facts(client, RootFinder(client, root_hints(self._options)))

    def _devices(self) -> Any:
        from usb_provider.host.udev import UdevHost

        return tuple(UdevHost().devices())

    def _view(self) -> Any:
        from usb_provider.host.udev import UdevHost
        from usb_provider.model.binding.holding import holdings
        from usb_provider.model.reporting.host_state import HostView

        with reporter(self._conf, self._options, UdevHost(), timeout=_REQUEST_SECONDS) as report:
            seen = report.preview()
        return tuple(holdings(HostView(seen.tree, seen.devices)))

    def _libvirt(self) -> Any:
        uri = self._options.libvirt.connection_uri
        try:
            from usb_provider.virt.domain import LibvirtHost
        except ImportError as error:
            return Trouble(Kind.CONFIGURATION, f"libvirt's Python module is missing ({error}).")
        host = LibvirtHost(uri, lambda: None)
        try:
            return LibvirtFacts(uri, host.version(), host.hostname()), host.guests()
        except Unavailable as error:
            return Trouble(Kind.AWAY, str(error))
        finally:
            host.close()

    def _hook(self) -> HookFacts:
        hook = self._options.hook
        return installation.hook_file(
            self._hooks / install_hook.NAME, install_hook.hook_text(hook.socket, hook.timeout)
        )

    def _socket(self) -> tuple[SocketFacts, float | None]:
        path = self._options.hook.socket
        there = installation.socket_file(path)
        if not there.is_socket:
            return there, None
        try:
            called = ask_agent(path, self._options.hook.timeout).hook_called_at
        except Unavailable as error:
            denied = isinstance(error.__cause__, PermissionError)
            return dataclasses.replace(there, error=str(error.__cause__ or error), denied=denied), None
        return there, called


def placement_facts(client: PlacementClient, roots: RootFinder) -> PlacementFacts:
    """What Placement says to *client*; a request that fails is a fact as well."""
    versions = _asked(client.microversions)
    if isinstance(versions, Trouble) and versions.kind is not Kind.INCOMPATIBLE:
        # It would be no better, and might take as long again.
        return PlacementFacts(versions, versions, MICROVERSION)
    return PlacementFacts(versions, _asked(roots.find), MICROVERSION)


_KINDS: tuple[tuple[type[UsbProviderError], Kind], ...] = (
    (AccessRefused, Kind.CREDENTIALS),
    (RootMissing, Kind.NO_ROOT),
    (Incompatible, Kind.INCOMPATIBLE),
    (ConfigError, Kind.CONFIGURATION),
)


def _asked(ask: Callable[[], _T]) -> _T | Trouble:
    try:
        return ask()
    except UsbProviderError as error:
        kind = next((kind for raised, kind in _KINDS if isinstance(error, raised)), Kind.AWAY)
        if isinstance(error, AccessRefused) and error.lacks_role:
            kind = Kind.ROLE
        return Trouble(kind, str(error))


def _of(facts: Any, use: Callable[[Any], Any]) -> Any:
    return facts if isinstance(facts, Unknown) else use(facts)


def _called(looked: Any) -> float | None:
    return looked[1] if isinstance(looked, tuple) else None


def _loaded(daemons: Any, hook: Any, since: Any, called: float | None) -> Maybe[LoadedFacts]:
    for facts in (hook, since):
        if isinstance(facts, Unknown):
            return facts
    # Another hook makes libvirt look for all of them, but ours has to be there.
    unchanged, dated = since if since is not None and hook.executable else (None, None)
    return LoadedFacts(daemons, unchanged, dated, called)


def _guests(looked: Any, holdings: Any) -> Maybe[GuestFacts]:
    if isinstance(looked, Unknown):
        return looked
    if isinstance(looked, Trouble):
        return Unknown("libvirt could not be asked for its guests.")
    if isinstance(holdings, Unknown):
        return Unknown(f"Who holds what is not known: {holdings.why}")
    _, guests = looked
    return GuestFacts(guests.running, holdings, guests.known)
