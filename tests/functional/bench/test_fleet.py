"""The bench of a whole cloud: what it fills in is what the agent would have written, and a small run measures all."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.bench import fleet, fleet_load, fleet_rows
from tests.bench.fleet_cloud import TOKEN, BenchPlacement, running_placement
from tests.bench.fleet_rows import KEY, MODEM, Shape, host_name, host_uuid
from usb_provider.model.reporting.provider import provider_name, provider_uuid
from usb_provider.openstack.session import with_token
from usb_provider.placement.client import PlacementClient

SMALL = (20, 4)


@pytest.fixture(scope="module")
def running() -> Iterator[BenchPlacement]:
    """A Placement on MariaDB, of two processes."""
    with running_placement(buffer_pool="32M") as placement:
        yield placement


def fill(placement: BenchPlacement, *, pooled: bool) -> Shape:
    """A small cloud in *placement*."""
    shape, type_id = Shape(*SMALL, pooled=pooled), placement.type_id()
    placement.fill(
        lambda classes, traits: fleet_rows.rows(shape, classes, traits, type_id), new_names=fleet_rows.NEW_NAMES
    )
    return shape


@pytest.mark.parametrize("pooled", [False, True], ids=["single", "pooled"])
def test_an_agent_has_nothing_to_change_in_a_cloud_that_the_bench_has_filled(
    running: BenchPlacement, tmp_path: Path, pooled: bool
) -> None:
    shape = fill(running, pooled=pooled)
    client = PlacementClient(with_token(running.endpoint, TOKEN, PlacementClient.service))
    held = {host for _, host in fleet_rows.servers(shape)}
    assert held, "some devices are held"
    with ThreadPoolExecutor(8) as executor:
        for host in {fleet.MEASURED_HOST, *held} - set(shape.rare_hosts):
            one = fleet.reporter(client, shape, host, tmp_path, executor)
            assert one.preview().plan.actions == ()
            done = one.run()
            assert (done.actions, len(done.tree.providers)) == ((), 1 if pooled else shape.devices)
            assert done.root.name == host_name(host)


def test_a_pool_is_one_provider_with_as_many_units_as_the_host_has_devices(running: BenchPlacement) -> None:
    shape = fill(running, pooled=True)
    root, key = host_uuid(1), "pool_hasp"
    found = running.get(f"/resource_providers?in_tree={root}")["resource_providers"]
    below = {each["name"]: each for each in found if each["uuid"] != root}
    (name,) = below
    assert name == provider_name(host_name(1), key) == f"{host_name(1)}_usb_pool_hasp"
    uuid = below[name]["uuid"]
    assert uuid == provider_uuid(root, key)
    assert (below[name]["parent_provider_uuid"], below[name]["root_provider_uuid"]) == (root, root)
    inventories = running.get(f"/resource_providers/{uuid}/inventories")["inventories"]
    assert inventories == {
        KEY: {
            "total": shape.devices,
            "reserved": 0,
            "min_unit": 1,
            "max_unit": shape.devices,
            "step_size": 1,
            "allocation_ratio": 1.0,
        }
    }
    assert set(running.get(f"/resource_providers/{uuid}/traits")["traits"]) == fleet_rows.KEY_TRAITS
    two = running.get(f"/allocation_candidates?resources={KEY}:2&in_tree={root}&limit=10")
    assert [list(each["allocations"]) for each in two["allocation_requests"]] == [[uuid]]


def test_the_rare_devices_are_found_by_what_makes_them_rare(running: BenchPlacement) -> None:
    shape = fill(running, pooled=False)
    for trait in ("CUSTOM_USB_STATE_DRAINED", "CUSTOM_USB_STATE_ABSENT", "CUSTOM_USB_VENDOR_2C7C"):
        found = running.get(f"/resource_providers?required={trait}")["resource_providers"]
        assert len(found) == len(shape.rare_hosts)
    modems = running.get(f"/resource_providers?resources={MODEM}:1")["resource_providers"]
    assert len(modems) == len(shape.rare_hosts)
    (holder,) = {uuid for uuid, host in fleet_rows.servers(shape) if host == fleet_rows.servers(shape)[0][1]}
    allocated = running.get(f"/allocations/{holder}")
    assert (allocated["consumer_type"], len(allocated["allocations"])) == ("INSTANCE", 2)


@pytest.mark.timeout(1200)
def test_a_small_run_measures_everything_and_its_times_are_what_the_simulation_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    times = tmp_path / "times.json"
    report = fleet.run(*SMALL, repeats=1, times=times)
    assert {frozenset(kinds) for kinds in report.figures.values()} == {frozenset({"single", "pooled"})}
    start = report.figures.pop(f"device list {fleet.START}")
    assert all(each.requests == 0 and each.memory_mib for each in start.values())
    assert all(each.requests > 0 and each.cpu > 0 for kinds in report.figures.values() for each in kinds.values())
    listing = report.figures["device list"]
    assert [listing[kind].requests for kind in ("single", "pooled")] == [3, 3]
    assert report.figures["agent: start"]["single"].requests <= 3 + 3
    assert {kind: each.requests for kind, each in report.figures["agent: quiet pass"].items()} == {
        "single": 1,
        "pooled": 1,
    }
    assert report.figures["device list --state drained"]["single"].requests == 1 + 2 * 5
    report.print()
    assert "nova: two devices" in capsys.readouterr().out
    assert set(json.loads(times.read_text())) == {"single", "pooled"}
    words = ["--hosts", "20", "--devices", "4", "--processes", "2", "--seconds", "60", "--times", str(times)]
    assert fleet_load.main(words) == 0
    assert "quiet passes" in capsys.readouterr().out


def a_power_cut(*, jitter: bool, spread: float) -> fleet_load.Seen:
    """500 hosts that boot in the same second."""
    cloud = fleet_load.Cloud(
        500,
        2,
        fleet_load.MEASURED["pooled"],
        processes=4,
        with_nova=False,
        plugs=0,
        restarts=0,
        power_cut=True,
        spread=spread,
        jitter=jitter,
    )
    return fleet_load.Simulation(cloud).run(300)


def test_agents_that_start_together_do_not_look_together_afterwards() -> None:
    def most(jitter: bool) -> int:
        return max(a_power_cut(jitter=jitter, spread=0.0).of(fleet_load.QUIET, 120, 300).values())

    assert most(jitter=False) > 100
    assert most(jitter=True) < 30, "500 in 60 s are 8 in a second"


def test_after_a_power_cut_a_request_waits_for_one_request_of_each_other_agent_at_most() -> None:
    waits = a_power_cut(jitter=True, spread=0.0).waits[fleet_load.START]
    assert len(waits) == 5 * 500
    assert max(waits) < 5


def test_agents_that_boot_together_spread_their_starts_and_no_request_waits() -> None:
    seen = a_power_cut(jitter=True, spread=fleet_load.START_SPREAD)
    starts = seen.arrivals[fleet_load.START]
    assert sum(starts.values()) == 5 * 500
    assert max(starts.values()) < 150, "2500 in 30 s are 83 in a second"
    assert max(starts) <= fleet_load.START_SPREAD + 2
    assert max(seen.waits[fleet_load.START]) < 0.5


def test_nova_compute_asks_for_each_provider_once_a_minute_and_three_times_more_in_five() -> None:
    cloud = fleet_load.Cloud(50, 17, fleet_load.MEASURED["single"], processes=8, plugs=0, restarts=0)
    asked = len(fleet_load.Simulation(cloud).run(600).waits[fleet_load.NOVA])
    expected = 50 * (10 * 17 + 2 * (1 + 3 * 17))
    assert abs(asked - expected) < 0.1 * expected


@pytest.mark.parametrize(
    ("own", "listing", "few", "exceeded"),
    [
        (1.7, 3.4, 3.9, []),
        (
            1.7,
            3.7,
            4.1,
            [
                "device list, single: ratio: 1.59 is past 1.5",
                "device list --state drained, single: CPU s: 3.10 is past 3",
            ],
        ),
        (17.0, 25.0, 2.9, []),
        (
            17.0,
            26.0,
            3.1,
            [
                "device list, single: ratio: 1.53 is past 1.5",
                "device list --state drained, single: CPU s: 3.10 is past 3",
            ],
        ),
    ],
)
def test_the_start_of_the_client_counts_only_where_placement_takes_much_longer(
    own: float, listing: float, few: float, exceeded: list[str]
) -> None:
    report = fleet.Report()
    report.put(f"device list {fleet.START}", "single", fleet.Figures(1.0, 1.0, 0, 0, 100.0))
    report.put("device list", "single", fleet.Figures(listing, listing, 3, 0, 200.0, own, own))
    report.put("device list --state drained", "single", fleet.Figures(few, few, 11, 0, 100.0))
    fleet.judge(report)
    assert report.exceeded == exceeded


def test_more_memory_and_dearer_queries_of_pools_than_wanted_are_told() -> None:
    report = fleet.Report()
    report.put(f"device list {fleet.START}", "pooled", fleet.Figures(1.0, 1.0, 0, 0, 100.0))
    report.put("device list", "pooled", fleet.Figures(2.0, 2.0, 3, 0, 451.0, 1.0, 1.0))
    for name, seconds in ((fleet.NO_USB, 1.0), (fleet.ONE, 1.05), (fleet.TWO, 1.2)):
        report.put(f"nova: {name}", "pooled", fleet.Figures(seconds, seconds, 1, 0))
    fleet.judge(report)
    assert report.exceeded == [
        "device list, pooled: MiB: 451.00 is past 450",
        "nova, pooled: two devices / no USB: 1.20 is past 1.1",
    ]
