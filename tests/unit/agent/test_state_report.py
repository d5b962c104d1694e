"""The section of the report that is about guests."""

import types
from pathlib import Path

from oslo_config import cfg

from usb_provider.agent.state_report import report
from usb_provider.conf.load import open_files
from usb_provider.model.binding.status import BindingState, DeviceStatus, GuestStatus, RefusedStart


def section(guests: tuple[GuestStatus, ...] | None) -> list[str]:
    """What the report says of *guests*."""
    snapshot = types.SimpleNamespace(last=None, last_at=None, failure=None, guests=guests)
    lines = report(cfg.ConfigOpts(), snapshot).partition("Guests and their devices")[2].splitlines()[2:]  # type: ignore[arg-type]
    return lines[: next(number for number, line in enumerate(lines) if line.startswith("==="))]


def test_it_says_how_each_guest_stands() -> None:
    waiting = DeviceStatus("p", "host1_usb_key", BindingState.WAITING, 0.0, "it is not plugged in")
    attached = DeviceStatus("q", "host1_usb_disk", BindingState.ATTACHED, 1.0, None)
    refused = RefusedStart("It has no\x1b USB port.", 2.0)
    assert section((GuestStatus("u", "vm", (waiting, attached)), GuestStatus("v", None, (), refused))) == [
        "vm (u) host1_usb_key waiting since 1970-01-01T00:00:00+00:00: it is not plugged in",
        "vm (u) host1_usb_disk attached since 1970-01-01T00:00:01+00:00",
        r"None (v) refused at 1970-01-01T00:00:02+00:00: It has no\x1b USB port.",
    ]


def test_it_says_that_there_is_no_guest_or_that_none_is_served() -> None:
    assert section(()) == ["none"]
    assert section(None) == ["Guests are not served: [libvirt]enabled is false, or libvirt's Python module is missing."]


def test_it_shows_no_password_of_an_address(tmp_path: Path) -> None:
    (tmp_path / "usb.conf").write_text("[libvirt]\nconnection_uri = qemu+ssh://root:secret@host/system\n")
    conf = open_files(["--config-file", str(tmp_path / "usb.conf")])
    snapshot = types.SimpleNamespace(last=None, last_at=None, failure=("http://a:secret@b fails.", 0.0), guests=None)
    text = report(conf, snapshot)  # type: ignore[arg-type]
    assert "qemu+ssh://***@host/system" in text and "http://***@b fails." in text
    assert "secret" not in text
