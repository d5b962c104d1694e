"""The names of pools and bundles and of their units: the key of the provider, and what tells its devices apart. Pure.

provider.py makes a provider's name and UUID from a key. A device's key begins with its vendor id, so no device has the
key of a pool or of a bundle. The documents call both a group of devices where both are meant.
"""

POOL_PREFIX = "pool_"
BUNDLE_PREFIX = "bundle_"

_UNIT_DIGITS = 16


def pool_key(name: str) -> str:
    """The key of the pool's provider: ``pool_hasp`` for ``hasp``, and the provider is ``<root>_usb_pool_hasp``."""
    return f"{POOL_PREFIX}{name}"


def bundle_key(name: str) -> str:
    """The key of the bundle's provider: ``bundle_desk`` for ``desk``."""
    return f"{BUNDLE_PREFIX}{name}"


def pool_name(group: str | None) -> str | None:
    """The name of the pool with the key *group*; None where that is no pool's."""
    return group.removeprefix(POOL_PREFIX) if group is not None and group.startswith(POOL_PREFIX) else None


def bundle_name(group: str | None) -> str | None:
    """The name of the bundle with the key *group*; None where that is no bundle's."""
    return group.removeprefix(BUNDLE_PREFIX) if group is not None and group.startswith(BUNDLE_PREFIX) else None


def group_words(group: str) -> str:
    """What a sentence calls the group: ``pool hasp``, ``bundle desk``."""
    return group.replace("_", " ", 1)


def member_id(device_uuid: str) -> str:
    """What tells a member of a group from the others, 16 hexadecimal digits; *device_uuid* is that of its key.

    It is a part of a hash of the key: nothing that a device says of itself gets into an alias or a trait.
    """
    return device_uuid.replace("-", "")[:_UNIT_DIGITS]


def unit_id(group_uuid: str, device_uuid: str) -> str:
    """What follows the prefix in the alias of a member's hostdev, where the provider of its group is *group_uuid*."""
    return f"{group_uuid}-{member_id(device_uuid)}"
