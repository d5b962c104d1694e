"""Whether QEMU takes a high-speed device for a full-speed one, from the descriptors that the device has. Pure.

A guest's USB 1.1 controller then takes it: all that a guest of Nova before 32 has on x86_64.
"""

from collections.abc import Iterator

_ENDPOINT = 5
_ENDPOINT_BYTES = 7
_ISOCHRONOUS, _INTERRUPT = 1, 3
_TYPE = 0b11
FULL_SPEED_INTERRUPT_BYTES = 64
"""The largest packet of an interrupt endpoint at full speed (USB 2.0, 5.7.3)."""


def is_full_speed_compatible(descriptors: bytes) -> bool:
    """Whether QEMU offers a high-speed device with these *descriptors* also as a full-speed one.

    That is so without isochronous endpoints and without interrupt endpoints of more than 64 bytes, in any
    configuration (usb_host_full_speed_compat in QEMU's hw/usb/host-libusb.c). What cannot be read counts as such an
    endpoint.

    :param descriptors: sysfs' ``descriptors``: the device's, then all configurations' (USB 2.0, 9.5 and 9.6).
    """
    try:
        endpoints = [(each[3] & _TYPE, int.from_bytes(each[4:6], "little")) for each in _endpoints(descriptors)]
    except ValueError:
        return False
    return bool(descriptors) and not any(
        kind == _ISOCHRONOUS or (kind == _INTERRUPT and size > FULL_SPEED_INTERRUPT_BYTES) for kind, size in endpoints
    )


def _endpoints(descriptors: bytes) -> Iterator[bytes]:
    """The endpoint descriptors. :raises ValueError: where a descriptor is shorter than its type, or cut off."""
    at = 0
    while at < len(descriptors):
        length = descriptors[at]
        each = descriptors[at : at + length]
        if length < 2 or len(each) < length:
            raise ValueError(f"the descriptor at byte {at} is cut off")
        if each[1] == _ENDPOINT:
            if length < _ENDPOINT_BYTES:
                raise ValueError(f"the endpoint descriptor at byte {at} has {length} bytes")
            yield each
        at += length
