"""Entries of the configuration files that have no effect: each is told, and nothing else is."""

import io
import re
from pathlib import Path

import pytest
from oslo_config import cfg, generator

from usb_provider.conf import load
from usb_provider.conf.effect import without_effect

CONF = Path(__file__).parents[3] / "conf"
SAMPLE = CONF / "usb-provider.conf.sample"
UUID = "1d5f2b3e-4a6c-4f7a-9a55-6b1f7d0c9e11"


def told(tmp_path: Path, text: str) -> tuple[str, ...]:
    """What is told of a file with *text*."""
    file = tmp_path / "a.conf"
    file.write_text(text)
    conf = load.open_files(["--config-file", str(file)])
    return without_effect(conf, load.survey(conf)[0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[hook]\ntimeot = 3", "[hook]timeot is no option of usb-provider (is it timeout?)."),
        ("[hok]\ntimeout = 3", "[hok] is no section of usb-provider (is it hook?)."),
        ("[quota]\nusers = 3", "[quota] is no section of usb-provider."),
        ("[DEFAULT]\ndebugg = true", "[DEFAULT]debugg is no option of usb-provider (is it debug?)."),
        (
            "[placement]\nos_region_name = x",
            "[placement]os_region_name is no option of usb-provider (is it region_name?).",
        ),
        ("[placement]\nuser_name = x", "[placement]user_name is an old name of [placement]username."),
        (
            f"[agent]\nroot_provider_uuid = {UUID}\nroot_provider_name = x",
            "[agent]root_provider_name has no effect, since [agent]root_provider_uuid names the compute node.",
        ),
        (
            "[agent]\nroot_provider_name = x\ncompute_id_file = /dev/null",
            "[agent]root_provider_name has no effect, since /dev/null names the compute node.",
        ),
        (
            "[libvirt]\nenabled = false\n[hook]\ntimeout = 3",
            "[hook]timeout has no effect, since [libvirt]enabled is false.",
        ),
    ],
)
def test_an_entry_without_effect_is_told(tmp_path: Path, text: str, said: str) -> None:
    assert told(tmp_path, text) == (said,)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[DEFAULT]\nlog-file = /x\nuse_journal = true\n[oslo_reports]\nfile_event_handler = /y",
        "[AGENT]\nresync-interval = 30",
        "[placement]\nauth_type = v3applicationcredential\napplication_credential_id = x\nregion-name = x",
        "[placement]\nauth_section = service\n[service]\nauth_type = password\nusername = x",
        "[agent]\nroot_provider_name = x\ncompute_id_file = /nonexistent",
        "[libvirt]\nenabled = false",
    ],
)
def test_an_entry_with_an_effect_is_not_told(tmp_path: Path, text: str) -> None:
    assert told(tmp_path, text) == ()


def test_every_option_of_the_sample_is_known(tmp_path: Path) -> None:
    """Of the sample as today's libraries make it: an older oslo.log has fewer options than the committed one names."""
    conf, sample = cfg.ConfigOpts(), io.StringIO()
    generator.register_cli_opts(conf)
    conf([], default_config_files=[str(CONF / "config-generator.conf")])
    generator.generate(conf, sample)
    text = re.sub(r"^#(\w+ = )", r"\1", sample.getvalue(), flags=re.MULTILINE)
    assert text.count("\nauth_url = ") == 1
    assert text.count("\ndebug = ") == 1
    assert [said for said in told(tmp_path, text) if " is no " in said] == []


def test_a_directory_of_files_is_looked_at_as_well(tmp_path: Path) -> None:
    (tmp_path / "b.conf").write_text("[hook]\ntimeot = 3")
    conf = load.open_files(["--config-file", str(SAMPLE), "--config-dir", str(tmp_path)])
    assert without_effect(conf, load.survey(conf)[0]) == (
        "[hook]timeot is no option of usb-provider (is it timeout?).",
    )
