"""What can go wrong in the laboratory itself, each error named by the caller's next step."""


class LabError(Exception):
    """The test host did not do what the laboratory itself needs; the sentence says what."""


class CommandFailed(LabError):
    """A command in the test host ended with another code than 0, or not in time (code None)."""

    def __init__(self, command: str, code: int | None, output: str) -> None:
        super().__init__(f"{command!r} gave {'no answer in time' if code is None else code}: {output.strip()}")
        self.code = code
        self.output = output


class HostPanicked(LabError):
    """The test host's kernel has panicked; :meth:`Vm.revive` makes it usable again."""


class QmpError(LabError):
    """QEMU refused a command."""
