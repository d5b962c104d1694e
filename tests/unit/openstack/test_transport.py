"""What a service's answer means: a refusal is an error named after the next step, JSON of another form a sentence."""

import itertools
import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from keystoneauth1.exceptions import Unauthorized

from usb_provider.exception import AccessRefused, Incompatible, Unavailable, UsbProviderError
from usb_provider.openstack.transport import CALLERS, CONFIGURED, Service, Transport, segment
from usb_provider.osc import glance, nova, placement
from usb_provider.placement import answers
from usb_provider.placement.client import PlacementClient

PLACEMENT, FLEET = PlacementClient.service, placement.FleetClient.service
NOVA, GLANCE = nova.Nova.service, glance.Glance.service
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@dataclass
class Answer:
    """A response as the library requests has it."""

    status_code: int
    text: str = ""
    url: str = "http://cloud.test/v1/things"
    headers: dict[str, str] = field(default_factory=dict)
    request: Any = field(default_factory=lambda: SimpleNamespace(method="GET", path_url="/v1/things"))

    def json(self) -> Any:
        """Give the body's JSON."""
        return json.loads(self.text)


def transport(service: Service = PLACEMENT, names: Any = CONFIGURED) -> Transport:
    """Give a transport that is never asked to send."""
    return Transport(None, service, names)


def error(service: Service, status: int, text: str = "", names: Any = CALLERS) -> UsbProviderError:
    """Give the error that the answer becomes."""
    made = transport(service, names)
    return made.error(made.refusal(Answer(status, text)))


@pytest.mark.parametrize("service", [PLACEMENT, FLEET, NOVA, GLANCE], ids=lambda each: each.name)
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *((401, AccessRefused), (403, AccessRefused), (429, Unavailable), (500, Unavailable), (503, Unavailable)),
        *((400, Incompatible), (404, Incompatible), (405, Incompatible), (406, Incompatible)),
    ],
)
def test_a_status_means_the_same_whichever_service_answers_it(
    service: Service, status: int, expected: type[UsbProviderError]
) -> None:
    found = error(service, status)
    assert type(found) is expected
    assert service.name in str(found) and str(found).endswith(".")


@pytest.mark.parametrize(
    ("service", "names", "sentence"),
    [
        (PLACEMENT, CONFIGURED, "the user in [placement] needs the role service (or admin) in its project."),
        (FLEET, CALLERS, "your user needs the role service (or admin) in its project."),
        (NOVA, CALLERS, "your user needs the role admin, or a policy that allows it."),
        (GLANCE, CALLERS, "your user needs the role admin, or a policy that allows it."),
    ],
)
def test_who_may_not_reads_which_role_is_missing_and_whose(service: Service, names: Any, sentence: str) -> None:
    found = error(service, 403, names=names)
    assert str(found) == f"{service.name} answers 403 to GET /v1/things; {sentence}"
    assert isinstance(found, AccessRefused) and found.lacks_role


@pytest.mark.parametrize(
    ("service", "microversion", "release"),
    [(PLACEMENT, "1.31", "Stein"), (FLEET, "1.38", "Wallaby"), (NOVA, "2.69", "Stein")],
    ids=["Placement", "the fleet's Placement", "Nova"],
)
def test_a_service_that_is_too_old_is_told_with_the_release_that_is_needed(
    service: Service, microversion: str, release: str
) -> None:
    assert str(error(service, 406)) == (
        f"This {service.name} does not support microversion {microversion}; upgrade it to {release} or newer."
    )


@pytest.mark.parametrize(
    ("body", "said", "code"),
    [
        ({"errors": [{"detail": "Busy\n\n now.", "code": "placement.busy"}]}, ": Busy now", "placement.busy"),
        ({"errors": [{"detail": "one"}, {"detail": "two"}]}, ": one", ""),
        ({"itemNotFound": {"code": 404, "message": "No such flavor."}}, ": No such flavor", "404"),
        *((body, "", "") for body in ({"errors": []}, {"errors": 1}, {}, [], None, "no", {"a": 1, "b": 2})),
    ],
)
def test_what_a_service_says_of_its_refusal_is_part_of_the_sentence(body: Any, said: str, code: str) -> None:
    refusal = transport().refusal(Answer(400, json.dumps(body)))
    assert refusal.text == f"Placement answers 400 to GET /v1/things{said}"
    assert refusal.code == code


def test_a_proxys_page_is_no_part_of_the_sentence() -> None:
    assert str(error(GLANCE, 503, "<html>\nno backend</html>")) == "Glance answers 503 to GET /v1/things."


@given(ANY_JSON)
def test_a_refusal_with_any_body_is_one_line(body: Any) -> None:
    assert "\n" not in transport().refusal(Answer(400, json.dumps(body))).text


READERS = (
    *(answers.records, answers.created_generation, answers.inventories, answers.traits, answers.allocations),
    *(answers.consumer, answers.resource_classes, answers.trait_names, answers.microversions, answers.summaries),
    *(placement._listed, placement._hosts, placement._consumer_type),
    *(nova._servers, nova._the_server, nova._migrations, nova._hypervisors, nova._a_cell_is_down),
    *(nova._flavors, nova._the_flavor, glance._images),
)
KEYS = (
    *("resource_providers", "resource_provider_generation", "generation", "inventories", "traits", "versions"),
    *("allocations", "provider_summaries", "allocation_requests", "resource_classes", "consumer_type"),
    *("servers", "server", "migrations", "hypervisors", "services", "flavors", "flavor", "images"),
)


@given(ANY_JSON | st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, ANY_JSON)))
def test_json_of_another_form_is_a_sentence_and_no_traceback(body: Any) -> None:
    for read in READERS:
        try:
            transport().read(Answer(200, json.dumps(body)), read)
        except Unavailable as error:
            assert str(error).startswith("http://cloud.test/v1/things answers with ")


def test_two_failures_for_one_cause_are_one_sentence_though_keystone_numbers_its_answers() -> None:
    """What is said once is told by its text, and Keystone's own number of a request is another each time."""

    def refuse(*args: Any, **how: Any) -> None:
        raise Unauthorized("The request you have made requires authentication.", request_id=f"req-{next(numbers)}")

    numbers = itertools.count()
    refusing = Transport(SimpleNamespace(request=refuse), PLACEMENT, CONFIGURED)
    texts = set()
    for _ in range(2):
        with pytest.raises(AccessRefused) as refused:
            refusing.send("GET", "/")
        texts.add(str(refused.value))
    assert len(texts) == 1
    assert "requires authentication. (HTTP 401))" in texts.pop()


@pytest.mark.parametrize("text", ["a/b", "a?b=c", "a#b", "a b", "é", "a%2Fb", "a\nb"])
def test_what_another_program_wrote_is_one_segment_of_a_path(text: str) -> None:
    path = f"/allocations/{segment(text)}"
    assert urlsplit(path) == ("", "", path, "", "")
    assert [unquote(each) for each in path.split("/")] == ["", "allocations", text]
