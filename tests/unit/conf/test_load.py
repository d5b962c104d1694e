"""Configuration files read to values: every mistake at once, each named by its option."""

from collections.abc import Callable
from pathlib import Path

import pytest
from oslo_config import cfg

from usb_provider.conf.load import Options, open_files, read, reread
from usb_provider.exception import ConfigError
from usb_provider.model.devices.keys import JUNK_SERIALS, JunkSerials

Write = Callable[[str], cfg.ConfigOpts]


@pytest.fixture
def opened(tmp_path: Path) -> Write:
    """Give a function that writes a configuration file and opens it."""

    def write(text: str) -> cfg.ConfigOpts:
        (tmp_path / "usb.conf").write_text(text, encoding="utf-8")
        return open_files(["--config-file", str(tmp_path / "usb.conf")])

    return write


def problems_of(conf: cfg.ConfigOpts) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        read(conf)
    return caught.value.problems


def the_problem(*arguments: str) -> str:
    with pytest.raises(ConfigError) as caught:
        open_files(arguments)
    (problem,) = caught.value.problems
    assert problem.isprintable()
    return problem


def test_an_empty_file_gives_the_defaults_and_offers_nothing(opened: Write) -> None:
    options = read(opened(""))
    assert options.usb.specs == ()
    assert options.usb.junk_serials == JunkSerials(JUNK_SERIALS)
    assert options.usb.report_serial_trait is False
    assert options.agent.root_provider_uuid is None
    assert options.agent.root_provider_name is None
    assert options.agent.compute_id_file == Path("/var/lib/nova/compute_id")
    assert options.agent.resync_interval == 60
    assert options.agent.debounce == 0.2
    assert options.agent.purge_absent_after == 0
    assert options.agent.state_dir == Path("/var/lib/usb-provider")


def test_a_file_as_operators_write_it_is_read(opened: Write) -> None:
    options = read(
        opened(
            """
            [agent]
            root_provider_uuid = 4E8E5957-649F-477B-9E5B-F1F75B21C03C
            root_provider_name = compute1
            resync_interval = 5
            debounce = 1.5
            [usb]
            device_spec = {"vendor_id": "1050", "product_id": "0407", "traits": ["CUSTOM_A", "CUSTOM_B"]}
            device_spec = {"class": "hid", "exclude": true}
            junk_serials = 123, abc
            report_serial_trait = true
            [placement]
            auth_type = password
            """.replace("\n            ", "\n")
        )
    )
    assert [spec.number for spec in options.usb.specs] == [1, 2]
    assert options.usb.specs[0].traits == {"CUSTOM_A", "CUSTOM_B"}
    assert options.usb.junk_serials == JunkSerials(["123", "abc"])
    assert options.usb.report_serial_trait
    assert options.agent.root_provider_uuid == "4e8e5957-649f-477b-9e5b-f1f75b21c03c"
    assert (options.agent.root_provider_name, options.agent.resync_interval) == ("compute1", 5)


def test_all_values_that_are_not_allowed_are_told_at_once(opened: Write) -> None:
    problems = problems_of(
        opened(
            "[agent]\nroot_provider_uuid = compute1\nresync_interval = 0\ndebounce = soon\npurge_absent_after = -1\n"
            '[usb]\nreport_serial_trait = maybe\ndevice_spec = {"vendor_id": 1050}\ndevice_spec = {\n'
        )
    )
    for option in (
        "[agent]root_provider_uuid is not a UUID: 'compute1'",
        "[agent]resync_interval has a value that is not allowed",
        "[agent]debounce has a value that is not allowed",
        "[agent]purge_absent_after has a value that is not allowed",
        "[usb]report_serial_trait has a value that is not allowed",
        "[usb]device_spec rule 1 ",
        "[usb]device_spec rule 2 ",
    ):
        assert sum(problem.startswith(option) for problem in problems) == 1, option
    assert len(problems) == 7
    assert all(problem.endswith(".") and problem.isprintable() for problem in problems)


@pytest.mark.parametrize(
    "value", ["compute1", "4e8e5957-649f-477b-9e5b", "4e8e5957-649f-477b-9e5b-f1f75b21c03cc", "\x1b[31m"]
)
def test_a_root_that_is_not_a_uuid_is_told(opened: Write, value: str) -> None:
    (problem,) = problems_of(opened(f"[agent]\nroot_provider_uuid = {value}\n"))
    assert problem.startswith("[agent]root_provider_uuid is not a UUID: ")
    assert problem.isprintable()


@pytest.mark.parametrize("value", ["nan", "inf", "-0.1", "10.1", "fast"])
def test_a_time_that_is_no_time_is_told(opened: Write, value: str) -> None:
    (problem,) = problems_of(opened(f"[agent]\ndebounce = {value}\n"))
    assert problem.startswith("[agent]debounce has a value that is not allowed")


def test_a_dollar_in_a_rule_has_to_be_written_twice(opened: Write) -> None:
    (problem,) = problems_of(opened('[usb]\ndevice_spec = {"product": "$Key"}\n'))
    assert problem.startswith("[usb]device_spec has a value that is not allowed")
    assert read(opened('[usb]\ndevice_spec = {"product": "$$Key"}\n')).usb.specs[0].product == "$Key"


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    missing = tmp_path / "missing.conf"
    assert the_problem("--config-file", str(missing)) == (
        f"The configuration file {missing} does not exist; check --config-file."
    )


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert "does not exist; check --config-dir." in the_problem("--config-dir", str(tmp_path / "missing"))


