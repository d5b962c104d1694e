"""How the tests themselves are run: side by side, except those that measure time; nova's in processes of their own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.processes import environment

ROOT = Path(__file__).parents[3]

ALONE = 0.1
MEASURES = f"""
import json
import pathlib
import time

import pytest

def spend(seconds):
    began = time.monotonic()
    time.sleep(seconds)
    pathlib.Path("results", str(began)).write_text(json.dumps([seconds, began, time.monotonic()]))

@pytest.mark.parametrize("number", range(20))
def test_any(number):
    spend(0.05)

@pytest.mark.alone
@pytest.mark.parametrize("number", range(3))
def test_alone(number):
    spend({ALONE})
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A folder with this project's conftest.py, and with tests of nova and of something else that pass."""
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "functional" / "nova").mkdir(parents=True)
    (tmp_path / "__init__.py").touch()
    (tmp_path / "functional" / "nova" / "test_nova.py").write_text("def test_of_nova():\n    pass\n")
    (tmp_path / "functional" / "test_other.py").write_text("def test_other():\n    pass\n")
    return tmp_path


def run(suite: Path, *words: str | Path) -> list[str]:
    """Run pytest in *suite* and give the tests that passed, in order."""
    outside = {name: value for name, value in environment().items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *words]
    done = subprocess.run(command, cwd=suite, env=outside, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (line.split() for line in done.stdout.splitlines() if " PASSED" in line)
    return [next(word for word in line if "::" in word).partition("::")[2] for line in lines]


def test_a_test_that_measures_time_has_no_other_beside_it(suite: Path) -> None:
    results = suite / "results"
    results.mkdir()
    for number in range(2):
        (suite / "functional" / f"test_measures_{number}.py").write_text(MEASURES)
    assert len(run(suite, "-n", "2", "--dist", "loadfile", "functional", "-k", "any or alone")) == 2 * 23
    spans = [json.loads(file.read_text()) for file in results.iterdir()]
    beside = [
        (seconds, sum(began < until and since < ended for _, since, until in spans) - 1)
        for seconds, began, ended in spans
    ]
    assert [others for seconds, others in beside if seconds == ALONE] == [0] * 6
    assert any(others for seconds, others in beside if seconds != ALONE), "the others run side by side"


@pytest.mark.parametrize(
    ("words", "tests"),
    [
        (("functional",), ["test_other", "test_of_nova"]),
        (("--nova=without", "functional"), ["test_other"]),
        (("--nova=without", "functional/nova/test_nova.py", "functional/test_other.py"), ["test_other"]),
        (("--nova=only", "functional/test_other.py", "functional/nova"), ["test_of_nova"]),
    ],
)
def test_novas_tests_are_left_out_or_run_alone_or_come_last(
    suite: Path, words: tuple[str, ...], tests: list[str]
) -> None:
    assert run(suite, *words) == tests


@pytest.mark.parametrize(
    ("others", "nova", "outcome"),
    [(0, 0, 0), (1, 0, 2), (0, 1, 2), (0, 5, 0), (5, 0, 0), (1, 5, 2), (5, 1, 2), (5, 5, 2)],
)
def test_make_test_runs_novas_tests_whatever_comes_of_the_others_and_fails_when_either_did(
    tmp_path: Path, others: int, nova: int, outcome: int
) -> None:
    for name in (".run", ".dev"):
        (tmp_path / name).touch()
    script = tmp_path / "pytest"
    script.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$*" >>{tmp_path}/calls\ncase "$*" in *only*) exit {nova} ;; esac\nexit {others}\n'
    )
    script.chmod(0o755)
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "test", f"VENV={tmp_path}", f"PYTEST={script}", "ARGS=-k some"]
    done = subprocess.run(command, cwd=ROOT, env=outside, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == outcome, done.stdout + done.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [("--nova=only" in call, call.endswith("-k some")) for call in calls] == [(False, True), (True, True)]
