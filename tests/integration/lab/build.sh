#!/bin/bash
# Builds the virtual test host of the integration tests from Debian packages, unless it is there already, and prints
# the directory that holds it: host.ext4 (the disk), vmlinux, initrd (to boot it), id_ed25519 (for root's ssh) and
# guest-initrd (what boots with vmlinux in its guests).
#
# The cache, USB_PROVIDER_LAB or usb-provider-lab in the user's cache directory, has a directory for the state of this
# recipe and of the project's dependencies. Needs root: packages are unpacked and configured in a chroot.
#
# SUITE is the Debian release of the test host: bookworm (12), which is the default, or trixie (13).
#
# NOVA_PYTHON is the Python of an environment that has another Nova: the host gets nova-compute from there, with the
# versions of that environment.
#
# "build.sh debian" makes only Debian's part, which needs no Python: "make cloud" does it while the venv is made.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../../.." && pwd)
cache=${USB_PROVIDER_LAB:-${XDG_CACHE_HOME:-$HOME/.cache}/usb-provider-lab}
suite=${SUITE:-bookworm}
# What the dependencies want on the test host's Python alone, which pip on another Python does not find out.
case $suite in
    bookworm) image_python=3.11 only_there=(async-timeout) ;; # libvirt 9.0, QEMU 7.2; redis wants it below 3.11.3
    trixie) image_python=3.13 only_there=(legacy-cgi) ;;      # libvirt 11.3, QEMU 10.0; WebOb wants it from 3.13 on
    *)
        echo "SUITE is bookworm or trixie, not $suite." >&2
        exit 1
        ;;
esac

mkdir -p "$cache"
exec 9> "$cache/lock"
flock 9
say() { echo "The virtual machine's image, after $SECONDS s: $*" >&2; }

# Debian's part takes longest and changes least, so it is kept by itself: root.tar and the kernel's package.
packages=systemd-sysv,udev,dbus,kmod,iproute2,procps,busybox-static,usbutils,openssh-server
packages=$packages,python3,python3-venv,python3-libvirt
packages=$packages,libvirt-daemon-system,libvirt-daemon,libvirt-daemon-driver-qemu,libvirt-clients,qemu-system-x86
packages=$packages,qemu-utils,sudo,genisoimage
# What takes disks into service by itself, for test_disks.py.
packages=$packages,lvm2,mdadm,bcache-tools
debian=$cache/debian-$suite-$(echo "$packages" | sha256sum | cut -c 1-16)
make_debian() {
    local part=$debian.part mirror
    "$top/tools/install-system-packages.sh" run integration >&2
    say "Debian's packages are fetched and unpacked"
    # From the mirror that this machine uses.
    mirror=$(sed -n 's/^URIs: *\([^ ]*\).*/\1/p; s/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p' \
        /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2> /dev/null | head -n 1 || true)
    rm -rf "$cache/debian-$suite"-*
    mkdir "$part"
    cat > "$part/fetch-kernel" << 'HOOK'
#!/bin/sh
# The kernel's package is only fetched: installing it would build an initramfs.
set -eu
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
package=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
cd "$(dirname "$0")"
apt-get download -qq -o APT::Sandbox::User=root "$package"
HOOK
    chmod +x "$part/fetch-kernel"
    mmdebstrap --quiet --variant=minbase --aptopt='APT::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --include="$packages" \
        --customize-hook="$part/fetch-kernel" "$suite" "$part/root.tar" ${mirror:+"$mirror"} >&2
    mv "$part" "$debian"
    say "Debian's packages are unpacked"
}
if [ "${1:-}" = debian ]; then
    # Without root the image may be there all the same; if not, building it says so.
    [ -d "$debian" ] || [ "$(id -u)" != 0 ] || make_debian
    exit
fi

