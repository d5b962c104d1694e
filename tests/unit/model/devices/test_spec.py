"""An operator's rules: what they match, and that every mistake is told at once, in a sentence."""

import json
import string
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fixtures.builders import a_device, a_spec
from tests.fixtures.hostile import any_text
from tests.fixtures.hostile_rules import rule_texts
from usb_provider.exception import ConfigError
from usb_provider.model.devices.device import Speed, UsbDevice
from usb_provider.model.devices.spec import (
    FORBIDDEN_TRAITS,
    DeviceSpec,
    IdentityMode,
    parse_specs,
)

words = st.sampled_from(["Key", "Stick", "*", "K*", "?ey", "[KS]*", "Kez"])
matchers = st.fixed_dictionaries(
    {},
    optional={
        "vendor_id": st.sampled_from(["1050", "0529"]),
        "product_id": st.sampled_from(["0407", "0001"]),
        "serial": st.sampled_from(["1", "2"]),
        "port": st.sampled_from(["2", "2.*", "2.4", "*", "?", "2.4*"]),
        "usb_class": st.sampled_from(["03", "0b"]),
        "product": words,
        "manufacturer": words,
        "speed": st.sampled_from([Speed.HIGH, Speed.SUPER]),
        "controller": st.sampled_from(["0000:00:14.0", "0000:00:1d.0"]),
    },
)
devices = st.builds(
    a_device,
    vendor_id=st.sampled_from(["1050", "0529"]),
    product_id=st.sampled_from(["0407", "0001"]),
    serial=st.sampled_from([None, "1", "2"]),
    port_path=st.sampled_from(["2", "2.4", "2.4.1", "3"]),
    interfaces=st.sampled_from([(), (("03", "01", "01"),), (("0b", "00", "00"), ("03", "00", "00"))]),
    product=st.sampled_from([None, "Key", "Stick", "K\nS"]),
    manufacturer=st.sampled_from([None, "Key", "Stick"]),
    speed=st.sampled_from([Speed.HIGH, Speed.SUPER, Speed.UNKNOWN]),
    controller=st.sampled_from(["0000:00:14.0", "0000:00:1d.0"]),
)


def parse(**entries: Any) -> DeviceSpec:
    (spec,) = parse_specs([json.dumps({key.replace("class_", "class"): value for key, value in entries.items()})])
    return spec


