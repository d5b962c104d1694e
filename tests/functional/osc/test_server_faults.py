"""``openstack usb server attach|detach`` where others act at the same time, or a server or a service is in trouble."""

from collections.abc import Callable

import pytest

from placement_traits import attach_trait, detach_requests, detach_trait
from tests.fixtures.openstack import KEY, YUBIKEY_TRAITS, Answer, Cloud
from tests.functional.osc.servers import CPU, a_server, asks, attach, claim, detach, holds, listed, refused, the_agent

LOST = (
    "Server vm1 no longer holds compute1_usb_1050:0407:Y1, which this command attached: another command detached it, "
    'or Nova moved or deleted the server; "openstack usb server list" shows what it holds.'
)


@pytest.mark.parametrize("is_deleted", [False, True])
def test_one_who_waits_for_a_device_that_the_server_lost_meanwhile_is_told_so(
    cloud: Cloud, root: str, key: str, waits: Callable[[Callable[[], None]], None], is_deleted: bool
) -> None:
    server = a_server(cloud, root)
    agent = the_agent(cloud, key)

    def lose_and_act() -> None:
        if is_deleted:
            cloud.placement.release(server)
        else:
            claim(cloud, root, server)
        agent()

    waits(lose_and_act)
    refused(attach(cloud, "--wait"), LOST)
    assert cloud.placement.traits(key) == YUBIKEY_TRAITS


def test_one_who_waits_for_a_unit_of_a_pool_is_told_when_the_server_lost_one(
    cloud: Cloud, root: str, waits: Callable[[Callable[[], None]], None]
) -> None:
    pool = cloud.device(root, "pool_hasp")
    cloud.operator.set_inventory(pool, KEY, total=3, max_unit=3)
    server = a_server(cloud, root, pool)
    agent = the_agent(cloud, pool)

    def lose_and_act() -> None:
        claim(cloud, root, server, pool)
        agent()

    waits(lose_and_act)
    refused(attach(cloud, "--wait"), LOST.replace("1050:0407:Y1", "pool_hasp"))


def test_a_trait_that_another_command_deletes_before_it_is_set_is_created_again(
    cloud: Cloud, root: str, key: str
) -> None:
    server = a_server(cloud, root, key)
    asked = detach_trait(server)
    cloud.placement.before(
        "PUT /resource_providers/.*/traits", lambda: cloud.placement.api.must("DELETE", f"/traits/{asked}")
    )
    answer = detach(cloud, key)
    assert (answer.code, "was asked to detach" in answer.err) == (0, True)
    assert asked in cloud.placement.traits(key)


def test_a_detach_is_done_though_its_traits_cannot_be_deleted(cloud: Cloud, root: str, key: str) -> None:
    server = a_server(cloud, root, key, status="SHUTOFF")
    cloud.placement.fail_next("DELETE /traits/CUSTOM_USB_DETACH_FROM_", 503, times=None)
    assert detach(cloud, key) == Answer("", "", 0)
    assert holds(cloud, server) == {root: CPU}
    assert cloud.placement.traits(key) == YUBIKEY_TRAITS


def test_a_server_in_error_gives_a_device_back_as_one_that_runs(cloud: Cloud, root: str, key: str) -> None:
    server = a_server(cloud, root, key, status="ERROR")
    assert "was asked to detach" in detach(cloud, key).err
    assert detach_requests(cloud.placement.traits(key)) == {server: 0}
    the_agent(cloud, key)()
    assert detach(cloud, key) == Answer("", "", 0)
    assert holds(cloud, server) == {root: CPU}


def test_a_server_in_error_gets_no_device(cloud: Cloud, root: str, key: str) -> None:
    a_server(cloud, root, status="ERROR")
    refused(attach(cloud), "Server vm1 is ERROR; a device can be attached while it is ACTIVE or SHUTOFF.")


def test_where_a_state_forbids_a_detach_the_way_out_is_named(cloud: Cloud, root: str, key: str) -> None:
    server = a_server(cloud, root, key, status="PAUSED")
    refused(
        detach(cloud, key),
        "Server vm1 is PAUSED; a device can be detached while it is ACTIVE, SHUTOFF or ERROR, and with --force in any "
        "state.",
    )
    assert detach(cloud, key, "--force").code == 0
    assert holds(cloud, server) == {root: CPU}


def test_that_a_limit_was_not_checked_is_said_once_however_often_the_claim_changes(
    cloud: Cloud, root: str, key: str
) -> None:
    server = a_server(cloud, root, tenant_id="other")
    cloud.placement.before("PUT /allocations", lambda: claim(cloud, root, server), times=2)
    answer = attach(cloud, server=server)
    assert (answer.code, answer.err.strip()) == (
        0,
        "The unified limit of the project other was not checked, since Keystone shows it to that project only.",
    )


@pytest.mark.parametrize(
    ("redirected", "sentence"),
    [
        (
            4,
            "Server vm1 holds 0 USB devices, and a guest's controller has no more than 0 free ports, as "
            "hw:redirected_usb_ports takes 4 of them; resize it to a flavor with a lower hw:redirected_usb_ports.",
        ),
        (
            3,
            "Server vm1 holds 1 USB devices, and a guest's controller has no more than 1 free ports, as "
            "hw:redirected_usb_ports takes 3 of them; detach one first.",
        ),
    ],
)
def test_where_the_flavor_leaves_no_port_the_flavor_is_to_be_changed(
    cloud: Cloud, root: str, key: str, redirected: int, sentence: str
) -> None:
    others = [cloud.device(root, f"1050:0407:X{number}") for number in range(4 - redirected)]
    a_server(cloud, root, *others, flavor={"hw:redirected_usb_ports": str(redirected)})
    refused(attach(cloud), sentence)


def test_a_device_that_is_waited_for_is_listed_as_not_attached_yet(cloud: Cloud, root: str, key: str) -> None:
    server = a_server(cloud, root, key)
    asks(cloud, key, attach_trait(server))
    assert listed(cloud)[0]["In the Way"] == "The agent has not attached it yet."
