"""The agent's figures as Prometheus reads them: over HTTP, from the process, while it works."""

import contextlib
import gzip
import importlib.util
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.placement import PlacementServer, placement, placement_server
from tests.fixtures.ports import reserved_port
from tests.fixtures.processes import KEY, KEY_NAME, KEY_RULE, AgentProcess, Program, agents, program
from tests.fixtures.testbed import eventually, needs_umockdev, testbed
from usb_provider.agent import metrics
from usb_provider.agent.meter import LoopName, Outcome
from usb_provider.agent.metrics import Endpoint, PrometheusMeter
from usb_provider.demo.testbed import Testbed
from usb_provider.exception import ConfigError
from usb_provider.model.binding.decision import Why
from usb_provider.model.binding.refusals import Obstacle
from usb_provider.model.binding.status import BindingState
from usb_provider.model.lifecycle import DeviceState

__all__ = ["agents", "placement", "placement_server", "program", "testbed"]

ROOT = Path(__file__).parents[3]
CONSUMER = "5f3f2a80-6b1c-4b1e-8f43-6f2c6a1d9a10"
HAS_IPV6 = socket.has_ipv6 and Path("/proc/net/if_inet6").exists()


def read(address: str, path: str = "/metrics", **headers: str) -> str:
    """What is at *path* now."""
    request = urllib.request.Request(f"http://{address}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        body: bytes = answer.read()
        return (gzip.decompress(body) if answer.headers["Content-Encoding"] == "gzip" else body).decode()


def values(text: str) -> dict[str, float]:
    """Each sample, by its name and labels as they are written."""
    rows = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in rows}


@pytest.fixture
def meter() -> PrometheusMeter:
    return PrometheusMeter()


@pytest.fixture
def address(meter: PrometheusMeter) -> Iterator[str]:
    endpoint = Endpoint([("127.0.0.1", 0)], meter.registry)
    host, port = endpoint.addresses[0]
    yield f"{host}:{port}"
    endpoint.stop()


@pytest.fixture
def port() -> Iterator[int]:
    """A port that is the test's own."""
    with reserved_port() as number:
        yield number


@pytest.fixture
def served(
    placement: PlacementServer, testbed: Testbed, program: Program, agents: list[AgentProcess], port: int
) -> Any:
    """Starts an agent with an endpoint, and gives it with the endpoint's address."""
    program.use(placement)
    program.groups["agent"] |= {"debounce": "0.05", "resync_interval": "1"}
    program.rules = [KEY_RULE]
    listen = f"127.0.0.1:{port}"
    program.groups["metrics"] = {"listen": listen}

    def started() -> tuple[AgentProcess, str]:
        agent = AgentProcess(program)
        agents.append(agent)
        agent.wait_ready()
        return agent, listen

    return started


# The names and the labels


def test_every_name_follows_prometheus_and_says_its_unit(address: str) -> None:
    families = re.findall(r"^# TYPE (\S+) (\S+)$", read(address), re.MULTILINE)
    ours = [(name, kind) for name, kind in families if name.startswith("usb_provider_")]
    assert len(ours) > 10
    assert {name for name, _ in families if not name.startswith(("usb_provider_", "process_"))} == set()
    for name, kind in ours:
        assert kind != "counter" or name.endswith("_total"), name
        assert kind != "histogram" or name.endswith("_seconds"), name
    help_texts = dict(re.findall(r"^# HELP (\S+) (.+)$", read(address), re.MULTILINE))
    assert all(help_texts[name].endswith(".") for name, _ in ours)


def test_what_is_known_beforehand_is_there_at_zero(address: str) -> None:
    found = values(read(address))
    for obstacle in Obstacle:
        assert found[f'usb_provider_start_refusals_total{{reason="{obstacle}"}}'] == 0
    for why in Why:
        assert found[f'usb_provider_detaches_total{{reason="{why.name.lower()}"}}'] == 0
    for state in BindingState:
        assert found[f'usb_provider_guest_devices{{state="{state}"}}'] == 0
    assert found['usb_provider_last_good_pass_timestamp_seconds{loop="report"}'] == 0
    # An agent that only reports has no binding loop that could look stuck.
    assert 'usb_provider_last_good_pass_timestamp_seconds{loop="bind"}' not in found


