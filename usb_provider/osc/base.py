"""What all commands share: errors as one sentence, exit codes, and arguments that are spelled alike.

Sends no request and decides nothing about devices.
"""

import argparse
import gc
from typing import ClassVar

from osc_lib import exceptions
from osc_lib.command import command

from placement_traits import InvalidName
from placement_traits.names import check_custom
from placement_traits.usb import PREFIX
from usb_provider.exception import UnknownArgument, UsbProviderError
from usb_provider.model.text import printable
from usb_provider.osc.cloud import Cloud

_LONGEST = 2000


class _Base(command.Command):
    """Turns our errors into openstackclient's. A command that raises no error ends with ``exit_code``."""

    exit_code = 0
    cost: ClassVar[str] = ""
    """How many requests the command makes, the last paragraph of its help."""

    @property
    def cloud(self) -> Cloud:
        """The services of the caller's cloud."""
        # openstackclient gives its client manager an attribute for each plugin when it runs.
        found: Cloud = self.app.client_manager.usb  # type: ignore[attr-defined]
        return found

    def get_epilog(self) -> str:
        """Give the text below the options."""
        return self.cost

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Run the command. :raises CommandError: with the one sentence of what failed."""
        try:
            return super().run(parsed_args) or self.exit_code
        except (UsbProviderError, InvalidName) as error:
            raise exceptions.CommandError(safe(error)) from error

    def warn(self, text: str) -> None:
        """Say *text* on standard error."""
        self.log.warning("%s", safe(text))


class Command(_Base):
    """A command that prints nothing when all went well."""


class Lister(_Base, command.Lister):
    """A command that prints a table."""

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Run the command without the collector of cycles, which a list has none of: it took a fifth of the time."""
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            return super().run(parsed_args)
        finally:
            if was_enabled:
                gc.enable()


class ShowOne(_Base, command.ShowOne):
    """A command that prints one thing, a field a line."""


def full_class_name(text: str) -> str:
    """The class that *text* names: ``KEY`` is CUSTOM_USB_KEY, and a full name stays as it is.

    :raises UnknownArgument: when it cannot be a name; the caller should show that.
    """
    name = text if text.startswith("CUSTOM_") else PREFIX + text.upper().replace("-", "_")
    try:
        return check_custom(name)
    except InvalidName as error:
        raise UnknownArgument(
            f"{text!r} is no resource class: give one like CUSTOM_USB_KEY, or KEY for short."
        ) from error


def safe(text: object) -> str:
    """*text* as it may be printed: users choose the names of servers, hosts and flavors."""
    return printable(str(text), _LONGEST)


def cells(*values: object) -> tuple[object, ...]:
    """A line of a table: texts are made safe to print; the caller has made lists safe already."""
    return tuple(safe(value) if isinstance(value, str) else value for value in values)
