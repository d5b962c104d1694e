"""``openstack usb server attach|detach|list`` on a real Placement: what changes, in which order, and what stands in the
way.
"""

from collections.abc import Callable
from typing import Any

import pytest

from placement_traits import attach_trait, detach_requests, detach_trait, detached_trait
from tests.fixtures.openstack import KEY, YUBIKEY_TRAITS, Answer, Cloud, named
from tests.functional.osc.servers import CPU, a_server, asks, attach, claim, detach, holds, listed, refused, the_agent
from usb_provider.osc.model.flavor import extra_specs_for

ONE = extra_specs_for(KEY)


# Attach


def test_a_server_that_runs_holds_one_device_more_and_all_else_as_before(cloud: Cloud, root: str, key: str) -> None:
    server = a_server(cloud, root)
    before = cloud.placement.api.must("GET", f"/allocations/{server}")
    shown = attach(cloud).json
    assert shown == {
        "server": "vm1",
        "id": key,
        "device": "compute1_usb_1050:0407:Y1",
        "resource_class": KEY,
        "host": "compute1",
        "state": "the agent attaches it",
    }
    after = cloud.placement.api.must("GET", f"/allocations/{server}")
    assert holds(cloud, server) == {root: CPU, key: {KEY: 1}}
    for what in ("project_id", "user_id", "consumer_type"):
        assert after[what] == before[what]
    assert cloud.placement.traits(key) == YUBIKEY_TRAITS


def test_a_claim_as_nova_writes_it_keeps_its_unknown_type(cloud: Cloud, root: str, key: str) -> None:
    server = cloud.nova.server("vm1")
    body = {"allocations": {root: {"resources": CPU}}, "consumer_generation": None}
    whose = {"project_id": "project", "user_id": "user"}
    cloud.placement.api.must("PUT", f"/allocations/{server}", body | whose, microversion="1.36")
    assert attach(cloud).code == 0
    after = cloud.placement.api.must("GET", f"/allocations/{server}")
    assert (after["consumer_type"], set(after["allocations"])) == ("unknown", {root, key})
    assert detach(cloud, key, "--force").code == 0
    after = cloud.placement.api.must("GET", f"/allocations/{server}")
    assert (after["consumer_type"], set(after["allocations"])) == ("unknown", {root})


def test_only_a_device_of_the_servers_own_host_is_attached(cloud: Cloud, root: str) -> None:
    other = cloud.host("compute2")
    cloud.device(other, "1050:0407:A0", host="compute2")
    server = a_server(cloud, root)
    refused(
        attach(cloud),
        f"The compute node compute1 of server vm1 has no free device of {KEY}; a device can only be attached to a "
        "server on its own host.",
    )
    assert holds(cloud, server) == {root: CPU}


def test_a_device_is_chosen_by_its_traits_or_by_its_name(cloud: Cloud, root: str, key: str) -> None:
    special = cloud.device(root, "1050:0407:Y9", traits={"CUSTOM_SITE_A"})
    a_server(cloud, root)
    assert attach(cloud, "--trait", "CUSTOM_SITE_A").json["id"] == special
    a_server(cloud, root, name="vm2")
    third = cloud.device(root, "1050:0407:Y3")
    for name in ("1050:0407:Y3", "compute1_usb_1050:0407:Y3", third):
        claim(cloud, root, named("vm2"))
        assert attach(cloud, "--device", name, server="vm2").json["id"] == third


def test_a_pool_gives_one_unit_more(cloud: Cloud, root: str) -> None:
    pool = cloud.device(root, "pool_hasp")
    cloud.operator.set_inventory(pool, KEY, total=3, max_unit=3)
    server = a_server(cloud, root, pool)
    assert attach(cloud).code == 0
    assert holds(cloud, server)[pool] == {KEY: 2}


def test_a_server_that_is_shut_off_gets_the_device_at_its_next_start(cloud: Cloud, root: str, key: str) -> None:
    a_server(cloud, root, status="SHUTOFF")
    assert attach(cloud, "--wait").json["state"] == "the guest gets it at its next start"


def test_one_who_waits_is_told_when_the_guest_has_it(
    cloud: Cloud, root: str, key: str, waits: Callable[[Callable[[], None]], None]
) -> None:
    server = a_server(cloud, root)
    waits(the_agent(cloud, key))
    assert attach(cloud, "--wait").json["state"] == "the guest has it"
    assert cloud.placement.traits(key) == YUBIKEY_TRAITS
    assert cloud.placement.api.get(f"/traits/{attach_trait(server)}").status_code == 404


