"""Each sentence that the software can say to an operator has an entry in the documents, and each entry a sentence.

The sentences are read from the source: what is raised, noted, refused and warned of, and why a device is not offered.
What a sentence leaves open is … in both. Not looked at: "usb-provider doctor", which says itself what to do, and the
findings of "openstack usb flavor check" and "audit", which do as well.
"""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from usb_provider import exception

ROOT = Path(__file__).parents[2]
PAGES = ("troubleshooting", "binding", "moves", "device_spec")
ITS_OWN_ADVICE = {"model/flavor.py", "model/verdict.py", "model/audit.py", "cmd/doctor.py"}
DOCTOR = "usb_provider/diagnosis/"
# The demo's plugging by hand and the tests' replayed hosts say what is to be done as well.
FOR_DEVELOPERS = {"demo/description.py", "demo/recording.py", "demo/testbed.py", "demo/umockdev.py"}

ERRORS = {name for name, kind in vars(exception).items() if isinstance(kind, type) and issubclass(kind, Exception)}
SAY = ERRORS | {"EmbeddedError", "Note", "Offer", "Refusal"}
# These say a part of a sentence.
PARTS = {"HostUse", "Identity", "InvalidName", "UnreadableDomain"}
LOGS = {"warning", "error", "exception", "log"}
RETURN = {"guard", "serial_problem", "_want", "_why_it_failed"}
HOLE = "…"


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Give every module of the agent, the commands and the names."""
    for package in ("usb_provider", "placement_traits"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if "recordings" not in path.parts:
                yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def texts(node: ast.AST | None, known: dict[str, list[str]]) -> list[str]:
    """Give what *node* may be as text, with holes for what is not known before it runs."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr():
            return ["".join(each.value if isinstance(each, ast.Constant) else HOLE for each in node.values)]
        case ast.BinOp(op=ast.Add()):
            ways = [texts(side, known) or [HOLE] for side in (node.left, node.right)]
            return [left + right for left in ways[0] for right in ways[1]]
        case ast.IfExp(body=one, orelse=other):
            return texts(one, known) + texts(other, known)
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [text for each in parts for text in texts(each, known)]
    return known.get(node.id, []) if isinstance(node, ast.Name) else []


def said(scope: ast.AST, known: dict[str, list[str]]) -> Iterator[str]:
    """Give the text of all that is said in *scope*; *known* is what names stand for there."""
    known = dict(known)
    nodes = list(inner(scope))
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            known[name] = known.get(name, []) + texts(node.value, known)
    for node in nodes:
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                yield from said(node, known)
            case ast.Return() if isinstance(scope, ast.FunctionDef) and scope.name in RETURN:
                yield from (HOLE + text.rstrip(".") + HOLE for text in texts(node.value, known))
            case ast.Dict():
                pairs = zip(node.keys, node.values, strict=True)
                refused = [value for key, value in pairs if isinstance(key, ast.Constant) and key.value == "refuse"]
                yield from (text for value in refused for text in texts(value, known))
            case ast.Call():
                yield from called(node, known)


def called(node: ast.Call, known: dict[str, list[str]]) -> list[str]:
    """Give what a call says to an operator."""
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    whose = ast.unparse(node.func).rpartition(".")[0]
    given = [text for each in node.args for text in texts(each, known)]
    if name in SAY:
        return given
    if name in PARTS or (whose, name) == ("self", "wrong"):
        return [HOLE + text.rstrip(".") + HOLE for text in given]
    if name in LOGS and (whose == "LOG" or "getLogger" in whose):
        return [re.sub(r"%[-.\d]*[sdf]", HOLE, text) for text in given]
    if name == "write" and whose == "sys.stderr":
        return [text.removeprefix("usb-provider: ").rstrip("\n") for text in given]
    return given if (whose, name) in (("problems", "append"), ("self", "warn")) else []


def inner(scope: ast.AST) -> Iterator[ast.AST]:
    """Give every node of *scope*, but what is in a function or class of its own."""
    for node in ast.iter_child_nodes(scope):
        yield node
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield from inner(node)


def words(text: str) -> frozenset[str]:
    """Give the words by which a sentence is recognised."""
    return frozenset(re.findall(r"[A-Za-z]{2,}", text))


SENTENCES = sorted(
    {
        (name, text)
        for name, tree in sources()
        for text in said(tree, {})
        if name.removeprefix("usb_provider/") not in ITS_OWN_ADVICE | FOR_DEVELOPERS and not name.startswith(DOCTOR)
        if " " in text.strip() and len(words(text)) > 1
    }
)


def entries(page: str) -> Iterator[str]:
    """Give each sentence of a page: what is in backquotes, and the examples of what the command prints."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    yield from re.findall(r"`([^`\n]+)`", text)
    yield from re.findall(r"^    usb-provider: (.*)$", text, re.MULTILINE)


ENTRIES = [entry for page in PAGES for entry in entries(page)]


@functools.cache
def meet(one: str, other: str) -> bool:
    """Tell whether some text is both, each hole being any text."""
    row = [all(char == HOLE for char in other[:end]) for end in range(len(other) + 1)]
    for char in one:
        below = [row[0] and char == HOLE]
        for end, against in enumerate(other, start=1):
            # A hole is nothing, or takes the other's next character and stays.
            below.append(below[-1] or row[end] if HOLE in (char, against) else char == against and row[end - 1])
        row = below
    return row[-1]


def is_entry_of(entry: str, sentence: str) -> bool:
    """Tell whether *entry* is about *sentence*; holes alone do not make it so."""
    common = words(entry) & words(sentence)
    few = min(len(words(entry)), len(words(sentence)))
    if len(common) < 2 or 4 * len(common) < 3 * few or not meet(entry.rstrip(". "), sentence.rstrip(". ")):
        return False
    return longest(entry) in sentence or longest(sentence) in entry


def longest(text: str) -> str:
    """Give the longest piece of *text* that is known."""
    return max(text.rstrip(". ").split(HOLE), key=len).strip(". ")


@pytest.mark.parametrize(("module", "sentence"), SENTENCES)
def test_each_sentence_has_an_entry(module: str, sentence: str) -> None:
    assert any(is_entry_of(entry, sentence) for entry in ENTRIES), (
        f"{module} can say this; write in docs/troubleshooting.md what to do: {sentence}"
    )


def promised() -> list[str]:
    """Give each sentence that the pages have advice on: of tables of sentences the first column, and terms."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    tables = re.findall(r"^\| Sentence \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", page, re.MULTILINE)
    cells = [row.split(" | ")[0] for table in tables for row in table.splitlines()]
    terms = re.findall(r"^(`.*`)\n: ", (ROOT / "docs" / "binding.md").read_text(encoding="utf-8"), re.MULTILINE)
    return sorted({entry for cell in (*cells, *terms) for entry in re.findall(r"`([^`]+)`", cell)})


@functools.cache
def written() -> frozenset[str]:
    """Give every text in the source, as a part of a sentence."""
    found = {text for _, tree in sources() for node in ast.walk(tree) for text in texts(node, {})}
    found |= {text for _, text in SENTENCES}
    return frozenset(HOLE + text.strip(". \n") + HOLE for text in found if len(words(text)) > 1)


@pytest.mark.parametrize("entry", promised())
def test_each_entry_is_of_a_sentence_that_the_software_says(entry: str) -> None:
    assert any(is_entry_of(HOLE + entry.strip(". ") + HOLE, text) for text in written()), (
        f"nothing says this any more; take it out of the page, or correct it: {entry}"
    )