def test_what_is_told_is_counted(meter: PrometheusMeter, address: str) -> None:
    meter.passed(LoopName.BIND, Outcome.OK, 0.2)
    meter.passed(LoopName.BIND, Outcome.UNAVAILABLE, 3.0)
    meter.requested("GET", "200")
    meter.attached(1.5)
    meter.attached(None)
    meter.attach_failed(Outcome.REFUSED)
    meter.detached(Why.GONE)
    meter.detach_failed(Outcome.GONE)
    meter.refused(Obstacle.NO_PORT)
    meter.bound({"waiting": 2})
    meter.counted({("CUSTOM_USB_KEY", DeviceState.ABSENT_HELD): 1})
    found = values(read(address))
    told = {
        'usb_provider_passes_total{loop="bind",outcome="ok"}': 1,
        'usb_provider_passes_total{loop="bind",outcome="unavailable"}': 1,
        'usb_provider_pass_seconds_count{loop="bind"}': 2,
        'usb_provider_placement_requests_total{method="GET",status="200"}': 1,
        "usb_provider_attaches_total": 2,
        "usb_provider_started_to_attached_seconds_count": 1,
        'usb_provider_attach_failures_total{reason="refused"}': 1,
        'usb_provider_detaches_total{reason="gone"}': 1,
        'usb_provider_detach_failures_total{reason="gone"}': 1,
        'usb_provider_start_refusals_total{reason="no_port"}': 1,
        'usb_provider_guest_devices{state="waiting"}': 2,
        'usb_provider_devices{resource_class="CUSTOM_USB_KEY",state="absent_held"}': 1,
        'usb_provider_devices{resource_class="CUSTOM_USB_KEY",state="free"}': 0,
    }
    assert {name: found.get(name) for name in told} == told
    assert abs(found['usb_provider_last_good_pass_timestamp_seconds{loop="bind"}'] - time.time()) < 60
    meter.counted({})
    assert "CUSTOM_USB_KEY" not in read(address), "a class that is gone leaves nothing behind"


def test_two_meters_in_one_process_do_not_meet() -> None:
    first, second = PrometheusMeter(), PrometheusMeter()
    first.attached(None)
    assert second.registry.get_sample_value("usb_provider_attaches_total") == 0


# The endpoint


def test_it_listens_on_every_address_of_both_families() -> None:
    addresses = [("127.0.0.1", 0), ("127.0.0.2", 0), *([("::1", 0)] if HAS_IPV6 else [])]
    endpoint = Endpoint(addresses, PrometheusMeter().registry)
    try:
        for host, port in endpoint.addresses:
            shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            assert "usb_provider_build_info" in read(shown)
    finally:
        endpoint.stop()


@pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")
def test_every_address_of_one_family_leaves_the_port_to_the_other(port: int) -> None:
    endpoint = Endpoint([("0.0.0.0", port), ("::", port)], PrometheusMeter().registry)
    endpoint.stop()


def test_a_port_that_somebody_has_is_named_and_none_stays_open(port: int) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(
            ConfigError, match=rf"^The agent cannot listen on \[metrics\]listen 127\.0\.0\.1:{taken} \("
        ):
            Endpoint([("127.0.0.1", port), ("127.0.0.1", taken)], PrometheusMeter().registry)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port)).close()


