"""Guests of the test host: domains as nova-compute writes them, virsh by hand, and what there is to see of them.

A guest is either Linux, which says on its console which USB devices it has ("USB+ 46f4:0001 SERIAL", "USB- …"), or has
no system at all and starts in no time; the latter's firmware looks at USB devices only once. No part of the product is
used here.
"""

import json
import re
import shlex
import uuid as uuidlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

from tests.integration.lab.vm import CommandFailed, Vm

GUEST_READY_SECONDS = 300
"""How long a Linux guest may take to boot, under emulation twice over."""

# As nova 34 writes it for virt_type=qemu with VNC off, but for the disk, which is a kernel here or nothing at all.
_DOMAIN = """\
<domain type='{kind}'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <metadata>
    <nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1">
      <nova:package version="34.0.0"/>
      <nova:name>{name}</nova:name>
      <nova:creationTime>2026-01-01 00:00:00</nova:creationTime>
      <nova:flavor name="usb" id="14a743e0-dd5e-47f8-bbb6-290ff253b7cd">
        <nova:memory>{memory}</nova:memory>
        <nova:disk>0</nova:disk>
        <nova:swap>0</nova:swap>
        <nova:ephemeral>0</nova:ephemeral>
        <nova:vcpus>1</nova:vcpus>
        <nova:extraSpecs>{extra_specs}
        </nova:extraSpecs>
      </nova:flavor>
      <nova:owner>
        <nova:user uuid="920dfb9d26ba4bff9604c0ab8a7c6480">admin</nova:user>
        <nova:project uuid="82eb52d57aca4ec69360d6239cbbd631">admin</nova:project>
      </nova:owner>
      <nova:ports/>
    </nova:instance>
  </metadata>
  <memory unit='MiB'>{memory}</memory>
  <vcpu placement='static'>1</vcpu>
  <sysinfo type='smbios'>
    <system>
      <entry name='manufacturer'>OpenStack Foundation</entry>
      <entry name='product'>OpenStack Nova</entry>
      <entry name='uuid'>{uuid}</entry>
    </system>
  </sysinfo>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>{boot}
    <smbios mode='sysinfo'/>
  </os>
  <features>
    <acpi/>
    <apic/>
  </features>
  <cpu mode='custom' match='exact' check='none'>
    <model fallback='forbid'>qemu64</model>
  </cpu>
  <clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>{controller}
    <serial type='pty'>
      <log file='{console}' append='off'/>
    </serial>
    <input type='mouse' bus='ps2'/>
    <input type='keyboard' bus='ps2'/>
    <audio id='1' type='none'/>
    <memballoon model='none'/>{hostdevs}
  </devices>
</domain>
"""
_LINUX = """
    <kernel>/opt/guest/vmlinux</kernel>
    <initrd>/opt/guest/initrd</initrd>
    <cmdline>{words}</cmdline>"""
_WORDS = "console=ttyS0 quiet mitigations=off nokaslr no_timer_check tsc=reliable random.trust_cpu=on cryptomgr.notests"


@dataclass(frozen=True, slots=True)
class HostDevice:
    """A USB device as the test host's kernel has it."""

    sys_name: str
    vendor: str
    product: str
    serial: str | None
    bus: int
    device: int


@dataclass(frozen=True, slots=True)
class Hostdev:
    """A USB device that a domain's XML passes through; None is what the XML does not say."""

    alias: str | None
    vendor: str | None
    product: str | None
    bus: int | None
    device: int | None


def uuid_of(name: str) -> str:
    """Give the UUID of the domain *name*, the same every time."""
    return str(uuidlib.uuid5(uuidlib.NAMESPACE_DNS, name))


def directory(uuid: str) -> str:
    """Give the directory of a domain's files, where nova has it."""
    return f"/var/lib/nova/instances/{uuid}"


def console_path(uuid: str) -> str:
    """Give the path of a domain's console, where nova has it."""
    return f"{directory(uuid)}/console.log"


