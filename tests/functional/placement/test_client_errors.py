"""Each way in which Placement, Keystone or what stands between fails has its own error and one sentence.

requests-mock does here what a real Placement will not do on demand; what it does, tests/functional/agent/reporter has.
"""

import email.utils
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from keystoneauth1 import fixture as ksa_fixture

from usb_provider.conf import load
from usb_provider.exception import (
    AccessRefused,
    ConfigError,
    Conflict,
    Incompatible,
    InUse,
    NameTaken,
    NoEndpoint,
    Unavailable,
    UnknownName,
    UsbProviderError,
)
from usb_provider.model.reporting.tree import Inventory
from usb_provider.placement.client import PlacementClient, connect

URL = "http://placement.test/placement"
KEYSTONE = "http://keystone.test/v3"
ROOT = "1d5f2b3e-4a6c-4f7a-9a55-6b1f7d0c9e11"
KEY = "41cece13-e64a-544f-8ca1-0aa27601590c"
SECRET = "s3cret-of-ours"

ADMIN_TOKEN = {"auth_type": "admin_token", "endpoint": URL, "token": SECRET}
PASSWORD = {
    "auth_type": "password",
    "auth_url": KEYSTONE,
    "username": "usb-provider",
    "password": SECRET,
    "project_name": "service",
    "user_domain_name": "Default",
    "project_domain_name": "Default",
    "region_name": "one",
}


@pytest.fixture
def configured(tmp_path: Path) -> Callable[..., PlacementClient]:
    """Makes a client from a configuration file with these options in [placement]."""

    def make(**options: str) -> PlacementClient:
        path = tmp_path / "usb-provider.conf"
        path.write_text("[placement]\n" + "".join(f"{name} = {value}\n" for name, value in options.items()))
        return connect(load.open_files(["--config-file", str(path)]))

    return make


@pytest.fixture
def client(configured: Callable[..., PlacementClient]) -> PlacementClient:
    """A client with a token of its own."""
    return configured(**ADMIN_TOKEN)


def refusal(expected: type[UsbProviderError], call: Callable[[], Any]) -> str:
    """The message of the *expected* error, which is one sentence for an operator and gives nothing away."""
    with pytest.raises(UsbProviderError) as caught:
        call()
    assert type(caught.value) is expected, repr(caught.value)
    message = str(caught.value)
    assert message.endswith(".") and not message.endswith("..")
    assert message.isprintable()  # one line
    assert len(message) < 600
    for word in ("Traceback", "object at 0x", "HTTPConnectionPool", "Exception", SECRET):
        assert word not in message
    return message


def error_body(status: int, detail: str, code: str = "placement.undefined_code") -> dict[str, Any]:
    """An error as Placement gives it."""
    body = {"status": status, "title": "t", "detail": detail, "code": code, "request_id": "req-1"}
    return {"errors": [body]}


# Placement or something before it is out of order


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
def test_a_placement_that_cannot_now_is_unavailable(client, requests_mock, status):
    requests_mock.get(f"{URL}/resource_providers", status_code=status, json=error_body(status, "Busy\n\n now."))
    message = refusal(Unavailable, lambda: client.tree(ROOT))
    assert message == f"Placement answers {status} to GET /placement/resource_providers?in_tree={ROOT}: Busy now."


def test_a_proxys_error_page_does_not_get_into_the_message(client, requests_mock):
    requests_mock.get(f"{URL}/resource_providers", status_code=503, text="<html><h1>503\nno backend</h1></html>")
    message = refusal(Unavailable, lambda: client.tree(ROOT))
    assert message == f"Placement answers 503 to GET /placement/resource_providers?in_tree={ROOT}."


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({"text": "<html>Please log in</html>"}, id="a login page"),
        pytest.param({"text": ""}, id="nothing"),
        pytest.param({"content": b"\x80\xff\x00"}, id="bytes"),
        pytest.param({"text": '{"resource_providers": [{"uu'}, id="half of it"),
        pytest.param({"json": []}, id="a list"),
        pytest.param({"json": None}, id="null"),
        pytest.param({"json": {"versions": []}}, id="the index page"),
        pytest.param({"json": {"resource_providers": None}}, id="null for the list"),
        pytest.param({"json": {"resource_providers": [{"uuid": ROOT}]}}, id="a provider without a name"),
        pytest.param({"json": {"resource_providers": ["x"]}}, id="a provider that is a string"),
    ],
)
def test_an_answer_that_is_not_placements_names_the_address(client, requests_mock, answer):
    requests_mock.get(f"{URL}/resource_providers", **answer)
    message = refusal(Unavailable, lambda: client.tree(ROOT))
    assert f"{URL}/resource_providers" in message


