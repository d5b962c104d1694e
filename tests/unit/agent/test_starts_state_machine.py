"""Starts, suspends and resumes at random, with an agent that restarts and a Placement that is away or not read yet.

A guest that comes from a save file is never refused, a start is refused only for what is true at that moment, and what
was refused too early starts with the command that the status names. libvirt's part is played by its rules: the hook is
asked "restore" and "prepare", and a refused "prepare" means that the guest does not run. Set USB_PROVIDER_EXAMPLES to
run more examples than the ordinary run does.
"""

from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule

from tests.fixtures.binder_machine import BinderMachine, as_often
from tests.fixtures.domain_xml import a_domain_xml, a_hostdev_xml
from tests.fixtures.fake_host import FakeHost, a_uuid
from usb_provider.model.binding.hostdev import parse_guest

PORTS = ["1-1", "1-2", "1-3"]
NAMES = ["anna", "berta", "clara"]
WAIT_SECONDS = 5.0
"""How long the hook waits in these examples; none of them takes that long."""


class StartsMachine(BinderMachine):
    """Users, nova, libvirt and misfortune against the answers to the hook."""

    def __init__(self) -> None:
        self.host = FakeHost()
        super().__init__(self.host)
        self.saved: dict[str, str] = {}
        for port, name in zip(PORTS, NAMES, strict=True):
            self.host.plug(port, serial=name)
            self.host.hold(port, name)
        self.port = dict(zip(NAMES, PORTS, strict=True))

    def guests(self, *, running: bool) -> list[str]:
        """Names of those that run, or that are neither running nor saved."""
        runs = {name for name, domain in self.host.domains.items() if domain.running}
        return [name for name in NAMES if (name in runs) is running and (running or name not in self.saved)]

    @rule(port=st.sampled_from(PORTS))
    def unplug_or_plug(self, port: str) -> None:
        if port in self.host.devices:
            self.host.unplug(port)
        else:
            self.host.plug(port, serial=NAMES[PORTS.index(port)])

    @precondition(lambda self: self.guests(running=False))
    @rule(data=st.data(), waits=st.booleans(), read_meanwhile=st.booleans())
    def start(self, data: Any, waits: bool, read_meanwhile: bool) -> None:
        name = data.draw(st.sampled_from(self.guests(running=False)))
        self._start(name, waits=waits and read_meanwhile)

    def _start(self, name: str, *, waits: bool = False) -> bool:
        """Ask the hook as libvirt does; while it waits, Placement is back and is read."""

        def read() -> None:
            self.host.is_unread = False

        asked = self.host.questions

        def back() -> None:
            self.host.placement_up |= self.host.questions > asked + 1

        self.host.when_looking = read if waits else lambda: None
        self.host.when_asked = back if waits else lambda: None
        answer = self.host.ask("prepare", self._xml(name, []), seconds=WAIT_SECONDS if waits else 0.0)
        if "refuse" in answer:
            in_use = any(self.port[name] in self.host.has(other) for other in self.guests(running=True))
            known = self.host.placement_up and not self.host.is_unread
            assert not known or self.port[name] not in self.host.devices or in_use, answer
            return False
        assert self.host.placement_up, "it may hold a device that the agent does not know of"
        self.host.start(name)
        return True

    @precondition(lambda self: self.guests(running=True))
    @rule(data=st.data())
    def suspend(self, data: Any) -> None:
        name = data.draw(st.sampled_from(self.guests(running=True)))
        hostdevs = [
            a_hostdev_xml(each.alias or "", each.bus or 0, each.device or 0)
            for each in self.host.domains[name].hostdevs
        ]
        self.saved[name] = self._xml(name, hostdevs)
        self.host.stop(name)

    @precondition(lambda self: self.saved)
    @rule(data=st.data(), agent_restarts=st.booleans())
    def resume(self, data: Any, agent_restarts: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.saved)))
        self._resume(name, agent_restarts=agent_restarts)

    def _resume(self, name: str, *, agent_restarts: bool = False) -> None:
        text = self.saved.pop(name)
        rewritten = self.host.ask("restore", text).get("xml", text)
        if agent_restarts:
            self.restart_the_agent()
        assert self.host.ask("prepare", rewritten) == {}, "Nova would delete the guest's memory"
        domain = self.host.start(name)
        domain.hostdevs = list(parse_guest(rewritten).hostdevs)
        self.host.save_and_restore(name)

    @rule()
    def restart_the_agent(self) -> None:
        self.host.restart_agent()
        self.host.is_unread = True

    @precondition(lambda self: self.host.placement_up)
    @rule()
    def the_agent_reads_placement(self) -> None:
        self.host.is_unread = False

    @rule()
    def placement_goes_or_comes(self) -> None:
        self.host.placement_up = not self.host.placement_up

    @precondition(lambda self: not self.host.is_unread)
    @rule()
    def look(self) -> None:
        self.host.binder.run()

    @rule()
    def quiet(self) -> None:
        """When all is back, each refused start is named with its command, and each server runs with its device."""
        self.host.placement_up, self.host.is_unread = True, False
        for port, name in zip(PORTS, NAMES, strict=True):
            if port not in self.host.devices:
                self.host.plug(port, serial=name)
        refused = {row["uuid"]: row["refused"] for row in self.host.status() if row.get("refused")}
        for name in self.guests(running=False):
            if (why := refused.get(a_uuid(name))) is not None:
                assert why["command"] == f"openstack server reboot --hard {a_uuid(name)}"
            assert self._start(name)
        for name in sorted(self.saved):
            self._resume(name)
        assert not any(row.get("refused") for row in self.host.status())
        self.host.settle()

    def _xml(self, name: str, hostdevs: list[str]) -> str:
        return a_domain_xml(
            name, a_uuid(name), ports=8, extra_specs={"resources:CUSTOM_USB_KEY": "1"}, devices=hostdevs
        )


StartsMachine.TestCase.settings = as_often(60, steps=30)
TestStarts = StartsMachine.TestCase
