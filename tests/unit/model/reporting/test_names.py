"""Names of providers as Placement's database compares them, which is without case on MariaDB."""

import dataclasses

from placement_traits import MANAGED, STATE_ABSENT
from tests.fixtures.builders import a_desired, a_tree, an_observed
from usb_provider.model.reporting.plan import CreateProvider, diff


def test_no_two_providers_get_names_that_mariadb_takes_for_the_same() -> None:
    absent = an_observed("1050:0407:abc", inventories={}, traits=(MANAGED, STATE_ABSENT))
    wanted = [a_desired(f"1050:0407:{serial}") for serial in ("ABC", "Abc", "abd", "abc")]
    plan = diff(a_tree(absent), wanted)
    created = {each.provider_uuid: each.name for each in plan.actions if isinstance(each, CreateProvider)}
    assert set(created) == {each.uuid for each in wanted[:3]}
    assert len({name.lower() for name in (*created.values(), absent.name)}) == 4
    assert created[wanted[2].uuid] == wanted[2].name, "the others keep their names"
    assert created[wanted[0].uuid] == f"{wanted[0].name}_{wanted[0].uuid[:8]}"


def test_a_name_that_is_made_different_is_no_longer_than_placement_takes() -> None:
    one, other = (dataclasses.replace(a_desired(key), name=name * 200) for key, name in (("a", "x"), ("b", "X")))
    created = [each.name for each in diff(a_tree(), [one, other]).actions if isinstance(each, CreateProvider)]
    assert [len(name) for name in created] == [200, 200]
    assert len({name.lower() for name in created}) == 2
