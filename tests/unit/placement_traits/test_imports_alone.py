"""The package needs the standard library and nothing else, and its page tells the truth."""

import shutil
import subprocess
import sys
from pathlib import Path

import placement_traits

PACKAGE = Path(placement_traits.__file__).parent
PAGE = Path(__file__).parents[3] / "docs" / "reference" / "names.md"

PROBE = """
import sys
sys.path.insert(0, sys.argv[1])
before = set(sys.modules)
import placement_traits, placement_traits.__main__
tops = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(tops - set(sys.stdlib_module_names)))
print(sorted(tops & {"socket", "ssl", "subprocess", "asyncio", "urllib", "sqlite3", "ctypes"}))
"""


def test_it_imports_alone_and_loads_no_third_party_module(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    # -S leaves site-packages out, so an import of anything installed fails here.
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", PROBE, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["['placement_traits']", "[]"]


def test_it_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


def test_everything_that_it_promises_is_there() -> None:
    names = placement_traits.__all__
    assert len(set(names)) == len(names)
    assert [name for name in names if not hasattr(placement_traits, name)] == []


def test_the_page_lists_every_name_of_the_vocabulary() -> None:
    page = PAGE.read_text(encoding="utf-8")
    names = (
        placement_traits.MANAGED,
        *placement_traits.STATES,
        *placement_traits.RESOURCE_CLASSES,
        *placement_traits.class_traits(placement_traits.CLASSES),
    )
    assert [name for name in names if f"`{name}`" not in page] == []
    rows = [
        f"| `{known.code}` | `{known.word}` | `{trait}` | {known.sentence.rstrip('.')} |"
        for known in placement_traits.CLASSES.values()
        if (trait := placement_traits.class_trait(known.code))
    ]
    assert [row for row in rows if row not in page] == []
    classes = placement_traits.RESOURCE_CLASSES.items()
    rows = [f"| `{name}` | {sentence.rstrip('.')} |" for name, sentence in classes]
    assert [row for row in rows if row not in page] == []
