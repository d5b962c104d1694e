"""What is listed by hand in the documents is complete, and the pictures are those that their sources give."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.pages import differs, steps

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_the_page_on_the_python_core_has_every_module_of_it() -> None:
    page = (DOCS / "reference" / "python.rst").read_text(encoding="utf-8")
    rooms = (ROOT / "usb_provider" / "model", ROOT / "usb_provider" / "osc" / "model")
    modules = (path.relative_to(ROOT) for room in rooms for path in room.rglob("[!_]*.py"))
    core = {".".join(module.with_suffix("").parts) for module in modules}
    listed = re.findall(r"^\.\. automodule:: (\S+)$", page, re.MULTILINE)
    assert sorted(listed) == sorted({*core, "placement_traits", "usb_provider.exception"})


@pytest.mark.parametrize("source", sorted((DOCS / "images").glob("*.dot")), ids=lambda path: path.stem)
def test_a_picture_is_made_from_its_source(source: Path) -> None:
    dot = shutil.which("dot")
    if dot is None:
        pytest.skip("graphviz is not installed")
    made = subprocess.run([dot, "-Tsvg", source], check=True, capture_output=True, text=True, timeout=60).stdout
    kept = source.with_suffix(".svg").read_text(encoding="utf-8")
    # Where things are placed, and how wide a letter is, differs from one graphviz to another.
    assert words(kept) == words(made), "run make generate"


def words(svg: str) -> list[str]:
    """Give everything that a picture says, and what it connects."""
    return sorted(re.findall(r"<(?:title|text)[^>]*>([^<]*)<", svg))


@pytest.mark.parametrize("page", ["development.md", "identity.md", "reference/names.md"])
def test_what_a_page_says_that_python_prints_is_what_it_prints(page: str) -> None:
    found = [step for step in steps((DOCS / page).read_text(encoding="utf-8")) if step.output]
    assert found
    for step in found:
        words = shlex.split(step.command)
        assert words[0] in ("python", "python3", ".venv/bin/python")
        done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, check=True, cwd=ROOT)
        assert not differs(step.output, done.stdout.strip()), done.stdout
