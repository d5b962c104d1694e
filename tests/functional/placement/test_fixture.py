"""The Placement that our tests use does what they count on."""

import uuid

import pytest
from keystoneauth1 import adapter, exceptions, session, token_endpoint

from tests.fixtures.placement import (
    CUT,
    CUT_AFTER,
    PlacementServer,
    Request,
    assert_usb_view,
)

CONSUMER = str(uuid.uuid4())


@pytest.fixture
def client(placement: PlacementServer) -> adapter.Adapter:
    """A client as our own code has one."""
    auth = token_endpoint.Token(placement.endpoint, placement.token)
    return adapter.Adapter(
        session.Session(auth=auth, timeout=10),
        service_type="placement",
        default_microversion="1.39",
        raise_exc=False,
        connect_retries=0,
    )


def key_below(server: PlacementServer, root: str, name: str = "host1_usb_key") -> str:
    """Give the UUID of a new child of *root* that has one CUSTOM_USB_KEY."""
    server.api.must("PUT", "/resource_classes/CUSTOM_USB_KEY")
    server.api.must("PUT", "/traits/CUSTOM_USB_MANAGED")
    child = str(uuid.uuid4())
    server.api.must(
        "POST",
        "/resource_providers",
        {"name": name, "uuid": child, "parent_provider_uuid": root},
    )
    server.api.must(
        "PUT",
        f"/resource_providers/{child}/traits",
        {"resource_provider_generation": 0, "traits": ["CUSTOM_USB_MANAGED"]},
    )
    one = {"total": 1, "max_unit": 1}
    server.api.must(
        "PUT",
        f"/resource_providers/{child}/inventories",
        {"resource_provider_generation": 1, "inventories": {"CUSTOM_USB_KEY": one}},
    )
    return child


def test_a_client_talks_http_to_it_and_every_request_is_recorded(placement, client):
    root = placement.create_root("host1")
    assert placement.requests == []  # the helpers are not
    found = client.get(f"/resource_providers?in_tree={root}").json()["resource_providers"]
    assert [p["name"] for p in found] == ["host1"]
    assert client.put("/traits/NOT_CUSTOM").status_code == 400
    assert placement.requests == [
        Request("GET", f"/resource_providers?in_tree={root}", 200),
        Request("PUT", "/traits/NOT_CUSTOM", 400),
    ]
    placement.requests.clear()
    assert client.get("/").status_code == 200
    assert placement.requests == [("GET", "/", 200)]


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_starts_with_an_empty_database(placement, turn):
    assert placement.api.get("/resource_providers").json() == {"resource_providers": []}
    assert placement.requests == []
    placement.create_root("host1")
    placement.api.must("PUT", "/traits/CUSTOM_X")


def test_the_helpers_read_back_what_was_written(placement):
    root = placement.create_root("host1", "1d5f2b3e-4a6c-4f7a-9a55-6b1f7d0c9e11")
    assert root == "1d5f2b3e-4a6c-4f7a-9a55-6b1f7d0c9e11"
    assert placement.candidates("resources=CUSTOM_USB_KEY:1") == []
    child = key_below(placement, root)
    assert sorted(placement.providers(root)) == ["host1", "host1_usb_key"]
    assert placement.inventory(child)["CUSTOM_USB_KEY"]["total"] == 1
    assert placement.traits(child) == {"CUSTOM_USB_MANAGED"}
    assert placement.candidates("resources=CUSTOM_USB_KEY:1") == [{child: {"CUSTOM_USB_KEY": 1}}]
    placement.allocate(CONSUMER, {child: {"CUSTOM_USB_KEY": 1}})
    assert placement.used(child) == 1
    assert placement.candidates("resources=CUSTOM_USB_KEY:1") == []
    placement.allocate(CONSUMER, {child: {"CUSTOM_USB_KEY": 1}, root: {"VCPU": 2}})
    placement.release(CONSUMER)
    assert placement.used(child) == placement.used(root) == 0


def test_roles_can_be_tried(placement):
    assert placement.api.get("/resource_providers", roles="reader").status_code == 403
    assert placement.api.get("/resource_providers", roles="service").status_code == 200


def test_a_status_can_be_injected_a_number_of_times(placement, client):
    placement.fail_next(r"^PUT /traits/", 503, times=2, headers={"Retry-After": "1"})
    answers = [client.put("/traits/CUSTOM_X") for _ in range(3)]
    assert [a.status_code for a in answers] == [503, 503, 201]
    assert answers[0].headers["Retry-After"] == "1"
    placement.fail_next(r"^PUT /traits/", 409, code="placement.concurrent_update")
    (error,) = client.put("/traits/CUSTOM_X").json()["errors"]
    assert (error["status"], error["code"]) == (409, "placement.concurrent_update")