@pytest.mark.parametrize("what", ["inventories", "traits", "allocations"])
def test_garbage_about_one_provider_is_unavailable_too(client, requests_mock, what):
    requests_mock.get(f"{URL}/resource_providers/{KEY}/{what}", json={what: {"CUSTOM_USB_KEY": 3}})
    refusal(Unavailable, lambda: getattr(client, what)(KEY))


def test_garbage_in_answer_to_a_write_is_unavailable_too(client, requests_mock):
    requests_mock.post(f"{URL}/resource_providers", text="<html>")
    refusal(Unavailable, lambda: client.create_provider(KEY, "name", ROOT))
    requests_mock.put(f"{URL}/resource_providers/{KEY}/traits", json={})
    refusal(Unavailable, lambda: client.set_traits(KEY, 0, set()))


@pytest.mark.parametrize(
    "error",
    [
        requests.exceptions.ConnectTimeout("HTTPConnectionPool(...)"),
        requests.exceptions.ReadTimeout("HTTPConnectionPool(...)"),
        requests.exceptions.ConnectionError("('Connection aborted.', RemoteDisconnected('closed without response'))"),
        requests.exceptions.SSLError("certificate verify failed"),
        requests.exceptions.ChunkedEncodingError("InvalidChunkLength"),
        requests.exceptions.ContentDecodingError("not gzip"),
        requests.exceptions.TooManyRedirects("Exceeded 30 redirects."),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_connection_that_fails_is_unavailable(client, requests_mock, error):
    requests_mock.get(f"{URL}/resource_providers", exc=error)
    refusal(Unavailable, lambda: client.tree(ROOT))


def test_a_read_that_is_cut_once_is_asked_again_at_once(client, requests_mock):
    cut = {"exc": requests.exceptions.ConnectionError("reset")}
    requests_mock.get(f"{URL}/resource_providers", [cut, {"json": {"resource_providers": []}}])
    assert client.tree(ROOT) == ()
    assert requests_mock.call_count == 2


def test_a_status_is_not_asked_again_by_the_client(client, requests_mock):
    requests_mock.get(f"{URL}/resource_providers", status_code=503)
    refusal(Unavailable, lambda: client.tree(ROOT))
    assert requests_mock.call_count == 1


def test_a_redirect_is_followed_and_one_that_leads_nowhere_is_not_placement(client, requests_mock):
    requests_mock.get(f"{URL}/resource_providers", status_code=301, headers={"Location": f"{URL}/there"})
    requests_mock.get(f"{URL}/there", json={"resource_providers": []})
    assert client.tree(ROOT) == ()
    requests_mock.get(f"{URL}/there", status_code=302)
    refusal(Incompatible, lambda: client.tree(ROOT))


# Placement refuses us


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_without_the_role_is_refused_and_the_sentence_names_the_role(client, requests_mock, status):
    requests_mock.get(f"{URL}/resource_providers", status_code=status, json=error_body(status, "Not allowed."))
    message = refusal(AccessRefused, lambda: client.tree(ROOT))
    assert "role service" in message
    assert f"answers {status}" in message
    requests_mock.put(f"{URL}/resource_providers/{KEY}/traits", status_code=status)
    assert "role service" in refusal(AccessRefused, lambda: client.set_traits(KEY, 0, set()))


def test_a_placement_that_is_too_old_says_which_release_is_needed(client, requests_mock):
    requests_mock.get(
        f"{URL}/resource_providers", status_code=406, json={"errors": [{"min_version": "1.0", "max_version": "1.10"}]}
    )
    message = refusal(Incompatible, lambda: client.tree(ROOT))
    assert "1.31" in message and "Stein" in message


def test_a_path_that_is_not_there_points_at_the_address(client, requests_mock):
    requests_mock.get(f"{URL}/resource_providers", status_code=404, text="<html>Not Found</html>")
    assert "address" in refusal(Incompatible, lambda: client.tree(ROOT))


# Placement refuses a write: what it says decides what the caller does next


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("placement.concurrent_update", Conflict),
        ("placement.inventory.inuse", InUse),
        ("placement.resource_provider.inuse", InUse),
        ("placement.resource_provider.cannot_delete_parent", InUse),
        ("placement.duplicate_name", NameTaken),
        ("placement.undefined_code", Conflict),
        ("placement.of_the_future", Conflict),
    ],
)
def test_a_409_is_told_apart_by_its_code_and_not_by_its_text(client, requests_mock, code, expected):
    body = error_body(409, "inventory in use, duplicate name, concurrent update", code)
    requests_mock.put(f"{URL}/resource_providers/{KEY}/inventories", status_code=409, json=body)
    with pytest.raises(expected) as caught:
        client.set_inventories(KEY, 3, {"CUSTOM_USB_KEY": Inventory()})
    assert type(caught.value) is expected
    assert (caught.value.provider_uuid, caught.value.code) == (KEY, code)
    assert requests_mock.call_count == 1


