"""What openstackclient looks for in a plugin: its name, its version, and how to make its client. Sends nothing."""

import argparse
from typing import Any

from usb_provider.osc.cloud import Cloud

API_NAME = "usb"
DEFAULT_API_VERSION = "1"
API_VERSION_OPTION = "os_usb_api_version"
API_VERSIONS = {"1": "usb_provider.osc.cloud.Cloud"}


def make_client(instance: Any) -> Cloud:
    """The services of the cloud that the caller chose; *instance* is openstackclient's ClientManager."""
    return Cloud(instance.session, instance.sdk_connection.config)


def build_option_parser(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """No options of its own: the microversions are the plugin's business."""
    return parser
