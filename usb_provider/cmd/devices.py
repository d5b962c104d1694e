"""The command ``devices``: what is plugged in here, what would be offered, and why (not)."""

import argparse
import json
import sys
from typing import Any

from usb_provider.cmd import output
from usb_provider.cmd.setup import read_configuration, root_finder, settings
from usb_provider.conf.load import Options
from usb_provider.exception import UsbProviderError
from usb_provider.model.offer import guard
from usb_provider.model.provider import Assessment, Root, assess

TEXT = """\
List this host's USB devices: whether each one is offered to instances, as what, and why (not).

Needs no Placement. When [placement] is configured, nova's compute node is looked up there, so that the provider of
each device can be named; "openstack resource provider show" takes that UUID."""


def declare(command: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``devices``."""
    what = command.add_mutually_exclusive_group()
    what.add_argument("--json", action="store_true", help="print a list of objects with every fact; unknown is null")
    what.add_argument(
        "--suggest",
        action="store_true",
        help="print device_spec lines for what is plugged in and not yet offered, to choose from",
    )


def run(arguments: argparse.Namespace) -> int:
    """List, or suggest."""
    from usb_provider.host.udev import UdevHost

    conf, options = read_configuration(arguments, needs_placement=False)
    chosen = settings(options)
    found = assess(
        UdevHost().devices(),
        chosen.specs,
        root=_root(conf, options),
        junk=chosen.junk_serials,
        serial_trait=chosen.serial_trait,
    )
    if arguments.json:
        output.print_json([device_json(each) for each in found])
    elif arguments.suggest:
        lines = suggestions(found)
        for line in lines:
            sys.stdout.write(line + "\n")
        if not lines:
            output.say("Nothing to suggest: every device here is offered, or never can be.", error=True)
    else:
        output.print_devices(found)
    return 0


def device_json(each: Assessment) -> dict[str, Any]:
    """One device as ``devices --json`` prints it."""
    device = each.device
    return {
        "sys_name": device.sys_name,
        "busnum": device.busnum,
        "devnum": device.devnum,
        "vendor_id": device.vendor_id,
        "product_id": device.product_id,
        "serial": device.serial,
        "manufacturer": device.manufacturer,
        "product": device.product,
        "classes": list(device.classes),
        "speed": device.speed.value,
        "port_path": device.port_path,
        "controller": device.controller,
        "key": each.identity.key,
        "identity": each.identity.kind.value,
        "offered": each.offered,
        "reason": each.reason,
        "resource_class": each.resource_class,
        "traits": sorted(each.traits),
        "provider_uuid": each.provider_uuid,
        "provider_name": each.provider_name,
    }


def suggestions(found: tuple[Assessment, ...]) -> list[str]:
    """One ``device_spec`` line, with a comment above, for each kind of device that a rule could still offer."""
    import placement_traits

    lines: list[str] = []
    for each in found:
        device = each.device
        if each.offered or guard(device) is not None:
            continue
        rule = {
            "vendor_id": device.vendor_id,
            "product_id": device.product_id,
            "resource_class": placement_traits.suggest(
                device.vendor_id, device.product_id, device.device_class, device.interfaces
            ),
        }
        line = f"device_spec = {json.dumps(rule)}"
        if line not in lines:
            lines += [f"# {device.label}", line]
    return lines


def _root(conf: Any, options: Options) -> Root | None:
    """The root if it can be known: from Placement where that is configured, else what this host says by itself."""
    from usb_provider.placement.session import connect, is_configured

    if is_configured(conf):
        client = connect(conf)
        try:
            return root_finder(client, options).find()
        except UsbProviderError as error:
            output.say(f"Providers are not named: {error}", error=True)
    if options.agent.root_provider_uuid:
        return Root(options.agent.root_provider_uuid, options.agent.root_provider_name or "")
    return None
