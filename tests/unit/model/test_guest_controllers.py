"""Which USB controller a guest gets, by Nova's release and architecture, and what operators are told to set."""

import runpy
from pathlib import Path

import pytest

from usb_provider.model.devices.device import Speed
from usb_provider.model.guest_controllers import (
    TABLE,
    UHCI,
    XHCI,
    Inputs,
    Platform,
    best,
    in_words,
    is_old_by_api,
    most_devices,
    redirected_ports,
    release_of,
    remedy,
    remedy_for_ports,
    remedy_for_speed,
)

ROOT = Path(__file__).parents[3]
OLD, NEW = Platform(31, "x86_64"), Platform(34, "x86_64")
OLD_ARM, NEW_ARM = Platform(31, "aarch64"), Platform(34, "aarch64")


@pytest.mark.parametrize(
    ("version", "release"),
    [
        ("34.0.0", 34),
        ("31.0.1-1~cloud0", 31),
        ("27.5.1", 27),
        ("3:29.2.0-0ubuntu1.2", 29),
        ("", None),
        ("master", None),
        ("0.0.0", None),
    ],
)
def test_novas_release_is_read_from_the_version_of_its_package(version: str, release: int | None) -> None:
    assert release_of(version) == release


def test_below_nova_32_a_guest_of_x86_can_have_one_device_and_no_fast_one() -> None:
    assert (best(OLD).controller, best(OLD).free) == (UHCI, 1)
    assert UHCI.fastest is Speed.FULL
    assert best(OLD).inputs is Inputs.DRIVE


def test_a_guest_of_aarch64_takes_devices_of_every_speed_with_any_nova() -> None:
    assert {best(each).controller for each in (OLD_ARM, NEW_ARM)} == {XHCI}
    assert XHCI.fastest is Speed.SUPER_PLUS
    assert (best(OLD_ARM).free, best(NEW_ARM).free) == (2, 4)


def test_from_nova_32_a_guest_can_have_four_devices_of_every_speed() -> None:
    assert (best(NEW).controller, best(NEW).free) == (XHCI, 4)


def test_every_case_of_console_and_image_is_in_the_table_once() -> None:
    cases = [(each.old, each.aarch64, each.inputs, each.hw_usb_model) for each in TABLE]
    assert len(set(cases)) == len(cases)
    assert {case[:3] for case in cases} == {
        (old, arm, inputs)
        for old in (True, False)
        for arm in (True, False)
        for inputs in Inputs
        if not (arm and inputs is Inputs.DRIVE)
    }


def test_on_x86_a_console_without_hw_input_bus_leaves_no_port_after_a_hard_reboot() -> None:
    fleeting = [each for each in TABLE if not each.lasts]
    assert {(each.aarch64, each.inputs) for each in fleeting} == {(False, Inputs.CONSOLE)}
    assert all(each.lasts for each in map(best, (OLD, NEW, OLD_ARM, NEW_ARM)))


def test_where_the_release_is_not_known_the_remedy_says_which_nova_it_needs() -> None:
    assert "hw:usb_model=qemu-xhci in the flavor (nova 32 or newer)" in remedy(Platform())
    assert "nova 32" not in remedy(NEW)


@pytest.mark.parametrize("platform", [OLD, OLD_ARM])
def test_an_older_nova_is_never_told_to_set_what_it_does_not_know(platform: Platform) -> None:
    for said in (remedy(platform), remedy_for_speed(platform), remedy_for_ports(platform)):
        assert "hw:usb_model" not in said
        assert "hw:redirected_usb_ports" not in said
        assert "Nova 31" in said


def test_a_fast_device_needs_a_newer_nova_on_x86() -> None:
    assert remedy_for_speed(OLD) == (
        "Nova 31 gives a guest no faster one, so use Nova 32 (2025.2) or newer, a low- or full-speed device or, for a "
        "USB 3 device, a USB 2 port of the host"
    )
    assert "hw:usb_model=qemu-xhci" in remedy_for_speed(NEW)


def test_the_page_on_flavors_has_the_table_as_it_is_today() -> None:
    page = (ROOT / "docs" / "flavors.md").read_text()
    generate = runpy.run_path(str(ROOT / "tools" / "generate.py"))
    assert generate["with_tables"](page, generate["TABLES"]["flavors.md"]) == page, "run make generate"


def test_the_table_in_words_has_a_line_for_each_case() -> None:
    lines = list(in_words())
    assert len(lines) == len(TABLE) + 1
    (gets,) = [line[4] for line in lines if line[:3] == ("below 32", "x86_64", "a console")]
    assert gets.startswith("piix3-uhci, 1 free port, full speed at most; from the first hard reboot on none")


@pytest.mark.parametrize(
    ("newest", "old"), [((2, 95), True), ((2, 96), True), ((2, 100), None), ((2, 103), False), ((2, 104), False)]
)
def test_novas_api_tells_its_release_but_for_31_and_32(newest: tuple[int, ...], old: bool | None) -> None:
    assert is_old_by_api(newest) is old


def test_redirected_ports_take_ports_of_the_controller_and_an_older_nova_has_none() -> None:
    assert [most_devices(is_old=False, redirected=number) for number in (0, 1, 4, 15)] == [4, 3, 0, 0]
    assert most_devices(is_old=True, redirected=2) == 2
    assert most_devices(is_old=True, aarch64=False) == 1
    assert [redirected_ports(each) for each in (None, "3", "-1", "three")] == [0, 3, 0, 0]
