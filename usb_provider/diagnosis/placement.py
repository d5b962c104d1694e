"""The checks of Placement: whether it answers, accepts the credentials, lets the user in, and is new enough.

They judge the same two answers, each another part of them.
"""

from dataclasses import dataclass

from usb_provider.diagnosis.check import Check, Finding
from usb_provider.diagnosis.context import Context, Maybe, Reading, Unknown
from usb_provider.diagnosis.trouble import Trouble, TroubleKind, asked
from usb_provider.exception import ConfigError
from usb_provider.model.reporting.provider import Root
from usb_provider.placement.client import MICROVERSION, PlacementClient
from usb_provider.placement.root import RootFinder


@dataclass(frozen=True, slots=True)
class PlacementFacts:
    """Placement's versions and the compute node, or why each is not known; *needed* is our microversion."""

    versions: tuple[str, str] | Trouble
    root: Root | Trouble
    needed: str


def ask_placement(client: PlacementClient, roots: RootFinder) -> PlacementFacts:
    """What Placement says to *client*; a request that fails is a fact as well."""
    versions = asked(client.microversions)
    if isinstance(versions, Trouble) and versions.kind is not TroubleKind.INCOMPATIBLE:
        # The second request would fail as well, and might take as long again.
        return PlacementFacts(versions, versions, MICROVERSION)
    return PlacementFacts(versions, asked(roots.find), MICROVERSION)


def _read(context: Context) -> Maybe[PlacementFacts]:
    try:
        client, roots = context.neighbours.placement()
    except ConfigError:
        return Unknown("[placement] cannot be used; see the check of the configuration.")
    return ask_placement(client, roots)


def _late(context: Context) -> PlacementFacts:
    text = f"Placement or Keystone has not answered in {context.threads.seconds:.0f} s."
    trouble = Trouble(TroubleKind.AWAY, text)
    return PlacementFacts(trouble, trouble, MICROVERSION)


PLACEMENT = Reading("placement", _read, _late)


class _PlacementCheck(Check[PlacementFacts]):
    def read(self, context: Context) -> Maybe[PlacementFacts]:
        """What Placement says."""
        return context.get(PLACEMENT)


class PlacementCheck(_PlacementCheck):
    """Whether Placement answers."""

    name = "placement"

    def judge(self, facts: PlacementFacts) -> Finding:
        """Away, or not a Placement; the check of the microversion reports one that is too old."""
        versions = facts.versions
        if isinstance(versions, Trouble) and versions.kind in (TroubleKind.CREDENTIALS, TroubleKind.ROLE):
            return self.not_checked("Keystone gives Placement's address with a token, and there is no token.")
        is_old = not isinstance(versions, Trouble) and not _speaks(versions, facts.needed)
        for each in (versions, facts.root):
            if isinstance(each, Trouble) and (
                each.kind is TroubleKind.AWAY or (each.kind is TroubleKind.INCOMPATIBLE and not is_old)
            ):
                return self.wrong(
                    each.text,
                    "Check the network from here to Keystone and Placement, and the addresses in [placement].",
                )
        return self.ok("Placement answers.")


class CredentialsCheck(_PlacementCheck):
    """Whether Keystone and Placement accept the credentials."""

    name = "credentials"

    def judge(self, facts: PlacementFacts) -> Finding:
        """Accepted by either, refused by either, or not tried."""
        for each in (facts.versions, facts.root):
            if isinstance(each, Trouble) and each.kind is TroubleKind.CREDENTIALS:
                return self.wrong(
                    each.text,
                    "Compare user, password, project and domains in [placement] with "
                    '"openstack user show" and "openstack role assignment list --user usb-provider --names".',
                )
        if isinstance(facts.root, Trouble) and facts.root.kind not in (TroubleKind.ROLE, TroubleKind.NO_ROOT):
            return self.not_checked("Placement could not be asked, so the credentials were not tried.")
        return self.ok("The credentials in [placement] are accepted.")


class RoleCheck(_PlacementCheck):
    """Whether the user's role is enough for Placement."""

    name = "role"

    def judge(self, facts: PlacementFacts) -> Finding:
        """Reading stands for writing: Placement wants the same role for both."""
        root = facts.root
        if not isinstance(root, Trouble) or root.kind is TroubleKind.NO_ROOT:
            return self.ok("Placement lets the user in [placement] read; writing needs the same role.")
        if root.kind is TroubleKind.ROLE:
            return self.wrong(
                root.text,
                "Give it the role service, or admin where Placement is older than 2023.1: openstack role add "
                "--user usb-provider --user-domain Default --project service --project-domain Default service",
            )
        return self.not_checked("Placement could not be asked as the user in [placement].")


class MicroversionCheck(_PlacementCheck):
    """Whether Placement is new enough, and not too new."""

    name = "microversion"

    def judge(self, facts: PlacementFacts) -> Finding:
        """By what its version document says."""
        if isinstance(facts.versions, Trouble):
            return self.not_checked("Placement could not be asked for its versions.")
        lowest, highest = facts.versions
        if not _speaks(facts.versions, facts.needed):
            return self.wrong(
                f"Placement supports microversions {lowest} to {highest}, but {facts.needed} is needed.",
                "Upgrade Placement; Stein (2019) and newer have it.",
            )
        return self.ok(f"Placement supports microversions up to {highest}; {facts.needed} is needed.")


def _speaks(versions: tuple[str, str], needed: str) -> bool:
    return _version(versions[0]) <= _version(needed) <= _version(versions[1])


def _version(text: str) -> tuple[int, ...]:
    parts = text.split(".")
    return tuple(int(part) for part in parts) if all(part.isascii() and part.isdigit() for part in parts) else ()