def problems(*texts: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parse_specs(texts)
    return caught.value.problems


def the_problem(text: str) -> str:
    (problem,) = problems(text)
    return problem


def test_a_rule_as_operators_write_it_is_read() -> None:
    assert parse_specs(
        [
            '{"vendor_id": "1050", "product_id": "0407", "resource_class": "CUSTOM_USB_KEY", '
            '"traits": ["CUSTOM_SITE_A", "site b"]}',
            '{"class": "mass-storage", "port": "4.*", "speed": "super", "identity": "port"}',
            '{"manufacturer": "SanDisk*", "product": "*", "serial": "AB12", "controller": "0000:00:14.0"}',
            '{"class": "0x03", "exclude": true}',
            '{"vendor_id": "0529", "live_migratable": false}',
        ]
    ) == (
        DeviceSpec(
            1,
            vendor_id="1050",
            product_id="0407",
            resource_class="CUSTOM_USB_KEY",
            traits=frozenset({"CUSTOM_SITE_A", "CUSTOM_SITE_B"}),
        ),
        DeviceSpec(2, usb_class="08", port="4.*", speed=Speed.SUPER, identity=IdentityMode.PORT),
        DeviceSpec(3, manufacturer="SanDisk*", product="*", serial="AB12", controller="0000:00:14.0"),
        DeviceSpec(4, usb_class="03", exclude=True),
        DeviceSpec(5, vendor_id="0529", live_migratable=False),
    )


def test_no_rules_are_no_mistake() -> None:
    assert parse_specs([]) == ()


def test_an_id_in_upper_case_matches_the_device_that_sysfs_shows_in_lower_case() -> None:
    assert parse(vendor_id="05AC").matches(a_device(vendor_id="05ac"))


def test_a_rule_matches_an_interface_class_as_well_as_the_device_class() -> None:
    rule = parse(class_="hid")
    assert rule.matches(a_device(interfaces=(("03", "01", "01"),)))
    assert rule.matches(a_device(device_class="03", interfaces=()))
    assert not rule.matches(a_device(device_class="ef", interfaces=(("0b", "00", "00"),)))


def test_a_fact_that_the_device_lacks_fits_no_matcher() -> None:
    bare = a_device(serial=None, product=None, manufacturer=None, controller=None)
    for rule in (parse(serial="1"), parse(product="*"), parse(manufacturer="*"), parse(controller="0000:00:14.0")):
        assert not rule.matches(bare)


def test_every_matcher_of_a_rule_has_to_fit() -> None:
    rule = parse(vendor_id="1050", port="2.*")
    assert rule.matches(a_device("1-2.4"))
    assert not rule.matches(a_device("1-2"))
    assert not rule.matches(a_device("1-2.4", vendor_id="0529"))


def test_a_port_star_takes_everything_below_a_hub_and_no_neighbour() -> None:
    rule = parse(port="2.*")
    assert [rule.matches(a_device(name)) for name in ("1-2.1", "3-2.4.1", "1-2", "1-12.1", "1-20")] == [
        True,
        True,
        False,
        False,
        False,
    ]


@given(st.lists(rule_texts, max_size=4))
@example(['{"vendor_id": %s}' % ("[" * 100_000)])
@example(['{"vendor_id": "1050", "traits": [%s]}' % ("[" * 989 + "]" * 989)])
@example(['{"vendor_id": NaN}', '{"vendor_id": 1e999}', "1" * 5000])
@example(['{"product": "\\ud800"}', '{"traits": ["\\udfff"]}', "\ud800"])
def test_whatever_is_written_is_either_read_or_answered_with_sentences(texts: list[str]) -> None:
    try:
        specs = parse_specs(texts)
    except ConfigError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.startswith("[usb]device_spec rule ")
            assert problem.isprintable()
            assert problem.endswith(".")
    else:
        assert [spec.number for spec in specs] == list(range(1, len(texts) + 1))
        for spec in specs:
            spec.matches(a_device(product="Key", manufacturer="K\ud800", serial="1"))


@pytest.mark.parametrize("depth", range(960, 1001))
def test_json_nested_as_deep_as_python_bears_is_a_mistake_like_others(depth: int) -> None:
    assert problems('{"vendor_id": "1050", "traits": [%s]}' % ("[" * depth + "]" * depth))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not valid JSON at character 1"),
        ("vendor_id=1050", "not valid JSON at character 1"),
        ('{"vendor_id": "1050"', "not valid JSON at character 21"),
        ('{"vendor_id": "1050"} {"vendor_id": "0529"}', "not valid JSON at character 23 (Extra data)"),
        ("{'vendor_id': '1050'}", "not valid JSON at character 2"),
        ('[{"vendor_id": "1050"}]', "not a JSON object"),
        ("null", "not a JSON object"),
        ('"1050"', "not a JSON object"),
        ('{"vendor_id": "1050", "adress": "1"}', 'unknown key "adress"'),
        ('{"vendor_id": "1050", "Product_id": "0407"}', 'unknown key "Product_id"'),
        ('{"vendor_id": 1050}', "vendor_id must be a string of four hex digits"),
        ('{"vendor_id": "0x1050"}', "vendor_id must be a string of four hex digits"),
        ('{"vendor_id": "105"}', "vendor_id must be a string of four hex digits"),
        ('{"vendor_id": "105g"}', "vendor_id must be a string of four hex digits"),
        ('{"vendor_id": "1050\\n"}', "vendor_id must be a string of four hex digits"),
        ('{"vendor_id": null}', "vendor_id must be a string of four hex digits"),
        ('{"vendor_id": "*"}', "vendor_id must be a string of four hex digits"),
        ('{"product_id": 407}', 'such as "0407", not 407'),
        ('{"serial": 12345}', "serial must be a non-empty string in double quotes, not 12345"),
        ('{"serial": ""}', "serial must be a non-empty string"),
        ('{"port": 2.4}', "port must be a non-empty string in double quotes, not 2.4"),
        ('{"product": ["Key"]}', "product must be a non-empty string"),
        ('{"manufacturer": {}}', "manufacturer must be a non-empty string"),
        ('{"controller": null}', "controller must be a non-empty string"),
        ('{"class": 3}', "class must be a non-empty string"),
        ('{"class": "keyboard"}', "class: 'keyboard' is not a USB class"),
        ('{"class": "100"}', "class: '100' is not a USB class"),
        ('{"speed": "warp"}', 'speed must be one of low, full, high, super, super-plus, not "warp"'),
        ('{"speed": "unknown"}', 'speed must be one of low, full, high, super, super-plus, not "unknown"'),
        ('{"speed": 480}', "speed must be one of"),
        ('{"speed": []}', "speed must be one of"),
        ('{"vendor_id": "1050", "identity": "uuid"}', "identity must be one of auto, serial, port"),
        ('{"vendor_id": "1050", "resource_class": "VCPU"}', "must start with CUSTOM_"),
        ('{"vendor_id": "1050", "resource_class": "CUSTOM_usb"}', "resource_class: "),
        ('{"vendor_id": "1050", "resource_class": "CUSTOM_"}', "nothing after its prefix"),
        ('{"vendor_id": "1050", "resource_class": ""}', "resource_class must be a non-empty string"),
        ('{"vendor_id": "1050", "resource_class": "CUSTOM_%s"}' % ("A" * 249), "at most 255"),
        ('{"vendor_id": "1050", "traits": "CUSTOM_A"}', "traits must be a list of strings"),
        ('{"vendor_id": "1050", "traits": null}', "traits must be a list of strings"),
        ('{"vendor_id": "1050", "traits": [1]}', "traits must be a list of strings, but one is 1"),
        ('{"vendor_id": "1050", "traits": ["!!!"]}', "no letter A-Z or digit is left"),
        ('{"vendor_id": "1050", "traits": [""]}', "no letter A-Z or digit is left"),
        ('{"vendor_id": "1050", "traits": ["%s"]}' % ("a" * 300), "at most 255"),
        ('{"vendor_id": "1050", "traits": ["CUSTOM_USB_MANAGED"]}', "usb-provider writes by itself"),
        ('{"vendor_id": "1050", "traits": ["custom_usb_state_absent"]}', "usb-provider writes by itself"),
        ('{"vendor_id": "1050", "traits": ["usb vendor 0529"]}', "usb-provider writes by itself"),
        ('{"vendor_id": "1050", "traits": ["OWNER_NOVA"]}', "means something else to OpenStack"),
        ('{"vendor_id": "1050", "exclude": "yes"}', 'exclude must be true or false, not "yes"'),
        ('{"vendor_id": "1050", "exclude": 1}', "exclude must be true or false, not 1"),
        ('{"vendor_id": "1050", "exclude": true, "traits": ["A"]}', "so there is no use for traits"),
        ('{"vendor_id": "1050", "live_migratable": "no"}', 'live_migratable must be true or false, not "no"'),
        ('{"vendor_id": "1050", "exclude": true, "live_migratable": false}', "so there is no use for live_migratable"),
        (
            '{"vendor_id": "1050", "exclude": true, "resource_class": "CUSTOM_A", "identity": "port"}',
            "so there is no use for resource_class and identity",
        ),
        ("{}", "no matcher, so it would match every device"),
        ('{"resource_class": "CUSTOM_USB_KEY"}', "no matcher, so it would match every device"),
        ('{"exclude": true}', "no matcher, so it would match every device"),
        ('{"vendor_id": "1050", "vendor_id": "0529"}', 'the key "vendor_id" is there twice'),
    ],
)
def test_a_mistake_is_answered_with_one_sentence_that_names_it(text: str, says: str) -> None:
    assert says in the_problem(text)


