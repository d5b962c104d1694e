"""``openstack usb flavor …`` on a real Placement: what it writes, where it would schedule, and why it would not."""

import os_traits
import pytest

from placement_traits import STATE_DRAINED
from tests.fixtures.openstack import KEY, Answer, Cloud, named
from usb_provider.osc.model.flavor import extra_specs_for

SOUND_MODEL_USB = "COMPUTE_SOUND_MODEL_USB"
GOOD = {"hw:usb_model": "qemu-xhci"}
ONE = {f"resources:{KEY}": "1", **GOOD}


def checked(cloud: Cloud, specs: dict[str, str], *words: str) -> Answer:
    """The answer to ``flavor check`` of a flavor with these extra specs."""
    cloud.nova.flavor("usb", **{key.replace(":", "__"): value for key, value in specs.items()})
    return cloud.openstack("usb", "flavor", "check", "usb", "-f", "json", *words)


def test_a_flavor_is_written_so_that_a_check_finds_nothing_wrong_with_it(cloud: Cloud, root: str) -> None:
    cloud.device(root, "one")
    cloud.device(root, "two")
    words = ("--class", "key", "--count", "2", "--trait", "CUSTOM_USB_VENDOR_1050", "--trait", "!CUSTOM_USB_SPEED_FULL")
    made = cloud.openstack("usb", "flavor", "create", "usb-two-keys", *words, "--ram", "512", "-f", "json").json
    assert made == {
        "id": named("usb-two-keys"),
        "name": "usb-two-keys",
        "vcpus": 1,
        "ram": 512,
        "disk": 0,
        "properties": extra_specs_for(KEY, 2, {"CUSTOM_USB_VENDOR_1050"}, {"CUSTOM_USB_SPEED_FULL"}),
    }
    assert cloud.nova.flavors[0]["extra_specs"] == made["properties"]
    assert cloud.requests() == 2
    assert cloud.openstack("usb", "flavor", "check", "usb-two-keys", "-f", "json").json["traps"] == []


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--class", "MODEM"), "Placement has no resource class CUSTOM_USB_MODEM;"),
        (("--class", "KEY", "--trait", "CUSTOM_NEVER"), "Placement has no trait CUSTOM_NEVER; "),
        (("--class", "KEY", "--trait", "never"), "'never'"),
        (("--class", "KEY", "--count", "0"), "--count is 0; a controller takes 1 to 15 devices."),
        (
            ("--class", "KEY", "--trait", "CUSTOM_A", "--trait", "!CUSTOM_A"),
            "--trait has CUSTOM_A with and without a !.",
        ),
    ],
)
def test_a_flavor_that_could_never_be_met_is_not_written(
    cloud: Cloud, root: str, words: tuple[str, ...], complaint: str
) -> None:
    cloud.device(root)
    answer = cloud.openstack("usb", "flavor", "create", "usb", *words)
    assert (answer.code, cloud.nova.flavors) == (1, [])
    assert complaint in answer.err


def test_a_flavor_whose_extra_specs_nova_refuses_is_not_left_behind_without_them(cloud: Cloud, root: str) -> None:
    cloud.device(root)
    cloud.nova.refuse = {"extra_specs": 403}
    answer = cloud.openstack("usb", "flavor", "create", "usb", "--class", "KEY")
    assert "Nova answers 403 to POST /v2.1/flavors/" in answer.err
    assert cloud.nova.flavors == []


def test_a_name_that_is_taken_is_said_in_novas_words(cloud: Cloud, root: str) -> None:
    cloud.device(root)
    cloud.nova.flavor("usb")
    answer = cloud.openstack("usb", "flavor", "create", "usb", "--class", "KEY")
    assert answer.err == "Nova answers 409 to POST /v2.1/flavors: Flavor already exists.\n"


