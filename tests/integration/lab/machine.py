"""What the virtual test host is made of: QEMU's arguments, and the commands that make a booted one ready."""

import hashlib
import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.integration.lab.errors import LabError

LAN = {1: "10.9.0.1", 2: "10.9.0.2"}
"""Addresses of the test hosts on the wire between them, by number."""
CONTROLLERS = ("xhci", "xhci2")
"""The host's USB controllers by QEMU's id; each is two buses of eight ports, USB 2 and USB 3."""
PORTS = 8
USB_2_PORT = str(PORTS + 1)
"""A port that each controller has on its USB 2 bus only: a disk there has high speed, and super-speed elsewhere."""

# Emulated throughout, so that no /dev/kvm is needed; the processor that QEMU emulates virtualizes in turn (AMD's SVM),
# so the guests inside run under KVM. Without la57 there is one level of page tables less to emulate.
MACHINE = [
    *shlex.split(
        "-machine q35,usb=off,vmport=off -accel tcg,thread=multi,tb-size=1024 -cpu max,la57=off -smp 2 -m 3072 "
        "-nodefaults -no-user-config -display none -rtc base=utc -device virtio-rng-pci "
        "-device virtio-blk-pci,drive=disk -device virtio-net-pci,netdev=net,romfile="
    ),
    # The documents name a device by the first controller's place, 00:04.0; what is new comes after the controllers.
    *(word for id in CONTROLLERS for word in ("-device", f"qemu-xhci,id={id},p2={USB_2_PORT},p3={PORTS}")),
    *("-device", "virtio-net-pci,netdev=lan,romfile="),
    "-append",
    # The clock is the HPET: a TSC that was measured while the machine is busy would be wrong by far, and be saved so.
    "console=ttyS0 quiet rw mitigations=off nokaslr random.trust_cpu=on no_timer_check tsc=reliable clocksource=hpet "
    "net.ifnames=0 systemd.show_status=0 selinux=0 apparmor=0",
]
# What is slow the first time is done before the host is saved: libvirt finds out what its QEMU can do, and the files of
# the product's dependencies are read.
MAKE_READY = """\
until virsh list >/dev/null 2>&1; do sleep 0.3; done
virsh domcapabilities --virttype qemu >/dev/null && virsh domcapabilities --virttype kvm >/dev/null
/opt/usb-provider/bin/python -c 'import keystoneauth1.loading, libvirt, oslo_config.cfg, oslo_log.log, pyudev'
udevadm settle
until [ "$(systemctl is-system-running)" != starting ]; do sleep 0.3; done
sync
"""
# Both hosts go on from the same saved one: what libvirt and the wire tell them apart by is set here, for good.
# The sockets stop too: an agent that asks for libvirt would start it again, and it takes no new socket while it runs.
JOIN_LAN = """\
set -e
cat > /etc/systemd/system/lan.service <<'UNIT'
[Unit]
Before=libvirtd.service
[Service]
Type=oneshot
ExecStart=/bin/ip link set eth1 address 52:54:00:00:09:0{number}
ExecStart=/bin/ip address replace {address}/24 dev eth1
ExecStart=/bin/ip link set eth1 up
[Install]
WantedBy=multi-user.target
UNIT
echo {name} > /etc/hostname && hostname {name}
printf '%s\\n' '127.0.0.1 localhost' {hosts} > /etc/hosts
sed -i '/^host_uuid\\|^auth_tcp/d' /etc/libvirt/libvirtd.conf
echo 'host_uuid = "00000000-0000-4000-8000-00000000000{number}"' >> /etc/libvirt/libvirtd.conf
echo 'auth_tcp = "none"' >> /etc/libvirt/libvirtd.conf
systemctl daemon-reload
systemctl enable --quiet --now lan
systemctl stop libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd
systemctl enable --now libvirtd-tcp.socket
systemctl start libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd
until virsh list >/dev/null 2>&1; do sleep 0.3; done
sync
"""


@dataclass(frozen=True, slots=True)
class Image:
    """What build.sh made: a directory with the disk, the kernel and the key."""

    directory: Path

    @classmethod
    def build(cls) -> Self:
        """Give the image for the recipe and the dependencies as they are now, built if there is none yet.

        :raises LabError: when it cannot be built; build.sh has said why on standard error.
        """
        script = Path(__file__).with_name("build.sh")
        environment = os.environ | {"PYTHON": sys.executable}
        environment.pop("LD_PRELOAD", None)
        done = subprocess.run([script], stdout=subprocess.PIPE, env=environment, text=True, check=False)
        if done.returncode:
            raise LabError(f"{script} failed with {done.returncode}")
        return cls(Path(done.stdout.splitlines()[-1]))

    def saved(self) -> Path:
        """The directory for the booted host as this QEMU and this module would save it."""
        version = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, check=True).stdout
        words = json.dumps([MACHINE, MAKE_READY]).encode()
        return self.directory / f"ready-{hashlib.sha256(version + words).hexdigest()[:16]}"


def host_name(number: int) -> str:
    """Give the name of the test host with this number."""
    return "testhost" if number == 1 else f"testhost{number}"
