"""docs/osc.md shows what the commands print: each of its console blocks is run, in its order, on one cloud.

``USB_PROVIDER_WRITE_DOCS=1`` writes the page anew.
"""

import difflib
import os
import re
import shlex
import types
from pathlib import Path

import pytest

from placement_traits import STATE_ABSENT
from tests.fixtures.openstack import KEY, Cloud, named
from usb_provider.osc import purge

PAGE = Path(__file__).parents[3] / "docs" / "osc.md"
BLOCK = re.compile(r"(?<=^```console\n)(.*?)(?=^```$)", re.DOTALL | re.MULTILINE)
HASP = "CUSTOM_LICENCE_HASP"
CAMERA = "CUSTOM_USB_CAMERA"


def the_cloud_of_the_page(cloud: Cloud) -> None:
    """Two hosts with devices in most states, one host that Nova has no more, and a flavor with mistakes."""
    one, two = (cloud.host(f"compute{number}.example.org") for number in (1, 2))
    gone = cloud.host("compute9.example.org", in_nova=False)
    names = {one: "compute1.example.org", two: "compute2.example.org", gone: "compute9.example.org"}

    def device(root: str, key: str, *traits: str, resource_class: str | None = KEY) -> str:
        return cloud.device(root, key, traits=traits, resource_class=resource_class, host=names[root])

    key = device(one, "1050:0407:Y1")
    device(one, "0529:0001@0000:00:14.0-1.2", HASP)
    device(one, "046d:082d:9F2D3E5F", resource_class=CAMERA)
    moving = device(two, "1050:0407:Y2")
    orphan = device(two, "0529:0001@0000:00:14.0-1.3", HASP)
    device(two, "1050:0407:Y3", STATE_ABSENT, resource_class=None)
    device(gone, "1050:0407:Y4", STATE_ABSENT, resource_class=None)
    flavor = {"resources:CUSTOM_USB_KEY": "1"}
    node = {"OS-EXT-SRV-ATTR:hypervisor_hostname": names[one]}
    build = cloud.nova.server("build-7", flavor=flavor, host="compute1", **node)
    cloud.placement.allocate(build, {key: {KEY: 1}, one: {"VCPU": 1}})
    cloud.nova.migrations.append({"uuid": named("move"), "instance_uuid": build, "status": "finished"})
    cloud.placement.allocate(named("move"), {moving: {KEY: 1}})
    cloud.placement.allocate(named("gone"), {orphan: {KEY: 1}})
    cloud.nova.server("desk-3", flavor=flavor, host="compute2")
    cloud.nova.images.append({"id": named("debian"), "name": "debian"})
    cloud.nova.flavor("usb-by-hand", **{"resources_USB.1__CUSTOM_USB_KEY": "1", "resources__CUSTOM_USB_CAMERA": "1"})


def as_run(cloud: Cloud, block: str) -> str:
    """*block* with what its commands print now."""
    lines = []
    for line in block.splitlines():
        if line.startswith("$ "):
            answer = cloud.openstack(*shlex.split(line)[2:], CLIFF_MAX_TERM_WIDTH="118")
            lines += [line, *(text.rstrip() for text in (answer.err + answer.out).splitlines())]
    return "\n".join(lines) + "\n"


def test_every_output_on_the_page_is_what_the_command_above_it_prints(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    the_cloud_of_the_page(cloud)
    slept: list[float] = []
    monkeypatch.setattr(purge, "time", types.SimpleNamespace(sleep=slept.append, monotonic=lambda: sum(slept)))
    page = PAGE.read_text(encoding="utf-8")
    real = BLOCK.sub(lambda block: as_run(cloud, block[0]), page)
    if os.environ.get("USB_PROVIDER_WRITE_DOCS"):
        PAGE.write_text(real, encoding="utf-8")
    assert page == real, "\n".join(difflib.unified_diff(page.splitlines(), real.splitlines(), "page", "real"))
