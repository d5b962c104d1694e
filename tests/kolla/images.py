"""Builds Kolla's own images and ours with podman, from Debian's packages and PyPI alone.

    python -m tests.kolla.images

Kolla's program and templates are those on PyPI; files/template-overrides.j2 says what is different here, and why. The
images are in podman's store below the cache directory; what is there already is built again only where it has changed.
"""

import hashlib
import importlib.metadata
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from tests.kolla.engine import CACHE, has, podman, service

TOP = Path(__file__).parents[2]
FILES = Path(__file__).with_name("files")
RELEASE = os.environ.get("USB_PROVIDER_KOLLA_RELEASE", "2026.2")
"""That of OpenStack; of 2025.1 only openstack-base and ours are built."""
KOLLA, SUITE = {"2026.2": ("23.0.0", "trixie"), "2025.1": ("20.4.0", "bookworm")}[RELEASE]
"""The version of Kolla on PyPI, and the release of Debian below its images and on the host."""
NAMESPACE = "openstack.kolla"
TAG = f"{RELEASE}-debian-{SUITE}"
KOLLAS = ("base", "openstack-base", *(("nova-libvirt", "nova-compute", "kolla-toolbox") if RELEASE == "2026.2" else ()))
# Kolla renders the templates of all its images, even for one: what these do not need is left out.
_TEMPLATES = ("base", "openstack-base", "nova/nova-base", "nova/nova-libvirt", "nova/nova-compute", "kolla-toolbox")
_ANSIBLE = "ansible==14.*"
"""The one with the ansible-core of kolla-toolbox."""
_COLLECTIONS = ("ansible/netcommon", "ansible/posix", "ansible/utils", "community/general", "openstack/cloud")
_SOURCES = """\
Types: deb
URIs: http://deb.debian.org/debian
Suites: {suite}
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
"""As in Debian's image on Docker Hub: Kolla writes its own in the same place."""
_CONFIG = """\
[DEFAULT]
base = debian
base_image = localhost/debian
base_tag = {suite}
engine = podman
podman_base_url = {service}
namespace = {namespace}
registry = quay.io
openstack_release = {release}
docker_dir = {work}/templates
template_override = {files}/template-overrides.j2
repos_yaml = {files}/repos.yaml
work_dir = {work}/build
logs_dir = {work}/logs
pull = false
retries = 0
threads = 1
[openstack-base]
type = local
location = {work}/requirements
[kolla-toolbox]
type = local
location = {work}/requirements
[nova-base]
type = local
location = {nova}
[nova-base-plugin-blazar]
enabled = false
"""


def image(name: str, tag: str = TAG) -> str:
    """The full name by which Kolla-Ansible looks for an image."""
    return f"quay.io/{NAMESPACE}/{name}:{tag}"


def main() -> None:
    """Build everything that is missing or has changed."""
    make_debian()
    make_kollas()
    make_ours()
    podman("image", "prune", "--force")
    mine = ("--filter", f"reference=quay.io/{NAMESPACE}/*", "--format", "{{.Repository}}:{{.Tag}} {{.Size}}")
    print(podman("images", *mine))


def debian(name: str, *packages: str) -> Path:
    """The tar file *name* with Debian's root directory and *packages*, made when it is not there."""
    made_of = hashlib.sha256(" ".join(packages).encode()).hexdigest()[:8]
    tar = CACHE / f"{name}-{SUITE}-{made_of}.tar"
    if not tar.exists():
        part = tar.with_suffix(".part.tar")
        command = ["mmdebstrap", "--quiet", "--variant=minbase", "--aptopt=APT::Install-Recommends false"]
        command += [f"--dpkgopt=path-exclude=/usr/share/{each}/*" for each in ("man", "doc", "locale")]
        sources = shlex.quote(_SOURCES.format(suite=SUITE))
        # Certificates that this machine trusts besides Debian's: a mirror of PyPI may be known by one.
        command += [
            '--customize-hook=rm "$1/etc/apt/sources.list" && '
            f'printf %s {sources} > "$1/etc/apt/sources.list.d/debian.sources"',
            "--customize-hook=[ ! -d /usr/local/share/ca-certificates ] || "
            'cp -rL /usr/local/share/ca-certificates "$1/usr/local/share/"',
        ]
        if packages:
            command.append(f"--include={','.join(packages)}")
        subprocess.run([*command, SUITE, str(part), "http://deb.debian.org/debian"], check=True)
        part.rename(tar)
    return tar


