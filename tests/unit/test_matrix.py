"""The table of tools/matrix.py: its rows, what it says of a run, and what it writes into docs/development.md."""

import datetime
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def matrix() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "tools" / "matrix.py"))


def test_there_is_a_row_for_each_release_python_and_the_lower_bounds(matrix: dict[str, Any]) -> None:
    rows = matrix["rows"]()
    assert list(rows) == [
        *("2023.1", "2024.1", "2025.1", "2025.2", "2026.2"),
        *("python-3.11", "python-3.12", "python-3.13", "lowest"),
    ]
    of_nova = [each for row in rows.values() for each in row.pinned if each.startswith("nova==")]
    assert [each.split(".")[0] for each in of_nova[:5]] == ["nova==27", "nova==29", "nova==31", "nova==32", "nova==34"]


def test_every_lower_bound_of_what_is_installed_is_tested_as_it_stands(matrix: dict[str, Any]) -> None:
    bounds = matrix["lower_bounds"]()
    assert "tenacity==8.2" in bounds
    assert "prometheus-client==0.16" in bounds
    assert not [each for each in bounds if not re.search("==[0-9.]+$", each)]


def test_a_release_decides_the_version_of_a_test_tool_that_it_has_too(matrix: dict[str, Any]) -> None:
    assert [each for each in matrix["test_group"](()) if each.startswith("setuptools>=")]
    assert "setuptools" in matrix["test_group"](("setuptools==65.5.1",))


def test_a_row_of_a_release_is_installed_with_what_the_release_has(matrix: dict[str, Any]) -> None:
    row = matrix["rows"]()["2025.1"]
    assert [each.split("==")[0] for each in row.pinned] == ["nova", "openstack-placement"]
    assert "openstacksdk==4.4.0" in row.constraints


def test_no_constraint_contradicts_a_lower_bound(matrix: dict[str, Any]) -> None:
    lowest = matrix["rows"]()["lowest"]
    names = [re.split(r"[\[=]", each)[0] for each in (*lowest.pinned, *lowest.constraints)]
    assert sorted(set(names)) == sorted(names)
    assert "nova" not in names


@pytest.mark.parametrize(
    ("counts", "words", "failed"),
    [
        ({"tests": "20", "failures": "0", "errors": "0", "skipped": "0"}, "Nova: 20 passed", False),
        ({"tests": "20", "failures": "1", "errors": "2", "skipped": "3"}, "Nova: 14 passed, 3 failed, 3 skipped", True),
        ({"tests": "0", "failures": "0", "errors": "0", "skipped": "0"}, "Nova: 0 passed", True),
    ],
)
def test_a_run_is_told_in_one_cell(matrix: dict[str, Any], counts: dict[str, str], words: str, *, failed: bool) -> None:
    assert matrix["in_words"]("Nova", counts) == (words, failed)


def test_new_results_replace_their_own_row_and_no_other(matrix: dict[str, Any]) -> None:
    rows, mark = matrix["rows"](), matrix["MARK"]
    page = f"before\n{mark}\n| 2025.1 | 3.11 | old | old | 2026-01-01 |\n| lowest | 3.11 | x | y | z |\n{mark}\nafter\n"
    result = matrix["Result"](rows["2025.1"], ["Placement: 3 passed", "Nova: 2 passed"])
    lines = matrix["with_results"](page, [result]).splitlines()
    assert lines[0] == "before"
    assert lines[-1] == "after"
    assert [line.split("|")[1].strip() for line in lines if line.startswith("| ")] == ["Row", "2025.1", "lowest"]
    assert "nova 31.3.1, placement 13.0.1 | Placement: 3 passed; Nova: 2 passed |" in "\n".join(lines)
    assert "| lowest | 3.11 | x | y | z |" in lines


def test_ci_takes_the_rows_that_have_passed_by_turns(matrix: dict[str, Any]) -> None:
    rows, mark = matrix["rows"](), matrix["MARK"]
    cells = {
        "2025.1": ["Placement: 3 passed", "Nova: 2 passed"],
        "2025.2": ["Placement: 3 passed", "Nova: 1 passed, 1 failed"],
        "python-3.12": ["the rest: 9 passed", "Nova: not ended in time"],
        "python-3.13": ["not installed: there is no Python 3.13 on this machine"],
        "lowest": ["the rest: 9 passed"],
    }
    results = [matrix["Result"](rows[name], found) for name, found in cells.items()]
    page = matrix["with_results"](f"{mark}\n{mark}\n", results)
    names = matrix["passed"](page)
    assert names == ["2025.1", "lowest"]
    day = datetime.date(2026, 12, 1)
    turns = [matrix["of_day"](names, day + datetime.timedelta(days=number)) for number in range(4)]
    assert turns[:2] == turns[2:]
    assert sorted(name for turn in turns[:2] for name in turn) == names
    assert matrix["of_day"]([], day) == []


@pytest.fixture
def page(matrix: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page whose table shows that the row python-3.12 has passed, and no environment can be made."""
    page = tmp_path / "development.md"
    passed = matrix["Result"](matrix["rows"]()["python-3.12"], ["the rest: 9 passed"])
    page.write_text(matrix["with_results"](f"{matrix['MARK']}\n{matrix['MARK']}\n", [passed]))

    def environment(row: object, deadline: float) -> Path:
        raise matrix["NotInstalled"]("No matching distribution found for oslo.log")

    ours = matrix["main"].__globals__
    monkeypatch.setitem(ours, "PAGE", page)
    monkeypatch.setitem(ours, "CACHE", tmp_path)
    monkeypatch.setitem(ours, "has_python", lambda row: True)
    monkeypatch.setitem(ours, "environment", environment)
    return page


def test_ci_fails_when_a_row_that_has_passed_cannot_be_installed(
    matrix: dict[str, Any], page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert matrix["main"](["--today", "--quick"]) == 1
    assert "| python-3.12 | 3.12 |" in capsys.readouterr().out


def test_the_table_names_a_row_that_cannot_be_installed(
    matrix: dict[str, Any], page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert matrix["main"](["python-3.12"]) == 0
    assert "not installed: No matching distribution found for oslo.log" in capsys.readouterr().out


def test_ci_leaves_out_a_row_whose_python_the_machine_does_not_have(
    matrix: dict[str, Any], page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(matrix["main"].__globals__, "has_python", lambda row: row.python != "3.12")
    assert matrix["main"](["--today", "--quick"]) == 0
    assert "python-3.12" not in capsys.readouterr().out


def test_the_page_has_a_place_for_the_table(matrix: dict[str, Any]) -> None:
    page = matrix["PAGE"].read_text()
    assert page.count(matrix["MARK"]) == 2
    assert matrix["with_results"](page, []) == page
