"""Which provider is the compute node's, waiting for it, and starting over when it goes or becomes another."""

import uuid

import pytest

from tests.fixtures.placement import assert_usb_view
from tests.fixtures.reporting import KEY, KEY_NAME, KEY_UUID, ROOT_UUID, consumer, keys, row, uuid_of, yubikey
from usb_provider.exception import ConfigError, RootMissing
from usb_provider.placement.root import RootHints

NEW_UUID = "0b6a41de-6a0f-4a55-b0fd-6f2b4f2f7c5e"


@pytest.fixture
def compute_id(tmp_path):
    """Where nova would write the compute node's UUID; not there yet."""
    return tmp_path / "compute_id"


def start_with(host, **hints):
    """Restart the agent of *host* with these hints alone; the key is plugged in."""
    host.hints = RootHints(**hints)
    host.restart()
    host.plug(yubikey())


# Finding it


def test_it_is_found_by_the_configured_uuid_whatever_it_is_called(placement, host, root, compute_id):
    compute_id.write_text(NEW_UUID)
    start_with(host, uuid=ROOT_UUID.upper(), compute_id_file=compute_id, name="other", hostnames=("other",))
    assert host.run().root.name == "host1"
    assert_usb_view(placement, root, {KEY_NAME: row()})


def test_it_is_found_by_novas_compute_id_file_before_any_name(placement, host, root, compute_id):
    placement.create_root("other")
    compute_id.write_text(f"{ROOT_UUID}\n")
    start_with(host, compute_id_file=compute_id, name="other", hostnames=("other",))
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row()})


def test_it_is_found_by_the_configured_name_before_the_hosts_own(placement, host, root, compute_id):
    placement.create_root("other")
    start_with(host, compute_id_file=compute_id, name="host1", hostnames=("other",))
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row()})


def test_it_is_found_by_the_first_of_the_hosts_names_that_placement_knows(placement, host, root):
    start_with(host, hostnames=("host1.example.org", "host1"))
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row()})


def test_the_name_of_the_root_goes_into_the_names_whatever_the_host_is_called(placement, host, operator):
    other = placement.create_root("node-7.example.org", NEW_UUID)
    start_with(host, uuid=NEW_UUID)
    host.run()
    assert_usb_view(placement, other, {f"node-7.example.org_usb_{KEY}": row()})
    assert placement.providers(other)[f"node-7.example.org_usb_{KEY}"]["uuid"] == uuid_of(KEY, NEW_UUID)


# It is not there


@pytest.mark.parametrize(
    ("hints", "named"),
    [
        ({"uuid": NEW_UUID}, NEW_UUID),
        ({"name": "nobody"}, "nobody"),
        ({"hostnames": ("nobody.example.org", "nobody")}, "nobody.example.org or nobody"),
    ],
)
def test_while_it_is_missing_we_wait_and_never_make_it(placement, host, root, hints, named):
    start_with(host, **hints)
    before = placement.api.must("GET", "/resource_providers")
    for _ in range(2):
        with pytest.raises(RootMissing, match=named):
            host.run()
        assert host.writes() == []
    assert placement.api.must("GET", "/resource_providers") == before


def test_a_compute_id_that_placement_does_not_have_yet_is_waited_for_and_no_name_is_tried(
    placement, host, root, compute_id
):
    compute_id.write_text(NEW_UUID)
    start_with(host, compute_id_file=compute_id, name="host1", hostnames=("host1",))
    with pytest.raises(RootMissing, match=f"{NEW_UUID}.*{compute_id}"):
        host.run()
    placement.create_root("host1b", NEW_UUID)
    host.run()
    assert_usb_view(placement, NEW_UUID, {f"host1b_usb_{KEY}": row()})
    assert_usb_view(placement, root, {})


def test_when_it_appears_the_next_pass_reports(placement, host, root):
    start_with(host, name="late")
    with pytest.raises(RootMissing):
        host.run()
    late = placement.create_root("late")
    host.run()
    assert_usb_view(placement, late, {f"late_usb_{KEY}": row()})


