"""The documentation's walk-throughs, word for word. USB_PROVIDER_WRITE_DOCS=1 writes what was printed into them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.lab.cloud import Cloud
from tests.e2e.lab.playground import Playground
from tests.fixtures.pages import Shell, differs, rewritten, steps

TOP = Path(__file__).parents[2]
# The second page uses what the first has made.
PAGES = ("docs/walkthrough.md", "docs/api.md")


@pytest.fixture
def shell(cloud: Cloud) -> Iterator[Shell]:
    """A terminal beside "make cloud"."""
    playground = Playground(cloud)
    shell = Shell(HOME=str(cloud.directory))
    yield shell
    shell.close()
    playground.close()


@pytest.mark.core
def test_the_walk_throughs_are_what_happens(cloud: Cloud, shell: Shell) -> None:
    shell.run(f"cd {TOP}")
    wrong = []
    for page in (TOP / name for name in PAGES):
        printed: list[str] = []
        for step in steps(page.read_text()):
            command = step.command.replace("…/openrc", str(cloud.controller.openrc))
            code, output = shell.run(command)
            output = output.replace(str(cloud.controller.directory), "…")
            printed.append(output)
            assert code == 0, f"{page.name}: $ {step.command}\n{output}"
            if differs(step.output, output):
                wrong.append(f"{page.name}: $ {step.command}\n{output}\n-- promised:\n{step.output}")
        if os.environ.get("USB_PROVIDER_WRITE_DOCS"):
            page.write_text(rewritten(page, printed))
    assert not wrong, "\n\n".join(wrong)
