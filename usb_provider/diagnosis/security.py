"""The check of SELinux and AppArmor: whether either may keep libvirt from running the hook."""

from dataclasses import dataclass
from pathlib import Path

from usb_provider.diagnosis.agent_socket import hook_called_at
from usb_provider.diagnosis.check import Check, Finding
from usb_provider.diagnosis.context import Context, Maybe, Unknown
from usb_provider.diagnosis.libvirt import DAEMONS
from usb_provider.host.daemons import Daemon


@dataclass(frozen=True, slots=True)
class SecurityFacts:
    """SELinux's mode, whether AppArmor is on, libvirt's daemons, and when a hook last asked the agent."""

    selinux: str | None
    apparmor: bool
    daemons: tuple[Daemon, ...]
    called: float | None


class SecurityCheck(Check[SecurityFacts]):
    """Whether a security module may keep libvirt from running the hook."""

    name = "AppArmor, SELinux"
    of_guests = True

    def read(self, context: Context) -> Maybe[SecurityFacts]:
        """From /sys, from libvirt's processes, and from the agent."""
        daemons = context.get(DAEMONS)
        if isinstance(daemons, Unknown):
            return daemons
        sys = context.places.sys
        return SecurityFacts(_selinux(sys), _apparmor(sys), daemons, hook_called_at(context))

    def judge(self, facts: SecurityFacts) -> Finding:
        """A call of the hook is proof; without one, the usual policies decide."""
        daemon = max(facts.daemons, key=lambda each: each.started, default=None)
        called = daemon is not None and facts.called is not None and facts.called > daemon.started
        label = daemon.label if daemon is not None else None
        if facts.selinux == "enforcing":
            if called:
                return self.ok("SELinux is enforcing, and lets libvirt run the hook.")
            # Fedora's policy lets libvirtd run hooks; virtqemud may read and not execute what is labelled virt_hook_t.
            if label is not None and ":virtqemud_t:" in label:
                return self.warning(
                    "SELinux is enforcing, virtqemud runs as virtqemud_t, which many policies do not let run hooks, "
                    "and no call of the hook is known since virtqemud started.",
                    "Start a guest; if ausearch -m avc -ts recent shows a denial, make a module of it: ausearch -m avc "
                    "-ts recent | audit2allow -M usb-provider && semodule -i usb-provider.pp",
                )
            return self.ok("SELinux is enforcing; libvirtd's policy lets it run hooks.")
        if facts.apparmor:
            if label is None or "(enforce)" not in label:
                return self.ok("AppArmor is on, and does not confine libvirt's daemon.")
            seen = " It has called the hook." if called else ""
            return self.ok(
                f"AppArmor confines libvirt's daemon ({label}); the usual profile lets it run hooks below "
                f"/etc/libvirt/hooks.{seen}"
            )
        if facts.selinux is not None:
            return self.ok(f"SELinux is {facts.selinux}, so it blocks nothing.")
        return self.ok("Neither SELinux nor AppArmor is on.")


def _selinux(sys: Path) -> str | None:
    """``enforcing`` or ``permissive``; None where SELinux is off."""
    try:
        return "enforcing" if (sys / "fs/selinux/enforce").read_text().strip() == "1" else "permissive"
    except OSError:
        return None


def _apparmor(sys: Path) -> bool:
    try:
        return (sys / "module/apparmor/parameters/enabled").read_text().strip() == "Y"
    except OSError:
        return False
