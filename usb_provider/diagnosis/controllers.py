"""The check of the host's USB controllers: their two names, and rules that use the one which may change."""

from dataclasses import dataclass

from usb_provider.diagnosis.check import Check, Finding, sentences, some
from usb_provider.diagnosis.context import Context, Maybe, Unknown
from usb_provider.diagnosis.udev import DEVICES
from usb_provider.model.devices.controllers import HostController, host_controllers


@dataclass(frozen=True, slots=True)
class ControllerFacts:
    """The controllers of this host, and those that a rule names by the address of this boot, with the rule's number."""

    controllers: tuple[HostController, ...]
    by_address: tuple[tuple[int, HostController], ...] = ()


class HostControllersCheck(Check[ControllerFacts]):
    """Whether each rule names its controller by the name that stays."""

    name = "host controllers"

    def read(self, context: Context) -> Maybe[ControllerFacts]:
        """The controllers as udev shows them, and the rules."""
        devices = context.get(DEVICES)
        if isinstance(devices, Unknown):
            return devices
        controllers = host_controllers(devices)
        by_address = tuple(
            (spec.number, each)
            for spec in context.options.usb.specs
            for each in controllers
            if each.has_two_names and spec.controller == each.address
        )
        return ControllerFacts(controllers, by_address)

    def judge(self, facts: ControllerFacts) -> Finding:
        """A rule that may be about another controller after the next boot; otherwise, the names."""
        if facts.by_address:
            said = [
                f"device_spec rule {number} names the controller {each.address}." for number, each in facts.by_address
            ]
            names = dict.fromkeys(f'"controller": "{each.topology}"' for _, each in facts.by_address)
            return self.warning(
                f"{sentences(said)} A new card can give this address to another controller.",
                f"Write {', '.join(names)}, which stays the same.",
            )
        if not facts.controllers:
            return self.not_checked("No device shows a USB controller.")
        first = sorted(facts.controllers, key=lambda each: not each.has_two_names)
        return self.ok(f"The USB controllers are {some([str(each) for each in first])}.")
