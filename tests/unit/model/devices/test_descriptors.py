"""A high-speed device that a USB 1.1 controller of a guest takes: QEMU decides by the endpoints."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fixtures.builders import a_device
from usb_provider.model.devices.descriptors import is_full_speed_compatible
from usb_provider.model.devices.device import Speed

DEVICE = bytes([18, 1, 0, 2, 0, 0, 0, 64, 0xF4, 0x46, 1, 0, 0, 0, 1, 2, 3, 1])
CONTROL, ISOCHRONOUS, BULK, INTERRUPT = range(4)


def a_configuration(*endpoints: tuple[int, int]) -> bytes:
    """A configuration with one interface, whose *endpoints* have a transfer type and a largest packet, in bytes."""
    parts = [bytes([9, 4, 0, 0, len(endpoints), 8, 6, 80, 0])]
    for number, (kind, size) in enumerate(endpoints, start=1):
        parts.append(bytes([7, 5, 0x80 | number, kind, *size.to_bytes(2, "little"), 0]))
    body = b"".join(parts)
    return bytes([9, 2, *(9 + len(body)).to_bytes(2, "little"), 1, 1, 0, 0x80, 50]) + body


@pytest.mark.parametrize(
    ("configurations", "compatible"),
    [
        ([a_configuration((BULK, 512), (BULK, 512))], True),
        ([a_configuration((BULK, 512), (INTERRUPT, 64))], True),
        ([a_configuration((BULK, 512), (INTERRUPT, 65))], False),
        ([a_configuration((ISOCHRONOUS, 64))], False),
        ([a_configuration((BULK, 512)), a_configuration((ISOCHRONOUS, 1024))], False),
        ([a_configuration()], True),
    ],
)
def test_bulk_and_small_interrupt_endpoints_also_work_at_full_speed(
    configurations: list[bytes], compatible: bool
) -> None:
    assert is_full_speed_compatible(DEVICE + b"".join(configurations)) is compatible


def test_a_class_descriptor_between_the_endpoints_is_no_endpoint() -> None:
    whole = a_configuration((BULK, 512))
    assert is_full_speed_compatible(DEVICE + whole + bytes([9, 0x24, 5, ISOCHRONOUS, 0xFF, 0xFF, 0, 0, 0]))


def test_a_device_whose_descriptors_could_not_be_read_counts_as_fast() -> None:
    assert not is_full_speed_compatible(b"")


@pytest.mark.parametrize("broken", [b"\x00", b"\x01", b"\x12\x01", b"\x02\x05", b"\x06\x05\x81\x02\x00\x02"])
def test_a_device_with_broken_descriptors_counts_as_fast(broken: bytes) -> None:
    assert not is_full_speed_compatible(DEVICE + broken)


@given(st.binary(max_size=300))
@example(DEVICE + a_configuration((BULK, 512))[:-1])
def test_any_bytes_of_a_hostile_device_are_read_to_their_end(descriptors: bytes) -> None:
    assert is_full_speed_compatible(descriptors) in (True, False)


@given(st.lists(st.tuples(st.sampled_from((BULK, INTERRUPT, ISOCHRONOUS)), st.integers(0, 1024)), max_size=15))
def test_one_endpoint_that_needs_high_speed_decides(endpoints: list[tuple[int, int]]) -> None:
    fast = any(kind == ISOCHRONOUS or (kind == INTERRUPT and size > 64) for kind, size in endpoints)
    assert is_full_speed_compatible(DEVICE + a_configuration(*endpoints)) is not fast


@pytest.mark.parametrize("speed", list(Speed))
def test_only_a_high_speed_device_can_be_slower_than_it_is(speed: Speed) -> None:
    assert a_device(speed=speed).slowest is speed
    expected = Speed.FULL if speed is Speed.HIGH else speed
    assert a_device(speed=speed, full_speed_compatible=True).slowest is expected
