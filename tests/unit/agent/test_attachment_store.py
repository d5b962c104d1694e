"""The file that tells the next process what was attached: it may be lost, damaged or not writable."""

import stat
from pathlib import Path

import pytest

from tests.fixtures.builders import a_device
from usb_provider.agent.attachment_store import ATTACHMENTS, AttachmentStore
from usb_provider.model.binding.attachments import Attachments

KNOWN = Attachments().begun([("guest", "provider", a_device(busnum=1, devnum=5, plug_number=7))])


def test_the_next_process_knows_what_this_one_attached(tmp_path: Path) -> None:
    store = AttachmentStore(tmp_path / "not" / "yet")
    assert store.load() == Attachments()
    store.save(KNOWN)
    after = AttachmentStore(tmp_path / "not" / "yet")
    assert (after.load(), after.notes()) == (KNOWN, ())


def test_the_file_is_written_only_when_something_changed(tmp_path: Path) -> None:
    store = AttachmentStore(tmp_path)
    store.load()
    store.save(Attachments())
    assert list(tmp_path.iterdir()) == []
    store.save(KNOWN)
    (tmp_path / ATTACHMENTS).unlink()
    store.save(KNOWN)
    assert list(tmp_path.iterdir()) == []


def test_only_the_agent_and_its_group_read_what_it_keeps(tmp_path: Path) -> None:
    AttachmentStore(tmp_path / "state").save(KNOWN)
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o750
    assert stat.S_IMODE((tmp_path / "state" / ATTACHMENTS).stat().st_mode) == 0o640


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"version": 2}'])
def test_a_damaged_file_costs_a_note_and_no_more(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ATTACHMENTS).write_bytes(content)
    store = AttachmentStore(tmp_path)
    assert store.load() == Attachments()
    (note,) = store.notes()
    assert "is not what an agent of this version writes" in note.text
    store.save(KNOWN)
    assert (store.notes(), AttachmentStore(tmp_path).load()) == ((), KNOWN)


def test_a_file_that_cannot_be_written_is_noted_until_it_can_and_no_old_one_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = AttachmentStore(tmp_path)
    store.save(KNOWN)

    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("usb_provider.agent.attachment_store.write_whole", full)
        store.save(Attachments())
        (note,) = store.notes()
        assert "cannot be written (No space left on device)" in note.text
        assert AttachmentStore(tmp_path).load() == Attachments()
    store.save(Attachments())
    assert (store.notes(), (tmp_path / ATTACHMENTS).exists()) == ((), True)


def test_a_state_dir_that_is_a_file_stops_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    store = AttachmentStore(path)
    assert store.load() == Attachments()
    store.save(KNOWN)
    assert len(store.notes()) == 1
