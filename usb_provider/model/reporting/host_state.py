"""What the reporting loop last knew, as one frozen value that the binding loop reads without waiting. Pure.

It gives the verdict on each device, so that both loops and the commands judge alike.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

from usb_provider.model.devices.device import UsbDevice
from usb_provider.model.devices.held import Held
from usb_provider.model.devices.keys import JUNK, JunkSerials, possible_keys, serial_problem
from usb_provider.model.devices.lent import LentDisks
from usb_provider.model.devices.sightings import Sightings
from usb_provider.model.devices.spec import DeviceSpec
from usb_provider.model.reporting.provider import Assessment, assess, provider_uuid
from usb_provider.model.reporting.tree import ObservedTree
from usb_provider.model.units.drains import with_drains
from usb_provider.model.units.providers import remembered, with_promises
from usb_provider.model.units.sharing import PoolMemory, Shares

_ROUNDS = 4

SIGHTINGS_LIMIT = 1000
"""How many keys' sightings are kept: those of some hundred devices, and of those that people plugged and unplugged."""


@dataclass(frozen=True, slots=True)
class ReportSettings:
    """What an operator may change while the agent runs. Times are in seconds; ``purge_absent_after`` is 0 for never."""

    specs: tuple[DeviceSpec, ...] = ()
    junk_serials: JunkSerials = JUNK
    serial_trait: bool = False
    purge_absent_after: int = 0
    purge_wait: int = 360
    max_providers: int = 500

    @property
    def rule_traits(self) -> frozenset[str]:
        """Traits that rules give now."""
        return frozenset(name for spec in self.specs for name in spec.traits)

    @property
    def groups(self) -> frozenset[str]:
        """The keys of the pools and bundles that rules make."""
        return frozenset(spec.group for spec in self.specs if spec.group is not None)

    @property
    def rule_classes(self) -> frozenset[str]:
        """Every resource class that a rule gives."""
        return frozenset(spec.resource_class for spec in self.specs if spec.resource_class is not None)


