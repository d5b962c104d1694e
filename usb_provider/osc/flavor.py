"""``openstack usb flavor create|check``: writes a flavor that asks for USB devices, and checks any flavor.

model/pitfalls.py finds the pitfalls, model/verdict.py says what to ask Placement and what its answers mean; this asks.
"""

import argparse
from collections.abc import Collection, Mapping, Sequence

from osc_lib.cli import format_columns

from placement_traits.names import check_custom
from usb_provider.exception import UnknownArgument
from usb_provider.osc import base
from usb_provider.osc.device import COST, Fields, describe_consumers
from usb_provider.osc.fleet import no_such_trait
from usb_provider.osc.model import flavor as model
from usb_provider.osc.model.flavor import Request, Size
from usb_provider.osc.model.fleet import Device
from usb_provider.osc.model.pitfalls import Consequence, Known, Pitfall, pitfalls
from usb_provider.osc.model.verdict import Shortage, shortage, steps

_MOST_DEVICES = 15
_MOST_HOLDERS = 10
_NOT_CHECKED = "not checked: name one with --image"


class CreateFlavor(base.ShowOne):
    """Create a flavor that asks for USB devices, with the extra specs that nova and the guest need for them."""

    cost = "It makes 1 or 2 requests to Placement, to look whether class and traits exist, and 2 to Nova."

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Give the arguments."""
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="<flavor-name>", help="Name of the new flavor")
        parser.add_argument(
            "--class",
            dest="resource_class",
            metavar="<resource-class>",
            required=True,
            help="Class of the devices: a full name, or what follows CUSTOM_USB_, such as KEY",
        )
        parser.add_argument(
            "--count",
            metavar="<count>",
            type=int,
            default=1,
            help=f"Number of devices, each in a request group of its own (default 1, at most {_MOST_DEVICES})",
        )
        parser.add_argument(
            "--pool", action="store_true", help="The devices are members of one pool: one request group for all of them"
        )
        parser.add_argument(
            "--trait",
            metavar="<trait>",
            action="append",
            default=[],
            help="A trait that each device must have, or must not have with a ! before it. May be repeated",
        )
        for name, unit, default in (("vcpus", "count", 1), ("ram", "size-mb", 256), ("disk", "size-gb", 0)):
            parser.add_argument(
                f"--{name}",
                metavar=f"<{unit}>",
                type=int,
                default=default,
                help=f'As of "flavor create" (default {default})',
            )
        parser.add_argument("--private", action="store_true", help="Not available to other projects")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Fields:
        """Create it, and give its fields."""
        name = base.full_class_name(parsed_args.resource_class)
        required = {check_custom(each) for each in parsed_args.trait if not each.startswith("!")}
        forbidden = {check_custom(each[1:]) for each in parsed_args.trait if each.startswith("!")}
        if not 1 <= parsed_args.count <= _MOST_DEVICES:
            raise UnknownArgument(f"--count is {parsed_args.count}; a controller takes 1 to {_MOST_DEVICES} devices.")
        if both := required & forbidden:
            raise UnknownArgument(f"--trait has {', '.join(sorted(both))} with and without a !.")
        placement = self.cloud.placement
        if name not in placement.resource_classes():
            raise UnknownArgument(f"Placement has no resource class {name}; an agent creates it with its first device.")
        if missing := sorted((required | forbidden) - placement.existing_traits(required | forbidden)):
            raise no_such_trait(missing)
        made = self.cloud.nova.create_flavor(
            parsed_args.name,
            Size(parsed_args.vcpus, parsed_args.ram, parsed_args.disk),
            model.extra_specs_for(name, parsed_args.count, required, forbidden, pooled=parsed_args.pool),
            public=not parsed_args.private,
        )
        fields = {
            "id": made.id,
            "name": made.name,
            "vcpus": made.size.vcpus,
            "ram": made.size.memory_mb,
            "disk": made.size.disk_gb,
            "properties": format_columns.DictColumn(dict(made.extra_specs)),
        }
        return tuple(fields), base.cells(*fields.values())


class CheckFlavor(base.ShowOne):
    """Tell whether a server of this flavor would be scheduled now, where, and which lines mislead.

    It asks Placement what nova-scheduler would ask it. Nova's own filters come after that and are not looked at: host
    aggregates, availability zones, server groups, NUMA. It ends with exit code 1 when no host is left, or when a server
    would boot without a device that it asks for.
    """

    cost = (
        f"{COST}; 3 more, and where no host is left 1 for each request group, and 1 for each of up to {_MOST_HOLDERS} "
        "holders that are named. 1 request to Nova for a flavor that is given by its id, and 1 more for each 1000 "
        "flavors by its name, and 1 for its release, which may take 1 more to Placement; 1 or 2 to Glance."
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Give the arguments."""
        parser = super().get_parser(prog_name)
        parser.add_argument("flavor", metavar="<flavor>", help="Flavor, by name or id")
        parser.add_argument(
            "--image",
            metavar="<image>",
            help="Also look at this image, by name or id: with some properties, a guest has no good USB controller",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Fields:
        """Ask, and give the fields."""
        flavor = self.cloud.nova.flavor(parsed_args.flavor)
        image = self.cloud.glance.image(parsed_args.image) if parsed_args.image else None
        devices = self.cloud.fleet.devices()
        known = self._known(devices, flavor.extra_specs, old_nova=self.cloud.nova_is_old())
        found = pitfalls(flavor.extra_specs, image, known)
        request = model.parse_extra_specs(flavor.extra_specs, flavor.size, _traits_of(image))
        hosts: frozenset[str] = frozenset()
        removed_by = reason = None
        if refused := [each.where for each in found if each.consequence is Consequence.NO_HOST]:
            removed_by, reason = ", ".join(refused), "Such a server is never scheduled: see the traps."
        else:
            hosts = self._hosts_for(request)
            if not hosts:
                removed_by, reason = self._why_not(request, known, devices)
        self.exit_code = int(not hosts or any(each.consequence is not Consequence.PERHAPS for each in found))
        fields = {
            "flavor": flavor.name,
            "image": parsed_args.image or _NOT_CHECKED,
            "schedulable": bool(hosts),
            "hosts": format_columns.ListColumn(self._names(hosts, devices)),
            "removed_by": removed_by,
            "reason": reason,
            "traps": _Pitfalls([_pitfall_json(each) for each in found]),
        }
        return tuple(fields), base.cells(*fields.values())

    def _known(self, devices: Sequence[Device], extra_specs: Mapping[str, str], *, old_nova: bool | None) -> Known:
        """Which of the classes and traits that the flavor names exist."""
        request = model.parse_extra_specs(extra_specs)
        named_traits = {name for group in request.groups for name in group.required | group.forbidden}
        return Known(
            self.cloud.placement.resource_classes(),
            self.cloud.placement.existing_traits(named_traits),
            frozenset(name for device in devices for name in device.amounts),
            frozenset(name for device in devices for name in device.traits),
            old_nova,
            _most_units(devices),
        )

    def _why_not(self, request: Request, known: Known, devices: Sequence[Device]) -> tuple[str | None, str]:
        """The part of the flavor that leaves no host, and why it does."""
        before: frozenset[str] = frozenset()
        for step in steps(request, known):
            hosts = self._hosts_for(step.request)
            if not hosts:
                if step.group is None:
                    return str(step), "No enabled host has enough left of what the flavor needs beside USB devices."
                return str(step), self._in_words(shortage(step.group, devices, before))
            before = hosts
        return None, "A moment later it can be scheduled: another consumer has released what it needs."

    def _hosts_for(self, request: Request) -> frozenset[str]:
        with self.cloud.progress.of("Asking Placement what nova-scheduler would ask it"):
            return self.cloud.placement.hosts_for(request.query())

    def _in_words(self, found: Shortage) -> str:
        holders = self.cloud.fleet.holders(found.held[:_MOST_HOLDERS])
        who = describe_consumers(self, {each for consumers in holders.values() for each in consumers})
        names = [str(who[each]) if each in who else each for held in holders.values() for each in sorted(held)]
        if len(found.held) > _MOST_HOLDERS:
            names.append(f"{len(found.held) - _MOST_HOLDERS} more")
        return f"{found.text} Held by {', '.join(names)}." if names else found.text

    def _names(self, hosts: Collection[str], devices: Sequence[Device]) -> list[str]:
        names = {device.host_uuid: device.host for device in devices}
        return sorted(base.safe(names.get(uuid, uuid)) for uuid in hosts)


class _Pitfalls(format_columns.ListDictColumn):
    """Pitfalls: for people one a line, for programs as objects."""

    def human_readable(self) -> str:
        """Give the lines."""
        return "\n".join(f"{each['where']}: {each['text']}" for each in self._value)


def _most_units(devices: Sequence[Device]) -> dict[str, int]:
    """How many units the largest pool of each class has, held or not."""
    most: dict[str, int] = {}
    for device in devices:
        for name in device.amounts if device.is_pool else ():
            most[name] = max(most.get(name, 0), device.units, device.units_held)
    return most


def _pitfall_json(each: Pitfall) -> dict[str, str]:
    return {"where": base.safe(each.where), "outcome": each.consequence.value, "text": base.safe(each.text)}


def _traits_of(image: Mapping[str, str] | None) -> set[str]:
    return {
        key.removeprefix("trait:")
        for key, value in (image or {}).items()
        if key.startswith("trait:") and value == "required"
    }