def test_one_who_has_waited_long_enough_is_told_where_to_look_and_the_claim_stays(
    cloud: Cloud, root: str, key: str, waits: Callable[[Callable[[], None]], None]
) -> None:
    server = a_server(cloud, root)
    waits(lambda: None)
    refused(
        attach(cloud, "--wait", "--timeout", "10"),
        "The guest of server vm1 does not have compute1_usb_1050:0407:Y1 after 10 s, and the server goes on holding "
        'it; "usb-provider status" on compute1 says what the guest waits for.',
    )
    assert key in holds(cloud, server)
    assert cloud.placement.traits(key) == YUBIKEY_TRAITS


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (
            {"status": "PAUSED"},
            "Server vm1 is PAUSED; a device can be attached while it is ACTIVE or SHUTOFF.",
        ),
        (
            {"OS-EXT-STS:task_state": "resize_prep"},
            "Nova is busy with server vm1 (task resize_prep); try again when it has ended that.",
        ),
        (
            {"OS-EXT-SRV-ATTR:hypervisor_hostname": None},
            "Nova does not show you on which compute node server vm1 is; your user needs the role admin.",
        ),
        (
            {"OS-EXT-SRV-ATTR:hypervisor_hostname": "compute7"},
            'Placement has no compute node compute7; "openstack hypervisor list" shows their names.',
        ),
        (
            {"status": "UNKNOWN"},
            f"Nova does not reach the cell of server {named('vm1')}; try again when it does.",
        ),
        (
            {"flavor": {"hw:usb_model": "none"}},
            "The flavor of server vm1 has hw:usb_model=none, so its guest has no USB controller; resize it to a flavor "
            "with hw:usb_model=qemu-xhci.",
        ),
    ],
)
def test_what_the_server_is_like_stands_in_the_way(
    cloud: Cloud, root: str, key: str, more: dict[str, Any], sentence: str
) -> None:
    server = a_server(cloud, root, **more)
    refused(attach(cloud), sentence)
    assert holds(cloud, server) == {root: CPU}


def test_a_server_that_is_not_there_or_not_the_callers_or_not_the_only_one(cloud: Cloud, root: str, key: str) -> None:
    refused(attach(cloud), 'Nova has no server vm1 that your user may see; "openstack server list" shows yours.')
    cloud.nova.server("vm1", tenant_id="other")
    refused(
        attach(cloud),
        f"The server called vm1 is another project's, other; give its UUID, {named('vm1')}, if you mean it.",
    )
    cloud.nova.refuse["all_tenants"] = 403
    refused(attach(cloud), 'Nova has no server vm1 that your user may see; "openstack server list" shows yours.')
    cloud.nova.servers.clear()
    for uuid in (named("one"), named("two")):
        cloud.nova.server("vm1", id=uuid)
    refused(attach(cloud), "Your project has several servers called vm1; give the UUID of one.")


def test_a_server_without_a_claim_on_its_host(cloud: Cloud, root: str, key: str) -> None:
    cloud.nova.server("vm1")
    refused(
        attach(cloud),
        "Server vm1 holds nothing of its compute node compute1 in Placement; run "
        '"nova-manage placement heal_allocations" first.',
    )


def test_a_server_whose_ports_are_all_taken(cloud: Cloud, root: str, key: str) -> None:
    a_server(cloud, root, *(cloud.device(root, f"1050:0407:X{number}") for number in range(4)))
    refused(
        attach(cloud),
        "Server vm1 holds 4 USB devices, and a guest's controller has no more than 4 free ports; detach one first.",
    )


def test_why_no_device_is_free_is_said(cloud: Cloud, root: str, key: str) -> None:
    a_server(cloud, root)
    cloud.placement.allocate(named("vm2"), {key: {KEY: 1}})
    cloud.device(root, "1050:0407:Y2", traits={"CUSTOM_USB_STATE_DRAINED"}, reserved=1)
    refused(
        attach(cloud),
        f"The compute node compute1 of server vm1 has no free device of {KEY} (1 drained, 1 allocated); a device can "
        "only be attached to a server on its own host.",
    )
    refused(
        attach(cloud, "--device", key),
        "compute1_usb_1050:0407:Y1 cannot be attached now: A consumer holds it.",
    )
    refused(
        attach(cloud, "--device", "1050:0407:Y7"),
        "The compute node compute1 of server vm1 has no device 1050:0407:Y7; a device can only be attached to a server "
        "on its own host.",
    )
    camera = cloud.device(root, "046d:082d:C1", resource_class="CUSTOM_USB_CAMERA")
    refused(attach(cloud, "--device", camera), f"compute1_usb_046d:082d:C1 is of CUSTOM_USB_CAMERA, and not of {KEY}.")
    cloud.operator.set_traits(camera, {*YUBIKEY_TRAITS, "CUSTOM_SITE_B"})
    refused(
        attach(cloud, "--device", key, "--trait", "CUSTOM_SITE_B"),
        "compute1_usb_1050:0407:Y1 lacks the trait CUSTOM_SITE_B.",
    )
    refused(
        attach(cloud, "--trait", "CUSTOM_SITE_Z"),
        'Placement has no trait CUSTOM_SITE_Z; "openstack trait list" shows all.',
    )