@pytest.mark.parametrize("trait", sorted(FORBIDDEN_TRAITS))
def test_the_marks_of_nova_and_cyborg_are_refused(trait: str) -> None:
    assert trait in the_problem(json.dumps({"vendor_id": "1050", "traits": [trait]}))


def test_a_standard_trait_is_kept_as_it_is() -> None:
    assert parse(vendor_id="1050", traits=["HW_CPU_X86_AVX"]).traits == {"HW_CPU_X86_AVX"}


@given(any_text)
def test_every_trait_that_a_rule_may_give_is_one_that_placement_takes(text: str) -> None:
    try:
        spec = parse(vendor_id="1050", traits=[text])
    except ConfigError:
        return
    (name,) = spec.traits
    assert set(name) <= set(string.ascii_uppercase + string.digits + "_")
    assert len(name) <= 255


def test_all_mistakes_of_all_rules_are_told_at_once() -> None:
    found = problems(
        '{"vendor_id": 1050, "product_id": "x", "colour": "red", "speed": "warp", "class": "keyboard", '
        '"resource_class": "VCPU", "traits": ["OWNER_NOVA", 7, "!"], "identity": "x", "exclude": "no"}',
        "{",
        '{"vendor_id": "1050"}',
        '{"serial": 5}',
        '{"vendor_id": "1050", "product_id": "0407"}',
    )
    counted = [sum(f"rule {number} " in problem[:24] for problem in found) for number in range(1, 6)]
    assert counted == [11, 1, 0, 1, 1]
    for word in ("vendor_id", "product_id", "colour", "speed", "class:", "resource_class", "identity", "exclude"):
        assert any(word in problem.partition("): ")[2] for problem in found)


