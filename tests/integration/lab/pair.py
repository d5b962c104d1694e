"""Two compute nodes and the moves that nova makes between them: claims first, then libvirt, then claims again.

Whatever moves is done by libvirt's own virsh; nothing here knows the product.
"""

import uuid as uuidlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from tests.integration.lab import domains
from tests.integration.lab.cloud import CLASS, Cloud
from tests.integration.lab.vm import CommandFailed


@dataclass(frozen=True, slots=True)
class Pair:
    """A host that guests are on, and another to which they go."""

    source: Cloud
    destination: Cloud

    @property
    def back(self) -> "Pair":
        """The way back."""
        return Pair(self.destination, self.source)

    def claim_move(self, name: str, old: Collection[str], new: Collection[str], *, units: int = 1) -> str:
        """Give what the guest holds at the source to a migration, and claim *new* for it, at once, as nova does.

        Gives the migration's UUID.
        """
        migration = str(uuidlib.uuid4())
        self._allocate({migration: old, domains.uuid_of(name): new}, units)
        return migration

    def revert_claim(self, name: str, migration: str, old: Collection[str]) -> None:
        """Give the guest what the migration held, as nova does when it has failed."""
        self._allocate({migration: (), domains.uuid_of(name): old})

    def _allocate(self, consumers: Mapping[str, Collection[str]], units: int = 1) -> None:
        api = self.source.placement.api
        body: dict[str, Any] = {}
        for consumer, providers in consumers.items():
            body[consumer] = {
                "allocations": {provider: {"resources": {CLASS: units}} for provider in providers},
                "consumer_generation": api.must("GET", f"/allocations/{consumer}").get("consumer_generation"),
                "consumer_type": "INSTANCE",
                "project_id": "project",
                "user_id": "user",
            }
        api.must("POST", "/allocations", body)

    def prepare(self, name: str) -> str:
        """Make the guest's directory at the destination, as nova does; gives the command that migrates it."""
        self.destination.vm.ssh(f"mkdir -p {domains.directory(domains.uuid_of(name))}")
        where = f"qemu+tcp://{self.destination.vm.name}/system"
        return f"virsh --quiet migrate --live --p2p --persistent --undefinesource {name} {where}"

    def migrate(self, name: str) -> None:
        """Migrate the guest live; CommandFailed when libvirt does not."""
        self.source.vm.ssh(self.prepare(name), timeout=300)

    def move(self, name: str, old: Collection[str], new: Collection[str], *, units: int = 1) -> None:
        """Do all that nova does in a live migration that goes well; *units* are those of each provider."""
        migration = self.claim_move(name, old, new, units=units)
        self.migrate(name)
        self.source.placement.release(migration)

    def refused(self, name: str) -> str:
        """What libvirt says to a migration, which must fail and leave the guest where it is, and only there."""
        try:
            self.migrate(name)
        except CommandFailed as error:
            assert domains.is_running(self.source.vm, name)
            assert not domains.is_running(self.destination.vm, name)
            return error.output
        raise AssertionError(f"{name} was migrated")