@pytest.mark.parametrize(
    ("limits", "is_refused"),
    [
        ({}, False),
        ({"registered": 1}, True),
        ({"registered": 2}, False),
        ({"registered": 1, "of_project": 2}, False),
        ({"registered": 5, "of_project": 1}, True),
        ({"registered": 0, "of_project": -1}, False),
    ],
)
def test_the_unified_limit_of_the_project_counts(
    cloud: Cloud, root: str, key: str, limits: dict[str, int], is_refused: bool
) -> None:
    cloud.keystone.limit(KEY, **limits)
    cloud.keystone.limit("CUSTOM_USB_OTHER", of_project=0, registered=0)
    a_server(cloud, root, cloud.device(root, "1050:0407:Y2"))
    answer = attach(cloud)
    if is_refused:
        refused(
            answer,
            f"The project project of server vm1 has 1 of {KEY}, and its unified limit is 1; raise that, or detach one "
            "of its other devices.",
        )
    assert (answer.code, key in holds(cloud, named("vm1"))) == ((1, False) if is_refused else (0, True))


def test_the_limit_of_another_region_does_not_count(cloud: Cloud, root: str, key: str) -> None:
    cloud.keystone.limit(KEY, of_project=0, region="R2")
    server = a_server(cloud, root)
    assert "its unified limit is 0" in attach(cloud).err, "no region was chosen"
    words = ("usb", "server", "attach", server, "--resource-class", "KEY")
    assert cloud.openstack("--os-region-name", "R1", *words).code == 0


def test_the_limit_of_another_project_cannot_be_asked_and_that_is_said(cloud: Cloud, root: str, key: str) -> None:
    server = a_server(cloud, root, tenant_id="other")
    answer = attach(cloud, server=server)
    assert answer.code == 0
    assert answer.err.strip() == (
        "The unified limit of the project other was not checked, since Keystone shows it to that project only."
    )


def test_after_a_conflict_everything_is_looked_at_anew(cloud: Cloud, root: str, key: str) -> None:
    server = a_server(cloud, root)
    second = cloud.device(root, "1050:0407:Y2")
    cloud.placement.before("PUT /allocations", lambda: cloud.placement.allocate(named("vm2"), {key: {KEY: 1}}))
    assert attach(cloud).json["id"] == second
    assert holds(cloud, server) == {root: CPU, second: {KEY: 1}}


def test_a_resize_that_began_meanwhile_is_noticed(cloud: Cloud, root: str, key: str) -> None:
    server = a_server(cloud, root)

    def begin() -> None:
        cloud.nova.servers[0]["OS-EXT-STS:task_state"] = "resize_prep"
        cloud.placement.release(server)

    cloud.placement.before("PUT /allocations", begin)
    refused(attach(cloud), "Nova is busy with server vm1 (task resize_prep); try again when it has ended that.")
    assert holds(cloud, server) == {}


def test_a_conflict_that_does_not_end_is_no_traceback(cloud: Cloud, root: str, key: str) -> None:
    server = a_server(cloud, root)
    cloud.placement.before("PUT /allocations", lambda: claim(cloud, root, server), times=None)
    refused(
        attach(cloud),
        "The claim of server vm1, or a device of its compute node, changed at each attempt; try again later.",
    )
    assert holds(cloud, server) == {root: CPU}


# Detach


def test_the_claim_goes_only_after_the_agent_has_detached_the_device(
    cloud: Cloud, root: str, key: str, waits: Callable[[Callable[[], None]], None]
) -> None:
    server = a_server(cloud, root, key)
    agent = the_agent(cloud, key)

    def check_and_act() -> None:
        assert key in holds(cloud, server)
        agent()

    waits(check_and_act)
    assert detach(cloud, "1050:0407:Y1", "--wait") == Answer("", "", 0)
    assert holds(cloud, server) == {root: CPU}
    assert cloud.placement.traits(key) == YUBIKEY_TRAITS
    assert not [each for each in cloud.placement.api.must("GET", "/traits")["traits"] if "DETACH" in each]


