"""The CUSTOM_USB_* names of USB devices in OpenStack Placement, and nothing else.

Like os-traits, this package can be imported alone: it uses the standard library only and does no
I/O.  It must not learn about udev, libvirt or HTTP. ::

    names.py      the form of a custom name: normalise, check
    codes.py      the USB-IF's class codes, as tables
    usb.py        the vocabulary: build, recognise and describe names
    requests.py   the names by which a user and the agent agree on a device of a server
    classify.py   suggest a resource class for a device
    __main__.py   ``python -m placement_traits`` prints the vocabulary
"""

from placement_traits.classify import is_security_token, suggest
from placement_traits.codes import CLASSES, INTERFACES, Triplet, UsbClass
from placement_traits.names import MAX_LENGTH, InvalidName, check_custom, normalise
from placement_traits.requests import (
    ATTACH_PREFIX,
    DETACH_PREFIX,
    DETACHED_PREFIX,
    attach_requests,
    attach_trait,
    describe_request,
    detach_answers,
    detach_requests,
    detach_trait,
    detached_trait,
    is_request,
)
from placement_traits.usb import (
    MANAGED,
    MEMBER_DRAINED_PREFIX,
    NOT_LIVE_MIGRATABLE,
    PURGED,
    RESOURCE_CLASSES,
    SPEED_UNKNOWN,
    SPEEDS,
    STATE_ABSENT,
    STATE_DRAINED,
    STATE_RESERVED,
    STATE_SHORT,
    STATE_WAITING,
    STATE_WITHDRAWN,
    STATES,
    class_code,
    class_trait,
    class_traits,
    describe,
    describe_interface,
    drain_reason,
    drain_reason_trait,
    is_of_a_device,
    is_owned,
    member_drained_trait,
    product_trait,
    serial_trait,
    speed_trait,
    vendor_trait,
)

__all__ = [
    "ATTACH_PREFIX",
    "CLASSES",
    "DETACHED_PREFIX",
    "DETACH_PREFIX",
    "INTERFACES",
    "MANAGED",
    "MAX_LENGTH",
    "MEMBER_DRAINED_PREFIX",
    "NOT_LIVE_MIGRATABLE",
    "PURGED",
    "RESOURCE_CLASSES",
    "SPEEDS",
    "SPEED_UNKNOWN",
    "STATES",
    "STATE_ABSENT",
    "STATE_DRAINED",
    "STATE_RESERVED",
    "STATE_SHORT",
    "STATE_WAITING",
    "STATE_WITHDRAWN",
    "InvalidName",
    "Triplet",
    "UsbClass",
    "attach_requests",
    "attach_trait",
    "check_custom",
    "class_code",
    "class_trait",
    "class_traits",
    "describe",
    "describe_interface",
    "describe_request",
    "detach_answers",
    "detach_requests",
    "detach_trait",
    "detached_trait",
    "drain_reason",
    "drain_reason_trait",
    "is_of_a_device",
    "is_owned",
    "is_request",
    "is_security_token",
    "member_drained_trait",
    "normalise",
    "product_trait",
    "serial_trait",
    "speed_trait",
    "suggest",
    "vendor_trait",
]
