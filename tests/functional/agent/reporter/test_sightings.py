"""What was seen where is known after a restart, and to a command that runs beside the agent."""

import json
import os

import pytest

from tests.fixtures.placement import CUT, assert_usb_view
from tests.fixtures.reporting import ABSENT, KEY_NAME, KEY_RULE, KEY_TRAITS, KEY_UUID, consumer, row, uuid_of, yubikey
from usb_provider.agent.store import SIGHTINGS, StateStore
from usb_provider.exception import Unavailable
from usb_provider.model.devices.device import Speed

FIRST, TWIN = yubikey("Y1", "1"), yubikey("Y1", "2")
TWIN_NAME = "host1_usb_1050:0407@0000:00:14.0-2"
HELD_GONE = row(has={"CUSTOM_USB_KEY": (1, 1)}, traits=KEY_TRAITS | {ABSENT}, used=1)


def keys(devices):
    return {each.device.sys_name: each.identity.key for each in devices}


@pytest.fixture
def sightings(host):
    """The file of the host's sightings."""
    return host.directory / "state" / SIGHTINGS


@pytest.fixture
def held_beside_a_twin(placement, host, root):
    """An instance has the first of two devices with one serial number; the rule leaves the other out.

    So the other has no provider, and nothing in Placement tells that it was there.
    """
    host.rules(KEY_RULE | {"identity": "serial"})
    host.plug(FIRST)
    host.run()
    placement.allocate(consumer(), {KEY_UUID: {"CUSTOM_USB_KEY": 1}})
    host.plug(TWIN)
    host.run()


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_a_twin_that_was_left_out_does_not_get_what_the_unplugged_one_holds(
    placement, host, root, held_beside_a_twin, restarted
):
    host.unplug(FIRST)
    if restarted:
        host.restart()
    host.run()
    assert_usb_view(placement, root, {KEY_NAME: HELD_GONE, TWIN_NAME: row()})


def test_a_held_device_that_comes_back_after_a_restart_beside_its_twin_keeps_its_claim(
    placement, host, root, held_beside_a_twin
):
    host.unplug(FIRST)
    host.restart()
    host.plug(yubikey("Y1", "3"))
    done = host.run()
    assert keys(done.devices) == {"1-2": "1050:0407@0000:00:14.0-2", "1-3": "1050:0407:Y1"}
    assert_usb_view(placement, root, {KEY_NAME: row(used=1)})


def test_a_fresh_plan_beside_a_running_agent_decides_as_the_agent_does(host, held_beside_a_twin):
    host.unplug(FIRST)
    agent = host.reporter()
    host.restart()
    seen = host.reporter().preview()
    done = agent.run()
    assert keys(seen.devices) == keys(done.devices) == {"1-2": "1050:0407@0000:00:14.0-2"}
    # The names of the cloud apart, which the running one has looked up before.
    assert [action for action in seen.plan.actions if hasattr(action, "provider_uuid")] == [
        action for action in done.actions if hasattr(action, "provider_uuid")
    ]


def test_a_fresh_sync_beside_a_running_agent_decides_as_the_agent_does(host, placement, root, held_beside_a_twin):
    agent = host.reporter()
    host.unplug(FIRST)
    host.restart()
    host.run()
    assert agent.run().actions == ()
    assert_usb_view(placement, root, {KEY_NAME: HELD_GONE, TWIN_NAME: row()})


def test_the_usb_3_half_of_a_socket_does_not_get_after_a_restart_what_the_usb_2_half_held(
    placement, host, root, operator
):
    usb3 = {"sys_name": "2-3", "sys_path": "/sys/devices/pci0000:00/0000:00:14.0/usb2/2-3", "busnum": 2}
    slow, fast = yubikey(None, "3"), yubikey(None, "3", speed=Speed.SUPER, **usb3)
    host.plug(slow, fast)
    host.run()
    placement.allocate(consumer(), {uuid_of("1050:0407@0000:00:14.0-3"): {"CUSTOM_USB_KEY": 1}})
    host.unplug(slow)
    operator.drop_inventory(uuid_of("1050:0407@0000:00:14.0-3+usb3"))
    operator.delete(uuid_of("1050:0407@0000:00:14.0-3+usb3"))
    host.restart()
    assert keys(host.run().devices) == {"2-3": "1050:0407@0000:00:14.0-3+usb3"}