def test_a_nested_provider_is_not_taken_for_a_root(placement, host, root, operator):
    child = operator.create("host1_child", root)
    for hints in ({"uuid": child}, {"name": "host1_child"}):
        start_with(host, **hints)
        with pytest.raises(RootMissing):
            host.run()
    assert_usb_view(placement, root, {"host1_child": {}})


@pytest.mark.parametrize("text", ["", "not a uuid", "\x00\xff"])
def test_a_compute_id_file_without_a_uuid_is_a_mistake_to_mend(placement, host, root, compute_id, text):
    compute_id.write_text(text, encoding="latin-1")
    start_with(host, compute_id_file=compute_id, hostnames=("host1",))
    with pytest.raises(ConfigError, match=r"compute_id_file.*holds no UUID"):
        host.run()
    assert placement.requests == []


# It goes, or becomes another


BOTH = {KEY_NAME: row(), "host1_usb_1050:0407:Y2": row()}


def delete_tree(placement, operator, root):
    """Delete a whole tree, leaves first."""
    operator.delete(*(p["uuid"] for p in placement.providers(root).values() if p["uuid"] != root), root)


@pytest.mark.parametrize("seen_gone", [False, True], ids=["unnoticed", "noticed"])
@pytest.mark.parametrize("new", [ROOT_UUID, NEW_UUID], ids=["same UUID", "new UUID"])
def test_deleted_with_its_tree_and_made_again_it_has_its_devices_again(placement, host, operator, new, seen_gone):
    host.plug(*keys(2))
    host.run()
    delete_tree(placement, operator, ROOT_UUID)
    if seen_gone:
        with pytest.raises(RootMissing):
            host.run()
    placement.create_root("host1", new)
    try:
        host.run()
    except RootMissing:
        assert not seen_gone
        host.run()
    assert_usb_view(placement, new, BOTH)
    assert placement.providers(new)[KEY_NAME]["uuid"] == uuid_of(KEY, new)
    assert host.run().actions == ()


def test_deleted_in_the_middle_of_a_pass_it_is_missing(placement, host, root, operator):
    host.plug(yubikey())
    placement.before("^POST /resource_providers$", lambda: operator.delete(root))
    with pytest.raises(RootMissing):
        host.run()
    assert placement.api.must("GET", "/resource_providers") == {"resource_providers": []}


def test_a_changed_compute_id_makes_us_start_over_below_the_new_root(placement, host, root, compute_id):
    compute_id.write_text(ROOT_UUID)
    start_with(host, compute_id_file=compute_id)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row()})
    placement.create_root("host1-reinstalled", NEW_UUID)
    compute_id.write_text(NEW_UUID)
    host.run()
    assert_usb_view(placement, NEW_UUID, {f"host1-reinstalled_usb_{KEY}": row()})
    assert host.run().actions == ()


def test_a_compute_id_file_that_appears_later_decides_from_then_on(placement, host, root, compute_id):
    start_with(host, compute_id_file=compute_id, hostnames=("host1",))
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row()})
    compute_id.write_text(ROOT_UUID)
    assert host.run().actions == ()
    placement.create_root("host1b", NEW_UUID)
    compute_id.write_text(NEW_UUID)
    host.run()
    assert_usb_view(placement, NEW_UUID, {f"host1b_usb_{KEY}": row()})


def test_a_compute_id_file_that_vanishes_changes_nothing_while_we_run(placement, host, root, compute_id):
    compute_id.write_text(ROOT_UUID)
    start_with(host, compute_id_file=compute_id, hostnames=("other",))
    host.run()
    compute_id.unlink()
    assert host.run().actions == ()
    assert_usb_view(placement, root, {KEY_NAME: row()})


def test_two_hosts_with_the_very_same_devices_do_not_meet(placement, host, root):
    host.plug(*keys(2))
    host.run()
    placement.allocate(consumer(), {KEY_UUID: {"CUSTOM_USB_KEY": 1}})
    other = placement.create_root("host2", str(uuid.uuid4()))
    start_with(host, hostnames=("host2",))
    host.run()
    assert_usb_view(placement, root, BOTH | {KEY_NAME: row(used=1)})
    assert sorted(placement.providers(other)) == ["host2", "host2_usb_1050:0407:Y1", "host2_usb_1050:0407:Y2"]
    assert placement.used(uuid_of(KEY, other)) == 0