def test_without_wait_the_agent_is_asked_and_the_next_command_ends_it(cloud: Cloud, root: str, key: str) -> None:
    server = a_server(cloud, root, key)
    answer = detach(cloud, key)
    assert (answer.code, answer.err.strip()) == (
        0,
        "The agent on compute1 was asked to detach compute1_usb_1050:0407:Y1; repeat the command, or use --wait, to "
        "let the claim of server vm1 go.",
    )
    assert cloud.placement.traits(key) == {*YUBIKEY_TRAITS, detach_trait(server)}
    assert listed(cloud)[0]["In the Way"] == "The agent is asked to detach it."
    the_agent(cloud, key)()
    assert listed(cloud)[0]["In the Way"] == 'The agent has detached it; "openstack usb server detach" lets it go.'
    assert detach(cloud, key).code == 0
    assert holds(cloud, server) == {root: CPU}
    assert cloud.placement.traits(key) == YUBIKEY_TRAITS


def test_an_agent_that_does_not_answer_is_named_and_nothing_is_lost(
    cloud: Cloud, root: str, key: str, waits: Callable[[Callable[[], None]], None]
) -> None:
    server = a_server(cloud, root, key)
    waits(lambda: None)
    refused(
        detach(cloud, key, "--wait", "--timeout", "9"),
        "The agent on compute1 has not detached compute1_usb_1050:0407:Y1 after 9 s, and server vm1 goes on holding "
        "it. Check that the agent runs; repeat the command to go on, or use --force where the host is down.",
    )
    assert key in holds(cloud, server)
    answer = detach(cloud, key, "--force")
    assert answer.code == 0
    assert answer.err.strip() == (
        "The agent on compute1 was not waited for: until it has detached compute1_usb_1050:0407:Y1, the guest of "
        "server vm1 has it, and no other guest can get it."
    )
    assert holds(cloud, server) == {root: CPU}
    assert cloud.placement.traits(key) == YUBIKEY_TRAITS


def test_of_a_server_that_is_shut_off_the_claim_goes_at_once(cloud: Cloud, root: str, key: str) -> None:
    server = a_server(cloud, root, key, status="SHUTOFF")
    assert detach(cloud, key) == Answer("", "", 0)
    assert holds(cloud, server) == {root: CPU}


def test_a_server_that_is_started_meanwhile_keeps_its_claim_until_the_agent_has_answered(
    cloud: Cloud, root: str, key: str
) -> None:
    server = a_server(cloud, root, key, status="SHUTOFF")
    cloud.placement.before(
        "PUT /resource_providers/.*/traits", lambda: cloud.nova.servers[0].update({"status": "ACTIVE"})
    )
    assert "was asked to detach" in detach(cloud, key).err
    assert key in holds(cloud, server)


def test_a_device_that_the_flavor_asks_for_stays(cloud: Cloud, root: str, key: str) -> None:
    server = a_server(cloud, root, key, flavor=ONE)
    refused(
        detach(cloud, key),
        "The flavor of server vm1 asks for compute1_usb_1050:0407:Y1, so it stays; resize the server to another flavor "
        "to take it away.",
    )
    assert key in holds(cloud, server)
    assert cloud.placement.traits(key) == YUBIKEY_TRAITS


def test_a_device_that_the_flavor_asks_for_since_a_resize_stays_and_is_attached_again(
    cloud: Cloud, root: str, key: str
) -> None:
    server = a_server(cloud, root, key, flavor=ONE)
    asks(cloud, key, detach_trait(server), detached_trait(server))
    assert "so it stays" in detach(cloud, key).err
    assert cloud.placement.traits(key) == YUBIKEY_TRAITS
    assert key in holds(cloud, server)


def test_a_server_gives_a_unit_of_a_pool_back_and_a_command_that_was_killed_takes_no_second(
    cloud: Cloud, root: str
) -> None:
    pool = cloud.device(root, "pool_hasp")
    cloud.operator.set_inventory(pool, KEY, total=3, max_unit=3)
    server = a_server(cloud, root, pool, pool, pool, flavor=ONE)
    detach(cloud, pool)
    assert detach_requests(cloud.placement.traits(pool)) == {server: 2}
    the_agent(cloud, pool)()
    assert detach(cloud, pool).code == 0
    assert holds(cloud, server)[pool] == {KEY: 2}
    # The command was killed after the claim had shrunk.
    asks(cloud, pool, detach_trait(server, 2), detached_trait(server, 2))
    assert detach(cloud, pool) == Answer("", "", 0)
    assert cloud.placement.traits(pool) == YUBIKEY_TRAITS
    assert holds(cloud, server)[pool] == {KEY: 2}
    assert "was asked to detach" in detach(cloud, pool).err
    assert detach_requests(cloud.placement.traits(pool)) == {server: 1}


