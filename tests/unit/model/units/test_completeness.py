"""When a bundle is complete: before a server holds it the rules say so, and afterwards what the server had."""

from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures.builders import KEY
from usb_provider.model.devices.spec import DeviceSpec
from usb_provider.model.units.completeness import Part, lacks
from usb_provider.model.units.sharing import Share

DESK = "bundle_desk"
KEYS = [f"k{number}" for number in range(1, 7)]
RULES = (
    DeviceSpec(1, port="1", resource_class=KEY, bundle="desk"),
    DeviceSpec(2, port="2", resource_class=KEY, bundle="desk", at_least=2),
    DeviceSpec(3, port="3", resource_class=KEY, bundle="other"),
)

parts_of = st.lists(
    st.builds(Part, st.sampled_from(KEYS), st.sampled_from([1, 2, None])), unique_by=lambda part: part.key
)
keys_of = st.frozensets(st.sampled_from(KEYS))


def _had(keys):
    """The shares where the server had *keys* of the bundle, and another server has the rest otherwise."""
    return {key: Share(DESK, "a") if key in keys else Share("pool_p", "b") for key in KEYS}


def _has_enough(parts):
    return sum(each.rule == 1 for each in parts) >= 1 and sum(each.rule == 2 for each in parts) >= 2


@given(parts_of)
def test_a_free_bundle_is_complete_when_each_of_its_rules_has_its_devices(parts):
    assert (lacks(DESK, parts, RULES, _had(())) is None) == _has_enough(parts)


@given(parts_of, keys_of, st.lists(st.sampled_from(RULES)))
def test_a_held_bundle_with_all_that_its_server_had_is_complete_whatever_the_rules_say_now(parts, had, rules):
    had |= {"k1"}
    parts = [*parts, *(Part(key, None) for key in had - {each.key for each in parts})]
    assert lacks(DESK, parts, rules, _had(had)) is None


@given(parts_of, keys_of)
def test_a_device_that_a_server_had_is_missed_unless_the_rules_have_as_many_others(parts, had):
    had |= {"k1"}
    parts = [each for each in parts if each.key != "k1"]
    why = lacks(DESK, parts, RULES, _had(had))
    assert (why is None) == (len(parts) >= len(had) and _has_enough(parts))
    if len(parts) < len(had):
        assert all(key in (why or "") for key in had - {each.key for each in parts})


@given(parts_of, keys_of, st.sampled_from(KEYS))
def test_one_device_that_cannot_be_attached_keeps_the_whole_bundle_back_and_is_named(parts, had, key):
    bad = Part(key, 1, "Never offered: it is mounted.")
    parts = [each for each in parts if each.key != key]
    assert lacks(DESK, [*parts, bad], RULES, _had(had)) == (
        f"its bundle desk cannot have {key} (Never offered: it is mounted)"
    )
