"""What openstackclient looks for in a plugin: its name, its version, and how to make its client. Sends nothing."""

import argparse
from typing import TYPE_CHECKING

from usb_provider.openstack.session import Caller
from usb_provider.osc.cloud import Cloud

if TYPE_CHECKING:
    from openstackclient.common.clientmanager import ClientManager

API_NAME = "usb"
DEFAULT_API_VERSION = "1"
API_VERSION_OPTION = "os_usb_api_version"
API_VERSIONS = {"1": "usb_provider.osc.cloud.Cloud"}


def make_client(instance: "ClientManager") -> Cloud:
    """The services of the cloud that the caller chose."""
    return Cloud(Caller(instance.session, instance.sdk_connection.config))


def build_option_parser(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The plugin has no options: it knows which microversions it needs."""
    return parser
