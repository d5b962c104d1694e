"""``openstack usb device …`` and ``usb host list`` on a real Placement: what they show, write and cost."""

import pytest

from placement_traits import STATE_ABSENT, STATE_DRAINED, STATE_WITHDRAWN
from tests.fixtures.openstack import KEY, Cloud, named
from usb_provider.demo.embedded import clouds_yaml

REASON = "CUSTOM_USB_DRAIN_REASON_"


def states(cloud: Cloud, *words: str) -> dict[str, str]:
    """Each listed device's state by its key."""
    listed = cloud.openstack("usb", "device", "list", "-f", "json", *words).json
    return {line["Device"]: line["State"] for line in listed}


def a_fleet(cloud: Cloud, root: str) -> None:
    """One device in each state, named after it."""
    cloud.device(root, "free")
    cloud.placement.allocate(named("vm1"), {cloud.device(root, "allocated"): {KEY: 1}})
    cloud.device(root, "absent", traits={STATE_ABSENT}, resource_class=None)
    held = cloud.device(root, "absent-held")
    cloud.placement.allocate(named("vm2"), {held: {KEY: 1}})
    cloud.operator.add_traits(held, STATE_ABSENT)
    cloud.operator.set_inventory(held, KEY, reserved=1)
    cloud.device(root, "withdrawn", traits={STATE_WITHDRAWN}, resource_class=None)
    cloud.device(root, "drained", traits={STATE_DRAINED}, reserved=1)
    cloud.device(root, "reserved", reserved=1)


FLEET = {
    "free": "free",
    "allocated": "allocated",
    "absent": "absent",
    "absent-held": "absent",
    "withdrawn": "withdrawn",
    "drained": "drained",
    "reserved": "reserved",
}


def test_every_device_has_one_state(cloud: Cloud, root: str) -> None:
    a_fleet(cloud, root)
    assert states(cloud) == FLEET
    assert cloud.requests() == 3


@pytest.mark.parametrize(
    ("state", "found"),
    [
        ("free", {"free"}),
        ("allocated", {"allocated", "absent-held"}),
        ("absent", {"absent", "absent-held"}),
        ("drained", {"drained"}),
        ("reserved", {"reserved"}),
        ("withdrawn", {"withdrawn"}),
    ],
)
def test_a_listing_by_state_finds_what_is_allocated_though_it_is_absent(
    cloud: Cloud, root: str, state: str, found: set[str]
) -> None:
    a_fleet(cloud, root)
    assert set(states(cloud, "--state", state)) == found


def test_a_thousand_devices_cost_as_many_requests_as_one(cloud: Cloud, root: str) -> None:
    cloud.device(root)
    for number in range(1, 20):
        other = cloud.host(f"compute{number + 1}")
        cloud.device(other, f"key{number}", host=f"compute{number + 1}")
    assert len(states(cloud)) == 20
    assert cloud.requests() == 3


def test_hosts_without_memory_or_cpu_left_are_listed_too(cloud: Cloud, root: str) -> None:
    a_fleet(cloud, root)
    cloud.placement.allocate(named("big"), {root: {"MEMORY_MB": 65536 - 512}})
    assert states(cloud) == FLEET
    assert cloud.requests() == 4
    cloud.placement.allocate(named("bigger"), {root: {"VCPU": 64}})
    assert states(cloud) == FLEET
    assert cloud.requests() == 4 + 3 * len(FLEET)


def test_a_listing_of_one_host_a_class_or_a_trait_leaves_the_rest_out(cloud: Cloud, root: str) -> None:
    cloud.device(root, "here", traits={"CUSTOM_HASP"})
    cloud.device(root, "modem", resource_class="CUSTOM_USB_MODEM")
    cloud.device(cloud.host("compute2"), "there", host="compute2")
    assert set(states(cloud, "--host", "compute1")) == {"here", "modem"}
    assert cloud.requests() == 3
    assert set(states(cloud, "--host", root)) == {"here", "modem"}
    assert set(states(cloud, "--resource-class", "modem")) == {"modem"}
    assert set(states(cloud, "--resource-class", "CUSTOM_USB_KEY")) == {"here", "there"}
    assert set(states(cloud, "--trait", "CUSTOM_HASP", "--trait", "CUSTOM_USB_VENDOR_1050")) == {"here"}


