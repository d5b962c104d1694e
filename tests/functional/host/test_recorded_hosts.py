"""Devices that their hosts need are not offered: recordings made after bug reports, with the real libudev."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.fixtures.testbed import needs_umockdev, testbed
from usb_provider.cmd.devices import suggestions
from usb_provider.demo.testbed import Testbed
from usb_provider.host import storage
from usb_provider.host.udev import UdevHost
from usb_provider.model.devices.held import NOT_HELD
from usb_provider.model.devices.spec import parse_specs
from usb_provider.model.reporting.provider import Assessment, assess

__all__ = ["testbed"]

pytestmark = needs_umockdev

RECORDINGS = Path(__file__).parents[2] / "fixtures" / "recordings"
ROUTES = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
IN_USE = "Never offered while the host uses it: "


def plug(testbed: Testbed, name: str, changes: Mapping[str, str] | None = None) -> None:
    """Plug in each device of a recording, after *changes* of its text."""
    text = (RECORDINGS / f"{name}.umockdev").read_text()
    for old, new in (changes or {}).items():
        assert old in text
        text = text.replace(old, new)
    paragraphs = [part for part in text.split("\n\n") if part.strip()]
    starts = [index for index, part in enumerate(paragraphs) if "E: DEVTYPE=usb_device" in part]
    for start, end in zip(starts, [*starts[1:], len(paragraphs)], strict=True):
        testbed.add("\n\n".join(paragraphs[start:end]) + "\n\n")


def verdicts(*rules: dict[str, object], held: bool = False) -> dict[str, Assessment]:
    """Give the verdict on each device that is no hub, by its ids."""
    specs = parse_specs([json.dumps(rule) for rule in rules])
    holding = dataclasses.replace(NOT_HELD, consumers=("server-1",) if held else ())
    found = assess(UdevHost().devices(), specs, held=lambda key: holding)
    return {each.device.usb_id: each for each in found if not each.device.is_hub}


def reason(*rules: dict[str, object], held: bool = False) -> str:
    """Give the sentence on the only device."""
    (each,) = verdicts(*rules, held=held).values()
    return each.reason


def test_an_adapter_of_a_storage_network_is_in_use(testbed: Testbed) -> None:
    plug(testbed, "usb-nic-ceph-network")
    rule: dict[str, object] = {"vendor_id": "0bda"}
    assert reason(rule) == "Offered by device_spec rule 1."
    testbed.write_proc(
        "net/route",
        f"{ROUTES}eno1\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "enx020000000001\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n",
    )
    assert reason(rule) == f"{IN_USE}network interface enx020000000001 has a route."


def test_what_the_management_controller_makes_is_never_offered_and_never_suggested(testbed: Testbed) -> None:
    plug(testbed, "bmc-virtual-devices")
    found = verdicts({"vendor_id": "046b"})
    assert {each.reason for each in found.values()} == {
        "Never offered: it belongs to the host's management controller."
    }
    assert suggestions(tuple(verdicts().values())) == []


def test_an_upgrade_takes_no_device_of_the_management_controller_from_a_running_server(testbed: Testbed) -> None:
    plug(testbed, "bmc-virtual-devices")
    found = verdicts({"vendor_id": "046b"}, held=True)
    assert {each.reason for each in found.values()} == {"Offered by device_spec rule 1."}


def test_an_osd_of_ceph_is_in_service(testbed: Testbed) -> None:
    plug(testbed, "ceph-osd-raw")
    assert reason({"vendor_id": "152d"}) == f"{IN_USE}sdx is marked as ceph_bluestore."
    assert reason({"vendor_id": "152d"}, held=True) == "Offered by device_spec rule 1."


def test_a_backup_disk_that_is_mounted_at_night_is_in_service(
    testbed: Testbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fstab = tmp_path / "fstab"
    fstab.write_text("/dev/sdx1 /mnt/backup ext4 noauto 0 0\n")
    plug(testbed, "backup-disk-noauto")
    assert reason({"vendor_id": "152d"}) == "Offered by device_spec rule 1."
    monkeypatch.setattr(storage, "FSTAB", str(fstab))
    assert reason({"vendor_id": "152d"}) == f"{IN_USE}sdx1 is a disk that {fstab} names."


def test_a_disk_that_is_still_starting_to_turn_is_not_offered_yet(testbed: Testbed) -> None:
    plug(testbed, "spinning-up-scsi-device-6s")
    assert reason({"vendor_id": "152d"}) == "Not offered yet: udev is still processing it."


def test_a_reader_that_a_daemon_of_the_host_has_is_in_use(testbed: Testbed) -> None:
    plug(testbed, "reader-held-by-pcscd")
    assert reason({"class": "smart-card"}) == (
        f"{IN_USE}a program that is no guest of ours has it (/dev/bus/usb/001/016 is open; fuser shows which)."
    )
    assert reason({"class": "smart-card"}, held=True) == "Offered by device_spec rule 1."


def test_a_device_that_the_host_exports_to_another_machine_is_in_use(testbed: Testbed) -> None:
    plug(testbed, "reader-held-by-pcscd", {"E: DRIVER=usb\n": "E: DRIVER=usbip-host\n", "E: DRIVER=usbfs\n": ""})
    assert reason({"class": "smart-card"}) == (
        f"{IN_USE}the host exports it to another machine (driver usbip-host; usbip unbind ends that)."
    )


def test_the_serial_console_of_the_host_is_in_use(testbed: Testbed) -> None:
    plug(testbed, "serial-console-ttyUSB0")
    testbed.write_proc("consoles", "ttyUSB0              -W- (EC p  )  188:0\ntty0    -WU (EC p  )    4:1\n")
    assert reason({"vendor_id": "0403"}) == f"{IN_USE}ttyUSB0 is a console of this host."
    testbed.write_proc("consoles", "tty0                 -WU (EC p  )    4:1\n")
    assert reason({"vendor_id": "0403"}) == "Offered by device_spec rule 1."


def test_a_serial_port_on_which_someone_is_logged_in_is_in_use(testbed: Testbed) -> None:
    plug(testbed, "serial-console-ttyUSB0")
    testbed.write_proc("consoles", "")
    testbed.write_proc("1/stat", "1 (login) (x) S 0 1 1 48128 1 4194560 0 0\n")
    assert reason({"vendor_id": "0403"}) == (
        f"{IN_USE}ttyUSB0 is a terminal on which a session or a login prompt runs."
    )


def test_a_serial_port_over_which_a_ppp_session_may_run_is_held_back(testbed: Testbed) -> None:
    plug(testbed, "serial-console-ttyUSB0")
    testbed.write_proc("consoles", "")
    testbed.write_proc("net/route", f"{ROUTES}ppp0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n")
    told = reason({"vendor_id": "0403"})
    assert told.startswith(f"{IN_USE}ppp0 may run over its serial port ttyUSB0. If that is wrong, a rule")
    rule: dict[str, object] = {"vendor_id": "0403", "product_id": "6001", "override": ["dial-up"]}
    assert reason(rule) == "Offered by device_spec rule 1."


@pytest.mark.parametrize("kind", ["512", "256"], ids=["PPP", "SLIP"])
def test_a_session_over_a_serial_port_counts_whatever_its_interface_is_called(testbed: Testbed, kind: str) -> None:
    plug(testbed, "serial-console-ttyUSB0")
    testbed.write_proc("consoles", "")
    testbed.add(f"P: /devices/virtual/net/wan0\nE: INTERFACE=wan0\nE: SUBSYSTEM=net\nA: type={kind}\\n\n\n")
    testbed.write_proc("net/route", f"{ROUTES}wan0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n")
    assert reason({"vendor_id": "0403"}).startswith(f"{IN_USE}wan0 may run over its serial port ttyUSB0.")


def test_a_keyboard_with_a_card_slot_is_a_keyboard_of_the_console(testbed: Testbed) -> None:
    plug(testbed, "keyboard-with-card-slot")
    assert "it is a keyboard of the console" in reason({"class": "smart-card"})


def test_a_scanner_that_types_is_held_back_until_a_rule_with_its_ids_says_that_it_is_none(testbed: Testbed) -> None:
    plug(testbed, "barcode-scanner")
    assert reason({"vendor_id": "05e0", "product_id": "1200"}) == (
        f"{IN_USE}it is a keyboard of the console. If that is wrong, a rule with vendor_id, product_id and "
        '"override": ["keyboard"] offers it.'
    )
    rule: dict[str, object] = {"vendor_id": "05e0", "product_id": "1200", "override": ["keyboard"]}
    assert reason(rule) == "Offered by device_spec rule 1."


def test_a_device_without_a_configuration_is_not_offered(testbed: Testbed) -> None:
    plug(testbed, "no-configuration")
    assert reason({"vendor_id": "1a6e"}) == (
        "Not offered: it has no configuration (sysfs bConfigurationValue is empty)."
    )
