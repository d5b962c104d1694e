"""What rules may say about pools and bundles, and the sentence for each mistake."""

import json

import pytest

from usb_provider.exception import ConfigError
from usb_provider.model.devices.spec import parse_specs

KEY = "CUSTOM_USB_KEY"
DONGLE = {"vendor_id": "0529", "resource_class": KEY}


def rules(*words):
    return parse_specs([json.dumps(each) for each in words])


def problem(*words):
    """The only thing that is wrong with the rules."""
    with pytest.raises(ConfigError) as caught:
        rules(*words)
    (text,) = caught.value.problems
    return text


def test_a_rule_puts_devices_into_a_pool_or_a_bundle():
    pooled, drained, bundled, plain = rules(
        DONGLE | {"pool": "hasp"},
        DONGLE | {"vendor_id": "0530", "pool": "hasp", "drain": True},
        DONGLE | {"vendor_id": "0531", "bundle": "desk", "at_least": 2},
        {"vendor_id": "0532"},
    )
    assert [each.group for each in (pooled, drained, bundled, plain)] == ["pool_hasp", "pool_hasp", "bundle_desk", None]
    assert (pooled.drain, drained.drain) == (False, True)
    assert (pooled.at_least, bundled.at_least) == (1, 2)


@pytest.mark.parametrize("name", ["Hasp", "_x", "a b", "x" * 41, "ü"])
@pytest.mark.parametrize("what", ["pool", "bundle"])
def test_a_name_that_placement_or_mariadb_would_not_keep_apart_is_refused(what, name):
    assert f"{what} must be a name of 1 to 40 lower-case letters" in problem(DONGLE | {what: name})


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"vendor_id": "0529", "pool": "hasp"}, "pool needs resource_class"),
        ({"vendor_id": "0529", "bundle": "desk"}, "bundle needs resource_class"),
        (DONGLE | {"pool": "a", "bundle": "a"}, "remove pool or bundle"),
        (DONGLE | {"drain": True}, "drain needs pool"),
        (DONGLE | {"at_least": 2}, "at_least needs bundle"),
        (DONGLE | {"bundle": "desk", "at_least": 0}, "at_least must be a number from 1 to 127"),
        (DONGLE | {"bundle": "desk", "at_least": "2"}, "at_least must be a number from 1 to 127"),
        (DONGLE | {"bundle": "desk", "at_least": True}, "at_least must be a number from 1 to 127"),
        (DONGLE | {"pool": 7}, "pool must be a non-empty string"),
    ],
)
def test_each_mistake_has_its_sentence(rule, said):
    assert said in problem(rule)


@pytest.mark.parametrize("what", ["pool", "bundle"])
def test_all_members_have_one_class(what):
    said = problem(DONGLE | {what: "x"}, {"vendor_id": "0530", "resource_class": "CUSTOM_USB_OTHER", what: "x"})
    assert f"rule 2 gives the {what} x the resource class CUSTOM_USB_OTHER, and rule 1 gives it {KEY}" in said
    assert said.endswith(f"or another {what}.")


def test_a_pool_and_a_bundle_of_one_name_are_two_things():
    other = {"vendor_id": "0530", "resource_class": "CUSTOM_USB_OTHER", "bundle": "x"}
    assert [each.group for each in rules(DONGLE | {"pool": "x"}, other)] == ["pool_x", "bundle_x"]