@pytest.mark.parametrize("text", ["no section\n", "[agent\n", "[agent]\n = 5\n", "[agent]\n  indented = 1\nword\n"])
def test_a_file_that_cannot_be_parsed_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "usb.conf").write_text(text)
    problem = the_problem("--config-file", str(tmp_path / "usb.conf"))
    assert problem.startswith(f"The configuration file {tmp_path / 'usb.conf'} cannot be parsed: ")


def test_a_file_that_is_not_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "usb.conf").write_bytes(b"[agent]\nroot_provider_name = \xff\xfe\n")
    assert the_problem("--config-file", str(tmp_path / "usb.conf")).startswith("The configuration")


def test_a_directory_in_the_place_of_the_file_is_told(tmp_path: Path) -> None:
    assert the_problem("--config-file", str(tmp_path)).startswith("The configuration")


def test_a_changed_file_is_read_again(opened: Write, tmp_path: Path) -> None:
    conf = opened("[agent]\nresync_interval = 5\n")
    assert read(conf).agent.resync_interval == 5
    (tmp_path / "usb.conf").write_text('[agent]\nresync_interval = 7\n[usb]\ndevice_spec = {"vendor_id": "1050"}\n')
    options: Options = reread(conf)
    assert options.agent.resync_interval == 7
    assert len(options.usb.specs) == 1


@pytest.mark.parametrize(
    "text", ["[agent]\nresync_interval = 0\n", "[usb]\ndevice_spec = {\n", "no section\n", "[agent]\nx = \xff\n"]
)
def test_a_mistake_at_a_reload_is_told_and_the_next_reload_may_mend_it(
    opened: Write, tmp_path: Path, text: str
) -> None:
    conf = opened("[agent]\nresync_interval = 5\n")
    (tmp_path / "usb.conf").write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError):
        reread(conf)
    (tmp_path / "usb.conf").write_text("[agent]\nresync_interval = 9\n")
    assert reread(conf).agent.resync_interval == 9


def test_a_file_that_went_away_is_told_at_a_reload(opened: Write, tmp_path: Path) -> None:
    conf = opened("[agent]\nresync_interval = 5\n")
    (tmp_path / "usb.conf").unlink()
    with pytest.raises(ConfigError):
        reread(conf)


def test_a_rule_in_the_default_place_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # oslo.config finds the file once for the project and again for the program of the same name.
    monkeypatch.setenv("HOME", str(tmp_path))
    place = tmp_path / ".usb-provider"
    (place / "usb-provider.conf.d").mkdir(parents=True)
    (place / "usb-provider.conf").write_text('[usb]\ndevice_spec = {"vendor_id": "1050"}\n')
    (place / "usb-provider.conf.d" / "more.conf").write_text("[agent]\nresync_interval = 7\n")
    options = read(open_files([]))
    assert [spec.vendor_id for spec in options.usb.specs] == ["1050"]
    assert options.agent.resync_interval == 7


def test_addresses_for_prometheus_are_read_each_once(opened: Write) -> None:
    conf = opened("[metrics]\nlisten = 192.0.2.7:9753, [2001:DB8::7]:9753,0.0.0.0:1, [::]:65535, 192.0.2.7:9753\n")
    assert read(conf).metrics.listen == (
        ("192.0.2.7", 9753),
        ("2001:db8::7", 9753),
        ("0.0.0.0", 1),
        ("::", 65535),
    )


@pytest.mark.parametrize(
    "value",
    ["9753", "localhost:9753", "::1:9753", "[::1]", "127.0.0.1:0", "127.0.0.1:65536", "[127.0.0.1]:1", "1.2.3:4"],
)
def test_what_is_no_address_with_a_port_is_told(opened: Write, value: str) -> None:
    (problem,) = problems_of(opened(f"[metrics]\nlisten = {value}\n"))
    assert problem.startswith(
        f"[metrics]listen has a value that is not allowed: {value!r} is not an address and a port"
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "[hook]\nsocket = /run/a.sock\n  timeout = 5\n",
            "[hook]socket has a value that is not allowed: it has a second",
        ),
        (
            "[agent]\nstate_dir = /a\x00b\n",
            r"[agent]state_dir has a value that is not allowed: it contains the control",
        ),
        ("[agent]\nroot_provider_name = a\x1b[31mb\n", r"the control character \x1b."),
        (
            "[libvirt]\nconnection_uri = qemu:///system\n\tx\n",
            "[libvirt]connection_uri has a value that is not allowed",
        ),
        ("[hook]\nsocket_group = a\u202eb\n", r"the control character \u202e."),
        (
            "[agent]\nstate_dir = state\n",
            "[agent]state_dir has a value that is not allowed: 'state' is no absolute path.",
        ),
        (
            "[agent]\ncompute_id_file =\n",
            "[agent]compute_id_file has a value that is not allowed: '' is no absolute path.",
        ),
    ],
)
def test_a_control_character_and_a_relative_path_are_told(opened: Write, text: str, problem: str) -> None:
    (told,) = problems_of(opened(text))
    assert problem in told
    assert told.isprintable()


def test_a_rule_may_go_on_in_an_indented_line(opened: Write) -> None:
    options = read(opened('[usb]\ndevice_spec = {"vendor_id": "1050",\n  "product_id": "0407"}\n'))
    assert options.usb.specs[0].product_id == "0407"
