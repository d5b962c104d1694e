"""A ``$name`` that leads nowhere, and numbers that no clock has, in any option: a sentence, and no other exception."""

from pathlib import Path

import pytest

from usb_provider.conf.load import open_files, survey
from usb_provider.conf.opts import OWN_GROUPS, list_opts
from usb_provider.exception import ConfigError
from usb_provider.placement.client import connect

OPTIONS = sorted({(group.name, opt.name) for group, opts in list_opts() for opt in opts})
PASSWORD = {
    "auth_type": "password",
    "auth_url": "http://127.0.0.1:1",
    "username": "u",
    "password": "p",
    "project_name": "p",
}


def problems(path: Path, group: str, name: str, value: str) -> tuple[str, ...]:
    """What is said of a configuration with this option."""
    options = {"placement": dict(PASSWORD)}
    options.setdefault(group, {})[name] = value
    path.write_text(
        "".join(
            f"[{section}]\n" + "".join(f"{key} = {word}\n" for key, word in words.items())
            for section, words in options.items()
        )
    )
    said: tuple[str, ...] = ()
    try:
        conf = open_files(["--config-file", str(path)])
        said += survey(conf)[1]
        connect(conf)
    except ConfigError as error:
        said += error.problems
    return said


@pytest.mark.parametrize(("group", "name"), OPTIONS)
@pytest.mark.parametrize("value", ["$nothing", "9" * 5000, "\\ud800", "-1e400", "\x01"])
def test_a_value_that_cannot_be_is_at_most_a_sentence(tmp_path: Path, group: str, name: str, value: str) -> None:
    for said in problems(tmp_path / "usb.conf", group, name, value):
        assert said.endswith((".", "…"))
        assert said.isprintable()
        assert "Traceback" not in said and "LocationInfo" not in said


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_an_option_that_refers_to_itself_is_told(tmp_path: Path, group: str, name: str) -> None:
    said = problems(tmp_path / "usb.conf", group, name, f"${name}")
    assert len(said) <= 1
    # [oslo_reports]log_dir is not read here.
    if group in {module.group.name for module in OWN_GROUPS} - {"oslo_reports"}:
        assert said == (
            f"[{group}]{name} has a value that is not allowed: it refers to itself; write $$ for a dollar sign.",
        )
    elif name in PASSWORD:
        assert "an option refers to itself; write $$ for a dollar sign." in said[0]


@pytest.mark.parametrize(
    ("group", "name"),
    [("agent", "state_dir"), ("libvirt", "enabled"), ("hook", "socket"), ("usb", "device_spec"), ("metrics", "listen")],
)
def test_a_dollar_that_leads_nowhere_is_named_with_what_to_write(tmp_path: Path, group: str, name: str) -> None:
    assert problems(tmp_path / "usb.conf", group, name, "$nothing") == (
        f"[{group}]{name} has a value that is not allowed: $nothing refers to an option that does not exist; write $$ "
        f"for a dollar sign.",
    )


@pytest.mark.parametrize("name", sorted({name for group, name in OPTIONS if group == "placement"}))
def test_a_dollar_in_the_group_of_placement_is_told_where_the_option_is_read(tmp_path: Path, name: str) -> None:
    said = problems(tmp_path / "usb.conf", "placement", name, "$nothing")
    assert len(said) <= 1
    if name in (*PASSWORD, "endpoint_override", "cafile", "timeout", "region_name"):
        assert "nothing" in said[0]


@pytest.mark.parametrize("value", ["86401", "9" * 30])
def test_a_timeout_that_no_clock_has_is_told(tmp_path: Path, value: str) -> None:
    assert problems(tmp_path / "usb.conf", "placement", "timeout", value) == (
        "[placement]timeout is longer than 86400 seconds; set a shorter one.",
    )