@pytest.mark.parametrize("body", [{"text": "<html>"}, {"json": []}, {"json": {"errors": []}}, {"json": {"errors": 1}}])
def test_a_409_without_placements_body_is_a_conflict(client, requests_mock, body):
    requests_mock.put(f"{URL}/resource_providers/{KEY}/traits", status_code=409, **body)
    refusal(Conflict, lambda: client.set_traits(KEY, 0, set()))


def test_a_provider_that_is_gone_is_a_conflict_and_one_to_be_deleted_is_fine(client, requests_mock):
    gone = error_body(404, "No resource provider.")
    requests_mock.get(f"{URL}/resource_providers/{KEY}/traits", status_code=404, json=gone)
    requests_mock.put(f"{URL}/resource_providers/{KEY}/traits", status_code=404)
    requests_mock.delete(f"{URL}/resource_providers/{KEY}", status_code=404)
    refusal(Conflict, lambda: client.traits(KEY))
    refusal(Conflict, lambda: client.set_traits(KEY, 0, set()))
    client.delete_provider(KEY)


def test_a_400_on_a_write_is_about_a_name_or_a_parent_that_is_gone(client, requests_mock):
    requests_mock.put(f"{URL}/resource_providers/{KEY}/traits", status_code=400, json=error_body(400, "No such trait."))
    refusal(UnknownName, lambda: client.set_traits(KEY, 0, {"CUSTOM_X"}))
    requests_mock.post(f"{URL}/resource_providers", status_code=400, json=error_body(400, "No parent."))
    refusal(Conflict, lambda: client.create_provider(KEY, "name", ROOT))


def test_any_other_refusal_is_incompatible(client, requests_mock):
    requests_mock.put(f"{URL}/traits/CUSTOM_X", status_code=405)
    refusal(Incompatible, lambda: client.ensure_trait("CUSTOM_X"))


# What is sent


def test_every_request_names_the_microversion_and_the_token(client, requests_mock):
    requests_mock.register_uri("GET", f"{URL}/resource_providers", json={"resource_providers": []})
    requests_mock.register_uri(
        "PUT", f"{URL}/resource_providers/{KEY}/traits", json={"resource_provider_generation": 5}
    )
    client.tree(ROOT)
    assert client.set_traits(KEY, 4, {"CUSTOM_B", "CUSTOM_A"}) == 5
    for request in requests_mock.request_history:
        assert request.headers["OpenStack-API-Version"] == "placement 1.31"
        assert request.headers["X-Auth-Token"] == SECRET
    assert requests_mock.last_request.json() == {
        "resource_provider_generation": 4,
        "traits": ["CUSTOM_A", "CUSTOM_B"],
    }


def test_last_modified_is_read_in_placements_form(client, requests_mock):
    now = int(time.time())
    headers = {"Last-Modified": email.utils.formatdate(now, usegmt=True)}
    requests_mock.get(f"{URL}/resource_providers/{KEY}", json={}, headers=headers)
    modified = client.last_modified(KEY)
    assert modified is not None and modified.timestamp() == now
    requests_mock.get(f"{URL}/resource_providers/{KEY}", json={})
    assert client.last_modified(KEY) is None


@pytest.mark.parametrize("value", ["yesterday", "Thu, 99 Foo 2015 00:00:00 GMT", ""])
def test_a_last_modified_that_is_no_date_is_like_none(client, requests_mock, value):
    requests_mock.get(f"{URL}/resource_providers/{KEY}", json={}, headers={"Last-Modified": value})
    assert client.last_modified(KEY) is None


