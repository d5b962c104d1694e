"""What nova-scheduler asks of Placement and writes there, for the demo alone: candidates, a claim, a release.

It works on the embedded Placement only. The agent never writes an allocation.
"""

from dataclasses import dataclass

from usb_provider.demo.embedded import EmbeddedPlacement


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to meet a request: ``{provider UUID: {class: amount}}``."""

    allocations: dict[str, dict[str, int]]

    @property
    def providers(self) -> tuple[str, ...]:
        """The providers that it would take from."""
        return tuple(self.allocations)


def candidates(placement: EmbeddedPlacement, resource_class: str) -> tuple[Candidate, ...]:
    """Every answer that Placement has for one unit of *resource_class*."""
    answer = placement.request("GET", "/allocation_candidates", params={"resources": f"{resource_class}:1"})
    return tuple(
        Candidate({provider: dict(entry["resources"]) for provider, entry in request["allocations"].items()})
        for request in answer.json()["allocation_requests"]
    )


def claim(placement: EmbeddedPlacement, consumer: str, candidate: Candidate) -> bool:
    """Allocate *candidate* to *consumer*; False when another claim came first."""
    body = {
        "allocations": {provider: {"resources": resources} for provider, resources in candidate.allocations.items()},
        "consumer_generation": None,
        "consumer_type": "INSTANCE",
        "project_id": "usb-demo",
        "user_id": "usb-demo",
    }
    return placement.request("PUT", f"/allocations/{consumer}", body, accept=(409,)).status_code == 204