python=$(realpath -s "$(command -v "${PYTHON:-python3}")")
mapfile -t dependencies < <("$python" -c '
import sys, tomllib
print(*tomllib.load(open(sys.argv[1], "rb"))["project"]["dependencies"], sep="\n")' "$top/pyproject.toml")
# nova-compute, of the version that the other tests have.
nova_python=${NOVA_PYTHON:-$python}
nova=nova==$("$nova_python" -c 'import importlib.metadata; print(importlib.metadata.version("nova"))')
constraints=${NOVA_PYTHON:+$("$nova_python" -m pip freeze --exclude-editable --disable-pip-version-check)}
name=${NOVA_PYTHON:+${nova/==/-}-}$suite
key=$name-$({
    cat "$here/build.sh" "$here"/files/*
    printf '%s\n' "${dependencies[@]}" "$nova" "$constraints"
} | sha256sum | cut -c 1-16)
if [ -d "$cache/$key" ]; then
    echo "$cache/$key"
    exit
fi
if [ "$(id -u)" != 0 ]; then
    echo "The test host's image must be built by root once: sudo USB_PROVIDER_LAB=$cache $0" >&2
    exit 1
fi

work=$cache/$key.part
root=$work/root
rm -rf --one-file-system "$work"
mkdir -p "$work"
trap 'rm -rf --one-file-system "$work"' EXIT
cd "$work"

"$top/tools/install-system-packages.sh" run integration >&2
say "it is built in $cache/$key"
[ -d "$debian" ] || make_debian
mkdir "$root"
tar -x -f "$debian/root.tar" -C "$root" --numeric-owner --xattrs --xattrs-include='*'

# The kernel, as an ELF file that QEMU boots without the guest having to decompress it.
dpkg-deb -x "$debian"/linux-image-*.deb kernel
[ -d kernel/lib/modules ] || mv kernel/usr/lib kernel/lib # where Debian 13 has them
release=$(ls kernel/lib/modules)
"$python" - "kernel/boot/vmlinuz-$release" vmlinux << 'PYTHON'
import lzma, pathlib, struct, subprocess, sys

image = pathlib.Path(sys.argv[1]).read_bytes()
# The kernel's Documentation/arch/x86/boot.rst: payload_offset counts from the end of the sectors of the real-mode part.
offset, length = struct.unpack_from("<II", image, 0x248)
begin = (image[0x1F1] + 1) * 512 + offset
payload = image[begin : begin + length]
if payload.startswith(b"\xfd7zXZ\x00"):
    kernel = lzma.LZMADecompressor().decompress(payload)
else:  # zstd, which takes the size that the kernel's build puts behind it for garbage
    kernel = subprocess.run(["zstd", "-dcq"], input=payload[:-4], stdout=subprocess.PIPE, check=True).stdout
assert kernel.startswith(b"\x7fELF"), kernel[:4]
pathlib.Path(sys.argv[2]).write_bytes(kernel)
PYTHON
mkdir -p "$root/lib/modules/$release"
(
    cd "kernel/lib/modules/$release"
    {
        ls modules.*
        find kernel -name '*.ko' -o -name '*.ko.xz' | grep -E -f "$here/files/modules"
    } | cpio -pdm --quiet "$root/lib/modules/$release"
)
# The first process of the test host has an insmod that takes no compressed ones.
find "$root/lib/modules/$release" -name '*.ko.xz' -exec xz -d {} +
depmod -b "$root" "$release"

# initramfs OUT INIT MODULE…: busybox, the modules with what they need, and INIT.
initramfs() {
    local out=$1 init=$2 tree
    shift 2
    tree=$(mktemp -d -p "$work")
    mkdir -p "$tree"/{bin,dev,lib,new,proc,sys}
    cp "$root/bin/busybox" "$tree/bin/"
    for applet in cat cp dd echo grep ifconfig insmod ls mkdir mount mv poweroff route sh sleep sort switch_root; do
        ln -s busybox "$tree/bin/$applet"
    done
    for module in "$@"; do
        modprobe -d "$root" -S "$release" --show-depends "$module" 2> /dev/null | sed -n 's/^insmod \([^ ]*\).*/\1/p'
    done | awk '!seen[$0]++' | while read -r file; do
        cp "$file" "$tree/lib/"
        echo "/lib/$(basename "$file")"
    done > "$tree/modules"
    install -m 755 "$here/files/$init" "$tree/init"
    (cd "$tree" && find . | cpio -o -H newc --quiet) > "$out"
}
initramfs initrd host-init virtio_pci virtio_blk virtio_net ext4 crc32c_generic
install -d "$root/opt/guest"
initramfs "$root/opt/guest/initrd" guest-init xhci_pci ehci_pci uhci_hcd usbhid hid_generic usb_storage sd_mod \
    button evdev
cp vmlinux "$root/opt/guest/vmlinux"
cp "$root/opt/guest/initrd" guest-initrd
say "kernel $release and the guest are in place"

# What the wheel and nova-compute need, so that a test run installs nothing but the wheel itself.
echo "$constraints" > constraints.txt
"$python" -m pip wheel -qq --wheel-dir wheels "${dependencies[@]}" "${only_there[@]}" >&2
"$python" -m pip wheel -qq --wheel-dir wheels --constraint constraints.txt "$nova" "${only_there[@]}" >&2
if [ "$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')" != "$image_python" ]; then
    for wheel in wheels/*-cp3*.whl; do
        case $wheel in *-abi3-*) continue ;; esac
        name=$(basename "$wheel" | cut -d - -f 1-2 | sed 's/-/==/')
        rm "$wheel"
        "$python" -m pip download -qq --no-deps --only-binary :all: --python-version "$image_python" \
            --dest wheels "$name" >&2
    done
fi
mv wheels "$root/opt/wheels"
mv constraints.txt "$root/opt/wheels/"
inside() { env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root chroot "$root" "$@"; }
# venv DIRECTORY REQUIREMENT…
venv() {
    inside python3 -m venv --system-site-packages "$1"
    inside "$1/bin/pip" install --quiet --no-index --find-links /opt/wheels --disable-pip-version-check \
        --root-user-action ignore "${@:2}" >&2
}
venv /opt/usb-provider "${dependencies[@]}"
venv /opt/nova --constraint /opt/wheels/constraints.txt "$nova"
rm -rf "$root/opt/wheels"
ln -s /opt/usb-provider/bin/usb-provider "$root/usr/bin/usb-provider"
say "the wheel's dependencies and nova-compute are in place"

echo 0123456789abcdef0123456789abcdef > "$root/etc/machine-id"
echo testhost > "$root/etc/hostname"
echo '127.0.0.1 localhost testhost' > "$root/etc/hosts"
: > "$root/etc/fstab"
: > "$root/etc/resolv.conf"
sed -i 's/^root:[^:]*:/root::/' "$root/etc/shadow"
ssh-keygen -q -t ed25519 -N '' -C usb-provider-lab -f id_ed25519
install -d -m 700 "$root/root/.ssh"
install -m 600 id_ed25519.pub "$root/root/.ssh/authorized_keys"
rm -f "$root"/etc/ssh/ssh_host_*
ssh-keygen -q -t ed25519 -N '' -C testhost -f "$root/etc/ssh/ssh_host_ed25519_key"
install -m 644 "$here/files/sshd.conf" "$root/etc/ssh/sshd_config.d/lab.conf"
install -D -m 644 "$here/files/ssh-early.conf" "$root/etc/systemd/system/ssh.service.d/lab.conf"
inside systemctl --quiet enable ssh.service
inside systemctl --quiet set-default multi-user.target
grep -v '^#' "$here/files/masked-units" | while read -r unit; do ln -sf /dev/null "$root/etc/systemd/system/$unit"; done
# As on a compute node: nova's user, the directory with its compute_id, and its instances'.
inside useradd --system --home-dir /var/lib/nova --shell /usr/sbin/nologin nova
inside usermod --append --groups libvirt,kvm nova
inside install -d -m 755 -o nova -g nova /var/lib/nova /var/lib/nova/instances /etc/nova /var/log/nova
echo 'nova ALL=(root) NOPASSWD: /opt/nova/bin/privsep-helper *' > "$root/etc/sudoers.d/nova"
install -m 644 "$here/files/nova-compute.service" "$here/files/kvm-open.service" "$root/etc/systemd/system/"
inside systemctl --quiet enable kvm-open.service

size=$(($(du -sm "$root" | cut -f 1) + 1024))
# With a journal: tests cut the power, and the emulated processor has a way of making the kernel panic.
mke2fs -q -t ext4 -O ^metadata_csum -J size=16 -m 0 -d "$root" host.ext4 "${size}M" >&2
mkdir done
mv host.ext4 vmlinux initrd guest-initrd id_ed25519 done/
: > done/in-use
# Of other states of the recipe for this suite and this Nova only those stay that a running test host uses.
for old in "$cache/$name"-*/in-use; do
    [ -f "$old" ] || continue
    flock -n "$old" rm -rf "$(dirname "$old")" || true
done
mv done "$cache/$key"
say "it is ready"
echo "$cache/$key"