def test_the_timeout_is_a_quarter_of_a_minute_unless_configured(configured, requests_mock):
    requests_mock.get(f"{URL}/resource_providers", json={"resource_providers": []})
    configured(**ADMIN_TOKEN).tree(ROOT)
    configured(**ADMIN_TOKEN, timeout="7").tree(ROOT)
    assert [request.timeout for request in requests_mock.request_history] == [15, 7]


# Keystone


class Keystone:
    """A Keystone that gives out tokens named token-1, token-2, … and a catalogue."""

    def __init__(self, mock: Any) -> None:
        self.mock = mock
        self.issued = 0
        mock.get(KEYSTONE, json=ksa_fixture.V3Discovery(KEYSTONE))
        self.issues()

    def issues(self, *, endpoint: str | None = URL, region: str = "one") -> None:
        """Issue tokens whose catalogue has Placement there, or not at all."""

        def issue(request: Any, context: Any) -> Any:
            self.issued += 1
            token = ksa_fixture.V3Token()
            token.set_project_scope()
            if endpoint:
                token.add_service("placement", "placement").add_standard_endpoints(internal=endpoint, region=region)
            context.headers["X-Subject-Token"] = f"token-{self.issued}"
            context.status_code = 201
            return token

        self.mock.post(f"{KEYSTONE}/auth/tokens", json=issue)

    def answers(self, **answer: Any) -> None:
        """Answer so instead."""
        self.mock.post(f"{KEYSTONE}/auth/tokens", **answer)


@pytest.fixture
def keystone(requests_mock: Any) -> Keystone:
    """A Keystone that lets us in."""
    return Keystone(requests_mock)


@pytest.fixture
def user(configured: Callable[..., PlacementClient], keystone: Keystone) -> PlacementClient:
    """A client with a user name and a password."""
    return configured(**PASSWORD)


def valid(*tokens: str) -> Callable[[Any, Any], Any]:
    """A Placement that knows these tokens alone."""

    def answer(request: Any, context: Any) -> Any:
        if request.headers["X-Auth-Token"] in tokens:
            return {"resource_providers": []}
        context.status_code = 401
        return error_body(401, "Expired.")

    return answer


def test_the_endpoint_comes_from_the_catalogue_and_one_token_serves_many_requests(user, keystone, requests_mock):
    requests_mock.get(f"{URL}/resource_providers", json=valid("token-1"))
    for _ in range(3):
        assert user.tree(ROOT) == ()
    assert keystone.issued == 1
    assert user.requests == 3


def test_an_expired_token_is_renewed_without_an_error(user, keystone, requests_mock):
    requests_mock.get(f"{URL}/resource_providers", json=valid("token-1"))
    user.tree(ROOT)
    requests_mock.get(f"{URL}/resource_providers", json=valid("token-2"))
    assert user.tree(ROOT) == ()
    assert keystone.issued == 2


def test_a_user_whose_new_token_is_refused_too_needs_the_role(user, keystone, requests_mock):
    requests_mock.get(f"{URL}/resource_providers", json=valid())
    assert "role service" in refusal(AccessRefused, lambda: user.tree(ROOT))
    assert keystone.issued == 2


@pytest.mark.parametrize("status", [401, 403])
def test_credentials_that_keystone_refuses_say_where_to_look(user, keystone, status):
    keystone.answers(status_code=status, json={"error": {"code": status, "message": "The request\nneeds more."}})
    message = refusal(AccessRefused, lambda: user.tree(ROOT))
    assert "Keystone refuses the credentials in [placement]" in message


@pytest.mark.parametrize(
    "answer",
    [
        {"status_code": 503},
        {"status_code": 500, "text": "<html>"},
        {"status_code": 404},
        {"status_code": 201, "text": "<html>"},
        {"status_code": 201, "json": {}},
        {"exc": requests.exceptions.ConnectTimeout("x")},
        {"exc": requests.exceptions.ConnectionError("x")},
    ],
    ids=str,
)
def test_a_keystone_that_does_not_work_is_unavailable(user, keystone, answer):
    keystone.answers(**answer)
    refusal(Unavailable, lambda: user.tree(ROOT))