def test_a_flavor_that_can_be_scheduled_is_shown_with_the_hosts(cloud: Cloud, root: str) -> None:
    cloud.device(root, "one")
    cloud.device(root, "two")
    cloud.device(cloud.host("compute2"), "three", host="compute2")
    cloud.host("compute3")
    answer = checked(cloud, ONE)
    assert answer.json == {
        "flavor": "usb",
        "image": "not checked: name one with --image",
        "schedulable": True,
        "hosts": ["compute1", "compute2"],
        "removed_by": None,
        "reason": None,
        "traps": [],
    }
    assert answer.code == 0
    assert cloud.requests() == 5


def test_the_group_that_leaves_no_host_is_named_with_who_holds_what_it_asks_for(cloud: Cloud, root: str) -> None:
    cloud.placement.allocate(cloud.nova.server("vm1"), {cloud.device(root, "one"): {KEY: 1}})
    two = cloud.host("compute2")
    cloud.placement.allocate(cloud.nova.server("vm2"), {cloud.device(two, "two", host="compute2"): {KEY: 1}})
    three = cloud.host("compute3")
    cloud.device(three, "three", host="compute3", traits={STATE_DRAINED}, reserved=1)
    answer = checked(cloud, ONE)
    found = answer.json
    assert (found["schedulable"], found["hosts"], answer.code) == (False, [], 1)
    assert found["removed_by"] == "group without a suffix (CUSTOM_USB_KEY=1)"
    assert found["reason"] == (
        "3 hosts have a CUSTOM_USB_KEY; 0 of 3 free (1 drained, 2 allocated). Held by server vm1, server vm2."
    )


def test_a_trait_that_no_device_has_is_the_reason_and_not_the_class(cloud: Cloud, root: str) -> None:
    cloud.device(root)
    cloud.placement.api.must("PUT", "/traits/CUSTOM_HASP")
    specs = {f"resources_A:{KEY}": "1", "trait_A:CUSTOM_HASP": "required", **GOOD}
    found = checked(cloud, specs).json
    assert found["removed_by"] == "group _A (CUSTOM_USB_KEY=1, CUSTOM_HASP)"
    assert found["reason"] == "1 host has a CUSTOM_USB_KEY, but none has the traits that the group asks for."


def test_of_two_groups_the_one_that_is_too_many_is_named(cloud: Cloud, root: str) -> None:
    cloud.device(root, "one")
    cloud.device(cloud.host("compute2"), "two", host="compute2")
    found = checked(cloud, extra_specs_for(KEY, 2)).json
    assert found["removed_by"] == "group _USB2 (CUSTOM_USB_KEY=1)"
    assert "No host has as many of them free as all groups together ask for." in found["reason"]


def test_a_host_that_is_full_or_disabled_does_not_count_though_its_device_is_free(cloud: Cloud, root: str) -> None:
    cloud.device(root)
    cloud.host("compute2")
    cloud.placement.allocate(named("big"), {root: {"MEMORY_MB": 65536 - 512}})
    found = checked(cloud, ONE).json
    assert found["reason"] == (
        "1 host has a CUSTOM_USB_KEY; 1 of 1 free. Some are free on compute1, but the rest of the flavor does not fit "
        "there."
    )
    cloud.placement.release(named("big"))
    cloud.operator.add_traits(root, "COMPUTE_STATUS_DISABLED")
    assert not cloud.openstack("usb", "flavor", "check", "usb", "-f", "json").json["schedulable"]


def test_a_cloud_without_room_is_not_blamed_on_the_devices(cloud: Cloud, root: str) -> None:
    cloud.device(root)
    cloud.placement.allocate(named("big"), {root: {"VCPU": 64}})
    found = checked(cloud, ONE).json
    assert found["removed_by"] == "the host's own part, group without a suffix (MEMORY_MB=256, VCPU=1)"
    assert found["reason"] == "No enabled host has enough left of what the flavor needs beside USB devices."


