"""A host with a bundle of two devices, driven at random: a server that starts gets both or none, and keeps what it has.

Set USB_PROVIDER_EXAMPLES to run more examples than the ordinary run does.
"""

import contextlib

import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule

from tests.fixtures.binder_machine import BinderMachine, as_often, starts
from tests.fixtures.fake_host import a_uuid
from tests.fixtures.pooled_host import BUNDLE_RULES, PooledHost
from usb_provider.exception import AttachRefused, DeviceGone, Unavailable

PORTS = ("1-1", "1-2")
NAMES = ("anna", "berta")


class BundledGuests(BinderMachine):
    """Hands, users, nova and misfortune against the binder of one host."""

    def __init__(self) -> None:
        self.host = PooledHost(BUNDLE_RULES)
        super().__init__(self.host)
        for port in PORTS:
            self.host.plug(port)

    def _holder(self) -> str | None:
        return next((name for name in NAMES if self.host.amounts[a_uuid(name)]), None)

    def _is_running(self, name: str) -> bool:
        return name in self.host.domains and self.host.domains[name].running

    @rule(port=st.sampled_from(PORTS), serial=st.sampled_from([None, "S1"]))
    def plug_or_unplug(self, port: str, serial: str | None) -> None:
        if port in self.host.devices:
            self.host.unplug(port)
        elif serial not in {each.serial for each in self.host.devices.values()} - {None}:
            self.host.plug(port, serial=serial)

    @rule()
    def reset_the_controller(self) -> None:
        self.host.reset_controller()

    @precondition(lambda self: self._holder() is None)
    @rule(name=st.sampled_from(NAMES))
    def claim(self, name: str) -> None:
        """The scheduler gives the bundle only while it is whole."""
        if all(each.offered for each in self.host.view().devices) and len(self.host.devices) == len(PORTS):
            self.host.claim(name, 1)
            self.host.view()

    @precondition(lambda self: self._holder() is not None)
    @rule()
    def release(self) -> None:
        self.host.claim(str(self._holder()), 0)

    @rule(name=st.sampled_from(NAMES))
    def stop_or_start(self, name: str) -> None:
        if self._is_running(name):
            self.host.stop(name)
            return
        is_whole = len(self.host.devices) == len(PORTS)
        others = {port for other in NAMES if other in self.host.domains for port in self.host.has(other)}
        started = starts(self.host, name)
        if self._holder() == name:
            assert started == (is_whole and not others), "a server gets the whole bundle or does not start"
        else:
            assert started

    @rule(name=st.sampled_from(NAMES))
    def suspend_and_resume(self, name: str) -> None:
        if self._is_running(name):
            self.host.save_and_restore(name)

    @rule(fault=st.sampled_from([AttachRefused("no"), DeviceGone("gone"), Unavailable("away")]))
    def misfortune(self, fault: Exception) -> None:
        self.host.faults.append(fault)

    @rule()
    def crash(self) -> None:
        self.host.restart_agent()

    @rule()
    def look(self) -> None:
        had = {name: self.host.has(name) for name in self.host.domains}
        with contextlib.suppress(Unavailable):
            self.host.binder.run()
        for name, before in had.items():
            if name == self._holder() and a_uuid(name) not in self.host.latest().arrived:
                assert before <= self.host.has(name), f"{name} loses {before - self.host.has(name)}, which is there"

    @rule()
    def quiet(self) -> None:
        self.host.settle()
        for name in self.host.domains:
            if not self._is_running(name):
                continue
            if name != self._holder():
                assert self.host.has(name) == set()
            elif len(self.host.devices) == len(PORTS):
                assert self.host.has(name) == set(PORTS), "all is there, and the server has not all of it"


BundledGuests.TestCase.settings = as_often(100, steps=40)
TestBundledGuests = BundledGuests.TestCase
