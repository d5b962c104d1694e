"""Which provider is nova's compute node: by UUID if one is known, else by name. It never creates it.

The UUID that nova wrote to ``<state_path>/compute_id`` is decisive, since names differ between nova, libvirt and the
host more often than not (nova bugs 1853840 and 2139369 are of that kind).
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from usb_provider.exception import ConfigError, RootMissing
from usb_provider.model.reporting.provider import Root
from usb_provider.placement.client import PlacementClient


@dataclass(frozen=True, slots=True)
class RootHints:
    """What may name the root, in this order: a UUID, nova's compute_id file, a name, and the host's own names."""

    uuid: str | None = None
    compute_id_file: Path | None = None
    name: str | None = None
    hostnames: Sequence[str] = ()

    def known_uuid(self) -> tuple[str, str] | None:
        """The root's UUID and where it comes from, as far as this host knows it.

        :raises ConfigError: when the file is there but holds no UUID or cannot be read.
        """
        if self.uuid:
            return self.uuid.lower(), "[agent]root_provider_uuid"
        path = self.compute_id_file
        try:
            text = path.read_text(encoding="utf-8", errors="replace").strip() if path else None
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ConfigError(
                [f"[agent]compute_id_file {path} cannot be read ({error.strerror}); let the agent's user read it."]
            ) from error
        if text is None:
            return None
        try:
            return str(uuid.UUID(text)), str(path)
        except ValueError as error:
            raise ConfigError(
                [f"[agent]compute_id_file {path} holds no UUID; point it at nova's <state_path>/compute_id."]
            ) from error


class RootFinder:
    """Finds the root by *hints*, as often as asked."""

    def __init__(self, client: PlacementClient, hints: RootHints) -> None:
        self._client = client
        self._hints = hints

    def find(self) -> Root:
        """The root as Placement has it now.

        :raises RootMissing: when no hint leads to a provider without a parent; wait and ask again.
        """
        known = self._hints.known_uuid()
        if known is not None:
            wanted, source = known
            for record in self._client.tree(wanted):
                if record.uuid == wanted and record.parent_uuid is None:
                    return Root(record.uuid, record.name)
            raise RootMissing(
                f"Placement has no compute node provider {wanted} (from {source}); it appears when nova-compute starts."
            )
        names = [self._hints.name] if self._hints.name else list(self._hints.hostnames)
        for name in names:
            found = self._client.provider_named(name)
            if found is not None and found.parent_uuid is None:
                return Root(found.uuid, found.name)
        raise RootMissing(
            f"Placement has no compute node provider named {' or '.join(names)}; it appears when nova-compute starts, "
            f"and [agent]root_provider_name can name it."
        )

    def source(self) -> str:
        """Which file or option says what the root is: what an operator has to correct if it is the wrong one."""
        known = self._hints.known_uuid()
        if known is not None:
            return known[1]
        return "[agent]root_provider_name" if self._hints.name else "this host's name"

    def still(self, root: Root) -> bool:
        """Whether the hints on this host still lead to *root*, asked without a request."""
        known = self._hints.known_uuid()
        return known is None or known[0] == root.uuid
