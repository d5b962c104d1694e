"""The two small files in state_dir: traits that rules have given, and what was seen where."""

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fixtures.builders import a_device
from tests.fixtures.hostile import serials
from usb_provider.agent.store import POOLS, RULE_TRAITS, SIGHTINGS, StateStore
from usb_provider.model.devices.held import Sighting
from usb_provider.model.devices.place import Place
from usb_provider.model.devices.sightings import Sightings
from usb_provider.model.units.sharing import PoolMemory, Share

SEEN = Sightings({"a": Sighting.of(a_device())})


def texts(store: StateStore) -> list[str]:
    return [note.text for note in store.take_notes()]


def test_nothing_is_known_before_anything_was_kept(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "not" / "yet")
    assert store.rule_traits() == frozenset()
    assert store.sightings() == Sightings()
    assert texts(store) == []
    assert not (tmp_path / "not").exists()


# Traits that rules have given


def test_what_rules_gave_is_known_to_the_next_process(tmp_path: Path) -> None:
    StateStore(tmp_path / "state").remember_rule_traits({"CUSTOM_B", "CUSTOM_A"})
    StateStore(tmp_path / "state").remember_rule_traits({"CUSTOM_C"})
    assert StateStore(tmp_path / "state").rule_traits() == {"CUSTOM_A", "CUSTOM_B", "CUSTOM_C"}
    assert (tmp_path / "state" / RULE_TRAITS).read_text() == '["CUSTOM_A", "CUSTOM_B", "CUSTOM_C"]'


def test_what_is_forgotten_is_forgotten_by_this_process_and_the_next(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    store.remember_rule_traits({"CUSTOM_A", "CUSTOM_B"})
    store.forget_rule_traits(but={"CUSTOM_B", "CUSTOM_C"})
    assert store.rule_traits() == StateStore(tmp_path).rule_traits() == {"CUSTOM_B"}


def test_what_another_process_keeps_is_known_at_the_next_look(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    store.remember_rule_traits({"CUSTOM_A"})
    StateStore(tmp_path).remember_rule_traits({"CUSTOM_B"})
    assert store.rule_traits() == {"CUSTOM_A", "CUSTOM_B"}


@given(st.lists(st.frozensets(st.text(max_size=20), max_size=3), min_size=1, max_size=3))
def test_all_that_was_given_is_kept_and_leaves_one_file(
    tmp_path_factory: pytest.TempPathFactory, given_names: list[frozenset[str]]
) -> None:
    directory = tmp_path_factory.mktemp("state")
    store = StateStore(directory)
    for names in given_names:
        store.remember_rule_traits(names)
    everything = frozenset().union(*given_names)
    assert StateStore(directory).rule_traits() == everything
    assert os.listdir(directory) == ([RULE_TRAITS] if everything else [])


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"null", b'"CUSTOM_A"', b"[1]", b'["CUSTOM_A"', b"\xff\xfe", b"[" * 100_000, b"1" * 5000]
)
def test_a_file_that_is_not_a_list_of_names_is_said_and_not_overwritten(tmp_path: Path, content: bytes) -> None:
    (tmp_path / RULE_TRAITS).write_bytes(content)
    store = StateStore(tmp_path)
    store.remember_rule_traits({"CUSTOM_A"})
    assert store.rule_traits() == {"CUSTOM_A"}
    store.forget_rule_traits(but=())
    assert store.rule_traits() == {"CUSTOM_A"}
    assert (tmp_path / RULE_TRAITS).read_bytes() == content
    [text] = texts(store)
    assert text.startswith(f"{tmp_path / RULE_TRAITS} is not a list of trait names; repair it, or delete it")


@pytest.mark.parametrize("is_repaired", [True, False], ids=["repaired", "deleted"])
def test_once_it_is_repaired_or_deleted_it_is_written_again(tmp_path: Path, is_repaired: bool) -> None:
    path = tmp_path / RULE_TRAITS
    path.write_text('["CUSTOM_B"')
    store = StateStore(tmp_path)
    store.remember_rule_traits({"CUSTOM_A"})
    path.write_text('["CUSTOM_B"]') if is_repaired else path.unlink()
    store.remember_rule_traits({"CUSTOM_A"})
    assert json.loads(path.read_text()) == (["CUSTOM_A", "CUSTOM_B"] if is_repaired else ["CUSTOM_A"])
    assert texts(store) == []


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / RULE_TRAITS).mkdir()
    store = StateStore(tmp_path)
    assert store.rule_traits() == frozenset()
    [text] = texts(store)
    assert text.startswith(f"{tmp_path / RULE_TRAITS} cannot be read (it is no regular file); let the agent's user")


# What was seen where


def test_sightings_are_known_to_the_next_process(tmp_path: Path) -> None:
    StateStore(tmp_path / "state").remember_sightings(SEEN)
    assert StateStore(tmp_path / "state").sightings() == SEEN


