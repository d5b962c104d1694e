"""Every USB device that udev knows on this host, and a call whenever that may have changed.

The only module that imports pyudev. Events are never believed for what they carry: on a real host ``unbind`` and
``remove`` come without ID_* properties and attributes, ``add`` comes before the interfaces do, and a full buffer
loses some. They only say "look again", and looking is always a full enumeration.
"""

import errno
import logging
import os
import re
import select
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pyudev

from usb_provider.host.storage import is_disk_awaited, is_storage_driver
from usb_provider.host.sysfs import descriptors_of, inode_of, port_of_other_bus
from usb_provider.host.usage import HostUsage
from usb_provider.model.devices.device import EXPORTED, HostUse, Speed, Triplet, UnreadableDevice, UsbDevice

LOG = logging.getLogger(__name__)

_ATTRIBUTES = (
    "authorized",
    "bConfigurationValue",
    "bDeviceClass",
    "busnum",
    "devnum",
    "idProduct",
    "idVendor",
    "manufacturer",
    "product",
    "serial",
    "speed",
)
# A device that goes away loses these before its strings (device_del in drivers/base/core.c): while they are there and
# the same, what was read before is of one device, and complete.
_PROOF = ("idVendor", "idProduct", "speed", "bConfigurationValue")
# What is read of a USB device's own properties; it has many more, and a host may have a hundred devices.
_PROPERTIES = ("BUSNUM", "DEVNUM", "DRIVER", "ID_MODEL_ID", "ID_USB_INTERFACES", "ID_VENDOR_ID", "USEC_INITIALIZED")
_BELOW_USB = ("block", "hidraw", "input", "net")
_USB_PATH = re.compile(r"/usb\d+/")

# How long after udev has processed a storage device its SCSI device may still be on its way (the scan is
# asynchronous, and delay_use is 1 s by default).
_SCAN_SECONDS = 5.0

_LOOKS = 2
"""How often devices are looked up where one is another one after it was read; then the next call looks again."""

_BUFFER_BYTES = 8 * 1024 * 1024


class UdevHost:
    """This host's USB devices by libudev. Safe to use from several threads: it makes one enumeration at a time."""

    def __init__(self) -> None:
        self._context = pyudev.Context()
        self._looking = threading.Lock()
        self._news = _News()
        self._found: tuple[UsbDevice, ...] = ()
        self._found_at: _Heard | None = None
        self._has_changed = False

    def devices(self, *, fresh: bool = False) -> tuple[UsbDevice, ...]:
        """All USB devices now, hubs included; one that goes away while it is read is left out.

        One that is another device after it was read is looked up again, at the next call at the latest.

        It enumerates when udev has reported a change since the last enumeration began, while udev is still processing a
        device, while no watcher listens, and with *fresh*: udev reports no mount, for example. Otherwise this gives the
        same object as last time. Where udev has reported removals alone, it only leaves out what is gone, since an
        enumeration takes long on a host with many devices, and a removal is urgent; the next call enumerates.
        """
        with self._looking:
            now = self._news.count()
            is_known = now is not None and now == self._found_at and all(device.settled for device in self._found)
            if now is not None and now != self._found_at and self._found_at is not None:
                left = tuple(device for device in self._found if inode_of(device.sys_path) == device.plug_number)
                if now.others == self._found_at.others and len(left) < len(self._found):
                    self._found = left
                    return left
            if fresh or not is_known:
                for _ in range(_LOOKS):
                    self._has_changed = False
                    found = self._enumerate()
                    if not self._has_changed:
                        break
                if found != self._found:
                    self._found = found
                self._found_at = None if self._has_changed else now
            return self._found

    def _enumerate(self) -> tuple[UsbDevice, ...]:
        usage = HostUsage.read()
        devices: dict[str, pyudev.Device] = {}
        interfaces: defaultdict[str, list[pyudev.Device]] = defaultdict(list)
        for entry in self._context.list_devices(subsystem="usb"):
            kind = entry.properties.get("DEVTYPE")
            if kind == "usb_device":
                devices[entry.sys_path] = entry
            elif kind == "usb_interface":
                interfaces[os.path.dirname(entry.sys_path)].append(entry)
        below: defaultdict[str, list[pyudev.Device]] = defaultdict(list)
        for subsystem in _BELOW_USB:
            for entry in self._context.list_devices(subsystem=subsystem):
                owner = _owner(entry.sys_path, devices)
                if owner is not None:
                    below[owner].append(entry)
        known = {device.sys_path: device for device in self._found}
        found = []
        for path, entry in devices.items():
            device = _read(entry, interfaces[path], below[path], usage)
            # What was read is complete where it says what an earlier look found.
            if device is not None and (device == known.get(path) or self._is_proven(device, entry)):
                found.append(device)
        return tuple(found)

    def _is_proven(self, device: UsbDevice, entry: pyudev.Device) -> bool:
        """Whether *device* is still there and the same as when it was read from *entry*."""
        try:
            now = [Path(device.sys_path, name).read_bytes() for name in _PROOF]
        except OSError:
            LOG.debug("%s went away while it was being read.", device.sys_path)
            return False
        before = [_attribute(entry, name) or b"" for name in _PROOF]
        is_same = [each.strip() for each in now] == [each.strip() for each in before]
        if is_same and inode_of(device.sys_path) == device.plug_number:
            return True
        LOG.debug("%s was another device after it was read; looking again.", device.sys_path)
        self._has_changed = True
        return False

    def watch(self, changed: Callable[[bool], None]) -> "Watcher":
        """Start listening; *changed* is called, from a thread of its own, whenever it is time to look again.

        Its argument tells whether that is urgent, since something was removed. Call this before the first
        :meth:`devices`, so that no change between the two is missed.
        """
        return Watcher(self._context, self._news, changed)


