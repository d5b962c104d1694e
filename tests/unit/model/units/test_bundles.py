"""Which devices of a bundle a consumer has: all that are there, and those that it had until others replace them."""

from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures.builders import KEY, ROOT, a_device, a_tree, an_observed
from usb_provider.model.devices.spec import DeviceSpec
from usb_provider.model.reporting.provider import assess
from usb_provider.model.units.bundles import bundles_of
from usb_provider.model.units.sharing import Share

DESK = "bundle_desk"
PORTS = [f"1-{number}" for number in range(1, 5)]
RULES = (DeviceSpec(1, port="[1234]", resource_class=KEY, bundle="desk", at_least=2),)

plugged_in = st.lists(st.sampled_from(PORTS), unique=True)
had_before = st.frozensets(st.sampled_from(PORTS))


def key_of(port):
    return f"1050:0407@0000:00:14.0-{port[2:]}"


def a_bundle(ports, *, held=True, had=()):
    """The bundle with devices in *ports*, whose consumer, if it is *held*, had those in *had*."""
    provider = an_observed(DESK, held=[KEY] if held else [])
    shares = {key_of(port): Share(DESK, "guest") for port in had}
    devices = assess([a_device(port) for port in ports], RULES, root=ROOT, shares=shares)
    (bundle,) = bundles_of(a_tree(provider), devices)
    return bundle, bundle.shared(shares)


@given(plugged_in, had_before)
def test_a_bundle_that_no_consumer_holds_belongs_to_none(ports, had):
    _, shares = a_bundle(ports, held=False, had=had)
    assert shares == {}


@given(plugged_in, had_before)
def test_one_consumer_has_all_and_loses_none_until_others_replace_it(ports, had):
    bundle, shares = a_bundle(ports, had=had)
    assert set(shares.values()) <= bundle.consumers
    plugged, before = {key_of(port) for port in ports}, {key_of(port) for port in had}
    assert before & plugged <= shares.keys() <= before | plugged
    if before - shares.keys():
        assert len(plugged) >= max(2, len(before))
        assert all(each.offered for each in bundle.members)


@given(plugged_in, had_before)
def test_what_was_decided_once_stays_decided(ports, had):
    _, first = a_bundle(ports, had=had)
    _, again = a_bundle(ports, had=[port for port in PORTS if key_of(port) in first])
    assert again.keys() == first.keys()


@given(plugged_in, st.booleans(), had_before)
def test_it_has_one_unit_exactly_while_all_its_devices_can_be_attached(ports, held, had):
    bundle, _ = a_bundle(ports, held=held, had=had if held else ())
    wanted = bundle.desired()
    assert (wanted is not None) == (bool(bundle.members) and all(each.offered for each in bundle.members))
    if wanted is not None:
        assert wanted.units == 1
        assert wanted.traits == frozenset.union(*(each.traits for each in bundle.members))
