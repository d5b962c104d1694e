"""When the agent looks, in one process: what another process cannot time."""

from typing import Any

from oslo_service import backend

backend.init_backend(backend.BackendType.THREADING)

from usb_provider.agent.process import Agent, GuestSide, Timing  # noqa: E402


class Guests:
    """A binder during whose first look another guest starts."""

    def __init__(self) -> None:
        self.looks = 0
        self.agent: Agent | None = None

    def run(self) -> None:
        self.looks += 1
        if self.looks == 1 and self.agent is not None:
            self.agent.look_again()

    def bindings(self) -> tuple[()]:
        return ()

    def stop(self) -> None:
        """As a listener."""


def test_a_guest_that_starts_during_a_look_is_looked_at_soon_though_placement_is_away() -> None:
    guests: Any = Guests()
    side = GuestSide(guests, lambda: guests)
    agent = Agent(guests, lambda changed: guests, Timing(60.0, 0.01), lambda: guests, guests=side)
    guests.agent = agent
    agent._sleep(0.2)  # between two passes that fail
    assert guests.looks == 2