def domain_xml(
    name: str,
    uuid: str | None = None,
    *,
    usb_model: str | None = "qemu-xhci",
    linux: bool = True,
    hostdevs: Iterable[str] = (),
    extra_specs: Mapping[str, str] | None = None,
    kind: str = "kvm",
) -> str:
    """Give a domain's XML.

    :param usb_model: the USB controller's model, "none", or None to leave it to libvirt.
    :param linux: whether there is a Linux in it, or no system at all.
    :param hostdevs: elements as :func:`hostdev_xml` gives them.
    :param extra_specs: the flavor's.
    :param kind: "kvm" or "qemu"; the test host's processor can virtualize, and emulating another one is slower still.
    """
    uuid = uuid or uuid_of(name)
    specs = "".join(
        f"\n          <nova:extraSpec name={quoteattr(key)}>{escape(value)}</nova:extraSpec>"
        for key, value in (extra_specs or {}).items()
    )
    return _DOMAIN.format(
        kind=kind,
        name=escape(name),
        uuid=uuid,
        memory=256 if linux else 64,
        extra_specs=specs,
        boot=_LINUX.format(words=_WORDS) if linux else "",
        controller=f"\n    <controller type='usb' index='0' model='{usb_model}'/>" if usb_model else "",
        console=console_path(uuid),
        hostdevs="".join(hostdevs),
    )


def hostdev_xml(device: HostDevice, alias: str | None = None) -> str:
    """Give the element that passes exactly *device* through; libvirt wants own aliases to begin with "ua-"."""
    return (
        "<hostdev mode='subsystem' type='usb' managed='yes'><source>"
        f"<vendor id='0x{device.vendor}'/><product id='0x{device.product}'/>"
        f"<address bus='{device.bus}' device='{device.device}'/></source>"
        + (f"<alias name={quoteattr(alias)}/>" if alias else "")
        + "</hostdev>"
    )


# Hands


def virsh(vm: Vm, *words: str, timeout: float = 120) -> str:
    """Give what virsh prints; CommandFailed holds its error."""
    return vm.ssh(shlex.join(["virsh", "--quiet", *words]), timeout=timeout).strip()


def define(vm: Vm, xml: str) -> str:
    """Define the domain of *xml*, with a place for its console, and give its UUID."""
    uuid = ElementTree.fromstring(xml).findtext("uuid")
    assert uuid
    vm.put(xml, f"{directory(uuid)}/libvirt.xml")
    virsh(vm, "define", f"{directory(uuid)}/libvirt.xml")
    return uuid


def start(vm: Vm, domain: str) -> None:
    """Start *domain*, hooks included; CommandFailed when it is refused."""
    virsh(vm, "start", domain, timeout=180)


def destroy(vm: Vm, domain: str) -> None:
    """Stop *domain* at once, as nova does."""
    virsh(vm, "destroy", domain)


def destroy_all(vm: Vm) -> None:
    """Leave no domain running, defined or saved."""
    vm.ssh(
        "for uuid in $(virsh list --all --uuid); do virsh destroy $uuid; virsh managedsave-remove $uuid; "
        "virsh undefine $uuid --managed-save --nvram; done >/dev/null 2>&1; rm -rf /var/lib/nova/instances/*; "
        '[ -z "$(virsh list --all --uuid)" ]',
        timeout=300,
    )


def attach(vm: Vm, domain: str, device: HostDevice, alias: str | None = None) -> None:
    """Attach *device* to the running *domain*, by ``virsh attach-device --live``."""
    _device(vm, "attach-device", domain, device, alias)


def detach(vm: Vm, domain: str, device: HostDevice, alias: str | None = None) -> None:
    """Detach *device* from the running *domain*, by ``virsh detach-device --live``."""
    _device(vm, "detach-device", domain, device, alias)


def _device(vm: Vm, command: str, domain: str, device: HostDevice, alias: str | None) -> None:
    vm.put(hostdev_xml(device, alias), "/tmp/hostdev.xml")
    virsh(vm, command, domain, "/tmp/hostdev.xml", "--live")


# Eyes


def console(vm: Vm, domain: str) -> str:
    """Give all that *domain* has printed on its console since it started."""
    uuid = domain if re.fullmatch(r"[0-9a-f-]{36}", domain) else virsh(vm, "domuuid", domain)
    return vm.ssh(f"cat {console_path(uuid)}").replace("\r", "")


def wait_for_console(vm: Vm, domain: str, line: str, timeout: float = 60) -> None:
    """Return when a line of the domain's console is *line*; CommandFailed when none is within *timeout* seconds."""
    path = console_path(virsh(vm, "domuuid", domain))
    vm.wait_for(f"tr -d '\\r' < {path} | grep -qxF {shlex.quote(line)}", timeout, interval=1)