def test_a_long_listing_says_who_holds_what_and_why_a_device_cannot_be_had(cloud: Cloud, root: str) -> None:
    a_fleet(cloud, root)
    cloud.nova.server("vm1")
    cloud.nova.server("vm3")
    cloud.nova.migrations.append({"uuid": named("vm2"), "instance_uuid": named("vm3"), "status": "finished"})
    answer = cloud.openstack("usb", "device", "list", "--long", "-f", "json")
    assert answer.err == ""
    listed = answer.json
    lines = {line["Device"]: line for line in listed}
    assert lines["allocated"]["Consumers"] == [named("vm1")]
    assert lines["allocated"]["Held By"] == ["server vm1"]
    assert lines["absent-held"]["Held By"] == ["a migration of server vm3 (finished)"]
    assert lines["absent-held"]["Reason"] == "It is not plugged in. A consumer holds it."
    assert lines["free"]["Held By"] == []
    assert STATE_DRAINED in lines["drained"]["Traits"]
    assert cloud.requests() == 3 + 2


def test_where_nova_does_not_say_who_they_are_holders_keep_their_uuid(cloud: Cloud, root: str) -> None:
    cloud.placement.allocate(named("vm1"), {cloud.device(root): {KEY: 1}})
    cloud.nova.refuse = {"servers": 403}
    answer = cloud.openstack("usb", "device", "list", "--long", "-f", "json")
    assert (answer.json[0]["Consumers"], answer.json[0]["Held By"]) == ([named("vm1")], [])
    assert "The holders are shown by UUID only, since Nova does not say what they are: Nova answers 403" in answer.err
    assert answer.code == 0


def test_a_cloud_in_which_no_agent_ran_has_no_devices(cloud: Cloud, root: str) -> None:
    answer = cloud.openstack("usb", "device", "list", "-f", "json")
    assert (answer.json, answer.code) == ([], 0)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("list", "--host", "nowhere"), "Placement has no compute node nowhere;"),
        (("list", "--host", "compute1_usb_1050:0407:Y1"), "Placement has no compute node compute1_usb_1050:0407:Y1;"),
        (("list", "--trait", "CUSTOM_NEVER"), "Placement has no trait CUSTOM_NEVER;"),
        (("list", "--trait", "no name, this"), "no name, this is not the name of a trait; "),
        (("list", "--resource-class", "a b"), "'a b' is no resource class:"),
        (("show", "nothing"), "Placement has no provider nothing;"),
        (("show", "compute1"), "compute1 is not a USB device: its provider lacks the trait CUSTOM_USB_MANAGED;"),
        (("set", "--undrain", "compute1_usb_1050:0407:Y1"), "compute1_usb_1050:0407:Y1 is not drained."),
        (("set", "--undrain", "--reason", "x", "compute1_usb_1050:0407:Y1"), "--reason needs --drain."),
        (("set", "--drain", "--reason", "???", "compute1_usb_1050:0407:Y1"), "The reason '???' has no letter"),
    ],
)
def test_bad_input_is_answered_with_one_sentence(
    cloud: Cloud, root: str, words: tuple[str, ...], complaint: str
) -> None:
    cloud.device(root)
    answer = cloud.openstack("usb", "device", *words)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith(complaint)
    assert len(answer.err.splitlines()) == 1


def test_a_cloud_that_is_nothing_but_a_placement_will_do_as_the_demos_is(cloud: Cloud, root: str) -> None:
    cloud.placement.allocate(named("vm1"), {cloud.device(root): {KEY: 1}})
    cloud.clouds.write_text(clouds_yaml("test", cloud.placement.endpoint, cloud.placement.token))
    assert states(cloud) == {"1050:0407:Y1": "allocated"}
    answer = cloud.openstack("usb", "device", "show", "compute1_usb_1050:0407:Y1", "-f", "json")
    assert (answer.json["consumers"], answer.json["held_by"]) == ([named("vm1")], [])
    assert "since Nova does not say" in answer.err
    assert cloud.openstack("usb", "device", "set", "--drain", "compute1_usb_1050:0407:Y1").code == 0
    assert states(cloud, "--state", "drained") == {"1050:0407:Y1": "drained"}


