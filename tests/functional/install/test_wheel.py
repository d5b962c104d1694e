"""The wheel as a package or a virtual environment has it: what is there, and that it works without the checkout."""

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.fixtures.processes import environment

ROOT = Path(__file__).parents[3]
MAN_PAGES = ("man1/usb-provider.1", "man5/usb-provider.conf.5")
OUR_GROUPS = ("agent", "usb", "libvirt", "hook")

# What bash itself does at the Tab key, with the words typed so far as arguments.
TAB = """
source "$1"; shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE}
spec=$(complete -p "$1")
function=${spec##*-F }
"${function%% *}" "$1" "${@: -1}" "${@: -2:1}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment with the wheel in it; what it depends on is the tests' own."""
    scratch = tmp_path_factory.mktemp("wheel")
    # Elsewhere than the checkout, where an earlier build may have left modules that are no longer there.
    source = scratch / "source"
    source.mkdir()
    for name in ("README.md", "LICENSE", "pyproject.toml"):
        shutil.copy(ROOT / name, source)
    for name in ("conf", "placement_traits", "usb_provider"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    build = (*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(scratch), str(source))
    subprocess.run(build, check=True, env=environment(), cwd=scratch)
    (wheel,) = scratch.glob("*.whl")
    made = scratch / "venv"
    subprocess.run((sys.executable, "-m", "venv", "--without-pip", made), check=True, env=environment())
    subprocess.run((*pip, "--python", str(made), "install", "--no-deps", wheel), check=True, env=environment())
    (site,) = made.glob("lib/python3*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return made


def _run(*command: str | Path, cwd: Path) -> str:
    return subprocess.run(
        command, check=True, text=True, capture_output=True, cwd=cwd, env=environment(), timeout=60
    ).stdout


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (bindep.txt, profile test)")
    return found


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the code says today."""
    directory = tmp_path_factory.mktemp("generated")
    subprocess.run((sys.executable, ROOT / "tools" / "generate.py", directory), check=True, env=environment())
    return directory


def test_the_wheel_brings_man_pages_completion_the_unit_and_a_sample_configuration(prefix: Path) -> None:
    brought = {str(path.relative_to(prefix / "share")) for path in (prefix / "share").rglob("*") if path.is_file()}
    assert brought == {
        "man/man1/usb-provider.1",
        "man/man5/usb-provider.conf.5",
        "bash-completion/completions/usb-provider",
        "zsh/site-functions/_usb-provider",
        "usb-provider/usb-provider.conf.sample",
        "usb-provider/usb-provider-agent.service",
        "usb-provider/sysusers.d/usb-provider.conf",
        "usb-provider/udev/61-usb-provider.rules",
        "usb-provider/examples/device_spec.conf",
    }


def test_the_installed_command_works_without_the_checkout(prefix: Path) -> None:
    command = prefix / "bin" / "usb-provider"
    where = _run(prefix / "bin" / "python", "-c", "import usb_provider; print(usb_provider.__file__)", cwd=prefix)
    assert where.startswith(str(prefix))
    assert re.fullmatch(r"usb-provider \d+\.\d+\.\d+\n", _run(command, "--version", cwd=prefix))
    assert "install-hook" in _run(command, "--help", cwd=prefix)
    sample = prefix / "share" / "usb-provider" / "usb-provider.conf.sample"
    devices = _run(command, "--config-file", sample, "devices", "--json", cwd=prefix)
    assert devices.startswith("[")


def test_the_installed_command_can_install_the_hook(prefix: Path, tmp_path: Path) -> None:
    _run(prefix / "bin" / "usb-provider", "install-hook", "--directory", tmp_path / "qemu.d", cwd=prefix)
    hook = tmp_path / "qemu.d" / "usb-provider"
    assert subprocess.run((hook, "guest", "reconnect", "begin", "-"), check=False, timeout=30).returncode == 0


@pytest.mark.parametrize("path", ["man/usb-provider.1", "completion/bash/usb-provider", "completion/zsh/_usb-provider"])
def test_what_is_committed_is_what_the_commands_say_today(generated: Path, path: str) -> None:
    assert (ROOT / "conf" / path).read_text() == (generated / path).read_text(), "run make generate"


@pytest.mark.parametrize("group", OUR_GROUPS)
def test_the_configuration_page_says_what_the_options_say_today(generated: Path, group: str) -> None:
    # The words alone: the markup is Sphinx's, and [placement] is keystoneauth's, whatever their versions.
    def words(page: Path) -> list[str]:
        text = page.read_text()
        section = text.partition(f"\n.SS {group}\n")[2].partition("\n.SS ")[0].partition("\n.SH ")[0]
        return [line for line in section.splitlines() if not line.startswith((".", "'"))]

    committed = words(ROOT / "conf" / "man" / "usb-provider.conf.5")
    assert committed
    assert committed == words(generated / "man" / "usb-provider.conf.5"), "run make generate"


@pytest.mark.parametrize("page", MAN_PAGES)
def test_man_reads_the_pages_without_a_complaint(prefix: Path, page: str) -> None:
    mandoc = _tool("mandoc")
    path = prefix / "share" / "man" / page
    found = subprocess.run((mandoc, "-T", "lint", "-W", "error", path), text=True, capture_output=True, check=False)
    # Docutils ends an indent that its own macro began, which mandoc does not see.
    complaints = [
        line for line in found.stdout.splitlines() if "skipping end of block that is not open: RE" not in line
    ]
    assert not complaints
    assert "USB-PROVIDER" in _run(mandoc, "-T", "ascii", path, cwd=prefix)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (("usb-provider", "de"), {"demo", "devices"}),
        (("usb-provider", "install-hook", "--un"), {"--uninstall"}),
        (
            ("usb-provider", "devices", "--"),
            {"--help", "--config-file", "--config-dir", "--debug", "--json", "--suggest"},
        ),
        (("usb-provider", "--config-file", "usb-p"), {"usb-provider.conf.sample", "usb-provider-agent.service"}),
    ],
)
def test_bash_completes_commands_options_and_file_names(
    prefix: Path, typed: tuple[str, ...], offered: set[str]
) -> None:
    script = prefix / "share" / "bash-completion" / "completions" / "usb-provider"
    _run("bash", "-n", script, cwd=prefix)
    told = _run("bash", "-c", TAB, "bash", script, *typed, cwd=prefix / "share" / "usb-provider")
    assert set(told.split()) == offered


def test_zsh_can_read_its_completion_and_knows_whose_it_is(prefix: Path) -> None:
    script = prefix / "share" / "zsh" / "site-functions" / "_usb-provider"
    assert script.read_text().startswith("#compdef usb-provider\n")
    _run(_tool("zsh"), "-n", script, cwd=prefix)


def test_the_commands_of_the_page_put_everything_in_its_place(prefix: Path, tmp_path: Path) -> None:
    chapter = (ROOT / "docs" / "install.md").read_text().partition("## The files\n")[2]
    block = chapter.partition("```console\n")[2].partition("```")[0]
    # Without the two that make the environment, which is there, and without the users of a real host.
    lines = [re.sub(" -[og] usb-provider", "", line.removeprefix("# ")) for line in block.splitlines()][2:]
    script = "\n".join(lines).replace("/opt/usb-provider", str(prefix))
    for folder in ("/usr/bin", "/usr/local/share", "/etc", "/var/lib"):
        (tmp_path / folder[1:]).mkdir(parents=True)
        script = re.sub(rf"(?<=\s){folder}(?=[/\s])", f"{tmp_path}{folder}", script)
    (tmp_path / "etc" / "systemd" / "system").mkdir(parents=True)
    _run("bash", "-euc", f"systemd-sysusers() {{ :; }}\nudevadm() {{ :; }}\n{script}", cwd=ROOT)
    placed = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if not path.is_dir()}
    assert placed == {
        "usr/bin/usb-provider",
        "usr/local/share/man/man1/usb-provider.1",
        "usr/local/share/man/man5/usb-provider.conf.5",
        "usr/local/share/bash-completion/completions/usb-provider",
        "usr/local/share/zsh/site-functions/_usb-provider",
        "etc/systemd/system/usb-provider-agent.service",
        "etc/sysusers.d/usb-provider.conf",
        "etc/udev/rules.d/61-usb-provider.rules",
        "etc/usb-provider/usb-provider.conf",
    }
    assert (tmp_path / "var" / "lib" / "usb-provider").is_dir()
    assert (tmp_path / "etc" / "usb-provider" / "usb-provider.conf").stat().st_mode & 0o777 == 0o640
