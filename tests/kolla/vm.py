"""The Kolla host as a virtual machine with USB and KVM: the Debian of host.py, under the QEMU of the integration tests.

Kernel and first process are those of the integration tests' image, the root directory is host.py's; podman's store of
images is in it, so nothing has to be loaded.
"""

import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.integration.lab.machine import Image
from tests.integration.lab.vm import Vm
from tests.kolla.engine import CACHE, STORE
from tests.kolla.host import make_root

LAB = Path(os.environ.get("USB_PROVIDER_LAB") or CACHE.with_name("usb-provider-lab"))
NAME = "testhost"
# What podman needs besides; the rest is what the virtual test host has.
_MODULES = r"^kernel/(fs/overlayfs|net/(ipv4|ipv6)/netfilter|net/netfilter)/"


def start(directory: Path) -> Vm:
    """Give a running machine that answers ssh, with nothing plugged in. *directory*'s path must be short."""
    vm = Vm(build(), directory)
    try:
        vm.boot()
        # /dev/kvm is open as a rule of Kolla-Ansible for udev makes it, which "genconfig" does not install.
        ready = (
            "systemctl is-system-running --wait; modprobe -a overlay kvm_amd && udevadm settle && chmod 666 /dev/kvm"
        )
        ready += " && systemctl start podman.socket"
        vm.ssh(ready, timeout=300)
    except BaseException:
        vm.stop()
        raise
    return vm


def connection(vm: Vm) -> dict[str, str]:
    """How Ansible reaches the machine."""
    return {
        "ansible_connection": "ssh",
        "ansible_host": NAME,
        "ansible_user": "root",
        "ansible_ssh_common_args": shlex.join([*vm.ssh_options(), "-o", "ControlMaster=no"]),
        "ansible_python_interpreter": "/opt/kolla/bin/python",
        "network_interface": "eth0",
    }


def build() -> Image:
    """Give the machine's image, made when the images of containers or the host have changed."""
    lab = Image.build().directory
    made_of = [lab.name, (STORE / "overlay-images" / "images.json").read_text(), Path(__file__).read_text()]
    directory = CACHE / f"vm-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]}"
    if directory.exists():
        return Image(directory)
    for old in CACHE.glob("vm-*"):
        shutil.rmtree(old)
    with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
        part, root = Path(temporary, "vm"), Path(temporary, "root")
        part.mkdir()
        for name in ("vmlinux", "initrd", "id_ed25519", "guest-initrd"):
            shutil.copy2(lab / name, part)
        make_root(root, NAME, "10.0.2.15", _public(lab))
        _add_modules(lab, root)
        # Devices are the machine's own here.
        for unit in (root / "etc/systemd/system").glob("systemd-udev*"):
            unit.unlink()
        subprocess.run(["cp", "-a", f"{STORE}/.", str(root / "srv")], check=True)
        used = subprocess.run(["du", "-sm", str(root)], capture_output=True, text=True, check=True).stdout
        size = int(used.split()[0]) + 3072
        make = ["mke2fs", "-q", "-t", "ext4", "-O", "^metadata_csum", "-J", "size=16", "-m", "0", "-d", str(root)]
        subprocess.run([*make, str(part / "host.ext4"), f"{size}M"], check=True)
        (part / "in-use").touch()
        part.rename(directory)
    return Image(directory)


def _public(lab: Path) -> str:
    words = ["ssh-keygen", "-y", "-f", str(lab / "id_ed25519")]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def _add_modules(lab: Path, root: Path) -> None:
    """Unpack the modules of the kernel that the integration tests' image boots."""
    suite = lab.name.partition("-")[0]
    (package,) = LAB.glob(f"debian-{suite}-*/linux-image-*.deb")
    with tempfile.TemporaryDirectory(dir=CACHE) as unpacked:
        subprocess.run(["dpkg-deb", "-x", str(package), unpacked], check=True)
        (modules,) = (path for top in ("lib", "usr/lib") for path in Path(unpacked, top, "modules").glob("*"))
        patterns = Path(__file__).parents[1] / "integration" / "lab" / "files" / "modules"
        wanted = f"{{ ls modules.*; find kernel -name '*.ko*' | grep -E -f {patterns} -e '{_MODULES}'; }}"
        target = root / "usr/lib/modules" / modules.name
        target.mkdir(parents=True)
        subprocess.run(["bash", "-c", f"{wanted} | cpio -pdm --quiet {target}"], cwd=modules, check=True)
        subprocess.run(["depmod", "-b", str(root), modules.name], check=True)
