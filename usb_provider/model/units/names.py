"""The names of pools and of their units: the key of a pool's provider, and what tells its units apart. Pure.

provider.py makes a provider's name and UUID from a key. A device's key begins with its vendor id, so no device has the
key of a pool.
"""

POOL_PREFIX = "pool_"

_UNIT_DIGITS = 16


def pool_key(name: str) -> str:
    """The key of the pool's provider: ``pool_hasp`` for ``hasp``, and the provider is ``<root>_usb_pool_hasp``."""
    return f"{POOL_PREFIX}{name}"


def member_id(device_uuid: str) -> str:
    """What tells a member of a pool from the others, 16 hexadecimal digits; *device_uuid* is that of its key.

    It is a part of a hash of the key: nothing that a device says of itself gets into an alias or a trait.
    """
    return device_uuid.replace("-", "")[:_UNIT_DIGITS]


def unit_id(pool_uuid: str, device_uuid: str) -> str:
    """The unit of the pool's provider *pool_uuid* that a member is: what follows the prefix in a hostdev's alias."""
    return f"{pool_uuid}-{member_id(device_uuid)}"