def make_debian() -> None:
    """Import what Kolla takes from Docker Hub: Debian's smallest root directory."""
    if not has(f"localhost/debian:{SUITE}"):
        podman("import", "--quiet", str(debian("debian")), f"localhost/debian:{SUITE}")


def make_kollas() -> None:
    """Build Kolla's images, in its own order."""
    work = CACHE / f"build-{RELEASE}"
    kolla = _kolla()
    for each in ("templates", "build", "logs"):
        shutil.rmtree(work / each, ignore_errors=True)
        (work / each).mkdir(parents=True)
    # Upper constraints are in a repository that PyPI does not have: the newest of everything, which 2026.2 wants.
    requirements = work / "requirements" / "upper-constraints.txt"
    requirements.parent.mkdir(exist_ok=True)
    requirements.touch()
    toolbox = work / "templates" / "kolla-toolbox"
    toolbox.mkdir()
    with tarfile.open(toolbox / "collections.tar", "w") as tar:
        name = "ansible_collections/openstack"
        tar.add(collections() / name, arcname=name)
    config = work / "kolla-build.conf"
    with service() as address:
        words = {"suite": SUITE, "namespace": NAMESPACE, "release": RELEASE, "work": work, "files": FILES}
        config.write_text(_CONFIG.format(service=address, nova=_nova(), **words))
        command = [str(kolla), f"--config-file={config}", *(f"^{name}$" for name in KOLLAS)]
        if subprocess.run(command, env=_clean(), check=False).returncode:
            sys.exit(f"kolla-build failed: its logs are in {work}/logs")


def make_ours(tag: str = TAG, *options: str) -> None:
    """Build our image on Kolla's openstack-base, as docs/kolla.md says."""
    base = f"base={image('openstack-base')}"
    where = ("-f", "conf/kolla/Dockerfile", "--build-arg", base, "-t", image("usb-provider", tag))
    # The working tree's own caches and environments are no part of it.
    print(podman("build", "--quiet", *options, *where, str(TOP), timeout=3600))


def _clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


def _kolla() -> Path:
    """kolla-build in an environment of its own, without the templates of other images."""
    directory = CACHE / f"kolla-{KOLLA}"
    program = directory / "bin" / "kolla-build"
    if not program.exists():
        shutil.rmtree(directory, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
        pip = [str(directory / "bin" / "pip"), "install", "--quiet", f"kolla=={KOLLA}", "podman", "requests"]
        subprocess.run(pip, check=True)
    # Kolla 20 has them below share.
    (templates,) = (*directory.glob("lib/python3.*/site-packages/kolla/docker"), *directory.glob("share/kolla/docker"))
    for each in (*templates.iterdir(), *templates.glob("nova/*")):
        name = str(each.relative_to(templates))
        if each.is_dir() and not any(f"{wanted}/".startswith(f"{name}/") for wanted in _TEMPLATES):
            shutil.rmtree(each)
    return program


def _nova() -> Path:
    """The source of the Nova that the other tests have."""
    version = importlib.metadata.version("nova")
    source = CACHE / f"nova-{version}.tar.gz"
    if not source.exists():
        _download("--no-binary", ":all:", f"nova=={version}")
    return source


def collections() -> Path:
    """The collections that Kolla takes from Ansible Galaxy, as far as they are used here: a directory for Ansible."""
    directory = CACHE / "collections"
    if not directory.exists():
        _download("--only-binary", ":all:", "--python-version", "3.13", _ANSIBLE)
        (wheel,) = CACHE.glob("ansible-14.*.whl")
        part = directory.with_suffix(".part")
        with zipfile.ZipFile(wheel) as files:
            wanted = tuple(f"ansible_collections/{name}/" for name in _COLLECTIONS)
            files.extractall(part, [name for name in files.namelist() if name.startswith(wanted)])
        part.rename(directory)
        wheel.unlink()
    return directory


def _download(*words: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(CACHE)]
    subprocess.run([*command, *words], check=True)


if __name__ == "__main__":
    main()