def test_only_metrics_are_there(address: str) -> None:
    for path in ("/", "/metrics/../etc", "/favicon.ico"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            read(address, path)
        assert refused.value.code == 404
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(urllib.request.Request(f"http://{address}/metrics", data=b"x"), timeout=10)


def test_it_speaks_openmetrics_and_gzip_to_whoever_asks(address: str) -> None:
    text = read(address, Accept="application/openmetrics-text; version=1.0.0", **{"Accept-Encoding": "gzip"})
    assert text.endswith("# EOF\n")


def test_peers_that_say_nothing_hold_up_nobody_for_long(
    meter: PrometheusMeter, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics._Server, "turn_seconds", 0.3)
    host, _, port = address.partition(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(40)]
    try:
        before = threading.active_count()
        assert before < 30, "each silent peer has a thread"
        meter.attached(None)
        eventually(lambda: _reads(address), within=20, what="the slots are free again")
    finally:
        for peer in silent:
            peer.close()


def test_a_peer_that_sends_a_byte_now_and_then_cannot_keep_prometheus_out(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics._Server, "turn_seconds", 0.5)
    host, _, port = address.partition(":")
    over = threading.Event()

    def dribble(peer: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while not over.wait(0.05):
                peer.sendall(b"G")

    with contextlib.ExitStack() as stack:
        stack.callback(over.set)
        for _ in range(metrics._Server.at_once):
            peer = stack.enter_context(socket.create_connection((host, int(port))))
            threading.Thread(target=dribble, args=(peer,), daemon=True).start()
        assert "usb_provider_attaches_total" in read(address), "its turn comes"


def _reads(address: str) -> bool:
    try:
        return "usb_provider_attaches_total 1.0" in read(address)
    except OSError:
        return False


# The agent


@needs_umockdev
def test_the_agent_tells_devices_passes_and_requests(placement: PlacementServer, testbed: Testbed, served: Any) -> None:
    root = placement.create_root("host1")
    testbed.add(KEY)
    agent, address = served()
    free = 'usb_provider_devices{resource_class="CUSTOM_USB_KEY",state="free"}'
    agent.eventually(lambda: values(read(address)).get(free) == 1, "it is counted as free")
    found = values(read(address))
    assert found['usb_provider_passes_total{loop="report",outcome="ok"}'] >= 1
    assert found['usb_provider_placement_requests_total{method="PUT",status="200"}'] >= 2
    assert time.time() - found['usb_provider_last_good_pass_timestamp_seconds{loop="report"}'] < 60

    placement.allocate(CONSUMER, {placement.providers(root)[KEY_NAME]["uuid"]: {"CUSTOM_USB_KEY": 1}})
    testbed.unplug("1-2")
    absent = 'usb_provider_devices{resource_class="CUSTOM_USB_KEY",state="absent_held"}'
    agent.eventually(lambda: values(read(address)).get(absent) == 1, "it is counted as absent and held")
    assert [word for word in ("Y1", "1050", CONSUMER, "host1", "0407") if word in read(address)] == []
    assert agent.stop() == 0
    with pytest.raises(OSError):
        read(address)


@needs_umockdev
def test_it_answers_while_placement_is_away_and_tells_that(
    placement: PlacementServer, testbed: Testbed, served: Any
) -> None:
    with placement.down():
        agent, address = served()
        failed = 'usb_provider_passes_total{loop="report",outcome="unavailable"}'
        agent.eventually(lambda: values(read(address))[failed] >= 1, "the failure is counted")
        found = values(read(address))
        assert found['usb_provider_last_good_pass_timestamp_seconds{loop="report"}'] == 0
        assert found['usb_provider_placement_requests_total{method="GET",status="none"}'] >= 1


@needs_umockdev
def test_a_hang_up_leaves_the_endpoint_and_its_figures_as_they_are(
    placement: PlacementServer, testbed: Testbed, program: Program, served: Any
) -> None:
    placement.create_root("host1")
    agent, address = served()
    ok = 'usb_provider_passes_total{loop="report",outcome="ok"}'
    agent.eventually(lambda: values(read(address))[ok] >= 1, "a pass")
    with reserved_port() as another:
        program.groups["metrics"]["listen"] = f"127.0.0.1:{another}"
        program.write()
        agent.signal(signal.SIGHUP)
        agent.eventually(lambda: agent.logged("The configuration was read again."), "it reads again")
    assert values(read(address))[ok] >= 1
    assert agent.logged("immutable option metrics.listen")
    program.groups["metrics"]["listen"] = "9753"
    program.write()
    agent.signal(signal.SIGHUP)
    agent.eventually(lambda: agent.logged("stays as it was: [metrics]listen has a value"), "it says what is wrong")


@needs_umockdev
def test_a_port_that_somebody_has_ends_the_agent_with_one_sentence(
    placement: PlacementServer, testbed: Testbed, program: Program
) -> None:
    program.use(placement)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        program.groups["metrics"] = {"listen": f"127.0.0.1:{other.getsockname()[1]}"}
        done = program.run("agent")
    assert done.code == 2
    assert len(done.complaints) == 1
    assert "cannot listen on [metrics]listen 127.0.0.1:" in done.complaints[0]
    assert "(Address already in use)" in done.complaints[0]


@needs_umockdev
def test_a_missing_library_ends_the_agent_with_one_sentence(
    placement: PlacementServer, testbed: Testbed, program: Program, tmp_path: Path
) -> None:
    program.use(placement)
    program.groups["metrics"] = {"listen": "127.0.0.1:1"}
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "prometheus_client.py").write_text("raise ModuleNotFoundError('No module named it')\n")
    done = program.run("agent", PYTHONPATH=str(tmp_path / "without"))
    assert done.code == 2
    assert len(done.complaints) == 1
    assert "usb-provider[metrics]" in done.complaints[0]


@needs_umockdev
def test_without_the_option_the_library_is_not_even_loaded(
    placement: PlacementServer, testbed: Testbed, program: Program, agents: list[AgentProcess]
) -> None:
    program.use(placement)
    agent = AgentProcess(program, flags=["-X", "importtime"])
    agents.append(agent)
    agent.wait_ready()
    assert "usb_provider.agent.process" in agent.output
    assert "prometheus_client" not in agent.output


# The files for Prometheus and Grafana


def exposed() -> set[str]:
    """Every name that a scrape can give."""
    meter = PrometheusMeter()
    meter.requested("GET", "200")
    return {sample.name for family in meter.registry.collect() for sample in family.samples} | {
        family.name for family in meter.registry.collect()
    }


def expressions() -> Iterator[str]:
    """Every expression of the rules and of the dashboard."""
    yield from re.findall(
        r"^ +expr: (.+)$", (ROOT / "conf/prometheus/usb-provider.rules.yml").read_text(), re.MULTILINE
    )
    dashboard = json.loads((ROOT / "conf/grafana/usb-provider.json").read_text())
    yield from (target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    yield from (variable["definition"] for variable in dashboard["templating"]["list"] if "definition" in variable)


def test_every_metric_of_dashboard_and_rules_is_one_that_the_agent_has() -> None:
    named = {name for each in expressions() for name in re.findall(r"\b(?:usb_provider|process)_[a-z_]+", each)}
    assert len(named) > 10
    assert named - exposed() == set()


def test_every_label_of_dashboard_and_rules_is_one_that_the_metric_has(meter: PrometheusMeter) -> None:
    meter.requested("GET", "200")
    labels = {sample.name: set(sample.labels) for family in meter.registry.collect() for sample in family.samples}
    for each in expressions():
        for name, inside in re.findall(r"\b(usb_provider_[a-z_]+)\{([^}]*)\}", each):
            assert set(re.findall(r"(\w+)=~?\"", inside)) - {"instance"} <= labels[name], each


def test_the_page_on_metrics_names_each_of_ours_and_no_other(meter: PrometheusMeter) -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    written = set(re.findall(r"^\| `(usb_provider_[a-z_]+)`", page, re.MULTILINE))
    kinds = {family.name: family.type for family in meter.registry.collect()}
    ours = {
        f"{name}_total" if kind == "counter" else name
        for name, kind in kinds.items()
        if name.startswith("usb_provider_")
    }
    assert written == ours
    for words in (DeviceState, Obstacle, Outcome, BindingState):
        assert [word.value for word in words if f"`{word.value}`" not in page] == []
    assert [why.name.lower() for why in Why if f"`{why.name.lower()}`" not in page] == []


def promtool(*words: str, **how: Any) -> subprocess.CompletedProcess[str]:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian's package prometheus)")
    return subprocess.run(["promtool", *words], capture_output=True, text=True, check=False, **how)


@pytest.mark.parametrize(
    "words", [("check", "rules", "usb-provider.rules.yml"), ("test", "rules", "usb-provider.rules.test.yml")]
)
def test_promtool_is_content_with_the_rules(words: tuple[str, ...]) -> None:
    done = promtool(*words, cwd=ROOT / "conf/prometheus")
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_is_content_with_what_the_agent_says(meter: PrometheusMeter, address: str) -> None:
    meter.requested("GET", "200")
    meter.counted({("CUSTOM_USB_KEY", DeviceState.FREE): 1})
    done = promtool("check", "metrics", input=read(address))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_library_is_an_extra() -> None:
    assert importlib.util.find_spec("prometheus_client") is not None
    code = (
        "import sys, usb_provider.cmd.agent, usb_provider.agent.process, usb_provider.agent.binder; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "prometheus_client" not in done.stdout
