"""The one small file: names of traits that rules have given."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usb_provider.agent.store import FILE_NAME, RuleTraitStore
from usb_provider.exception import ConfigError


def test_nothing_is_known_before_the_first_save(tmp_path: Path) -> None:
    assert RuleTraitStore(tmp_path / "not" / "yet").load() == frozenset()
    assert not (tmp_path / "not").exists()


def test_what_was_saved_is_known_to_the_next_process(tmp_path: Path) -> None:
    RuleTraitStore(tmp_path / "state").save({"CUSTOM_B", "CUSTOM_A"})
    assert RuleTraitStore(tmp_path / "state").load() == {"CUSTOM_A", "CUSTOM_B"}
    assert (tmp_path / "state" / FILE_NAME).read_text() == '["CUSTOM_A", "CUSTOM_B"]'


@given(st.lists(st.frozensets(st.text(max_size=20), max_size=3), min_size=1, max_size=3))
def test_the_last_save_counts_and_leaves_one_file(
    tmp_path_factory: pytest.TempPathFactory, saves: list[frozenset[str]]
) -> None:
    directory = tmp_path_factory.mktemp("state")
    store = RuleTraitStore(directory)
    for names in saves:
        store.save(names)
        assert store.load() == names
    assert os.listdir(directory) == [FILE_NAME]


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"null", b'"CUSTOM_A"', b"[1]", b'["CUSTOM_A"', b"\xff\xfe", b"[" * 100_000, b"1" * 5000]
)
def test_a_file_that_is_not_a_list_of_names_is_said_and_not_overwritten(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(ConfigError, match="is not a list of trait names; delete it"):
        RuleTraitStore(tmp_path).load()
    assert (tmp_path / FILE_NAME).read_bytes() == content


def test_a_path_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        RuleTraitStore(tmp_path).load()


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the way")
    store = RuleTraitStore(tmp_path / "state")
    assert store.load() == frozenset()
    with pytest.raises(ConfigError, match=r"\[agent\]state_dir .*state cannot be written"):
        store.save({"CUSTOM_A"})


def test_a_save_that_fails_leaves_what_was_there_and_no_litter(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(ConfigError, match="cannot be written"):
        RuleTraitStore(tmp_path).save({"CUSTOM_A"})
    assert os.listdir(tmp_path) == [FILE_NAME]


def test_a_directory_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(ConfigError, match="let the agent's user write it"):
        RuleTraitStore(tmp_path / "file").save({"CUSTOM_A"})