@given(serials)
@example("\ud800\udc00")
def test_whatever_serial_number_a_device_sends_is_the_same_to_the_next_process(
    tmp_path_factory: pytest.TempPathFactory, serial: str | None
) -> None:
    directory = tmp_path_factory.mktemp("state")
    seen = Sightings({"a": Sighting(Place("0000:00:14.0", "1"), "/sys/a", "1050:0407", serial)})
    StateStore(directory).remember_sightings(seen)
    assert StateStore(directory).sightings() == seen


def test_sightings_that_are_stored_already_are_not_written_again(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    store.remember_sightings(SEEN)
    before = (tmp_path / SIGHTINGS).stat()
    store.remember_sightings(SEEN)
    later = StateStore(tmp_path)
    later.remember_sightings(later.sightings())
    assert (tmp_path / SIGHTINGS).stat() == before


def test_sightings_that_another_process_replaced_or_removed_are_written_again(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    store.remember_sightings(SEEN)
    StateStore(tmp_path).remember_sightings(Sightings({"b": SEEN.by_key["a"]}))
    store.remember_sightings(SEEN)
    assert StateStore(tmp_path).sightings() == SEEN
    (tmp_path / SIGHTINGS).unlink()
    store.remember_sightings(SEEN)
    assert StateStore(tmp_path).sightings() == SEEN


def test_members_of_pools_that_another_process_wrote_or_removed_are_written_again_as_the_agent_knows_them(
    tmp_path: Path,
) -> None:
    mine = PoolMemory({"a": Share("pool_hasp", "vm")}, {"a": "pool_hasp", "b": "pool_hasp"})
    store = StateStore(tmp_path)
    store.remember_pools(mine)
    another = StateStore(tmp_path)
    assert another.pools() == mine
    another.remember_pools(PoolMemory({"b": Share("pool_hasp", "vm")}, mine.members))
    store.remember_pools(mine)
    assert StateStore(tmp_path).pools() == mine
    (tmp_path / POOLS).unlink()
    store.remember_pools(mine)
    assert StateStore(tmp_path).pools() == mine


def test_members_of_pools_that_are_stored_already_are_not_written_again(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    store.remember_pools(PoolMemory({}, {"a": "pool_hasp"}))
    before = (tmp_path / POOLS).stat().st_mtime_ns
    store.remember_pools(PoolMemory({}, {"a": "pool_hasp"}))
    assert (tmp_path / POOLS).stat().st_mtime_ns == before


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b'{"version": 2}', b"\xff", b"[" * 100_000, b"1" * 5000])
def test_sightings_that_are_damaged_are_said_once_and_begun_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / SIGHTINGS).write_bytes(content)
    store = StateStore(tmp_path)
    assert store.sightings() == Sightings()
    store.remember_sightings(SEEN)
    [text] = texts(store)
    assert text.startswith(
        f"{tmp_path / SIGHTINGS} is not what an agent of this version writes, so the agent begins a new one"
    )
    assert texts(store) == []
    assert StateStore(tmp_path).sightings() == SEEN


# A directory that cannot be written


def test_a_directory_that_cannot_be_made_is_said_once_for_both_files_until_it_can(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the way")
    store = StateStore(tmp_path / "state")
    for _ in range(2):
        store.remember_rule_traits({"CUSTOM_A"})
        store.remember_sightings(SEEN)
        [text] = texts(store)
        assert text.startswith(f"[agent]state_dir {tmp_path / 'state'} cannot be written (")
    assert store.rule_traits() == {"CUSTOM_A"}
    (tmp_path / "state").unlink()
    store.remember_rule_traits({"CUSTOM_A"})
    store.remember_sightings(SEEN)
    assert texts(store) == []
    assert StateStore(tmp_path / "state").rule_traits() == {"CUSTOM_A"}
    assert StateStore(tmp_path / "state").sightings() == SEEN


def test_a_write_that_fails_leaves_no_litter(tmp_path: Path) -> None:
    (tmp_path / SIGHTINGS).mkdir()
    store = StateStore(tmp_path)
    store.remember_sightings(SEEN)
    assert "cannot be written (Is a directory)" in texts(store)[0]
    assert os.listdir(tmp_path) == [SIGHTINGS]


def test_only_the_agent_and_its_group_read_what_it_keeps(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "state")
    store.remember_rule_traits({"CUSTOM_A"})
    store.remember_sightings(SEEN)
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state", *(tmp_path / "state").iterdir())
    }
    assert modes == {"state": 0o750, RULE_TRAITS: 0o640, SIGHTINGS: 0o640}


def test_the_directory_is_for_the_agent_and_its_group_also_where_a_disk_is_marked_first(tmp_path: Path) -> None:
    StateStore(tmp_path / "state").mark_disks({"46f4:0001:A1"}, ())
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o750
