"""What an operator installs from conf/ is complete and can be read by the program itself."""

import configparser
import io
import re
import subprocess
from pathlib import Path

import pytest
from oslo_config import cfg, generator

from usb_provider.conf import agent, load, metrics, opts, usb

CONF = Path(__file__).parents[3] / "conf"
SAMPLE = (CONF / "usb-provider.conf.sample").read_text()


def test_every_option_is_in_the_sample_configuration() -> None:
    for group, declared in opts.list_opts():
        section = SAMPLE.partition(f"\n[{group.name}]\n")[2].partition("\n[")[0]
        missing = [opt.dest for opt in declared if not re.search(rf"^#{opt.dest} = ?", section, re.MULTILINE)]
        assert not missing, f"run make genconfig: [{group.name}] lacks {missing}"


@pytest.mark.parametrize("group", [agent.group.name, usb.group.name, metrics.group.name])
def test_the_sample_says_what_the_program_says_of_our_own_options(group: str) -> None:
    conf = cfg.ConfigOpts()
    generator.register_cli_opts(conf)
    conf(["--namespace", "usb_provider", "--wrap-width", "120"], default_config_files=[])
    fresh = io.StringIO()
    generator.generate(conf, fresh)

    def section(text: str) -> str:
        return text.partition(f"\n[{group}]\n")[2].partition("\n[")[0].strip()

    assert section(SAMPLE) == section(fresh.getvalue()), "run make genconfig"


def test_every_example_rule_is_accepted_and_reachable() -> None:
    conf = load.open_files(["--config-file", str(CONF / "examples" / "device_spec.conf")])
    assert len(load.read(conf).usb.specs) > 10


def test_the_unit_is_of_type_notify_and_hardened() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(CONF / "systemd" / "usb-provider-agent.service")
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["StateDirectory"] == service["RuntimeDirectory"] == "usb-provider"
    # A mistake in the configuration exits with 2 and is not to be tried again every few seconds.
    assert service["RestartPreventExitStatus"] == "2"
    assert "AF_NETLINK" in service["RestrictAddressFamilies"], "udev's events come over netlink"


def test_the_unit_comes_before_all_that_starts_guests() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.read(CONF / "systemd" / "usb-provider-agent.service")
    before = set(unit["Unit"]["Before"].split())
    assert {"nova-compute.service", "openstack-nova-compute.service", "libvirt-guests.service"} <= before


def test_the_unit_is_as_closed_as_the_documents_say() -> None:
    """``systemd-analyze`` rates it from 0 to 10; what it still lists is in the unit's comment."""
    words = ["systemd-analyze", "security", "--offline=true", str(CONF / "systemd" / "usb-provider-agent.service")]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    rate = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert rate is not None
    assert float(rate[1]) <= 1.5
    comment = (CONF / "systemd" / "usb-provider-agent.service").read_text().partition("still lists")[2]
    listed = re.findall(r"^✗ (?:RestrictAddressFamilies=~)?([A-Za-z_]+)", said, re.MULTILINE)
    assert [name for name in listed if name not in comment] == []


def test_the_unit_bounds_what_a_bug_of_the_agent_can_take_from_the_guests() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.read(CONF / "systemd" / "usb-provider-agent.service")
    assert {"tasksmax", "memorymax", "watchdogsec"} <= set(unit["Service"])
