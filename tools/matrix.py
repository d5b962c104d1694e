"""Runs the tests with the releases of OpenStack and Python that operators have, and prints one table.

    tools/matrix.py [ROW ...]     such as 2025.1, python-3.12, lowest; all rows without an argument
    tools/matrix.py --today       one of the rows that have passed, another each day; with --quick, as CI does
    tools/matrix.py --python ROW  only make its environment, and print the path of its Python

Each row has an environment of its own in the cache directory (XDG_CACHE_HOME, ~/.cache). The versions that matter for a
release of OpenStack are in tests/matrix; "lowest" has each lower bound of pyproject.toml. What cannot be installed is
named in the table; that is no failure, except with --today, which takes only rows whose Python is there. The exit code
is 1 when a test failed or did not end.
"""

import argparse
import datetime
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PINS = ROOT / "tests" / "matrix"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "usb-provider-matrix"
PAGE = ROOT / "docs" / "development.md"
MARK = "<!-- matrix -->"

CLIENTS = ("ijson", "waitress", "osc-placement", "python-openstackclient")
FOR_NOVA = ("ddt", "testscenarios", "testtools")
SIDE_BY_SIDE = ("-n", "logical", "--maxprocesses=4", "--dist=worksteal")
# These need what the other dependency groups bring, which no release of OpenStack changes.
ELSEWHERE = ("--ignore=tests/functional/install", "--ignore=tests/functional/cmd/test_docs.py")


class NotInstalled(Exception):
    """A row's environment cannot be made; the message is for the table."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a row tests: the words for pytest, and fewer of them for --quick."""

    name: str
    tests: tuple[str, ...]
    quick: tuple[str, ...]


