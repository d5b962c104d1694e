"""Writes what is made from the code, so that it says what the code does: man pages, shell completion, tables of states.

    tools/generate.py [DIR]     into DIR, by default conf/ and docs/

Needs the dependency group "docs". Tests compare what is committed with what this would write.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from placement_traits import STATE_DRAINED, STATE_RESERVED
from usb_provider.model.guest_controllers import in_words
from usb_provider.model.lifecycle import TABLE, Circumstances, Intention, Presence, ProviderState

ROOT = Path(__file__).resolve().parents[1]
COMPLETES = {"FILE": "FILE", "DIR": "DIRECTORY"}
"""By what an argument is called in its help: what shtab completes it with."""


def main() -> None:
    """Write everything."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("directory", nargs="?", type=Path)
    # What is written must not depend on who runs this, or how wide the terminal is.
    os.environ |= {"XDG_STATE_HOME": "~/.local/state", "COLUMNS": "80"}
    given: Path | None = arguments.parse_args().directory
    directory = given or ROOT / "conf"
    for folder in ("man", "completion/bash", "completion/zsh"):
        (directory / folder).mkdir(parents=True, exist_ok=True)
    command_page(directory / "man" / "usb-provider.1")
    configuration_page(directory / "man")
    completion(directory / "completion")
    for name, tables in TABLES.items():
        page = (ROOT / "docs" / name).read_text(encoding="utf-8")
        ((given or ROOT / "docs") / name).write_text(with_tables(page, tables), encoding="utf-8")


def command_page(path: Path) -> None:
    """usb-provider(1), from the argument parsers."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    words = {
        "module": "usb_provider.cmd.main",
        "function": "parser",
        "description": project["description"],
        "project-name": project["name"],
        "version": project["version"],
        "manual-title": "User Commands",
        "output": str(path),
    }
    options = [word for name, value in words.items() for word in (f"--{name}", value)]
    subprocess.run([Path(sys.executable).with_name("argparse-manpage"), *options], check=True)
    # Without its date, since each day would write another page.
    path.write_text(re.sub(r'^(\.TH \S+ "1") "[^"]*"', r'\1 ""', path.read_text(), count=1))


def configuration_page(directory: Path) -> None:
    """usb-provider.conf(5), from the option declarations, by oslo.config's own extension to Sphinx."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "man", "-d", f"{scratch}/doctrees"]
        subprocess.run([*command, str(ROOT / "docs" / "man"), f"{scratch}/man"], check=True)
        shutil.copyfile(f"{scratch}/man/usb-provider.conf.5", directory / "usb-provider.conf.5")


def completion(directory: Path) -> None:
    """The completion of bash and zsh, under the names by which their loaders look for it."""
    import shtab

    from usb_provider.cmd.main import parser

    top = parser()
    for action in _actions(top):
        if kind := COMPLETES.get(str(action.metavar)):
            action.complete = getattr(shtab, kind)  # type: ignore[attr-defined]
    (directory / "bash" / "usb-provider").write_text(shtab.complete(top, shell="bash"))
    (directory / "zsh" / "_usb-provider").write_text(shtab.complete(top, shell="zsh"))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)


def with_tables(page: str, tables: Mapping[str, Callable[[], Iterator[Sequence[str]]]]) -> str:
    """*page*, Markdown, with each of *tables* between its two comments as the code has it now."""
    for name, rows in tables.items():
        begin, end = f"<!-- {name}: made by make generate -->\n", f"<!-- end of {name} -->"
        head, found, rest = page.partition(begin)
        _, found_too, tail = rest.partition(end)
        if not (found and found_too):
            raise ValueError(f"the page has no place for the table of {name}: {begin.strip()} … {end}")
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in rows())
        page = f"{head}{begin}\n{table}\n\n{end}{tail}"
    return page


def _states() -> Iterator[list[str]]:
    yield ["The device is", "Free: inventory", "Held: inventory", "State traits", "State in `openstack usb`", "Metric"]
    yield ["---"] * 6
    for presence, what in _PRESENCES.items():
        for intention, by_whom in _INTENTIONS.items():
            free, held = _rows(presence, intention)
            marks = sorted(free.marks, key=lambda name: name == STATE_RESERVED)
            marks += [STATE_DRAINED] if intention is Intention.DRAINED else []
            yield [
                (what if intention is Intention.NONE else presence.name.lower()) + by_whom,
                free.units.value,
                held.units.value,
                ", ".join(f"`{name}`" for name in marks) or "none",
                _two(free.fleet_state, held.fleet_state),
                _two(free.device_state, held.device_state),
            ]


def _writes() -> Iterator[list[str]]:
    yield ["The device", "No consumer holds it", "A consumer holds it"]
    yield ["---"] * 3
    for presence, what in _CHANGES.items():
        free, held = _rows(presence, Intention.NONE)
        yield [what, free.order.value, held.order.value]


def _controllers() -> Iterator[Sequence[str]]:
    heading, *rows = in_words()
    yield heading
    yield ["---"] * len(heading)
    yield from rows


def _rows(presence: Presence, intention: Intention) -> tuple[ProviderState, ProviderState]:
    """The rows of what no consumer holds, and of what one holds."""
    free, held = (TABLE[Circumstances(presence, intention, held)] for held in (False, True))
    return free, held


def _two(free: str, held: str) -> str:
    return f"`{free}`" if free == held else f"`{free}`; held: `{held}`"


_PRESENCES = {
    Presence.OFFERED: "offered (plugged in, and a rule offers it)",
    Presence.WITHDRAWN: "withdrawn (plugged in, but no rule offers it, or the host uses it)",
    Presence.ABSENT: "absent (unplugged)",
}
_INTENTIONS = {Intention.NONE: "", Intention.RESERVED: ", reserved by you", Intention.DRAINED: ", drained"}
_CHANGES = {
    Presence.OFFERED: "is new, comes back, or is offered again",
    Presence.WITHDRAWN: "is withdrawn",
    Presence.ABSENT: "goes",
}
TABLES: Mapping[str, Mapping[str, Callable[[], Iterator[Sequence[str]]]]] = {
    "placement.md": {"states": _states, "writes": _writes},
    "flavors.md": {"controllers": _controllers},
}
"""The tables of each page."""


if __name__ == "__main__":
    main()