def test_placement_that_refuses_or_is_not_there_is_named_without_talk_of_a_configuration_file(
    cloud: Cloud, root: str
) -> None:
    cloud.placement.fail_next("GET /resource_providers", 403)
    answer = cloud.openstack("usb", "device", "list")
    assert "your user needs the role service (or admin) in its project." in answer.err
    with cloud.placement.down():
        answer = cloud.openstack("usb", "device", "list")
    assert answer.code == 1
    assert "[placement]" not in answer.err


def test_one_device_is_shown_with_all_that_its_traits_say(cloud: Cloud, root: str) -> None:
    uuid = cloud.device(root, traits={"CUSTOM_HASP", "CUSTOM_USB_SERIAL_Y1"})
    cloud.placement.allocate(cloud.nova.server("vm1"), {uuid: {KEY: 1}})
    for word in (uuid, "compute1_usb_1050:0407:Y1"):
        shown = cloud.openstack("usb", "device", "show", word, "-f", "json").json
        assert shown == {
            "id": uuid,
            "name": "compute1_usb_1050:0407:Y1",
            "host": "compute1",
            "state": "allocated",
            "reason": "A consumer holds it.",
            "resource_class": KEY,
            "units": 1,
            "units_held": 1,
            "drained_members": [],
            "vendor_id": "1050",
            "product_id": "0407",
            "usb_classes": ["hid", "smart-card"],
            "speed": "full",
            "serial": "Y1",
            "other_traits": ["CUSTOM_HASP"],
            "consumers": [named("vm1")],
            "held_by": ["server vm1"],
        }
    assert cloud.requests() == 6


def inventory(cloud: Cloud, uuid: str) -> dict[str, tuple[int, int]]:
    """Total and reserved by class."""
    return {name: (each["total"], each["reserved"]) for name, each in cloud.placement.inventory(uuid).items()}


def test_draining_writes_the_state_and_the_reason_and_undraining_leaves_no_trace(cloud: Cloud, root: str) -> None:
    uuid = cloud.device(root)
    before = cloud.placement.traits(uuid)
    answer = cloud.openstack("usb", "device", "set", "--drain", "--reason", "Socket #3 loose", uuid)
    assert answer.code == 0
    assert answer.err == "The reason is kept as: socket 3 loose\n"
    assert cloud.placement.traits(uuid) == before | {STATE_DRAINED, f"{REASON}SOCKET_3_LOOSE"}
    assert inventory(cloud, uuid) == {KEY: (1, 1)}
    shown = cloud.openstack("usb", "device", "show", uuid, "-f", "json").json
    assert (shown["state"], shown["reason"]) == ("drained", "An operator drained it: socket 3 loose.")
    assert shown["other_traits"] == []
    assert cloud.openstack("usb", "device", "set", "--undrain", uuid).code == 0
    assert cloud.placement.traits(uuid) == before
    assert inventory(cloud, uuid) == {KEY: (1, 0)}
    all_traits = cloud.placement.api.must("GET", f"/traits?name=startswith:{REASON}")["traits"]
    assert all_traits == [], "a reason that no device has is not left in the cloud's list of traits"


def test_draining_twice_changes_the_reason_and_keeps_it_when_none_is_given(cloud: Cloud, root: str) -> None:
    uuid = cloud.device(root)
    for words in (("--reason", "one"), ("--reason", "two"), ()):
        answer = cloud.openstack("usb", "device", "set", "--drain", *words, uuid)
        assert (answer.code, answer.err) == (0, "")
    reasons = {name for name in cloud.placement.traits(uuid) if name.startswith(REASON)}
    assert reasons == {f"{REASON}TWO"}


def test_a_reason_that_another_one_replaces_is_not_left_in_the_clouds_list_of_traits(cloud: Cloud, root: str) -> None:
    devices = [cloud.device(root, key) for key in ("a", "b")]
    for uuid in devices:
        assert cloud.openstack("usb", "device", "set", "--drain", "--reason", "one", uuid).code == 0
    left = []
    for uuid in devices:
        assert cloud.openstack("usb", "device", "set", "--drain", "--reason", "two", uuid).code == 0
        left.append(cloud.placement.api.must("GET", f"/traits?name=startswith:{REASON}")["traits"])
    assert [sorted(each) for each in left] == [[f"{REASON}ONE", f"{REASON}TWO"], [f"{REASON}TWO"]]


