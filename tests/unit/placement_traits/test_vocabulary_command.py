"""``python -m placement_traits``, as an operator sees it."""

import pytest

from placement_traits import CLASSES, MANAGED, RESOURCE_CLASSES, SPEEDS, STATES, class_traits
from placement_traits.__main__ import main


def test_without_arguments_it_prints_the_whole_vocabulary(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == 0
    printed = capsys.readouterr().out
    for name in (MANAGED, *RESOURCE_CLASSES, *STATES, *class_traits(CLASSES)):
        assert f"  {name} " in printed
    for speed in SPEEDS:
        assert f"CUSTOM_USB_SPEED_{speed.upper().replace('-', '_')} " in printed
    for pattern in ("CUSTOM_USB_VENDOR_<", "CUSTOM_USB_PRODUCT_<", "CUSTOM_USB_SERIAL_<"):
        assert pattern in printed
    assert max(map(len, printed.splitlines())) < 160


def test_it_describes_the_names_it_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["CUSTOM_USB_KEY", "CUSTOM_USB_VENDOR_1050"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        f"CUSTOM_USB_KEY  {RESOURCE_CLASSES['CUSTOM_USB_KEY']}",
        "CUSTOM_USB_VENDOR_1050  The device is of USB vendor 1050.",
    ]
    assert captured.err == ""


def test_a_foreign_name_is_an_error_and_the_others_are_still_described(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["CUSTOM_USB_MYTHING", "CUSTOM_USB_KEY"]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("CUSTOM_USB_KEY ")
    assert captured.err == "'CUSTOM_USB_MYTHING' is not in the CUSTOM_USB_* vocabulary.\n"


def test_a_foreign_name_in_our_name_space_is_pointed_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["CUSTOM_USB_VENDOR_YUBICO"]) == 1
    assert "its prefix is reserved for the agent" in capsys.readouterr().err