PLACEMENT = Part(
    "Placement",
    (
        *SIDE_BY_SIDE,
        "--nova=without",
        "tests/functional/placement",
        "tests/functional/agent/reporter",
        "tests/functional/osc",
    ),
    (*SIDE_BY_SIDE, "--nova=without", "tests/functional/placement"),
)
# In one process: older Novas patch it with eventlet, which the processes of xdist do not survive.
NOVA = Part(
    "Nova", ("--nova=only", "tests/functional/nova"), ("--nova=only", "tests/functional/nova/test_scheduling.py")
)
ALL = Part(
    "the rest",
    (*SIDE_BY_SIDE, "--nova=without", "tests/unit", "tests/functional", *ELSEWHERE),
    (*SIDE_BY_SIDE, "tests/unit"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One environment and what is run in it.

    *pinned* are requirements with a version. *constraints* are versions of what these and *more* bring with them.
    """

    name: str
    python: str
    pinned: tuple[str, ...]
    parts: tuple[Part, ...]
    more: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()


@dataclass(slots=True)
class Result:
    """What came of a row: a cell for each part, or why there is none."""

    row: Row
    cells: list[str] = field(default_factory=list)
    failed: bool = False

    def line(self) -> str:
        """The row of the table."""
        shown = [each for each in self.row.pinned if each.startswith(("nova==", "openstack-placement=="))]
        versions = ", ".join(each.replace("openstack-", "").replace("==", " ") for each in shown)
        day = datetime.date.today().isoformat()
        return f"| {self.row.name} | {self.row.python} | {versions} | {'; '.join(self.cells)} | {day} |"


def rows() -> dict[str, Row]:
    """Every row, by its name."""
    found = [of_release(path) for path in sorted(PINS.glob("20*.txt"))]
    newest = found[-1]
    for version in ("3.11", "3.12", "3.13"):
        found.append(Row(f"python-{version}", version, newest.pinned, (ALL, NOVA), newest.more))
    # The oldest Placement whose requirements allow the lower bound of os-traits.
    oldest = next(row for row in found if row.name == "2024.1")
    bounds = (*lower_bounds(), *(each for each in oldest.pinned if each.startswith("openstack-placement==")))
    names = {_name(each) for each in bounds}
    others = tuple(each for each in oldest.constraints if _name(each) not in names)
    found.append(Row("lowest", "3.11", bounds, (ALL,), constraints=others))
    return {row.name: row for row in found}


def of_release(path: Path) -> Row:
    """The row of a release of OpenStack, whose versions the file *path* has."""
    lines = [line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    tested = tuple(line for line in lines if line.startswith(("nova==", "openstack-placement==")))
    others = tuple(line for line in lines if line and line not in tested)
    return Row(path.stem, "3.11", tested, (PLACEMENT, NOVA), (*CLIENTS, *FOR_NOVA), others)


def test_group(fixed: Sequence[str]) -> list[str]:
    """What the tests need; without our lower bound for what *fixed* gives another version."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        wanted = tomllib.load(file)["dependency-groups"]["test"]
    names = {_name(each) for each in fixed}
    return [_name(each) if _name(each) in names else each for each in wanted]


def _name(requirement: str) -> str:
    return re.split("[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower()


def lower_bounds() -> list[str]:
    """Each requirement of pyproject.toml that an installed program has, at its lower bound.

    Two are left out: openstack-placement is for the demo alone, and the row of its own release tests it; libvirt-python
    has to be compiled against the libvirt of the machine.
    """
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    wanted = [
        *project["dependencies"],
        *(each for group in project["optional-dependencies"].values() for each in group),
    ]
    elsewhere = ("openstack-placement", "libvirt-python")
    exact = {each.replace(">=", "==") for each in wanted if not each.startswith(elsewhere)}
    return sorted(exact)


def interpreter(version: str) -> str:
    """A Python of this *version*. :raises NotInstalled: when there is none on this machine."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for command in (f"python{version}", *sorted(map(str, pyenv.glob(f"versions/{version}.*/bin/python")))):
        found = shutil.which(command)
        # A shim of pyenv is there for each version that is installed, and runs only the one that is chosen.
        if found and subprocess.run([found, "-c", "import venv"], capture_output=True, check=False).returncode == 0:
            return found
    raise NotInstalled(f"there is no Python {version} on this machine")


def has_python(row: Row) -> bool:
    """Whether this machine has the Python of *row*."""
    try:
        interpreter(row.python)
    except NotInstalled:
        return False
    return True


def environment(row: Row, deadline: float) -> Path:
    """The environment of *row*, made when it is not there; gives its Python.

    :raises NotInstalled: when pip does not, or not in time.
    """
    base = interpreter(row.python)
    wanted = [*row.pinned, *row.more, *row.constraints, (ROOT / "pyproject.toml").read_text(encoding="utf-8")]
    made_of = "\n".join([base, *wanted])
    folder = CACHE / f"{row.name}-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    complete = folder / "complete"
    if not complete.exists():
        for older in CACHE.glob(f"{row.name}-*"):
            shutil.rmtree(older)
        subprocess.run([base, "-m", "venv", folder], check=True)
        _pip(python, deadline, "--upgrade", "pip>=25.1")
        constraints = folder / "constraints.txt"
        constraints.write_text("\n".join(row.constraints), encoding="utf-8")
        tools = test_group((*row.pinned, *row.constraints))
        _pip(python, deadline, *tools, *row.more, *row.pinned, "--constraint", constraints, "--editable", ".")
        complete.touch()
    # The environment may have been made for another checkout.
    _pip(python, deadline, "--no-deps", "--editable", ".")
    return python


def _pip(python: Path, deadline: float, *words: str | Path) -> None:
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=max(1.0, deadline - time.monotonic()),
        )
    except subprocess.TimeoutExpired as error:
        raise NotInstalled("pip has not ended in time") from error
    if done.returncode:
        # The table has one sentence of it.
        print(done.stderr, file=sys.stderr, flush=True)
        errors = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        raise NotInstalled(errors[0] if errors else f"pip ended with {done.returncode}")


def run(row: Row, part: Part, python: Path, deadline: float, *, quick: bool) -> tuple[str, bool]:
    """What came of *part* in the words of the table, and whether something failed."""
    report = python.parents[1] / f"{part.name.split()[-1]}.xml"
    report.unlink(missing_ok=True)
    words = ["-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    command = ["umockdev-wrapper", python, "-m", "pytest", *words, *(part.quick if quick else part.tests)]
    print(f"{row.name}: {' '.join(map(str, command))}", flush=True)
    try:
        subprocess.run(command, cwd=ROOT, check=False, timeout=max(1.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return f"{part.name}: not ended in time", True
    if not report.exists():
        return f"{part.name}: pytest did not begin", True
    suite = next(ET.parse(report).iter("testsuite"))
    return in_words(f"{part.name}, fewer tests" if quick else part.name, suite.attrib)


def in_words(name: str, counts: Mapping[str, str]) -> tuple[str, bool]:
    """The counts of a JUnit test suite in words, and whether something failed."""
    total, skipped = int(counts["tests"]), int(counts["skipped"])
    bad = int(counts["failures"]) + int(counts["errors"])
    words = [f"{total - skipped - bad} passed", *([f"{bad} failed"] if bad else [])]
    words += [f"{skipped} skipped"] if skipped else []
    return f"{name}: {', '.join(words)}", bad > 0 or total == 0


HEADING = ("| Row | Python | Versions | Tests | Last run |", "|---|---|---|---|---|")


def with_results(page: str, results: Sequence[Result]) -> str:
    """*page* with the rows of *results* in its table; the other rows stay as they are."""
    before, table, after = re.split(f"({re.escape(MARK)}\n.*?{re.escape(MARK)})", page, maxsplit=1, flags=re.DOTALL)
    lines = {line.split("|")[1].strip(): line for line in table.splitlines() if line.startswith("| ")}
    lines |= {result.row.name: result.line() for result in results}
    order = [name for name in rows() if name in lines]
    body = "\n".join([MARK, *HEADING, *(lines[name] for name in order), MARK])
    return f"{before}{body}{after}"


def passed(page: str) -> list[str]:
    """The rows that the table of *page* shows as passed; CI runs no other."""
    lines = (line.split("|") for line in page.split(MARK)[1].splitlines() if line.startswith("| "))
    cells = {line[1].strip(): line[4] for line in lines}
    bad = re.compile(r"\bfailed|\bnot (ended|installed|begin)|did not begin")
    return [name for name in rows() if " passed" in cells.get(name, "") and not bad.search(cells[name])]


def of_day(names: Sequence[str], day: datetime.date) -> list[str]:
    """That one of *names* whose turn it is on *day*; none where there are none."""
    return [names[day.toordinal() % len(names)]] if names else []


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the *arguments* of the command line ask for; give the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(rows()))
    parser.add_argument("--today", action="store_true", help="one that has passed before, another each day")
    parser.add_argument("--python", metavar="ROW", choices=rows(), help="print the Python of this row's environment")
    parser.add_argument("--quick", action="store_true", help="fewer tests")
    parser.add_argument("--minutes", type=float, default=60.0, help="for each row, at most (default 60)")
    parser.add_argument("--write", action="store_true", help="write the results into docs/development.md")
    words = parser.parse_args(arguments)
    every = rows()
    if unknown := sorted(set(words.rows) - every.keys()):
        parser.error(f"there is no row {', '.join(unknown)}; there are {', '.join(every)}")
    chosen = words.rows or list(every)
    if words.today:
        names = [name for name in passed(PAGE.read_text(encoding="utf-8")) if has_python(every[name])]
        chosen = of_day(names, datetime.date.today())
    CACHE.mkdir(parents=True, exist_ok=True)
    if words.python:
        try:
            print(environment(every[words.python], time.monotonic() + 60 * words.minutes))
        except NotInstalled as error:
            parser.exit(1, f"The environment of {words.python} cannot be made: {error}\n")
        return 0
    results = []
    for name in chosen:
        result, deadline = Result(every[name]), time.monotonic() + 60 * words.minutes
        try:
            python = environment(result.row, deadline)
            for part in result.row.parts:
                cell, failed = run(result.row, part, python, deadline, quick=words.quick)
                result.cells.append(cell)
                result.failed |= failed
        except NotInstalled as error:
            result.cells.append(f"not installed: {error}")
            result.failed = words.today
        results.append(result)
    print("\n".join([*HEADING, *(result.line() for result in results)]))
    if words.write:
        PAGE.write_text(with_results(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")
    return int(any(result.failed for result in results))


if __name__ == "__main__":
    sys.exit(main())
