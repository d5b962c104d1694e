"""``usb-provider sync`` and ``plan`` on a host whose compute_id is another host's write nothing, as the agent."""

import sys
import types
from collections.abc import Callable
from typing import cast

import pytest

from tests.fixtures.placement import PlacementServer
from tests.fixtures.processes import Program
from usb_provider.cmd import setup
from usb_provider.conf import load
from usb_provider.exception import Unavailable, WrongRoot
from usb_provider.host.udev import UdevHost


@pytest.fixture
def libvirt_says(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """What libvirt gives as the host's name; None while it does not answer."""

    def says(name: str | None) -> None:
        class Host:
            def __init__(self, uri: str, changed: Callable[[], None]) -> None:
                pass

            def hostname(self) -> str:
                if name is None:
                    raise Unavailable("libvirt does not answer.")
                return name

            def close(self) -> None:
                pass

        module = types.ModuleType("domain")
        monkeypatch.setattr(module, "LibvirtHost", Host, raising=False)
        monkeypatch.setitem(sys.modules, "usb_provider.virt.domain", module)

    return says


def run(program: Program, placement: PlacementServer, *, enabled: bool = True) -> None:
    """One pass of the command, on a host with nothing plugged in."""
    program.use(placement)
    program.groups["libvirt"]["enabled"] = enabled
    conf = load.open_files(["--config-file", str(program.write())])
    options = load.read(conf)
    host = cast(UdevHost, types.SimpleNamespace(devices=lambda fresh: ()))
    with setup.reporter(conf, options, host, this_host=setup.this_host(options)) as report:
        report.preview()
        report.run()


@pytest.mark.usefixtures("root")
def test_a_command_on_another_host_names_the_option(program, placement, libvirt_says) -> None:
    libvirt_says("host2.example.org")
    with pytest.raises(WrongRoot, match=r"libvirt calls this host host2.example.org.*\[agent\]root_provider_name"):
        run(program, placement)


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("name", ["host1", "host1.example.org", None])
def test_a_command_on_its_own_host_or_without_an_answer_goes_on(program, placement, libvirt_says, name) -> None:
    libvirt_says(name)
    run(program, placement)


@pytest.mark.usefixtures("root")
def test_where_no_guests_are_served_libvirt_is_not_asked(program, placement, libvirt_says) -> None:
    libvirt_says("host2")
    run(program, placement, enabled=False)


@pytest.mark.usefixtures("root")
def test_where_an_operator_says_that_the_name_is_right_the_command_goes_on(program, placement, libvirt_says) -> None:
    libvirt_says("host2")
    program.groups["agent"]["root_name_may_differ"] = True
    run(program, placement)