def test_a_held_device_is_drained_without_touching_its_instance(cloud: Cloud, root: str) -> None:
    uuid = cloud.device(root)
    cloud.placement.allocate(named("vm1"), {uuid: {KEY: 1}})
    assert cloud.openstack("usb", "device", "set", "--drain", uuid).code == 0
    assert (inventory(cloud, uuid), cloud.placement.used(uuid)) == ({KEY: (1, 1)}, 1)
    assert states(cloud, "--state", "allocated", "--state", "drained") == {"1050:0407:Y1": "drained"}


def test_an_absent_device_is_undrained_without_becoming_schedulable(cloud: Cloud, root: str) -> None:
    uuid = cloud.device(root, traits={STATE_ABSENT, STATE_DRAINED}, reserved=1)
    assert cloud.openstack("usb", "device", "set", "--undrain", uuid).code == 0
    assert STATE_DRAINED not in cloud.placement.traits(uuid)
    assert inventory(cloud, uuid) == {KEY: (1, 1)}
    assert cloud.placement.candidates(f"resources={KEY}:1") == []


def test_a_device_that_an_operator_reserved_by_hand_is_not_undrained(cloud: Cloud, root: str) -> None:
    uuid = cloud.device(root, reserved=1)
    answer = cloud.openstack("usb", "device", "set", "--undrain", uuid)
    assert answer.code == 1
    assert "is not drained; it is reserved by hand, so set reserved to 0 in its inventory." in answer.err


def test_a_drain_wins_over_an_agent_that_writes_at_the_same_time(cloud: Cloud, root: str) -> None:
    uuid = cloud.device(root)
    cloud.placement.before("PUT .*/traits$", lambda: cloud.operator.add_traits(uuid, "CUSTOM_A"))
    cloud.placement.before("PUT .*/inventories$", lambda: cloud.operator.set_inventory(uuid, KEY, reserved=1))
    assert cloud.openstack("usb", "device", "set", "--drain", uuid).code == 0
    assert {STATE_DRAINED, "CUSTOM_A"} <= cloud.placement.traits(uuid)
    assert inventory(cloud, uuid) == {KEY: (1, 1)}


def test_an_undrain_wins_over_an_agent_that_drains_again_in_between(cloud: Cloud, root: str) -> None:
    uuid = cloud.device(root, traits={STATE_DRAINED}, reserved=1)
    cloud.placement.before("PUT .*/traits$", lambda: cloud.operator.set_inventory(uuid, KEY, reserved=1))
    assert cloud.openstack("usb", "device", "set", "--undrain", uuid).code == 0
    assert STATE_DRAINED not in cloud.placement.traits(uuid)
    assert inventory(cloud, uuid) == {KEY: (1, 0)}


def test_against_a_client_that_never_stops_writing_a_drain_gives_up_and_says_so(cloud: Cloud, root: str) -> None:
    uuid = cloud.device(root)
    cloud.placement.fail_next("PUT .*/traits$", 409, None, code="placement.concurrent_update")
    answer = cloud.openstack("usb", "device", "set", "--drain", uuid)
    assert answer.code == 1
    assert "Placement answers 409" in answer.err


def test_hosts_are_counted(cloud: Cloud, root: str) -> None:
    a_fleet(cloud, root)
    cloud.device(cloud.host("compute2"), "there", host="compute2")
    cloud.host("compute3")
    assert cloud.openstack("usb", "host", "list", "-f", "json").json == [
        {
            "Host": "compute1",
            "Offered": 4,
            "Free": 1,
            "Allocated": 2,
            "Absent": 2,
            "Drained": 1,
            "Reserved": 1,
            "Withdrawn": 1,
            "Incomplete": 0,
        },
        {
            "Host": "compute2",
            "Offered": 1,
            "Free": 1,
            "Allocated": 0,
            "Absent": 0,
            "Drained": 0,
            "Reserved": 0,
            "Withdrawn": 0,
            "Incomplete": 0,
        },
    ]
    assert cloud.requests() == 3


@pytest.mark.parametrize("how", ["value", "yaml", "csv", "table"])
def test_every_format_of_openstackclient_works_with_columns_and_sorting(cloud: Cloud, root: str, how: str) -> None:
    a_fleet(cloud, root)
    answer = cloud.openstack("usb", "device", "list", "-f", how, "-c", "Device", "--sort-column", "Device")
    assert answer.code == 0
    positions = [answer.out.index(name) for name in ("absent", "allocated", "drained", "free", "reserved")]
    assert positions == sorted(positions)
