"""The steps of a purge: take providers out of their trees, wait until nova-compute has forgotten them, delete them.

Every build on a host fails while nova-compute has a deleted provider in its cache, so none is deleted before
(docs/adr/0003-absent-providers-stay.md). model/fleet.py decides which devices may be purged.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor

import placement_traits
from placement_traits import PURGED
from usb_provider.exception import Conflict, InUse, UsbProviderError
from usb_provider.model.lifecycle import FleetState
from usb_provider.osc.fleet import device_of
from usb_provider.osc.model.fleet import Device
from usb_provider.osc.nova import Flavor
from usb_provider.osc.placement import FleetClient

WAIT = 360
"""Seconds: nova-compute's [compute]resource_provider_association_refresh by default, and a minute to spare."""

_SAY_EVERY = 60
"""Seconds between two sentences of progress."""

_INTERRUPTED = "not deleted: the purge was interrupted; repeat the command"


class Purge:
    """One purge. The result of each device is a few words for a table; one that starts with ``not deleted`` failed."""

    def __init__(self, client: FleetClient, executor: Executor, say: Callable[[str], None]) -> None:
        """Use *client* from the threads of *executor*; *say* is given sentences of progress."""
        self._client = client
        self._executor = executor
        self._say = say

    def run(self, devices: Sequence[Device], wait: float) -> list[str]:
        """Purge *devices* with *wait* seconds between the two steps, and give the results."""
        parents = self._parents({device.host_uuid for device in devices if device.purgeable})
        if any(device.purgeable for device in devices):
            self._client.ensure_trait(PURGED)
        kept = list(self._executor.map(lambda device: self._set_aside(device, parents), devices))
        waiting = [device for device, why in zip(devices, kept, strict=True) if why is None]
        if not waiting:
            return [why or "" for why in kept]
        try:
            self._wait(waiting, wait)
        except KeyboardInterrupt:
            return [why or _INTERRUPTED for why in kept]
        deleted: Mapping[str, str] = dict(
            zip((each.uuid for each in waiting), self._executor.map(self._delete, waiting), strict=True)
        )
        return [why or deleted[device.uuid] for device, why in zip(devices, kept, strict=True)]

    def delete_unused_traits(self, flavors: Callable[[], Iterable[Flavor]]) -> None:
        """Delete the traits that devices gave, and no provider and none of *flavors* has any more, and say how many.

        Likewise what an interrupted attach or detach has left.

        Placement refuses each build of a flavor that names a trait which does not exist, also where the flavor forbids
        the trait. So none is deleted when *flavors* raises an error.
        """
        names = {
            name
            for name in self._client.unused_traits()
            if placement_traits.is_of_a_device(name) or placement_traits.is_request(name)
        }
        if not names:
            return
        try:
            named = {key.rpartition(":")[2] for flavor in flavors() for key in flavor.extra_specs}
        except UsbProviderError as error:
            self._say(
                f"Traits that no provider has any more are left ({len(names)}), since a flavor may need them: {error}"
            )
            return
        unused = sorted(names - named)
        for _ in self._executor.map(self._client.delete_unused_trait, unused):
            pass
        if unused:
            self._say(f"Traits that no provider and no flavor has any more are deleted ({len(unused)}).")

    def _parents(self, roots: Iterable[str]) -> frozenset[str]:
        """The UUIDs of all providers that have children below *roots*; one request for each."""
        trees = self._executor.map(self._client.tree, sorted(roots))
        return frozenset(each.parent_uuid for tree in trees for each in tree if each.parent_uuid is not None)

    def _set_aside(self, device: Device, parents: frozenset[str]) -> str | None:
        """Take the provider out of its tree. None when it is out of it now, else why not.

        It is read again before: the device may have been plugged in, or drained, since it was listed. From then on the
        generation tells: whatever changes the provider makes setting the traits fail.
        """
        try:
            if not device.set_aside:
                if not device.purgeable:
                    return kept(device)
                if device.uuid in parents:
                    return "kept: its provider has a child provider"
                have = self._client.observe(device.uuid, device.name)
                now = device_of(have, device.host, device.host_uuid)
                if not now.purgeable:
                    return kept(now)
                self._client.set_traits(have.uuid, have.generation, {PURGED})
            self._client.set_aside(device.uuid, device.name)
        except Conflict:
            return "kept: another client changed or deleted it in the meantime"
        except UsbProviderError as error:
            return f"not deleted: {error}"
        return None

    def _wait(self, devices: Sequence[Device], seconds: float) -> None:
        hosts = ", ".join(sorted({device.host for device in devices}))
        end = time.monotonic() + seconds
        if seconds:
            self._say(
                f"Waiting for {seconds:.0f} s, until nova-compute on {hosts} has forgotten these providers "
                f"({len(devices)}); builds go on, and an interrupted purge can be repeated."
            )
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _SAY_EVERY))
            if left > _SAY_EVERY:
                self._say(f"Waiting for {left - _SAY_EVERY:.0f} s more.")

    def _delete(self, device: Device) -> str:
        try:
            if PURGED not in self._client.traits(device.uuid)[1]:
                return "kept: it was plugged in again"
            self._client.delete_provider(device.uuid)
        except InUse:
            return "kept: a consumer claimed it in the meantime"
        except Conflict:
            return "gone already"
        except UsbProviderError as error:
            return f"not deleted: {error}"
        return "deleted"


def kept(device: Device) -> str:
    """Why a purge keeps a device that is not purgeable."""
    if device.held:
        return "kept: a consumer holds it"
    if not device.is_in(FleetState.ABSENT):
        return f"kept: it is {device.state} now"
    return "kept: it is drained or reserved"
