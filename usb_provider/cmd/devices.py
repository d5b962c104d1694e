"""The command ``devices``: what is plugged in here, what would be offered, and why (not)."""

import argparse
import json
import sys

from oslo_config import cfg

import placement_traits
from usb_provider.cmd import output
from usb_provider.cmd.configuration import read_configuration
from usb_provider.cmd.running_agent import ask_agent
from usb_provider.cmd.setup import reporter, root_hints, settings
from usb_provider.conf.load import Options
from usb_provider.exception import ConfigError, Unavailable, UsbProviderError
from usb_provider.model.binding.status import BindingState
from usb_provider.model.devices.device import UsbDevice
from usb_provider.model.devices.offer import OfferReason
from usb_provider.model.reporting.provider import Assessment, Root, assess
from usb_provider.model.units.names import bundle_name, pool_name
from usb_provider.openstack.session import is_configured

TEXT = """\
List this host's USB devices: whether each one is offered to instances, as what, and why (not).

Needs no Placement. Where [placement] is configured, the list tells as well which provider each device has, for
"openstack resource provider show", and which consumer holds it; where an agent runs, which guest has it."""


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
    conf, options = read_configuration(arguments, needs_placement=False)
    found, consumers = _look(conf, options)
    if arguments.json:
        guests = _guests(options)
        output.print_json(
            [
                device_json(each)
                | {
                    "consumer": consumers.get(output.holder_key(each)),
                    "domain": guests.get(output.holder_key(each)),
                }
                for each in found
            ]
        )
    elif arguments.suggest:
        lines = suggestions(found)
        for line in lines:
            sys.stdout.write(line + "\n")
        if not lines:
            output.say(
                "There is nothing to suggest: every device here is offered already, or can never be offered.",
                error=True,
            )
    else:
        output.print_devices(found, consumers=consumers, guests=_guests(options) if consumers else {})
    return 0


def device_json(each: Assessment) -> dict[str, object]:
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
        "controller_address": device.controller_address,
        "place": str(device.place),
        "key": each.identity.key,
        "identity": each.identity.kind.value,
        "offered": each.offered,
        "reason": each.reason,
        "resource_class": each.resource_class,
        "traits": sorted(each.traits),
        "provider_uuid": each.provider_uuid,
        "provider_name": each.provider_name,
        "pool": pool_name(each.group),
        "bundle": bundle_name(each.group),
        "member_id": each.member_id,
        "drained": each.drained,
    }


def suggestions(found: tuple[Assessment, ...]) -> list[str]:
    """One ``device_spec`` line, with a comment above, for each kind of device that only lacks a rule.

    A device that a rule excludes has one; one that a guard holds back should not get one.
    """
    lines: list[str] = []
    for each in found:
        device = each.device
        if each.verdict is not OfferReason.NO_RULE or _is_the_hosts_own_affair(device):
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


def _is_the_hosts_own_affair(device: UsbDevice) -> bool:
    """Whether a careful operator would rather not offer it, although no guard forbids that.

    A UPS tells the host when to shut down; billboards and Type-C bridges are parts of adapters.
    """
    suggested = placement_traits.suggest(device.vendor_id, device.product_id, device.device_class, device.interfaces)
    return suggested == "CUSTOM_USB_UPS" or not {"11", "12"}.isdisjoint(device.classes)


def _look(conf: cfg.ConfigOpts, options: Options) -> tuple[tuple[Assessment, ...], dict[str, str]]:
    """Each device with its verdict, and who holds it, by :func:`output.holder_key`.

    This reads Placement if it is configured and answers, since a device that an instance holds keeps its identity;
    else it uses what this host knows by itself.
    """
    from usb_provider.host.udev import UdevHost

    host = UdevHost()
    if is_configured(conf):
        try:
            with reporter(conf, options, host) as report:
                seen = report.preview()
            holders = {
                provider.uuid: " ".join(sorted(provider.allocations))
                for provider in seen.tree.providers.values()
                if provider.managed and provider.allocated
            }
            return seen.devices, holders | {key: share.consumer for key, share in seen.shares.items()}
        except ConfigError:
            raise
        except UsbProviderError as error:
            output.say(f"Without Placement: {error}", error=True)
    chosen = settings(options)
    found = assess(
        host.devices(),
        chosen.specs,
        root=_root(options),
        junk=chosen.junk_serials,
        serial_trait=chosen.serial_trait,
    )
    return found, {}


def _root(options: Options) -> Root | None:
    """The root as far as this host knows it without Placement."""
    known = root_hints(options).known_uuid()
    return Root(known[0], options.agent.root_provider_name or "") if known else None


def _guests(options: Options) -> dict[str, str]:
    """The guest that has a device now, by :func:`output.holder_key`, as the running agent says, if one answers."""
    try:
        guests = ask_agent(options.hook.socket).guests
    except Unavailable:
        return {}
    return {
        device.member or device.provider_uuid: guest.name or guest.uuid
        for guest in guests
        for device in guest.devices
        if device.state is BindingState.ATTACHED
    }