def test_several_keys_that_are_there_twice_are_each_named() -> None:
    found = problems('{"port": "1", "port": "2", "serial": "a", "serial": "a", "vendor_id": "1050"}')
    assert len(found) == 2


def test_a_long_or_nasty_rule_is_quoted_short_and_on_one_line() -> None:
    problem = the_problem('{"serial": 5, \n"\x1b[31m": ' + '"x' * 1000)
    assert problem.isprintable()
    assert len(problem) < 300


def test_a_rule_that_an_earlier_one_hides_is_a_mistake() -> None:
    problem = problems('{"vendor_id": "1050"}', '{"vendor_id": "1050", "port": "2.4"}')[0]
    assert "rule 2 can never match: rule 1 comes first" in problem


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ('{"port": "2.*"}', '{"port": "2.4"}'),
        ('{"port": "*"}', '{"port": "2.*"}'),
        ('{"product": "*Key*"}', '{"product": "YubiKey", "vendor_id": "1050"}'),
        ('{"vendor_id": "05AC"}', '{"vendor_id": "05ac"}'),
        ('{"class": "hid"}', '{"class": "03", "exclude": true}'),
    ],
)
def test_a_rule_hides_a_narrower_one(first: str, second: str) -> None:
    assert "can never match" in the_problem_of(first, second)
    if first != second:
        assert len(parse_specs([second])) == 1


def the_problem_of(*texts: str) -> str:
    (problem,) = problems(*texts)
    return problem


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ('{"port": "2.4"}', '{"port": "2.*"}'),
        ('{"port": "2.*"}', '{"port": "2.4*"}'),
        ('{"vendor_id": "1050", "exclude": true, "port": "1"}', '{"vendor_id": "1050"}'),
        ('{"product": "*"}', '{"vendor_id": "1050"}'),
        ('{"vendor_id": "1050"}', '{"product_id": "0407"}'),
    ],
)
def test_a_narrower_rule_may_come_before_a_wider_one(first: str, second: str) -> None:
    assert len(parse_specs([first, second])) == 2


@given(matchers, matchers, devices)
@example({"product": "*"}, {}, a_device(product=None))
@example({"port": "2.4*"}, {"port": "2.4"}, a_device("1-2.4"))
def test_a_rule_that_hides_another_takes_all_that_it_would_take(
    wide: dict[str, Any], narrow: dict[str, Any], device: UsbDevice
) -> None:
    first, later = a_spec(1, **wide), a_spec(2, **narrow)
    if first.leaves_nothing_for(later) and later.matches(device):
        assert first.matches(device)


@given(matchers)
def test_a_rule_hides_itself_and_what_adds_a_matcher_to_it(facts: dict[str, Any]) -> None:
    assert a_spec(**facts).leaves_nothing_for(a_spec(**facts))
    assert a_spec(**facts).leaves_nothing_for(a_spec(**({"serial": "9"} | facts)))
    assert a_spec().leaves_nothing_for(a_spec(**facts))


@given(any_text, any_text)
def test_any_glob_can_be_tried_on_any_word(pattern: str, word: str) -> None:
    a_spec(product=pattern).matches(a_device(product=word))
    a_spec(product=pattern).leaves_nothing_for(a_spec(product=word))
