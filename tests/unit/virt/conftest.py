"""libvirt as the stub has it, and this host's guests by it."""

import importlib
import sys
import threading
from collections.abc import Iterator

import pytest

import usb_provider.virt
from tests.fixtures.libvirt_stub import Libvirtd, StubOfLibvirt

OPEN_SECONDS = 0.3
CLOSE_SECONDS = 0.3


@pytest.fixture
def libvirtd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Libvirtd]:
    """The daemon; the module that asks it is imported anew, whether libvirt's own is installed or not."""
    daemon = Libvirtd()
    name = "usb_provider.virt.domain"
    monkeypatch.setitem(sys.modules, "libvirt", StubOfLibvirt(daemon))
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(usb_provider.virt, "domain", None, raising=False)
    del sys.modules[name]
    module = importlib.import_module(name)
    monkeypatch.setattr(module, "_OPEN_SECONDS", OPEN_SECONDS)
    monkeypatch.setattr(module, "_CLOSE_SECONDS", CLOSE_SECONDS)
    monkeypatch.setattr(module, "_event_loop", [threading.main_thread()])  # the test delivers events
    yield daemon
    daemon.end()
    assert daemon.violations == []


@pytest.fixture
def opening_has_time(libvirtd: Libvirtd, monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that open many connections, which are opened one at a time: a busy machine needs longer for them."""
    monkeypatch.setattr(sys.modules["usb_provider.virt.domain"], "_OPEN_SECONDS", 30.0)


@pytest.fixture
def changed() -> threading.Event:
    """Set when it is time to look again."""
    return threading.Event()


@pytest.fixture
def host(libvirtd: Libvirtd, changed: threading.Event) -> Iterator[object]:
    """A LibvirtHost."""
    made = sys.modules["usb_provider.virt.domain"].LibvirtHost("stub:///system", changed.set)
    yield made
    libvirtd.end()
    made.close()
