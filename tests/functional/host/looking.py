"""What tests of the host's devices share: a fresh look at udev, and interfaces."""

from usb_provider.host.udev import UdevHost
from usb_provider.model.devices.device import HostUse, UsbDevice, UseKind

STICK = (("08", "06", "50"),)
KEYBOARD = (("03", "01", "01"),)


def devices() -> dict[str, UsbDevice]:
    """What a fresh look finds, by port."""
    return {device.sys_name: device for device in UdevHost().devices()}


def uses(sys_name: str = "1-1") -> list[HostUse]:
    """How the host itself uses the device."""
    return list(devices()[sys_name].uses)


def kinds(sys_name: str = "1-1") -> list[UseKind]:
    """In which ways the host itself uses the device."""
    return [use.kind for use in uses(sys_name)]