def test_a_provider_that_was_renamed_is_known_again_after_a_restart_though_its_device_is_gone(
    placement, host, root, operator
):
    host.plug(FIRST)
    host.run()
    placement.api.must(
        "PUT", f"/resource_providers/{KEY_UUID}", {"name": "the licence dongle", "parent_provider_uuid": root}
    )
    host.unplug(FIRST)
    host.restart()
    assert [
        action.provider_uuid for action in host.reporter().preview().plan.actions if "inventory" in action.kind
    ] == [KEY_UUID]


# When they are written


def stored(sightings):
    return {
        key: seen["sys_path"].rpartition("/")[2] for key, seen in json.loads(sightings.read_text())["sightings"].items()
    }


def test_they_are_on_disk_before_placement_is_written(placement, host, root, sightings):
    """Else a crash between the two leaves what Placement shows to be judged by what was seen before."""
    found = []
    host.plug(FIRST)
    placement.before("^POST /resource_providers", lambda: found.append(stored(sightings)))
    host.run()
    assert found == [{"1050:0407:Y1": "1-1"}]


def test_they_are_on_disk_though_placement_fails(placement, host, root, sightings):
    host.plug(FIRST)
    placement.fail_next("^POST /resource_providers", CUT, times=None)
    with pytest.raises(Unavailable):
        host.run()
    assert stored(sightings) == {"1050:0407:Y1": "1-1"}


def test_a_move_that_placement_did_not_bear_out_is_known_to_the_next_process(placement, host, root):
    host.plug(FIRST)
    host.run()
    host.rules(KEY_RULE | {"identity": "port"})
    placement.fail_next(f"^PUT /resource_providers/{KEY_UUID}", CUT, times=None)
    with pytest.raises(Unavailable):
        host.run()
    running = host.reporter()._remembered.sightings
    assert [move.key for move in running.moves] == ["1050:0407@0000:00:14.0-1"]
    assert StateStore(host.directory / "state").sightings() == running
    placement.calm()
    host.run()
    assert host.reporter()._remembered.sightings.moves == ()
    assert StateStore(host.directory / "state").sightings() == host.reporter()._remembered.sightings


def test_a_quiet_pass_and_an_unplug_write_nothing(host, root, sightings):
    host.plug(FIRST, yubikey("Y2", "2"))
    host.run()
    written = os.stat(sightings)
    host.run()
    host.unplug(FIRST)
    host.run()
    assert os.stat(sightings).st_ino == written.st_ino
    host.plug(yubikey("Y1", "3"))
    host.run()
    assert stored(sightings) == {"1050:0407:Y1": "1-3", "1050:0407:Y2": "1-2"}


def test_what_another_process_wrote_over_it_is_put_right(host, root, sightings):
    host.plug(FIRST)
    host.run()
    right = sightings.read_text()
    sightings.unlink()
    host.run()
    assert sightings.read_text() == right


def test_a_plan_writes_nothing(host, root):
    host.plug(FIRST)
    host.reporter().preview()
    assert not (host.directory / "state").exists()


def test_devices_that_make_up_a_serial_number_at_each_plug_do_not_push_out_what_an_instance_holds(
    placement, host, root, sightings, monkeypatch
):
    monkeypatch.setattr("usb_provider.model.reporting.host_state.SIGHTINGS_LIMIT", 5)
    host.plug(FIRST)
    host.run()
    placement.allocate(consumer(), {KEY_UUID: {"CUSTOM_USB_KEY": 1}})
    host.run()
    host.unplug(FIRST)
    for number in range(8):
        host.plug(yubikey(f"M{number}", "2"))
        host.run()
    assert list(stored(sightings)) == ["1050:0407:Y1", *(f"1050:0407:M{number}" for number in range(4, 8))]