def test_garbage_can_be_injected(placement, client):
    placement.fail_next("GET /", b"<html>login")
    assert client.get("/traits").text == "<html>login"


def test_a_cut_request_does_nothing_and_a_cut_answer_has_done_it(placement, client):
    placement.fail_next("CUSTOM_LOST", CUT)
    placement.fail_next("CUSTOM_DONE", CUT_AFTER)
    for name in ("CUSTOM_LOST", "CUSTOM_DONE"):
        with pytest.raises(exceptions.ConnectFailure):
            client.put(f"/traits/{name}")
    assert placement.requests == [
        ("PUT", "/traits/CUSTOM_LOST", "cut"),
        ("PUT", "/traits/CUSTOM_DONE", "cut"),
    ]
    assert placement.api.get("/traits/CUSTOM_LOST").status_code == 404
    assert placement.api.get("/traits/CUSTOM_DONE").status_code == 204


def test_a_second_writer_just_before_a_request_makes_a_real_conflict(placement, client):
    root = placement.create_root("host1")
    child = key_below(placement, root)
    placement.before(
        "PUT .*/inventories",
        lambda: placement.allocate(CONSUMER, {child: {"CUSTOM_USB_KEY": 1}}),
    )
    wish = {"resource_provider_generation": 2, "inventories": {}}
    answers = [client.put(f"/resource_providers/{child}/inventories", json=wish)]
    wish["resource_provider_generation"] = placement.providers(root)["host1_usb_key"]["generation"]
    answers += [client.put(f"/resource_providers/{child}/inventories", json=wish)]
    assert [a.status_code for a in answers] == [409, 409]
    codes = [a.json()["errors"][0]["code"] for a in answers]
    assert codes == ["placement.concurrent_update", "placement.inventory.inuse"]


def test_it_can_be_down_for_a_while_and_keeps_its_data(placement, client):
    root = placement.create_root("host1")
    assert client.get("/").status_code == 200  # a kept-alive connection
    with placement.down(), pytest.raises(exceptions.ConnectFailure):
        client.get("/")
    assert client.get(f"/resource_providers/{root}").status_code == 200


def test_the_table_assertion_names_each_fact_that_differs(placement):
    root = placement.create_root("host1")
    child = key_below(placement, root)
    placement.allocate(CONSUMER, {child: {"CUSTOM_USB_KEY": 1}})
    right = {
        "inventory": {"CUSTOM_USB_KEY": (1, 0)},
        "traits": {"CUSTOM_USB_MANAGED"},
        "used": 1,
    }
    assert_usb_view(placement, root, {"host1_usb_key": right})
    assert_usb_view(placement, root, {"host1_usb_key": {"used": 1}})
    wrong = {
        "inventory": {"CUSTOM_USB_KEY": (1, 1)},
        "traits": {"CUSTOM_USB_MANAGED", "CUSTOM_USB_STATE_ABSENT"},
        "used": 1,
    }
    with pytest.raises(AssertionError) as error:
        assert_usb_view(placement, root, {"host1_usb_key": wrong, "host1_usb_other": {}})
    lines = str(error.value).splitlines()
    assert "+   inventory: CUSTOM_USB_KEY (1, 0)" in lines
    assert "-   inventory: CUSTOM_USB_KEY (1, 1)" in lines
    assert "-   traits: CUSTOM_USB_STATE_ABSENT" in lines
    assert "    traits: CUSTOM_USB_MANAGED" in lines
    assert "- host1_usb_other" in lines
    with pytest.raises(AssertionError, match=r"\+ host1_usb_key"):
        assert_usb_view(placement, root, {})


def test_an_inventory_that_is_not_a_devices_shows_in_the_table(placement):
    root = placement.create_root("host1")
    child = key_below(placement, root)
    placement.api.must(
        "PUT",
        f"/resource_providers/{child}/inventories",
        {
            "resource_provider_generation": 2,
            "inventories": {"CUSTOM_USB_KEY": {"total": 1, "max_unit": 1, "allocation_ratio": 2.0}},
        },
    )
    odd = {"CUSTOM_USB_KEY": (1, 0, {"allocation_ratio": 2.0})}
    assert_usb_view(placement, root, {"host1_usb_key": {"inventory": odd}})
