"""The checks of guests by what the running agent says: which were not started, and which wait for a device."""

import time
from dataclasses import dataclass

from usb_provider.diagnosis.agent_socket import agent_says
from usb_provider.diagnosis.check import Check, Finding, count, sentences
from usb_provider.diagnosis.context import Context, Maybe, Unknown
from usb_provider.model.binding.status import BindingState
from usb_provider.virt.protocol import StatusAnswer

_PATIENCE_SECONDS = 30.0
"""How long a guest may lack a device before that is told: a start and an attach take less."""


class RefusedStartsCheck(Check[StatusAnswer]):
    """Whether a server was not started, and what starts it."""

    name = "refused starts"
    of_guests = True

    def read(self, context: Context) -> Maybe[StatusAnswer]:
        """What the agent says."""
        return agent_says(context)

    def judge(self, facts: StatusAnswer) -> Finding:
        """First the servers that only a command is missing for; of the others, each refusal says what to change."""
        refused = [(guest, guest.refused) for guest in facts.guests if guest.refused is not None]
        refused.sort(key=lambda each: each[1].command is None)
        if not refused:
            return self.ok("No start was refused in the last day.")
        said = [f"Server {guest.uuid} was not started: {each.reason}" for guest, each in refused]
        commands = [each.command for _, each in refused if each.command is not None]
        advice = [f"When that is there, start them: {'; '.join(commands)}"] if commands else []
        if len(commands) < len(refused):
            advice.append("Change what the sentence names, then start the server; usb-provider status shows all.")
        return self.warning(sentences(said), " ".join(advice))


@dataclass(frozen=True, slots=True)
class ServedFacts:
    """What the agent says, and the time, in seconds since 1970."""

    said: StatusAnswer
    now: float


class WaitingGuestsCheck(Check[ServedFacts]):
    """Whether each guest has what it holds."""

    name = "waiting guests"
    of_guests = True

    def read(self, context: Context) -> Maybe[ServedFacts]:
        """What the agent says."""
        said = agent_says(context)
        return said if isinstance(said, Unknown) else ServedFacts(said, time.time())

    def judge(self, facts: ServedFacts) -> Finding:
        """What the agent does not know comes first: without that, it shows no guest that waits."""
        for each in facts.said.awaited:
            return self.warning(
                f"The agent does not know which guests wait, since it waits for {each.name}: {each.said}",
                "Do what the other checks say. If they find nothing wrong, systemctl restart usb-provider-agent: it "
                "reads its configuration when it starts.",
            )
        said = [
            f"Guest {guest.name or guest.uuid} does not have {device.provider_name}"
            f"{f' ({device.member})' if device.member else ''}"
            f"{': ' + device.reason.rstrip('.') if device.reason else ''}."
            for guest in facts.said.guests
            for device in guest.devices
            if device.state is not BindingState.ATTACHED
            and (device.is_older or facts.now - device.since > _PATIENCE_SECONDS)
        ]
        if said:
            return self.warning(
                sentences(said), "docs/troubleshooting.md explains each reason; usb-provider status shows all guests."
            )
        held = sum(len(guest.devices) for guest in facts.said.guests)
        return self.ok(f"No guest waits for a device; {count(held, 'device')} of guests.")