def wait_for_linux(vm: Vm, domain: str) -> None:
    """Return when the Linux in *domain* has booted."""
    wait_for_console(vm, domain, "GUEST ready", GUEST_READY_SECONDS)


def usb_in_guest(vm: Vm, domain: str) -> list[str]:
    """Give the USB devices that the Linux in *domain* has now, "46f4:0001 SERIAL" ("-" for none), no root hubs."""
    has: list[str] = []
    for line in console(vm, domain).splitlines():
        if line.startswith("USB+ ") and not line.startswith("USB+ 1d6b:"):
            has.append(line[5:])
        elif line.startswith("USB- "):
            has.remove(line[5:])
    return sorted(has)


def hostdevs(vm: Vm, domain: str) -> list[Hostdev]:
    """Give the USB devices that the live XML of *domain* passes through."""
    found = []
    for element in ElementTree.fromstring(virsh(vm, "dumpxml", domain)).iterfind("devices/hostdev[@type='usb']"):
        values = {
            path: node.get(attribute)
            for path, attribute in (("alias", "name"), ("source/vendor", "id"), ("source/product", "id"))
            if (node := element.find(path)) is not None
        }
        address = element.find("source/address")
        found.append(
            Hostdev(
                values.get("alias"),
                (values.get("source/vendor") or "").removeprefix("0x") or None,
                (values.get("source/product") or "").removeprefix("0x") or None,
                None if address is None else int(address.get("bus", "")),
                None if address is None else int(address.get("device", "")),
            )
        )
    return found


def info_usb(vm: Vm, domain: str) -> str:
    """Give QEMU's ``info usb``; "Device 0.0" is one to which the guest has given no address."""
    return virsh(vm, "qemu-monitor-command", domain, "--hmp", "info usb")


def qom_attached(vm: Vm, domain: str, alias: str) -> bool:
    """Whether the device *alias* of *domain* is alive for QEMU; False, too, for one that it does not have."""
    query = {"execute": "qom-get", "arguments": {"path": f"/machine/peripheral/{alias}", "property": "attached"}}
    answer = json.loads(virsh(vm, "qemu-monitor-command", domain, json.dumps(query)))
    return bool(answer.get("return", False))


def host_devices(vm: Vm) -> list[HostDevice]:
    """Give the USB devices of the test host, without root hubs, by sys_name."""
    fields = ("idVendor", "idProduct", "busnum", "devnum", "serial")
    text = vm.ssh(
        'cd /sys/bus/usb/devices; for d in [0-9]*; do [ -e "$d/idVendor" ] || continue; '
        f'echo "$d"; for f in {" ".join(fields)}; do cat "$d/$f" 2>/dev/null || echo; done; done'
    )
    lines = text.split("\n")
    count = len(fields) + 1
    found = [lines[at : at + count] for at in range(0, len(lines) - 1, count)]
    return [
        HostDevice(sys_name, vendor, product, serial or None, int(bus), int(device))
        for sys_name, vendor, product, bus, device, serial in found
    ]


def host_device(vm: Vm, serial: str, timeout: float = 20) -> HostDevice:
    """Give the device with *serial*, once it is there and udev has done its work."""
    vm.wait_for(f"grep -qxF {shlex.quote(serial)} /sys/bus/usb/devices/*/serial && udevadm settle", timeout)
    return next(device for device in host_devices(vm) if device.serial == serial)


def interface_drivers(vm: Vm, device: HostDevice) -> dict[str, str]:
    """Give the host's driver ("usbfs" when QEMU has it, "" for none) of each interface of *device*."""
    text = vm.ssh(
        f"cd /sys/bus/usb/devices; for i in {shlex.quote(device.sys_name)}:*; do [ -e $i ] || continue; "
        'echo "$i $(basename "$(readlink $i/driver)")"; done'
    )
    return {line.split(" ", 1)[0]: line.split(" ", 1)[1].strip() for line in text.splitlines()}


def is_running(vm: Vm, domain: str) -> bool:
    """Whether *domain* is there and running."""
    try:
        return virsh(vm, "domstate", domain) == "running"
    except CommandFailed:
        return False