@dataclass(frozen=True, slots=True)
class HostView:
    """Placement's tree as last read, every device as it is now, and which consumer has which member of a pool."""

    tree: ObservedTree
    devices: tuple[Assessment, ...]
    shares: Shares = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HostState:
    """All that a verdict on a device depends on: Placement's tree as last read, what was seen before, the settings."""

    tree: ObservedTree
    sightings: Sightings = field(default_factory=Sightings)
    settings: ReportSettings = field(default_factory=ReportSettings)
    lent: LentDisks = field(default_factory=LentDisks)
    pools: PoolMemory = field(default_factory=PoolMemory)

    def assess(self, devices: Sequence[UsbDevice], *, let_go: bool = False) -> tuple[Assessment, ...]:
        """The verdict on each of *devices*; with *let_go*, as if no consumer held anything."""
        found = assess(
            devices,
            self.settings.specs,
            root=self.tree.root,
            junk=self.settings.junk_serials,
            serial_trait=self.settings.serial_trait,
            held=lambda key: self._held(key, let_go=let_go),
            claimed=() if let_go else self._claimed(),
            seen=self.sightings.by_key,
            marks=self.lent.marks,
            shares={} if let_go else self._shares(),
        )
        return with_drains(self.tree, with_promises(self.tree, found, self.pools.members))

    def judged(self, devices: Sequence[UsbDevice], now: float) -> tuple["HostState", tuple[Assessment, ...]]:
        """This after a look at *now*, in seconds of the wall clock, which found *devices*; and the verdict on each.

        Who has a device decides how it is judged, and the verdicts decide who has which member of a pool.
        """
        state, assessed, pools = self, self.assess(devices), self.pools
        for _ in range(_ROUNDS):
            lent, pools = state.lent_after(assessed, now), remembered(self.tree, assessed, state.pools)
            # Which place a device had before the look matters until the last verdict is found.
            after = dataclasses.replace(state, lent=lent, pools=dataclasses.replace(state.pools, shares=pools.shares))
            if after == state:
                break
            state, assessed = after, after.assess(devices)
        return dataclasses.replace(state, pools=pools), assessed

    def lent_after(self, assessed: Sequence[Assessment], now: float) -> LentDisks:
        """The disks that guests have or had, after a look at *now*, in seconds of the wall clock."""
        looked = ((each.identity.key, each.device, self._held(each.identity.key).allocated) for each in assessed)
        return self.lent.after(looked, now)

    def kept_by_holders(self, devices: Sequence[UsbDevice], assessed: Sequence[Assessment]) -> frozenset[str]:
        """UUIDs of the providers whose device would get another verdict than in *assessed* if no consumer held them."""
        free = self.assess(devices, let_go=True)
        keys = {
            key
            for each, other in zip(assessed, free, strict=True)
            if each != other
            for key in (each.identity.key, each.identity.withheld_for, *possible_keys(each.device))
            if key is not None
        }
        providers = self.tree.providers
        uuids = [provider_uuid(self.tree.root.uuid, key) for key in keys]
        uuids += [
            each.provider_uuid
            for each, other in zip(assessed, free, strict=True)
            if each != other and each.group is not None and each.provider_uuid is not None
        ]
        return frozenset(uuid for uuid in uuids if uuid in providers and providers[uuid].allocated)

    def sightings_after(self, assessed: Sequence[Assessment]) -> Sightings:
        """The sightings after each device was seen under the key that it has in *assessed*.

        A device may show another serial number at each plug, so their number is bounded; those of held devices stay.
        """
        # What is withheld may be the device that was seen under another key. It is not known as a device of its own.
        looked = [(each.identity.key, each.device) for each in assessed if each.identity.withheld is None]
        after = self.sightings.after(looked, self.is_offered, has_serial=self._is_to_be_remembered)
        if len(after.by_key) <= SIGHTINGS_LIMIT:
            return after
        return after.without_oldest(
            SIGHTINGS_LIMIT, {key for key, _ in looked} | {key for key in after.by_key if self._held(key).allocated}
        )

    def is_offered(self, key: str) -> bool:
        """Whether Placement offers a device under *key*, held or free."""
        provider = self.tree.providers.get(provider_uuid(self.tree.root.uuid, key))
        return provider is not None and provider.managed and provider.schedulable

    def _is_to_be_remembered(self, key: str, device: UsbDevice) -> bool:
        """Whether the serial number that *device* shows now tells more than the one before, while *key* is held."""
        usable = serial_problem(device.serial, device.usb_id, self.settings.junk_serials) is None
        return usable or not self._held(key).allocated

    def _claimed(self) -> frozenset[str]:
        """The keys that are held and under which a device was seen."""
        if not self.pools.shares and not any(provider.allocated for provider in self.tree.providers.values()):
            return frozenset()
        return frozenset(key for key in self.sightings.by_key if self._held(key).allocated)

    def _held(self, key: str, *, let_go: bool = False) -> Held:
        provider = self.tree.providers.get(provider_uuid(self.tree.root.uuid, key))
        last = self.sightings.by_key.get(key)
        share = self.pools.shares.get(key)
        consumers = self._consumers(key) or (() if share is None else (share.consumer,))
        return Held(
            () if let_go else consumers,
            share is not None or (provider is not None and provider.managed and not provider.absent),
            last,
        )

    def _shares(self) -> Shares:
        """Which consumer has which member of a pool; a device that is held by itself is a member of none."""
        return {key: each for key, each in self.pools.shares.items() if not self._consumers(key)}

    def _consumers(self, key: str) -> tuple[str, ...]:
        """The consumers that hold the provider of the device *key* alone."""
        provider = self.tree.providers.get(provider_uuid(self.tree.root.uuid, key))
        # Also when an operator removed our mark: the consumer of that provider still holds the device.
        return () if provider is None else tuple(sorted(provider.allocations))
