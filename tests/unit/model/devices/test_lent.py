"""A signature that came while a guest had the disk is the guest's, also when its server is gone."""

import json

from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures.builders import STICK, a_device
from usb_provider.model.devices.device import HostUse, UsbDevice, UseKind
from usb_provider.model.devices.lent import BACK_SECONDS, Lent, LentDisks

KEY = "152d:0578:1"
NONE = LentDisks()


def a_disk(*marks: str, has_disk: bool = True) -> UsbDevice:
    uses = tuple(HostUse(UseKind.MEMBER, f"sdb is marked as {mark}", mark) for mark in marks)
    return a_device(interfaces=(STICK,), has_disk=has_disk, uses=uses)


def test_what_a_guest_wrote_is_seen_when_the_disk_is_back_and_is_the_guests() -> None:
    held = NONE.after([(KEY, a_disk(has_disk=False), True)], 0.0)
    still_out = held.after([(KEY, a_disk(has_disk=False), False)], 500.0)
    back = still_out.after([(KEY, a_disk("LVM2_member a"), False)], 1000.0)
    assert back.marks(KEY) == {"LVM2_member a"}
    assert back.after([(KEY, a_disk("LVM2_member a"), False)], 9000.0).marks(KEY) == {"LVM2_member a"}


def test_the_partitions_that_come_a_moment_later_are_the_guests_too() -> None:
    back = NONE.after([(KEY, a_disk(has_disk=False), True)], 0.0).after([(KEY, a_disk(), False)], 1.0)
    assert back.after([(KEY, a_disk("swap b"), False)], 2.0).marks(KEY) == {"swap b"}


def test_a_signature_that_comes_later_is_the_hosts() -> None:
    back = NONE.after([(KEY, a_disk(has_disk=False), True)], 0.0).after([(KEY, a_disk(), False)], 1.0)
    assert back.after([(KEY, a_disk("LVM2_member h"), False)], 2 + BACK_SECONDS).marks(KEY) == frozenset()
    assert NONE.after([(KEY, a_disk("LVM2_member h"), False)], 0.0) is NONE


def test_a_signature_that_was_wiped_is_forgotten() -> None:
    lent = LentDisks({KEY: Lent(frozenset({"swap a"}), 0.0)})
    assert lent.after([(KEY, a_disk(), False)], 9000.0) == NONE


def test_a_disk_that_is_unplugged_or_has_not_come_yet_is_remembered() -> None:
    lent = LentDisks({KEY: Lent(frozenset({"swap a"}), 0.0)})
    assert lent.after([], 9000.0) is lent
    assert lent.after([(KEY, a_disk(has_disk=False), False)], 9000.0) is lent


def test_a_device_that_is_no_disk_is_not_remembered() -> None:
    assert NONE.after([("1050:0407:1", a_device(), True)], 0.0) is NONE


marks = st.frozensets(st.text(max_size=5), max_size=3)


@given(st.dictionaries(st.text(max_size=5), st.builds(Lent, marks, st.none() | st.floats(0, 1e10)), max_size=3))
def test_it_is_read_as_it_was_stored(by_key: dict[str, Lent]) -> None:
    lent = LentDisks(by_key)
    assert LentDisks.from_json(json.loads(json.dumps(lent.to_json()))) == lent