@pytest.mark.parametrize(
    ("specs", "where", "schedulable"),
    [
        ({f"resources:{KEY}": "2", **GOOD}, f"resources:{KEY}", False),
        ({f"resources_USB.1:{KEY}": "1", **ONE}, f"resources_USB.1:{KEY}", True),
        ({f"resources_A:{KEY}": "0", **ONE}, f"resources_A:{KEY}", True),
        ({"trait:CUSTOM_USB_VENDOR_1050": "required", **ONE}, "trait:CUSTOM_USB_VENDOR_1050", True),
        ({f"resources_A:{KEY}": "1", f"resources_B:{KEY}": "1", **GOOD}, "group_policy", False),
        ({f"resources:{KEY}": "1"}, "hw:usb_model", True),
        ({"resources_A:CUSTOM_USB_NEVER": "1", **ONE}, "resources_A:CUSTOM_USB_NEVER", False),
        ({"trait:CUSTOM_NEVER": "required", **ONE}, "trait:CUSTOM_NEVER", False),
    ],
)
def test_every_trap_is_caught_and_ends_with_1(
    cloud: Cloud, root: str, specs: dict[str, str], where: str, schedulable: bool
) -> None:
    cloud.device(root, "one")
    cloud.device(root, "two")
    answer = checked(cloud, specs)
    assert [trap["where"] for trap in answer.json["traps"]] == [where]
    assert (answer.json["schedulable"], answer.code) == (schedulable, 1)


@pytest.mark.parametrize(
    ("properties", "where", "code"),
    [
        ({"hw_input_bus": "virtio"}, [], 0),
        ({}, ["hw_input_bus"], 0),
        ({"hw_input_bus": "usb"}, ["hw_input_bus"], 1),
    ],
)
def test_an_image_that_takes_the_usb_controller_away_is_caught(
    cloud: Cloud, root: str, properties: dict[str, str], where: list[str], code: int
) -> None:
    cloud.device(root)
    image = {"id": named("image"), "name": "debian", "size": 5, **properties}
    cloud.nova.images.append(image)
    cloud.nova.flavor("usb", **{key.replace(":", "__"): value for key, value in ONE.items()})
    for name in ("debian", named("image")):
        answer = cloud.openstack("usb", "flavor", "check", "usb", "--image", name, "-f", "json")
        assert ([trap["where"] for trap in answer.json["traps"]], answer.code) == (where, code)
        assert answer.json["image"] == name


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("nothing",), "Nova has no flavor nothing;"),
        (("usb", "--image", "nothing"), "Glance has no image nothing;"),
        (("usb", "--image", "twice"), "Glance has several images twice;"),
    ],
)
def test_a_flavor_or_image_that_is_not_there_is_named(cloud: Cloud, words: tuple[str, ...], complaint: str) -> None:
    cloud.nova.flavor("usb")
    cloud.nova.images = [{"id": named(text), "name": "twice"} for text in ("a", "b")]
    answer = cloud.openstack("usb", "flavor", "check", *words)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith(complaint)


def test_a_flavor_by_its_name_is_found_on_any_page(cloud: Cloud, root: str) -> None:
    cloud.device(root)
    cloud.nova.page = 2
    for number in range(5):
        cloud.nova.flavor(f"other{number}")
    assert checked(cloud, ONE).json["schedulable"]


@pytest.mark.parametrize(
    ("newest", "has_sound_models", "old"),
    [
        *(("2.95", False, True), ("2.100", False, True), ("2.104", False, False)),
        # The Placement of a release that is older than the trait does not have it.
        *([("2.100", True, False)] if SOUND_MODEL_USB in os_traits.get_traits() else []),
    ],
)
def test_the_check_speaks_of_the_nova_that_is_there(
    cloud: Cloud, root: str, newest: str, *, has_sound_models: bool, old: bool
) -> None:
    # Nova 31 and 32 have the same API; only the newer one's computes have the trait.
    cloud.device(root)
    cloud.nova.newest = newest
    if has_sound_models:
        cloud.operator.add_traits(root, SOUND_MODEL_USB)
    traps = checked(cloud, ONE).json["traps"]
    assert [trap["where"] for trap in traps] == (["hw:usb_model"] if old else [])
    assert all("Nova before 32 ignores it" in trap["text"] for trap in traps)
