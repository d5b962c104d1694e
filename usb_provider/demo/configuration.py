"""The configuration of the demo: the rules, and the files with which other terminals reach its Placement."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from usb_provider.demo.embedded import EmbeddedPlacement
from usb_provider.model.devices.device import UsbDevice
from usb_provider.model.devices.offer import guard

CLOUD = "usb-demo"
ROOT_NAME = "demo-host"

# What an operator of the recorded host might write. Two identical licence dongles are the whole of CUSTOM_USB_KEY, so
# that the third claim has to be refused.
RECORDED_RULES = tuple(
    json.dumps(rule)
    for rule in (
        {"vendor_id": "0529", "resource_class": "CUSTOM_USB_KEY", "traits": ["CUSTOM_LICENCE_HASP"]},
        {"vendor_id": "064f", "resource_class": "CUSTOM_USB_CODEMETER"},
        {"vendor_id": "1050", "resource_class": "CUSTOM_USB_FIDO"},
        {"class": "printer", "exclude": True},
        {"class": "video", "resource_class": "CUSTOM_USB_CAMERA"},
        {"class": "mass-storage", "resource_class": "CUSTOM_USB_STORAGE"},
        {"vendor_id": "1546", "resource_class": "CUSTOM_USB_GNSS", "identity": "port"},
        {"vendor_id": "0403", "product_id": "6001"},
        {"vendor_id": "2c7c"},
        {"class": "smart-card"},
    )
)


@dataclass(frozen=True, slots=True)
class DemoFiles:
    """What the demo leaves for other terminals."""

    configuration: Path
    clouds: Path


def rules_for(devices: Iterable[UsbDevice]) -> list[str]:
    """One rule for each kind of device that no guard keeps back."""
    kinds = {(device.vendor_id, device.product_id) for device in devices if guard(device) is None}
    return [json.dumps({"vendor_id": vendor, "product_id": product}) for vendor, product in sorted(kinds)]


def write_files(directory: Path, placement: EmbeddedPlacement, root: str, rules: Iterable[str]) -> DemoFiles:
    """Write a configuration for our commands and a clouds.yaml for the openstack command into *directory*."""
    files = DemoFiles(directory / "usb-provider.conf", directory / "clouds.yaml")
    lines = [
        "# Written at each start of usb-provider demo.",
        "[agent]",
        f"root_provider_uuid = {root}",
        "root_name_may_differ = true",
        f"state_dir = {directory / 'agent'}",
        "[usb]",
        *(f"device_spec = {rule}" for rule in rules),
        "[placement]",
        "auth_type = admin_token",
        f"endpoint = {placement.endpoint}",
        f"token = {placement.token}",
    ]
    files.configuration.write_text("\n".join(lines) + "\n")
    placement.write_clouds_yaml(files.clouds, CLOUD)
    return files
