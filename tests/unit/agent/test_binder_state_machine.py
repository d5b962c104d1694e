"""The binder driven at random on a host of plain values: two guests never have one device, and faults heal.

Set USB_PROVIDER_EXAMPLES to run more examples than the ordinary run does.
"""

import contextlib
from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule

from tests.fixtures.binder_machine import BinderMachine, as_often
from tests.fixtures.fake_host import FakeHost, a_uuid
from usb_provider.exception import AttachRefused, DeviceGone, Unavailable

PORTS = ["1-1", "1-2", "1-3", "1-4"]
NAMES = ["anna", "berta", "clara"]
SERIALS: list[str | None] = ["S1", "S2", None]


class OneHostMachine(BinderMachine):
    """Hands, guests, a scheduler and misfortune against one binder."""

    def __init__(self) -> None:
        self.host = FakeHost()
        super().__init__(self.host)

    @rule(port=st.sampled_from(PORTS), serial=st.sampled_from(SERIALS))
    def plug(self, port: str, serial: str | None) -> None:
        used = {device.serial for device in self.host.devices.values()}
        if port not in self.host.devices and (serial is None or serial not in used):
            self.host.plug(port, serial=serial)

    @rule(port=st.sampled_from(PORTS))
    def unplug(self, port: str) -> None:
        if port in self.host.devices:
            self.host.unplug(port)

    @rule()
    def reset_the_controller(self) -> None:
        """Whatever has no driver of the host comes back at its old address, and libvirt shows nothing."""
        self.host.reset_controller()

    @rule()
    def reset_the_controller_during_the_next_attach(self) -> None:
        self.host.before_attach.append(self.host.reset_controller)

    @rule(name=st.sampled_from(NAMES))
    def start(self, name: str) -> None:
        if name not in self.host.domains or not self.host.domains[name].running:
            self.host.start(name)

    @rule(name=st.sampled_from(NAMES))
    def stop(self, name: str) -> None:
        if name in self.host.domains:
            self.host.stop(name)

    @rule(name=st.sampled_from(NAMES), hook=st.booleans())
    def save_and_restore(self, name: str, hook: bool) -> None:
        if name in self.host.domains and self.host.domains[name].running and not self.host.domains[name].busy:
            self.host.save_and_restore(name, hook=hook)

    @rule(name=st.sampled_from(NAMES), busy=st.booleans())
    def migrate(self, name: str, busy: bool) -> None:
        if name in self.host.domains and self.host.domains[name].running:
            self.host.domains[name].busy = busy

    @rule(data=st.data(), name=st.sampled_from(NAMES))
    def allocate(self, data: Any, name: str) -> None:
        free = sorted(self.host.providers - self.host.allocations.keys())
        if free:
            self.host.allocations[data.draw(st.sampled_from(free))] = a_uuid(name)

    @precondition(lambda self: bool(self.host.allocations))
    @rule(data=st.data(), to=st.sampled_from([None, "a migration", *NAMES]))
    def change_allocation(self, data: Any, to: str | None) -> None:
        provider = data.draw(st.sampled_from(sorted(self.host.allocations)))
        if to is None:
            del self.host.allocations[provider]
        else:
            self.host.allocations[provider] = a_uuid(to)

    @rule(fault=st.sampled_from([AttachRefused("no"), DeviceGone("gone"), Unavailable("away")]))
    def misfortune(self, fault: Exception) -> None:
        self.host.faults.append(fault)

    @rule(port=st.sampled_from(PORTS))
    def replug_during_the_next_attach(self, port: str) -> None:
        if port in self.host.devices:
            serial = self.host.devices[port].serial

            def replug() -> None:
                if port in self.host.devices:
                    self.host.unplug(port)
                    self.host.plug(port, serial=serial)

            self.host.before_attach.append(replug)

    @rule(late=st.booleans())
    def the_reporter_is_late(self, late: bool) -> None:
        """What it does not see of Placement the binder has to ask for where a decision rests on it."""
        self.host.reporter_is_late = late

    @rule()
    def crash(self) -> None:
        self.host.restart_agent()

    @rule()
    def look(self) -> None:
        with contextlib.suppress(Unavailable):
            self.host.binder.run()

    @rule()
    def quiet(self) -> None:
        """When faults stop, everything is as the allocations say."""
        for domain in self.host.domains.values():
            domain.busy = False
        self.host.settle()


OneHostMachine.TestCase.settings = as_often(60, steps=40)
TestBinder = OneHostMachine.TestCase
