"""docs/cli.md shows what the commands print: each is run on the recorded host, with a real Placement.

``USB_PROVIDER_WRITE_DOCS=1`` writes what was printed into the page, but where the page has a "…".
"""

import json
import os
import re
import shlex
from pathlib import Path

import pytest

from tests.fixtures.pages import differs, rewritten, steps
from tests.fixtures.placement import PlacementServer, placement, placement_server
from tests.fixtures.processes import Program, program
from tests.fixtures.testbed import needs_umockdev, testbed
from usb_provider.demo.recording import Recording, bundled
from usb_provider.demo.testbed import Testbed

__all__ = ["placement", "placement_server", "program", "testbed"]

pytestmark = needs_umockdev

PAGE = Path(__file__).parents[3] / "docs" / "cli.md"
JSON = re.compile(r"^```json\n(.*?)^```$", re.DOTALL | re.MULTILINE)
ROOT_UUID = "4e8e5957-649f-477b-9e5b-f1f75b21c03c"
CAMERA = {"vendor_id": "046d", "product_id": "082d", "resource_class": "CUSTOM_USB_CAMERA"}
RULES = (
    {"vendor_id": "0529", "product_id": "0001", "resource_class": "CUSTOM_USB_KEY"},
    CAMERA,
    {"vendor_id": "1050", "product_id": "0407", "resource_class": "CUSTOM_USB_FIDO"},
)


@pytest.fixture
def page_host(testbed: Testbed, program: Program, placement: PlacementServer) -> Program:
    """The recorded host, which was reported already."""
    testbed.load(Recording.read(bundled()))
    placement.create_root("compute1.example.org", ROOT_UUID)
    program.use(placement)
    program.groups["agent"]["root_provider_name"] = "compute1.example.org"
    program.rules = list(RULES)
    assert program.run("sync").code == 0
    return program


def test_every_output_on_the_page_is_what_the_command_above_it_prints(page_host: Program, testbed: Testbed) -> None:
    page = PAGE.read_text(encoding="utf-8")
    found = JSON.search(page)
    assert found is not None
    shown = json.loads(found[1])
    now = next(each for each in page_host.run("devices", "--json").json if each["sys_name"] == shown["sys_name"])
    if os.environ.get("USB_PROVIDER_WRITE_DOCS"):
        PAGE.write_text(page.replace(found[1], json.dumps(now, indent=2) + "\n"), encoding="utf-8")
    else:
        assert shown == now

    printed = []
    for step in steps(page):
        words = shlex.split(step.command)
        assert words[0] == "usb-provider"
        if words[1] == "plan":
            testbed.unplug("camera")
        done = page_host.run(*words[1:], COLUMNS="160")
        printed.append("\n".join(line.rstrip() for line in done.out.splitlines()))
    if os.environ.get("USB_PROVIDER_WRITE_DOCS"):
        PAGE.write_text(rewritten(PAGE, printed), encoding="utf-8")
    wrong = [
        f"$ {step.command}\n{output}\n-- the page has:\n{step.output}"
        for step, output in zip(steps(page), printed, strict=True)
        if differs(step.output, output)
    ]
    assert not wrong, "\n\n".join(wrong)
