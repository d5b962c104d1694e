"""The report that the agent writes at SIGUSR2: what it knows, waits for and does, as text.

The only module that imports oslo.reports, which calls this a Guru Meditation Report, and only when a report is made. It
changes nothing. A section that cannot be made says so, and the others are still made. process.py says when to make one.
"""

import datetime
import functools
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oslo_config import cfg

from usb_provider.exception import masked
from usb_provider.model.reporting.provider import Assessment
from usb_provider.model.text import printable

if TYPE_CHECKING:
    from usb_provider.agent.process import Snapshot

LOG = logging.getLogger(__name__)

_LONGEST = 400


def write(conf: cfg.ConfigOpts, snapshot: "Snapshot") -> None:
    """Make a report and write it to a file in [oslo_reports]log_dir or [DEFAULT]log_dir, else to standard error."""
    text = report(conf, snapshot)
    directory = conf.oslo_reports.log_dir or conf.log_dir
    if directory:
        now = datetime.datetime.now(datetime.UTC)
        path = Path(directory, f"usb-provider-agent_gurumeditation_{now:%Y%m%d%H%M%S%f}")
        try:
            # Only for the agent's user: it contains serial numbers and names of guests.
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            LOG.warning(
                "The agent writes the report to standard error, since it cannot write to %s (%s); let the agent's user "
                "write to that directory.",
                path,
                error.strerror,
            )
        else:
            LOG.info("The report that SIGUSR2 asked for is in %s.", path)
            return
    sys.stderr.write(text)
    sys.stderr.flush()


def report(conf: cfg.ConfigOpts, snapshot: "Snapshot") -> str:
    """The whole report: the package, our own sections, every thread's stack, the process, the configuration.

    Options that hold secrets are left out, and so are passwords in addresses.
    """
    from oslo_reports import report as reports
    from oslo_reports.generators.conf import ConfigReportGenerator
    from oslo_reports.generators.process import ProcessReportGenerator
    from oslo_reports.generators.threading import ThreadReportGenerator
    from oslo_reports.generators.version import PackageReportGenerator

    made = reports.TextReport("Guru Meditation of usb-provider agent")
    sections: Sequence[tuple[str, Callable[[], Any]]] = (
        ("Package", PackageReportGenerator(_Version())),
        ("Last pass", lambda: "\n".join(_last_pass(snapshot))),
        ("Devices, and why each is offered or not", lambda: "\n".join(_devices(snapshot))),
        ("Guests and their devices", lambda: "\n".join(_guests(snapshot))),
        ("Threads", ThreadReportGenerator()),
        ("Names of threads", lambda: "\n".join(f"{each.ident} {each.name}" for each in threading.enumerate())),
        ("Process", ProcessReportGenerator()),
        ("Configuration", ConfigReportGenerator(conf)),
    )
    for title, generate in sections:
        made.add_section(title, functools.partial(_told, generate))
    return masked(f"{made.run()}\n")


def _told(generate: Callable[[], Any]) -> str:
    """What *generate* gives as text; a failure becomes one line, so that the other sections are still made."""
    try:
        model = generate()
        if not isinstance(model, str):
            model.set_current_view_type("text")
        return str(model)
    except Exception as error:
        LOG.debug("A section of the report cannot be made.", exc_info=True)
        return f"cannot be told: {type(error).__name__}: {printable(str(error), _LONGEST)}"


class _Version:
    """The package, in oslo.reports' words."""

    def vendor_string(self) -> str:
        """Who makes it."""
        return "usb-provider"

    def product_string(self) -> str:
        """What it is."""
        return "usb-provider agent"

    def version_string_with_package(self) -> str:
        """Its version."""
        return metadata.version("usb-provider")


def _last_pass(snapshot: "Snapshot") -> Iterator[str]:
    done = snapshot.last
    if snapshot.failure is not None:
        text, when = snapshot.failure
        yield f"Waiting since {_moment(when)}: {printable(text, _LONGEST)}"
    if done is None or snapshot.last_at is None:
        yield "No pass has succeeded yet."
        return
    yield f"Last good pass: {_moment(snapshot.last_at)}, {done.requests} requests, {done.seconds:.3f} s"
    yield f"Compute node: {printable(done.root.name, 200)} ({done.root.uuid})"
    for action in done.actions:
        yield f"done: {printable(str(action), _LONGEST)}"
    for note in done.notes:
        yield f"note: {printable(note.text, _LONGEST)}"
    for provider in done.tree.providers.values():
        has = ", ".join(f"{name} {each.total}/{each.reserved}" for name, each in sorted(provider.inventories.items()))
        held = " ".join(sorted(provider.allocations)) or "no consumer"
        yield (
            f"provider {printable(provider.name, 200)} ({provider.uuid}), generation {provider.generation}: "
            f"total/reserved {has or 'none'}; held by {held}"
        )


def _devices(snapshot: "Snapshot") -> Iterator[str]:
    devices: Sequence[Assessment] = snapshot.last.devices if snapshot.last is not None else ()
    for each in devices:
        device = each.device
        yield (
            f"{device.sys_name} {device.usb_id} bus {device.busnum} device {device.devnum} "
            f"{printable(each.identity.key, 200)}: {printable(each.reason, _LONGEST)}"
        )
    if not devices:
        yield "none"


def _guests(snapshot: "Snapshot") -> Iterator[str]:
    if snapshot.guests is None:
        yield "Guests are not served: [libvirt]enabled is false, or libvirt's Python module is missing."
        return
    for guest in snapshot.guests:
        name = f"{printable(str(guest.name), 200)} ({guest.uuid})"
        for device in guest.devices:
            why = f": {printable(device.reason, _LONGEST)}" if device.reason else ""
            yield f"{name} {device.provider_name} {device.state.value} since {_moment(device.since)}{why}"
        if guest.refused is not None:
            reason = printable(guest.refused.reason, _LONGEST)
            yield f"{name} refused at {_moment(guest.refused.since)}: {reason}"
    if not snapshot.guests:
        yield "none"


def _moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")