@dataclass(frozen=True, slots=True)
class _Heard:
    """How often the watchers have heard anything, and how often anything but a removal."""

    all: int = 0
    others: int = 0


class _News:
    """Counts what the watchers of one host hear, for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heard = _Heard()
        self._listening = 0

    def heard(self, *, others: bool) -> None:
        """Something may have changed; without *others*, devices were removed, and nothing else happened."""
        with self._lock:
            self._heard = _Heard(self._heard.all + 1, self._heard.others + others)

    def listen(self, change: int) -> None:
        """That many more watchers listen, or fewer; something may have changed while none listened."""
        with self._lock:
            self._listening += change
            self._heard = _Heard(self._heard.all + 1, self._heard.others + 1)

    def count(self) -> _Heard | None:
        """How often anything was heard; None while no watcher listens, so that nothing can be said."""
        with self._lock:
            return self._heard if self._listening else None


class Watcher:
    """Listens to udev (not to the kernel: udev's events come when its rules have run) until it is stopped."""

    def __init__(self, context: pyudev.Context, news: _News, changed: Callable[[bool], None]) -> None:
        self._context = context
        self._news = news
        self._changed = changed
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._monitor = self._start()
        self._hears = False
        self._set_hears(True)
        self._thread = threading.Thread(target=self._run, name="udev", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening; returns when the thread has ended."""
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        os.close(self._wake)

    def _start(self) -> pyudev.Monitor:
        monitor = pyudev.Monitor.from_netlink(self._context, source="udev")
        for subsystem in ("usb", *_BELOW_USB):
            monitor.filter_by(subsystem)
        try:
            monitor.set_receive_buffer_size(_BUFFER_BYTES)
        except OSError:
            LOG.debug("The udev monitor keeps its usual buffer: a larger one needs CAP_NET_ADMIN.")
        monitor.start()
        return monitor

    def _set_hears(self, hears: bool) -> None:
        if hears is not self._hears:
            self._hears = hears
            self._news.listen(1 if hears else -1)

    def _run(self) -> None:
        try:
            self._listen()
        finally:
            self._set_hears(False)

    def _listen(self) -> None:
        while True:
            poller = select.poll()
            poller.register(self._monitor.fileno(), select.POLLIN)
            poller.register(self._wake, select.POLLIN)
            if any(fd == self._wake for fd, _ in poller.poll()):
                return
            urgent, others = False, True
            try:
                relevant, urgent, others = self._drain()
            except (OSError, ValueError) as error:
                # pyudev raises ValueError for EINVAL, and for an error of the socket without saying which it is.
                if errno.ENOBUFS in (getattr(error, "errno", None), self._socket_error()):
                    LOG.debug("The udev monitor lost events; looking again.")
                    relevant = True
                else:
                    LOG.debug("The udev monitor is broken (%s); opening another.", error)
                    self._set_hears(False)
                    relevant = self._reopen()
            if relevant:
                # First, so that a look that follows from this call does not get the old result.
                self._news.heard(others=others)
                self._changed(urgent)

    def _socket_error(self) -> int:
        """The number of the error that the monitor's socket has, 0 for none; reading it clears it."""
        try:
            with socket.socket(fileno=os.dup(self._monitor.fileno())) as monitor:
                return monitor.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        except OSError as error:
            return error.errno or 0

    def _reopen(self) -> bool:
        """Open another monitor after a moment; give whether that worked. The next poll shows a failure again."""
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        if poller.poll(1000):
            return False
        try:
            self._monitor = self._start()
        except OSError as error:
            LOG.warning("The udev monitor cannot be opened again: %s", error)
            return False
        self._set_hears(True)
        return True

    def _drain(self) -> tuple[bool, bool, bool]:
        """Read all waiting events; give whether any is about USB, whether any is a removal, and any something else."""
        relevant = urgent = others = False
        while (event := self._monitor.poll(timeout=0)) is not None:
            LOG.debug("udev: %s %s", event.action, event.device_path)
            if event.subsystem == "usb" or _USB_PATH.search(event.device_path) is not None:
                relevant = True
                urgent = urgent or _is_removal(event)
                others = others or event.action not in ("remove", "unbind")
        return relevant, urgent, others


def _is_removal(event: pyudev.Device) -> bool:
    """Whether a USB device has gone or is going.

    The devices below it are removed first, and its driver is unbound before it is removed. A driver that is unbound
    from an interface means nothing: QEMU does that to a device that it opens.
    """
    action: str = event.action
    is_device = event.subsystem == "usb" and event.device_type == "usb_device"
    return action == "remove" or (action == "unbind" and is_device)


def _owner(sys_path: str, devices: dict[str, pyudev.Device]) -> str | None:
    """The nearest USB device above *sys_path*: a disk behind a hub belongs to the disk's bridge, not to the hub."""
    path = os.path.dirname(sys_path)
    while len(path) > 1:
        if path in devices:
            return path
        path = os.path.dirname(path)
    return None


def _read(
    entry: pyudev.Device, interfaces: list[pyudev.Device], below: list[pyudev.Device], usage: HostUsage
) -> UsbDevice | None:
    plug_number = inode_of(entry.sys_path)
    properties = _properties(entry, _PROPERTIES)
    attributes = {name: value for name in _ATTRIBUTES if (value := _attribute(entry, name)) is not None}
    by_interface = [(_triplet(each), each.properties.get("DRIVER")) for each in interfaces]
    drivers = {triplet: driver for triplet, driver in by_interface if triplet is not None}
    bound = [driver for _, driver in by_interface if driver]
    # The driver of the device itself is "usb" or a variant of it, and says nothing more, with one exception.
    bound += [EXPORTED] if properties.get("DRIVER") == EXPORTED else []
    triplets = list(drivers)
    if not attributes.keys() >= set(_PROOF):
        # Then udev's ids may be there still, or those of an earlier device.
        LOG.debug("%s has lost its ids, speed or configuration: it is on its way out.", entry.sys_path)
        return None
    try:
        bare = UsbDevice.from_udev(entry.sys_path, properties, attributes, triplets, drivers=bound)
        uses: Iterable[HostUse] = usage.of(bare, drivers, [_below(each) for each in below])
        settled = _settled(properties, bound, below, entry.sys_path)
        return UsbDevice.from_udev(
            entry.sys_path,
            properties,
            attributes,
            triplets,
            settled=settled,
            plug_number=plug_number,
            has_disk=any(each.subsystem == "block" for each in below),
            uses=uses,
            drivers=bound,
            peer_port=port_of_other_bus(entry.sys_path) if bare.is_usb3 else None,
            descriptors=descriptors_of(entry.sys_path) if bare.speed is Speed.HIGH else b"",
        )
    except UnreadableDevice:
        LOG.debug("%s went away while it was being read.", entry.sys_path)
        return None


def _below(entry: pyudev.Device) -> tuple[str, str, dict[str, str]]:
    return entry.subsystem, entry.sys_path, _properties(entry)


def _properties(entry: pyudev.Device, names: Iterable[str] | None = None) -> dict[str, str]:
    """udev's properties, or those of *names*, but those that are not text, which pyudev raises for.

    Some contain a device's own strings, which the kernel cuts at a number of bytes (NAME and UNIQ of input devices,
    HID_NAME).
    """
    properties = {}
    for name in entry.properties if names is None else names:
        try:
            properties[name] = entry.properties[name]
        except (UnicodeDecodeError, KeyError):
            continue
    return properties


def _attribute(entry: pyudev.Device, name: str) -> bytes | None:
    try:
        value = entry.attributes.get(name)
    except OSError:
        return None
    return value if isinstance(value, bytes) else None


def _triplet(entry: pyudev.Device) -> Triplet | None:
    parts = [
        (_attribute(entry, name) or b"").decode("ascii", "replace").strip().lower()
        for name in ("bInterfaceClass", "bInterfaceSubClass", "bInterfaceProtocol")
    ]
    return (parts[0], parts[1], parts[2]) if all(re.fullmatch(r"[0-9a-f]{2}", part) for part in parts) else None


def _settled(properties: dict[str, str], drivers: Iterable[str], below: list[pyudev.Device], sys_path: str) -> bool:
    """Whether udev's data on the device is complete.

    udev's rules set ID_* and USEC_INITIALIZED at the end of ``add``. Where no udev runs (a recording, a container
    without /run/udev) there is nothing to wait for. A disk that the kernel has found but does not show yet is waited
    for, however long it takes to start turning.
    """
    started = properties.get("USEC_INITIALIZED")
    if started is None and "ID_VENDOR_ID" not in properties and Path("/run/udev/control").exists():
        return False
    if not any(is_storage_driver(driver) for driver in drivers):
        return True
    disks = [each.sys_path for each in below if each.subsystem == "block"]
    if is_disk_awaited(sys_path, disks):
        return False
    if started is None or not started.isdigit():
        return True
    age = time.clock_gettime(time.CLOCK_MONOTONIC) - int(started) / 1e6
    return age > _SCAN_SECONDS or bool(disks)
