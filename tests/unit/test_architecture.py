"""Imports point inward, and each neighbour has one door."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import placement_traits
import usb_provider

OURS = {"usb_provider": Path(usb_provider.__file__).parent, "placement_traits": Path(placement_traits.__file__).parent}

_EDGE = frozenset({"exception", "model", "placement_traits"})


# What each part may import: docs/architecture.md draws the same arrows.
INWARD: dict[str, frozenset[str]] = {
    "placement_traits": frozenset(),
    "exception": frozenset(),
    "model": frozenset({"exception", "placement_traits"}),
    "conf": _EDGE,
    "host": _EDGE,
    "openstack": frozenset({"exception"}),
    "placement": _EDGE | {"openstack"},
    "osc": _EDGE | {"openstack", "placement"},
    "server": frozenset(),
    "virt": _EDGE | {"server"},
    "agent": _EDGE | {"host", "placement", "virt", "server"},
    "diagnosis": _EDGE | {"conf", "host", "placement", "virt"},
    "demo": _EDGE | {"host", "openstack", "placement", "agent"},
}
COMPOSITION_ROOTS = frozenset({"cmd", "__main__"})


def sources() -> Iterator[tuple[str, Path]]:
    """Give each module of ours: its name in the package and its file."""
    for name, root in OURS.items():
        for path in sorted(root.rglob("*.py")):
            if "recordings" not in path.parts:
                yield f"{name}/{path.relative_to(root).as_posix()}", path


SOURCES = dict(sources())


@cache
def imports(path: Path) -> frozenset[str]:
    """Give the full name of every module that *path* imports anywhere, and of every name that it takes from one."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            assert node.module is not None
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def part_of(module: str) -> str:
    """Give the part of ours that a dotted *module* belongs to: model for usb_provider.model.devices.device."""
    names = module.split(".")
    return names[1] if names[0] == "usb_provider" and len(names) > 1 else names[0]


def part_of_source(name: str) -> str:
    return (
        part_of(name.removesuffix(".py").replace("/", ".")) if name.startswith("usb_provider") else "placement_traits"
    )


def importers(package: str) -> set[str]:
    """Give the modules of ours that import *package* or anything in it."""
    return {
        name
        for name, path in SOURCES.items()
        if any(module == package or module.startswith(f"{package}.") for module in imports(path))
    }


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "usb_provider/__init__.py"])
def test_imports_point_inward(name: str) -> None:
    part = part_of_source(name)
    everything = frozenset(INWARD)
    allowed = {part} | (everything if part in COMPOSITION_ROOTS else INWARD[part])
    outward = {
        module for module in imports(SOURCES[name]) if module.split(".")[0] in OURS and part_of(module) not in allowed
    }
    assert not outward


def test_only_one_file_talks_to_udev() -> None:
    assert importers("pyudev") == {"usb_provider/host/udev.py"}


def test_only_the_openstack_package_talks_to_keystone_and_conf_declares_its_options() -> None:
    assert importers("keystoneauth1") == {
        "usb_provider/conf/placement.py",
        "usb_provider/openstack/session.py",
        "usb_provider/openstack/transport.py",
    }


def test_only_one_file_talks_to_libvirt() -> None:
    assert importers("libvirt") <= {"usb_provider/virt/domain.py"}


def test_only_one_file_talks_to_prometheus_and_only_the_agent_when_asked_loads_it() -> None:
    assert importers("prometheus_client") == {"usb_provider/agent/metrics.py"}
    assert importers("usb_provider.agent.metrics") == {"usb_provider/cmd/agent.py"}


def test_only_one_file_makes_reports() -> None:
    assert importers("oslo_reports") == {"usb_provider/agent/state_report.py"}


@pytest.mark.parametrize("package", ["osc_lib", "usb_provider.osc"])
def test_only_the_openstack_commands_know_of_the_openstack_client(package: str) -> None:
    assert importers(package)
    assert {name for name in importers(package) if not name.startswith("usb_provider/osc/")} == set()


def test_only_the_demo_imports_the_simulated_host_and_the_embedded_placement() -> None:
    found = {name for name in importers("usb_provider.demo") if not name.startswith("usb_provider/demo/")}
    assert found == {"usb_provider/cmd/demo.py"}


def test_no_other_command_loads_the_demo() -> None:
    words = (
        "import sys; from usb_provider.cmd.main import parser; parser(); "
        "print(*(name for name in sys.modules if name.startswith('usb_provider.demo')))"
    )
    loaded = subprocess.run([sys.executable, "-c", words], check=True, stdout=subprocess.PIPE, text=True).stdout
    assert loaded.split() == []


def test_the_hook_runs_on_the_standard_library_alone() -> None:
    roots = {module.split(".")[0] for module in imports(SOURCES["usb_provider/virt/hook.py"])}
    assert roots <= sys.stdlib_module_names


@pytest.mark.parametrize("package", ["eventlet", "openstack", "requests"])
def test_nothing_imports(package: str) -> None:
    assert importers(package) == set()


@pytest.mark.parametrize("name", [name for name in SOURCES if name.startswith("usb_provider/model/")])
def test_the_model_is_pure(name: str) -> None:
    roots = {module.split(".")[0] for module in imports(SOURCES[name])}
    assert roots - sys.stdlib_module_names <= {"os_resource_classes", "os_traits", "placement_traits", "usb_provider"}
    # What reads files, clocks, sockets or the environment has no place here.
    assert not roots & {"os", "io", "pathlib", "time", "socket", "subprocess", "threading", "logging", "random"}


def test_the_vocabulary_imports_nothing_of_ours_and_nothing_installed() -> None:
    for name, path in SOURCES.items():
        if name.startswith("placement_traits/"):
            roots = {module.split(".")[0] for module in imports(path)}
            assert roots - sys.stdlib_module_names <= {"placement_traits"}


@pytest.mark.parametrize("name", [name for name in SOURCES if "placement_traits/" not in name])
def test_every_module_says_what_it_is_for(name: str) -> None:
    assert ast.get_docstring(ast.parse(SOURCES[name].read_text(encoding="utf-8")))


NAMES_OF_MANY = frozenset({"LOG", "TEXT", "declare", "group", "main", "opts", "run"})
"""What each command, each group of options and each program has under the same name."""


def test_no_two_public_things_have_one_name() -> None:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name, path in SOURCES.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                found[node.name].append(name)
    twice = {name: files for name, files in found.items() if len(files) > 1 and not name.startswith("_")}
    assert {name: files for name, files in twice.items() if name not in NAMES_OF_MANY} == {}


@pytest.mark.parametrize("name", SOURCES)
def test_no_file_and_no_class_is_too_long_to_be_read_in_one_go(name: str) -> None:
    text = SOURCES[name].read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    classes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef)]
    assert {each.name for each in classes if (each.end_lineno or 0) - each.lineno >= 250} == set()


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[1].rglob("*.py")), ids=lambda path: path.stem)
def test_no_test_file_is_too_long_to_be_read_in_one_go(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 600


def test_the_readme_says_where_each_module_is_changed() -> None:
    """Each is named in its table, or the folder that it is in is."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    table = readme.partition("## Where do I change")[2].partition("\n## ")[0]
    named = set(re.findall(r"`((?:usb_provider|placement_traits)/[^`]*)`", table))
    missing = [
        name
        for name in SOURCES
        if not name.endswith("__init__.py")
        and name not in named
        and not any(folder.endswith("/") and name.startswith(folder) for folder in named)
    ]
    assert missing == []
