"""The hook as a text: it is made for one host, and runs on every Python that libvirt's host may have."""

import ast
import warnings
from pathlib import Path

import pytest

from usb_provider.cmd.install_hook import hook_text

SOCKET = Path("/run/usb-provider/hook.sock")


def test_it_is_python_as_old_as_three_point_six() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a backslash of the shell's that is none of Python's
        ast.parse(hook_text(SOCKET, 30.0), feature_version=(3, 6))


@pytest.mark.parametrize("path", ['/a "b"/hook.sock', "/a\\b/hook.sock", "/$HOME/`x`/hook.sock", "/ä/世.sock"])
def test_every_path_that_an_option_may_have_is_a_constant_in_it(path: str) -> None:
    constants = [
        node.value for node in ast.walk(ast.parse(hook_text(Path(path), 3.0))) if isinstance(node, ast.Constant)
    ]
    assert constants.count(path) == 1


def test_the_classes_that_rules_give_are_known_to_its_shell_and_to_its_python() -> None:
    text = hook_text(SOCKET, 3.0, ["CUSTOM_DONGLE", "CUSTOM_USB_KEY", "CUSTOM_DONGLE", "CUSTOM_A"])
    expression = "CUSTOM_USB_[A-Z0-9_]*|CUSTOM_A|CUSTOM_DONGLE"
    assert f"\nclasses='{expression}'\n" in text
    assert f'\nCLASSES = "{expression}"\n' in text
