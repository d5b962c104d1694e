"""The hook where its Python part cannot run: guests without USB start, and those that ask for USB are refused."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fixtures.domain_xml import a_domain_xml, a_hostdev_xml
from tests.fixtures.fake_host import a_uuid
from tests.functional.virt.test_hook import ASKS, Hook
from usb_provider.cmd.install_hook import hook_text

ALIAS = "ua-usb-" + a_uuid("provider")
WITHOUT_USB = a_domain_xml("vm", a_uuid("vm"), extra_specs={"trait:CUSTOM_USB_MANAGED": "forbidden"})
SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]

BROKEN = {
    "missing": "",
    "too old": "#!/bin/sh\necho '  File \"hook\", line 1' >&2\necho 'SyntaxError: invalid syntax' >&2\nexit 1\n",
    "killed": "#!/bin/sh\ncat >/dev/null\nkill -9 $$\n",
}


class HookWithoutPython(Hook):
    """The hook on a host whose python3 is one of BROKEN, for any shell."""

    def __init__(self, directory: Path, python: str, shell: str = "sh") -> None:
        super().__init__(directory)
        programs = directory / "programs"
        programs.mkdir()
        for name in ("cat", "grep"):
            (programs / name).symlink_to(shutil.which(name) or "")
        if BROKEN[python]:
            (programs / "python3").write_text(BROKEN[python])
            (programs / "python3").chmod(0o755)
        self._words = [shutil.which(shell) or "", *(["sh"] if shell == "busybox" else [])]
        self._environment = {"PATH": str(programs), "LC_ALL": "C"}

    def call(self, operation: str, xml: str | bytes = b"") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*self._words, self.path, "vm", operation, "begin", "-"],
            input=xml.encode() if isinstance(xml, str) else xml,
            capture_output=True,
            timeout=30,
            check=False,
            env=self._environment,
        )
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.mark.parametrize("python", BROKEN)
@pytest.mark.parametrize("operation", ["prepare", "started", "migrate", "restore"])
def test_a_guest_without_usb_starts_moves_and_is_restored(tmp_path: Path, operation: str, python: str) -> None:
    done = HookWithoutPython(tmp_path, python).call(operation, WITHOUT_USB)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("python", BROKEN)
@pytest.mark.parametrize("shell", SHELLS)
def test_a_guest_whose_flavor_asks_for_usb_is_refused_in_one_sentence(tmp_path: Path, shell: str, python: str) -> None:
    done = HookWithoutPython(tmp_path, python, shell).call(
        "prepare", a_domain_xml("vm", a_uuid("vm"), extra_specs=ASKS)
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        "usb-provider: the flavor asks for a USB device, but the hook cannot run on this host (python3 ended with "
    )
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("specs", "code"),
    [
        ({"resources:CUSTOM_USB_KEY": "0"}, 0),
        ({"resources:CUSTOM_USB_KEY": "00"}, 0),
        ({"resources:CUSTOM_USB_KEY": "012"}, 1),
        ({"resources_USB1:CUSTOM_USB_KEY": "1"}, 1),
        ({"resources-a:CUSTOM_USB_KEY": "2"}, 1),
        ({"resources:CUSTOM_DONGLE": "1"}, 0),
        ({"xresources:CUSTOM_USB_KEY": "1"}, 0),
        ({"trait:CUSTOM_USB_VENDOR_1050": "required"}, 0),
        ({"hw:usb_model": "qemu-xhci"}, 0),
        ({}, 0),
    ],
)
def test_the_shell_sees_as_python_does_what_a_flavor_asks_for(tmp_path: Path, specs: dict[str, str], code: int) -> None:
    xml = a_domain_xml("vm", a_uuid("vm"), extra_specs=specs)
    assert HookWithoutPython(tmp_path, "missing").call("prepare", xml).returncode == code
    assert Hook(tmp_path / "..", 0.6).run("prepare", xml).returncode == code


def test_a_class_of_another_name_that_a_rule_gives_is_usb_to_shell_and_python(tmp_path: Path) -> None:
    xml = a_domain_xml("vm", a_uuid("vm"), extra_specs={"resources:CUSTOM_DONGLE": "1"})
    without = HookWithoutPython(tmp_path, "missing")
    assert without.call("prepare", xml).returncode == 0
    without.path.write_text(hook_text(without.socket, 0.6, ["CUSTOM_DONGLE"]))
    assert without.call("prepare", xml).returncode == 1
    assert without.run("prepare", xml).returncode == 1, "its Python part"
    assert without.call("prepare", xml.replace("DONGLE", "DONGLES")).returncode == 0


@pytest.mark.parametrize("xml", [b"", b"<domain", b"\x00\xff\n\n", b":CUSTOM_USB_KEY"])
def test_what_is_no_domain_is_let_pass(tmp_path: Path, xml: bytes) -> None:
    assert HookWithoutPython(tmp_path, "missing").call("prepare", xml).returncode == 0


def test_an_arriving_guest_with_a_device_of_ours_is_refused_and_with_one_of_others_is_not(tmp_path: Path) -> None:
    hook = HookWithoutPython(tmp_path, "missing")
    ours = hook.call("migrate", a_domain_xml("vm", a_uuid("vm"), devices=[a_hostdev_xml(ALIAS)]))
    theirs = hook.call("migrate", a_domain_xml("vm", a_uuid("vm"), devices=[a_hostdev_xml("ua-usb-stick")]))
    assert (ours.returncode, theirs.returncode) == (1, 0)
    assert "the guest has USB devices that must be attached again, but the hook cannot run" in ours.stderr


def test_a_guest_from_a_save_file_is_never_refused(tmp_path: Path) -> None:
    """Nova deletes the save file of a guest that is refused."""
    hook = HookWithoutPython(tmp_path, "missing")
    xml = a_domain_xml("vm", a_uuid("vm"), extra_specs=ASKS, devices=[a_hostdev_xml(ALIAS)])
    assert [hook.call(operation, xml).returncode for operation in ("restore", "prepare")] == [0, 0]
    marked = Hook(tmp_path, 0.6).run("restore", a_domain_xml("vm", a_uuid("vm"), extra_specs=ASKS)).stdout
    assert hook.call("prepare", marked).returncode == 0


def test_a_domain_of_a_megabyte_comes_through_unchanged_and_fast_in_every_shell(tmp_path: Path) -> None:
    notes = "".join(f"<note a='é resources:{number}'>\t'\\n' $x `y` %s \\x41</note>\n" for number in range(20000))
    xml = f"\n{a_domain_xml('vm', a_uuid('vm'), extra_specs=ASKS)}".replace("</devices>", f"{notes}</devices>\n\n\n")
    assert len(xml) > 1 << 20
    for shell in SHELLS:
        hook = HookWithoutPython(tmp_path / shell_directory(tmp_path, shell), "missing", shell)
        assert hook.call("prepare", xml).returncode == 1
        python = Path(hook._environment["PATH"]) / "python3"
        python.write_text(f'#!/bin/sh\nexec {shutil.which("cat")} >"{tmp_path}/got"\n')
        python.chmod(0o755)
        assert hook.call("prepare", xml).returncode == 0
        assert (tmp_path / "got").read_text() == xml


def shell_directory(parent: Path, shell: str) -> str:
    """A new directory for the hook of *shell*."""
    os.mkdir(parent / shell)
    return shell


def test_an_operation_that_does_not_concern_us_needs_neither_python_nor_the_domain(tmp_path: Path) -> None:
    done = HookWithoutPython(tmp_path, "missing").call("reconnect", a_domain_xml(extra_specs=ASKS))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