def test_a_keystone_that_is_not_there_at_all_is_unavailable(user, requests_mock):
    requests_mock.get(KEYSTONE, exc=requests.exceptions.ConnectionError("x"))
    requests_mock.post(f"{KEYSTONE}/auth/tokens", exc=requests.exceptions.ConnectionError("x"))
    refusal(Unavailable, lambda: user.tree(ROOT))


@pytest.mark.parametrize("catalogue", [{"endpoint": None}, {"region": "two"}], ids=["no endpoint", "another region"])
def test_a_catalogue_without_placement_says_which_options_matter(user, keystone, catalogue):
    keystone.issues(**catalogue)
    message = refusal(NoEndpoint, lambda: user.tree(ROOT))
    for word in ("region_name", "valid_interfaces", "endpoint_override"):
        assert word in message


def test_after_keystone_is_back_the_same_client_goes_on(user, keystone, requests_mock):
    requests_mock.get(f"{URL}/resource_providers", json=valid("token-1"))
    keystone.answers(status_code=503)
    refusal(Unavailable, lambda: user.tree(ROOT))
    keystone.issues()
    assert user.tree(ROOT) == ()


# The configuration


def mistakes(make: Callable[[], Any]) -> str:
    """The one problem that *make* is refused for."""
    with pytest.raises(ConfigError) as caught:
        make()
    (problem,) = caught.value.problems
    assert problem.endswith(".") and problem.isprintable()
    assert SECRET not in problem
    return problem


def test_without_auth_type_the_sentence_says_what_to_set(configured):
    problem = mistakes(configured)
    assert "[placement]auth_type is not set" in problem
    assert "auth_url, username, password, project_name" in problem


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({"auth_type": "password"}, "auth_url, username, password, project_name"),
        ({"auth_type": "password", "username": "x"}, "auth_url, password, project_name"),
        ({"auth_type": "password", "auth_url": KEYSTONE, "user_id": "x", "password": SECRET}, "project_name"),
        ({"auth_type": "password", "auth_url": KEYSTONE, "user_id": "x", "project_id": "y"}, "password"),
        ({"auth_type": "admin_token"}, "endpoint, token"),
        ({"auth_type": "admin_token", "endpoint": URL}, "token"),
        (
            {
                "auth_type": "v3applicationcredential",
                "application_credential_id": "x",
                "application_credential_secret": SECRET,
            },
            "auth_url",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_all_options_that_are_missing_are_named_at_once(configured, options, missing):
    problem = mistakes(lambda: configured(**options))
    assert problem == f"[placement] lacks what auth_type {options['auth_type']} needs: {missing}."


@pytest.mark.parametrize(
    "options",
    [
        PASSWORD,
        PASSWORD | {"auth_type": "v3password"},
        {"auth_type": "password", "auth_url": KEYSTONE, "user_id": "x", "password": SECRET, "system_scope": "all"},
        {
            "auth_type": "v3applicationcredential",
            "auth_url": KEYSTONE,
            "application_credential_id": "x",
            "application_credential_secret": SECRET,
        },
        ADMIN_TOKEN,
        {"auth_type": "none", "endpoint": URL},
    ],
    ids=lambda options: options["auth_type"],
)
def test_whatever_keystoneauth_can_do_can_be_configured(configured, options):
    assert configured(**options).requests == 0


def test_a_plugin_that_is_not_there_is_named(configured):
    assert "pasword" in mistakes(lambda: configured(auth_type="pasword"))


def test_a_domain_that_is_missing_is_named(configured):
    without = {name: value for name, value in PASSWORD.items() if "domain" not in name}
    assert "user_domain_name" in mistakes(lambda: configured(**without | {"auth_type": "v3password"}))


def test_an_option_that_cannot_be_used_is_a_mistake_to_mend(configured):
    assert "timeout" in mistakes(lambda: configured(**ADMIN_TOKEN, timeout="soon"))


@pytest.mark.parametrize("option", ["cafile", "certfile"])
def test_a_certificate_file_that_is_not_there_is_named(configured, option):
    client = configured(auth_type="admin_token", endpoint="https://127.0.0.1:9", token="x", **{option: "/nowhere.pem"})
    assert "/nowhere.pem" in refusal(Unavailable, lambda: client.tree(ROOT))


def test_nothing_is_sent_before_the_first_question(configured, requests_mock):
    configured(**PASSWORD)
    configured(**ADMIN_TOKEN)
    assert requests_mock.call_count == 0