def test_a_command_that_was_killed_before_it_removed_the_request_is_finished_by_the_next(
    cloud: Cloud, root: str, key: str
) -> None:
    server = a_server(cloud, root)
    for left in ((detach_trait(server), detached_trait(server)), (detached_trait(server),)):
        asks(cloud, key, *left)
        assert detach(cloud, key) == Answer("", "", 0)
        assert cloud.placement.traits(key) == YUBIKEY_TRAITS


def test_what_a_server_does_not_hold_cannot_be_detached(cloud: Cloud, root: str, key: str) -> None:
    a_server(cloud, root)
    refused(
        detach(cloud, key),
        f'Server vm1 does not hold {key}; "openstack usb server list" shows what it holds.',
    )
    refused(
        detach(cloud, "nothing"), 'Placement has no provider nothing; "openstack usb device list" shows the devices.'
    )


def test_a_device_that_is_being_detached_is_not_attached_again_before_that_is_over(cloud: Cloud, root: str) -> None:
    pool = cloud.device(root, "pool_hasp")
    cloud.operator.set_inventory(pool, KEY, total=3, max_unit=3)
    a_server(cloud, root, pool)
    detach(cloud, pool)
    refused(
        attach(cloud, "--device", pool),
        "compute1_usb_pool_hasp is being detached from server vm1; repeat that until it is done, and attach it then.",
    )


def test_a_time_limit_needs_wait(cloud: Cloud, root: str, key: str) -> None:
    a_server(cloud, root, key)
    refused(detach(cloud, key, "--timeout", "9"), "--timeout needs --wait.")


# List


def test_a_server_shows_what_its_flavor_asks_for_and_what_was_attached(cloud: Cloud, root: str, key: str) -> None:
    second = cloud.device(root, "1050:0407:Y2", traits={"CUSTOM_USB_STATE_ABSENT"})
    cloud.operator.set_traits(key, {*YUBIKEY_TRAITS, "CUSTOM_SITE_A"})
    a_server(cloud, root, key, second, flavor=extra_specs_for(KEY, 1, ["CUSTOM_SITE_A"]))
    cloud.operator.set_inventory(second, KEY, reserved=1)
    assert listed(cloud) == [
        {
            "ID": key,
            "Host": "compute1",
            "Device": "1050:0407:Y1",
            "Resource Class": KEY,
            "Units": 1,
            "By": "flavor",
            "State": "allocated",
            "After a Move": "exchanged",
            "In the Way": "",
        },
        {
            "ID": second,
            "Host": "compute1",
            "Device": "1050:0407:Y2",
            "Resource Class": KEY,
            "Units": 1,
            "By": "attached",
            "State": "absent",
            "After a Move": "lost",
            "In the Way": "It is not plugged in. A consumer holds it.",
        },
    ]
    cloud.nova.servers[0]["status"] = "SHUTOFF"
    assert listed(cloud)[0]["In the Way"] == "The server is shut off."


def test_of_two_devices_that_suit_the_flavor_equally_either_may_be_the_attached_one(
    cloud: Cloud, root: str, key: str
) -> None:
    second = cloud.device(root, "1050:0407:Y2")
    server = a_server(cloud, root, key, second, flavor=ONE, status="SHUTOFF")
    assert [each["By"] for each in listed(cloud)] == ["flavor or attached"] * 2
    assert [each["After a Move"] for each in listed(cloud)] == ["exchanged or lost"] * 2
    assert detach(cloud, key).code == 0
    assert holds(cloud, server) == {root: CPU, second: {KEY: 1}}
    assert [each["By"] for each in listed(cloud)] == ["flavor"]
    assert "so it stays" in detach(cloud, second).err


def test_units_of_a_pool_are_told_apart(cloud: Cloud, root: str) -> None:
    pool = cloud.device(root, "pool_hasp")
    cloud.operator.set_inventory(pool, KEY, total=3, max_unit=3)
    a_server(cloud, root, pool, pool, pool, flavor=ONE)
    assert [(each["Units"], each["By"]) for each in listed(cloud)] == [(1, "flavor"), (2, "attached")]


def test_a_server_without_devices_has_an_empty_list(cloud: Cloud, root: str) -> None:
    a_server(cloud, root)
    assert listed(cloud) == []
    cloud.nova.server("vm2")
    assert listed(cloud, "vm2") == []
