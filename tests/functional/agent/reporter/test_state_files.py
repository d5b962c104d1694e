"""Files in [agent]state_dir that cannot be read or written: the pass goes on without them, and says so once."""

import errno
import os

import pytest

from tests.fixtures.placement import assert_usb_view
from tests.fixtures.reporting import KEY_NAME, KEY_RULE, KEY_TRAITS, KEY_UUID, row, topics, yubikey
from usb_provider.agent.store import RULE_TRAITS, SIGHTINGS, StateStore

SITES = frozenset({"CUSTOM_SITE_A", "CUSTOM_SITE_B"})
SITE_RULE = KEY_RULE | {"traits": sorted(SITES)}


def damage(path, how):
    """Make *path* unusable."""
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    match how:
        case "empty":
            path.write_text("")
        case "damaged":
            path.write_text('{"version": 1, "sightings": {"a": ')
        case "another version":
            path.write_text('{"version": 99}')
        case "fifo":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "loop":
            path.symlink_to(path)
        case "huge":
            with path.open("wb") as file:
                file.truncate(1 << 40)


WAYS = ["empty", "damaged", "another version", "fifo", "directory", "loop", "huge"]


@pytest.fixture
def state(host, root):
    return host.directory / "state"


@pytest.mark.parametrize("how", WAYS)
def test_without_its_sightings_the_agent_reports_all_the_same_and_says_so_once(placement, host, root, state, how):
    damage(state / SIGHTINGS, how)
    host.plug(yubikey())
    assert "sightings" in topics(host.run().notes)
    assert_usb_view(placement, root, {KEY_NAME: row()})
    if how != "directory":  # which cannot be replaced
        assert topics(host.run().notes) == []
        host.restart()
        assert topics(host.run().notes) == []


@pytest.mark.parametrize("how", WAYS)
def test_without_the_names_of_rule_traits_the_agent_reports_all_the_same(placement, host, root, state, how):
    damage(state / RULE_TRAITS, how)
    host.rules(SITE_RULE)
    host.plug(yubikey())
    for _ in range(2):
        assert topics(host.run().notes) == ["state_dir:read"]
    assert_usb_view(placement, root, {KEY_NAME: row(traits=KEY_TRAITS | SITES)})


def test_a_file_of_rule_traits_that_cannot_be_read_is_left_to_the_operator(host, root, state):
    host.rules(SITE_RULE)
    host.plug(yubikey())
    host.run()
    (state / RULE_TRAITS).write_text('["CUSTOM_SITE_A", "CUSTOM_SITE_B"')
    host.restart()
    host.rules(KEY_RULE)
    host.run()
    assert (state / RULE_TRAITS).read_text() == '["CUSTOM_SITE_A", "CUSTOM_SITE_B"'


def test_once_it_is_repaired_the_traits_that_left_the_rules_are_removed(placement, host, root, state):
    host.rules(SITE_RULE)
    host.plug(yubikey())
    host.run()
    whole = (state / RULE_TRAITS).read_text()
    (state / RULE_TRAITS).write_text(whole[:-1])
    host.restart()
    host.rules(KEY_RULE)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row(traits=KEY_TRAITS | SITES)})
    (state / RULE_TRAITS).write_text(whole)
    assert topics(host.run().notes) == []
    assert_usb_view(placement, root, {KEY_NAME: row()})


def test_a_trait_that_left_the_rules_while_the_agent_runs_is_removed_though_nothing_can_be_stored(
    placement, host, root, state
):
    state.write_text("in the way")
    host.rules(SITE_RULE)
    host.plug(yubikey())
    assert topics(host.run().notes) == ["state_dir:write"]
    host.rules(KEY_RULE)
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: row()})


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_is_full_or_read_only_stops_no_pass_and_is_said_once(placement, host, state, monkeypatch, number):
    def refuse(*args):
        raise OSError(number, os.strerror(number))

    host.rules(SITE_RULE)
    host.plug(yubikey())
    monkeypatch.setattr(os, "fsync", refuse)
    texts = [[note.text for note in host.run().notes] for _ in range(2)]
    assert texts[0] == texts[1]
    assert len(texts[0]) == 1
    assert os.strerror(number) in texts[0][0]
    assert list(state.iterdir()) == []
    assert placement.traits(KEY_UUID) == KEY_TRAITS | SITES
    monkeypatch.undo()
    assert topics(host.run().notes) == []
    assert StateStore(state).rule_traits() == SITES


def test_what_was_written_is_published_though_storing_fails_in_a_way_that_no_one_expects(host, root, monkeypatch):
    def fail(*args, **how):
        raise RuntimeError("a bug")

    host.plug(yubikey())
    monkeypatch.setattr(StateStore, "forget_rule_traits", fail)
    with pytest.raises(RuntimeError):
        host.run()
    assert [each.name for each in host.reporter().view().tree.providers.values()] == [KEY_NAME]


def test_a_plan_says_what_is_wrong_with_the_files(host, root, state):
    damage(state / RULE_TRAITS, "fifo")
    damage(state / SIGHTINGS, "damaged")
    host.plug(yubikey())
    seen = host.reporter().preview()
    assert topics(seen.notes) == ["sightings", "state_dir:read"]
