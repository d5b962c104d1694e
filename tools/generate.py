"""Writes what is made from the code, so that it says what the code does: man pages and shell completion.

    tools/generate.py [DIR]     into DIR, by default conf/

Needs the dependency group "docs". A test compares what is committed with what this would write.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMPLETES = {"FILE": "FILE", "DIR": "DIRECTORY"}
"""By what an argument is called in its help: what shtab completes it with."""

# What is written must not depend on who runs this, or how wide the terminal is.
os.environ |= {"XDG_STATE_HOME": "~/.local/state", "COLUMNS": "80"}


def main() -> None:
    """Write everything."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("directory", nargs="?", type=Path, default=ROOT / "conf")
    directory: Path = arguments.parse_args().directory
    for folder in ("man", "completion/bash", "completion/zsh"):
        (directory / folder).mkdir(parents=True, exist_ok=True)
    command_page(directory / "man" / "usb-provider.1")
    configuration_page(directory / "man")
    completion(directory / "completion")


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


if __name__ == "__main__":
    main()
