"""Two agents with one compute node, by a shared configuration or a cloned compute_id: neither destroys anything."""

import types

import pytest

from tests.fixtures.placement import assert_usb_view, usb_view
from tests.fixtures.reporting import KEY_NAME, KEY_UUID, ROOT_UUID, WITHDRAWN, Host, consumer, row, yubikey
from usb_provider.agent import root_watch
from usb_provider.agent.host_names import HostNames
from usb_provider.agent.root_watch import ThisHost
from usb_provider.exception import WrongRoot
from usb_provider.placement.root import RootHints

NEW_UUID = "0b6a41de-6a0f-4a55-b0fd-6f2b4f2f7c5e"


@pytest.fixture
def other(placement, root, workers, tmp_path):
    """A second host, of whose key the first knows nothing, with the first one's compute node."""
    return Host(placement, tmp_path / "other", workers)


@pytest.fixture(autouse=True)
def _directories(tmp_path):
    (tmp_path / "other").mkdir()


def called(name, **more):
    """A host that libvirt calls *name*."""
    return ThisHost(lambda: HostNames((name,), name), **more)


# The name tells


@pytest.mark.parametrize(("word", "value"), [("uuid", ROOT_UUID), ("name", "host1")])
def test_an_agent_with_another_hosts_compute_node_names_the_option_and_writes_nothing(
    placement, host, other, word, value
):
    host.plug(yubikey())
    host.run()
    other.hints, other.this_host = RootHints(**{word: value}), called("host2.example.org")
    source = rf"\[agent\]root_provider_{word}"
    other.plug(yubikey("Y2"))
    for _ in range(2):
        with pytest.raises(WrongRoot, match=f"from {source}.*libvirt calls this host host2.example.org.*{source}"):
            other.run()
        assert other.writes() == []
    assert other.reporter().view() is None
    assert_usb_view(placement, ROOT_UUID, {KEY_NAME: row()})


def test_a_cloned_compute_id_is_named_and_the_agent_goes_on_when_it_is_corrected(
    placement, other, root, operator, tmp_path
):
    file = tmp_path / "compute_id"
    file.write_text(ROOT_UUID)
    other.hints, other.this_host = RootHints(compute_id_file=file), called("host2")
    other.plug(yubikey())
    with pytest.raises(WrongRoot, match=str(file)):
        other.run()
    operator.create("host2", None, NEW_UUID)
    file.write_text(NEW_UUID)
    other.run()
    assert f"host2_usb_{yubikey().usb_id}:Y1" in usb_view(placement, NEW_UUID)
    assert other.reporter().view() is not None


@pytest.mark.parametrize("name", ["HOST1", "host1.example.org", "localhost"])
def test_the_domain_and_the_case_of_a_name_and_a_host_without_one_raise_no_alarm(host, name):
    host.this_host = called(name)
    host.plug(yubikey())
    assert host.run().actions


def test_an_operator_may_say_that_the_compute_node_has_another_name(host):
    host.this_host = called("elsewhere", may_differ=True)
    host.plug(yubikey())
    assert host.run().actions


def test_a_host_that_is_renamed_while_the_agent_runs_stays_the_same_host(host):
    names = ["host1"]
    host.this_host = ThisHost(lambda: HostNames((), names[-1]))
    host.run()
    names.append("dhcp-17")
    host.plug(yubikey())
    assert host.run().actions


def test_a_view_that_was_read_before_libvirt_gave_its_name_is_taken_back_when_it_does(host):
    names = [None]
    host.this_host = ThisHost(lambda: HostNames((), names[-1]))
    host.run()
    assert host.reporter().view() is not None
    names.append("host2")
    assert host.reporter().view() is None


def test_a_host_that_gets_its_name_some_time_after_it_booted_is_not_taken_for_another_for_long(host):
    names = [HostNames(("debian",), "debian")]
    host.this_host = ThisHost(lambda: names[-1], lambda: names.append(names.pop(0)))
    host.plug(yubikey())
    with pytest.raises(WrongRoot, match="libvirt calls this host debian"):
        host.run()
    names.insert(0, HostNames(("host1",), "host1"))
    assert host.run().actions
    assert host.reporter().view() is not None


def test_while_it_objects_the_view_asks_for_no_file(host, tmp_path):
    file = tmp_path / "compute_id"
    file.write_text(ROOT_UUID)
    host.hints, host.this_host = RootHints(compute_id_file=file), called("host2")
    with pytest.raises(WrongRoot, match=str(file)):
        host.run()
    file.write_text("damaged")
    assert host.reporter().view() is None


# The writes tell


def test_two_agents_that_undo_each_others_writes_notice_it_and_one_goes_on_after_the_other_is_corrected(
    placement, host, other, root, monkeypatch
):
    now = 1000.0
    monkeypatch.setattr(root_watch, "time", types.SimpleNamespace(monotonic=lambda: now))
    host.plug(yubikey())
    other.plug(yubikey("Y2"))
    for _ in range(4):
        host.run()
        try:
            other.run()
        except WrongRoot:
            break
    with pytest.raises(WrongRoot, match=r"Another agent undoes.*3 times in an hour.*this host's name"):
        host.run()
    assert host.writes() == []
    assert host.reporter().view() is None
    other.unplug()
    now += 3600.0
    host.run()
    assert usb_view(placement, root)[KEY_NAME] == row()


def test_an_operator_who_tries_rules_with_sync_reloads_the_agent_and_it_goes_on(placement, host, root, workers):
    host.plug(yubikey())
    host.run()
    command = Host(placement, host.directory, workers)
    command.rules({"vendor_id": "1234", "resource_class": "CUSTOM_USB_KEY"})
    command.plug(yubikey())
    for _ in range(3):
        command.restart()
        command.run()
        host.run()
    with pytest.raises(WrongRoot, match="Two hosts or two configurations"):
        host.run()
    host.rules({"vendor_id": "1234", "resource_class": "CUSTOM_USB_KEY"})
    host.run()
    assert WITHDRAWN in usb_view(placement, root)[KEY_NAME]["traits"]
    assert host.reporter().view() is not None


# It changes while guests have devices


def test_a_compute_node_that_changes_while_a_guest_here_holds_a_device_of_the_old_one_is_not_followed(
    placement, host, root, operator, tmp_path
):
    file, guest = tmp_path / "compute_id", consumer()
    file.write_text(ROOT_UUID)
    host.hints, host.this_host = RootHints(compute_id_file=file), ThisHost(guests=lambda: {guest})
    host.plug(yubikey())
    host.run()
    placement.allocate(guest, {KEY_UUID: {"CUSTOM_USB_KEY": 1}})
    host.run()
    operator.create("host1b", None, NEW_UUID)
    file.write_text(NEW_UUID)
    with pytest.raises(WrongRoot, match=f"guest {guest} on this host holds a device of host1"):
        host.run()
    assert host.writes() == []
    assert KEY_UUID in host.reporter().view().tree.providers
    placement.release(guest)
    host.run()
    assert list(usb_view(placement, NEW_UUID))
